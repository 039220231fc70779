/**
 * Functions of classic histograms: series of cumulative counts, told apart by `le`. Those that are
 * defined on native histograms alone (histogram_count and others) find none and answer nothing.
 */
import { type Labels, labelValue } from '../../../core/labels.ts';
import { labelsKey, METRIC_NAME, withLabel, without } from '../../../core/promql/labelset.ts';
import type { Call, Expr, Span } from '../ast.ts';
import { type Context, collect } from '../context.ts';
import { formatFloat } from '../literal.ts';
import { mergeSlots } from '../map.ts';
import { type Cursor, EMPTY, Kept, Slot } from '../vector.ts';
import { text } from './label.ts';
import type { VectorFunction } from './row.ts';

/** Differences up to this part of a count are rounding, not a reset. */
const PRECISION = 1e-12;
/** The smallest float64 that is not denormal. */
const MIN_NORMAL = 2 ** -1022;

/** One histogram: its series by ascending bound. */
interface Histogram {
  readonly labels: Labels;
  readonly bounds: number[];
  readonly slots: Slot[];
}

/** Go's ParseFloat of a bound; NaN when it is none. */
function parseBound(le: string): number {
  if (/^[+-]?inf(inity)?$/i.test(le)) return le[0] === '-' ? -Infinity : Infinity;
  return /^[+-]?(\d|\.\d)/.test(le) ? Number(le.replaceAll('_', '')) : Number.NaN;
}

/** Sorts the series of a vector into histograms. */
function group(slots: readonly Slot[], context: Context, span: Span): Histogram[] {
  const byLabels = new Map<string, { labels: Labels; buckets: { bound: number; slot: Slot }[] }>();
  for (const slot of slots) {
    const le = labelValue(slot.labels, 'le');
    const bound = parseBound(le);
    if (Number.isNaN(bound) && !/^nan$/i.test(le)) {
      context.annotations.badBucketLabel(le, span);
      continue;
    }
    const key = labelsKey(without(slot.labels, ['le']));
    let entry = byLabels.get(key);
    if (entry === undefined) {
      entry = { labels: without(slot.labels, ['le', METRIC_NAME]), buckets: [] };
      byLabels.set(key, entry);
    }
    entry.buckets.push({ bound, slot });
  }
  return [...byLabels.values()].map(({ labels, buckets }) => {
    buckets.sort((a, b) => a.bound - b.bound);
    return { labels, bounds: buckets.map((b) => b.bound), slots: buckets.map((b) => b.slot) };
  });
}

/** A histogram's buckets at one step: ascending bounds, cumulative counts. Reused from step to step. */
class Buckets {
  readonly bounds: Float64Array;
  readonly counts: Float64Array;
  length = 0;

  constructor(capacity: number) {
    this.bounds = new Float64Array(capacity);
    this.counts = new Float64Array(capacity);
  }

  /** Takes the present buckets of a step; those of equal bounds become one. */
  load(histogram: Histogram, step: number): void {
    this.length = 0;
    for (let i = 0; i < histogram.slots.length; i++) {
      const slot = histogram.slots[i] as Slot;
      if (slot.present[step] === 0) continue;
      const bound = histogram.bounds[i] as number;
      const count = slot.values[step] as number;
      if (this.length > 0 && this.bounds[this.length - 1] === bound) {
        this.counts[this.length - 1] = (this.counts[this.length - 1] as number) + count;
      } else {
        this.bounds[this.length] = bound;
        this.counts[this.length++] = count;
      }
    }
  }

  /** Takes back differences that are mere rounding, and lifts counts below those before them. Returns whether any was lifted. */
  makeMonotonic(): boolean {
    const { counts, length } = this;
    let lifted = false;
    let previous = counts[0] as number;
    for (let i = 1; i < length; i++) {
      const count = counts[i] as number;
      if (count === previous) continue;
      if (almostEqual(previous, count)) counts[i] = previous;
      else if (count < previous) {
        counts[i] = previous;
        lifted = true;
      } else previous = count;
    }
    return lifted;
  }
}

/** Prometheus's `almost.Equal`: a relative difference, except next to 0. */
function almostEqual(a: number, b: number): boolean {
  if (Number.isNaN(a) && Number.isNaN(b)) return true;
  const sum = Math.abs(a) + Math.abs(b);
  const difference = Math.abs(a - b);
  if (a === 0 || b === 0 || sum < MIN_NORMAL) return difference < PRECISION * MIN_NORMAL;
  return difference / Math.min(sum, Number.MAX_VALUE) < PRECISION;
}

/** Prometheus's `BucketQuantile`. `onLifted` hears of counts that had to be made monotonic. */
function bucketQuantile(q: number, buckets: Buckets, onLifted: () => void): number {
  if (Number.isNaN(q)) return Number.NaN;
  if (q < 0) return -Infinity;
  if (q > 1) return Infinity;
  const { bounds, counts } = buckets;
  const top = buckets.length - 1;
  if (bounds[top] !== Infinity) return Number.NaN;
  const lifted = buckets.makeMonotonic();
  if (top < 1) return Number.NaN;
  const observations = counts[top] as number;
  if (observations === 0) return Number.NaN;
  if (lifted) onLifted();
  let rank = q * observations;
  let low = 0;
  let high = top;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((counts[middle] as number) >= rank) high = middle;
    else low = middle + 1;
  }
  if (low === top) return bounds[top - 1] as number;
  if (low === 0 && (bounds[0] as number) <= 0) return bounds[0] as number;
  let start = 0;
  const end = bounds[low] as number;
  let count = counts[low] as number;
  if (low > 0) {
    start = bounds[low - 1] as number;
    count -= counts[low - 1] as number;
    rank -= counts[low - 1] as number;
  }
  return start + (end - start) * (rank / count);
}

