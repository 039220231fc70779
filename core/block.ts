/** Block file: one sealed window of one shard. The door (bodies follow). A pure function of the samples in it. */

/** What a block is read from: a `File`, or `bytesSource(bytes)`. */
export interface BlockSource {
  read(offset: number, length: number): Promise<Uint8Array>;
  size(): Promise<number>;
}

export interface BlockHeader {
  readonly shard: number;
  readonly windowStartMs: number;
  readonly windowLengthMs: number;
}

export interface BlockWriter {
  /** The next series; identities must come sorted by bytes, each once. Copies the bytes. */
  series(identity: Uint8Array): void;
  /** A chunk of the current series, in time order. Copies the bytes. At least one per series. */
  chunk(bytes: Uint8Array, sampleCount: number): void;
  /** `digests`: 256 buckets of 16 bytes. Returns the file as parts to be written back to back. The writer is spent. */
  finish(digests: Uint8Array): { readonly parts: readonly Uint8Array[]; readonly byteLength: number };
}

/** Where the chunks of each series lie. Series are numbered in order of identity bytes, chunks in order of series, then time. */
export interface BlockIndex {
  /** seriesCount + 1 entries: the chunks of series s are firstChunk[s] up to firstChunk[s + 1]. */
  readonly firstChunk: Uint32Array;
  /** chunkCount + 1 entries: chunk c is the bytes chunkStart[c] up to chunkStart[c + 1] of the chunk section. */
  readonly chunkStart: Uint32Array;
}

export interface Block extends BlockHeader {
  readonly seriesCount: number;
  readonly sampleCount: number;
  readonly byteLength: number;
  /** Length of the chunk section. */
  readonly chunkByteLength: number;
  index(): Promise<BlockIndex>;
  /** Identity bytes of the series in order, a slice of them at a time; views valid until the next slice. */
  identities(): AsyncGenerator<readonly Uint8Array[]>;
  /** 256 x 16 bytes. */
  digests(): Promise<Uint8Array>;
  /** The whole chunk section, verified, in a SharedArrayBuffer. */
  chunks(): Promise<Uint8Array>;
  /** Part of the chunk section, verified (reads whole 64 KiB pages). */
  readChunks(start: number, end: number): Promise<Uint8Array>;
  /** Checks every checksum. */
  verify(): Promise<void>;
}

export declare function createBlock(header: BlockHeader): BlockWriter;
/** Reads header and footer. `name` is for messages. @throws CORRUPT naming file, section and offset; VERSION. */
export declare function openBlock(source: BlockSource, name: string): Promise<Block>;
export declare function bytesSource(bytes: Uint8Array): BlockSource;
