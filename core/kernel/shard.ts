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
import { type BatchColumns, type BatchCursor, BatchInput } from './batch.ts';
import { ChunkCodec } from './codec.ts';
import { SeriesColumns } from './columns.ts';
import { Outcome, ShardInstance } from './instance.ts';

/** Length of a window: two hours. Windows are aligned to the epoch. */
export const WINDOW_MS = 7_200_000;

/** Buckets into which a shard's series are divided for digests. */
const BUCKET_COUNT = 256;

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

/** What `append` lets in, both ends inclusive. 0 and Infinity switch a bound off. */
export interface Admission {
  readonly minMs: number;
  readonly maxMs: number;
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
  /**
   * Grows with every sample that was put into the window, duplicates too: a window whose count stands still is idle. A window
   * that closed and opened again goes on above all it had before, so within one instance a count stands for one content.
   */
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
  /** For the series of this kernel. */
  readonly columns: SeriesColumns;

  readonly #instance: ShardInstance;
  readonly #maxSeriesCount: number;
  readonly #maxOpenWindows: number;
  readonly #maxRefCount: number;
  readonly #batches: BatchInput;

  private constructor(options: Required<ShardKernelOptions>) {
    this.#instance = new ShardInstance(options);
    this.#maxSeriesCount = options.maxSeriesCount;
    this.#maxOpenWindows = options.maxOpenWindows;
    this.#maxRefCount = options.maxRefCount;
    this.#batches = new BatchInput(this.#instance);
    this.chunks = new ChunkCodec(this.#instance);
    this.columns = new SeriesColumns(this.#instance);
  }

  /** Makes an empty kernel. The compiled module is shared by all of them. Throws INVALID_ARGUMENT for options out of range. */
  static create(options: ShardKernelOptions): ShardKernel {
    const full = { maxOpenWindows: 64, maxRefCount: 2 ** 22, ...options };
    check('maxSeriesCount', full.maxSeriesCount, 1, 2 ** 24);
    check('maxMemoryBytes', full.maxMemoryBytes, 2 ** 20, 2 ** 32);
    check('maxOpenWindows', full.maxOpenWindows, 1, 1024);
    check('maxRefCount', full.maxRefCount, 1, 2 ** 32);
    return new ShardKernel(full);
  }

  // ---- accounting -------------------------------------------------------------------------------

  /** Size of the linear memory. Grows, never shrinks; the part that was never used has no pages behind it. */
  get memoryBytes(): number {
    return this.#instance.memoryBytes;
  }

  /** Bytes in use: labels, tables, runs, scratch. Free lists are not in it. */
  get usedBytes(): number {
    return this.#instance.exports.usedBytes();
  }

  get seriesCount(): number {
    return this.#instance.exports.seriesCount();
  }

  /** Open runs over all windows. */
  get runCount(): number {
    return this.#instance.exports.openRuns();
  }

  /** Samples in open runs; late ones that are not yet merged count each. */
  get sampleCount(): number {
    return this.#instance.exports.openSamples();
  }

  // ---- series -----------------------------------------------------------------------------------

  /**
   * Finds or makes the series of these identity bytes (core/labels.ts). Bytes are compared, the hash only finds them.
   * Throws SERIES_LIMIT when the table is full, RESOURCE_EXHAUSTED when memory is, INVALID_LABELS past 65,535 bytes.
   */
  intern(identity: Uint8Array): Interned {
    if (identity.length > MAX_IDENTITY_BYTES) {
      throw new SilverbackError(
        'INVALID_LABELS',
        `a series identity of ${identity.length} bytes, at most ${MAX_IDENTITY_BYTES} are allowed`,
      );
    }
    const { exports } = this.#instance;
    const id = exports.internSeries(this.#instance.putInput(identity), identity.length);
    if (id === Outcome.noSlot) {
      throw new SilverbackError(
        'SERIES_LIMIT',
        `the shard holds ${this.seriesCount} series, as many as it may (maxSeriesCount ${this.#maxSeriesCount})`,
      );
    }
    if (id === Outcome.noMemory) throw this.#instance.full('another series');
    return { id: id as SeriesId, created: exports.wasCreated() !== 0 };
  }

  find(identity: Uint8Array): SeriesId | undefined {
    if (identity.length > MAX_IDENTITY_BYTES) return undefined;
    const id = this.#instance.exports.findSeries(this.#instance.putInput(identity), identity.length);
    return id < 0 ? undefined : (id as SeriesId);
  }

  /** Is the slot in use? */
  has(id: SeriesId): boolean {
    return this.#instance.exports.identityAt(id) !== 0;
  }

  /** The identity bytes (view). Throws INTERNAL for a slot that is not in use, as do all methods that take a SeriesId. */
  identity(id: SeriesId): Uint8Array {
    const at = this.#identityAt(id);
    const length = this.#instance.words[(at + IDENTITY_LENGTH) >>> 2] as number;
    return this.#instance.view(at + IDENTITY_BYTES, length);
  }

  /** MurmurHash3 x64 128 (seed 0) of the identity: h1 then h2, little-endian, 16 bytes (view). */
  fingerprint(id: SeriesId): Uint8Array {
    return this.#instance.view(this.#identityAt(id), 16);
  }

  /** The digest bucket, 0..255: the top byte of h2. */
  bucket(id: SeriesId): number {
    this.#identityAt(id);
    return this.#instance.exports.bucket(id);
  }

  /** Does the series have open runs, in any window? */
  hasRuns(id: SeriesId): boolean {
    this.#identityAt(id);
    return this.#instance.exports.hasRuns(id) !== 0;
  }

  /**
   * Frees the slot and the identity bytes. Every sender's references to the series become unknown at once; the log will
   * see the slot's next series as undefined. Throws INTERNAL while it has open runs.
   */
  release(id: SeriesId): void {
    if (this.hasRuns(id)) throw new SilverbackError('INTERNAL', `series ${id} was released with open runs`);
    this.#instance.exports.releaseSeries(id);
  }

  // ---- references -------------------------------------------------------------------------------

  /** A table takes what it holds, 8 bytes a reference in pages of 4 KiB. Throws RESOURCE_EXHAUSTED when memory is full. */
  createRefs(): RefTable {
    const refs = this.#instance.exports.createRefs() >>> 0;
    if (refs === 0) throw this.#instance.full("a sender's reference table");
    return refs as RefTable;
  }

  dropRefs(refs: RefTable): void {
    this.#checkRefs(refs);
    this.#instance.exports.dropRefs(refs);
  }

  /** Binds or rebinds a reference. Throws TOO_LARGE at or past `maxRefCount`, RESOURCE_EXHAUSTED when memory is full. */
  defineRef(refs: RefTable, ref: number, id: SeriesId): void {
    this.#checkRefs(refs);
    this.#identityAt(id);
    if (ref >= this.#maxRefCount) {
      throw new SilverbackError(
        'TOO_LARGE',
        `reference ${ref} where a sender's references lie below ${this.#maxRefCount}: number them from 0 on, and use numbers of dead series again`,
      );
    }
    if (this.#instance.exports.defineRef(refs, ref, id) === 0) throw this.#instance.full('another reference');
  }

  /** The series behind a reference, as long as it lives. */
  resolveRef(refs: RefTable, ref: number): SeriesId | undefined {
    this.#checkRefs(refs);
    const tagged = this.#instance.exports.resolveRef(refs, ref) >>> 0;
    return tagged === 0 ? undefined : ((tagged - 1) as SeriesId);
  }

  // ---- append -----------------------------------------------------------------------------------

  /**
   * Takes the next slice (at most 8,192 samples) of a batch: translates references, admits, stores, and encodes the log
   * record of what was stored. Loop until `cursor.done`; each slice has its own record. Throws INVALID_ARGUMENT, before
   * anything is stored, when the columns' lengths do not fit together.
   */
  append(refs: RefTable, columns: BatchColumns, admission: Admission, cursor: BatchCursor): AppendSlice {
    this.#checkRefs(refs);
    const { runs, samples, counted } = this.#batches.fill(columns, cursor);
    const { minMs, maxMs } = admission;
    if (this.#instance.exports.appendColumns(refs, runs, samples, counted, minMs, maxMs) === 0) {
      throw this.#instance.full('a slice of samples');
    }
    return this.#readSlice();
  }

  /**
   * Stores what a log record holds (recovery, replication): its ids are looked up in `refs`, nothing is refused for its
   * age. Idempotent: after rejections (`windows`, `memory`) make room and give it again. `record` of the result is in
   * this shard's own ids when `encode`, else empty. Throws CORRUPT, before anything is stored, for bytes that are not a record.
   */
  appendRecord(refs: RefTable, record: Uint8Array, encode: boolean): AppendSlice {
    this.#checkRefs(refs);
    this.#instance.putSource(record);
    const outcome = this.#instance.exports.appendRecord(refs, record.length, encode);
    if (outcome === Outcome.broken) {
      throw new SilverbackError('CORRUPT', `${record.length} bytes are no log record`);
    }
    if (outcome < 0) throw this.#instance.full('a log record');
    return this.#readSlice();
  }

  /** A new log segment begins: no series is defined in it yet. */
  startSegment(): void {
    this.#instance.exports.beginSegment();
  }

  // ---- windows and reading ----------------------------------------------------------------------

  /** Windows with open runs, oldest first. */
  windows(): OpenWindow[] {
    const { exports } = this.#instance;
    const found: OpenWindow[] = [];
    const count = exports.openWindowCount();
    for (let i = 0; i < this.#maxOpenWindows && found.length < count; i++) {
      const startMs = exports.windowStart(i);
      if (startMs < 0) continue;
      found.push({ startMs, runCount: exports.windowRuns(i), appendCount: exports.windowAppends(i) });
    }
    return found.sort((a, b) => a.startMs - b.startMs);
  }

  /** Lists the series with open runs in a window, a page at a time. Runs that come or go meanwhile may or may not show. */
  seriesIn(windowStartMs: number, cursor = 0): SeriesPage {
    if (this.#instance.exports.listSeries(windowStartMs, cursor) === 0) throw this.#instance.full('a list of series');
    return { series: this.#listed(), next: this.#next() };
  }

  /**
   * The series' samples of a window as one chunk (view): its open run, merged with the block's chunk where there is one.
   * Holds at least all samples in [fromMs, toMs] (it may hold more); undefined when there are none, or when there is no
   * open run (then the block's chunk, if any, is the whole truth: use it as it is). Throws CORRUPT when `block` is no chunk.
   *
   * `dead`: what is deleted, as offsets in the window: first and last of each interval, in order, apart from one another.
   * Their samples are left out. When it is given, undefined means that nothing is left, with or without an open run.
   */
  chunk(
    id: SeriesId,
    windowStartMs: number,
    block: Uint8Array | undefined,
    fromMs: number,
    toMs: number,
    dead?: Uint32Array,
  ): Uint8Array | undefined {
    const blockBytes = this.#putBlock(id, block);
    const deadPairs = this.#instance.putDead(dead);
    const length = this.#instance.exports.readChunk(id, windowStartMs, blockBytes, fromMs, toMs, deadPairs);
    return this.#result(length, id, windowStartMs);
  }

  // ---- sealing ----------------------------------------------------------------------------------

  /**
   * The final chunk of a series in a window: open run and block merged, in the smallest encoding; a pure function of the
   * samples. Adds its samples to the digest accumulator and marks the run sealed; frees nothing. Undefined when the series
   * has no open run there (keep the block's chunk; `addDigest` counts it). With `dead`, as for `chunk`: undefined when
   * nothing is left.
   */
  seal(id: SeriesId, windowStartMs: number, block: Uint8Array | undefined, dead?: Uint32Array): Uint8Array | undefined {
    const blockBytes = this.#putBlock(id, block);
    const length = this.#instance.exports.sealChunk(id, windowStartMs, blockBytes, this.#instance.putDead(dead));
    return this.#result(length, id, windowStartMs);
  }

  /**
   * Frees the window's runs that were sealed and have not changed since. To be called once their block is durable, until
   * `done`. Runs that changed stay and will be merged again; so do runs that were never sealed.
   */
  releaseSealed(windowStartMs: number): ReleaseProgress {
    if (this.#instance.exports.releaseSealed(windowStartMs) === 0) throw this.#instance.full('a list of series');
    return { freed: this.#listed(), done: this.#next() === undefined };
  }

  // ---- digests ----------------------------------------------------------------------------------

  /** Zeroes the accumulator. */
  clearDigest(): void {
    this.#instance.exports.clearDigest();
  }

  /** Puts sums that `digest` gave in the place of the accumulator's. */
  loadDigest(sums: Uint8Array): void {
    this.#instance.putInput(sums);
    this.#instance.exports.loadDigest(sums.length);
  }

  /** The accumulator (view): per bucket a 128-bit little-endian sum, 256 x 16 bytes. */
  digest(): Uint8Array {
    return this.#instance.view(this.#instance.exports.digestSums(), BUCKET_COUNT * 16);
  }

  /**
   * Adds the samples of a series to the accumulator: of its open run in the window (with the block's chunk merged), or of
   * the block's chunk alone. What is in both counts once, what is `dead` (as for `chunk`) not at all.
   */
  addDigest(id: SeriesId, windowStartMs: number, block: Uint8Array | undefined, dead?: Uint32Array): void {
    const blockBytes = this.#putBlock(id, block);
    const outcome = this.#instance.exports.addDigest(id, windowStartMs, blockBytes, this.#instance.putDead(dead));
    this.#result(outcome, id, windowStartMs);
  }

  /** Takes the samples of a block's chunk, open runs left alone, out of the accumulator. */
  subtractDigest(id: SeriesId, windowStartMs: number, block: Uint8Array): void {
    const outcome = this.#instance.exports.subtractDigest(id, windowStartMs, this.#putBlock(id, block));
    this.#result(outcome, id, windowStartMs);
  }

  /** Adds what is deleted of a series in a window (as for `chunk`) to the accumulator: each interval counts like a sample. */
  addDeadDigest(id: SeriesId, windowStartMs: number, dead: Uint32Array): void {
    this.#identityAt(id);
    this.#instance.exports.addDeadDigest(id, windowStartMs, this.#instance.putDead(dead));
  }

  // ---- checkpoints ------------------------------------------------------------------------------

  /** Exports open runs of a window, about 256 KiB a call, for `restoreRuns`. Fuzzy: each run as it is when its page is made. */
  checkpoint(windowStartMs: number, cursor = 0): CheckpointPage {
    const { exports } = this.#instance;
    const length = exports.checkpointPage(windowStartMs, cursor);
    if (length < 0) throw this.#instance.full('a checkpoint page');
    const bytes = this.#instance.view(exports.resultAddress(), length);
    return { bytes, series: this.#listed(), next: this.#next() };
  }

  /**
   * Takes a checkpoint page back; the ids in it are looked up in `refs`. Merges with what is already there. Returns ids
   * that `refs` does not know (their runs were left out). Throws CORRUPT for bytes that are not a page, RESOURCE_EXHAUSTED
   * when memory or the window table is full (idempotent: make room, call again).
   */
  restoreRuns(refs: RefTable, page: Uint8Array): Uint32Array {
    this.#checkRefs(refs);
    this.#instance.putSource(page);
    const outcome = this.#instance.exports.restoreRuns(refs, page.length);
    if (outcome === Outcome.broken) {
      throw new SilverbackError('CORRUPT', `${page.length} bytes are no checkpoint page`);
    }
    if (outcome < 0) throw this.#instance.full("a checkpoint's runs, or too many windows are open");
    return this.#listed();
  }

  // ---- between the door and the instance ----------------------------------------------------------

  /** Address of the identity of a series in use. */
  #identityAt(id: SeriesId): number {
    const at = this.#instance.exports.identityAt(id) >>> 0;
    if (at === 0) throw new SilverbackError('INTERNAL', `series ${id} is not in use`);
    return at;
  }

  #checkRefs(refs: RefTable): void {
    if (this.#instance.exports.areRefs(refs) === 0) {
      throw new SilverbackError('INTERNAL', `reference table ${refs} was dropped`);
    }
  }

  /** Copies a block's chunk in; its length, 0 for none. Checks the series too. */
  #putBlock(id: SeriesId, block: Uint8Array | undefined): number {
    this.#identityAt(id);
    if (block === undefined) return 0;
    if (block.length === 0) throw new SilverbackError('CORRUPT', `the block's chunk of series ${id} is empty`);
    this.#instance.putInput(block);
    return block.length;
  }

  /** The chunk that an export returned the length of. */
  #result(length: number, id: SeriesId, windowStartMs: number): Uint8Array | undefined {
    if (length === Outcome.broken) {
      throw new SilverbackError('CORRUPT', `the block's chunk of series ${id} in window ${windowStartMs} is broken`);
    }
    if (length < 0) throw this.#instance.full(`the samples of series ${id} in window ${windowStartMs}`);
    return length === 0 ? undefined : this.#instance.view(this.#instance.exports.resultAddress(), length);
  }

  #listed(): Uint32Array {
    const { exports } = this.#instance;
    return this.#instance.wordView(exports.listedAt(), exports.listed());
  }

  #next(): number | undefined {
    return this.#instance.exports.listedNext() || undefined;
  }

  /** Reads `SliceResult` (assembly/shard/append.ts). */
  #readSlice(): AppendSlice {
    const { words, exports } = this.#instance;
    const at = exports.sliceResult() >>> 2;
    const field = (index: number): number => words[at + index] as number;
    return {
      acceptedCount: field(0),
      record: this.#instance.view(field(1), field(2)),
      unknownRefs: this.#instance.wordView(field(3), field(4)),
      undefinedSeries: this.#instance.wordView(field(5), field(6)),
      rejections: this.#readRejections(field(7), field(8)),
    };
  }

  #readRejections(address: number, count: number): RejectedSamples[] {
    const rejections: RejectedSamples[] = [];
    if (count === 0) return rejections;
    const entries = new DataView(this.#instance.bytes.buffer, address, count * REJECTION_BYTES);
    for (let at = 0; at < entries.byteLength; at += REJECTION_BYTES) {
      rejections.push({
        ref: entries.getUint32(at, true),
        seriesId: entries.getUint32(at + 4, true) as SeriesId,
        reason: REASONS[entries.getUint32(at + 8, true)] as RejectReason,
        sampleCount: entries.getUint32(at + 12, true),
        timestampMs: Number(entries.getBigInt64(at + 16, true)),
      });
    }
    return rejections;
  }
}

/** Layout of an identity in memory: u64 h1, u64 h2, u32 length, u32 slot, bytes. */
const IDENTITY_LENGTH = 16;
const IDENTITY_BYTES = 24;
const MAX_IDENTITY_BYTES = 65_535;
const REJECTION_BYTES = 24;
/** By the kernel's number (assembly/shard/append.ts). */
const REASONS: readonly RejectReason[] = ['old', 'ahead', 'negative', 'windows', 'memory'];

function check(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new SilverbackError('INVALID_ARGUMENT', `${name} is ${value}, must be a whole number from ${least} to ${most}`);
}
