/**
 * The door to a shard's storage kernel: one wasm instance with its own linear memory, which holds the
 * shard's series table, its senders' reference tables and its open runs, and seals and merges chunks.
 *
 * Rules that hold for every method:
 * - Synchronous, and bounded to about a millisecond where a call takes or gives a cursor.
 * - A returned `Uint8Array`, `Uint32Array` or `Float64Array` is a view onto linear memory that is valid
 *   until the next call on the same kernel. Copy what must live longer.
 * - Times are milliseconds since 1970. Windows are named by their start, a multiple of `WINDOW_MS`.
 * - Bytes of other owners (batches, blocks, log records) are copied in; any alignment will do.
 */
import { SilverbackError } from '../errors.ts';
import type { ChunkCodec } from './codec.ts';

/** Length of a window: two hours. Windows are aligned to the epoch. */
export const WINDOW_MS = 7_200_000;

/** Buckets into which a shard's series are divided for digests. */
export const BUCKET_COUNT = 256;

declare const seriesBrand: unique symbol;
declare const refsBrand: unique symbol;

/** A slot of the series table, 0 .. maxSeries-1. Also the series' id in this shard's log. Reused after `release`. */
export type SeriesId = number & { readonly [seriesBrand]: true };

/** A sender's reference table: its own numbers for series -> SeriesId. */
export type RefTable = number & { readonly [refsBrand]: true };

export interface ShardKernelOptions {
  /** Series the table may hold; `intern` refuses one more with SERIES_LIMIT. At most 16,777,216. */
  readonly maxSeriesCount: number;
  /** Bound of the linear memory, rounded down to 64 KiB; at most 4 GiB. Past it, writes are rejected with reason `memory`. */
  readonly maxMemoryBytes: number;
  /** Windows that may have open runs at a time; past it, samples are rejected with reason `windows`. At most 1024. Default 64. */
  readonly maxOpenWindows?: number;
  /** References of one sender's table lie below this; `defineRef` refuses others with TOO_LARGE. Default 4,194,304. */
  readonly maxRefCount?: number;
}

/** Samples as they travel, packed little-endian (proto `ShardBatch`). Entry i of `refs` and `counts` is one run of samples. */
export interface BatchColumns {
  /** u32: the sender's references. */
  readonly refs: Uint8Array;
  /** u32: samples in the run; empty: every run has one. */
  readonly counts: Uint8Array;
  /** i64: milliseconds. */
  readonly timestamps: Uint8Array;
  /** u64: the bits of the float64s. */
  readonly values: Uint8Array;
}

/** What `append` lets in, both ends inclusive. 0 and Infinity switch a bound off. */
export interface Admission {
  readonly minMs: number;
  readonly maxMs: number;
}

/** Where in a batch the next slice starts. Make one with `startOfBatch()`, one per batch. */
export interface BatchCursor {
  /** Index of the next run. */
  run: number;
  /** Samples of that run that were already taken. */
  taken: number;
  /** Index of the next sample over all runs. */
  sample: number;
  done: boolean;
}

export function startOfBatch(): BatchCursor {
  return { run: 0, taken: 0, sample: 0, done: false };
}

/**
 * Why samples were not taken. `old`, `ahead`, `negative`: can never succeed. `windows`: as many windows are open as may
 * be; seal and release one. `memory`: linear memory is full.
 */
export type RejectReason = 'old' | 'ahead' | 'negative' | 'windows' | 'memory';

/** Samples of one run that were not taken for one reason. */
export interface RejectedSamples {
  /** The sender's reference. */
  readonly ref: number;
  readonly seriesId: SeriesId;
  readonly reason: RejectReason;
  readonly sampleCount: number;
  /** The first of them. */
  readonly timestampMs: number;
}

/** Outcome of one slice of an append. Views are valid until the next call on the kernel. */
export interface AppendSlice {
  /** Samples that are stored now, be it by this call or before it (duplicates count). */
  readonly acceptedCount: number;
  /** The log record of exactly the accepted samples, before LZ4; empty when there are none. */
  readonly record: Uint8Array;
  /** Series in `record` that were in no record since `startSegment` (or since their slot was reused): the log defines them first. */
  readonly undefinedSeries: Uint32Array;
  /** References without a living series: nothing of their runs was stored. May name one more than once. */
  readonly unknownRefs: Uint32Array;
  readonly rejections: readonly RejectedSamples[];
}

