/**
 * The golden cases and their data set, recorded from Prometheus: what test/promql asks of the engine and test/real of a
 * cluster, and the rules by which answers are compared. Values agree to 1e-6, everything else exactly; the order of
 * series matters only where the query sorts.
 */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { expect } from 'vitest';
import { writeStale } from '../promql/store.ts';

const folder = new URL('./', import.meta.url);

type Labels = Readonly<Record<string, string>>;

interface Sample {
  readonly metric: Labels;
  readonly value?: string | [number, string];
  readonly values?: (string | null | [number, string])[];
}

export interface Result {
  readonly resultType: string;
  readonly result: string | Sample[] | [number, string];
}

/** Times are seconds after the base. A case has an expression or a request of its own. */
export interface Case {
  readonly id: string;
  readonly group: string;
  readonly expr?: string;
  readonly at?: number;
  readonly range?: [start: number, end: number, step: number];
  readonly http?: { readonly method: string; readonly path: string; readonly params: [string, string][] };
  /** When an HTTP case evaluates. */
  readonly httpAt?: number;
  readonly ordered?: boolean;
  /** Only the type of `data` counts. */
  readonly shape?: boolean;
  /** Only the status counts. */
  readonly codeOnly?: boolean;
  /** The answer's times are the server's own. */
  readonly ignoreTime?: boolean;
  readonly expect: {
    readonly status: 'success' | 'error';
    readonly data: Result | string | readonly (string | Labels)[];
    readonly dataType?: string;
    readonly httpCode?: number;
    readonly errorType?: string;
  };
}

export const { base, cases } = JSON.parse(readFileSync(new URL('cases-public.json', folder), 'utf8')) as {
  base: number;
  cases: Case[];
};

/** `{{T+n}}` is the moment n seconds after the base, `{{ISO+n}}` the same in RFC 3339. */
export function fill(text: string): string {
  return text.replace(/\{\{(T|ISO)([+-]\d+(?:\.\d+)?)\}\}/g, (_, kind: string, offset: string) => {
    const seconds = base + Number(offset);
    return kind === 'T' ? String(seconds) : new Date(seconds * 1000).toISOString().replace('.000Z', 'Z');
  });
}

/**
 * Cases whose recorded answer is a bug of the recording version, and what `check` says of the right one. Prometheus 2.42
 * lets the window of a pinned range vector slip from step to step under predict_linear (prometheus/prometheus#11708,
 * mended in 2.51 by #13559): recorded are 5 of 11 points. What is right is in test/promql/testdata/at.test.
 */
export const RECORDED_WRONG: ReadonlyMap<string, string> = new Map([['c0041', 'points of']]);

interface GoldenSeries {
  readonly labels: Labels;
  readonly timestamps: Float64Array;
  /** Stale markers with their bits. */
  readonly values: Float64Array;
}

export function readDataset(): GoldenSeries[] {
  const lines = gunzipSync(readFileSync(new URL('dataset.ndjson.gz', folder)))
    .toString('utf8')
    .trim()
    .split('\n');
  const { interval } = JSON.parse(lines[0] as string) as { interval: number };
  return lines.slice(1).map((line) => {
    const { labels, runs } = JSON.parse(line) as { labels: Labels; runs: [number, (number | string)[]][] };
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
    return { labels, timestamps, values };
  });
}

function toNumber(text: string | number): number {
  if (text === '+Inf') return Infinity;
  if (text === '-Inf') return -Infinity;
  return Number(text);
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

/** When a case evaluates, seconds after the base. */
const instant = (c: Case): number => c.at ?? c.httpAt ?? Number.NaN;

function checkTime(c: Case, time: number, at: number, what: string): void {
  if (c.ignoreTime !== true) expect(Math.abs(time - base - at), what).toBeLessThanOrEqual(0.0015);
}

/** A golden series' points as [seconds after base, value]. */
function goldenPoints(c: Case, sample: Sample): [number, string][] {
  if (!c.range) {
    if (sample.value !== undefined) return [[instant(c), sample.value as string]];
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
      checkTime(c, time, at, `time of point ${i}`);
      if (!close(value, text)) expect(`${text} at base+${at} in ${metricKey(sample.metric)}`).toBe(value);
    });
  }
}

/** Throws for an answer that is not the golden one; `got` is Prometheus's JSON of it, without the envelope. */
export function check(c: Case, got: Result): void {
  const wanted = c.expect.data as Result;
  expect(got.resultType).toBe(wanted.resultType);
  if (wanted.resultType === 'scalar' || wanted.resultType === 'string') {
    const [time, value] = got.result as [number, string];
    checkTime(c, time, instant(c), 'time');
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

