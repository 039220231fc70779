/** Every golden case, asked over HTTP of a cluster of real processes into which the data set was remote-written. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  base,
  type Case,
  cases,
  check,
  fill,
  RECORDED_WRONG,
  type Result,
  readDataset,
} from '../conformance/golden.ts';
import type { Series } from '../ingest/message.ts';
import { eventually, query, remoteWrite, Sandbox } from '../local/cluster.ts';

/** Samples of a series in one request: the data set takes 37 of them. */
const SLICE = 20;
const STEP_MS = 15_000;

interface Reply {
  readonly status: number;
  readonly text: string;
  /** Undefined: the body is no JSON. */
  readonly json: { status: string; data?: unknown; errorType?: string; error?: string } | undefined;
}

/** In time order over all series, as a sender sends. */
async function load(url: string): Promise<void> {
  const dataset = readDataset();
  const lastMs = Math.max(...dataset.map(({ timestamps }) => timestamps.at(-1) ?? 0));
  for (let fromMs = base * 1000; fromMs <= lastMs; fromMs += SLICE * STEP_MS) {
    const request: Series[] = [];
    for (const { labels, timestamps, values } of dataset) {
      const bits = new BigUint64Array(values.buffer);
      const samples: (readonly [number, bigint])[] = [];
      timestamps.forEach((timeMs, i) => {
        if (timeMs >= fromMs && timeMs < fromMs + SLICE * STEP_MS) samples.push([timeMs, bits[i] as bigint]);
      });
      if (samples.length > 0) request.push({ labels: Object.entries(labels), samples });
    }
    const { status } = await remoteWrite(url, request);
    expect(status).toBe(204);
  }
}

/** As the kit asks: queries by POST, the others as they say. */
async function ask(url: string, c: Case): Promise<Reply> {
  const { method, path, params } = c.http ?? {
    method: 'POST',
    path: c.range ? '/api/v1/query_range' : '/api/v1/query',
    params: [
      ['query', c.expr as string],
      ...(c.range
        ? [
            ['start', `{{T+${c.range[0]}}}`],
            ['end', `{{T+${c.range[1]}}}`],
            ['step', String(c.range[2])],
          ]
        : [['time', `{{T+${c.at}}}`]]),
    ] as [string, string][],
  };
  const filled = new URLSearchParams(params.map(([name, value]): [string, string] => [name, fill(value)]));
  const response =
    method === 'GET' ? await fetch(`${url}${path}?${filled}`) : await fetch(`${url}${path}`, { method, body: filled });
  const text = await response.text();
  let json: Reply['json'];
  try {
    json = JSON.parse(text) as Reply['json'];
  } catch {
    json = undefined;
  }
  return { status: response.status, text, json };
}

const typeOf = (data: unknown): string => (Array.isArray(data) ? 'array' : typeof data);

/** Lists of texts or of label sets, in any order. */
const sorted = (list: readonly unknown[]): string[] =>
  list
    .map((entry) => JSON.stringify(typeof entry === 'object' ? Object.entries(entry as object).sort() : entry))
    .sort();

function checkReply(c: Case, { status, text, json }: Reply): void {
  const wanted = c.expect;
  if (c.codeOnly === true) {
    expect(status).toBe(wanted.httpCode);
    return;
  }
  expect(json, text).toBeDefined();
  const got = json as NonNullable<typeof json>;
  if (wanted.status === 'error') {
    expect([got.status, got.errorType, status]).toEqual(['error', wanted.errorType, wanted.httpCode]);
    expect(got.error).toMatch(/./);
    return;
  }
  expect([got.status, status], text).toEqual(['success', 200]);
  if (c.shape === true) expect(typeOf(got.data)).toBe(wanted.dataType);
  else if (typeof wanted.data === 'string') expect(got.data).toBe(wanted.data);
  else if (Array.isArray(wanted.data)) expect(sorted(got.data as unknown[])).toEqual(sorted(wanted.data));
  else check(c, got.data as Result);
}

describe('the golden cases over HTTP', () => {
  const sandbox = new Sandbox();
  let url = '';

  beforeAll(async () => {
    const dataDir = await sandbox.directory();
    ({ url } = await sandbox.cluster(dataDir, '--no-self-monitoring', '--max-sample-age', 'off'));
    await load(url);
    await eventually(async () => {
      const [found] = await query(url, 'sum(count_over_time(linear_gauge[4h]))', (base + 10_807) * 1000);
      expect(found?.value[1]).toBe('2163');
    });
  });
  afterAll(() => sandbox.close());

  test('series are counted by their labels, over all shards', async () => {
    const labels = readDataset().map((series) => series.labels);
    const sums = (key: (name: string, value: string) => string, by: (value: string) => number) => {
      const map = new Map<string, number>();
      for (const [name, value] of labels.flatMap((one) => Object.entries(one))) {
        map.set(key(name, value), (map.get(key(name, value)) ?? 0) + by(value));
      }
      return Object.fromEntries(map);
    };
    const pairs = sums(
      (name, value) => `${name}=${value}`,
      () => 1,
    );
    const response = await fetch(`${url}/api/v1/status/tsdb?limit=500`);
    const { data } = (await response.json()) as { data: Record<string, { name: string; value: number }[]> };
    const got = (key: string) => Object.fromEntries((data[key] ?? []).map(({ name, value }) => [name, value]));
    expect(data['headStats']).toMatchObject({ numSeries: labels.length, numLabelPairs: Object.keys(pairs).length });
    expect(got('seriesCountByLabelValuePair')).toEqual(pairs);
    expect(got('memoryInBytesByLabelName')).toEqual(
      sums(
        (name) => name,
        (value) => value.length,
      ),
    );
    const metrics = Object.entries(pairs).filter(([pair]) => pair.startsWith('__name__='));
    expect(got('seriesCountByMetricName')).toEqual(
      Object.fromEntries(metrics.map(([pair, count]) => [pair.slice('__name__='.length), count])),
    );
    const names = Object.keys(pairs).map((pair) => pair.slice(0, pair.indexOf('=')));
    expect(got('labelValueCountByLabelName')).toEqual(
      Object.fromEntries(names.map((name) => [name, names.filter((other) => other === name).length])),
    );
  });

  test.each([...new Set(cases.map(({ group }) => group))])('%s', async (group) => {
    const failures: string[] = [];
    for (const c of cases.filter((one) => one.group === group)) {
      const wrong = RECORDED_WRONG.get(c.id);
      try {
        const reply = await ask(url, c);
        if (wrong === undefined) checkReply(c, reply);
        else expect(() => checkReply(c, reply)).toThrow(wrong);
      } catch (error) {
        failures.push(`${c.id} ${c.expr ?? JSON.stringify(c.http)}: ${(error as Error).message}`);
      }
    }
    expect(failures).toEqual([]);
  });
});
