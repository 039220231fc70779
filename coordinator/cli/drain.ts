/** `silverback nodes drain`: a node's copies move to others, and then it is proved that nothing needs the node any more. */
import type { Command } from 'commander';
import { SilverbackError } from '../../core/errors.ts';
import { type Move, nextMoves } from '../../core/meta/moves.ts';
import type { CopyState } from '../../core/placement.ts';
import type { VerifyReport } from '../cluster/digests.ts';
import type { LagReport, NodeReport, ShardReport } from '../cluster/report.ts';
import { agreed, changing } from './confirm.ts';
import { type Context, coordinatorOf, examples, show } from './context.ts';
import type { Coordinator } from './coordinator.ts';
import { progress } from './progress.ts';
import { pickNode } from './remove.ts';
import { bytes, count, facts, plural, ranges } from './table.ts';
import { compare, differenceText } from './verify.ts';

/** Where the copies of a node are to go. */
export interface DrainPlan {
  readonly region: string;
  readonly node: string;
  readonly copies: readonly number[];
  readonly samples: number;
  /** In memory and in files of windows that are over. */
  readonly bytes: number;
  /** Shards that something happens to already have no move yet. */
  readonly moves: readonly Move[];
}

/** What the node and the others say of it after its copies are gone from the placement. */
interface Evidence {
  readonly node: NodeReport | undefined;
  readonly placed: readonly number[];
  readonly lags: readonly LagReport[];
  readonly verified: readonly VerifyReport[];
}

const POLL_MS = 1_000;
/** How often in a row the coordinator may not answer: one that restarts goes on where it was. */
const MOST_FAILURES = 60;
/** How often a node without copies is asked whether it has closed them all. */
const MOST_CLOSING = 60;

export function addDrain(nodes: Command, context: Context): void {
  changing(
    nodes
      .command('drain')
      .description(
        'moves every copy of a node to others, and says when it is safe to power off; goes on when interrupted',
      )
      .argument('<NAME>', 'of the node')
      .option('--region <NAME>', 'of the node, where its name is in several'),
  )
    .addHelpText('after', examples('nodes drain node-2 --dry-run', 'nodes drain west-1 --region west --yes'))
    .action(async (name: string, options: { region?: string }, command: Command) => {
      const coordinator = coordinatorOf(command);
      const { data: known } = await coordinator.get<readonly NodeReport[]>('/cluster/nodes');
      const { region, node } = pickNode(known, name, options.region);
      const { data: shards } = await coordinator.get<readonly ShardReport[]>('/cluster/shards');
      const plan = drainPlan(region, node, known, shards);
      if (!(await agreed(context, command, { data: plan, text: drainText(plan, context.columns) }))) return;
      await coordinator.post('/admin/nodes/cordon', { region, name: node, mode: 'drain' });
      await emptied(context, coordinator, plan);
      const missing = missingOf(region, node, await evidence(context, coordinator, region, node));
      const safe = missing.length === 0;
      const text = () =>
        safe ? `${region}/${node} is safe to power off\n` : missing.map((one) => `${one}\n`).join('');
      show(context, command, { data: { region, node, safe, missing }, text });
      if (!safe) throw new SilverbackError('UNAVAILABLE', `${region}/${node} is not proved safe to power off`);
    });
}

