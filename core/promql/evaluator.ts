/** What is asked of nodes beside samples, and how a series' steps are computed: the same whatever becomes of them. */
import { SilverbackError } from '../errors.ts';
import { type WindowFunction, windowFunction } from './functions.ts';
import type { Clause, KnownGroups } from './known.ts';
import { METRIC_NAME } from './labelset.ts';
import { latest } from './over.ts';
import { stripStale } from './stale.ts';
import { type Points, type Reference, Windows } from './window.ts';

/** What becomes of the series of a selector, or of a range function of each. */
export interface Aggregation {
  /** An aggregation that is mergeable (groups.ts); `topk`, `bottomk`: the series that have to be looked at; `values`: all of them. */
  readonly operation: string;
  /** Of `topk` and `bottomk`: how many of each group. */
  readonly limit: number;
  /** Not of `values`. */
  readonly grouping: readonly string[];
  readonly without: boolean;
  /** By its name (functions.ts); empty: the latest sample. */
  readonly function: string;
  /** Of a function that takes one; else 0. */
  readonly parameter: number;
  /** Of the function's windows; without one, the lookback. */
  readonly rangeMs: number;
  readonly reference: Reference;
  readonly steps: number;
  /** Samples that were looked at are counted by step too. */
  readonly perStep: boolean;
}

/** A group has to fit into a message. What has more steps (subqueries) is computed by whoever asks. */
export const MAX_STEPS = 100_000;

/** @throws INVALID_ARGUMENT naming what is not known or out of bounds. */
export function checkAggregation({ function: name, rangeMs, steps }: Aggregation): void {
  if (name !== '' && windowFunction(name) === undefined) throw notComputed('function', name);
  if (!(rangeMs > 0)) throw invalid(`an aggregation's range is ${rangeMs} ms, must be more than 0`);
  if (!(steps >= 1 && steps <= MAX_STEPS)) {
    throw invalid(`an aggregation has ${steps} steps, must have from 1 to ${MAX_STEPS}`);
  }
}

export function notComputed(what: string, name: string): SilverbackError {
  return invalid(`${what} ${JSON.stringify(name)} is not computed by nodes`);
}

function invalid(message: string): SilverbackError {
  return new SilverbackError('INVALID_ARGUMENT', message);
}

/** What was looked at for an answer. */
export interface Looked {
  /** Samples as the language counts them: one counts at each step that looks at it. */
  samples: number;
  readonly perStep: Float64Array | undefined;
  /** Series that have samples in the range. */
  series: number;
}

export function nothingLooked({ perStep, steps }: Pick<Aggregation, 'perStep' | 'steps'>): Looked {
  return { samples: 0, series: 0, perStep: perStep ? new Float64Array(steps) : undefined };
}

export function addLooked(to: Looked, { samples, series, perStep }: Looked): void {
  to.samples += samples;
  to.series += series;
  const own = to.perStep;
  if (own === undefined || perStep === undefined) return;
  for (let i = 0; i < own.length; i++) own[i] = (own[i] as number) + (perStep[i] as number);
}

/** What a node makes of series, one after the other. */
export interface Taker {
  readonly looked: Looked;
  /** Values held until the end, over all steps. */
  readonly pointCount: number;
  /** See `Evaluator.add`. */
  add(identity: Uint8Array, timestamps: Float64Array, values: Float64Array, count: number): boolean;
  resume(): boolean;
  /** Present when it needs no more of a series than its group. */
  readonly clause?: Clause;
  /** What comes now is of a shard whose series have these groups, by this clause. */
  within?(known: KnownGroups, identityOf: (id: number) => Uint8Array): void;
  /** Adds a series of this shard, otherwise as `add`. */
  addKnown?(id: number, timestamps: Float64Array, values: Float64Array, count: number): boolean;
}

