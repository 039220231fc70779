/** Quantiles of values that are sorted already. */

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
