/** A node's registration: one entry on the node's lease, written again whenever a new lease had to be taken. */
import type { Env } from '../env/env.ts';
import { KEYS } from './keys.ts';
import { holdLease } from './lease.ts';
import type { MetaStore } from './store.ts';

export interface Member {
  /** Unique in its region, and the same over restarts: shards belong to names. */
  readonly name: string;
  readonly region: string;
  readonly zone: string;
  /** host:port of the gRPC listener. */
  readonly address: string;
}

export interface Registration {
  /** Resolves once the store has taken the registration for the first time. */
  readonly registered: Promise<void>;
  /** Takes the node off the list of living nodes. Its shards stay its own. */
  close(): Promise<void>;
}

/** Registers `member` and keeps it registered, through losses of the store and of the lease. A later process of the same name replaces it. */
export function register(env: Env, store: MetaStore, member: Member, ttlMs: number): Registration {
  let done: () => void;
  const registered = new Promise<void>((resolve) => {
    done = resolve;
  });
  const lease = holdLease(env, store, ttlMs, {
    async granted(id) {
      await store.commit(
        [],
        [{ put: KEYS.node(member.region, member.name), value: JSON.stringify(member), lease: id }],
      );
      done();
    },
    // Losing the lease changes nothing for the node itself: it keeps serving, and registers again.
    lost: () => undefined,
  });
  return { registered, close: () => lease.close() };
}
