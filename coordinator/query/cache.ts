/**
 * Answers of range queries, kept by stretches of steps that lie in one window (2 h), each with the versions of all
 * windows whose samples it was made of. A query asks the nodes for the versions of what it reads, takes the stretches whose
 * versions still hold, evaluates the rest, and puts both together.
 *
 * Invariants
 * - Versions are asked for before the samples are read: a write in between makes a stretch look older than it is, never newer.
 * - A stretch is kept only when every copy it was read from was complete, and all windows it read have ended: one that is
 *   written to every second would never be of use.
 * - Versions and samples of a shard come from the same copy: another one may lag, and not know it yet.
 * - Late samples, deletions, a restart or another copy of a shard give other versions; nothing has to be told about them.
 *
 * A query whose steps depend on its own start or end, or that reads no window that has ended, passes by and costs nothing.
 */
import type { Clock, Timers } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import { WINDOW_MS } from '../../core/kernel/shard.ts';
import { compareLabels, formatLabels } from '../../core/labels.ts';
import { sortSlices } from '../../core/order.ts';
import type { DurationExpr, Expr } from '../promql/ast.ts';
import { Budget } from '../promql/budget.ts';
import type { Engine, QueryOptions, QueryResult } from '../promql/engine.ts';
import { gridTimes } from '../promql/range.ts';
import type { MatrixSeries } from '../promql/value.ts';
import type { Coverage, Queryable, QueryContext, TimeRange } from './queryable.ts';

/** What a window holds, as a text that changes when it does; windows without samples are not named. */
export interface WindowVersions {
  /** By window start. */
  readonly versions: ReadonlyMap<number, string>;
  readonly coverage: readonly Coverage[];
}

export interface ResultCacheOptions {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly engine: Pick<Engine, 'query' | 'parse' | 'reads'>;
  readonly queryable: Queryable;
  readonly windowVersions: (range: TimeRange, context: QueryContext) => Promise<WindowVersions>;
  /** What the kept answers may take; those not used for longest go first. */
  readonly maxBytes: number;
}

export interface RangeTime {
  readonly startMs: number;
  readonly endMs: number;
  readonly stepMs: number;
}

export interface CachedResult extends QueryResult {
  /** Steps that were not evaluated, because a kept answer held them. */
  readonly cachedSteps: number;
}

export interface ResultCacheStats {
  readonly bytes: number;
  readonly stretchCount: number;
  /** Steps answered from the cache, and steps evaluated of queries that could have been. */
  readonly hitSteps: number;
  readonly missedSteps: number;
  /** Stretches that were dropped because a window had changed, or for room. */
  readonly staleCount: number;
  readonly evictedCount: number;
}

/** Steps of a query that lie in one window, and the windows that they read. */
interface Group {
  readonly windowStartMs: number;
  /** Positions in the query's grid; `to` is exclusive. */
  readonly from: number;
  readonly to: number;
  readonly firstMs: number;
  readonly lastMs: number;
  readonly windows: readonly number[];
}

/** A kept answer. */
interface Stretch {
  readonly firstMs: number;
  readonly lastMs: number;
  /** Version by window; undefined: it had no samples. */
  readonly versions: ReadonlyMap<number, string | undefined>;
  readonly series: ReadonlyMap<string, MatrixSeries>;
  readonly infos: readonly string[];
  readonly bytes: number;
}

const SERIES_BYTES = 256;
const STRETCH_BYTES = 1024;

export class ResultCache {
  readonly #options: ResultCacheOptions;
  /** In order of use. */
  readonly #stretches = new Map<string, Stretch>();
  #bytes = 0;
  #hitSteps = 0;
  #missedSteps = 0;
  #staleCount = 0;
  #evictedCount = 0;

  constructor(options: ResultCacheOptions) {
    this.#options = options;
  }

