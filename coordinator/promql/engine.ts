/**
 * The PromQL engine's door: text or tree in, columns out. It sees data only through a `Queryable`.
 */

import type { Env } from '../../core/env/env.ts';
import { compareLabels, type Labels } from '../../core/labels.ts';
import type { Matcher } from '../../core/matchers.ts';
import { sortSlices } from '../../core/order.ts';
import type { Groups } from '../../core/promql/groups.ts';
import { Samples } from '../../core/promql/window.ts';
import type {
  AggregateRequest,
  Coverage,
  Metadata,
  PointsSet,
  Queryable,
  QueryContext,
  SeriesSet,
  TimeRange,
} from '../query/queryable.ts';
import { Annotations } from './annotations.ts';
import { type Aggregate, type Expr, type MatrixSelector, type Subquery, unwrap, type VectorSelector } from './ast.ts';
import { Budget } from './budget.ts';
import { typeName, typeOf } from './check.ts';
import { collect } from './context.ts';
import { SampleCounter } from './counter.ts';
import { QueryError } from './error.ts';
import { Evaluation, scalarSlot } from './evaluate.ts';
import { parse, position } from './parse.ts';
import { Plan, type Pushed, type Reads } from './plan.ts';
import { print } from './print.ts';
import { gridTimes } from './range.ts';
import type { MatrixSeries, MatrixValue, Value } from './value.ts';
import { BUSY, DONE, type QueryGrid, type Slot } from './vector.ts';

export interface EngineOptions {
  /** How far back an instant selector looks for a sample: `(t - lookback, t]`. Default 5 minutes. */
  readonly lookbackMs?: number;
  /** Samples a query may hold in memory at once. Default 50 million. */
  readonly maxSamples?: number;
  /** Default 2 minutes. */
  readonly timeoutMs?: number;
  /** Steps that a range query may have, not counting the first. Default 11,000. */
  readonly maxPoints?: number;
  /** Series that the selectors of a query may find together. Default: any number. */
  readonly maxSeries?: number;
  /** Step of a subquery that names none. Default 1 minute. */
  readonly subqueryStepMs?: number;
  /** Allows the functions, aggregations and modifiers that Prometheus calls experimental. */
  readonly experimental?: boolean;
}

/** Steps of a range query, both ends inclusive, or the one moment of an instant query. Whole milliseconds. */
export type QueryTime =
  | { readonly startMs: number; readonly endMs: number; readonly stepMs: number }
  | { readonly timeMs: number };

export interface QueryOptions {
  readonly signal?: AbortSignal;
  /** Override the engine's, for this query. */
  readonly lookbackMs?: number;
  readonly timeoutMs?: number;
  /** Also count samples for each step (`stats=all`). */
  readonly perStepStats?: boolean;
  /** Of `QueryContext`. */
  readonly region?: string;
}

export interface QueryStats {
  /** Samples that were looked at, as Prometheus counts them: a window's samples count at every step. */
  readonly totalQueryableSamples: number;
  /** The most samples held at once. */
  readonly peakSamples: number;
  /** With `perStepStats`: samples of each step. */
  readonly samplesPerStep?: Float64Array;
  readonly seriesCount: number;
  /** Durations, milliseconds. */
  readonly parseMs: number;
  readonly selectMs: number;
  readonly evalMs: number;
  readonly totalMs: number;
}

export interface QueryResult {
  readonly value: Value;
  /** Texts as in the API's `warnings` and `infos`, storage warnings among them. */
  readonly warnings: readonly string[];
  readonly infos: readonly string[];
  readonly coverage: readonly Coverage[];
  readonly stats: QueryStats;
}

const NEVER = new AbortController().signal;

/** Trees that are kept, the oldest goes first, and the longest text whose tree is: some MB at most. */
const PARSED_COUNT = 256;
const PARSED_LENGTH = 1_024;

export class Engine {
  readonly #env: Pick<Env, 'clock' | 'timers'>;
  readonly #options: Required<EngineOptions>;
  /** Dashboards and rules ask the same again and again. A tree is never changed. */
  readonly #parsed = new Map<string, Expr>();

