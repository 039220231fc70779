import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Engine, type QueryOptions } from '../../coordinator/promql/engine.ts';
import { type RangeTime, ResultCache } from '../../coordinator/query/cache.ts';
import { Cluster, type ClusterOptions } from '../../coordinator/query/cluster.ts';
import type { Env } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import { ChunkCodec } from '../../core/kernel/codec.ts';
import { WINDOW_MS } from '../../core/kernel/shard.ts';
import { Aggregator } from '../../core/promql/groups.ts';
import { BestSeries, isBest, PointsWriter, VALUES } from '../../core/promql/points.ts';
import { Budget } from '../../node/shard/budget.ts';
import { Shard } from '../../node/shard/shard.ts';
import { batchOf, bitsOf, EVERYTHING, type Sample, STALE } from '../shard/model.ts';
import { Sim } from '../sim/sim.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const FIRST_MS = Date.UTC(2025, 11, 31, 14);
const SHARD = 3;
const codec = ChunkCodec.create();

const OPTIONS = {
  shard: SHARD,
  maxSampleAgeMs: Number.POSITIVE_INFINITY,
  checkpointIntervalMs: 1,
  sealDelayMs: 0,
  sealIdleMs: 0,
  sliceMs: 0,
  limits: { maxSeriesCount: 256, maxKernelBytes: 1 << 24 },
};

const QUERIES = [
  'm',
  'sum by (half) (rate(m[10m]))',
  'sum_over_time(m[3h])',
  'm offset 2h',
  'm @ 1767200000',
  'max_over_time(rate(m[5m])[1h:5m])',
  'count(m) or vector(1)',
  'scalar(count(m))',
  // Not stepwise: they pass by.
  'm @ end()',
  'topk(2, m)',
];

const sample: fc.Arbitrary<Sample> = fc.record({
  series: fc.integer({ min: 0, max: 3 }).map((n) => `s${n}`),
  timestampMs: fc.integer({ min: 0, max: 600 }).map((n) => FIRST_MS + n * MINUTE),
  bits: fc.oneof(fc.integer({ min: -9, max: 99 }).map(bitsOf), fc.constantFrom(STALE, bitsOf(Number.NaN))),
});

const time: fc.Arbitrary<RangeTime> = fc
  .record({
    start: fc.integer({ min: 0, max: 30 }),
    length: fc.integer({ min: 0, max: 40 }),
    stepMs: fc.constantFrom(5 * MINUTE, 15 * MINUTE, 3 * HOUR),
  })
  .map(({ start, length, stepMs }) => {
    const startMs = FIRST_MS + start * 15 * MINUTE;
    return { startMs, endMs: startMs + length * 15 * MINUTE, stepMs };
  });

type Step =
  | { readonly write: readonly Sample[] }
  | { readonly ask: string; readonly time: RangeTime }
  | { readonly remove: string; readonly fromMinute: number; readonly minutes: number }
  | 'tick'
  | 'restart';

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ write: fc.array(sample, { minLength: 1, maxLength: 30 }) }) },
  { weight: 5, arbitrary: fc.record({ ask: fc.constantFrom(...QUERIES), time }) },
  {
    weight: 1,
    arbitrary: fc.record({
      remove: fc.integer({ min: 0, max: 3 }).map((n) => `s${n}`),
      fromMinute: fc.integer({ min: 0, max: 600 }),
      minutes: fc.integer({ min: 0, max: 200 }),
    }),
  },
  { weight: 2, arbitrary: fc.constant<Step>('tick') },
  { weight: 1, arbitrary: fc.constant<Step>('restart') },
);

/** A shard on a simulated machine, read through the cluster's own door, and what is asked of it. */
class Bench {
  readonly sim: Sim;
  shard!: Shard;
  /** The copy that samples come from; undefined: the same that versions do. */
  otherCopy: Shard | undefined;
  readonly cache: ResultCache;
  versionsFail: SilverbackError | undefined;
  #env: Env;
  readonly #engine: Engine;
  readonly #cluster: Cluster;
  readonly #budget = new Budget(1 << 30);

