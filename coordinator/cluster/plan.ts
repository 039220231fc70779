/** What moving copies would be: which, how much, and about how long. Plain data, as the HTTP API gives it. */

import { SilverbackError } from '../../core/errors.ts';
import type { Move } from '../../core/meta/moves.ts';
import { evenMoves, orderedMoves } from '../../core/meta/orders.ts';
import type { RegionPlacement } from '../../core/meta/region.ts';
import { type NodeReport, nodeReports, type ShardReport, shardReports } from './report.ts';
import type { Found } from './survey.ts';

export interface PlannedMove extends Move {
  /** In the copy that it comes from; null: its node does not answer. */
  readonly samples: number | null;
  /** The same, in memory and in its log. */
  readonly bytes: number | null;
}

export interface Estimate {
  readonly samples: number;
  readonly bytes: number;
  /** What the node that is the last to have given everything gives in a second; null: not known. */
  readonly bytesPerSecond: number | null;
  /** Where that is from. `measured`: it gave as much of late. `limit`: it gives no more; while it takes writes, a quarter. */
  readonly basis: 'measured' | 'limit' | null;
  /** How long it takes, because of that; null: not known. */
  readonly seconds: number | null;
}

export interface PlanReport extends Estimate {
  readonly region: string;
  readonly moves: readonly PlannedMove[];
}

/** What somebody thinks of asking for. */
export interface Idea {
  readonly region: string;
  /** Undefined: that every node holds its share. */
  readonly order: { readonly shards: readonly number[]; readonly to: string; readonly from?: string } | undefined;
}

/** @throws SilverbackError where the real thing would be refused, with the same words */
export function planReport(found: Found, { region, order }: Idea): PlanReport {
  const placement = regionOf(found, region);
  const living = found.nodes.filter((node) => node.region === region && node.isRegistered !== false);
  const moves = order === undefined ? evenMoves(placement, living) : orderedMoves(placement, living, order);
  const shards = shardReports(found);
  const planned = moves.map(({ shard, from, to }): PlannedMove => {
    const copy = shards[shard]?.copies.find((one) => one.region === region && one.node === from);
    return { shard, from, to, samples: copy?.samples ?? null, bytes: bytesOf(copy) };
  });
  return { region, moves: planned, ...estimate(region, planned, nodeReports(found)) };
}

/** What a copy weighs that moves. */
export function bytesOf(copy: ShardReport['copies'][number] | undefined): number | null {
  if (copy === undefined || copy.memoryBytes === null || copy.logBytes === null) return null;
  return copy.memoryBytes + copy.logBytes;
}

/** What there is to know of how fast a node gives. */
export type Giver = Pick<NodeReport, 'region' | 'node' | 'moveBytesPerSecond' | 'movedBytesPerSecond'>;

/** Nodes give at the same time; the one that has most to give is the last. */
export function estimate(region: string, moves: readonly PlannedMove[], nodes: readonly Giver[]): Estimate {
  const sum = (of: (move: PlannedMove) => number | null) => moves.reduce((total, move) => total + (of(move) ?? 0), 0);
  let last: Pick<Estimate, 'bytesPerSecond' | 'basis' | 'seconds'> = {
    bytesPerSecond: null,
    basis: null,
    seconds: moves.length === 0 ? 0 : null,
  };
  for (const from of new Set(moves.map((move) => move.from))) {
    const giver = nodes.find((one) => one.region === region && one.node === from);
    const rate = giver?.movedBytesPerSecond ?? giver?.moveBytesPerSecond ?? null;
    if (rate === null) continue;
    const own = moves.filter((move) => move.from === from).reduce((total, { bytes }) => total + (bytes ?? 0), 0);
    if (last.seconds !== null && own / rate < last.seconds) continue;
    const basis = giver?.movedBytesPerSecond == null ? 'limit' : 'measured';
    last = { bytesPerSecond: rate, basis, seconds: own / rate };
  }
  return { samples: sum(({ samples }) => samples), bytes: sum(({ bytes }) => bytes), ...last };
}

function regionOf({ regions = [] }: Pick<Found, 'regions'>, region: string): RegionPlacement {
  const found = regions.find((one) => one.region === region);
  if (found !== undefined) return found;
  const names = regions.map((one) => one.region).join(', ') || 'none';
  throw new SilverbackError('NOT_FOUND', `there is no region ${region}; there are ${names}`);
}

const MOST_SHARDS = 65_536;

/** Reads `3` or `0-3,7`. Undefined: it is no such list. */
export function parseShards(text: string): number[] | undefined {
  const shards: number[] = [];
  for (const part of text.split(',')) {
    const [, first, last = first] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part.trim()) ?? [];
    if (first === undefined || Number(last) < Number(first) || Number(last) >= MOST_SHARDS) return undefined;
    for (let shard = Number(first); shard <= Number(last); shard++) shards.push(shard);
    if (shards.length > MOST_SHARDS) return undefined;
  }
  return shards;
}
