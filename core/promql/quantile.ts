/** Quantiles: of values that are sorted already, of values in any order, of windows. */
import type { WindowKernel, Windows } from './window.ts';

/**
 * The `q`-quantile of the first `count` of `sorted` (ascending, NaN first), interpolated between
 * neighbours. -Inf below q 0, +Inf above 1, NaN for no values or q NaN.
 */
export function quantile(q: number, sorted: Float64Array, count: number): number {
  if (count === 0 || Number.isNaN(q)) return Number.NaN;
  if (q < 0) return -Infinity;
  if (q > 1) return Infinity;
  const rank = q * (count - 1);
  const lower = Math.max(0, Math.floor(rank));
  const upper = Math.min(count - 1, lower + 1);
  const weight = rank - Math.floor(rank);
  return (sorted[lower] as number) * (1 - weight) + (sorted[upper] as number) * weight;
}

/** The same of values in any order, which it changes: a quantile needs one place of the order, not all of it. */
export function selectQuantile(q: number, values: Float64Array, count: number): number {
  if (count === 0 || Number.isNaN(q)) return Number.NaN;
  if (q < 0) return -Infinity;
  if (q > 1) return Infinity;
  let nans = 0;
  for (let i = 0; i < count; i++) {
    const v = values[i] as number;
    if (!Number.isNaN(v)) continue;
    values[i] = values[nans] as number;
    values[nans++] = v;
  }
  const rank = q * (count - 1);
  const lower = Math.max(0, Math.floor(rank));
  if (lower < nans) return Number.NaN;
  place(values, nans, count - 1, lower);
  const a = values[lower] as number;
  let b = lower + 1 < count ? Infinity : a;
  for (let i = lower + 1; i < count; i++) if ((values[i] as number) < b) b = values[i] as number;
  const weight = rank - lower;
  return a * (1 - weight) + b * weight;
}

/** Rounds past which the values seem to be chosen against this. */
const MAX_ROUNDS = 64;

/** Puts the value that belongs at `target` there, with none larger before it and none smaller behind (Hoare's selection). */
function place(values: Float64Array, first: number, last: number, target: number): void {
  let left = first;
  let right = last;
  for (let round = 0; left < right; round++) {
    if (round === MAX_ROUNDS) {
      values.subarray(left, right + 1).sort();
      return;
    }
    const pivot = middleOf(values[left] as number, values[(left + right) >>> 1] as number, values[right] as number);
    let i = left;
    let j = right;
    while (i <= j) {
      while ((values[i] as number) < pivot) i++;
      while ((values[j] as number) > pivot) j--;
      if (i > j) break;
      const v = values[i] as number;
      values[i++] = values[j] as number;
      values[j--] = v;
    }
    if (target <= j) right = j;
    else if (target >= i) left = i;
    else return;
  }
}

function middleOf(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
}

/** Sorts the first `count` values in place, NaN first. */
export function sortNanFirst(values: Float64Array, count: number): void {
  const view = values.subarray(0, count);
  view.sort();
  let nans = 0;
  while (nans < count && Number.isNaN(view[count - 1 - nans] as number)) nans++;
  if (nans === 0 || nans === count) return;
  view.copyWithin(nans, 0, count - nans);
  view.fill(Number.NaN, 0, nans);
}

/** A window's values in order, kept sorted while it slides. */
class SortedWindow {
  #values = new Float64Array(64);
  #count = 0;
  #from = 0;
  #to = 0;

