/**
 * The cluster as the PromQL engine sees it: a fan-out through the client's reader, one call per node,
 * whose pages are kept as they came and decoded one series at a time.
 */
import type { ReadContext, Reader, SelectOptions } from '../../client/reader.ts';
import { Cardinality } from '../../core/cardinality.ts';
import { SilverbackError } from '../../core/errors.ts';
import { readExemplars } from '../../core/exemplars.ts';
import type { ChunkCodec } from '../../core/kernel/codec.ts';
import { compareUtf8, decodeIdentity, type Labels, UNLIMITED } from '../../core/labels.ts';
import type { Matcher } from '../../core/matchers.ts';
import { type MetricMetadata, parseMetadataText } from '../../core/metadata.ts';
import { Groups, TooFine } from '../../core/promql/groups.ts';
import type { WindowVersions } from './cache.ts';
import { Page } from './page.ts';
import { PointsPages } from './points.ts';
import type {
  Aggregated,
  AggregateRequest,
  AnnexQueryable,
  Columns,
  Coverage,
  Evaluated,
  ExemplarSeries,
  Metadata,
  Queryable,
  QueryContext,
  SelectRequest,
  SeriesSet,
  TimeRange,
} from './queryable.ts';

export interface ClusterOptions {
  readonly reader: Pick<
    Reader,
    | 'select'
    | 'aggregate'
    | 'series'
    | 'labelNames'
    | 'labelValues'
    | 'windowVersions'
    | 'cardinality'
    | 'exemplars'
    | 'metadata'
  >;
  readonly codec: Pick<ChunkCodec, 'decode'>;
  /** Series of one selection; past it the selection fails with TOO_LARGE. Undefined: no limit. */
  readonly maxSeries?: number;
  /** Samples that a selection may find on one node, likewise. */
  readonly maxSamples?: number;
  /** How long a node may take. */
  readonly timeoutMs?: number;
}

export class Cluster implements Queryable, AnnexQueryable {
  readonly #options: ClusterOptions;

  constructor(options: ClusterOptions) {
    this.#options = options;
  }

