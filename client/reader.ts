/**
 * The fan-out of reads: one call per node that holds copies of the asked shards, all at once, pages
 * handed on as they come. A shard whose nodes cannot be reached, or break off, is reported as
 * `missing` with the reason; it never fails the others. A refusal that concerns the request itself
 * (limits, a bad matcher) fails the whole read.
 */
import type { Env } from '../core/env/env.ts';
import type { ChannelCredentials } from '../core/grpc.ts';
import type { Matcher } from '../core/matchers.ts';
import type { PlacementView } from '../core/placement.ts';

/** What is known to be in an answer, per shard and time range (ms, inclusive). */
export interface Coverage {
  readonly shard: number;
  readonly fromMs: number;
  readonly toMs: number;
  readonly state: 'complete' | 'unconfirmed' | 'missing';
  /** Why it is not complete, in words an operator can act on; empty when it is. */
  readonly reason: string;
}

/** Milliseconds, both ends inclusive. */
export interface ReadRange {
  readonly fromMs: number;
  readonly toMs: number;
}

export interface SelectOptions extends ReadRange {
  /** All of them must match. */
  readonly matchers: readonly Matcher[];
  /** Limits over all nodes; past one the read fails with TOO_LARGE. Undefined: none. */
  readonly maxSeries?: number;
  readonly maxSamples?: number;
}

export interface LabelsOptions extends ReadRange {
  /** Series that match any of these; empty: every series. */
  readonly selectors: readonly (readonly Matcher[])[];
}

export interface ReadContext {
  /** Aborting cancels the calls on the nodes; the read rejects with CANCELLED. */
  readonly signal: AbortSignal;
  /** Default 2 minutes. A node that is not done by then is `missing`. */
  readonly timeoutMs?: number;
}

/**
 * Receives a select page (ARCHITECTURE.md, "Select page") as a view the receiver may keep. Returning
 * a promise holds the node's stream back until it resolves. Within one read, the pages of one shard come
 * from one copy and hold each series once.
 */
export type PageReceiver = (page: Uint8Array) => void | Promise<void>;

export interface ReaderOptions {
  readonly env: Env;
  readonly placement: PlacementView;
  /** The home region: its copies are preferred. */
  readonly region?: string;
  readonly credentials?: ChannelCredentials;
}

/** The door. Every method rejects with a SilverbackError. */
export interface Reader {
  /** Resolves when all nodes are done, with a ledger that has at least one entry per shard of the cluster. */
  select(options: SelectOptions, receive: PageReceiver, context: ReadContext): Promise<{ coverage: Coverage[] }>;
  /** Pages without chunks: one entry per series that has samples in the range. */
  series(options: LabelsOptions, receive: PageReceiver, context: ReadContext): Promise<{ coverage: Coverage[] }>;
  /** Sorted by UTF-8 bytes, each once. */
  labelNames(options: LabelsOptions, context: ReadContext): Promise<{ values: string[]; coverage: Coverage[] }>;
  labelValues(
    name: string,
    options: LabelsOptions,
    context: ReadContext,
  ): Promise<{ values: string[]; coverage: Coverage[] }>;
  close(): void;
}
