/** The `..._over_time` functions that nodes compute too, and the choice of an instant selector. */
import { isStale } from './stale.ts';
import { Kahan, kahanMean, kahanSum } from './sum.ts';
import type { Points, Reference, WindowKernel, Windows } from './window.ts';

/** A kernel that looks at each window by itself. `at` may ask for windows of at least `least` samples. */
export function each<W extends Windows>(
  at: (w: W, from: number, to: number, step: number) => number,
  least = 1,
): (w: W, points: Points) => void {
  return (w, points) => {
    for (let i = w.from; i < w.to; i++) {
      const from = w.low[i] as number;
      const to = w.high[i] as number;
      if (to - from < least) {
        points.present[i] = 0;
        continue;
      }
      points.values[i] = at(w, from, to, i);
      points.present[i] = 1;
      points.pointCount++;
    }
  };
}

export const count = each((_, from, to) => to - from);
export const one = each(() => 1);
export const last = each((w, _, to) => w.values[to - 1] as number);
export const total = each((w, from, to) => kahanSum(w.values, from, to));
export const mean = each((w, from, to) => kahanMean(w.values, from, to));
export const first = each((w, from) => w.values[from] as number);
export const spread = each(variance);
export const deviation = each((w, from, to) => Math.sqrt(variance(w, from, to)));

function variance({ values }: Windows, from: number, to: number): number {
  const average = new Kahan();
  const squares = new Kahan();
  for (let i = from; i < to; i++) {
    const v = values[i] as number;
    const delta = v - (average.sum + average.c);
    average.add(delta / (i - from + 1));
    squares.add(delta * (v - (average.sum + average.c)));
  }
  return (squares.sum + squares.c) / (to - from);
}

/** Candidates of a sliding extreme: indices whose values ascend (or descend) from the best one on. */
let deque = new Int32Array(64);

/**
 * The first of the largest (`sign` 1) or smallest (`sign` -1) values of each window, NaN only when there is nothing
 * else. A monotone deque: every sample enters and leaves once, however many windows hold it.
 */
export function extreme(sign: 1 | -1): WindowKernel {
  return (w, points) => {
    const { values, low, high } = w;
    if (deque.length < w.count) deque = new Int32Array(2 * w.count);
    const candidates = deque;
    let head = 0;
    let tail = 0;
    let next = low[w.from] as number;
    for (let i = w.from; i < w.to; i++) {
      const from = low[i] as number;
      const to = high[i] as number;
      if (next < from) next = from;
      for (; next < to; next++) {
        const v = sign * (values[next] as number);
        if (Number.isNaN(v)) continue;
        while (tail > head && sign * (values[candidates[tail - 1] as number] as number) < v) tail--;
        candidates[tail++] = next;
      }
      while (head < tail && (candidates[head] as number) < from) head++;
      if (to === from) {
        points.present[i] = 0;
        continue;
      }
      points.values[i] = (head < tail ? values[candidates[head] as number] : values[to - 1]) as number;
      points.present[i] = 1;
      points.pointCount++;
    }
  };
}

/** Picks for every step the latest sample, and writes what `answers` has at its place, divided. Returns the number of points. */
export function latest(
  { timestamps, values, count }: Pick<Windows, 'timestamps' | 'values' | 'count'>,
  answers: Float64Array,
  divisor: number,
  reference: Reference,
  lookbackMs: number,
  into: Points,
): number {
  const out = into.values;
  const present = into.present;
  const { startMs, stepMs } = reference;
  let next = 0;
  let points = 0;
  for (let i = 0; i < out.length; i++) {
    const time = startMs + i * stepMs;
    while (next < count && (timestamps[next] as number) <= time) next++;
    const at = next - 1;
    if (at < 0 || (timestamps[at] as number) <= time - lookbackMs) {
      present[i] = 0;
      continue;
    }
    const value = values[at] as number;
    if (Number.isNaN(value) && isStale(values, at)) {
      present[i] = 0;
      continue;
    }
    out[i] = divisor === 1 ? (answers[at] as number) : (answers[at] as number) / divisor;
    present[i] = 1;
    points++;
  }
  return points;
}