/** A window with open runs. */
export interface OpenWindow {
  readonly startMs: number;
  /** Series with an open run in it. */
  readonly runCount: number;
  /** Grows with every sample that was put into the window, duplicates too: a window whose count stands still is idle. */
  readonly appendCount: number;
}

/** A part of a listing. `next` goes into the next call; undefined at the end. */
export interface SeriesPage {
  /** SeriesIds with an open run in the window; each once over the whole listing, in no order. */
  readonly series: Uint32Array;
  readonly next: number | undefined;
}

/** A part of a checkpoint. */
export interface CheckpointPage {
  /** Self-contained run images for `restoreRuns`. Empty only when there was nothing left. */
  readonly bytes: Uint8Array;
  /** SeriesIds of the runs in `bytes`, in their order. The checkpoint stores their identities. */
  readonly series: Uint32Array;
  readonly next: number | undefined;
}

export interface ReleaseProgress {
  /** SeriesIds whose run of this window was freed by this call. */
  readonly freed: Uint32Array;
  /** False: call again to go on. */
  readonly done: boolean;
}

export interface Interned {
  readonly id: SeriesId;
  /** The series was not in the table before. */
  readonly created: boolean;
}

export class ShardKernel {
  /** Reads and writes chunks in this kernel's memory (decode, aggregate, header). Views: as above. */
  readonly chunks: ChunkCodec;

  private constructor() {
    this.chunks = unbuilt();
  }

  /** Makes an empty kernel. The compiled module is shared by all of them. Throws INVALID_ARGUMENT for options out of range. */
  static create(_options: ShardKernelOptions): ShardKernel {
    return unbuilt();
  }

  // ---- accounting -------------------------------------------------------------------------------

  /** Size of the linear memory. Grows, never shrinks; the part that was never used has no pages behind it. */
  get memoryBytes(): number {
    return unbuilt();
  }

  /** Bytes in use: labels, tables, runs, scratch. Free lists are not in it. */
  get usedBytes(): number {
    return unbuilt();
  }

  get seriesCount(): number {
    return unbuilt();
  }

  /** Open runs over all windows. */
  get runCount(): number {
    return unbuilt();
  }

  /** Samples in open runs; late ones that are not yet merged count each. */
  get sampleCount(): number {
    return unbuilt();
  }

  // ---- series -----------------------------------------------------------------------------------

  /**
   * Finds or makes the series of these identity bytes (core/labels.ts). Bytes are compared, the hash only finds them.
   * Throws SERIES_LIMIT when the table is full, RESOURCE_EXHAUSTED when memory is, INVALID_LABELS past 65,535 bytes.
   */
  intern(_identity: Uint8Array): Interned {
    return unbuilt();
  }

  find(_identity: Uint8Array): SeriesId | undefined {
    return unbuilt();
  }

  /** Is the slot in use? */
  has(_id: SeriesId): boolean {
    return unbuilt();
  }

  /** The identity bytes (view). Throws INTERNAL for a slot that is not in use, as do all methods that take a SeriesId. */
  identity(_id: SeriesId): Uint8Array {
    return unbuilt();
  }

  /** MurmurHash3 x64 128 (seed 0) of the identity: h1 then h2, little-endian, 16 bytes (view). */
  fingerprint(_id: SeriesId): Uint8Array {
    return unbuilt();
  }

  /** The digest bucket, 0..255: the top byte of h2. */
  bucket(_id: SeriesId): number {
    return unbuilt();
  }

  /** Does the series have open runs, in any window? */
  hasRuns(_id: SeriesId): boolean {
    return unbuilt();
  }

  /**
   * Frees the slot and the identity bytes. Every sender's references to the series become unknown at once; the log will
   * see the slot's next series as undefined. Throws INTERNAL while it has open runs.
   */
  release(_id: SeriesId): void {
    unbuilt();
  }

  // ---- references -------------------------------------------------------------------------------

  /** Throws RESOURCE_EXHAUSTED past 65,535 tables or when memory is full. */
  createRefs(): RefTable {
    return unbuilt();
  }

  dropRefs(_refs: RefTable): void {
    unbuilt();
  }

  /** Binds or rebinds a reference. Throws TOO_LARGE at or past `maxRefCount`, RESOURCE_EXHAUSTED when memory is full. */
  defineRef(_refs: RefTable, _ref: number, _id: SeriesId): void {
    unbuilt();
  }