  /** As `Engine.query`, of a range. */
  async query(text: string, time: RangeTime, options: QueryOptions = {}): Promise<CachedResult> {
    const { engine, queryable } = this.#options;
    const groups = options.perStepStats === true ? undefined : this.#groups(text, time, options);
    if (groups === undefined) return { ...(await engine.query(queryable, text, time, options)), cachedSteps: 0 };

    const known = await this.#versions(groups, options);
    if (known === undefined) return { ...(await engine.query(queryable, text, time, options)), cachedSteps: 0 };
    const key = keyOf(text, time, options);
    const found = groups.map((group) => this.#find(key, group, known.versions));
    const first = found.indexOf(undefined);
    const last = found.lastIndexOf(undefined);
    const fresh = first < 0 ? undefined : groups.slice(first, last + 1);
    const result = fresh === undefined ? undefined : await this.#evaluate(text, time, options, fresh);
    const budget = this.#budget(options);
    if (result !== undefined && fresh !== undefined) await this.#keep(key, fresh, known, result, budget);

    const evaluated = fresh === undefined ? 0 : count(fresh);
    const cachedSteps = count(groups) - evaluated;
    this.#hitSteps += cachedSteps;
    this.#missedSteps += evaluated;
    if (cachedSteps === 0 && result !== undefined) return { ...result, cachedSteps };
    const pieces = [
      ...found
        .slice(0, first < 0 ? found.length : first)
        .map((stretch, i) => cut(stretch as Stretch, groups[i] as Group)),
      ...(result === undefined ? [] : [seriesOf(result)]),
      ...(last < 0
        ? []
        : found.slice(last + 1).map((stretch, i) => cut(stretch as Stretch, groups[last + 1 + i] as Group))),
    ];
    const infos = new Set([...(result?.infos ?? []), ...found.flatMap((stretch) => stretch?.infos ?? [])]);
    return {
      value: { type: 'matrix', series: await join(pieces, time, budget) },
      warnings: result?.warnings ?? [],
      infos: [...infos],
      // What was evaluated lies within what was asked for versions.
      coverage: result === undefined || isComplete(result.coverage) ? known.coverage : result.coverage,
      stats: result?.stats ?? NO_STATS,
      cachedSteps,
    };
  }

  stats(): ResultCacheStats {
    return {
      bytes: this.#bytes,
      stretchCount: this.#stretches.size,
      hitSteps: this.#hitSteps,
      missedSteps: this.#missedSteps,
      staleCount: this.#staleCount,
      evictedCount: this.#evictedCount,
    };
  }

  /** The query in groups of steps; undefined when the cache is of no use to it. */
  #groups(text: string, time: RangeTime, options: QueryOptions): readonly Group[] | undefined {
    const { engine, clock } = this.#options;
    const { startMs, endMs, stepMs } = time;
    const nowMs = clock.nowMs();
    if (!(stepMs > 0) || startMs + WINDOW_MS > nowMs || endMs < startMs) return undefined;
    let expr: Expr;
    try {
      expr = engine.parse(text);
    } catch {
      // The engine says it again, in its own order of complaints.
      return undefined;
    }
    // The engine's bound of steps holds for the query as a whole, however much of it is kept.
    if (!isStepwise(expr) || engine.reads(expr, time, options.lookbackMs) === undefined) return undefined;
    const stepCount = Math.floor((endMs - startMs) / stepMs) + 1;
    const groups: Group[] = [];
    let useful = false;
    for (let from = 0; from < stepCount; ) {
      if (groups.length === MAX_GROUPS) return undefined;
      const firstMs = startMs + from * stepMs;
      const windowStartMs = Math.floor(firstMs / WINDOW_MS) * WINDOW_MS;
      const to = Math.min(stepCount, Math.ceil((windowStartMs + WINDOW_MS - startMs) / stepMs));
      const lastMs = startMs + (to - 1) * stepMs;
      const ranges = engine.reads(expr, { startMs: firstMs, endMs: lastMs, stepMs }, options.lookbackMs);
      if (ranges === undefined) return undefined;
      const windows = windowsOf(ranges);
      if (windows.length > MAX_GROUPS) return undefined;
      useful ||= windows.every((window) => window + WINDOW_MS <= nowMs);
      groups.push({ windowStartMs, from, to, firstMs, lastMs, windows });
      from = to;
    }
    return useful ? groups : undefined;
  }

