/** What a writer is given: columns of samples, and who can say which series they belong to. */

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
