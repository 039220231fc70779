import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formatValue } from '../../coordinator/promql/digits.ts';
import { Engine } from '../../coordinator/promql/engine.ts';
import { QueryError } from '../../coordinator/promql/error.ts';
import { encodeResult, formatTime } from '../../coordinator/promql/format.ts';
import type { SeriesSet } from '../../coordinator/query/queryable.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { SilverbackError } from '../../core/errors.ts';
import { MemoryStore } from './store.ts';

const MINUTE_MS = 60_000;
let store: MemoryStore;

beforeEach(() => {
  store = new MemoryStore();
  const timestamps = Float64Array.from({ length: 200 }, (_, i) => i * 15_000);
  for (let k = 0; k < 20; k++) {
    store.add(
      { __name__: 'c_total', host: `h${k}` },
      { timestamps, values: Float64Array.from(timestamps, (_, i) => i * (k + 1)) },
    );
  }
});
afterEach(() => store.clear());

const range = { startMs: 10 * MINUTE_MS, endMs: 20 * MINUTE_MS, stepMs: MINUTE_MS };

describe('limits', () => {
  it('refuses more than 11,000 steps after the first, as the API words it', async () => {
    const engine = new Engine(nodeEnv);
    const ask = (endMs: number): Promise<unknown> => engine.query(store, '1', { startMs: 0, endMs, stepMs: 1000 });
    await expect(ask(11_000_000)).resolves.toBeDefined();
    await expect(ask(11_001_000)).rejects.toMatchObject({
      type: 'bad_data',
      httpStatus: 400,
      message:
        'exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)',
    });
  });

  it('refuses an end before the start, and a step of 0', async () => {
    const engine = new Engine(nodeEnv);
    await expect(engine.query(store, '1', { startMs: 2, endMs: 1, stepMs: 1 })).rejects.toThrow('must not be before');
    await expect(engine.query(store, '1', { startMs: 1, endMs: 2, stepMs: 0 })).rejects.toThrow('zero or negative');
  });

  it('bounds the samples held', async () => {
    const engine = new Engine(nodeEnv, { maxSamples: 100 });
    await expect(engine.query(store, 'c_total', range)).rejects.toMatchObject({
      type: 'execution',
      httpStatus: 422,
      message: 'query processing would load too many samples into memory in query execution',
    });
    await expect(engine.query(store, 'sum(c_total)', range)).resolves.toBeDefined();
  });

  it('bounds the series selected', async () => {
    const engine = new Engine(nodeEnv, { maxSeries: 19 });
    await expect(engine.query(store, 'sum(c_total)', range)).rejects.toThrow('selects 20 series where at most 19');
  });

  it('has a lookback of its own for a query', async () => {
    const engine = new Engine(nodeEnv);
    const at = { timeMs: 200 * 15_000 + MINUTE_MS };
    const count = async (lookbackMs: number): Promise<unknown> =>
      (await engine.query(store, 'count(c_total) or vector(0)', at, { lookbackMs })).value;
    expect(await count(2 * MINUTE_MS)).toMatchObject({ values: Float64Array.of(20) });
    expect(await count(MINUTE_MS)).toMatchObject({ values: Float64Array.of(0) });
  });
});

describe('stopping', () => {
  it('is timeout when the time is up, though the storage never answers', async () => {
    const engine = new Engine(nodeEnv, { timeoutMs: 20 });
    store.select = (_, { signal }): Promise<SeriesSet> =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(new SilverbackError('CANCELLED', 'stopped')));
      });
    await expect(engine.query(store, 'c_total', range)).rejects.toMatchObject({
      type: 'timeout',
      code: 'TIMEOUT',
      httpStatus: 503,
      message: 'query timed out in query execution',
    });
  });

  it('is canceled when the caller goes', async () => {
    const engine = new Engine(nodeEnv);
    const caller = new AbortController();
    store.select = (_, { signal }): Promise<SeriesSet> =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(new SilverbackError('CANCELLED', 'stopped')));
        caller.abort();
      });
    await expect(engine.query(store, 'c_total', range, { signal: caller.signal })).rejects.toMatchObject({
      type: 'canceled',
      code: 'CANCELLED',
    });
  });

  it('is noticed in the middle of an evaluation, which gives way to others', async () => {
    const engine = new Engine(nodeEnv);
    const timestamps = Float64Array.from({ length: 20_000 }, (_, i) => i * 1000);
    store.add({ __name__: 'long' }, { timestamps, values: timestamps });
    const caller = new AbortController();
    let turns = 0;
    const timer = setInterval(() => {
      if (++turns === 3) caller.abort();
    }, 1);
    const query = 'stddev_over_time(long[3h])';
    const heavy = { startMs: 15_000_000, endMs: 25_000_000, stepMs: 1000 };
    await expect(engine.query(store, query, heavy, { signal: caller.signal })).rejects.toThrow('query was canceled');
    clearInterval(timer);
    expect(turns).toBe(3);
  });

  it('passes on what the storage says of itself', async () => {
    const engine = new Engine(nodeEnv);
    const failure = new SilverbackError('UNAVAILABLE', 'node 3 is down');
    store.select = () => Promise.reject(failure);
    await expect(engine.query(store, 'c_total', range)).rejects.toBe(failure);
  });
});

