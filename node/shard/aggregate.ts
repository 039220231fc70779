/** Aggregating series inside a shard: decoded one by one, in the kernel's memory, into the arrays of their groups. */
import type { SeriesId, ShardKernel } from '../../core/kernel/shard.ts';
import { type Aggregation, Aggregator, type Groups, TooFine } from '../../core/promql/groups.ts';
import type { Catalogue } from './catalogue.ts';
import { eachSeries, type SelectLimits, type SeriesSink, type Source } from './select.ts';
import type { Slicer } from './slicer.ts';

export interface AggregateOptions extends SelectLimits {
  readonly fromMs: number;
  readonly toMs: number;
  readonly aggregation: Aggregation;
  /** Values of all groups and steps. */
  readonly maxPointCount: number;
}

/** The groups of `ids`; otherwise as `selectPages`. @throws TooFine too */
export async function aggregateSeries(
  source: Source,
  ids: Uint32Array,
  releaseCount: number,
  options: AggregateOptions,
  slicer: Slicer,
): Promise<Groups> {
  const aggregator = new Aggregator(options.aggregation);
  const sink = new AggregateSink(source.kernel, source.catalogue, aggregator, options);
  for await (const _ of eachSeries(source, ids, releaseCount, options, options, slicer, sink)) {
    while (!aggregator.resume()) await slicer.pause();
    sink.isFull = false;
  }
  return aggregator.groups;
}

class AggregateSink implements SeriesSink {
  /** The series under way is not all added. */
  isFull = false;
  readonly #kernel: ShardKernel;
  readonly #catalogue: Catalogue;
  readonly #aggregator: Aggregator;
  readonly #options: AggregateOptions;
  #id = 0 as SeriesId;
  #chunks: Uint8Array[] = [];

  constructor(kernel: ShardKernel, catalogue: Catalogue, aggregator: Aggregator, options: AggregateOptions) {
    this.#kernel = kernel;
    this.#catalogue = catalogue;
    this.#aggregator = aggregator;
    this.#options = options;
  }

  begin(id: SeriesId): void {
    this.#id = id;
    this.#chunks = [];
  }

  chunk(chunk: Uint8Array): void {
    // Those of blocks lie in shared memory and stay.
    this.#chunks.push(chunk.buffer instanceof SharedArrayBuffer ? chunk : chunk.slice());
  }

  end(): boolean {
    if (this.#chunks.length === 0) return false;
    const { fromMs, toMs, maxPointCount } = this.#options;
    const { timestamps, values } = this.#kernel.chunks.decode(this.#chunks, fromMs, toMs);
    this.isFull = !this.#aggregator.add(this.#catalogue.labels(this.#id), timestamps, values);
    if (this.#aggregator.groups.pointCount > maxPointCount) throw new TooFine();
    return true;
  }

  abandon(): void {
    this.#chunks = [];
  }
}
