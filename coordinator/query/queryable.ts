/**
 * What the PromQL engine needs of the world, and no more. The cluster's fan-out implements it for
 * the coordinator; a small in-memory store implements it for the engine's tests.
 */
import type { Labels } from '../../core/labels.ts';
import type { Matcher } from '../../core/matchers.ts';
import type { MetricMetadata } from '../../core/metadata.ts';
import type { Aggregation, Looked } from '../../core/promql/evaluator.ts';
import type { Groups } from '../../core/promql/groups.ts';
import type { Points } from '../../core/promql/window.ts';

/** Milliseconds, both ends inclusive: a selector `(t-range, t]` asks for `fromMs = t-range+1`. */
export interface TimeRange {
  readonly fromMs: number;
  readonly toMs: number;
}

export interface SelectRequest extends TimeRange {
  readonly matchers: readonly Matcher[];
}

export type CoverageState = 'complete' | 'unconfirmed' | 'missing';

/** What is known to be in an answer, per shard and time range (ms, inclusive). */
export interface Coverage {
  readonly shard: number;
  readonly fromMs: number;
  readonly toMs: number;
  readonly state: CoverageState;
  /** Why it is not complete, in words an operator can act on. */
  readonly reason?: string;
  /** The copy whose samples these are, `region/node`; undefined when none answered, or where there are no copies. */
  readonly copy?: string;
}

/** The samples of one series, in time order, timestamps unique, ms. Stale markers are among them. */
export interface Columns {
  readonly timestamps: Float64Array;
  /** NaN payloads are kept bit for bit: look at them through a Uint32Array, not as numbers. */
  readonly values: Float64Array;
}

/** A selection, decoded a series at a time so that a wide query never holds every sample at 16 bytes. */
export interface SeriesSet {
  readonly count: number;
  labels(index: number): Labels;
  /** Views that stay valid until the next call of `columns` on this set. */
  columns(index: number): Columns;
  readonly coverage: readonly Coverage[];
  readonly warnings: readonly string[];
  /** Encoded samples in the set, counted without decoding; limits use it. */
  readonly sampleCount: number;
}

export interface AggregateRequest extends SelectRequest {
  readonly aggregation: Aggregation;
}

/** An aggregation of a selection, from where the series are. */
export interface Aggregated extends Metadata {
  readonly groups: Groups;
}

/** Series whose steps were computed where they are. */
export interface PointsSet {
  readonly looked: Looked;
  /** Of `topk` and `bottomk` a few more than have points. */
  readonly count: number;
  /** All of them in turn, from the first on, with or without their metric names; any number of readers may be under way. */
  read(isNameless: boolean): PointsReader;
}

export interface PointsReader {
  /** Writes the next series' labels and points; false when there is none. */
  next(into: Points & { labels: Labels }): boolean;
}

export interface Evaluated extends Metadata {
  readonly points: PointsSet;
}

export interface QueryContext {
  /** Aborted when the client went away or the query's time is up. */
  readonly signal: AbortSignal;
  /** Read copies in this region only. Default: the nearest that answers. */
  readonly region?: string;
}

export interface Metadata {
  readonly coverage: readonly Coverage[];
  readonly warnings: readonly string[];
}

export interface ExemplarSeries {
  readonly labels: Labels;
  /** In order of time. */
  readonly exemplars: readonly { readonly labels: Labels; readonly value: number; readonly timestampMs: number }[];
}

/** What is kept beside samples. */
export interface AnnexQueryable {
  /** Series that match any of `selectors` and have exemplars in the range, in no order. */
  exemplars(
    range: TimeRange,
    selectors: readonly (readonly Matcher[])[],
    context: QueryContext,
  ): Promise<Metadata & { series: ExemplarSeries[] }>;
  /** Of one metric or, with an empty name, of all. In order of names, the latest entry of each first. */
  metadata(name: string, context: QueryContext): Promise<Metadata & { entries: MetricMetadata[] }>;
}

export interface Queryable {
  /** Order of the series is unspecified; each label set occurs once. Rejects with a SilverbackError. */
  select(request: SelectRequest, context: QueryContext): Promise<SeriesSet>;
  /**
   * The same, aggregated. Undefined when the selection is the cheaper question; absent where series are at hand anyway.
   */
  aggregate?(request: AggregateRequest, context: QueryContext): Promise<Aggregated | undefined>;
  /** The same of an operation that leaves series as they are. */
  evaluate?(request: AggregateRequest, context: QueryContext): Promise<Evaluated | undefined>;
  /** Names of the labels of the series matching any of `selectors` (all series when empty), sorted by UTF-8 bytes. */
  labelNames(
    range: TimeRange,
    selectors: readonly (readonly Matcher[])[],
    context: QueryContext,
  ): Promise<Metadata & { names: string[] }>;
  labelValues(
    name: string,
    range: TimeRange,
    selectors: readonly (readonly Matcher[])[],
    context: QueryContext,
  ): Promise<Metadata & { values: string[] }>;
  /** Label sets of the series that have samples in the range, each once. */
  series(
    range: TimeRange,
    selectors: readonly (readonly Matcher[])[],
    context: QueryContext,
  ): Promise<Metadata & { series: Labels[] }>;
}