  constructor(env: Pick<Env, 'clock' | 'timers'>, options: EngineOptions = {}) {
    this.#env = env;
    this.#options = {
      lookbackMs: 300_000,
      maxSamples: 50_000_000,
      timeoutMs: 120_000,
      maxPoints: 11_000,
      maxSeries: Number.POSITIVE_INFINITY,
      subqueryStepMs: 60_000,
      experimental: false,
      ...options,
    };
  }

  /** How far back an instant selector looks where a query does not say it. */
  get lookbackMs(): number {
    return this.#options.lookbackMs;
  }

  /** Parses and checks a query as this engine would. Throws a QueryError `bad_data`. */
  parse(query: string): Expr {
    const known = this.#parsed.get(query);
    if (known !== undefined) return known;
    const expr = parse(query, { experimental: this.#options.experimental });
    if (query.length > PARSED_LENGTH) return expr;
    if (this.#parsed.size === PARSED_COUNT) this.#parsed.delete(this.#parsed.keys().next().value as string);
    this.#parsed.set(query, expr);
    return expr;
  }

  /**
   * The times whose samples a query's steps look at, a range for each selector; `lookbackMs` overrides the engine's. Undefined
   * where a duration in it cannot be worked out: evaluating says why.
   */
  reads(expr: Expr, time: QueryTime, lookbackMs = this.#options.lookbackMs): readonly TimeRange[] | undefined {
    try {
      const grid = gridOf(time, this.#options.maxPoints);
      return [...new Plan(grid, lookbackMs, this.#options.subqueryStepMs).reads(expr, 'none').selections.values()];
    } catch (error) {
      if (error instanceof QueryError) return undefined;
      throw error;
    }
  }

  /** Evaluates `query` over `time`. Rejects with a `QueryError`, or with the SilverbackError of the Queryable. */
  async query(
    queryable: Queryable,
    query: string | Expr,
    time: QueryTime,
    options: QueryOptions = {},
  ): Promise<QueryResult> {
    const { clock, timers } = this.#env;
    const startedMs = clock.monotonicMs();
    const grid = gridOf(time, this.#options.maxPoints);
    const expr = typeof query === 'string' ? this.parse(query) : query;
    const text = typeof query === 'string' ? query : print(query);
    checkType(expr, time);
    const parsedMs = clock.monotonicMs();

    const timeoutMs = options.timeoutMs ?? this.#options.timeoutMs;
    const caller = options.signal ?? NEVER;
    const stop = new AbortController();
    const cancel = (): void => stop.abort();
    const timer = timers.after(timeoutMs, cancel);
    caller.addEventListener('abort', cancel);
    const budget = new Budget(this.#env, {
      signal: caller,
      deadlineMs: startedMs + timeoutMs,
      maxSamples: this.#options.maxSamples,
    });
    try {
      if (caller.aborted) stop.abort();
      budget.check('query setup');
      const plan = new Plan(grid, options.lookbackMs ?? this.#options.lookbackMs, this.#options.subqueryStepMs);
      const annotations = new Annotations((offset) => position(text, offset));
      const { region } = options;
      const context = { signal: stop.signal, ...(region === undefined ? {} : { region }) };
      const reader = new Selections(queryable, context, annotations, this.#options.maxSeries);
      const pushes = queryable.aggregate === undefined ? 'none' : options.perStepStats ? 'per step' : 'in total';
      const read = await reader.readAll(plan.reads(expr, pushes));
      budget.check('query preparation');
      const selectedMs = clock.monotonicMs();
      const samples = new SampleCounter(grid.count, options.perStepStats ?? false);
      const selectNow = (matchers: readonly Matcher[], fromMs: number, toMs: number): Promise<SeriesSet> =>
        reader.read(matchers, { fromMs, toMs });
      const evaluation = new Evaluation({ plan, budget, annotations, ...read, selectNow }, grid, samples);
      const value = await evaluate(expr, evaluation, 'timeMs' in time);
      const endedMs = clock.monotonicMs();
      return {
        value,
        warnings: annotations.warnings,
        infos: annotations.infos,
        coverage: reader.coverage,
        stats: {
          totalQueryableSamples: samples.total,
          peakSamples: budget.peakSamples,
          ...(samples.perStep ? { samplesPerStep: samples.perStep } : {}),
          seriesCount: reader.seriesCount,
          parseMs: parsedMs - startedMs,
          selectMs: selectedMs - parsedMs,
          evalMs: endedMs - selectedMs,
          totalMs: endedMs - startedMs,
        },
      };
    } catch (cause) {
      // Whatever the storage said when it was told to stop: the reason is ours.
      if (stop.signal.aborted && !(cause instanceof QueryError)) throw budget.stopped('query execution');
      throw cause;
    } finally {
      timer.cancel();
      caller.removeEventListener('abort', cancel);
    }
  }
}

function gridOf(time: QueryTime, maxPoints: number): QueryGrid {
  if ('timeMs' in time) return { startMs: time.timeMs, endMs: time.timeMs, stepMs: 0, count: 1 };
  const { startMs, endMs, stepMs } = time;
  if (endMs < startMs) throw new QueryError('bad_data', 'end timestamp must not be before start time');
  if (!(stepMs > 0)) {
    throw new QueryError(
      'bad_data',
      'zero or negative query resolution step widths are not accepted. Try a positive integer',
    );
  }
  const steps = Math.floor((endMs - startMs) / stepMs);
  if (steps > maxPoints) {
    throw new QueryError(
      'bad_data',
      `exceeded maximum resolution of ${maxPoints.toLocaleString('en-US')} points per timeseries. Try decreasing the query resolution (?step=XX)`,
    );
  }
  return { startMs, endMs, stepMs, count: steps + 1 };
}

function checkType(expr: Expr, time: QueryTime): void {
  const type = typeOf(expr);
  if ('timeMs' in time || type === 'vector' || type === 'scalar') return;
  throw new QueryError(
    'bad_data',
    `invalid expression type "${typeName(type)}" for range query, must be Scalar or instant Vector`,
  );
}

/** Reads the selectors' data, each selection once, and gathers what is said about it. */
class Selections {
  readonly #queryable: Queryable;
  readonly #context: QueryContext;
  readonly #annotations: Annotations;
  readonly #maxSeries: number;
  readonly #coverage: Coverage[] = [];
  readonly #counted = new Set<string>();
  #answerCount = 0;
  seriesCount = 0;

  constructor(queryable: Queryable, context: QueryContext, annotations: Annotations, maxSeries: number) {
    this.#queryable = queryable;
    this.#context = context;
    this.#annotations = annotations;
    this.#maxSeries = maxSeries;
  }

  /** Each entry once. */
  get coverage(): Coverage[] {
    if (this.#answerCount < 2) return this.#coverage;
    return [...new Map(this.#coverage.map((entry) => [JSON.stringify(entry), entry])).values()];
  }

  /** All at once. Selectors that ask for the same share one answer: they are read one after the other. */
  async readAll({ selections, aggregations, vectors }: Reads): Promise<{
    selected: Map<VectorSelector, SeriesSet>;
    aggregated: Map<Aggregate, Groups>;
    computed: Map<Expr, PointsSet>;
  }> {
    const asked = new Map<string, Promise<unknown>>();
    const once = <Answer>(key: string, ask: () => Promise<Answer>): Promise<Answer> => {
      const answer = (asked.get(key) as Promise<Answer> | undefined) ?? ask();
      asked.set(key, answer);
      return answer;
    };
    const selected = new Map<VectorSelector, SeriesSet>();
    const aggregated = new Map<Aggregate, Groups>();
    const computed = new Map<Expr, PointsSet>();
    const select = async (selector: VectorSelector, range: TimeRange): Promise<void> => {
      const key = selectionKey(selector, range);
      selected.set(selector, await once(key, () => this.read(selector.matchers, range, key)));
    };
    const aggregate = async (expr: Aggregate, pushed: Pushed): Promise<void> => {
      const answer = await once(pushedKey(pushed), () => this.#aggregate(pushed));
      if (answer === undefined) await select(pushed.selector, pushed.range);
      else aggregated.set(expr, answer);
    };
    const compute = async (expr: Expr, pushed: Pushed): Promise<void> => {
      const answer = await once(pushedKey(pushed), () => this.#evaluate(pushed));
      if (answer === undefined) await select(pushed.selector, pushed.range);
      else computed.set(expr, answer);
    };
    await Promise.all([
      ...Array.from(selections, ([selector, range]) => select(selector, range)),
      ...Array.from(aggregations, ([expr, pushed]) => aggregate(expr, pushed)),
      ...Array.from(vectors, ([expr, pushed]) => compute(expr, pushed)),
    ]);
    return { selected, aggregated, computed };
  }

  async #aggregate(pushed: Pushed): Promise<Groups | undefined> {
    const answer = await this.#queryable.aggregate?.(requestOf(pushed), this.#context);
    if (answer === undefined) return undefined;
    this.#took(answer, answer.groups.looked.series, selectionKey(pushed.selector, pushed.range));
    return answer.groups;
  }

  async #evaluate(pushed: Pushed): Promise<PointsSet | undefined> {
    const answer = await this.#queryable.evaluate?.(requestOf(pushed), this.#context);
    if (answer === undefined) return undefined;
    this.#took(answer, answer.points.looked.series, selectionKey(pushed.selector, pushed.range));
    return answer.points;
  }

  async read(matchers: readonly Matcher[], range: TimeRange, key?: string): Promise<SeriesSet> {
    const set = await this.#queryable.select({ ...range, matchers }, this.#context);
    this.#took(set, set.count, key);
    return set;
  }

  /** Series of the same selection, by `key`, count once. */
  #took({ warnings, coverage }: Metadata, seriesCount: number, key: string | undefined): void {
    for (const warning of warnings) this.#annotations.storage(warning);
    for (const entry of coverage) this.#coverage.push(entry);
    this.#answerCount++;
    if (key !== undefined && this.#counted.has(key)) return;
    if (key !== undefined) this.#counted.add(key);
    this.seriesCount += seriesCount;
    if (this.seriesCount > this.#maxSeries) {
      throw new QueryError(
        'execution',
        `the query selects ${this.seriesCount} series where at most ${this.#maxSeries} are allowed`,
      );
    }
  }
}

function requestOf({ selector, range, aggregation }: Pushed): AggregateRequest {
  return { ...range, matchers: selector.matchers, aggregation };
}

function pushedKey(pushed: Pushed): string {
  // Of itself JSON does not tell NaN from infinities.
  return JSON.stringify([requestOf(pushed), String(pushed.aggregation.parameter)]);
}

function selectionKey({ matchers }: VectorSelector, { fromMs, toMs }: TimeRange): string {
  return JSON.stringify([fromMs, toMs, matchers]);
}

async function evaluate(expr: Expr, evaluation: Evaluation, instant: boolean): Promise<Value> {
  const { grid } = evaluation;
  const timeMs = grid.startMs;
  const type = typeOf(expr);
  const inner = unwrap(expr);
  if (inner.kind === 'string') return { type: 'string', timeMs, value: inner.value };
  if (inner.kind === 'matrix' || inner.kind === 'subquery') return rangeVector(inner, evaluation);
  if (type === 'scalar') {
    const values = await evaluation.scalar(expr);
    if (instant) return { type: 'scalar', timeMs, value: values[0] as number };
    return matrix([scalarSlot(values)], evaluation);
  }
  const slots = await collect(await evaluation.vector(expr), evaluation);
  if (!instant) return matrix(slots, evaluation);
  return {
    type: 'vector',
    timeMs,
    labels: slots.map((slot) => slot.labels),
    values: Float64Array.from(slots, (slot) => slot.values[0] as number),
  };
}

function byLabels(a: { labels: Labels }, b: { labels: Labels }): number {
  return compareLabels(a.labels, b.labels);
}

/** A range query's answer: series in order of their labels, those without gaps on one timestamps array. */
async function matrix(slots: readonly Slot[], { grid, budget }: Evaluation): Promise<MatrixValue> {
  const times = gridTimes(grid);
  const series: MatrixSeries[] = [];
  for (const { labels, values, present, pointCount } of slots) {
    if (budget.due()) await budget.pause();
    if (pointCount === grid.count) {
      series.push({ labels, timestamps: times, values });
      continue;
    }
    if (pointCount === 0) continue;
    const kept = { labels, timestamps: new Float64Array(pointCount), values: new Float64Array(pointCount) };
    let n = 0;
    for (let i = 0; i < grid.count; i++) {
      if (present[i] === 0) continue;
      kept.timestamps[n] = times[i] as number;
      kept.values[n++] = values[i] as number;
    }
    series.push(kept);
    budget.spend(grid.count);
  }
  return { type: 'matrix', series: await sortSlices(series, byLabels, budget) };
}

/** An instant query's range vector: the samples themselves. */
async function rangeVector(expr: MatrixSelector | Subquery, evaluation: Evaluation): Promise<MatrixValue> {
  const input = await evaluation.range(expr);
  const endMs = input.reference.startMs;
  const samples = new Samples();
  const series: MatrixSeries[] = [];
  for (let progress = input.next(samples); progress !== DONE; progress = input.next(samples)) {
    if (evaluation.budget.due()) await evaluation.budget.pause();
    if (progress === BUSY) continue;
    const { timestamps } = samples;
    let from = 0;
    let to = samples.count;
    while (from < to && (timestamps[from] as number) <= endMs - input.rangeMs) from++;
    while (to > from && (timestamps[to - 1] as number) > endMs) to--;
    if (from === to) continue;
    evaluation.budget.hold(to - from);
    evaluation.samples.add(0, to - from);
    series.push({
      labels: samples.labels,
      timestamps: timestamps.slice(from, to),
      values: samples.values.slice(from, to),
    });
  }
  return { type: 'matrix', series: await sortSlices(series, byLabels, evaluation.budget) };
}
