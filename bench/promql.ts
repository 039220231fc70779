/**
 * The PromQL engine by itself, on 10,000 series of 6 hours at 15 s in memory (14.4M samples):
 *
 *     npm run bench -- promql [PATTERN]
 *
 * Prints, for each query, the median of 5 runs in CPU ms (user), nanoseconds a sample looked at, and result points; then the JSON
 * encoding of 100,000 points. The store hands out views, so that no decoding is in the figures.
 */

import { Engine, type QueryTime } from '../coordinator/promql/engine.ts';
import { encodeResult } from '../coordinator/promql/format.ts';
import { pointCount } from '../coordinator/promql/value.ts';
import type { Columns, Queryable, SelectRequest, SeriesSet } from '../coordinator/query/queryable.ts';
import { nodeEnv } from '../core/env/node.ts';
import { type Labels, labelValue, makeLabels } from '../core/labels.ts';
import { compileMatcher } from '../core/matchers.ts';

const SERIES_COUNT = 10_000;
const STEP_MS = 15_000;
const SAMPLE_COUNT = 1440;
const START_MS = 1_700_000_000_000;
const END_MS = START_MS + (SAMPLE_COUNT - 1) * STEP_MS;
const RUN_COUNT = 5;

/** Series that all share one column of timestamps; the values are of a counter with resets. */
class BenchStore {
  readonly #timestamps = Float64Array.from({ length: SAMPLE_COUNT }, (_, i) => START_MS + i * STEP_MS);
  readonly #series: { labels: Labels; values: Float64Array }[] = [];

  constructor() {
    for (let i = 0; i < SERIES_COUNT; i++) {
      const values = new Float64Array(SAMPLE_COUNT);
      let value = i;
      for (let k = 0; k < SAMPLE_COUNT; k++) {
        value = (k + i) % 997 === 0 ? 0 : value + ((i * 31 + k * 17) % 23);
        values[k] = value;
      }
      const labels = makeLabels({
        __name__: `requests_${i % 10}_total`,
        region: `region-${i % 5}`,
        host: `host-${i % 100}`,
        instance: `instance-${i}`,
        job: 'bench',
      });
      this.#series.push({ labels, values });
    }
  }

  select = async ({ matchers, fromMs, toMs }: SelectRequest): Promise<SeriesSet> => {
    const compiled = matchers.map(compileMatcher);
    const found = this.#series.filter(({ labels }) => compiled.every((m) => m.test(labelValue(labels, m.name))));
    const from = Math.max(0, Math.ceil((fromMs - START_MS) / STEP_MS));
    const to = Math.min(SAMPLE_COUNT, Math.floor((toMs - START_MS) / STEP_MS) + 1);
    const timestamps = this.#timestamps.subarray(from, to);
    const columns = (index: number): Columns => ({
      timestamps,
      values: (found[index] as { values: Float64Array }).values.subarray(from, to),
    });
    return {
      count: found.length,
      labels: (index) => (found[index] as { labels: Labels }).labels,
      columns,
      coverage: [],
      warnings: [],
      sampleCount: found.length * timestamps.length,
    };
  };
}

const ALL = '{__name__=~"requests_.*"}';
const QUERIES: readonly (readonly [query: string, hours: number])[] = [
  ['requests_1_total{instance="instance-1"}', 1],
  ['rate(requests_1_total{instance="instance-1"}[5m])', 1],
  [`sum by (region) (rate(${ALL}[5m]))`, 1],
  [`sum by (region) (rate(${ALL}[5m]))`, 5.9],
  [`sum by (__name__) (${ALL})`, 5.9],
  [`max by (host) (${ALL})`, 5.9],
  [`sum by (region) (sum_over_time(${ALL}[5m]))`, 5.9],
  [`max(max_over_time(${ALL}[1h]))`, 5.9],
  [`quantile by (region) (0.9, rate(${ALL}[5m]))`, 5.9],
  [`topk(10, rate(${ALL}[5m]))`, 5.9],
  [`sum(rate(${ALL}[5m]) / ignoring () rate(${ALL}[10m]))`, 5.9],
  [`avg_over_time(sum(rate(${ALL}[5m]))[1h:1m])`, 5.9],
  [`quantile_over_time(0.9, requests_1_total{host="host-1"}[2h])`, 5.9],
];

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] as number;
}

export async function run(args: string[]): Promise<void> {
  const engine = new Engine(nodeEnv, { experimental: true });
  const pattern = new RegExp(args[0] ?? '');
  const store = new BenchStore() as unknown as Queryable;
  for (const [query, hours] of QUERIES.filter(([text]) => pattern.test(text))) {
    const time: QueryTime = { startMs: END_MS - hours * 3_600_000, endMs: END_MS, stepMs: 60_000 };
    const runs: number[] = [];
    let samples = 0;
    let points = 0;
    for (let run = 0; run < RUN_COUNT; run++) {
      const startedMs = process.cpuUsage().user / 1000;
      const { value, stats } = await engine.query(store, query, time);
      runs.push(process.cpuUsage().user / 1000 - startedMs);
      samples = stats.totalQueryableSamples;
      points = pointCount(value);
    }
    const ms = median(runs);
    const perSample = (ms * 1e6) / samples;
    console.log(
      `${query} over ${hours} h: ${ms.toFixed(2)} CPU ms, ${perSample.toFixed(2)} CPU ns/sample, ${points} points`,
    );
  }
  const time: QueryTime = { startMs: END_MS - 999 * 20_000, endMs: END_MS, stepMs: 20_000 };
  const { value } = await engine.query(store, 'rate(requests_1_total{host="host-1"}[5m])', time);
  const runs: number[] = [];
  let bytes = 0;
  for (let run = 0; run < RUN_COUNT; run++) {
    const startedMs = process.cpuUsage().user / 1000;
    bytes = 0;
    for (const chunk of encodeResult(value)) bytes += chunk.length;
    runs.push(process.cpuUsage().user / 1000 - startedMs);
  }
  console.log(`JSON of ${pointCount(value)} points: ${median(runs).toFixed(2)} CPU ms, ${bytes} bytes`);
}
