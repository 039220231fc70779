/** What the commands that move copies share: they show what would move, and wait until it has. */
import type { MoveReport } from '../cluster/moves.ts';
import type { Estimate, PlannedMove, PlanReport } from '../cluster/plan.ts';
import type { ShardReport } from '../cluster/report.ts';
import type { Context } from './context.ts';
import type { Coordinator } from './coordinator.ts';
import { patiently, pause } from './patience.ts';
import { progress } from './progress.ts';
import { bytes, count, duration, facts, plural, ranges } from './table.ts';

/** A move that the coordinator has taken on. */
export interface OrderedMove {
  readonly id: string;
  readonly shard: number;
  readonly from: string;
  readonly to: string;
}

export interface Ordered {
  readonly region: string;
  readonly moves: readonly OrderedMove[];
}

/** Lines for each way that copies go, and what it comes to. */
export function planText(plans: readonly PlanReport[], width: number): string {
  const rows = plans.flatMap(({ region, moves }) => wayRows(region, moves));
  for (const plan of plans) {
    if (plan.moves.length > 0) rows.push([`Moves in ${plan.region}`, estimateText(plan)]);
  }
  return rows.length === 0 ? 'nothing would move\n' : facts(rows, width);
}

function wayRows(region: string, moves: readonly PlannedMove[]): [string, string][] {
  const ways = new Map<string, number[]>();
  for (const { shard, from, to } of moves) {
    const way = `${region}/${from} to ${to}`;
    ways.set(way, [...(ways.get(way) ?? []), shard]);
  }
  return [...ways].map(([way, shards]) => [way, `${plural(shards.length, 'shard')}: ${ranges(shards)}`]);
}

/** A node that takes writes gives so much less. */
const BUSY_WEIGHT = 4;

export function estimateText({ samples, bytes: size, bytesPerSecond, basis, seconds }: Estimate): string {
  const what = `${count(samples)} samples, ${bytes(size)} in memory and logs`;
  if (seconds === null || bytesPerSecond === null) return what;
  const time = (factor: number) => duration(Math.max(0.1, factor * seconds));
  const rate = `${bytes(bytesPerSecond)} a second`;
  if (basis === 'measured') return `${what}; about ${time(1)} (estimate: of late the node gave ${rate})`;
  const busy = `${time(BUSY_WEIGHT)} beside writes`;
  return `${what}; at least ${time(1)}, ${busy} (estimate: a node gives at most ${rate}, a quarter while it takes writes)`;
}

/** Waits until the moves have ended, with a bar; resolves with those after which the copy is not where it was to go. */
export async function watched(
  context: Context,
  coordinator: Coordinator,
  { region, moves }: Ordered,
): Promise<readonly OrderedMove[]> {
  const bar = progress(context, moves.length);
  try {
    for (let said = ''; ; ) {
      const { data } = await patiently(context, () => coordinator.get<readonly MoveReport[]>('/cluster/moves'));
      const left = moves.filter(({ id }) => data.some((one) => one.id === id));
      if (left.length === 0) break;
      const obstacles = data.filter(({ id, waitsFor }) => waitsFor !== '' && left.some((one) => one.id === id));
      const stuck = obstacles.length === left.length ? (obstacles[0]?.waitsFor ?? '') : '';
      bar.update(moves.length - left.length, stuck === '' ? `moved; left: ${ranges(shardsOf(left))}` : stuck);
      if (stuck !== said && stuck !== '') bar.say(`waiting: ${stuck}`);
      said = stuck;
      await pause(context);
    }
  } finally {
    bar.stop();
  }
  const { data: shards } = await patiently(context, () => coordinator.get<readonly ShardReport[]>('/cluster/shards'));
  const isThere = ({ shard, to }: OrderedMove) =>
    shards[shard]?.copies.some((copy) => copy.region === region && copy.node === to && copy.state === 'active') ===
    true;
  return moves.filter((move) => !isThere(move));
}

function shardsOf(moves: readonly OrderedMove[]): number[] {
  return moves.map(({ shard }) => shard).sort((a, b) => a - b);
}
