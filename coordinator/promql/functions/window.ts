/** The `..._over_time` family, regressions and smoothing: a window of samples to one value. */

import { count, deviation, each, extreme, first, last, mean, one, spread, total } from '../../../core/promql/over.ts';
import { quantile, quantiles, sortNanFirst } from '../../../core/promql/quantile.ts';
import { regress, slopes } from '../../../core/promql/regress.ts';
import type { Expr } from '../ast.ts';
import { QueryError } from '../error.ts';
import type { CallWindows, Kernel } from '../range.ts';
import type { WindowFunction } from './row.ts';

const seconds = ({ timestamps }: Pick<CallWindows, 'timestamps'>, at: number): number =>
  (timestamps[at] as number) / 1000;

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

/** The same kernel as nodes use, with a warning where there is a window at all. */
const checkedQuantiles: Kernel = (w, slot) => {
  const qs = w.scalars[0] as Float64Array;
  for (let i = w.from; i < w.to; i++) {
    const q = qs[i] as number;
    if (w.low[i] === w.high[i] || (q >= 0 && q <= 1)) continue;
    w.context.annotations.invalidQuantile(q, (w.call.args[0] as Expr).span);
  }
  quantiles(w, slot);
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
  { ...constant, name: 'first_over_time', keepsName: true, kernel: first },
  { ...constant, name: 'ts_of_first_over_time', experimental: true, kernel: each((w, from) => seconds(w, from)) },
  { ...constant, name: 'ts_of_last_over_time', experimental: true, kernel: each((w, _, to) => seconds(w, to - 1)) },
  { ...constant, name: 'max_over_time', kernel: extreme(1) },
  { ...constant, name: 'min_over_time', kernel: extreme(-1) },
  { ...matrix, name: 'ts_of_max_over_time', experimental: true, kernel: each(extremeAt(1)) },
  { ...matrix, name: 'ts_of_min_over_time', experimental: true, kernel: each(extremeAt(-1)) },
  { ...matrix, name: 'sum_over_time', kernel: total },
  { ...matrix, name: 'avg_over_time', kernel: mean },
  { ...matrix, name: 'stdvar_over_time', kernel: spread },
  { ...matrix, name: 'stddev_over_time', kernel: deviation },
  { ...matrix, name: 'mad_over_time', experimental: true, kernel: each(medianDeviation) },
  { ...matrix, name: 'quantile_over_time', args: ['scalar', 'matrix'], kernel: checkedQuantiles },
  { ...matrix, name: 'deriv', kernel: slopes },
  {
    ...matrix,
    name: 'predict_linear',
    args: ['matrix', 'scalar'],
    stepDependent: true,
    kernel: each((w: CallWindows, from, to, step) => {
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