  /**
   * The versions of all that the query reads; undefined when not all of them are to be had soon: then the query is evaluated
   * as if there were no cache, and says itself what is wrong.
   */
  async #versions(groups: readonly Group[], { signal, region }: QueryOptions): Promise<WindowVersions | undefined> {
    const stop = new AbortController();
    const cancel = () => stop.abort();
    const timer = this.#options.timers.after(VERSIONS_MS, cancel);
    signal?.addEventListener('abort', cancel);
    try {
      if (signal?.aborted === true) return undefined;
      const context = { signal: stop.signal, ...(region === undefined ? {} : { region }) };
      const known = await this.#options.windowVersions(hull(groups), context);
      return isComplete(known.coverage) ? known : undefined;
    } catch (error) {
      if (error instanceof SilverbackError) return undefined;
      throw error;
    } finally {
      timer.cancel();
      signal?.removeEventListener('abort', cancel);
    }
  }

  #find(key: string, group: Group, versions: ReadonlyMap<number, string>): Stretch | undefined {
    const name = `${key}${group.windowStartMs}`;
    const stretch = this.#stretches.get(name);
    if (stretch === undefined || stretch.firstMs > group.firstMs || stretch.lastMs < group.lastMs) return undefined;
    for (const window of group.windows) {
      if (stretch.versions.get(window) === versions.get(window)) continue;
      this.#drop(name, stretch);
      this.#staleCount++;
      return undefined;
    }
    this.#stretches.delete(name);
    this.#stretches.set(name, stretch);
    return stretch;
  }

  #evaluate(text: string, time: RangeTime, options: QueryOptions, fresh: readonly Group[]): Promise<QueryResult> {
    const { engine, queryable } = this.#options;
    const startMs = (fresh[0] as Group).firstMs;
    const endMs = (fresh.at(-1) as Group).lastMs;
    return engine.query(queryable, text, { startMs, endMs, stepMs: time.stepMs }, options);
  }

  /** For the turns that joining and keeping take; time and samples were the evaluation's to bound. */
  #budget({ signal = NEVER }: QueryOptions): Budget {
    return new Budget(this.#options, { signal, deadlineMs: Infinity, maxSamples: Infinity });
  }

  async #keep(
    key: string,
    fresh: readonly Group[],
    known: WindowVersions,
    result: QueryResult,
    budget: Budget,
  ): Promise<void> {
    if (result.warnings.length > 0 || !isComplete(result.coverage)) return;
    if (!isOfSameCopies(result.coverage, known.coverage)) return;
    const nowMs = this.#options.clock.nowMs();
    const whole = seriesOf(result);
    for (const group of fresh) {
      if (group.windows.some((window) => window + WINDOW_MS > nowMs)) continue;
      const series = new Map<string, MatrixSeries>();
      let bytes = STRETCH_BYTES;
      for (const [name, { labels, timestamps, values }] of whole) {
        if (bytes > this.#options.maxBytes / 4) break;
        if (budget.due()) await budget.pause();
        const from = lowerBound(timestamps, group.firstMs);
        const to = lowerBound(timestamps, group.lastMs + 1);
        if (from === to) continue;
        series.set(name, { labels, timestamps: timestamps.slice(from, to), values: values.slice(from, to) });
        bytes += SERIES_BYTES + name.length + 16 * (to - from);
      }
      if (bytes > this.#options.maxBytes / 4) continue;
      const name = `${key}${group.windowStartMs}`;
      const before = this.#stretches.get(name);
      if (before !== undefined) this.#drop(name, before);
      const stamps = new Map(group.windows.map((window) => [window, known.versions.get(window)]));
      const { firstMs, lastMs } = group;
      this.#stretches.set(name, { firstMs, lastMs, versions: stamps, series, infos: result.infos, bytes });
      this.#bytes += bytes;
    }
    for (const [name, stretch] of this.#stretches) {
      if (this.#bytes <= this.#options.maxBytes) break;
      this.#drop(name, stretch);
      this.#evictedCount++;
    }
  }

  #drop(name: string, stretch: Stretch): void {
    this.#stretches.delete(name);
    this.#bytes -= stretch.bytes;
  }
}

/** How long versions are waited for, on top of the time that the query has. */
const VERSIONS_MS = 1_000;
/** A query over more windows than this (six weeks) is not looked up. */
const MAX_GROUPS = 512;

const NEVER = new AbortController().signal;

const NO_STATS = {
  totalQueryableSamples: 0,
  peakSamples: 0,
  seriesCount: 0,
  parseMs: 0,
  selectMs: 0,
  evalMs: 0,
  totalMs: 0,
};

/** Queries that share steps share this. */
function keyOf(text: string, { startMs, stepMs }: RangeTime, { lookbackMs, region }: QueryOptions): string {
  return `${text}\0${stepMs}\0${startMs % stepMs}\0${lookbackMs ?? ''}\0${region ?? ''}\0`;
}

function isComplete(coverage: readonly Coverage[]): boolean {
  return coverage.every(({ state }) => state === 'complete');
}

/** Whether each shard's samples come from the copy that gave its versions. */
function isOfSameCopies(samples: readonly Coverage[], versions: readonly Coverage[]): boolean {
  const copies = new Map(versions.map(({ shard, copy }) => [shard, copy]));
  return samples.every(({ shard, copy }) => copies.get(shard) === copy);
}

function count(groups: readonly Group[]): number {
  return groups.reduce((sum, { from, to }) => sum + to - from, 0);
}

function windowsOf(ranges: readonly TimeRange[]): number[] {
  const windows = new Set<number>();
  for (const { fromMs, toMs } of ranges) {
    for (let at = Math.floor(Math.max(0, fromMs) / WINDOW_MS) * WINDOW_MS; at <= toMs; at += WINDOW_MS) {
      windows.add(at);
      if (windows.size > MAX_GROUPS) break;
    }
  }
  return [...windows];
}

function hull(groups: readonly Group[]): TimeRange {
  let fromMs = Number.POSITIVE_INFINITY;
  let toMs = 0;
  for (const { windows } of groups) {
    for (const window of windows) {
      fromMs = Math.min(fromMs, window);
      toMs = Math.max(toMs, window + WINDOW_MS - 1);
    }
  }
  return { fromMs: Math.min(fromMs, toMs), toMs };
}

function seriesOf({ value }: QueryResult): Map<string, MatrixSeries> {
  const series = value.type === 'matrix' ? value.series : [];
  return new Map(series.map((one) => [formatLabels(one.labels), one]));
}

/** The part of a stretch that a group asks for; views. */
function cut({ series, firstMs, lastMs }: Stretch, group: Group): ReadonlyMap<string, MatrixSeries> {
  if (firstMs === group.firstMs && lastMs === group.lastMs) return series;
  const part = new Map<string, MatrixSeries>();
  for (const [name, { labels, timestamps, values }] of series) {
    const from = lowerBound(timestamps, group.firstMs);
    const to = lowerBound(timestamps, group.lastMs + 1);
    if (from === to) continue;
    part.set(name, { labels, timestamps: timestamps.subarray(from, to), values: values.subarray(from, to) });
  }
  return part;
}

/** Pieces in order of time, as one answer in order of labels. */
async function join(
  pieces: readonly ReadonlyMap<string, MatrixSeries>[],
  time: RangeTime,
  budget: Budget,
): Promise<MatrixSeries[]> {
  const parts = new Map<string, MatrixSeries[]>();
  for (const piece of pieces) {
    for (const [name, one] of piece) {
      const before = parts.get(name);
      if (before === undefined) parts.set(name, [one]);
      else before.push(one);
      if (budget.due()) await budget.pause();
    }
  }
  const stepCount = Math.floor((time.endMs - time.startMs) / time.stepMs) + 1;
  const times = gridTimes({ startMs: time.startMs, stepMs: time.stepMs, count: stepCount });
  const joined: MatrixSeries[] = [];
  for (const members of parts.values()) {
    const { labels } = members[0] as MatrixSeries;
    const length = members.reduce((sum, { timestamps }) => sum + timestamps.length, 0);
    const dense = length === stepCount;
    const timestamps = dense ? times : new Float64Array(length);
    const values = new Float64Array(length);
    let at = 0;
    for (const member of members) {
      if (!dense) timestamps.set(member.timestamps, at);
      values.set(member.values, at);
      at += member.values.length;
    }
    joined.push({ labels, timestamps, values });
    budget.spend(length);
    if (budget.due()) await budget.pause();
  }
  return sortSlices(joined, (a, b) => compareLabels(a.labels, b.labels), budget);
}

function lowerBound(sorted: Float64Array, value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] as number) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Whether every step's answer is the same whatever range it is asked in. */
function isStepwise(expr: Expr): boolean {
  switch (expr.kind) {
    case 'number':
    case 'string':
      return true;
    case 'selector':
      return isPlaced(expr) && isFixed(expr.offset);
    case 'matrix':
      return isStepwise(expr.selector) && isFixed(expr.range);
    case 'subquery':
      return (
        isStepwise(expr.expr) && isPlaced(expr) && isFixed(expr.offset) && isFixed(expr.range) && isFixed(expr.step)
      );
    case 'aggregate':
      // Which series `limitk` keeps depends on the order in which they come; a parameter is taken at the first step.
      return expr.op !== 'limitk' && (expr.param === undefined || isConstant(expr.param)) && isStepwise(expr.expr);
    case 'call':
      // `info` reads series that its arguments do not name.
      return expr.name !== 'info' && expr.args.every(isStepwise);
    case 'binary':
      return isStepwise(expr.lhs) && isStepwise(expr.rhs);
    case 'unary':
    case 'paren':
      return isStepwise(expr.expr);
  }
}

function isConstant(expr: Expr): boolean {
  if (expr.kind === 'paren' || expr.kind === 'unary') return isConstant(expr.expr);
  return expr.kind === 'number' || expr.kind === 'string';
}

/** Not `@ start()` or `@ end()`. */
function isPlaced({ at }: { readonly at?: { readonly timeMs: number } | { readonly preprocessor: string } }): boolean {
  return at === undefined || 'timeMs' in at;
}

/** Not made of the query's own range. */
function isFixed(duration: DurationExpr | undefined): boolean {
  switch (duration?.kind) {
    case 'durationRange':
      return false;
    case 'durationParen':
    case 'durationUnary':
      return isFixed(duration.expr);
    case 'durationBinary':
      return isFixed(duration.lhs) && isFixed(duration.rhs);
    default:
      return true;
  }
}
