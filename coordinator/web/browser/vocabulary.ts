/** The words of PromQL, with what each needs and does. A test holds them against the engine's own tables. */

export interface Word {
  readonly name: string;
  /** How it is called; empty for plain keywords. */
  readonly usage: string;
  readonly meaning: string;
}

/** One per line: usage, two spaces, meaning. The name is what stands before the first bracket or blank. */
function words(text: string): readonly Word[] {
  return text
    .trim()
    .split('\n')
    .map((line) => {
      const [usage = '', meaning = ''] = line.trim().split(/ {2,}/);
      return { name: usage.split(/[ (]/, 1)[0] ?? usage, usage, meaning };
    });
}

export const FUNCTIONS: readonly Word[] = words(`
  abs(v)  absolute value
  absent(v)  1 if the vector has no elements
  absent_over_time(v[d])  1 if the range has no samples
  acos(v)  arccosine
  acosh(v)  inverse hyperbolic cosine
  asin(v)  arcsine
  asinh(v)  inverse hyperbolic sine
  atan(v)  arctangent
  atanh(v)  inverse hyperbolic tangent
  avg_over_time(v[d])  average of the samples
  ceil(v)  rounded up to an integer
  changes(v[d])  how often the value changed
  clamp(v, min, max)  limited to between min and max
  clamp_max(v, max)  limited to at most max
  clamp_min(v, min)  limited to at least min
  cos(v)  cosine of radians
  cosh(v)  hyperbolic cosine
  count_over_time(v[d])  number of samples
  day_of_month(v)  1 to 31, in UTC
  day_of_week(v)  0 is Sunday, in UTC
  day_of_year(v)  1 to 366, in UTC
  days_in_month(v)  28 to 31, in UTC
  deg(v)  radians to degrees
  delta(v[d])  difference of first and last, of a gauge
  deriv(v[d])  change per second by linear regression, of a gauge
  double_exponential_smoothing(v[d], sf, tf)  smoothed value with trend
  end()  end of the range that is asked for, seconds since 1970
  exp(v)  e to the power
  first_over_time(v[d])  the oldest sample
  floor(v)  rounded down to an integer
  histogram_avg(v)  mean of native histograms
  histogram_count(v)  number of observations of native histograms
  histogram_fraction(low, high, v)  share of observations between low and high
  histogram_quantile(q, v)  quantile of a histogram's buckets
  histogram_quantiles(v, label, q, ...)  several quantiles of a histogram's buckets
  histogram_stddev(v)  standard deviation of native histograms
  histogram_stdvar(v)  variance of native histograms
  histogram_sum(v)  sum of observations of native histograms
  hour(v)  0 to 23, in UTC
  idelta(v[d])  difference of the last two samples
  increase(v[d])  increase of a counter over the range
  info(v, selector)  adds labels of info metrics
  irate(v[d])  per-second rate of the last two samples of a counter
  label_join(v, dst, sep, src, ...)  joins label values
  label_replace(v, dst, replacement, src, regex)  rewrites a label
  last_over_time(v[d])  the newest sample
  ln(v)  natural logarithm
  log10(v)  decimal logarithm
  log2(v)  binary logarithm
  mad_over_time(v[d])  median absolute deviation
  max_over_time(v[d])  largest sample
  min_over_time(v[d])  smallest sample
  minute(v)  0 to 59, in UTC
  month(v)  1 to 12, in UTC
  pi()  3.14159...
  predict_linear(v[d], seconds)  value in so many seconds, by linear regression
  present_over_time(v[d])  1 for each series with a sample
  quantile_over_time(q, v[d])  quantile of the samples
  rad(v)  degrees to radians
  range()  length of the range that is asked for, seconds
  rate(v[d])  per-second rate of a counter over the range
  resets(v[d])  how often a counter was reset
  round(v, to)  rounded to the nearest multiple
  scalar(v)  the value of a vector's only element
  sgn(v)  -1, 0 or 1
  sin(v)  sine of radians
  sinh(v)  hyperbolic sine
  sort(v)  by value, ascending
  sort_by_label(v, label, ...)  by label values, ascending
  sort_by_label_desc(v, label, ...)  by label values, descending
  sort_desc(v)  by value, descending
  sqrt(v)  square root
  start()  start of the range that is asked for, seconds since 1970
  stddev_over_time(v[d])  standard deviation of the samples
  stdvar_over_time(v[d])  variance of the samples
  step()  step of the range that is asked for, seconds
  sum_over_time(v[d])  sum of the samples
  tan(v)  tangent of radians
  tanh(v)  hyperbolic tangent
  time()  the step's time, seconds since 1970
  timestamp(v)  time of the samples, seconds since 1970
  ts_of_first_over_time(v[d])  time of the oldest sample
  ts_of_last_over_time(v[d])  time of the newest sample
  ts_of_max_over_time(v[d])  time of the largest sample
  ts_of_min_over_time(v[d])  time of the smallest sample
  vector(s)  a scalar as a vector without labels
  year(v)  the year, in UTC
`);

export const AGGREGATIONS: readonly Word[] = words(`
  avg by (labels) (v)  average of each group
  bottomk(k, v)  the k smallest elements
  count by (labels) (v)  number of elements of each group
  count_values(label, v)  number of elements with each value
  group by (labels) (v)  1 for each group
  limit_ratio(r, v)  a fixed share of the elements
  limitk(k, v)  any k elements
  max by (labels) (v)  largest element of each group
  min by (labels) (v)  smallest element of each group
  quantile(q, v)  quantile of each group
  stddev by (labels) (v)  standard deviation of each group
  stdvar by (labels) (v)  variance of each group
  sum by (labels) (v)  sum of each group
  topk(k, v)  the k largest elements
`);

export const KEYWORDS: readonly Word[] = words(`
  and  elements with a match on the other side
  bool  comparison gives 0 or 1 instead of filtering
  by  group by these labels
  group_left  many on the left match one on the right
  group_right  one on the left matches many on the right
  ignoring  match on all labels but these
  offset  look so far back
  on  match on these labels only
  or  elements of the left, and of the right without a match
  unless  elements without a match on the other side
  without  group by all labels but these
`).map((word) => ({ ...word, usage: '' }));

export const DURATIONS: readonly Word[] = words(`
  30s  30 seconds
  1m  1 minute
  2m  2 minutes
  5m  5 minutes
  10m  10 minutes
  15m  15 minutes
  30m  30 minutes
  1h  1 hour
  6h  6 hours
  1d  1 day
`).map((word) => ({ ...word, usage: '' }));

/** Words that most queries are made of. */
export const COMMON: ReadonlySet<string> = new Set(
  'rate increase sum avg max min count topk histogram_quantile by without offset max_over_time avg_over_time'.split(
    ' ',
  ),
);
