/** The `..._over_time` family, regressions and smoothing: a window of samples to one value. */

import { count, extreme, last, mean, one, total } from '../../../core/promql/over.ts';
import { Kahan } from '../../../core/promql/sum.ts';
import type { Expr } from '../ast.ts';
import { QueryError } from '../error.ts';
import { quantile, sortNanFirst } from '../quantile.ts';
import type { CallWindows, Kernel } from '../range.ts';
import type { Slot } from '../vector.ts';
import type { WindowFunction } from './row.ts';

/** A kernel that looks at each window by itself. `at` may ask for windows of at least `least` samples. */
function each(at: (w: CallWindows, from: number, to: number, step: number) => number, least = 1): Kernel {
  return (w: CallWindows, slot: Slot): void => {
    for (let i = w.from; i < w.to; i++) {
      const from = w.low[i] as number;
      const to = w.high[i] as number;
      if (to - from < least) {
        slot.present[i] = 0;
        continue;
      }
      slot.values[i] = at(w, from, to, i);
      slot.present[i] = 1;
      slot.pointCount++;
    }
  };
}

const seconds = (w: CallWindows, at: number): number => (w.timestamps[at] as number) / 1000;

/** Where the last of the largest (or smallest) values of a window stands. */
function extremeAt(sign: 1 | -1): (w: CallWindows, from: number, to: number) => number {
  return (w, from, to) => {
    let best = from;
    for (let i = from; i < to; i++) {
      const b = w.values[best] as number;
      if (sign * (w.values[i] as number) >= sign * b || Number.isNaN(b)) best = i;
    }
    return seconds(w, best);
  };
}

function variance(w: CallWindows, from: number, to: number): number {
  const mean = new Kahan();
  const aux = new Kahan();
  for (let i = from; i < to; i++) {
    const v = w.values[i] as number;
    const delta = v - (mean.sum + mean.c);
    mean.add(delta / (i - from + 1));
    aux.add(delta * (v - (mean.sum + mean.c)));
  }
  return (aux.sum + aux.c) / (to - from);
}

/** A window's values in order, kept sorted while it slides. */
class SortedWindow {
  #values = new Float64Array(64);
  #count = 0;
  #from = 0;
  #to = 0;

