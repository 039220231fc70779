/** What a writer is given: columns of samples, and who can say which series they belong to. And how batches are cut. */
import { SilverbackError } from '../core/errors.ts';

/** Samples of one request, at most; larger batches are cut. Well below the message limit, definitions included. */
export const PIECE_SAMPLES = 65_536;
/** Timestamp and value. Of what is not a sample, so many bytes count as one. */
export const SAMPLE_BYTES = 16;

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
  /** Exemplars of series of the shard: lists, see core/exemplars.ts. */
  readonly exemplars?: Uint8Array;
  /** Metadata of metrics that are at home in the shard: a list, see core/metadata.ts. */
  readonly metadata?: Uint8Array;
}

/** Who numbers the series. References are per shard; the same number may stand for different series in two shards. */
export interface ReferenceSource {
  /** Identity bytes (ARCHITECTURE.md, "Series identity") of a reference that was used in a batch. May be a view that is valid until the next call. */
  identity(shard: number, ref: number): Uint8Array;
}

/** Bytes that a batch has beside its samples. */
export function annexBytes({ exemplars, metadata }: ColumnBatch): number {
  return (exemplars?.length ?? 0) + (metadata?.length ?? 0);
}

export function sampleCount(batch: ColumnBatch): number {
  return batch.timestamps.length / 8;
}

/** Bytes the batch holds. Throws INVALID_ARGUMENT if its columns do not fit together. */
export function checkedBytes(batch: ColumnBatch): number {
  const { shard, refs, counts, timestamps, values } = batch;
  let samples = refs.length;
  if (counts !== undefined) {
    samples = 0;
    for (const count of counts) samples += count;
  }
  if (
    (counts !== undefined && counts.length !== refs.length) ||
    timestamps.length !== 8 * samples ||
    values.length !== 8 * samples
  ) {
    const columns = `${refs.length} refs, ${counts?.length ?? 'no'} counts that add up to ${samples}`;
    const bytes = `${timestamps.length} and ${values.length} bytes of timestamps and values`;
    throw new SilverbackError(
      'INVALID_ARGUMENT',
      `batch for shard ${shard}: ${columns}, but ${bytes}; each sample has 8 and 8`,
    );
  }
  return refs.byteLength + (counts?.byteLength ?? 0) + SAMPLE_BYTES * samples + annexBytes(batch);
}

/**
 * The batch in pieces of at most `PIECE_SAMPLES`, as views; a run that lies across a border is cut in two. What is beside the
 * samples goes with the first.
 */
export function pieces(batch: ColumnBatch): ColumnBatch[] {
  if (sampleCount(batch) <= PIECE_SAMPLES) return [batch];
  const { shard, refs, counts, timestamps, values, ...annex } = batch;
  const result: ColumnBatch[] = [];
  let run = 0;
  let taken = 0;
  for (let from = 0; from < sampleCount(batch); ) {
    const firstRun = run;
    const lengths: number[] = [];
    let to = from;
    while (to < from + PIECE_SAMPLES && run < refs.length) {
      const rest = (counts === undefined ? 1 : (counts[run] as number)) - taken;
      const length = Math.min(rest, from + PIECE_SAMPLES - to);
      lengths.push(length);
      to += length;
      taken = length === rest ? 0 : taken + length;
      if (taken === 0) run++;
    }
    result.push({
      shard,
      refs: refs.subarray(firstRun, firstRun + lengths.length),
      counts: counts === undefined ? undefined : Uint32Array.from(lengths),
      timestamps: timestamps.subarray(8 * from, 8 * to),
      values: values.subarray(8 * from, 8 * to),
      ...(from === 0 ? annex : {}),
    });
    from = to;
  }
  return result;
}

/** The runs of the batch whose reference is in `wanted`, copied; what was beside the samples is stored. */
export function runsOf(batch: ColumnBatch, wanted: ReadonlySet<number>): ColumnBatch {
  const runs: number[] = [];
  const parts: { readonly from: number; readonly to: number }[] = [];
  let from = 0;
  for (let run = 0; run < batch.refs.length; run++) {
    const to = from + 8 * (batch.counts?.[run] ?? 1);
    if (wanted.has(batch.refs[run] as number)) {
      runs.push(run);
      parts.push({ from, to });
    }
    from = to;
  }
  const { counts } = batch;
  return {
    shard: batch.shard,
    refs: Uint32Array.from(runs, (run) => batch.refs[run] as number),
    counts: counts === undefined ? undefined : Uint32Array.from(runs, (run) => counts[run] as number),
    timestamps: Buffer.concat(parts.map((part) => batch.timestamps.subarray(part.from, part.to))),
    values: Buffer.concat(parts.map((part) => batch.values.subarray(part.from, part.to))),
  };
}
