/** Aggregations computed where the series are give what the engine gives by itself. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Engine, type QueryResult } from '../../coordinator/promql/engine.ts';
import { QueryError } from '../../coordinator/promql/error.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { formatLabels } from '../../core/labels.ts';
import { BASE_MS, dataset, storeOf, vectorExpression } from './arbitrary.ts';
import { AggregatingStore, MemoryStore } from './store.ts';

const engine = new Engine(nodeEnv, { experimental: true });
const START_MS = BASE_MS + 300_000;
const OPERATIONS = ['sum', 'avg', 'min', 'max', 'count', 'group'];
const FUNCTIONS = [
  ...['rate', 'increase', 'delta', 'irate', 'idelta'],
  ...['resets', 'changes', 'deriv'],
  ...['sum', 'avg', 'min', 'max', 'count', 'first', 'last', 'present', 'stddev', 'stdvar'].map((n) => `${n}_over_time`),
];
/** Of a function that takes a number. */
const PARAMETERS = ['0.5', '0.9', '0', '1', '2', '-1', 'NaN'];
const calls = (range: string): string[] => [
  ...FUNCTIONS.map((name) => `${name}(${range})`),
  ...PARAMETERS.map((q) => `quantile_over_time(${q}, ${range})`),
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
  if (typeof pushed === 'string' && typeof own === 'string') {
    // Which of several duplicates an error names is by the order in which series came, which is not part of the answer.
    const kindOf = (message: string) => message.replaceAll(/\{[^{}]*\}/g, '{}');
    expect(kindOf(pushed), query).toBe(kindOf(own));
    return;
  }
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

const modifiers = fc.record({
  selector: pick('m', 'n', 'c_total', 'h_bucket', 'c_total{a="x"}', 'm{b=~"1|2"}', 'none', '{__name__=~"m|n"}'),
  range: pick('[1m]', '[2m30s]', '[5m]', '[15s]', '[17m]'),
  grouping: pick('', ' by (a)', ' without (b)', ' by (a, b)', ' without ()', ' by (le)', ' by (__name__, a)'),
  offset: pick('', '', ' offset 1m', ' offset -2m', ' offset 7m'),
  at: pick('', '', '', ` @ ${BASE_MS / 1000 + 900}`, ' @ end()', ' @ start()'),
});

describe('an aggregation where the series are', () => {
  for (const operation of OPERATIONS) {
    it(`gives the same: ${operation}`, { timeout: 120_000 }, async () => {
      await fc.assert(
        fc.asyncProperty(dataset, modifiers, times, async (data, { selector, range, grouping, offset, at }, time) => {
          const store = storeOf(data, new AggregatingStore());
          const plain = storeOf(data);
          const queries = [
            `${operation}${grouping} (${selector}${at}${offset})`,
            ...calls(`${selector}${range}${at}${offset}`).map((call) => `${operation}${grouping} (${call})`),
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

/** The labels of an instant answer in the order in which it shows them. */
function orderOf(result: QueryResult | string): string[] {
  return typeof result !== 'string' && result.value.type === 'vector' ? result.value.labels.map(formatLabels) : [];
}

describe('a vector where the series are', () => {
  const WHOLES: readonly {
    whole: string;
    form: (inner: string, grouping: string) => string;
    isExact?: false;
    isOrdered?: true;
  }[] = [
    { whole: 'itself', form: (inner) => inner },
    { whole: 'quantile', form: (inner, grouping) => `quantile${grouping} (0.7, ${inner})` },
    { whole: 'stddev', form: (inner, grouping) => `stddev${grouping} (${inner})`, isExact: false },
    { whole: 'count_values', form: (inner, grouping) => `count_values${grouping} ("v", ${inner})` },
    { whole: 'limitk', form: (inner, grouping) => `limitk${grouping} (2, ${inner})` },
    { whole: 'sort', form: (inner) => `sort_desc(${inner})` },
    { whole: 'histogram_quantile', form: (inner) => `histogram_quantile(0.9, ${inner})` },
    { whole: 'a subquery', form: (inner) => `max_over_time((${inner})[10m:5m])` },
    { whole: 'timestamp', form: (inner) => `timestamp(${inner})` },
    { whole: 'absent', form: (inner) => `absent(${inner})` },
    { whole: 'operators', form: (inner) => `(-${inner}) > bool 3 or ${inner} / ${inner} unless on (a) ${inner}` },
    { whole: 'topk of few', form: (inner, grouping) => `topk${grouping} (1, ${inner})`, isOrdered: true },
    { whole: 'topk', form: (inner, grouping) => `topk${grouping} (2.9, ${inner})`, isOrdered: true },
    { whole: 'topk of none', form: (inner, grouping) => `topk${grouping} (0, ${inner})`, isOrdered: true },
    { whole: 'topk of no number', form: (inner, grouping) => `topk${grouping} (NaN, ${inner})` },
    { whole: 'topk by an expression', form: (inner, grouping) => `topk${grouping} (1 + 1, ${inner})`, isOrdered: true },
    { whole: 'bottomk', form: (inner, grouping) => `bottomk${grouping} (3, (${inner}))`, isOrdered: true },
    { whole: 'bottomk of all', form: (inner, grouping) => `bottomk${grouping} (100, ${inner})`, isOrdered: true },
    { whole: 'topk in a sum', form: (inner, grouping) => `count${grouping} (topk (2, ${inner}))` },
  ];
  for (const { whole, form, isExact = true, isOrdered = false } of WHOLES) {
    it(`gives the same: ${whole}`, { timeout: 120_000 }, async () => {
      let evaluateCount = 0;
      await fc.assert(
        fc.asyncProperty(dataset, modifiers, times, async (data, { selector, range, grouping, offset, at }, time) => {
          const store = storeOf(data, new AggregatingStore());
          const plain = storeOf(data);
          for (const inner of [`${selector}${at}${offset}`, ...calls(`${selector}${range}${at}${offset}`)]) {
            const query = form(inner, grouping);
            const pushed = await ask(store, query, time);
            const own = await ask(plain, query, time);
            same(query, pushed, own, isExact);
            if (isOrdered && !inner.includes('=~')) expect(orderOf(pushed), query).toEqual(orderOf(own));
          }
          evaluateCount += store.evaluateCount;
        }),
        { numRuns: 25 },
      );
      expect(evaluateCount).toBeGreaterThan(0);
    });
  }

  it('breaks ties by labels, whatever the metric name and wherever it stands among them', async () => {
    // Without the name the second is a prefix of the first; with it, it comes after.
    const filled = <S extends MemoryStore>(store: S): S => {
      const columns = { timestamps: Float64Array.of(START_MS), values: Float64Array.of(1) };
      // Dealt out over three nodes in turn: those that are three apart meet in one.
      store.add({ __name__: 'm', A: '1' }, columns);
      store.add({ __name__: 'm', b: '\u{10000}' }, columns);
      store.add({ __name__: 'm', b: 'x'.repeat(200) }, columns);
      store.add({ __name__: 'm' }, columns);
      store.add({ __name__: 'm', b: '\uffee' }, columns);
      store.add({ __name__: 'm', b: 'y' }, columns);
      return store;
    };
    for (let k = 1; k <= 6; k++) {
      for (const inner of ['m', 'last_over_time(m[5m])', 'max_over_time(m[5m])', 'count_over_time(m[5m])']) {
        for (const query of [`topk(${k}, ${inner})`, `bottomk(${k}, ${inner})`, `topk by (b) (${k}, ${inner})`]) {
          const pushed = await ask(filled(new AggregatingStore()), query, { timeMs: START_MS });
          expect(orderOf(pushed), query).toEqual(
            orderOf(await ask(filled(new MemoryStore()), query, { timeMs: START_MS })),
          );
        }
      }
    }
  });

  it('shows groups in the order of their first series, though these are not chosen', async () => {
    const filled = <S extends MemoryStore>(store: S): S => {
      // Those that are three apart meet in one node, which sends the better one.
      for (const [i, value] of [1, 9, 5, 9, 1, 6].entries()) {
        const labels = { __name__: 'm', a: i < 3 ? 'x' : 'y', b: String((i % 3) + 1) };
        store.add(labels, { timestamps: Float64Array.of(START_MS), values: Float64Array.of(value) });
      }
      return store;
    };
    for (const query of ['topk by (b) (1, m)', 'bottomk without (a) (1, max_over_time(m[5m]))', 'topk by (b) (2, m)']) {
      const pushed = orderOf(await ask(filled(new AggregatingStore()), query, { timeMs: START_MS }));
      expect(pushed, query).toHaveLength(query.includes('2') ? 6 : 3);
      expect(pushed, query).toEqual(orderOf(await ask(filled(new MemoryStore()), query, { timeMs: START_MS })));
    }
  });

  it('comes once where it is asked for twice, and with the samples where these are fewer bytes', async () => {
    const data = fc.sample(dataset, { numRuns: 1, seed: 7 })[0] as Parameters<typeof storeOf>[0];
    const store = storeOf(data, new AggregatingStore());
    await ask(store, 'rate(c_total[5m]) / rate(c_total[5m])', { timeMs: START_MS + 600_000 });
    expect([store.evaluateCount, store.selectCount]).toEqual([1, 1]);
    await ask(store, 'quantile_over_time(NaN, m[5m]) or quantile_over_time(Inf, m[5m])', {
      timeMs: START_MS + 600_000,
    });
    expect(store.evaluateCount).toBe(3);
    const dense = { startMs: START_MS, endMs: START_MS + 600_000, stepMs: 5_000 };
    await ask(store, 'm', dense);
    await ask(store, 'rate(c_total[5m])', dense);
    expect(store.evaluateCount).toBe(3);
    await ask(store, 'topk(2, rate(c_total[5m]))', dense);
    expect(store.evaluateCount).toBe(4);
  });
});
