/** What a meta store's own test file gives to the suite that holds for all of them. */
import type { MetaStore } from '../../core/meta/store.ts';

/** Leases that tests let end. A stall may end one at any time: no test may count on one that it has not made sure of. */
export const SHORT_TTL_MS = 600;

export interface Subject {
  /**
   * A connection of its own, as another process would have, whose calls wait long enough for a machine that stalls; through
   * `port` where something stands between, and then its calls soon give up.
   */
  connect(port?: number): MetaStore;
  /** Where the store listens on the loopback interface; undefined when it is not reached over a network. */
  readonly port: number | undefined;
  /** All that happened so far is no longer kept for watches. */
  forget(): Promise<void>;
  /** The store's process dies at once. */
  kill(): Promise<void>;
  /** And comes back with what it had made durable. */
  restart(): Promise<void>;
  /** Until `stop` ends everything. */
  stop(): Promise<void>;
}

/** How long calls wait, of a connection that was asked for with this port. */
export function timeoutMs(port: number | undefined): number {
  return port === undefined ? 20_000 : 1_000;
}
