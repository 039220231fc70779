/** Sorting in slices: many series are sorted for longer than the loop may be held. */
import { compareLabels, type Labels } from '../../core/labels.ts';
import type { Budget } from '../promql/budget.ts';
import type { SeriesSet } from '../query/queryable.ts';

export interface OrderedSeries {
  readonly index: number;
  readonly labels: Labels;
}

/** Elements that are sorted without looking at the clock. */
const RUN_LENGTH = 256;

/** The series of `set` in the order of their labels, which is Prometheus's. */
export async function orderSeries(set: SeriesSet, budget: Budget): Promise<OrderedSeries[]> {
  const series: OrderedSeries[] = [];
  for (let index = 0; index < set.count; index++) {
    series.push({ index, labels: set.labels(index) });
    if (budget.due()) await budget.pause();
  }
  return sortSlices(series, (a, b) => compareLabels(a.labels, b.labels), budget);
}

/** A stable merge sort. */
export async function sortSlices<T>(
  elements: readonly T[],
  compare: (a: T, b: T) => number,
  budget: Budget,
): Promise<T[]> {
  let from: T[] = [];
  for (let start = 0; start < elements.length; start += RUN_LENGTH) {
    for (const element of elements.slice(start, start + RUN_LENGTH).sort(compare)) from.push(element);
    if (elements.length > RUN_LENGTH) await budget.pause();
  }
  for (let width = RUN_LENGTH; width < from.length; width *= 2) {
    const to: T[] = [];
    for (let start = 0; start < from.length; start += 2 * width) {
      const middle = Math.min(start + width, from.length);
      const end = Math.min(middle + width, from.length);
      for (let a = start, b = middle; a < middle || b < end; ) {
        const first = from[a] as T;
        const second = from[b] as T;
        if (a < middle && (b >= end || compare(first, second) <= 0)) {
          to.push(first);
          a++;
        } else {
          to.push(second);
          b++;
        }
        if (budget.due()) await budget.pause();
      }
    }
    from = to;
  }
  return from;
}
