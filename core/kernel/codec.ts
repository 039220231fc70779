/**
 * Reads and writes chunks: the two encodings in which samples of one series and one window travel and rest
 * (layouts: ARCHITECTURE.md, "Chunks"). A codec works in the memory of a wasm instance; views it returns are valid
 * until the next call on it (or on the kernel it belongs to).
 */
import { SilverbackError } from '../errors.ts';

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

/** Reads a chunk's header. Throws CORRUPT when it is not one. Needs no instance. */
export function chunkInfo(_chunk: Uint8Array): ChunkInfo {
  throw new SilverbackError('INTERNAL', 'the kernel is not built into this door yet');
}

export class ChunkCodec {
  /** A codec with its own small memory: for coordinators and clients, who hold no shard. */
  static create(): ChunkCodec {
    throw new SilverbackError('INTERNAL', 'the kernel is not built into this door yet');
  }

  /**
   * Decodes the chunks of one series into columns, only the samples in [fromMs, toMs]. Chunks may overlap in time (copies
   * from several nodes): they are merged by the merge rule. Cheapest when they come in time order without overlap.
   */
  decode(_chunks: readonly Uint8Array[], _fromMs = 0, _toMs = Number.POSITIVE_INFINITY): DecodedColumns {
    throw new SilverbackError('INTERNAL', 'the kernel is not built into this door yet');
  }

  /** Aggregates one chunk's samples in [fromMs, toMs] without decoding them into JavaScript. The result object is reused. */
  aggregate(_chunk: Uint8Array, _fromMs = 0, _toMs = Number.POSITIVE_INFINITY): ChunkAggregate {
    throw new SilverbackError('INTERNAL', 'the kernel is not built into this door yet');
  }

  /** Encodes samples of one window (time order, timestamps unique) as a sealed chunk (view). */
  encode(_timestamps: Float64Array, _values: Float64Array): Uint8Array {
    throw new SilverbackError('INTERNAL', 'the kernel is not built into this door yet');
  }
}
