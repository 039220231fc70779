/** The cluster's placement as it stands in the meta store: every region's, put together. */
import type { Env } from '../env/env.ts';
import { SilverbackError } from '../errors.ts';
import type { Copy, Placement, PlacementView } from '../placement.ts';
import { follow } from './follow.ts';
import { KEYS } from './keys.ts';
import type { Cordon } from './region.ts';
import type { Entry, MetaStore } from './store.ts';
import { readPlacement } from './written.ts';

export interface MetaPlacementView extends PlacementView {
  /** Resolves with the first placement there is; at once when there is one. */
  ready(): Promise<Placement>;
  cordonOf(region: string, node: string): Cordon | undefined;
  close(): void;
}

/** A view that follows `store`. With the store away it keeps showing what it saw last. */
export function openView(env: Env, store: MetaStore): MetaPlacementView {
  const listeners = new Set<(placement: Placement) => void>();
  let placement: Placement | undefined;
  const followed = follow(env, store, KEYS.placements, (entries) => {
    const next = combine([...entries.values()]);
    if (next === undefined || next.revision === placement?.revision) return;
    placement = next;
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
    cordonOf(region, node) {
      const entry = followed.entries()?.get(KEYS.placement(region));
      return entry && readPlacement(entry).cordons?.[node];
    },
    close: () => followed.close(),
  };
}

/** Copies of a shard stand in the order of their regions' names. */
function combine(entries: readonly Entry[]): Placement | undefined {
  const first = entries[0];
  if (first === undefined) return undefined;
  const { clusterId, shardCount } = readPlacement(first);
  const copies: Copy[][] = Array.from({ length: shardCount }, () => []);
  let revision = 0;
  for (const entry of [...entries].sort((a, b) => (a.key < b.key ? -1 : 1))) {
    const { region, nodes, shards } = readPlacement(entry);
    revision = Math.max(revision, entry.revision);
    for (const [shard, own] of shards.entries()) {
      for (const { node, state, epoch, fill, from } of own) {
        const { zone, address } = nodes[node]!;
        const rest = { ...(fill && { fill }), ...(from !== undefined && { from }) };
        copies[shard]?.push({ region, zone, node, address, state, epoch, ...rest });
      }
    }
  }
  return { clusterId, shardCount, revision, copies };
}
