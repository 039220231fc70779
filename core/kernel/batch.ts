/** Batches of samples as they travel, and how the kernel is given them: a slice at a time. */
import { SilverbackError } from '../errors.ts';
import type { ShardInstance } from './instance.ts';

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

/** The most samples, and runs, that one call of the kernel takes. */
const SLICE_SAMPLES = 8192;

interface SliceSize {
  readonly runs: number;
  readonly samples: number;
}

/** Copies batches into the kernel's input. */
export class BatchInput {
  readonly #instance: ShardInstance;
  /** Where the columns of a slice lie behind its references. */
  readonly #countsAt: number;
  readonly #timestampsAt: number;
  readonly #valuesAt: number;

  constructor(instance: ShardInstance) {
    const { exports } = instance;
    this.#instance = instance;
    this.#countsAt = exports.countsOffset();
    this.#timestampsAt = exports.timestampsOffset();
    this.#valuesAt = exports.valuesOffset();
  }

  /**
   * Copies the next slice and moves the cursor. Throws INVALID_ARGUMENT, at a batch's begin, when the columns' lengths do not
   * fit together.
   */
  fill(columns: BatchColumns, cursor: BatchCursor): SliceSize & { readonly counted: boolean } {
    if (cursor.run === 0 && cursor.taken === 0) checkColumns(columns);
    const input = this.#instance.exports.sliceInput() >>> 0;
    if (input === 0) throw this.#instance.full('a slice of samples');
    const counted = columns.counts.length !== 0;
    const slice = counted ? this.#fillCounted(columns, cursor, input) : this.#fillSingles(columns, cursor, input);
    return { runs: slice.runs, samples: slice.samples, counted };
  }

  /** Copies the next runs of one sample each; moves the cursor. */
  #fillSingles(columns: BatchColumns, cursor: BatchCursor, input: number): SliceSize {
    const total = columns.refs.length >>> 2;
    const runs = Math.min(total - cursor.run, SLICE_SAMPLES);
    this.#copyRuns(columns.refs, cursor.run, runs, input);
    this.#copySamples(columns, cursor.sample, runs, input);
    cursor.run += runs;
    cursor.sample += runs;
    cursor.done = cursor.run === total;
    return { runs, samples: runs };
  }

  /** Copies the next runs, as many as fit into a slice; the last may be cut, to be continued by the next slice. */
  #fillCounted(columns: BatchColumns, cursor: BatchCursor, input: number): SliceSize {
    const { refs, counts } = columns;
    const total = refs.length >>> 2;
    const firstRun = cursor.run;
    const firstTaken = cursor.taken;
    let runs = 0;
    let samples = 0;
    let lastCount = 0;
    while (firstRun + runs < total && runs < SLICE_SAMPLES && samples < SLICE_SAMPLES) {
      const left = readU32(counts, cursor.run * 4) - cursor.taken;
      lastCount = Math.min(left, SLICE_SAMPLES - samples);
      samples += lastCount;
      runs++;
      if (lastCount < left) {
        cursor.taken += lastCount;
        break;
      }
      cursor.run++;
      cursor.taken = 0;
    }
    this.#copyRuns(refs, firstRun, runs, input);
    this.#copyRuns(counts, firstRun, runs, input + this.#countsAt);
    const { words } = this.#instance;
    const countsAt = (input + this.#countsAt) >>> 2;
    if (runs > 0) {
      words[countsAt] = (words[countsAt] as number) - firstTaken;
      words[countsAt + runs - 1] = lastCount;
    }
    this.#copySamples(columns, cursor.sample, samples, input);
    cursor.sample += samples;
    cursor.done = cursor.run === total;
    return { runs, samples };
  }

  #copyRuns(column: Uint8Array, first: number, count: number, to: number): void {
    this.#instance.bytes.set(column.subarray(first * 4, (first + count) * 4), to);
  }

  #copySamples(columns: BatchColumns, first: number, count: number, input: number): void {
    const { bytes } = this.#instance;
    bytes.set(columns.timestamps.subarray(first * 8, (first + count) * 8), input + this.#timestampsAt);
    bytes.set(columns.values.subarray(first * 8, (first + count) * 8), input + this.#valuesAt);
  }
}

function readU32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  );
}

/** The lengths of a batch's columns must agree; nothing of it is stored otherwise. */
function checkColumns({ refs, counts, timestamps, values }: BatchColumns): void {
  let samples = refs.length / 4;
  if (counts.length !== 0) {
    samples = 0;
    for (let at = 0; at + 4 <= counts.length; at += 4) samples += readU32(counts, at);
  }
  const fits =
    refs.length % 4 === 0 &&
    (counts.length === 0 || counts.length === refs.length) &&
    timestamps.length === samples * 8 &&
    values.length === samples * 8;
  if (fits) return;
  throw new SilverbackError(
    'INVALID_ARGUMENT',
    `columns do not fit together: ${refs.length} bytes of refs, ${counts.length} of counts that add up to ${samples} samples, ` +
      `${timestamps.length} of timestamps, ${values.length} of values`,
  );
}
