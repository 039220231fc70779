/**
 * The meta store's one interface: a small ordered map with revisions, leases and watches. The embedded store
 * (embedded.ts), the client of a coordinator's (remote.ts) and etcd implement it; elections, registrations and placement are
 * built on it once (election.ts, member.ts, placer.ts, view.ts), so that they behave the same over each.
 *
 * A revision is one number for the whole store that grows with every commit that changes something. Keys are ordered
 * by UTF-8 bytes.
 */
import { SilverbackError } from '../errors.ts';

declare const leaseBrand: unique symbol;
/** Names a lease in its store. Never reused. */
export type LeaseId = string & { readonly [leaseBrand]: true };

export interface Entry {
  readonly key: string;
  readonly value: string;
  /** The commit that wrote this value. */
  readonly revision: number;
  /** The entry goes when this lease ends. */
  readonly lease: LeaseId | undefined;
}

/** Holds when the key's entry has exactly this revision; 0 means that the key is absent. */
export interface Condition {
  readonly key: string;
  readonly revision: number;
}

export type Change =
  | { readonly put: string; readonly value: string; readonly lease?: LeaseId }
  | { readonly remove: string };

/** What happened to a key: `entry` is its new entry, undefined when it went. */
export interface Event {
  readonly key: string;
  readonly entry: Entry | undefined;
  readonly revision: number;
}

export interface Snapshot {
  /** The store's revision that the entries show; watch from this plus one to miss nothing. */
  readonly revision: number;
  /** In key order. */
  readonly entries: readonly Entry[];
}

export interface WatchHandler {
  /** All events of one or more whole commits, in order. `revision` is the last commit's. */
  events(events: readonly Event[], revision: number): void;
  /**
   * The watch is over and nothing more comes. COMPACTED: the asked revision is no longer kept, read the range again.
   * UNAVAILABLE: the store went away. Not called after `close`.
   */
  ended(error: Error): void;
}

export interface Watch {
  close(): void;
}

/**
 * The store is there and refuses this process: its certificates, user or password are wrong. Who starts should say so and
 * end; for everybody else the store is away, as an operator may set it right.
 */
export class StoreRefused extends SilverbackError {
  constructor(message: string, cause: unknown) {
    super('UNAVAILABLE', message, { cause });
  }
}

export interface MetaStore {
  /**
   * Makes all `changes` in one step if all `conditions` hold.
   * @returns the revision of the commit, or the store's revision when there was nothing to change
   * @throws SilverbackError CONFLICT when a condition does not hold (nothing changed), NOT_FOUND for an unknown lease,
   * UNAVAILABLE when it is unknown whether the commit was made
   */
  commit(conditions: readonly Condition[], changes: readonly Change[]): Promise<number>;
  /** The entry under exactly this key. */
  get(key: string): Promise<Entry | undefined>;
  /** Every entry whose key starts with `prefix`, as of one revision. */
  range(prefix: string): Promise<Snapshot>;
  /** Events with a revision of at least `fromRevision` on keys that start with `prefix`. */
  watch(prefix: string, fromRevision: number, handler: WatchHandler): Watch;
  /** A lease ends when it was not renewed for `ttlMs` of the store's monotonic time. */
  grantLease(ttlMs: number): Promise<LeaseId>;
  /** @throws SilverbackError NOT_FOUND when the lease has ended */
  renewLease(lease: LeaseId): Promise<void>;
  /** Ends the lease: its entries go in one commit. An unknown lease is no error. */
  revokeLease(lease: LeaseId): Promise<void>;
  /** Ends watches and calls, and gives back what the store holds. Leases run on. */
  close(): Promise<void>;
}
