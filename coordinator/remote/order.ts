/** The order of the series of a set, found in slices: many series are sorted for longer than the loop may be held. */
import { compareLabels, type Labels } from '../../core/labels.ts';
import type { Budget } from '../promql/budget.ts';
import type { SeriesSet } from '../query/queryable.ts';

export interface OrderedSeries {
  readonly index: number;
  readonly labels: Labels;
}

/** Series that are sorted without looking at the clock. */
const RUN_LENGTH = 256;

/** The series of `set` in the order of their labels, which is Prometheus's. */
export async function orderSeries(set: SeriesSet, budget: Budget): Promise<OrderedSeries[]> {
  let from: OrderedSeries[] = [];
  for (let start = 0; start < set.count; start += RUN_LENGTH) {
    const run: OrderedSeries[] = [];
    for (let i = start; i < Math.min(start + RUN_LENGTH, set.count); i++) run.push({ index: i, labels: set.labels(i) });
    run.sort(byLabels);
    for (const series of run) from.push(series);
    await budget.pause();
  }
  for (let width = RUN_LENGTH; width < from.length; width *= 2) {
    const to: OrderedSeries[] = [];
    for (let start = 0; start < from.length; start += 2 * width) {
      const middle = Math.min(start + width, from.length);
      const end = Math.min(middle + width, from.length);
      for (let a = start, b = middle; a < middle || b < end; ) {
        const first = from[a] as OrderedSeries;
        const second = from[b] as OrderedSeries;
        if (a < middle && (b >= end || byLabels(first, second) <= 0)) {
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

function byLabels(a: OrderedSeries, b: OrderedSeries): number {
  return compareLabels(a.labels, b.labels);
}
