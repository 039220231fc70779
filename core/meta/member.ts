/**
 * A node's registration, and what it reports of its copies: entries on the node's lease, written again whenever a new lease
 * had to be taken.
 */
import type { Env, Timer } from '../env/env.ts';
import { Backoff } from './backoff.ts';
import { KEYS } from './keys.ts';
import { holdLease } from './lease.ts';
import type { CopyReports } from './region.ts';
import type { Change, Entry, LeaseId, MetaStore } from './store.ts';
import { decodeValue, encodeValue } from './values.ts';

export interface Member {
  /** Unique in its region, and the same over restarts: shards belong to names. */
  readonly name: string;
  readonly region: string;
  readonly zone: string;
  /** host:port of the gRPC listener. */
  readonly address: string;
}

export function readMember(entry: Pick<Entry, 'key' | 'value'>): Member {
  return decodeValue<Member>(entry);
}

export interface Registration {
  /** Resolves once the store has taken the registration for the first time. */
  readonly registered: Promise<void>;
  /** Replaces what the node says of its copies, as soon as the store takes it. */
  report(reports: CopyReports): void;
  /** Takes the node off the list of living nodes: others take its shards' writes. */
  close(): Promise<void>;
}

/** Registers `member` and keeps it registered, through losses of the store and of the lease. A later process of the same name replaces it. */
export function register(env: Env, store: MetaStore, member: Member, ttlMs: number): Registration {
  const key = KEYS.copies(member.region, member.name);
  const backoff = new Backoff(env, { firstMs: 100, mostMs: 2_000 });
  let done: () => void;
  const registered = new Promise<void>((resolve) => {
    done = resolve;
  });
  let lease: LeaseId | undefined;
  let wanted = '{}';
  /** What the store has on the lease. */
  let stored = '';
  let isWriting = false;
  let retry: Timer | undefined;

  const changeTo = (value: string, on: LeaseId): Change =>
    value === '{}' ? { remove: key } : { put: key, value, lease: on };

  const write = async (): Promise<void> => {
    if (isWriting) return;
    isWriting = true;
    try {
      while (lease !== undefined && stored !== wanted) {
        const value = wanted;
        const on = lease;
        await store.commit([], [changeTo(value, on)]);
        if (lease === on) stored = value;
      }
      backoff.reset();
    } catch {
      // With the lease gone the next one brings it.
      retry?.cancel();
      retry = env.timers.after(backoff.nextMs(), () => void write());
    } finally {
      isWriting = false;
    }
  };

  const held = holdLease(env, store, ttlMs, {
    async granted(id) {
      const value = wanted;
      const own = { put: KEYS.node(member.region, member.name), value: encodeValue(member), lease: id };
      await store.commit([], [own, changeTo(value, id)]);
      lease = id;
      stored = value;
      done();
      void write();
    },
    // Losing the lease changes nothing for the node itself: it keeps serving, and registers again.
    lost() {
      lease = undefined;
    },
  });
  return {
    registered,
    report(reports) {
      wanted = JSON.stringify(reports);
      void write();
    },
    async close() {
      retry?.cancel();
      await held.close();
    },
  };
}
