/**
 * Range vectors: the samples of a series, and for every step the window of them that a range function
 * looks at. Windows are index pairs into the columns, so that nothing is copied per step.
 */
import type { Labels } from '../../core/labels.ts';
import { dropName } from '../../core/promql/labelset.ts';
import { latest } from '../../core/promql/over.ts';
import { stripStale } from '../../core/promql/stale.ts';
import { type Reference, type Samples, Windows } from '../../core/promql/window.ts';
import type { SeriesSet } from '../query/queryable.ts';
import { namedLikeCounter } from './annotations.ts';
import { type Call, type Expr, unwrap, type VectorSelector } from './ast.ts';
import type { Context } from './context.ts';
import {
  BUSY,
  type Cursor,
  DONE,
  type Grid,
  type Names,
  type Progress,
  type RangeInput,
  SERIES,
  Slot,
} from './vector.ts';

/** The range vector of a selector. */
export class SelectedRange implements RangeInput {
  readonly names: Names;
  readonly rangeMs: number;
  readonly reference: Reference;
  readonly extent?: VectorSelector['extent'];
  readonly #set: SeriesSet;
  #at = 0;

  constructor(
    set: SeriesSet,
    options: { names: Names; rangeMs: number; reference: Reference; extent?: VectorSelector['extent'] },
  ) {
    this.#set = set;
    this.names = options.names;
    this.rangeMs = options.rangeMs;
    this.reference = options.reference;
    this.extent = options.extent;
  }

  next(samples: Samples): Progress {
    if (this.#at === this.#set.count) return DONE;
    const { timestamps, values } = this.#set.columns(this.#at);
    samples.labels = this.#set.labels(this.#at++);
    const stripped = stripStale(timestamps, values);
    samples.timestamps = stripped.timestamps;
    samples.values = stripped.values;
    samples.count = stripped.count;
    return samples.count === 0 ? BUSY : SERIES;
  }
}

/** The range vector of a subquery: the inner vector's points at the inner grid's steps. */
export class SubqueryRange implements RangeInput {
  readonly names: Names;
  readonly rangeMs: number;
  readonly reference: Reference;
  readonly #inner: Cursor;
  readonly #slot: Slot;
  readonly #grid: Float64Array;
  readonly #sparseTimestamps: Float64Array;
  readonly #sparseValues: Float64Array;

  constructor(inner: Cursor, grid: Grid, rangeMs: number, reference: Reference) {
    this.names = inner.names;
    this.rangeMs = rangeMs;
    this.reference = reference;
    this.#inner = inner;
    this.#slot = new Slot(grid.count);
    this.#grid = gridTimes(grid);
    this.#sparseTimestamps = new Float64Array(grid.count);
    this.#sparseValues = new Float64Array(grid.count);
  }

  next(samples: Samples): Progress {
    const slot = this.#slot;
    const progress = this.#inner.next(slot);
    if (progress !== SERIES) return progress;
    samples.labels = slot.labels;
    samples.count = slot.pointCount;
    if (slot.pointCount === this.#grid.length) {
      samples.timestamps = this.#grid;
      samples.values = slot.values;
      return SERIES;
    }
    let n = 0;
    for (let i = 0; i < this.#grid.length; i++) {
      if (slot.present[i] === 0) continue;
      this.#sparseTimestamps[n] = this.#grid[i] as number;
      this.#sparseValues[n++] = slot.values[i] as number;
    }
    samples.timestamps = this.#sparseTimestamps;
    samples.values = this.#sparseValues;
    return SERIES;
  }
}

/** The times of a grid's steps, ms. */
export function gridTimes(grid: Grid): Float64Array {
  return Float64Array.from({ length: grid.count }, (_, i) => grid.startMs + i * grid.stepMs);
}

/** The windows of a call of the language. */
export class CallWindows extends Windows {
  readonly call: Call;
  readonly context: Context;

