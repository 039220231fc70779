/** An instance of the shard kernel (core/kernel/assembly/shard.ts) and the one way to look into its memory. */
import { SilverbackError } from '../errors.ts';
import { type KernelMemory, loadKernel } from './load.ts';

/** Addresses are u32 that arrive signed; times are f64 milliseconds; outcomes are 0 or a negative `Outcome`. */
export interface ShardExports {
  readonly memory: KernelMemory;
  init(maxPages: number, maxSeries: number, maxOpenWindows: number): number;
  input(bytes: number): number;
  source(bytes: number): number;
  dead(pairs: number): number;
  resultAddress(): number;
  usedBytes(): number;

  internSeries(at: number, length: number): number;
  findSeries(at: number, length: number): number;
  wasCreated(): number;
  releaseSeries(sid: number): void;
  seriesCount(): number;
  identityAt(sid: number): number;
  bucket(sid: number): number;
  hasRuns(sid: number): number;

  createRefs(): number;
  areRefs(refs: number): number;
  dropRefs(refs: number): void;
  defineRef(refs: number, ref: number, sid: number): number;
  resolveRef(refs: number, ref: number): number;

  sliceInput(): number;
  countsOffset(): number;
  timestampsOffset(): number;
  valuesOffset(): number;
  appendColumns(refs: number, runs: number, samples: number, counted: boolean, minMs: number, maxMs: number): number;
  appendRecord(refs: number, bytes: number, encode: boolean): number;
  sliceResult(): number;
  beginSegment(): void;

  openRuns(): number;
  openSamples(): number;
  openWindowCount(): number;
  windowStart(index: number): number;
  windowRuns(index: number): number;
  windowAppends(index: number): number;
  listSeries(startMs: number, position: number): number;
  releaseSealed(startMs: number): number;
  listedAt(): number;
  listed(): number;
  listedNext(): number;

  readChunk(sid: number, startMs: number, blockBytes: number, fromMs: number, toMs: number, deadPairs: number): number;
  sealChunk(sid: number, startMs: number, blockBytes: number, deadPairs: number): number;
  clearDigest(): void;
  digestSums(): number;
  loadDigest(bytes: number): void;
  addDigest(sid: number, startMs: number, blockBytes: number, deadPairs: number): number;
  addDeadDigest(sid: number, startMs: number, deadPairs: number): void;
  subtractDigest(sid: number, startMs: number, blockBytes: number): number;

  checkpointPage(startMs: number, position: number): number;
  restoreRuns(refs: number, bytes: number): number;

  beginColumns(count: number): number;
  addColumns(bytes: number, fromMs: number, toMs: number): number;
  addSeries(sid: number, startMs: number, blockBytes: number, fromMs: number, toMs: number, deadPairs: number): number;
  columnsLength(): number;
  timestampsAt(): number;
  valuesAt(): number;
  aggregateInput(bytes: number, fromMs: number, toMs: number): number;
  aggregateResult(): number;
  encodeInput(count: number): number;
}

/** Negative outcomes of the exports. `noSlot` and `noRoom` share a number: interning alone knows the first. */
export const Outcome = { noRoom: -1, broken: -2, noSlot: -1, noMemory: -2 } as const;

const PAGE_BYTES = 65_536;

/**
 * One instance. Growing its memory detaches every view of it, so views are only ever made here, after the call that may
 * have grown it.
 */
export class ShardInstance {
  readonly exports: ShardExports;
  #bytes = new Uint8Array(0);
  #words = new Uint32Array(0);
  #doubles = new Float64Array(0);

  /** Throws RESOURCE_EXHAUSTED when `maxMemoryBytes` does not hold the empty tables. */
  constructor(limits: { maxMemoryBytes: number; maxSeriesCount: number; maxOpenWindows: number }) {
    this.exports = loadKernel<ShardExports>('shard');
    const pages = Math.floor(limits.maxMemoryBytes / PAGE_BYTES);
    if (this.exports.init(pages, limits.maxSeriesCount, limits.maxOpenWindows) === 0) {
      throw new SilverbackError(
        'RESOURCE_EXHAUSTED',
        `${limits.maxMemoryBytes} bytes of kernel memory do not hold tables for ${limits.maxSeriesCount} series`,
      );
    }
  }

  #refresh(): void {
    const { buffer } = this.exports.memory;
    if (this.#bytes.buffer === buffer) return;
    this.#bytes = new Uint8Array(buffer);
    this.#words = new Uint32Array(buffer);
    this.#doubles = new Float64Array(buffer);
  }

  /** All of memory. Not to be kept. */
  get bytes(): Uint8Array {
    this.#refresh();
    return this.#bytes;
  }

  /** All of memory as u32, by address / 4. Not to be kept. */
  get words(): Uint32Array {
    this.#refresh();
    return this.#words;
  }

  /** All of memory as f64, by address / 8. Not to be kept. */
  get doubles(): Float64Array {
    this.#refresh();
    return this.#doubles;
  }

  get memoryBytes(): number {
    return this.exports.memory.buffer.byteLength;
  }

  /** A view that lives until the memory grows or its buffer is used again: until the next call. */
  view(address: number, length: number): Uint8Array {
    return new Uint8Array(this.exports.memory.buffer, address >>> 0, length);
  }

  wordView(address: number, count: number): Uint32Array {
    return new Uint32Array(this.exports.memory.buffer, address >>> 0, count);
  }

  doubleView(address: number, count: number): Float64Array {
    return new Float64Array(this.exports.memory.buffer, address >>> 0, count);
  }

  /** Copies bytes to where chunks and identities are read from; returns the address. */
  putInput(bytes: Uint8Array): number {
    return this.#put(bytes, this.exports.input(bytes.length));
  }

  /** Copies bytes to where records and pages are read from. */
  putSource(bytes: Uint8Array): void {
    this.#put(bytes, this.exports.source(bytes.length));
  }

  /** Copies pairs of offsets to where they are read from; returns how many. */
  putDead(offsets: Uint32Array | undefined): number {
    if (offsets === undefined || offsets.length === 0) return 0;
    const pairs = offsets.length >>> 1;
    const address = this.exports.dead(pairs);
    if (address === 0) throw this.full(`${pairs} deleted intervals`);
    this.words.set(offsets, address >>> 2);
    return pairs;
  }

  #put(bytes: Uint8Array, address: number): number {
    if (address === 0) throw this.full(`${bytes.length} bytes of input`);
    const at = address >>> 0;
    this.bytes.set(bytes, at);
    return at;
  }

  /** The error for memory that is full, saying what did not fit. */
  full(what: string): SilverbackError {
    return new SilverbackError(
      'RESOURCE_EXHAUSTED',
      `kernel memory is full: no room for ${what} (${this.exports.usedBytes()} bytes used of ${this.memoryBytes})`,
    );
  }
}
