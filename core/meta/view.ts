/** The cluster's placement as it stands in the meta store: every region's, put together. */
import type { Env } from '../env/env.ts';
import { SilverbackError } from '../errors.ts';
import type { Copy, Placement, PlacementView } from '../placement.ts';
import { follow } from './follow.ts';
import { KEYS } from './keys.ts';
import { isHeld, isMove } from './moves.ts';
import type { RegionPlacement } from './region.ts';
import type { MetaStore } from './store.ts';
import { readPlacement } from './written.ts';

export interface MetaPlacementView extends PlacementView {
  /** Resolves with the first placement there is; at once when there is one. */
  ready(): Promise<Placement>;
  /** Each region's placement as its keeper has it, by name of the region. */
  regions(): readonly RegionPlacement[];
  close(): void;
}

/**
 * A view that follows `store`. With the store away it keeps showing what it saw last; so it does when a later program has
 * written what this one does not read, which `say` is told.
 */
export function openView(
  env: Env,
  store: MetaStore,
  say: (message: string) => void = () => undefined,
): MetaPlacementView {
  const listeners = new Set<(placement: Placement) => void>();
  let placement: Placement | undefined;
  let regions: readonly RegionPlacement[] = [];
  const followed = follow(env, store, KEYS.placements, (entries) => {
    const sorted = [...entries.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
    const revision = sorted.reduce((most, entry) => Math.max(most, entry.revision), 0);
    const read = readable(() => sorted.map(readPlacement), say);
    if (read === undefined) return;
    const next = combine(read, revision);
    if (next === undefined || next.revision === placement?.revision) return;
    placement = next;
    regions = read;
    for (const listener of [...listeners]) listener(next);
  });
  return {
    current: () => placement,
    async refresh() {
      await followed.refresh();
      if (placement !== undefined) return placement;
      throw new SilverbackError(
        'UNAVAILABLE',
        'there is no placement yet: the cluster waits for its nodes to register',
      );
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    ready() {
      if (placement !== undefined) return Promise.resolve(placement);
      return new Promise((resolve) => {
        const first = (now: Placement): void => {
          listeners.delete(first);
          resolve(now);
        };
        listeners.add(first);
      });
    },
    regions: () => regions,
    close: () => followed.close(),
  };
}

function readable<T>(read: () => T, say: (message: string) => void): T | undefined {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof SilverbackError) || error.code !== 'VERSION') throw error;
    say(`the placement stays as it was seen last: ${error.message}`);
    return undefined;
  }
}

/** Copies of a shard stand in the order of the regions. */
function combine(regions: readonly RegionPlacement[], revision: number): Placement | undefined {
  const first = regions[0];
  if (first === undefined) return undefined;
  const { clusterId, shardCount } = first;
  const copies: Copy[][] = Array.from({ length: shardCount }, () => []);
  for (const { region, nodes, shards, moves } of regions) {
    for (const [shard, own] of shards.entries()) {
      for (const copy of own) {
        const { node, state, epoch, from } = copy;
        const { zone, address } = nodes[node]!;
        // What is held is not brought on, either.
        const fill = copy.fill === true && !(isMove(copy, own) && isHeld(copy, moves));
        const rest = { ...(fill && { fill }), ...(from !== undefined && { from }) };
        copies[shard]?.push({ region, zone, node, address, state, epoch, ...rest });
      }
    }
  }
  return { clusterId, shardCount, revision, copies };
}
