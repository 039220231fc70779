/** Samples on their way into a batch: columns in order of arrival, then one set of columns per shard. */

import type { ColumnBatch } from './columns.ts';
import type { SeriesTable } from './series.ts';

/** Collects samples as runs: neighbours of one series share an entry. Holds at most `capacity` samples. */
export class Collector {
  readonly capacity: number;
  readonly #series: Uint32Array;
  readonly #counts: Uint32Array;
  readonly #timestamps: Float64Array;
  readonly #values: Float64Array;
  #runCount = 0;
  #lastSeries = -1;
  sampleCount = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#series = new Uint32Array(capacity);
    this.#counts = new Uint32Array(capacity);
    this.#timestamps = new Float64Array(capacity);
    this.#values = new Float64Array(capacity);
  }

  /** The caller has checked that there is room and that `timestampMs` is a whole number from 0 on. */
  push(series: number, timestampMs: number, value: number): void {
    if (series === this.#lastSeries) {
      (this.#counts[this.#runCount - 1] as number)++;
    } else {
      this.#lastSeries = series;
      this.#series[this.#runCount] = series;
      this.#counts[this.#runCount++] = 1;
    }
    this.#timestamps[this.sampleCount] = timestampMs;
    this.#values[this.sampleCount++] = value;
  }

  /** Copies what was collected into a batch per shard, runs in order of arrival, and starts again. All series must be placed. */
  take(table: SeriesTable): ColumnBatch[] {
    const { shardCount, shardOf, refOf } = table.places;
    const runCounts = new Uint32Array(shardCount);
    const sampleCounts = new Uint32Array(shardCount);
    for (let run = 0; run < this.#runCount; run++) {
      const shard = shardOf[this.#series[run] as number] as number;
      (runCounts[shard] as number)++;
      (sampleCounts[shard] as number) += this.#counts[run] as number;
    }
    const runAt = offsets(runCounts);
    const sampleAt = offsets(sampleCounts);
    const refs = new Uint32Array(this.#runCount);
    const counts = new Uint32Array(this.#runCount);
    // Two little-endian halves each: i64 without BigInt.
    const timestamps = new Uint32Array(2 * this.sampleCount);
    const values = new Float64Array(this.sampleCount);
    let from = 0;
    for (let run = 0; run < this.#runCount; run++) {
      const series = this.#series[run] as number;
      const shard = shardOf[series] as number;
      const at = runAt[shard] as number;
      const count = this.#counts[run] as number;
      runAt[shard] = at + 1;
      refs[at] = refOf[series] as number;
      counts[at] = count;
      let to = sampleAt[shard] as number;
      sampleAt[shard] = to + count;
      for (const end = from + count; from < end; from++, to++) {
        const timestampMs = this.#timestamps[from] as number;
        const high = Math.floor(timestampMs / 4_294_967_296);
        timestamps[2 * to] = timestampMs - high * 4_294_967_296;
        timestamps[2 * to + 1] = high;
        values[to] = this.#values[from] as number;
      }
    }
    const hasOneEach = this.#runCount === this.sampleCount;
    const batches: ColumnBatch[] = [];
    for (let shard = 0; shard < shardCount; shard++) {
      const runs = runCounts[shard] as number;
      if (runs === 0) continue;
      // The offsets have moved on to the end of each shard's part.
      const runEnd = runAt[shard] as number;
      const sampleEnd = sampleAt[shard] as number;
      const sampleStart = sampleEnd - (sampleCounts[shard] as number);
      batches.push({
        shard,
        refs: refs.subarray(runEnd - runs, runEnd),
        counts: hasOneEach ? undefined : counts.subarray(runEnd - runs, runEnd),
        timestamps: new Uint8Array(timestamps.buffer, 8 * sampleStart, 8 * (sampleEnd - sampleStart)),
        values: new Uint8Array(values.buffer, 8 * sampleStart, 8 * (sampleEnd - sampleStart)),
      });
    }
    this.#runCount = 0;
    this.#lastSeries = -1;
    this.sampleCount = 0;
    return batches;
  }
}

/** Where each part begins when parts of these lengths lie one after the other. */
function offsets(lengths: Uint32Array): Uint32Array {
  const starts = new Uint32Array(lengths.length);
  for (let i = 1; i < lengths.length; i++) starts[i] = (starts[i - 1] as number) + (lengths[i - 1] as number);
  return starts;
}
