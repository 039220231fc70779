/**
 * Election over any meta store: who creates the election's key on its own lease leads until the lease ends. The epoch is
 * the revision of that creation: the store gives it to one commit only, so no two leaders ever share one.
 *
 * A leader that was stopped or cut off may believe in itself a moment too long. It cannot act: every commit it makes
 * for its office carries `condition`, which fails once the key is gone or somebody else's.
 */
import type { Env } from '../env/env.ts';
import { SilverbackError } from '../errors.ts';
import { follow } from './follow.ts';
import { KEYS } from './keys.ts';
import { holdLease } from './lease.ts';
import type { Condition, LeaseId, MetaStore } from './store.ts';

export interface Leadership {
  readonly epoch: number;
  /** Belongs into every commit made as leader. */
  readonly condition: Condition;
}

export interface Campaign {
  /** The office, while it is certainly held. */
  leadership(): Leadership | undefined;
  /** Gives the office back. */
  close(): Promise<void>;
}

export interface Office {
  elected(leadership: Leadership): void;
  deposed(): void;
}

/** Runs for the office `name` until closed. */
export function campaign(
  env: Env,
  store: MetaStore,
  name: string,
  candidate: string,
  ttlMs: number,
  office: Office,
): Campaign {
  const key = KEYS.election(name);
  let lease: LeaseId | undefined;
  let leadership: Leadership | undefined;
  let running = false;
  let askedAgain = false;

  const depose = (): void => {
    if (leadership === undefined) return;
    leadership = undefined;
    office.deposed();
  };

  /** One attempt to take the office. @returns the epoch, or undefined while somebody else leads */
  const attempt = async (mine: LeaseId): Promise<number | undefined> => {
    try {
      return await store.commit([{ key, revision: 0 }], [{ put: key, value: candidate, lease: mine }]);
    } catch (error) {
      if (!(error instanceof SilverbackError && error.code === 'CONFLICT')) throw error;
      // An earlier attempt whose answer was lost may have succeeded: leases are never reused, so the key tells.
      const entry = await store.get(key);
      return entry?.lease === mine ? entry.revision : undefined;
    }
  };

  /** Tries to take the office with the current lease; waits for the watch to tell when it is somebody else's. */
  const run = async (): Promise<void> => {
    askedAgain = true;
    if (running) return;
    running = true;
    try {
      while (askedAgain && lease !== undefined && leadership === undefined) {
        askedAgain = false;
        const mine = lease;
        const epoch = await attempt(mine);
        if (lease !== mine) askedAgain = true;
        else if (epoch !== undefined) {
          leadership = { epoch, condition: { key, revision: epoch } };
          office.elected(leadership);
        }
      }
    } finally {
      running = false;
    }
  };

  const held = holdLease(env, store, ttlMs, {
    async granted(id) {
      lease = id;
      await run();
    },
    lost() {
      lease = undefined;
      depose();
    },
  });

  const watched = follow(env, store, key, (entries, revision) => {
    const entry = entries.get(key);
    if (leadership !== undefined && revision >= leadership.epoch && entry?.revision !== leadership.epoch) depose();
    // A failure here is the store's absence: `follow` calls again when it is back.
    if (entry === undefined) run().catch(() => undefined);
  });

  return {
    leadership: () => (held.held() ? leadership : undefined),
    async close() {
      watched.close();
      await held.close();
    },
  };
}