/** @throws SilverbackError CONFLICT when there are too few other nodes */
export function drainPlan(
  region: string,
  node: string,
  known: readonly Pick<NodeReport, 'region' | 'node' | 'zone' | 'registered' | 'cordon'>[],
  shards: readonly ShardReport[],
): DrainPlan {
  const own = shards.map(({ copies }) => copies.filter((copy) => copy.region === region));
  const held = own.flat().filter((copy) => copy.node === node);
  const wanted = Math.max(1, ...own.map((copies) => copies.filter(({ state }) => state === 'active').length));
  const living = known.filter((one) => one.region === region && one.registered !== false);
  const others = living.filter((one) => one.node !== node && one.cordon === null).length;
  if (held.length > 0 && others < wanted) {
    const need = `its copies need ${plural(wanted, 'other node')} without a cordon`;
    const message = `${region}/${node} cannot be drained: ${need}, and there ${others === 1 ? 'is' : 'are'} ${others}`;
    throw new SilverbackError('CONFLICT', message);
  }
  const cordons = Object.fromEntries(living.flatMap((one) => (one.cordon === null ? [] : [[one.node, one.cordon]])));
  const moves = nextMoves(
    living.map(({ node: name, zone }) => ({ name, zone })),
    own.map((copies) => copies.map((copy) => ({ node: copy.node, state: copy.state as CopyState, epoch: copy.epoch }))),
    wanted,
    { ...cordons, [node]: 'draining' },
    Number.POSITIVE_INFINITY,
  );
  return {
    region,
    node,
    copies: own.flatMap((copies, shard) => (copies.some((copy) => copy.node === node) ? [shard] : [])),
    samples: held.reduce((sum, { samples }) => sum + (samples ?? 0), 0),
    bytes: held.reduce((sum, { memoryBytes, diskBytes }) => sum + (memoryBytes ?? 0) + (diskBytes ?? 0), 0),
    moves: moves.filter(({ from }) => from === node),
  };
}

export function drainText(plan: DrainPlan, width: number): string {
  const { region, node, copies, moves } = plan;
  const targets = [...new Set(moves.map(({ to }) => to))].sort();
  const open = copies.filter((shard) => moves.every((move) => move.shard !== shard));
  const rows: [string, string][] = [['Drains', `${region}/${node}: it gets no copies, and those it has move`]];
  for (const to of targets) {
    const shards = moves.filter((move) => move.to === to).map(({ shard }) => shard);
    rows.push([`To ${to}`, `${plural(shards.length, 'shard')}: ${ranges(shards)}`]);
  }
  if (open.length > 0) rows.push(['Later', `${plural(open.length, 'shard')} on the way already: ${ranges(open)}`]);
  const samples = `${count(plan.samples)} samples, ${bytes(plan.bytes)} in memory and on disk`;
  rows.push(['Moves', copies.length === 0 ? 'nothing: it has no copies' : samples]);
  return facts(rows, width);
}

/** Waits until the placement has no copy on the node. */
async function emptied(context: Context, coordinator: Coordinator, { region, node, copies }: DrainPlan): Promise<void> {
  const bar = progress(context, copies.length);
  try {
    for (;;) {
      const left = await placedOn(context, coordinator, region, node);
      if (left.length === 0) return;
      bar.update(Math.max(0, copies.length - left.length), `copies moved; left: ${ranges(left)}`);
      await pause(context);
      const { data: known } = await patiently(context, () => coordinator.get<readonly NodeReport[]>('/cluster/nodes'));
      if (known.find((one) => one.region === region && one.node === node)?.registered !== false) continue;
      const message = `${region}/${node} is gone, with copies of shards ${ranges(left)}: start it, and its draining goes on`;
      throw new SilverbackError('UNAVAILABLE', message);
    }
  } finally {
    bar.stop();
  }
}

async function evidence(context: Context, coordinator: Coordinator, region: string, node: string): Promise<Evidence> {
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
    if (compared < 2) missing.push(`shard ${shard}: one copy, nothing to compare it with`);
    for (const one of differing) if (one.settled) missing.push(`shard ${shard}: ${differenceText(one)}`);
  }
  return missing;
}

async function placedOn(context: Context, coordinator: Coordinator, region: string, node: string): Promise<number[]> {
  const ask = () => coordinator.get<readonly ShardReport[]>('/cluster/shards', { region, node });
  const { data } = await patiently(context, ask);
  return data.filter(({ copies }) => copies.length > 0).map(({ shard }) => shard);
}

async function patiently<T>(context: Context, ask: () => Promise<T>): Promise<T> {
  for (let failures = 1; ; failures++) {
    try {
      return await ask();
    } catch (error) {
      if (failures >= MOST_FAILURES) throw error;
      await pause(context);
    }
  }
}

function pause(context: Context): Promise<void> {
  return new Promise((resolve) => void context.env.timers.after(POLL_MS, resolve));
}