describe('an answer', () => {
  it('carries coverage, warnings and statistics', async () => {
    store.coverage = [{ shard: 3, fromMs: 0, toMs: 1, state: 'missing', reason: 'taking over' }];
    store.warnings = ['shard 3 is missing'];
    const engine = new Engine(nodeEnv);
    const result = await engine.query(store, 'sum(rate(c_total[5m])) / sum(rate(c_total[5m]))', range, {
      perStepStats: true,
    });
    expect(result.coverage).toEqual(store.coverage);
    expect(result.warnings).toEqual(['shard 3 is missing']);
    expect(store.selectCount).toBe(1);
    // 11 steps, 20 series, 20 samples in 5 minutes, on both sides.
    expect(result.stats.totalQueryableSamples).toBe(2 * 11 * 20 * 20);
    expect(Array.from(result.stats.samplesPerStep ?? [])).toEqual(new Array(11).fill(800));
    expect(result.stats.totalMs).toBeGreaterThanOrEqual(result.stats.evalMs);
  });

  it('shares one timestamps array between series without gaps', async () => {
    const { value } = await new Engine(nodeEnv).query(store, 'c_total', range);
    if (value.type !== 'matrix') throw new Error('not a matrix');
    expect(value.series.length).toBe(20);
    expect(new Set(value.series.map((s) => s.timestamps)).size).toBe(1);
  });

  it('keeps the bits of a NaN', async () => {
    const values = new Float64Array(1);
    new Uint32Array(values.buffer).set([0x1234, 0x7ff80000]);
    store.add({ __name__: 'odd' }, { timestamps: Float64Array.of(MINUTE_MS), values });
    const { value } = await new Engine(nodeEnv).query(store, 'odd', { timeMs: MINUTE_MS });
    if (value.type !== 'vector') throw new Error('not a vector');
    expect([...new Uint32Array(value.values.buffer, value.values.byteOffset, 2)]).toEqual([0x1234, 0x7ff80000]);
  });

  it('takes a tree in place of a text', async () => {
    const engine = new Engine(nodeEnv);
    const { value } = await engine.query(store, engine.parse('count(c_total)'), { timeMs: MINUTE_MS });
    expect(value).toMatchObject({ type: 'vector', values: Float64Array.of(20) });
  });

  it('evaluates a text that it has parsed before as if it were new', async () => {
    const engine = new Engine(nodeEnv);
    for (const text of ['sum(rate(c_total[1m:15s] @ end()))', 'sum(c_total) + sum(c_total offset 30s)']) {
      for (const time of [range, { ...range, endMs: range.endMs + MINUTE_MS }, { timeMs: MINUTE_MS }]) {
        const [known, fresh] = [
          await engine.query(store, text, time),
          await new Engine(nodeEnv).query(store, text, time),
        ];
        expect(known.value).toEqual(fresh.value);
      }
      expect(engine.parse(text)).toBe(engine.parse(text));
    }
  });

  it('is refused with a QueryError for bad text', async () => {
    await expect(new Engine(nodeEnv).query(store, 'sum(', range)).rejects.toBeInstanceOf(QueryError);
  });
});

describe('JSON', () => {
  const encode = async (query: string, time: Parameters<Engine['query']>[2], options = {}): Promise<unknown> => {
    const { value } = await new Engine(nodeEnv).query(store, query, time);
    return JSON.parse(Buffer.concat([...encodeResult(value, options)]).toString());
  };

  it.each([
    [0, '0'],
    [-0, '-0'],
    [1e21, '1e+21'],
    [123456789012345680000, '123456789012345680000'],
    [1e-7, '1e-07'],
    [-2.5e-9, '-2.5e-09'],
    [1e-10, '1e-10'],
    [0.000001, '0.000001'],
    [Infinity, '+Inf'],
    [-Infinity, '-Inf'],
    [Number.NaN, 'NaN'],
  ])('writes the value %d as %s', (value, text) => {
    expect(formatValue(value)).toBe(text);
  });

  it.each([
    [1500, '1.500'],
    [1000, '1'],
    [1_700_000_000_007, '1700000000.007'],
    [-1, '-0.001'],
  ])('writes the time %d ms as %s', (ms, text) => {
    expect(formatTime(ms)).toBe(text);
  });

  it('has the four shapes of the API', async () => {
    expect(await encode('c_total{host="h1"}', { timeMs: 60_500 })).toEqual({
      resultType: 'vector',
      result: [{ metric: { __name__: 'c_total', host: 'h1' }, value: [60.5, '8'] }],
    });
    expect(await encode('c_total{host="h1"}', { startMs: 0, endMs: 30_000, stepMs: 15_000 })).toEqual({
      resultType: 'matrix',
      result: [
        {
          metric: { __name__: 'c_total', host: 'h1' },
          values: [
            [0, '0'],
            [15, '2'],
            [30, '4'],
          ],
        },
      ],
    });
    expect(await encode('1 / 0', { timeMs: 0 })).toEqual({ resultType: 'scalar', result: [0, '+Inf'] });
    expect(await encode('"a\\"b"', { timeMs: 0 })).toEqual({ resultType: 'string', result: [0, 'a"b'] });
  });

  it('cuts to a limit and takes further members', async () => {
    const data = (await encode('c_total', range, { limit: 2, extra: ['"stats":{"a":1}'] })) as {
      result: unknown[];
      stats: unknown;
    };
    expect(data.result.length).toBe(2);
    expect(data.stats).toEqual({ a: 1 });
  });
});
