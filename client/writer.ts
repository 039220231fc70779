/**
 * The way of samples to the nodes: batches of columns, one per shard, go to each shard's owner over
 * one gRPC stream per node.
 *
 * References. A `ReferenceSource` numbers its series per shard. The writer remembers, per stream,
 * which numbers the node has been told, and puts the identity of the others in front of their first
 * use. A stream that breaks forgets everything; a node that answers UNKNOWN_REF is told again.
 *
 * A write is safe to repeat (samples form a set), so whatever fails in a way that may pass is sent
 * again, to the owner the placement then names, until the write's time is up.
 */

import type { Env } from '../core/env/env.ts';
import type { ErrorCode } from '../core/errors.ts';
import type { ChannelCredentials } from '../core/grpc.ts';
import type { Labels } from '../core/labels.ts';
import type { PlacementView } from '../core/placement.ts';
import type { AckLevel } from '../core/protocol.ts';

/**
 * The samples of one shard, as columns. The writer does not copy them: they must stay unchanged
 * until the promise of the write settles (so no views of a wasm memory that may grow or be reused).
 */
export interface ColumnBatch {
  readonly shard: number;
  /** One entry per run of samples of one series: the source's reference. Small numbers, given out from 0 on. */
  readonly refs: Uint32Array;
  /** Samples in each run, in the order of `refs`. Undefined: every run has one. */
  readonly counts: Uint32Array | undefined;
  /** i64 little-endian, ms since 1970, 8 bytes a sample, run after run. */
  readonly timestamps: Uint8Array;
  /** u64 little-endian, the bits of the float64, 8 bytes a sample, in the order of `timestamps`. */
  readonly values: Uint8Array;
}

/** Who numbers the series. References are per shard; the same number may stand for different series in two shards. */
export interface ReferenceSource {
  /** Identity bytes (ARCHITECTURE.md, "Series identity") of a reference that was used in a batch. May be a view that is valid until the next call. */
  identity(shard: number, ref: number): Uint8Array;
}

/** Samples of one series that were refused while the rest of its batch was stored. */
export interface SeriesRejection {
  readonly ref: number;
  readonly labels: Labels;
  readonly code: ErrorCode;
  /** Names the series, the value and the rule. */
  readonly message: string;
  readonly sampleCount: number;
  /** 0: not known. */
  readonly retryAfterMs: number;
}

/** What became of one `ColumnBatch`. */
export interface ShardResult {
  readonly shard: number;
  /** `OK`: every sample that `rejections` does not name is acknowledged at the asked level. Else none is known to be. */
  readonly code: 'OK' | ErrorCode;
  /** Empty with `OK`. */
  readonly message: string;
  /** 0: not known. */
  readonly retryAfterMs: number;
  readonly acknowledgedCount: number;
  readonly rejections: readonly SeriesRejection[];
}

/** One result per batch, in the order of the batches. */
export interface WriteOutcome {
  readonly results: readonly ShardResult[];
  /** Samples acknowledged over all shards. */
  readonly acknowledgedCount: number;
}

export interface WriteOptions {
  /** Default `LOCAL`. */
  readonly ack?: AckLevel;
  /** From the call to the outcome, retries included. What is out of time is UNCONFIRMED if it was sent, else the last obstacle's code. */
  readonly timeoutMs: number;
}

export interface WriterOptions {
  readonly env: Env;
  readonly placement: PlacementView;
  /** One writer serves one source: references of two sources would collide on a stream. */
  readonly source: ReferenceSource;
  /** Who writes, for the nodes' metrics and logs. */
  readonly caller: string;
  /** The home region. Its copies are tried first; undefined: all copies are alike. */
  readonly region?: string;
  /** Default: none (loopback). */
  readonly credentials?: ChannelCredentials;
  /** Requests not yet answered, per node. Default 32. */
  readonly maxInFlightPerNode?: number;
  /** Bytes of batches the writer holds for all callers; a write past it is answered RESOURCE_EXHAUSTED at once. Default 256 MiB. */
  readonly maxHeldBytes?: number;
}

/** Counters since the writer was made, and what it holds now. */
export interface WriterStats {
  readonly requestCount: number;
  readonly sampleCount: number;
  readonly retryCount: number;
  readonly reconnectCount: number;
  readonly unknownRefCount: number;
  readonly notOwnerCount: number;
  readonly heldBytes: number;
}

/** The door. `write` does not reject for anything that happens to the cluster: its outcome says it, shard by shard. */
export interface Writer {
  /** At most one batch per shard in a call is best; several are allowed and are acknowledged each for itself. */
  write(batches: readonly ColumnBatch[], options: WriteOptions): Promise<WriteOutcome>;
  /** The source gave `ref` to another series: the next use on every stream defines it again. */
  redefine(shard: number, ref: number): void;
  stats(): WriterStats;
  /** Ends the streams. Writes under way are answered UNAVAILABLE or, if sent, UNCONFIRMED. */
  close(): void;
}