  constructor(seed: number, maxBytes = 1 << 20) {
    this.sim = new Sim(seed);
    this.#env = this.sim.boot();
    const env = this.#env;
    const covered = ({ fromMs, toMs }: { fromMs: number; toMs: number }, copy = 'east/e1') => [
      { shard: SHARD, fromMs, toMs, state: 'complete' as const, reason: '', copy },
    ];
    const source = (): [Shard, string] => (this.otherCopy ? [this.otherCopy, 'west/w1'] : [this.shard, 'east/e1']);
    const unused = async () => ({ values: [], coverage: [] });
    const reader: ClusterOptions['reader'] = {
      select: async (request, receive) => {
        const [shard, copy] = source();
        for await (const page of shard.select({ ...EVERYTHING, ...request })) await receive(page);
        return { coverage: covered(request, copy) };
      },
      cardinality: async () => ({ values: [], coverage: [] }),
      aggregate: async (request, receive) => {
        const [shard, copy] = source();
        const { aggregation } = request;
        const query = { ...EVERYTHING, ...request };
        if (aggregation.operation === VALUES) {
          for await (const page of shard.points(query, new PointsWriter(aggregation))) await receive(page);
        } else {
          const taker = isBest(aggregation.operation) ? new BestSeries(aggregation) : new Aggregator(aggregation);
          await shard.aggregate(query, taker, 1e6);
          for (const page of taker.pages(1e5)) await receive(page);
        }
        return { coverage: covered(request, copy) };
      },
      windowVersions: async (range) => {
        if (this.versionsFail !== undefined) throw this.versionsFail;
        return {
          values: Array.from(
            this.shard.windowVersions(range),
            ([startMs, version]) => `${startMs} ${SHARD} ${version}`,
          ),
          coverage: covered(range),
        };
      },
      series: async () => ({ coverage: [] }),
      labelNames: unused,
      labelValues: unused,
      exemplars: async () => ({ coverage: [] }),
      metadata: unused,
    };
    // The engine's own pauses must not wait for simulated time.
    this.#engine = new Engine({
      clock: env.clock,
      timers: { ...env.timers, after: () => ({ cancel: () => undefined }), yield: async () => undefined },
    });
    this.#cluster = new Cluster({ reader, codec });
    this.cache = new ResultCache({
      clock: env.clock,
      timers: { ...env.timers, after: () => ({ cancel: () => undefined }), yield: async () => undefined },
      engine: this.#engine,
      queryable: this.#cluster,
      windowVersions: (range, context) => this.#cluster.windowVersions(range, context),
      maxBytes,
    });
  }

  async open(): Promise<void> {
    this.#env = this.sim.boot();
    this.shard = await this.copyIn('/d');
  }

  copyIn(directory: string): Promise<Shard> {
    return this.sim.settle(Shard.open(this.#env, directory, { ...OPTIONS, budget: this.#budget }));
  }

  async restart(): Promise<void> {
    await this.sim.settle(this.shard.close());
    await this.open();
  }

  async write(samples: readonly Sample[]): Promise<void> {
    const sender = this.shard.attach();
    const refs = (series: string) => Number(series.slice(1));
    const batch = batchOf(samples, refs, new Set(samples.map((one) => one.series)));
    expect(await this.sim.settle(sender.append(batch, 'FSYNC'))).toMatchObject({ code: 'OK', rejections: [] });
    sender.detach();
  }

  async remove(series: string, fromMinute: number, minutes: number): Promise<void> {
    const fromMs = FIRST_MS + fromMinute * MINUTE;
    const matchers = [{ name: 's', op: '=', value: series }] as const;
    await this.sim.settle(this.shard.delete(matchers, fromMs, fromMs + minutes * MINUTE));
  }

  async fresh(text: string, time: RangeTime) {
    const { value, infos } = await this.sim.settle(this.#engine.query(this.#cluster, text, time));
    return { value, infos };
  }

  kept(text: string, time: RangeTime, options: QueryOptions = {}) {
    return this.sim.settle(this.cache.query(text, time, options));
  }
}

test('a kept answer equals a fresh one after any sequence of writes, deletions, seals and restarts', async () => {
  let hits = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), fc.integer(), async (steps, seed) => {
      const bench = new Bench(seed);
      await bench.open();
      await bench.sim.advance(16 * HOUR);
      for (const one of steps) {
        if (one === 'tick') {
          await bench.sim.advance(MINUTE);
          await bench.sim.settle(bench.shard.tick());
        } else if (one === 'restart') await bench.restart();
        else if ('write' in one) await bench.write(one.write);
        else if ('remove' in one) await bench.remove(one.remove, one.fromMinute, one.minutes);
        else {
          const { value } = await bench.kept(one.ask, one.time);
          expect(value).toEqual((await bench.fresh(one.ask, one.time)).value);
          const again = await bench.kept(one.ask, one.time);
          expect(again.value).toEqual(value);
        }
      }
      hits += bench.cache.stats().hitSteps;
    }),
    { numRuns: 150 },
  );
  expect(hits).toBeGreaterThan(1000);
}, 300_000);

const DAY = { startMs: FIRST_MS, endMs: FIRST_MS + 8 * HOUR, stepMs: 5 * MINUTE };
const at = (series: string, minute: number, value: number): Sample => ({
  series,
  timestampMs: FIRST_MS + minute * MINUTE,
  bits: bitsOf(value),
});

async function filled(maxBytes?: number): Promise<Bench> {
  const bench = new Bench(7, maxBytes);
  await bench.open();
  await bench.sim.advance(24 * HOUR);
  await bench.write(Array.from({ length: 500 }, (_, i) => at('s1', i, i)));
  return bench;
}

