/** The cluster's identity: what was fixed when it was created. Kept under one key; the first writer wins. */
import type { Env } from '../env/env.ts';
import { SilverbackError } from '../errors.ts';
import { Backoff } from './backoff.ts';
import { KEYS } from './keys.ts';
import { type MetaStore, StoreRefused } from './store.ts';
import { decodeValue, encodeValue } from './values.ts';

export interface Cluster {
  /** Random, 32 hex digits. Every data directory and every Hello carries it. */
  readonly clusterId: string;
  /** A power of two, fixed for the life of the cluster. */
  readonly shardCount: number;
}

const DEFAULT_SHARD_COUNT = 16;

/**
 * Reads the cluster's identity, creating it when the store is empty.
 * @param askedShardCount shards of a new cluster (16 when undefined); for an existing one it must match
 * @throws SilverbackError INVALID_ARGUMENT when the cluster exists with another shard count
 */
export async function openCluster(env: Env, store: MetaStore, askedShardCount?: number): Promise<Cluster> {
  let cluster = await readCluster(store);
  if (cluster === undefined) {
    const clusterId = Array.from(env.random.bytes(16), (byte) => byte.toString(16).padStart(2, '0')).join('');
    const created: Cluster = { clusterId, shardCount: askedShardCount ?? DEFAULT_SHARD_COUNT };
    try {
      await store.commit([{ key: KEYS.cluster, revision: 0 }], [{ put: KEYS.cluster, value: encodeValue(created) }]);
      return created;
    } catch (error) {
      if (!(error instanceof SilverbackError && error.code === 'CONFLICT')) throw error;
      cluster = await readCluster(store);
    }
  }
  if (cluster === undefined)
    throw new SilverbackError('INTERNAL', `meta store: ${KEYS.cluster} was written and is gone`);
  if (askedShardCount !== undefined && askedShardCount !== cluster.shardCount) {
    throw new SilverbackError(
      'INVALID_ARGUMENT',
      `--shards ${askedShardCount}: this cluster was created with ${cluster.shardCount} shards, which cannot change`,
    );
  }
  return cluster;
}

/**
 * `openCluster` for a store that may be away: asks until it answers.
 * @param say takes a line when it is away
 * @throws StoreRefused
 */
export async function openClusterWhenThere(
  env: Env,
  store: MetaStore,
  askedShardCount: number | undefined,
  say: (message: string) => void,
): Promise<Cluster> {
  const backoff = new Backoff(env, { firstMs: 100, mostMs: 2_000 });
  for (let said = false; ; said = true) {
    try {
      return await openCluster(env, store, askedShardCount);
    } catch (error) {
      const isAway = error instanceof SilverbackError && error.code === 'UNAVAILABLE';
      if (!isAway || error instanceof StoreRefused) throw error;
      if (!said) say(`waiting for the meta store: ${error.message}`);
      await new Promise<void>((resolve) => void env.timers.after(backoff.nextMs(), resolve));
    }
  }
}

/** @returns undefined while nobody has created the cluster. @throws UNAVAILABLE, VERSION */
export async function readCluster(store: MetaStore): Promise<Cluster | undefined> {
  const entry = await store.get(KEYS.cluster);
  return entry === undefined ? undefined : decodeValue<Cluster>(entry);
}