  /** The values of `[from, to)` of a series, sorted, NaN first; the first `to - from` of the answer. */
  slide(w: CallWindows, from: number, to: number): Float64Array {
    const changed = Math.abs(from - this.#from) + Math.abs(to - this.#to);
    if (from < this.#from || to < this.#to || from >= this.#to || changed * 4 > to - from) {
      if (this.#values.length < to - from) this.#values = new Float64Array(2 * (to - from));
      this.#values.set(w.values.subarray(from, to));
      sortNanFirst(this.#values, to - from);
      this.#count = to - from;
    } else {
      for (let i = this.#from; i < from; i++) this.#remove(w.values[i] as number);
      for (let i = this.#to; i < to; i++) this.#insert(w.values[i] as number);
    }
    this.#from = from;
    this.#to = to;
    return this.#values;
  }

  forget(): void {
    this.#from = 0;
    this.#to = 0;
    this.#count = 0;
  }

  /** The first place whose value is not below `v`; NaN is below everything. */
  #search(v: number): number {
    if (Number.isNaN(v)) return 0;
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const m = this.#values[middle] as number;
      if (m < v || Number.isNaN(m)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #remove(v: number): void {
    const at = this.#search(v);
    this.#values.copyWithin(at, at + 1, this.#count--);
  }

  #insert(v: number): void {
    if (this.#count === this.#values.length) {
      const grown = new Float64Array(2 * this.#count);
      grown.set(this.#values);
      this.#values = grown;
    }
    const at = this.#search(v);
    this.#values.copyWithin(at + 1, at, this.#count++);
    this.#values[at] = v;
  }
}

const sorted = new SortedWindow();

const quantiles: Kernel = (w, slot) => {
  const qs = w.scalars[0] as Float64Array;
  sorted.forget();
  each((w, from, to, step) => {
    const q = qs[step] as number;
    if (!(q >= 0 && q <= 1)) w.context.annotations.invalidQuantile(q, (w.call.args[0] as Expr).span);
    return quantile(q, sorted.slide(w, from, to), to - from);
  })(w, slot);
};

let deviations = new Float64Array(64);

function medianDeviation(w: CallWindows, from: number, to: number): number {
  const count = to - from;
  if (deviations.length < count) deviations = new Float64Array(2 * count);
  deviations.set(w.values.subarray(from, to));
  sortNanFirst(deviations, count);
  if (Number.isNaN(deviations[0] as number)) return Number.NaN;
  const median = quantile(0.5, deviations, count);
  for (let i = 0; i < count; i++) deviations[i] = Math.abs((w.values[from + i] as number) - median);
  sortNanFirst(deviations, count);
  return quantile(0.5, deviations, count);
}

/** Least squares over `[from, to)`; the intercept is at `interceptMs`. */
function regress(w: CallWindows, from: number, to: number, interceptMs: number): { slope: number; intercept: number } {
  const { timestamps, values } = w;
  const x = new Kahan();
  const y = new Kahan();
  const xy = new Kahan();
  const x2 = new Kahan();
  const first = values[from] as number;
  let constant = true;
  for (let i = from; i < to; i++) {
    const v = values[i] as number;
    if (constant && i > from && v !== first) constant = false;
    const t = ((timestamps[i] as number) - interceptMs) / 1e3;
    x.add(t);
    y.add(v);
    xy.add(t * v);
    x2.add(t * t);
  }
  if (constant) {
    return Math.abs(first) === Infinity ? { slope: Number.NaN, intercept: Number.NaN } : { slope: 0, intercept: first };
  }
  const n = to - from;
  const sumX = x.sum + x.c;
  const sumY = y.sum + y.c;
  const covariance = xy.sum + xy.c - (sumX * sumY) / n;
  const spread = x2.sum + x2.c - (sumX * sumX) / n;
  const slope = covariance / spread;
  return { slope, intercept: sumY / n - (slope * sumX) / n };
}

function smooth(w: CallWindows, from: number, to: number, step: number): number {
  const sf = w.scalars[0]?.[step] as number;
  const tf = w.scalars[1]?.[step] as number;
  const { values } = w;
  let s0 = 0;
  let s1 = values[from] as number;
  let b = (values[from + 1] as number) - (values[from] as number);
  for (let i = from + 1; i < to; i++) {
    const x = sf * (values[i] as number);
    if (i > from + 1) b = tf * (s1 - s0) + (1 - tf) * b;
    const y = (1 - sf) * (s1 + b);
    s0 = s1;
    s1 = x + y;
  }
  return s1;
}

/** Checks the factors where there is a window at all, then smooths those of two samples and more. */
const smoothing: Kernel = (w, slot) => {
  for (let i = w.from; i < w.to; i++) {
    if (w.low[i] === w.high[i]) continue;
    checkFactor('smoothing', 'sf', w.scalars[0]?.[i] as number);
    checkFactor('trend', 'tf', w.scalars[1]?.[i] as number);
  }
  each(smooth, 2)(w, slot);
};

function checkFactor(what: string, short: string, factor: number): void {
  if (factor > 0 && factor < 1) return;
  throw new QueryError('execution', `invalid ${what} factor. Expected: 0 < ${short} < 1, got: ${factor.toFixed(6)}`);
}

const matrix = { kind: 'window', returns: 'vector', args: ['matrix'] } as const;
const constant = { ...matrix, constantTime: true } as const;

export const WINDOW: readonly WindowFunction[] = [
  { ...constant, name: 'count_over_time', kernel: count },
  { ...constant, name: 'present_over_time', kernel: one },
  { ...constant, name: 'last_over_time', keepsName: true, kernel: last },
  {
    ...constant,
    name: 'first_over_time',
    keepsName: true,
    kernel: each((w, from) => w.values[from] as number),
  },
  { ...constant, name: 'ts_of_first_over_time', experimental: true, kernel: each((w, from) => seconds(w, from)) },
  { ...constant, name: 'ts_of_last_over_time', experimental: true, kernel: each((w, _, to) => seconds(w, to - 1)) },
  { ...constant, name: 'max_over_time', kernel: extreme(1) },
  { ...constant, name: 'min_over_time', kernel: extreme(-1) },
  { ...matrix, name: 'ts_of_max_over_time', experimental: true, kernel: each(extremeAt(1)) },
  { ...matrix, name: 'ts_of_min_over_time', experimental: true, kernel: each(extremeAt(-1)) },
  { ...matrix, name: 'sum_over_time', kernel: total },
  { ...matrix, name: 'avg_over_time', kernel: mean },
  { ...matrix, name: 'stdvar_over_time', kernel: each(variance) },
  { ...matrix, name: 'stddev_over_time', kernel: each((w, from, to) => Math.sqrt(variance(w, from, to))) },
  { ...matrix, name: 'mad_over_time', experimental: true, kernel: each(medianDeviation) },
  { ...matrix, name: 'quantile_over_time', args: ['scalar', 'matrix'], kernel: quantiles },
  {
    ...matrix,
    name: 'deriv',
    kernel: each((w, from, to) => regress(w, from, to, w.timestamps[from] as number).slope, 2),
  },
  {
    ...matrix,
    name: 'predict_linear',
    args: ['matrix', 'scalar'],
    stepDependent: true,
    kernel: each((w, from, to, step) => {
      const { startMs, stepMs } = w.context.grid;
      const { slope, intercept } = regress(w, from, to, startMs + step * stepMs);
      return slope * (w.scalars[0]?.[step] as number) + intercept;
    }, 2),
  },
  {
    ...matrix,
    name: 'double_exponential_smoothing',
    args: ['matrix', 'scalar', 'scalar'],
    experimental: true,
    kernel: smoothing,
  },
];
