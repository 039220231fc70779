/** The order in which series are read remotely. */
import { compareLabels, type Labels } from '../../core/labels.ts';
import { sortSlices } from '../../core/order.ts';
import type { Budget } from '../promql/budget.ts';
import type { SeriesSet } from '../query/queryable.ts';

export interface OrderedSeries {
  readonly index: number;
  readonly labels: Labels;
}

/** The series of `set` in the order of their labels, which is Prometheus's. */
export async function orderSeries(set: SeriesSet, budget: Budget): Promise<OrderedSeries[]> {
  const series: OrderedSeries[] = [];
  for (let index = 0; index < set.count; index++) {
    series.push({ index, labels: set.labels(index) });
    if (budget.due()) await budget.pause();
  }
  return sortSlices(series, (a, b) => compareLabels(a.labels, b.labels), budget);
}
