/**
 * Metrics counted in the process and written as ordinary series now and then.
 *
 * - A counter is one series that only grows. It begins with a zero at the moment of its first call, so that
 *   `increase` sees the first step too.
 * - A gauge is one series with the last value set.
 * - A latency is a classic Prometheus histogram in seconds: `<name>_bucket` by `le` (cumulative, `+Inf` last),
 *   `<name>_sum`, `<name>_count`; so `histogram_quantile(0.99, rate(<name>_bucket[5m]))` works.
 *
 * Counters belong to one process: two that add to the same series would overwrite each other's totals.
 * The constant labels (`instance` by default) keep them apart; sum over them in queries.
 */

import { SilverbackError } from '../core/errors.ts';
import type { LabelSet, Series } from './series.ts';

/**
 * What a metric call counts under: a label set with `__name__`, or a metric's name, or a name and labels.
 * `'logins_total'` and `['logins_total', { method: 'sso' }]` are short for `{ __name__: 'logins_total', ... }`.
 */
export type Scopes = LabelSet | string | readonly [name: string, labels: LabelSet];

/** Where aggregated samples go. */
export interface MetricSink {
  /** Throws as `SeriesTable.intern` does. */
  series(labels: LabelSet): Series;
  append(series: Series, timestampMs: number, value: number): void;
}

export interface MetricOptions {
  readonly sink: MetricSink;
  /** Added to every metric that does not have them. */
  readonly constantLabels: LabelSet;
  /** Upper bounds in seconds, ascending, without +Inf. */
  readonly latencyBuckets: readonly number[];
}

/** One metric: something to count into, and samples to write. */
interface Metric {
  readonly kind: 'counter' | 'gauge' | 'latency';
  readonly lines: readonly Series[];
  /** A value per line; a latency's buckets count each observation once until they are written. */
  readonly values: Float64Array;
  /** When it was first counted; the zero is written for the moment before. Undefined once it was. */
  bornMs: number | undefined;
}

export class Metrics {
  readonly #options: MetricOptions;
  readonly #bounds: readonly string[];
  readonly #metrics = new Map<string, Metric>();

  /** Throws INVALID_ARGUMENT if the buckets do not ascend. */
  constructor(options: MetricOptions) {
    const { latencyBuckets } = options;
    for (let i = 0; i < latencyBuckets.length; i++) {
      if (
        Number.isFinite(latencyBuckets[i]) &&
        (i === 0 || (latencyBuckets[i] as number) > (latencyBuckets[i - 1] as number))
      )
        continue;
      throw new SilverbackError(
        'INVALID_ARGUMENT',
        `latencyBuckets: ${latencyBuckets.join(', ')} must be finite and ascend`,
      );
    }
    this.#options = options;
    this.#bounds = [...latencyBuckets.map(String), '+Inf'];
  }

  /** Adds `value` >= 0. Throws INVALID_ARGUMENT, INVALID_LABELS or SERIES_LIMIT. */
  count(scopes: Scopes, value: number, nowMs: number): void {
    if (!(value >= 0) || value === Number.POSITIVE_INFINITY)
      throw bad('a counter', scopes, value, 'a finite number of at least 0');
    const { values } = this.#metric('counter', scopes, nowMs);
    (values[0] as number) += value;
  }

  /** Takes any number. Throws as `count` does. */
  set(scopes: Scopes, value: number, nowMs: number): void {
    if (typeof value !== 'number') throw bad('a gauge', scopes, value, 'a number');
    this.#metric('gauge', scopes, nowMs).values[0] = value;
  }

  /** Takes one duration. Throws as `count` does. */
  observe(scopes: Scopes, durationMs: number, nowMs: number): void {
    if (!(durationMs >= 0) || durationMs === Number.POSITIVE_INFINITY)
      throw bad('a latency', scopes, durationMs, 'finite milliseconds of at least 0');
    const { values } = this.#metric('latency', scopes, nowMs);
    const seconds = durationMs / 1_000;
    const bounds = this.#options.latencyBuckets;
    let bucket = 0;
    while (bucket < bounds.length && seconds > (bounds[bucket] as number)) bucket++;
    for (; bucket <= bounds.length; bucket++) (values[bucket] as number)++;
    (values[bounds.length + 1] as number) += seconds;
    (values[bounds.length + 2] as number)++;
  }

  /** Hands the sink a sample per series, as of now. */
  write(nowMs: number): void {
    const { sink } = this.#options;
    for (const metric of this.#metrics.values()) {
      for (const [i, series] of metric.lines.entries()) {
        if (metric.bornMs !== undefined && metric.kind !== 'gauge')
          sink.append(series, Math.min(metric.bornMs, nowMs) - 1, 0);
        sink.append(series, nowMs, metric.values[i] as number);
      }
      metric.bornMs = undefined;
    }
  }

  #metric(kind: Metric['kind'], scopes: Scopes, nowMs: number): Metric {
    const labels = labelsOf(scopes);
    const key = JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
    const known = this.#metrics.get(key);
    if (known !== undefined) {
      if (known.kind === kind) return known;
      throw new SilverbackError('INVALID_ARGUMENT', `${key} is a ${known.kind}, it cannot be a ${kind} too`);
    }
    const lines = this.#lines(kind, { ...this.#options.constantLabels, ...labels });
    const metric = { kind, lines, values: new Float64Array(lines.length), bornMs: nowMs };
    this.#metrics.set(key, metric);
    return metric;
  }

  #lines(kind: Metric['kind'], labels: LabelSet): Series[] {
    const { sink } = this.#options;
    const name = labels['__name__'];
    if (name === undefined || name === '') {
      throw new SilverbackError('INVALID_LABELS', `${JSON.stringify(labels)} has no __name__: a metric needs a name`);
    }
    if (kind !== 'latency') return [sink.series(labels)];
    const buckets = this.#bounds.map((le) => sink.series({ ...labels, __name__: `${name}_bucket`, le }));
    return [
      ...buckets,
      sink.series({ ...labels, __name__: `${name}_sum` }),
      sink.series({ ...labels, __name__: `${name}_count` }),
    ];
  }
}

function labelsOf(scopes: Scopes): LabelSet {
  if (typeof scopes === 'string') return { __name__: scopes };
  if (!isPair(scopes)) return scopes;
  const [name, labels] = scopes;
  return { ...labels, __name__: name };
}

function isPair(scopes: Exclude<Scopes, string>): scopes is readonly [string, LabelSet] {
  return Array.isArray(scopes);
}

function bad(what: string, scopes: Scopes, value: unknown, rule: string): SilverbackError {
  return new SilverbackError(
    'INVALID_ARGUMENT',
    `${what} takes ${rule}, got ${String(value)} for ${JSON.stringify(scopes)}`,
  );
}