  /** The series behind a reference, as long as it lives. */
  resolveRef(_refs: RefTable, _ref: number): SeriesId | undefined {
    return unbuilt();
  }

  // ---- append -----------------------------------------------------------------------------------

  /**
   * Takes the next slice (at most 8,192 samples) of a batch: translates references, admits, stores, and encodes the log
   * record of what was stored. Loop until `cursor.done`; each slice has its own record. Throws INVALID_ARGUMENT, before
   * anything is stored, when the columns' lengths do not fit together.
   */
  append(_refs: RefTable, _columns: BatchColumns, _admission: Admission, _cursor: BatchCursor): AppendSlice {
    return unbuilt();
  }

  /**
   * Stores what a log record holds (recovery, replication): its ids are looked up in `refs`, nothing is refused for its
   * age. Idempotent: after rejections (`windows`, `memory`) make room and give it again. `record` of the result is in
   * this shard's own ids when `encode`, else empty. Throws CORRUPT, before anything is stored, for bytes that are not a record.
   */
  appendRecord(_refs: RefTable, _record: Uint8Array, _encode: boolean): AppendSlice {
    return unbuilt();
  }

  /** A new log segment begins: no series is defined in it yet. */
  startSegment(): void {
    unbuilt();
  }

  // ---- windows and reading ----------------------------------------------------------------------

  /** Windows with open runs, oldest first. */
  windows(): OpenWindow[] {
    return unbuilt();
  }

  /** Lists the series with open runs in a window, a page at a time. Runs that come or go meanwhile may or may not show. */
  seriesIn(_windowStartMs: number, _cursor?: number): SeriesPage {
    return unbuilt();
  }

  /**
   * The series' samples of a window as one chunk (view): its open run, merged with the block's chunk where there is one.
   * Holds at least all samples in [fromMs, toMs] (it may hold more); undefined when there are none, or when there is no
   * open run (then the block's chunk, if any, is the whole truth: use it as it is). Throws CORRUPT when `block` is no chunk.
   */
  chunk(
    _id: SeriesId,
    _windowStartMs: number,
    _block: Uint8Array | undefined,
    _fromMs: number,
    _toMs: number,
  ): Uint8Array | undefined {
    return unbuilt();
  }

  // ---- sealing ----------------------------------------------------------------------------------

  /**
   * The final chunk of a series in a window: open run and block merged, in the smallest encoding; a pure function of the
   * samples. Adds its samples to the digest accumulator and marks the run sealed; frees nothing. Undefined when the series
   * has no open run there (keep the block's chunk; `addDigest` counts it).
   */
  seal(_id: SeriesId, _windowStartMs: number, _block: Uint8Array | undefined): Uint8Array | undefined {
    return unbuilt();
  }

  /**
   * Frees the window's runs that were sealed and have not changed since. To be called once their block is durable, until
   * `done`. Runs that changed stay and will be merged again; so do runs that were never sealed.
   */
  releaseSealed(_windowStartMs: number): ReleaseProgress {
    return unbuilt();
  }

  // ---- digests ----------------------------------------------------------------------------------

  /** Zeroes the accumulator. */
  clearDigest(): void {
    unbuilt();
  }

  /** The accumulator (view): per bucket a 128-bit little-endian sum, 256 x 16 bytes. */
  digest(): Uint8Array {
    return unbuilt();
  }

  /**
   * Adds the samples of a series to the accumulator: of its open run in the window (with the block's chunk merged), or of
   * the block's chunk alone. What is in both counts once.
   */
  addDigest(_id: SeriesId, _windowStartMs: number, _block: Uint8Array | undefined): void {
    unbuilt();
  }

  // ---- checkpoints ------------------------------------------------------------------------------

  /** Exports open runs of a window, about 256 KiB a call, for `restoreRuns`. Fuzzy: each run as it is when its page is made. */
  checkpoint(_windowStartMs: number, _cursor?: number): CheckpointPage {
    return unbuilt();
  }

  /**
   * Takes a checkpoint page back; the ids in it are looked up in `refs`. Merges with what is already there. Returns ids
   * that `refs` does not know (their runs were left out). Throws CORRUPT for bytes that are not a page, RESOURCE_EXHAUSTED
   * when memory or the window table is full (idempotent: make room, call again).
   */
  restoreRuns(_refs: RefTable, _page: Uint8Array): Uint32Array {
    return unbuilt();
  }
}

function unbuilt(): never {
  throw new SilverbackError('INTERNAL', 'the kernel is not built into this door yet');
}
