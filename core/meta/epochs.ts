/** Epochs of a shard's copies, which are never given twice: see `RegionPlacement.spent`. */
import type { RegionCopy, RegionPlacement } from './region.ts';

/** Of all copies of a shard that there ever were. */
export function highestEpoch(current: RegionPlacement, shard: number): number {
  return Math.max(epochOf(current.shards[shard] ?? []), current.spent?.[shard] ?? 0);
}

/** The epochs to note when `shards` take the place of those of a placement; undefined for none. */
export function spentBy(current: RegionPlacement, shards: RegionPlacement['shards']): RegionPlacement['spent'] {
  const spent: Record<string, number> = {};
  for (const [shard, copies] of shards.entries()) {
    const highest = highestEpoch(current, shard);
    if (highest > epochOf(copies)) spent[shard] = highest;
  }
  return Object.keys(spent).length === 0 ? undefined : spent;
}

function epochOf(copies: readonly RegionCopy[]): number {
  return copies.reduce((most, { epoch }) => Math.max(most, epoch), 0);
}
