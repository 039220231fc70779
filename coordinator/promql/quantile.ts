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