  constructor(input: RangeInput, call: Call, scalars: readonly Float64Array[], context: Context) {
    const { rangeMs, reference, extent } = input;
    super({ rangeMs, reference, extent, steps: context.grid.count, lookbackMs: context.lookbackMs, scalars });
    this.call = call;
    this.context = context;
  }
}

/** A `WindowKernel` that may look at the call too. */
export type Kernel = (w: CallWindows, slot: Slot) => void;

export interface KernelOptions {
  readonly keepsName?: boolean;
  /** Visits a bounded number of samples a step, however wide the window. */
  readonly constantTime?: boolean;
  /** Meant for counters: other names get an info. */
  readonly counter?: boolean;
}

/** A range function over a range vector. */
export class RangeCursor implements Cursor {
  readonly names: Names;
  readonly #input: RangeInput;
  readonly #windows: CallWindows;
  readonly #kernel: Kernel;
  readonly #options: KernelOptions;
  #open = false;
  #checkedName = '';

  constructor(input: RangeInput, windows: CallWindows, kernel: Kernel, options: KernelOptions) {
    this.names = options.keepsName ? input.names : 'none';
    this.#input = input;
    this.#windows = windows;
    this.#kernel = kernel;
    this.#options = options;
  }

  next(slot: Slot): Progress {
    const w = this.#windows;
    const steps = w.low.length;
    if (!this.#open) {
      const progress = this.#input.next(w);
      if (progress !== SERIES) return progress;
      const { samples } = w.context;
      const visited = w.sweep(samples.perStep);
      samples.total += visited;
      if (visited === 0) return BUSY;
      slot.pointCount = 0;
      w.to = 0;
      this.#open = true;
    }
    w.nextSlice(this.#options.constantTime === true);
    w.context.budget.spend(w.count + w.to - w.from);
    this.#kernel(w, slot);
    if (w.to < steps) return BUSY;
    this.#open = false;
    if (slot.pointCount === 0) return BUSY;
    if (this.#options.counter) this.#checkName(w);
    slot.labels = this.#options.keepsName ? w.labels : dropName(w.labels);
    return SERIES;
  }

  #checkName(w: CallWindows): void {
    const name = w.labels[0] === '__name__' ? (w.labels[1] as string) : nameOf(w.labels);
    if (name === this.#checkedName) return;
    this.#checkedName = name;
    if (namedLikeCounter(name)) return;
    const arg = unwrap(w.call.args[0] as Expr);
    // Prometheus has put something without a position in the subquery's place by then.
    w.context.annotations.possibleNonCounter(name, arg.kind === 'subquery' ? { start: 0, end: 0 } : arg.span);
  }
}

function nameOf(labels: Labels): string {
  const at = labels.indexOf('__name__');
  return at >= 0 && at % 2 === 0 ? (labels[at + 1] as string) : '';
}

/** An instant vector: at each step the latest sample that is not older than the lookback, unless it is a stale marker. */
export class InstantCursor implements Cursor {
  readonly names: Names;
  readonly #set: SeriesSet;
  readonly #reference: Reference;
  readonly #context: Context;
  /** Answers the samples' timestamps, in seconds, in place of their values. */
  readonly #timestamps: boolean;
  #at = 0;

  constructor(
    set: SeriesSet,
    names: Names,
    reference: Reference,
    context: Context,
    answer: 'values' | 'timestamps' = 'values',
  ) {
    this.#set = set;
    this.names = names;
    this.#reference = reference;
    this.#context = context;
    this.#timestamps = answer === 'timestamps';
  }

  next(slot: Slot): Progress {
    if (this.#at === this.#set.count) return DONE;
    const { timestamps, values } = this.#set.columns(this.#at);
    const [answers, divisor] = this.#timestamps ? [timestamps, 1000] : [values, 1];
    const samples = { timestamps, values, count: timestamps.length };
    const points = latest(samples, answers, divisor, this.#reference, this.#context.lookbackMs, slot);
    this.#context.budget.spend(timestamps.length + slot.values.length);
    const index = this.#at++;
    slot.pointCount = points;
    if (points === 0) return BUSY;
    const looked = this.#context.samples;
    if (looked.perStep) for (let i = 0; i < slot.present.length; i++) looked.add(i, slot.present[i] as number);
    else looked.total += points;
    slot.labels = this.#set.labels(index);
    return SERIES;
  }
}
