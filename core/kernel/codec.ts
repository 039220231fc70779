/**
 * Reads and writes chunks: the two encodings in which samples of one series and one window travel and rest
 * (layouts: ARCHITECTURE.md, "Chunks"). A codec works in the memory of a wasm instance; views it returns are valid
 * until the next call on it (or on the kernel it belongs to).
 */
import { SilverbackError } from '../errors.ts';
import { Outcome, ShardInstance } from './instance.ts';

/** What a chunk's header says. */
export interface ChunkInfo {
  readonly encoding: 'xor' | 'columnar';
  readonly sampleCount: number;
  /** First timestamp. */
  readonly minMs: number;
  /** Last timestamp. */
  readonly maxMs: number;
}

/** Samples in time order, timestamps unique. Views. NaN payloads are kept: look at them as bits. */
export interface DecodedColumns {
  readonly timestamps: Float64Array;
  readonly values: Float64Array;
}

/** Over the samples of a range; stale markers are left out. With `count` 0 the other numbers are NaN, `increase` 0. */
export interface ChunkAggregate {
  count: number;
  sum: number;
  min: number;
  max: number;
  first: number;
  firstMs: number;
  last: number;
  lastMs: number;
  /** Sum of the rises between neighbours; after a fall, the new value (a counter was reset). */
  increase: number;
}

const HEADER_BYTES = 20;
const ENCODINGS = [undefined, 'xor', 'columnar'] as const;

/** Reads a chunk's header. Throws CORRUPT when it is not one. */
export function chunkInfo(chunk: Uint8Array): ChunkInfo {
  const encoding = ENCODINGS[chunk[0] ?? 0];
  if (encoding === undefined || chunk.length <= HEADER_BYTES) throw notAChunk(chunk);
  const header = new DataView(chunk.buffer, chunk.byteOffset, HEADER_BYTES);
  const minMs = header.getUint32(8, true) + header.getInt32(12, true) * 2 ** 32;
  return { encoding, sampleCount: header.getUint32(4, true), minMs, maxMs: minMs + header.getUint32(16, true) };
}

/** The samples a chunk's header claims; 0 for bytes too short to have one. */
function claimedCount(chunk: Uint8Array): number {
  if (chunk.length <= HEADER_BYTES) return 0;
  return (
    ((chunk[4] as number) |
      ((chunk[5] as number) << 8) |
      ((chunk[6] as number) << 16) |
      ((chunk[7] as number) << 24)) >>>
    0
  );
}

function notAChunk(chunk: Uint8Array): SilverbackError {
  const start = Array.from(chunk.subarray(0, HEADER_BYTES), (byte) => byte.toString(16).padStart(2, '0')).join('');
  return new SilverbackError('CORRUPT', `${chunk.length} bytes that begin with ${start || 'nothing'} are no chunk`);
}

/** A codec's memory may grow as far as a wasm memory can. */
const CODEC_MEMORY_BYTES = 2 ** 32;
/** Samples that one `decode` may yield: 16 bytes each must fit twice. */
const MAX_SAMPLES = 2 ** 26;

