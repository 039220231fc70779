/** The proof that nothing needs a node any more: what it says of itself, and what the others say. */
import type { VerifyReport } from '../cluster/digests.ts';
import type { LagReport, NodeReport, ShardReport } from '../cluster/report.ts';
import type { Context } from './context.ts';
import type { Coordinator } from './coordinator.ts';
import { patiently, pause } from './patience.ts';
import { plural, ranges } from './table.ts';
import { compare, differenceText } from './verify.ts';

/** What the node and the others say of it after its copies are gone from the placement. */
export interface Evidence {
  readonly node: NodeReport | undefined;
  readonly placed: readonly number[];
  readonly lags: readonly LagReport[];
  readonly verified: readonly VerifyReport[];
}

/** How often a node without copies is asked whether it has closed them all. */
const MOST_CLOSING = 60;

export async function evidence(
  context: Context,
  coordinator: Coordinator,
  region: string,
  node: string,
): Promise<Evidence> {
  let state: NodeReport | undefined;
  for (let tries = 0; tries < MOST_CLOSING; tries++) {
    const { data } = await patiently(context, () => coordinator.get<readonly NodeReport[]>('/cluster/nodes'));
    state = data.find((one) => one.region === region && one.node === node);
    if (state?.serving === 0) break;
    await pause(context);
  }
  const { data: lags } = await patiently(context, () => coordinator.get<readonly LagReport[]>('/cluster/lag'));
  const verified = await compare(context, coordinator);
  // Last: nothing may have come back meanwhile.
  return { node: state, placed: await placedOn(context, coordinator, region, node), lags, verified };
}

/** What stands between the node and the switch; empty: nothing. */
export function missingOf(region: string, node: string, found: Evidence): string[] {
  const missing: string[] = [];
  if (found.placed.length > 0) missing.push(`shards ${ranges(found.placed)}: a copy is placed there`);
  // A node closes a shard, and removes its log, only when every cursor has reached its end.
  if (found.node === undefined || found.node.serving === null)
    missing.push('it does not say whether its logs are delivered');
  else if (found.node.serving > 0) missing.push(`${plural(found.node.serving, 'shard')} not closed there yet`);
  for (const { shard, from, to, records } of found.lags) {
    if (from.region !== region || from.node !== node || records === 0) continue;
    missing.push(`shard ${shard}: ${plural(records, 'record')} not at ${to.region}/${to.node} yet`);
  }
  for (const { shard, compared, differing, unasked } of found.verified) {
    for (const one of unasked) {
      if (one.region !== region) continue;
      missing.push(`shard ${shard}: ${one.region}/${one.node} could not be compared: ${one.reason}`);
    }
    // Where there is one copy, it took all from the one that left: nothing is there to compare it with.
    if (compared < 2 && unasked.length > 0) missing.push(`shard ${shard}: nothing to compare it with`);
    if (compared === 0 && unasked.length === 0) missing.push(`shard ${shard}: no copy`);
    for (const one of differing) if (one.settled) missing.push(`shard ${shard}: ${differenceText(one)}`);
  }
  return missing;
}

/** Shards of which there is one copy, so that none can be compared. */
export function singleOf({ verified }: Pick<Evidence, 'verified'>): number[] {
  return verified.flatMap(({ shard, compared, unasked }) => (compared + unasked.length === 1 ? [shard] : []));
}

export async function placedOn(
  context: Context,
  coordinator: Coordinator,
  region: string,
  node: string,
): Promise<number[]> {
  const ask = () => coordinator.get<readonly ShardReport[]>('/cluster/shards', { region, node });
  const { data } = await patiently(context, ask);
  return data.filter(({ copies }) => copies.length > 0).map(({ shard }) => shard);
}