  async select(request: SelectRequest, context: QueryContext): Promise<SeriesSet> {
    const { fromMs, toMs } = request;
    const { reader, codec, maxSeries } = this.#options;
    const pages: Page[] = [];
    const { coverage } = await reader.select(
      this.#selection(request),
      (bytes) => {
        pages.push(new Page(bytes));
      },
      { ...this.#context(context), holdsBack: true },
    );
    const set = new PagedSeries(pages, codec, fromMs, toMs, coverage.map(withoutEmptyReason));
    if (maxSeries !== undefined && set.count > maxSeries) {
      throw new SilverbackError('TOO_LARGE', `the selection has ${set.count} series, at most ${maxSeries} are allowed`);
    }
    return set;
  }

  async aggregate(request: AggregateRequest, context: QueryContext): Promise<Aggregated | undefined> {
    const groups = new Groups(request.aggregation);
    const answer = await this.#computed(request, groups, context);
    return answer && { groups, ...answer };
  }

  async evaluate(request: AggregateRequest, context: QueryContext): Promise<Evaluated | undefined> {
    const points = new PointsPages(request.aggregation);
    const answer = await this.#computed(request, points, context);
    return answer && { points, ...answer };
  }

  /** Gives what nodes compute to `into`. Undefined when they are not to compute it, or cannot. */
  async #computed(
    request: AggregateRequest,
    into: Pick<Groups, 'take' | 'looked'>,
    context: QueryContext,
  ): Promise<Metadata | undefined> {
    const { reader, maxSeries } = this.#options;
    const { aggregation } = request;
    try {
      const { coverage } = await reader.aggregate(
        { ...this.#selection(request), aggregation },
        (bytes) => into.take(bytes),
        this.#context(context),
      );
      const { series } = into.looked;
      if (maxSeries !== undefined && series > maxSeries) {
        throw new SilverbackError('TOO_LARGE', `the selection has ${series} series, at most ${maxSeries} are allowed`);
      }
      return { coverage: coverage.map(withoutEmptyReason), warnings: [] };
    } catch (error) {
      if (error instanceof TooFine) return undefined;
      // A node that is older does not know it; what else may be wrong with the request, selecting says.
      if (error instanceof SilverbackError && error.code === 'INVALID_ARGUMENT') return undefined;
      throw error;
    }
  }

  async labelNames(
    range: TimeRange,
    selectors: readonly (readonly Matcher[])[],
    context: QueryContext,
  ): Promise<Metadata & { names: string[] }> {
    const { reader } = this.#options;
    const { values, coverage } = await reader.labelNames({ ...bounded(range), selectors }, this.#context(context));
    return { names: values, coverage: coverage.map(withoutEmptyReason), warnings: [] };
  }

  async labelValues(
    name: string,
    range: TimeRange,
    selectors: readonly (readonly Matcher[])[],
    context: QueryContext,
  ): Promise<Metadata & { values: string[] }> {
    const { reader } = this.#options;
    const { values, coverage } = await reader.labelValues(
      name,
      { ...bounded(range), selectors },
      this.#context(context),
    );
    return { values, coverage: coverage.map(withoutEmptyReason), warnings: [] };
  }

  async series(
    range: TimeRange,
    selectors: readonly (readonly Matcher[])[],
    context: QueryContext,
  ): Promise<Metadata & { series: Labels[] }> {
    const series: Labels[] = [];
    const { coverage } = await this.#options.reader.series(
      { ...bounded(range), selectors },
      (bytes) => {
        const page = new Page(bytes);
        for (let i = 0; i < page.count; i++) series.push(page.labels(i));
      },
      this.#context(context),
    );
    return { series, coverage: coverage.map(withoutEmptyReason), warnings: [] };
  }

  async windowVersions(range: TimeRange, context: QueryContext): Promise<WindowVersions> {
    const { reader } = this.#options;
    const { values, coverage } = await reader.windowVersions(bounded(range), this.#context(context));
    const versions = new Map<number, string>();
    for (const text of values) {
      const startMs = Number(text.slice(0, text.indexOf(' ')));
      const before = versions.get(startMs);
      versions.set(startMs, before === undefined ? text : `${before}\n${text}`);
    }
    return { versions, coverage: coverage.map(withoutEmptyReason) };
  }

  /** How many series carry which labels. */
  async cardinality(context: QueryContext): Promise<{ found: Cardinality; coverage: Coverage[] }> {
    const range = { fromMs: 0, toMs: LAST_MS };
    const { values, coverage } = await this.#options.reader.cardinality(range, this.#context(context));
    return { found: new Cardinality(values), coverage: coverage.map(withoutEmptyReason) };
  }

  async exemplars(
    range: TimeRange,
    selectors: readonly (readonly Matcher[])[],
    context: QueryContext,
  ): Promise<Metadata & { series: ExemplarSeries[] }> {
    const series = new Map<string, { labels: Labels; exemplars: ExemplarSeries['exemplars'][number][] }>();
    const take = (page: Uint8Array): void =>
      readExemplars(page, 'INTERNAL', (identity, { labels, value, timestampMs }) => {
        const key = Buffer.from(identity.buffer, identity.byteOffset, identity.length).toString('latin1');
        let one = series.get(key);
        if (one === undefined) {
          one = { labels: decodeIdentity(identity, UNLIMITED), exemplars: [] };
          series.set(key, one);
        }
        one.exemplars.push({ labels: decodeIdentity(labels, UNLIMITED), value, timestampMs });
      });
    const options = { ...bounded(range), selectors };
    const { coverage } = await this.#options.reader.exemplars(options, take, this.#context(context));
    return { series: [...series.values()], coverage: coverage.map(withoutEmptyReason), warnings: [] };
  }

  async metadata(name: string, context: QueryContext): Promise<Metadata & { entries: MetricMetadata[] }> {
    const range = { fromMs: 0, toMs: LAST_MS };
    const { values, coverage } = await this.#options.reader.metadata(name, range, this.#context(context));
    const entries = values.flatMap(parseMetadataText).sort((a, b) => compareUtf8(a.name, b.name));
    return { entries, coverage: coverage.map(withoutEmptyReason), warnings: [] };
  }

  #selection({ matchers, fromMs, toMs }: SelectRequest): SelectOptions {
    const { maxSeries, maxSamples } = this.#options;
    return {
      matchers,
      // Samples begin at 1970; a selector with an offset or at the epoch may ask for earlier.
      fromMs: Math.max(0, fromMs),
      toMs: Math.max(0, toMs),
      ...(maxSeries === undefined ? {} : { maxSeries }),
      ...(maxSamples === undefined ? {} : { maxSamples }),
    };
  }

  #context({ signal, region }: QueryContext): ReadContext {
    const { timeoutMs } = this.#options;
    return { signal, ...(timeoutMs === undefined ? {} : { timeoutMs }), ...(region === undefined ? {} : { region }) };
  }
}

