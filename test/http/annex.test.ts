import { afterEach, beforeEach, expect, it } from 'vitest';
import type { AnnexQueryable, TimeRange } from '../../coordinator/query/queryable.ts';
import { makeLabels } from '../../core/labels.ts';
import type { Matcher } from '../../core/matchers.ts';
import { type Fixture, serve } from './fixture.ts';

let server: Fixture;
const asked: { range: TimeRange; selectors: readonly (readonly Matcher[])[] }[] = [];

const annex: AnnexQueryable = {
  async exemplars(range, selectors) {
    asked.push({ range, selectors });
    const one = (value: number, timestampMs: number, labels: Record<string, string> = {}) => ({
      labels: makeLabels(labels),
      value,
      timestampMs,
    });
    return {
      series: [
        { labels: makeLabels({ __name__: 'b' }), exemplars: [one(-0, 5), one(Number.POSITIVE_INFINITY, 1500)] },
        { labels: makeLabels({ __name__: 'a', x: 'ü"' }), exemplars: [one(1e-7, 2000, { trace_id: 'é"' })] },
      ],
      coverage: [],
      warnings: [],
    };
  },
  async metadata(name) {
    const entries = ['a', 'a', 'a', 'b', 'constructor', '__proto__'].map((metric, i) => ({
      name: metric,
      type: i,
      unit: i === 1 ? 's' : '',
      help: `Help ${i}`,
    }));
    return { entries: entries.filter((entry) => name === '' || entry.name === name), coverage: [], warnings: [] };
  },
};

beforeEach(async () => {
  asked.length = 0;
  server = await serve({ annex });
});
afterEach(() => server.close());

async function text(path: string, body?: Record<string, string>): Promise<string> {
  const init = body === undefined ? {} : { method: 'POST', body: new URLSearchParams(body) };
  return (await fetch(`${server.url}/api/v1${path}`, init)).text();
}

it('writes exemplars as Prometheus does, series in order of their labels', async () => {
  const wanted =
    '{"status":"success","data":[' +
    '{"seriesLabels":{"__name__":"a","x":"ü\\""},"exemplars":[{"labels":{"trace_id":"é\\""},"value":"1e-07","timestamp":2}]},' +
    '{"seriesLabels":{"__name__":"b"},"exemplars":[{"labels":{},"value":"-0","timestamp":0.005},{"labels":{},"value":"+Inf","timestamp":1.500}]}]}';
  expect(await text('/query_exemplars?query=a&start=1&end=2.5')).toBe(wanted);
  expect(await text('/query_exemplars', { query: 'a', start: '1', end: '2.5' })).toBe(wanted);
  const a = { name: '__name__', op: '=', value: 'a' };
  expect(asked).toEqual(Array(2).fill({ range: { fromMs: 1000, toMs: 2500 }, selectors: [[a]] }));
});

it('asks for every selector of an expression, whatever is done with it', async () => {
  await text(
    `/query_exemplars?query=${encodeURIComponent(
      '-(topk(scalar(n), a{x!="y"}) + on () group_left () sum_over_time(rate(b[5m] offset 1h)[1h:1m])) or c @ 5 > bool 1',
    )}`,
  );
  const names = asked[0]?.selectors.map((matchers) => matchers.map(({ name, op, value }) => `${name}${op}${value}`));
  expect(names).toEqual([['__name__=n'], ['x!=y', '__name__=a'], ['__name__=b'], ['__name__=c']]);
  expect(await text('/query_exemplars?query=1')).toBe('{"status":"success","data":[]}');
  expect(asked).toHaveLength(1);
});

it.each([
  ['', { a: [0, 1, 2], b: [3], constructor: [4], ['__proto__']: [5] }],
  ['?metric=a', { a: [0, 1, 2] }],
  ['?metric=c', {}],
  ['?limit=2', { a: [0, 1, 2], b: [3] }],
  ['?limit=0', {}],
  ['?limit=-1&limit_per_metric=2&metric=a', { a: [0, 1] }],
  ['?limit_per_metric=0&metric=a', { a: [0, 1, 2] }],
])('gives metadata by metric: %s', async (query, wanted) => {
  const types = ['unknown', 'counter', 'gauge', 'histogram', 'gaugehistogram', 'summary'];
  const entry = (i: number) => ({ type: types[i], help: `Help ${i}`, unit: i === 1 ? 's' : '' });
  const data = Object.fromEntries(Object.entries(wanted).map(([name, list]) => [name, list.map(entry)]));
  expect(await text(`/metadata${query}`)).toBe(JSON.stringify({ status: 'success', data }));
});

it.each([
  ['/metadata?limit=x', 'limit must be a number, not \\"x\\"'],
  ['/metadata?limit_per_metric=1.5', 'limit_per_metric must be a number'],
  ['/query_exemplars?query=a&start=2&end=1', 'end timestamp must not be before start time'],
  ['/query_exemplars?query=a{', 'invalid parameter \\"query\\"'],
])('refuses %s', async (path, words) => {
  const answer = await text(path);
  expect(answer).toContain('"errorType":"bad_data"');
  expect(answer).toContain(words);
});