test('a late sample makes only the steps that look at its window anew', async () => {
  const bench = await filled();
  expect((await bench.kept('m', DAY)).cachedSteps).toBe(0);
  expect((await bench.kept('m', DAY)).cachedSteps).toBe(97);
  await bench.write([at('s1', 481, -5)]);
  // The last window has the steps of minute 480 alone.
  const { cachedSteps, value } = await bench.kept('m', DAY);
  expect(cachedSteps).toBe(96);
  expect(value).toEqual((await bench.fresh('m', DAY)).value);
  expect(bench.cache.stats().staleCount).toBe(1);
});

test('a longer query takes what a shorter one left, and the other way round', async () => {
  const bench = await filled();
  await bench.kept('m', { ...DAY, endMs: DAY.startMs + 4 * HOUR - 1 });
  expect((await bench.kept('m', DAY)).cachedSteps).toBe(48);
  const part = { ...DAY, startMs: DAY.startMs + HOUR, endMs: DAY.startMs + 3 * HOUR };
  expect(await bench.kept('m', part)).toMatchObject({ cachedSteps: 25, value: (await bench.fresh('m', part)).value });
  // Other steps are other answers.
  expect((await bench.kept('m', { ...DAY, startMs: DAY.startMs + MINUTE })).cachedSteps).toBe(0);
});

test('a window that closed as it was and opens again is not taken for what it was', async () => {
  const bench = await filled();
  const sealed = async () => {
    while (bench.shard.stats().openWindowCount > 0) {
      await bench.sim.advance(MINUTE);
      await bench.sim.settle(bench.shard.tick());
    }
  };
  await sealed();
  await bench.write([at('s1', 1, 1)]);
  await bench.kept('m', DAY);
  await sealed();
  await bench.write([at('s2', 2, 2)]);
  const { value } = await bench.kept('m', DAY);
  expect(value).toEqual((await bench.fresh('m', DAY)).value);
  expect(value).toMatchObject({ series: { length: 2 } });
});

test('the window that is being written is never kept', async () => {
  const bench = await filled();
  const nowMs = FIRST_MS + 10 * HOUR + 24 * HOUR;
  const time = { startMs: nowMs - 3 * WINDOW_MS, endMs: nowMs, stepMs: 5 * MINUTE };
  await bench.kept('m', time);
  const { cachedSteps } = await bench.kept('m', time);
  expect(cachedSteps).toBeGreaterThan(0);
  expect(cachedSteps).toBeLessThanOrEqual(72);
});

test('a query of too many steps is refused however much of it is kept', async () => {
  const bench = await filled();
  const step = { stepMs: 1_000 };
  for (let window = 0; window < 4; window++) {
    const startMs = FIRST_MS + window * WINDOW_MS;
    await bench.kept('m', { startMs, endMs: startMs + WINDOW_MS - 1_000, ...step });
  }
  const whole = { startMs: FIRST_MS, endMs: FIRST_MS + 4 * WINDOW_MS - 1_000, ...step };
  expect((await bench.kept('m', { ...whole, endMs: FIRST_MS + WINDOW_MS })).cachedSteps).toBeGreaterThan(0);
  await expect(bench.kept('m', whole)).rejects.toThrow('exceeded maximum resolution of 11,000 points');
});

test('while no versions are to be had, queries are answered without what is kept', async () => {
  const bench = await filled();
  const { value } = await bench.kept('m', DAY);
  bench.versionsFail = new SilverbackError('UNAVAILABLE', 'no answer');
  expect(await bench.kept('m', DAY)).toMatchObject({ cachedSteps: 0, value });
  const controller = new AbortController();
  controller.abort();
  await expect(bench.kept('m', DAY, { signal: controller.signal })).rejects.toMatchObject({ type: 'canceled' });
});

test('an answer of another copy than the versions is not kept', async () => {
  for (const query of ['m', 'sum(m)']) {
    const bench = await filled();
    const { value } = await bench.fresh(query, DAY);
    // A copy that lags and does not know it: it holds nothing yet.
    bench.otherCopy = await bench.copyIn('/lagging');
    expect((await bench.kept(query, DAY)).value).toMatchObject({ series: [] });
    bench.otherCopy = undefined;
    expect(await bench.kept(query, DAY)).toMatchObject({ cachedSteps: 0, value });
    expect(await bench.kept(query, DAY)).toMatchObject({ cachedSteps: 97, value });
  }
});

test('what one region answered is not the answer of another', async () => {
  const bench = await filled();
  await bench.kept('m', DAY);
  expect((await bench.kept('m', DAY, { region: 'east' })).cachedSteps).toBe(0);
  expect((await bench.kept('m', DAY, { region: 'east' })).cachedSteps).toBe(97);
  expect((await bench.kept('m', DAY, { region: 'west' })).cachedSteps).toBe(0);
});

test('what is kept stays within its bytes', async () => {
  const bench = await filled(20_000);
  for (let i = 0; i < 20; i++) await bench.kept(`m + ${i}`, DAY);
  const { bytes, evictedCount } = bench.cache.stats();
  expect(bytes).toBeLessThanOrEqual(20_000);
  expect(evictedCount).toBeGreaterThan(0);
});