/** The labels that tell groups apart, of those that are left once the aggregation's function has been applied. */
export function clauseOf({ grouping, without, function: name }: Aggregation): Clause {
  const names = without
    ? [METRIC_NAME, ...grouping]
    : grouping.filter((label) => keepsName(name) || label !== METRIC_NAME);
  return { names, isWithout: without };
}

/** Whether what is computed still bears the metric name: a selector's values, and those of a few functions. */
export function keepsName(name: string): boolean {
  return name === '' || windowFunction(name)?.keepsName === true;
}

/** Computes the steps of series, one series after the other, and hands on those that have any. */
export class Evaluator {
  readonly #aggregation: Aggregation;
  readonly #function: WindowFunction | undefined;
  readonly #looked: Looked;
  readonly #take: (identity: Uint8Array, points: Points) => void;
  readonly #windows: Windows;
  readonly #points: Points;
  /** Of the series that is not all added. */
  #identity = NO_BYTES;

  /** Of an aggregation that was checked. `take` gets views that are valid while it runs. */
  constructor(aggregation: Aggregation, looked: Looked, take: (identity: Uint8Array, points: Points) => void) {
    const { function: name, parameter, rangeMs, reference, steps } = aggregation;
    this.#function = windowFunction(name);
    this.#aggregation = aggregation;
    this.#looked = looked;
    this.#take = take;
    const scalars = this.#function?.hasParameter === true ? [new Float64Array(steps).fill(parameter)] : [];
    this.#windows = new Windows({ rangeMs, reference, steps, lookbackMs: 0, scalars });
    this.#points = { values: new Float64Array(steps), present: new Uint8Array(steps), pointCount: 0 };
  }

  /**
   * Adds a series: the first `count` of its samples, in time order, stale markers among them. False when there is more to do
   * than fits into a slice: `resume` is to be called then until it is true. Keeps no views of anything, however that may be.
   */
  add(identity: Uint8Array, timestamps: Float64Array, values: Float64Array, count: number): boolean {
    const w = this.#windows;
    const looked = this.#looked;
    w.to = this.#aggregation.steps;
    if (count === 0) return true;
    looked.series++;
    if (this.#function === undefined) {
      this.#latest(identity, timestamps, values, count);
      return true;
    }
    const stripped = stripStale(timestamps, values, count);
    w.timestamps = stripped.timestamps;
    w.values = stripped.values;
    w.count = stripped.count;
    const visited = w.sweep(looked.perStep);
    looked.samples += visited;
    if (visited === 0) return true;
    this.#points.pointCount = 0;
    w.to = 0;
    if (this.#slice(identity)) return true;
    this.#identity = identity.slice();
    w.timestamps = w.timestamps.slice(0, w.count);
    w.values = w.values.slice(0, w.count);
    return false;
  }

  /** Goes on with the series that `add` began. */
  resume(): boolean {
    return this.#slice(this.#identity);
  }

  #slice(identity: Uint8Array): boolean {
    const w = this.#windows;
    const { steps } = this.#aggregation;
    const { kernel, wide } = this.#function as WindowFunction;
    w.nextSlice(!wide);
    kernel(w, this.#points);
    if (w.to < steps) return false;
    if (this.#points.pointCount > 0) this.#take(identity, this.#points);
    return true;
  }

  #latest(identity: Uint8Array, timestamps: Float64Array, values: Float64Array, count: number): void {
    const { reference, rangeMs } = this.#aggregation;
    const looked = this.#looked;
    const points = this.#points;
    points.pointCount = latest({ timestamps, values, count }, values, 1, reference, rangeMs, points);
    if (points.pointCount === 0) return;
    looked.samples += points.pointCount;
    const { perStep } = looked;
    if (perStep !== undefined) {
      for (let i = 0; i < perStep.length; i++) perStep[i] = (perStep[i] as number) + (points.present[i] as number);
    }
    this.#take(identity, points);
  }
}

const NO_BYTES = new Uint8Array(0);