/** Prometheus's `BucketFraction`. */
function bucketFraction(lower: number, upper: number, buckets: Buckets): number {
  const { bounds, counts, length } = buckets;
  if (bounds[length - 1] !== Infinity) return Number.NaN;
  const total = counts[length - 1] as number;
  if (total === 0 || Number.isNaN(lower) || Number.isNaN(upper)) return Number.NaN;
  if (lower >= upper) return 0;
  const rankOf = (v: number): number => {
    let rank = 0;
    let start = (bounds[0] as number) > 0 ? 0 : -Infinity;
    for (let i = 0; i < length; i++) {
      if (i > 0) start = bounds[i - 1] as number;
      if (start >= v) return rank;
      const end = bounds[i] as number;
      const count = counts[i] as number;
      if (end > v) return start === -Infinity ? count : rank + ((count - rank) * (v - start)) / (end - start);
      rank = count;
    }
    return total;
  };
  return (Math.min(rankOf(upper), total) - Math.min(rankOf(lower), total)) / total;
}

/** One answer for each histogram and step. */
async function evaluate(
  call: Call,
  context: Context,
  vectorAt: number,
  answer: (buckets: Buckets, step: number) => number,
  label: (labels: Labels) => Labels = (labels) => labels,
): Promise<Slot[]> {
  const arg = call.args[vectorAt] as Expr;
  const slots = await collect(await context.vector(arg), context);
  const results: Slot[] = [];
  for (const histogram of group(slots, context, arg.span)) {
    const result = new Slot(context.grid.count);
    result.labels = label(histogram.labels);
    const buckets = new Buckets(histogram.slots.length);
    for (let step = 0; step < context.grid.count; step++) {
      buckets.load(histogram, step);
      if (buckets.length === 0) continue;
      result.values[step] = answer(buckets, step);
      result.present[step] = 1;
      result.pointCount++;
    }
    if (result.pointCount > 0) results.push(result);
    if (context.budget.due()) await context.budget.pause();
  }
  return results;
}

/** Warns of quantiles outside 0 to 1, wherever in the range they are. */
function checkQuantiles(qs: Float64Array, span: Span, context: Context): void {
  for (const q of qs) if (!(q >= 0 && q <= 1)) context.annotations.invalidQuantile(q, span);
}

async function quantiles(call: Call, context: Context): Promise<Cursor> {
  const [q, vector] = call.args as [Expr, Expr];
  const qs = await context.scalar(q);
  const onLifted = (): void => context.annotations.forcedMonotonicity(vector.span);
  const slots = await evaluate(call, context, 1, (buckets, step) =>
    bucketQuantile(qs[step] as number, buckets, onLifted),
  );
  checkQuantiles(qs, q.span, context);
  return new Kept(mergeSlots(slots), 'none');
}

async function fractions(call: Call, context: Context): Promise<Cursor> {
  const lower = await context.scalar(call.args[0] as Expr);
  const upper = await context.scalar(call.args[1] as Expr);
  const slots = await evaluate(call, context, 2, (buckets, step) =>
    bucketFraction(lower[step] as number, upper[step] as number, buckets),
  );
  return new Kept(mergeSlots(slots), 'none');
}

/** Several quantiles at once, told apart by a label. */
async function manyQuantiles(call: Call, context: Context): Promise<Cursor> {
  const vector = call.args[0] as Expr;
  const name = text(call, 1);
  const onLifted = (): void => context.annotations.forcedMonotonicity(vector.span);
  const all: Slot[] = [];
  for (const arg of call.args.slice(2)) {
    const qs = await context.scalar(arg);
    checkQuantiles(qs, arg.span, context);
    const value = openMetricsFloat(qs[0] as number);
    const answer = (buckets: Buckets, step: number): number => bucketQuantile(qs[step] as number, buckets, onLifted);
    all.push(...(await evaluate(call, context, 0, answer, (labels) => withLabel(labels, name, value))));
  }
  return new Kept(mergeSlots(all), 'none');
}

/** OpenMetrics writes whole numbers with a point: `1.0`. */
function openMetricsFloat(v: number): string {
  const plain = formatFloat(v);
  return Number.isInteger(v) ? `${plain}.0` : plain;
}

const row = { kind: 'vector', returns: 'vector' } as const;
/** Defined on native histograms alone. The argument is read all the same, for its errors. */
const native = (name: string): VectorFunction => ({
  ...row,
  name,
  args: ['vector'],
  open: async (call, context) => {
    await context.vector(call.args[0] as Expr);
    return EMPTY;
  },
});

export const HISTOGRAM: readonly VectorFunction[] = [
  { ...row, name: 'histogram_quantile', args: ['scalar', 'vector'], open: quantiles },
  { ...row, name: 'histogram_fraction', args: ['scalar', 'scalar', 'vector'], open: fractions },
  {
    ...row,
    name: 'histogram_quantiles',
    args: ['vector', 'string', 'scalar', 'scalar'],
    variadic: 9,
    experimental: true,
    open: manyQuantiles,
  },
  native('histogram_avg'),
  native('histogram_count'),
  native('histogram_sum'),
  native('histogram_stddev'),
  native('histogram_stdvar'),
];
