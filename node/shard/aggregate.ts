/** Aggregating series inside a shard: decoded one by one, in the kernel's memory, into the arrays of their groups. */
import type { SeriesId, ShardKernel } from '../../core/kernel/shard.ts';
import { type Aggregator, TooFine } from '../../core/promql/groups.ts';
import { eachSeries, type SelectLimits, type SeriesSink, type Source } from './select.ts';
import type { Slicer } from './slicer.ts';

export interface AggregateOptions extends SelectLimits {
  readonly fromMs: number;
  readonly toMs: number;
  /** Values of all groups and steps. */
  readonly maxPointCount: number;
}

/** Gives the series of `ids` to the aggregator; otherwise as `selectPages`. @throws TooFine too */
export async function aggregateSeries(
  source: Source,
  ids: Uint32Array,
  releaseCount: number,
  aggregator: Aggregator,
  options: AggregateOptions,
  slicer: Slicer,
): Promise<void> {
  if (ids.length === 0) return;
  const sink = new AggregateSink(source.kernel, aggregator, options, slicer);
  for await (const _ of eachSeries(source, ids, releaseCount, options, options, slicer, sink)) {
    while (!aggregator.resume()) await slicer.pause();
    sink.isFull = false;
  }
}

class AggregateSink implements SeriesSink {
  /** The series under way is not all added. */
  isFull = false;
  readonly #kernel: ShardKernel;
  readonly #aggregator: Aggregator;
  readonly #options: AggregateOptions;
  readonly #slicer: Slicer;
  #id = 0 as SeriesId;

  constructor(kernel: ShardKernel, aggregator: Aggregator, options: AggregateOptions, slicer: Slicer) {
    this.#kernel = kernel;
    this.#aggregator = aggregator;
    this.#options = options;
    this.#slicer = slicer;
  }

  begin(id: SeriesId): void {
    this.#id = id;
    this.#kernel.columns.begin();
  }

  piece({ startMs, sealed, dead }: Parameters<SeriesSink['piece']>[0]): number {
    const { fromMs, toMs } = this.#options;
    return this.#kernel.columns.add(this.#id, startMs, sealed, fromMs, toMs, dead);
  }

  end(): boolean {
    const { columns } = this.#kernel;
    const { count } = columns;
    if (count === 0) return false;
    // Decoding, windows and points are some 20 ns a sample, all together.
    this.#slicer.spend(count);
    this.isFull = !this.#aggregator.add(this.#kernel.identity(this.#id), columns.timestamps, columns.values, count);
    if (this.#aggregator.groups.pointCount > this.#options.maxPointCount) throw new TooFine();
    return true;
  }

  abandon(): void {
    // The next series begins with empty columns.
  }
}
