/** A Queryable in memory, for tests of the engine: series in the order in which they came. */

import { PointsPages } from '../../coordinator/query/points.ts';
import type {
  Aggregated,
  AggregateRequest,
  Columns,
  Coverage,
  Evaluated,
  Metadata,
  Queryable,
  QueryContext,
  SelectRequest,
  SeriesSet,
  TimeRange,
} from '../../coordinator/query/queryable.ts';
import { compareUtf8, encodeIdentity, type Labels, labelValue, makeLabels } from '../../core/labels.ts';
import { compileMatcher, type Matcher } from '../../core/matchers.ts';
import type { Taker } from '../../core/promql/evaluator.ts';
import { Aggregator, Groups } from '../../core/promql/groups.ts';
import { BestSeries, isBest, PointsWriter } from '../../core/promql/points.ts';

const NONE: Metadata = { coverage: [], warnings: [] };

/** The stale marker's bits, which no arithmetic may touch. */
export function writeStale(values: Float64Array, at: number): void {
  new Uint32Array(values.buffer, values.byteOffset + 8 * at, 2).set([2, 0x7ff00000]);
}

export class MemoryStore implements Queryable {
  readonly #series: { labels: Labels; columns: Columns }[] = [];
  /** Put into every answer. */
  coverage: readonly Coverage[] = [];
  warnings: readonly string[] = [];
  /** How often data was asked for. */
  selectCount = 0;

  add(labels: Readonly<Record<string, string>>, columns: Columns): void {
    this.#series.push({ labels: makeLabels(labels), columns });
  }

  clear(): void {
    this.#series.length = 0;
  }

  #matching(matchers: readonly Matcher[]): { labels: Labels; columns: Columns }[] {
    const compiled = matchers.map(compileMatcher);
    return this.#series.filter(({ labels }) => compiled.every((m) => m.test(labelValue(labels, m.name))));
  }

  async select(request: SelectRequest, context: { signal: AbortSignal }): Promise<SeriesSet> {
    this.selectCount++;
    context.signal.throwIfAborted();
    const found = this.#matching(request.matchers)
      .map(({ labels, columns }) => ({ labels, columns: cut(columns, request) }))
      .filter(({ columns }) => columns.timestamps.length > 0);
    // One buffer for all series: an engine that keeps views past the next call sees them change.
    const longest = Math.max(0, ...found.map(({ columns }) => columns.timestamps.length));
    const timestamps = new Float64Array(longest);
    const values = new Float64Array(longest);
    return {
      count: found.length,
      labels: (index) => (found[index] as { labels: Labels }).labels,
      columns: (index) => {
        const { columns } = found[index] as { columns: Columns };
        const n = columns.timestamps.length;
        timestamps.set(columns.timestamps);
        new Uint8Array(values.buffer).set(
          new Uint8Array(columns.values.buffer, columns.values.byteOffset, columns.values.byteLength),
        );
        return { timestamps: timestamps.subarray(0, n), values: values.subarray(0, n) };
      },
      coverage: this.coverage,
      warnings: this.warnings,
      sampleCount: found.reduce((sum, { columns }) => sum + columns.timestamps.length, 0),
    };
  }

  /** As a cluster would: by three nodes, whose pages are merged. */
  protected async aggregateApart(request: AggregateRequest, context: QueryContext): Promise<Aggregated> {
    const set = await this.select(request, context);
    const groups = new Groups(request.aggregation);
    for (let node = 0; node < 3; node++) {
      for (const page of given(new Aggregator(request.aggregation), set, node).pages(400)) groups.take(page);
    }
    return { groups, coverage: this.coverage, warnings: this.warnings };
  }

  /** The same of single series; pages come together, as those of several shards do. */
  protected async evaluateApart(request: AggregateRequest, context: QueryContext): Promise<Evaluated> {
    const set = await this.select(request, context);
    const points = new PointsPages(request.aggregation);
    for (let node = 0; node < 3; node++) {
      const pages = isBest(request.aggregation.operation)
        ? [...given(new BestSeries(request.aggregation), set, node).pages(400)]
        : [given(new PointsWriter(request.aggregation), set, node).take()];
      points.take(Buffer.concat(pages));
    }
    return { points, coverage: this.coverage, warnings: this.warnings };
  }

  async series(range: TimeRange, selectors: readonly (readonly Matcher[])[]): Promise<Metadata & { series: Labels[] }> {
    const all = selectors.length === 0 ? [[]] : selectors;
    const found = new Set(all.flatMap((matchers) => this.#matching(matchers)));
    const live = [...found].filter(({ columns }) => cut(columns, range).timestamps.length > 0);
    return { ...NONE, series: live.map(({ labels }) => labels) };
  }

  async labelNames(
    range: TimeRange,
    selectors: readonly (readonly Matcher[])[],
  ): Promise<Metadata & { names: string[] }> {
    const { series } = await this.series(range, selectors);
    const names = new Set(series.flatMap((labels) => labels.filter((_, i) => i % 2 === 0)));
    return { ...NONE, names: [...names].sort(compareUtf8) };
  }

  async labelValues(
    name: string,
    range: TimeRange,
    selectors: readonly (readonly Matcher[])[],
  ): Promise<Metadata & { values: string[] }> {
    const { series } = await this.series(range, selectors);
    const values = new Set(series.map((labels) => labelValue(labels, name)).filter((value) => value !== ''));
    return { ...NONE, values: [...values].sort(compareUtf8) };
  }
}

/** Gives a node's third of the series to what it makes of them. */
function given<T extends Taker>(taker: T, set: SeriesSet, node: number): T {
  for (let i = node; i < set.count; i += 3) {
    const { timestamps, values } = set.columns(i);
    let isDone = taker.add(encodeIdentity(set.labels(i)), timestamps, values, timestamps.length);
    while (!isDone) isDone = taker.resume();
  }
  return taker;
}

function cut({ timestamps, values }: Columns, { fromMs, toMs }: TimeRange): Columns {
  let from = 0;
  let to = timestamps.length;
  while (from < to && (timestamps[from] as number) < fromMs) from++;
  while (to > from && (timestamps[to - 1] as number) > toMs) to--;
  return { timestamps: timestamps.subarray(from, to), values: values.subarray(from, to) };
}

/** A store that computes where the series are. */
export class AggregatingStore extends MemoryStore {
  aggregateCount = 0;
  evaluateCount = 0;

  aggregate(request: AggregateRequest, context: QueryContext): Promise<Aggregated> {
    this.aggregateCount++;
    return this.aggregateApart(request, context);
  }

  evaluate(request: AggregateRequest, context: QueryContext): Promise<Evaluated> {
    this.evaluateCount++;
    return this.evaluateApart(request, context);
  }
}
