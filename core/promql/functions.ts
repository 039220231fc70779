/** The range functions that nodes compute too. */
import { count, deviation, extreme, first, last, mean, one, spread, total } from './over.ts';
import { quantiles } from './quantile.ts';
import { countChanges, countResets, extrapolated, instantaneous } from './rate.ts';
import { slopes } from './regress.ts';
import type { WindowKernel } from './window.ts';

export interface WindowFunction {
  readonly kernel: WindowKernel;
  readonly keepsName?: boolean;
  /** Visits all samples of each window, however wide it is. */
  readonly wide?: boolean;
  /** Takes a number, before the range. */
  readonly hasParameter?: boolean;
}

const WINDOW_FUNCTIONS: ReadonlyMap<string, WindowFunction> = new Map<string, WindowFunction>([
  ['rate', { kernel: extrapolated(true, true) }],
  ['increase', { kernel: extrapolated(true, false) }],
  ['delta', { kernel: extrapolated(false, false) }],
  ['irate', { kernel: instantaneous(true) }],
  ['idelta', { kernel: instantaneous(false) }],
  ['resets', { kernel: countResets }],
  ['changes', { kernel: countChanges }],
  ['deriv', { kernel: slopes, wide: true }],
  ['sum_over_time', { kernel: total, wide: true }],
  ['avg_over_time', { kernel: mean, wide: true }],
  ['min_over_time', { kernel: extreme(-1) }],
  ['max_over_time', { kernel: extreme(1) }],
  ['count_over_time', { kernel: count }],
  ['present_over_time', { kernel: one }],
  ['first_over_time', { kernel: first, keepsName: true }],
  ['last_over_time', { kernel: last, keepsName: true }],
  ['stddev_over_time', { kernel: deviation, wide: true }],
  ['stdvar_over_time', { kernel: spread, wide: true }],
  ['quantile_over_time', { kernel: quantiles, wide: true, hasParameter: true }],
]);

/** Undefined when nodes do not compute the function; an answer that drops the metric name is told apart from one that keeps it. */
export function windowFunction(name: string): WindowFunction | undefined {
  return WINDOW_FUNCTIONS.get(name);
}