/** The last moment that can be asked for: the end of what JavaScript's dates can name. */
const LAST_MS = 8_640_000_000_000_000;

function bounded({ fromMs, toMs }: TimeRange): TimeRange {
  return { fromMs: Math.min(Math.max(0, fromMs), LAST_MS), toMs: Math.min(Math.max(0, toMs), LAST_MS) };
}

function withoutEmptyReason(entry: Coverage): Coverage {
  if (entry.reason !== '') return entry;
  const { shard, fromMs, toMs, state, copy } = entry;
  return copy === undefined ? { shard, fromMs, toMs, state } : { shard, fromMs, toMs, state, copy };
}

/** The series of several pages. Each series comes from one copy of its shard, so each label set occurs once. */
class PagedSeries implements SeriesSet {
  readonly count: number;
  readonly coverage: readonly Coverage[];
  readonly warnings: readonly string[] = [];
  readonly #pages: readonly Page[];
  /** For each page, the number of series before it. */
  readonly #starts: Uint32Array;
  readonly #codec: Pick<ChunkCodec, 'decode'>;
  readonly #fromMs: number;
  readonly #toMs: number;
  #lastPage = 0;
  #sampleCount: number | undefined;
  #timestamps = new Float64Array(0);
  #values = new Float64Array(0);

  constructor(
    pages: readonly Page[],
    codec: Pick<ChunkCodec, 'decode'>,
    fromMs: number,
    toMs: number,
    coverage: readonly Coverage[],
  ) {
    this.#pages = pages;
    this.#codec = codec;
    this.#fromMs = fromMs;
    this.#toMs = toMs;
    this.coverage = coverage;
    this.#starts = new Uint32Array(pages.length);
    let count = 0;
    pages.forEach((page, i) => {
      this.#starts[i] = count;
      count += page.count;
    });
    this.count = count;
  }

  get sampleCount(): number {
    this.#sampleCount ??= this.#pages.reduce((sum, page) => sum + page.sampleCount, 0);
    return this.#sampleCount;
  }

  labels(index: number): Labels {
    return this.#page(index).labels(index - (this.#starts[this.#lastPage] as number));
  }

  columns(index: number): Columns {
    const chunks = this.#page(index).chunks(index - (this.#starts[this.#lastPage] as number));
    const decoded = this.#codec.decode(chunks, this.#fromMs, this.#toMs);
    const { length } = decoded.timestamps;
    if (length > this.#timestamps.length) {
      const capacity = Math.max(256, 2 ** Math.ceil(Math.log2(length)));
      this.#timestamps = new Float64Array(capacity);
      this.#values = new Float64Array(capacity);
    }
    // The codec is shared by all queries: its views last until anybody's next decode.
    const timestamps = this.#timestamps.subarray(0, length);
    const values = this.#values.subarray(0, length);
    timestamps.set(decoded.timestamps);
    values.set(decoded.values);
    return { timestamps, values };
  }

  /** The page of a series. Series are mostly asked for in order. */
  #page(index: number): Page {
    if (index < (this.#starts[this.#lastPage] as number)) this.#lastPage = 0;
    while (this.#lastPage + 1 < this.#starts.length && index >= (this.#starts[this.#lastPage + 1] as number)) {
      this.#lastPage++;
    }
    return this.#pages[this.#lastPage] as Page;
  }
}
