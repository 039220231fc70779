/** Least squares. */
import { each } from './over.ts';
import { Kahan } from './sum.ts';
import type { Windows } from './window.ts';

/** Least squares over `[from, to)`; the intercept is at `interceptMs`. */
export function regress(
  w: Windows,
  from: number,
  to: number,
  interceptMs: number,
): { slope: number; intercept: number } {
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

/** The slope of each window (`deriv`). */
export const slopes = each((w, from, to) => regress(w, from, to, w.timestamps[from] as number).slope, 2);
