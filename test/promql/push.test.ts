/** Aggregations computed where the series are give what the engine gives by itself. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Engine, type QueryResult } from '../../coordinator/promql/engine.ts';
import { QueryError } from '../../coordinator/promql/error.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { formatLabels } from '../../core/labels.ts';
import { BASE_MS, dataset, storeOf, vectorExpression } from './arbitrary.ts';
import { AggregatingStore, type MemoryStore } from './store.ts';

const engine = new Engine(nodeEnv, { experimental: true });
const START_MS = BASE_MS + 300_000;
const OPERATIONS = ['sum', 'avg', 'min', 'max', 'count', 'group'];
const FUNCTIONS = [
  ...['rate', 'increase', 'delta', 'irate', 'idelta'],
  ...['sum', 'avg', 'min', 'max', 'count', 'last', 'present'].map((name) => `${name}_over_time`),
];

function points({ value }: QueryResult): Map<string, number> {
  const found = new Map<string, number>();
  if (value.type === 'vector') {
    for (const [i, labels] of value.labels.entries()) found.set(formatLabels(labels), value.values[i] as number);
  }
  if (value.type === 'matrix') {
    for (const { labels, timestamps, values } of value.series) {
      for (const [i, time] of timestamps.entries()) found.set(`${time} ${formatLabels(labels)}`, values[i] as number);
    }
  }
  return found;
}

async function ask(
  store: MemoryStore,
  query: string,
  time: Parameters<Engine['query']>[2],
): Promise<QueryResult | string> {
  try {
    return await engine.query(store, query, time, { perStepStats: true });
  } catch (error) {
    if (error instanceof QueryError) return error.message;
    throw error;
  }
}

function same(query: string, pushed: QueryResult | string, own: QueryResult | string, isExact: boolean): void {
  if (typeof pushed === 'string' || typeof own === 'string') {
    expect(pushed, query).toBe(own);
    return;
  }
  const expected = points(own);
  const found = points(pushed);
  expect([...found.keys()].sort(), query).toEqual([...expected.keys()].sort());
  for (const [key, value] of found) {
    const other = expected.get(key) as number;
    const isSame =
      Object.is(value, other) ||
      value === other ||
      (!isExact && Math.abs(value - other) <= 1e-12 * Math.max(Math.abs(value), Math.abs(other), 1e-3));
    if (!isSame) expect.fail(`${query} at ${key}: ${value} pushed, ${other} otherwise`);
  }
  expect(pushed.infos, query).toEqual(own.infos);
  expect(pushed.warnings, query).toEqual(own.warnings);
  expect(pushed.stats.totalQueryableSamples, query).toBe(own.stats.totalQueryableSamples);
  expect(pushed.stats.samplesPerStep, query).toEqual(own.stats.samplesPerStep);
  expect(pushed.stats.seriesCount, query).toBe(own.stats.seriesCount);
}

const pick = (...texts: string[]) => fc.constantFrom(...texts);
const times = fc.oneof(
  fc.record({ timeMs: fc.integer({ min: START_MS, max: START_MS + 1_800_000 }) }),
  fc
    .tuple(fc.integer({ min: 0, max: 1_500_000 }), fc.constantFrom(15_000, 60_000, 37_000, 300_000), fc.nat(30))
    .map(([afterMs, stepMs, steps]) => ({
      startMs: START_MS + afterMs,
      endMs: START_MS + afterMs + steps * stepMs,
      stepMs,
    })),
);

describe('an aggregation where the series are', () => {
  for (const operation of OPERATIONS) {
    it(`gives the same: ${operation}`, { timeout: 120_000 }, async () => {
      const modifiers = fc.record({
        selector: pick('m', 'n', 'c_total', 'h_bucket', 'c_total{a="x"}', 'm{b=~"1|2"}', 'none', '{__name__=~"m|n"}'),
        range: pick('[1m]', '[2m30s]', '[5m]', '[15s]', '[17m]'),
        grouping: pick('', ' by (a)', ' without (b)', ' by (a, b)', ' without ()', ' by (le)', ' by (__name__, a)'),
        offset: pick('', '', ' offset 1m', ' offset -2m', ' offset 7m'),
        at: pick('', '', '', ` @ ${BASE_MS / 1000 + 900}`, ' @ end()', ' @ start()'),
      });
      await fc.assert(
        fc.asyncProperty(dataset, modifiers, times, async (data, { selector, range, grouping, offset, at }, time) => {
          const store = storeOf(data, new AggregatingStore());
          const plain = storeOf(data);
          const queries = [
            `${operation}${grouping} (${selector}${at}${offset})`,
            ...FUNCTIONS.map((name) => `${operation}${grouping} (${name}(${selector}${range}${at}${offset}))`),
          ];
          for (const query of queries) {
            const isExact = operation !== 'sum' && operation !== 'avg';
            same(query, await ask(store, query, time), await ask(plain, query, time), isExact);
          }
          expect(store.aggregateCount).toBeGreaterThan(0);
        }),
        { numRuns: 25 },
      );
    });
  }

  it('carries what sums lose from node to node', async () => {
    // Dealt out over three nodes in turn: each node's sum loses its small values, which the compensation keeps.
    const values = [1e16, 1, -1e16, 1, 1e16, 1, -1e16, 3, 5];
    const filled = <S extends MemoryStore>(store: S): S => {
      for (const [i, value] of values.entries()) {
        store.add(
          { __name__: 'm', i: String(i) },
          { timestamps: Float64Array.of(START_MS), values: Float64Array.of(value) },
        );
      }
      return store;
    };
    for (const [query, expected] of [
      ['sum(m)', 11],
      ['avg(m)', 11 / 9],
    ] as const) {
      const pushed = await ask(filled(new AggregatingStore()), query, { timeMs: START_MS });
      if (typeof pushed === 'string') throw new Error(pushed);
      expect([...points(pushed).values()][0], query).toBeCloseTo(expected, 12);
    }
  });

  it('gives the same inside of other expressions', { timeout: 120_000 }, async () => {
    const isUnstable = /topk|bottomk|limitk|limit_ratio/;
    await fc.assert(
      fc.asyncProperty(dataset, vectorExpression, times, async (data, inner, time) => {
        if (isUnstable.test(inner)) return;
        for (const query of [
          `max_over_time((sum by (a) (rate(c_total[5m])))[10m:1m])`,
          `sum by (a) (rate(c_total[5m])) / count by (a) (c_total) + max(m)`,
          `max(${inner})`,
        ]) {
          const pushed = await ask(storeOf(data, new AggregatingStore()), query, time);
          const own = await ask(storeOf(data), query, time);
          // What a random expression makes of the last bit is its own matter.
          if (query.includes(inner) && typeof pushed !== 'string' && typeof own !== 'string') continue;
          same(query, pushed, own, false);
        }
      }),
      { numRuns: 40 },
    );
  });
});
