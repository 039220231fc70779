/** Computing on series inside a shard: decoded one by one, in the kernel's memory, for what becomes of them. */
import type { SeriesId, ShardKernel } from '../../core/kernel/shard.ts';
import type { Taker } from '../../core/promql/evaluator.ts';
import { TooFine } from '../../core/promql/groups.ts';
import type { PointsWriter } from '../../core/promql/points.ts';
import { eachSeries, type SelectLimits, type SeriesSink, type Source } from './select.ts';
import type { Slicer } from './slicer.ts';

export interface AggregateOptions extends SelectLimits {
  readonly fromMs: number;
  readonly toMs: number;
  /** Values that the taker may hold, over all steps. */
  readonly maxPointCount: number;
}

/** Gives the series of `ids` to the taker; otherwise as `selectPages`. @throws TooFine too */
export async function aggregateSeries(
  source: Source,
  ids: Uint32Array,
  releaseCount: number,
  taker: Taker,
  options: AggregateOptions,
  slicer: Slicer,
): Promise<void> {
  if (ids.length === 0) return;
  const { kernel } = source;
  if (taker.clause !== undefined) {
    taker.within?.(source.groups.of(taker.clause, releaseCount), (id) => kernel.identity(id as SeriesId));
  }
  const sink = new TakerSink(kernel, taker, options, slicer);
  for await (const _ of eachSeries(source, ids, releaseCount, options, options, slicer, sink)) {
    while (!taker.resume()) await slicer.pause();
    sink.isFull = false;
  }
}

/** The steps of the series of `ids`, as points pages; otherwise as `selectPages`. */
export async function* pointsPages(
  source: Source,
  resolved: Uint32Array | Promise<Uint32Array>,
  releaseCount: number,
  writer: PointsWriter,
  range: Omit<AggregateOptions, 'maxPointCount'>,
  slicer: Slicer,
): AsyncGenerator<Uint8Array> {
  const ids = resolved instanceof Promise ? await resolved : resolved;
  writer.begin();
  if (ids.length === 0) return;
  const options = { ...range, maxPointCount: Number.POSITIVE_INFINITY };
  const sink = new TakerSink(source.kernel, writer, options, slicer, () => writer.byteCount >= POINTS_BYTES);
  for await (const _ of eachSeries(source, ids, releaseCount, options, options, slicer, sink)) {
    if (!sink.isAdded) {
      while (!writer.resume()) await slicer.pause();
      sink.isAdded = true;
    }
    if (writer.byteCount >= POINTS_BYTES) yield writer.take();
    sink.isFull = false;
  }
  if (writer.looked.series > 0) yield writer.take();
}

const POINTS_BYTES = 128 * 1024;

class TakerSink implements SeriesSink {
  /** The series under way is not all added, or the taker is full. */
  isFull = false;
  /** The last series is. */
  isAdded = true;
  readonly #kernel: ShardKernel;
  readonly #taker: Taker;
  readonly #options: AggregateOptions;
  readonly #slicer: Slicer;
  readonly #isTakerFull: () => boolean;
  #id = 0 as SeriesId;

  constructor(
    kernel: ShardKernel,
    taker: Taker,
    options: AggregateOptions,
    slicer: Slicer,
    isTakerFull: () => boolean = () => false,
  ) {
    this.#kernel = kernel;
    this.#taker = taker;
    this.#options = options;
    this.#slicer = slicer;
    this.#isTakerFull = isTakerFull;
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
    const { timestamps, values } = columns;
    this.isAdded =
      this.#taker.addKnown?.(this.#id, timestamps, values, count) ??
      this.#taker.add(this.#kernel.identity(this.#id), timestamps, values, count);
    this.isFull = !this.isAdded || this.#isTakerFull();
    if (this.#taker.pointCount > this.#options.maxPointCount) throw new TooFine();
    return true;
  }

  abandon(): void {
    // The next series begins with empty columns.
  }
}
