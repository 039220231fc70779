/**
 * Holds a lease for as long as it can, and a new one when it cannot. The holder judges by its own monotonic clock:
 * a lease counts as held until `ttlMs` after the *sending* of the last renewal that succeeded, so the holder always stops
 * before the store does, whatever the network took.
 */
import type { Env, Timer } from '../env/env.ts';
import { SilverbackError } from '../errors.ts';
import { Backoff } from './backoff.ts';
import type { LeaseId, MetaStore } from './store.ts';

export interface LeaseHandler {
  /** A new lease is held. A rejection (the store went away) is tried again while the lease lives. */
  granted(lease: LeaseId): Promise<void>;
  /** The lease just held is not, or may not be, any more. */
  lost(): void;
}

export interface HeldLease {
  /** True while the lease is certainly held: check before acting, a stopped process wakes up late. */
  held(): boolean;
  /** Gives the lease back. */
  close(): Promise<void>;
}

export function holdLease(env: Env, store: MetaStore, ttlMs: number, handler: LeaseHandler): HeldLease {
  const backoff = new Backoff(env, { firstMs: 50, mostMs: Math.max(50, ttlMs / 4) });
  let lease: LeaseId | undefined;
  let heldUntilMs = 0;
  /** The handler has done what it does with this lease. */
  let used = false;
  let timer: Timer | undefined;
  let closed = false;

  const held = (): boolean => lease !== undefined && env.clock.monotonicMs() < heldUntilMs;

  const drop = (): void => {
    const dropped = lease;
    lease = undefined;
    used = false;
    if (dropped === undefined) return;
    handler.lost();
    // It may still live in the store: whoever waits for its entries should not have to wait for its end.
    store.revokeLease(dropped).catch(() => undefined);
  };

  const beat = async (): Promise<void> => {
    const sentMs = env.clock.monotonicMs();
    if (lease === undefined) {
      const granted = await store.grantLease(ttlMs);
      if (closed) {
        await store.revokeLease(granted);
        return;
      }
      lease = granted;
    } else {
      await store.renewLease(lease);
    }
    heldUntilMs = sentMs + ttlMs;
    if (!used && lease !== undefined) {
      await handler.granted(lease);
      used = true;
    }
  };

  const loop = (): void => {
    if (closed) return;
    if (lease !== undefined && !held()) drop();
    beat().then(
      () => {
        backoff.reset();
        schedule(ttlMs / 3);
      },
      (error: unknown) => {
        if (error instanceof SilverbackError && error.code === 'NOT_FOUND') drop();
        schedule(backoff.nextMs());
      },
    );
  };

  const schedule = (delayMs: number): void => {
    if (closed) return;
    // Never sleep past the lease's end: `lost` must be told in time.
    const leftMs = lease === undefined ? delayMs : Math.max(1, heldUntilMs - env.clock.monotonicMs());
    timer = env.timers.after(Math.min(delayMs, leftMs), loop);
  };

  loop();
  return {
    held,
    async close() {
      closed = true;
      timer?.cancel();
      const last = lease;
      lease = undefined;
      if (last === undefined) return;
      handler.lost();
      await store.revokeLease(last).catch(() => undefined);
    },
  };
}
