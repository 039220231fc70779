/**
 * The golden PromQL cases (test/conformance, recorded from Prometheus), run in this process against a store in
 * memory. HTTP cases run elsewhere, against real servers. Values agree to 1e-6, everything else exactly.
 */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { Engine, type QueryTime } from '../../coordinator/promql/engine.ts';
import { QueryError } from '../../coordinator/promql/error.ts';
import { encodeResult } from '../../coordinator/promql/format.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { MemoryStore, writeStale } from './store.ts';

const folder = new URL('../conformance/', import.meta.url);

interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value?: string | [number, string];
  readonly values?: (string | null | [number, string])[];
}
interface Result {
  readonly resultType: string;
  readonly result: string | Sample[] | [number, string];
}
interface Case {
  readonly id: string;
  readonly group: string;
  readonly expr?: string;
  readonly at?: number;
  readonly range?: [start: number, end: number, step: number];
  readonly ordered?: boolean;
  readonly expect: { status: 'success' | 'error'; data: Result; httpCode?: number; errorType?: string };
}

const { base, cases } = JSON.parse(readFileSync(new URL('cases-public.json', folder), 'utf8')) as {
  base: number;
  cases: Case[];
};

/** `{{T+n}}` is the moment n seconds after the base. */
const fill = (text: string): string =>
  text.replace(/\{\{T([+-]\d+(?:\.\d+)?)\}\}/g, (_, offset: string) => String(base + Number(offset)));

/**
 * Cases whose recorded answer is a bug of the recording version. Prometheus 2.42 lets the window of a pinned range vector
 * slip from step to step under predict_linear (prometheus/prometheus#11708, mended in 2.51 by #13559): recorded are 5 of 11
 * points. What is right is in testdata/at.test.
 */
const RECORDED_WRONG = new Set(['c0041']);

function toNumber(text: string | number): number {
  if (text === '+Inf') return Infinity;
  if (text === '-Inf') return -Infinity;
  return Number(text);
}

function loadDataset(): MemoryStore {
  const lines = gunzipSync(readFileSync(new URL('dataset.ndjson.gz', folder)))
    .toString('utf8')
    .trim()
    .split('\n');
  const { interval } = JSON.parse(lines[0] as string) as { interval: number };
  const store = new MemoryStore();
  for (const line of lines.slice(1)) {
    const { labels, runs } = JSON.parse(line) as {
      labels: Record<string, string>;
      runs: [number, (number | string)[]][];
    };
    const count = runs.reduce((sum, [, values]) => sum + values.length, 0);
    const timestamps = new Float64Array(count);
    const values = new Float64Array(count);
    let n = 0;
    for (const [first, run] of runs) {
      run.forEach((value, i) => {
        timestamps[n] = (base + (first + i) * interval) * 1000;
        if (value === 'stale') writeStale(values, n);
        else values[n] = toNumber(value);
        n++;
      });
    }
    store.add(labels, { timestamps, values });
  }
  return store;
}

const store = loadDataset();
const engine = new Engine(nodeEnv);

/** Prometheus's own JSON of the answer, as the API would give it. */
async function run(c: Case): Promise<{ errorType: string; httpCode: number } | Result> {
  const ms = (seconds: number): number => Math.round((base + seconds) * 1000);
  const time: QueryTime = c.range
    ? { startMs: ms(c.range[0]), endMs: ms(c.range[1]), stepMs: c.range[2] * 1000 }
    : { timeMs: ms(c.at as number) };
  try {
    const { value } = await engine.query(store, fill(c.expr as string), time);
    return JSON.parse(Buffer.concat([...encodeResult(value)]).toString('utf8')) as Result;
  } catch (error) {
    if (!(error instanceof QueryError)) throw error;
    expect(error.message).not.toBe('');
    return { errorType: error.type, httpCode: error.httpStatus };
  }
}

function close(a: string, b: string): boolean {
  const [x, y] = [toNumber(a), toNumber(b)];
  if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) && Number.isNaN(y);
  if (x === y) return true;
  if (!Number.isFinite(x) || !Number.isFinite(y)) return false;
  return Math.abs(x - y) <= 1e-10 || Math.abs(x - y) <= 1e-6 * Math.max(Math.abs(x), Math.abs(y));
}

const metricKey = (metric: Readonly<Record<string, string>>): string =>
  JSON.stringify(Object.entries(metric).sort(([a], [b]) => (a < b ? -1 : 1)));

/** A golden series' points as [seconds after base, value]. */
function goldenPoints(c: Case, sample: Sample): [number, string][] {
  if (!c.range) {
    if (sample.value !== undefined) return [[c.at as number, sample.value as string]];
    return sample.values as [number, string][];
  }
  const [start, , step] = c.range;
  return (sample.values ?? []).flatMap((value, i): [number, string][] => {
    if (value === null) return [];
    return [typeof value === 'string' ? [start + i * step, value] : value];
  });
}

function checkSeries(c: Case, wanted: Sample[], got: Sample[]): void {
  const byMetric = new Map(got.map((sample) => [metricKey(sample.metric), sample]));
  expect(byMetric.size, 'each label set once').toBe(got.length);
  expect([...byMetric.keys()].sort()).toEqual(wanted.map((sample) => metricKey(sample.metric)).sort());
  for (const sample of wanted) {
    const found = byMetric.get(metricKey(sample.metric)) as Sample;
    const points = (found.values ?? [found.value]) as [number, string][];
    const golden = goldenPoints(c, sample);
    expect(points.length, `points of ${metricKey(sample.metric)}`).toBe(golden.length);
    golden.forEach(([at, value], i) => {
      const [time, text] = points[i] as [number, string];
      expect(Math.abs(time - base - at), `time of point ${i}`).toBeLessThanOrEqual(0.0015);
      if (!close(value, text)) expect(`${text} at base+${at} in ${metricKey(sample.metric)}`).toBe(value);
    });
  }
}

function check(c: Case, got: Result): void {
  const wanted = c.expect.data;
  expect(got.resultType).toBe(wanted.resultType);
  if (wanted.resultType === 'scalar' || wanted.resultType === 'string') {
    const [time, value] = got.result as [number, string];
    expect(Math.abs(time - base - (c.at as number))).toBeLessThanOrEqual(0.0015);
    const same = wanted.resultType === 'string' ? value === wanted.result : close(wanted.result as string, value);
    if (!same) expect(value).toBe(wanted.result);
    return;
  }
  const samples = got.result as Sample[];
  const golden = wanted.result as Sample[];
  checkSeries(c, golden, samples);
  if (!c.ordered || wanted.resultType !== 'vector') return;
  golden.forEach((sample, i) => {
    const [, value] = (samples[i] as Sample).value as [number, string];
    if (!close(sample.value as string, value)) expect(`${value} at position ${i}`).toBe(sample.value);
  });
}

const groups = new Map<string, Case[]>();
for (const c of cases) if (c.expr !== undefined) groups.set(c.group, [...(groups.get(c.group) ?? []), c]);

describe.each([...groups])('%s', (_, members) => {
  it.each(members.map((c) => [`${c.id} ${c.expr} ${c.range ? `over ${c.range}` : `at ${c.at}`}`, c] as const))(
    '%s',
    async (_, c) => {
      const got = await run(c);
      if (RECORDED_WRONG.has(c.id)) {
        expect(() => check(c, got as Result)).toThrow('points of');
        return;
      }
      if (c.expect.status === 'error') {
        expect(got).toEqual({ errorType: c.expect.errorType, httpCode: c.expect.httpCode });
        return;
      }
      if ('errorType' in got) expect(got).toBe('an answer');
      else check(c, got);
    },
  );
});