export class ChunkCodec {
  readonly #instance: ShardInstance;
  readonly #aggregate: ChunkAggregate = {
    count: 0,
    sum: 0,
    min: 0,
    max: 0,
    first: 0,
    firstMs: 0,
    last: 0,
    lastMs: 0,
    increase: 0,
  };

  /** A codec in the memory of an instance that is there already. */
  constructor(instance: ShardInstance) {
    this.#instance = instance;
  }

  /** A codec with its own small memory: for coordinators and clients, who hold no shard. */
  static create(): ChunkCodec {
    return new ChunkCodec(
      new ShardInstance({ maxMemoryBytes: CODEC_MEMORY_BYTES, maxSeriesCount: 1, maxOpenWindows: 1 }),
    );
  }

  /**
   * Decodes the chunks of one series into columns, only the samples in [fromMs, toMs]. Chunks may overlap in time (copies
   * from several nodes): they are merged by the merge rule. Cheapest when they come in time order without overlap.
   * Timestamps past 2^53 are rounded to doubles. Throws CORRUPT for bytes that are no chunk, TOO_LARGE past 2^26 samples, RESOURCE_EXHAUSTED when memory is full.
   */
  decode(chunks: readonly Uint8Array[], fromMs = 0, toMs = Number.POSITIVE_INFINITY): DecodedColumns {
    const { exports } = this.#instance;
    let bound = 0;
    for (const chunk of chunks) bound += claimedCount(chunk);
    if (bound > MAX_SAMPLES) {
      throw new SilverbackError(
        'TOO_LARGE',
        `chunks of ${bound} samples where at most ${MAX_SAMPLES} are decoded at a time`,
      );
    }
    if (exports.beginColumns(bound) === 0) throw this.#instance.full(`${bound} decoded samples`);
    for (const chunk of chunks) {
      this.#instance.putInput(chunk);
      this.#check(exports.addColumns(chunk.length, fromMs, toMs), chunk);
    }
    const length = exports.columnsLength();
    return {
      timestamps: this.#instance.doubleView(exports.timestampsAt(), length),
      values: this.#instance.doubleView(exports.valuesAt(), length),
    };
  }

  /**
   * Aggregates one chunk's samples in [fromMs, toMs] without decoding them into JavaScript. The result object is reused.
   * Sums are taken in an order of their own, so the last bits may differ from a sum in time order.
   */
  aggregate(chunk: Uint8Array, fromMs = 0, toMs = Number.POSITIVE_INFINITY): ChunkAggregate {
    const { exports } = this.#instance;
    this.#instance.putInput(chunk);
    this.#check(exports.aggregateInput(chunk.length, fromMs, toMs), chunk);
    const { doubles } = this.#instance;
    const at = exports.aggregateResult() >>> 3;
    const result = this.#aggregate;
    result.count = doubles[at] as number;
    result.sum = doubles[at + 1] as number;
    result.min = doubles[at + 2] as number;
    result.max = doubles[at + 3] as number;
    result.first = doubles[at + 4] as number;
    result.firstMs = doubles[at + 5] as number;
    result.last = doubles[at + 6] as number;
    result.lastMs = doubles[at + 7] as number;
    result.increase = doubles[at + 8] as number;
    return result;
  }

  /**
   * Encodes samples (whole milliseconds >= 0, strictly rising, spanning less than 2^31 ms; at least one) as a sealed
   * chunk (view). Throws INVALID_ARGUMENT for others.
   */
  encode(timestamps: Float64Array, values: Float64Array): Uint8Array {
    const { exports } = this.#instance;
    const count = timestamps.length;
    if (count === 0 || count !== values.length || count > MAX_SAMPLES) {
      throw new SilverbackError('INVALID_ARGUMENT', `${count} timestamps and ${values.length} values make no chunk`);
    }
    const address = exports.input(count * 16) >>> 0;
    if (address === 0) throw this.#instance.full(`${count} samples`);
    this.#instance.doubles.set(timestamps, address >>> 3);
    // As bytes: a copy of doubles may change the payload of a NaN.
    const bits = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    this.#instance.bytes.set(bits, address + count * 8);
    const length = exports.encodeInput(count);
    if (length === Outcome.broken) {
      throw new SilverbackError(
        'INVALID_ARGUMENT',
        `timestamps of a chunk must be whole, rise strictly from 0 on and span less than 2^31 ms (${count} from ${timestamps[0]})`,
      );
    }
    if (length < 0) throw this.#instance.full(`a chunk of ${count} samples`);
    return this.#instance.view(exports.resultAddress(), length);
  }

  #check(outcome: number, chunk: Uint8Array): void {
    if (outcome === Outcome.broken) throw notAChunk(chunk);
    if (outcome < 0) throw this.#instance.full(`a chunk of ${claimedCount(chunk)} samples`);
  }
}