  /** The values of `[from, to)` of a series, sorted, NaN first; the first `to - from` of the answer. */
  slide(w: Windows, from: number, to: number): Float64Array {
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

  /** Whether sorting the window of a step is worth it: because it follows on the one before, or the next one on it. */
  pays(w: Windows, step: number): boolean {
    const from = w.low[step] as number;
    const to = w.high[step] as number;
    const isNear = (first: number, end: number) => 4 * (Math.abs(first - from) + Math.abs(end - to)) <= to - from;
    if (this.#to > this.#from && isNear(this.#from, this.#to)) return true;
    return step + 1 < w.to && isNear(w.low[step + 1] as number, w.high[step + 1] as number);
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

/** Values that are cheaply kept in order while all are looked at once. */
const MAX_KEPT = 16;
const kept = new Float64Array(MAX_KEPT);

/** Whether the quantile of so many values lies so near the largest or the smallest that `nearEnd` finds it soonest. */
function isNearEnd(q: number, count: number): boolean {
  if (!(q >= 0 && q <= 1)) return false;
  const lower = Math.floor(q * (count - 1));
  return Math.min(count - lower, lower + 2) <= MAX_KEPT;
}

/** The same as `quantile` of the sorted values in `[from, to)`: only as many are put in order as lie beyond it. */
function nearEnd(q: number, values: Float64Array, from: number, to: number): number {
  const count = to - from;
  const rank = q * (count - 1);
  const lower = Math.floor(rank);
  const isHigh = count - lower <= lower + 2;
  const size = isHigh ? count - lower : Math.min(count, lower + 2);
  const numbers = isHigh ? largest(values, from, to, size) : smallest(values, from, to, size);
  // NaN is below everything.
  const nans = count - numbers;
  if (lower < nans) return Number.NaN;
  const at = isHigh ? 0 : lower - nans;
  const a = kept[at] as number;
  const b = lower + 1 < count ? (kept[at + 1] as number) : a;
  const weight = rank - lower;
  return a * (1 - weight) + b * weight;
}

/** Puts the `size` largest numbers into `kept`, ascending; returns how many numbers there are in all. */
function largest(values: Float64Array, from: number, to: number, size: number): number {
  let numbers = 0;
  for (let i = from; i < to; i++) {
    const v = values[i] as number;
    if (Number.isNaN(v)) continue;
    let at = 0;
    if (numbers < size) {
      at = numbers;
      for (; at > 0 && (kept[at - 1] as number) > v; at--) kept[at] = kept[at - 1] as number;
      kept[at] = v;
    } else if (v > (kept[0] as number)) {
      for (; at + 1 < size && (kept[at + 1] as number) < v; at++) kept[at] = kept[at + 1] as number;
      kept[at] = v;
    }
    numbers++;
  }
  return numbers;
}

/** The same of the smallest. */
function smallest(values: Float64Array, from: number, to: number, size: number): number {
  let numbers = 0;
  for (let i = from; i < to; i++) {
    const v = values[i] as number;
    if (Number.isNaN(v)) continue;
    let at = Math.min(numbers, size - 1);
    numbers++;
    if (numbers > size && v >= (kept[at] as number)) continue;
    for (; at > 0 && (kept[at - 1] as number) > v; at--) kept[at] = kept[at - 1] as number;
    kept[at] = v;
  }
  return numbers;
}

const sorted = new SortedWindow();
let unsorted = new Float64Array(64);

/** The quantile of each window: `scalars[0]` says which. */
export const quantiles: WindowKernel = (w, points) => {
  const qs = w.scalars[0] as Float64Array;
  sorted.forget();
  for (let i = w.from; i < w.to; i++) {
    const from = w.low[i] as number;
    const to = w.high[i] as number;
    if (from === to) {
      points.present[i] = 0;
      continue;
    }
    const q = qs[i] as number;
    if (isNearEnd(q, to - from)) points.values[i] = nearEnd(q, w.values, from, to);
    else if (sorted.pays(w, i)) points.values[i] = quantile(q, sorted.slide(w, from, to), to - from);
    else points.values[i] = selectQuantile(q, copyOf(w.values, from, to), to - from);
    points.present[i] = 1;
    points.pointCount++;
  }
};

function copyOf(values: Float64Array, from: number, to: number): Float64Array {
  if (unsorted.length < to - from) unsorted = new Float64Array(2 * (to - from));
  for (let i = from; i < to; i++) unsorted[i - from] = values[i] as number;
  return unsorted;
}
