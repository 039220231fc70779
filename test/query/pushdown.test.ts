/** Aggregations computed by nodes, where something is in their way: too many groups, impatience, nodes that fail midway. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Client } from '../../client/client.ts';
import { StaticPlacement } from '../../client/placement.ts';
import { Reader } from '../../client/reader.ts';
import { Engine } from '../../coordinator/promql/engine.ts';
import { Cluster } from '../../coordinator/query/cluster.ts';
import type { Queryable } from '../../coordinator/query/queryable.ts';
import { SilverbackError } from '../../core/errors.ts';
import { ChunkCodec } from '../../core/kernel/codec.ts';
import { encodeIdentity, makeLabels } from '../../core/labels.ts';
import { Aggregator } from '../../core/promql/groups.ts';
import type { AggregateRequest, SelectRequest } from '../../core/protocol.ts';
import { complete, env, FakeNode, placementOf, type SentReply } from '../client/fake.ts';
import { allOn, removeDirectory, serve, temporaryDirectory } from '../node/cluster.ts';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const codec = ChunkCodec.create();
const engine = new Engine(env);

function clusterOf(placement: StaticPlacement): Cluster {
  const reader = new Reader({ env, placement, caller: 'test' });
  closers.push(() => reader.close());
  return new Cluster({ reader, codec });
}

describe('an aggregation on a real node', () => {
  it('of more groups than are worth it is selected instead, and gives the same', { timeout: 120_000 }, async () => {
    const directory = await temporaryDirectory();
    closers.push(() => removeDirectory(directory));
    const served = await serve(directory);
    closers.push(() => served.close());
    await served.node.assign([0, 1, 2, 3]);
    const client = new Client({ endpoints: [], placement: allOn(served.address), onDrop: () => undefined });
    closers.push(() => client.close(100));
    const seriesCount = 410;
    await client.write(
      Array.from({ length: 3 * seriesCount }, (_, k) => ({
        labels: { __name__: 'm', i: String(k % seriesCount) },
        timestampMs: 100_000 * Math.floor(k / seriesCount),
        value: k,
      })),
    );
    const cluster = clusterOf(allOn(served.address));
    const asked: string[] = [];
    const watched = {
      select: (...args: Parameters<Cluster['select']>) => {
        asked.push('select');
        return cluster.select(...args);
      },
      aggregate: async (...args: Parameters<Cluster['aggregate']>) => {
        const found = await cluster.aggregate(...args);
        asked.push(found === undefined ? 'too fine' : 'aggregated');
        return found;
      },
      series: cluster.series.bind(cluster),
      labelNames: cluster.labelNames.bind(cluster),
      labelValues: cluster.labelValues.bind(cluster),
    };
    // 410 groups of 10,990 steps are more than the 4 Mi values that a node holds.
    const time = { startMs: 0, endMs: 10_989 * 20, stepMs: 20 };
    const fine = await engine.query(watched, 'sum by (i) (m)', time);
    expect(asked).toEqual(['too fine', 'select']);
    expect(fine.coverage.map(({ shard, state }) => [shard, state])).toEqual(
      [0, 1, 2, 3].map((shard) => [shard, 'complete']),
    );
    if (fine.value.type !== 'matrix') throw new Error(fine.value.type);
    expect(fine.value.series).toHaveLength(seriesCount);
    for (const { labels, values, timestamps } of fine.value.series) {
      const i = Number(labels[1]);
      expect(timestamps.length).toBe(10_990);
      expect([values[0], values[4_999], values[5_000], values[10_989]]).toEqual([
        i,
        i,
        i + seriesCount,
        i + 2 * seriesCount,
      ]);
    }
    const coarse = await engine.query(watched, 'sum (m)', time);
    expect(asked).toEqual(['too fine', 'select', 'aggregated']);
    if (coarse.value.type !== 'matrix') throw new Error(coarse.value.type);
    expect(coarse.value.series[0]?.values[0]).toBe((seriesCount * (seriesCount - 1)) / 2);
  });
});

describe('what a real node computes', () => {
  it('is what comes of its samples, in whatever order they came', { timeout: 120_000 }, async () => {
    const directory = await temporaryDirectory();
    closers.push(() => removeDirectory(directory));
    const served = await serve(directory);
    closers.push(() => served.close());
    await served.node.assign([0, 1, 2, 3]);
    const client = new Client({ endpoints: [], placement: allOn(served.address), onDrop: () => undefined });
    closers.push(() => client.close(100));
    // Two windows of samples in 15 s, gaps among them, what is late after the rest.
    const odd = [-0, Number.NaN, Infinity, -Infinity, 5e-324, 1e308];
    const samples = Array.from({ length: 40 * 900 }, (_, k) => {
      const i = k % 40;
      const at = Math.floor(k / 40);
      const value = (k * 7919) % 97 === 0 ? (odd[k % odd.length] as number) : ((k * 31) % 1000) / 8 + (i % 3) * at;
      return {
        labels: { __name__: i < 30 ? 'm' : 'c_total', i: String(i), a: String(i % 4) },
        timestampMs: 15_000 * at + (i % 7),
        value: i % 5 === 0 ? at % 50 : value,
      };
    }).filter((_, k) => (k * 6151) % 89 > 4 && !((k % 40) % 6 === 1 && k > 8_000 && k < 12_000));
    const isLate = (k: number) => (k * 4099) % 17 === 0;
    await client.write(samples.filter((_, k) => !isLate(k)));
    await client.write(samples.filter((_, k) => isLate(k)).reverse());
    const cluster = clusterOf(allOn(served.address));
    const asked: string[] = [];
    const computing: Queryable = {
      select: (...args) => {
        asked.push('select');
        return cluster.select(...args);
      },
      aggregate: cluster.aggregate.bind(cluster),
      evaluate: cluster.evaluate.bind(cluster),
      series: cluster.series.bind(cluster),
      labelNames: cluster.labelNames.bind(cluster),
      labelValues: cluster.labelValues.bind(cluster),
    };
    const { aggregate: _, evaluate: __, ...selecting } = computing;
    const endMs = 15_000 * 899;
    for (const query of [
      'm',
      'rate(c_total[5m])',
      'quantile_over_time(0.9, m[10m])',
      'topk(5, avg_over_time(m[10m]))',
      'bottomk by (a) (2, m)',
      'topk by (a) (3, m % 10)',
      'quantile by (a) (0.3, m)',
      'count_values("v", changes(m[20m]))',
      'max by (a) (m)',
      'stddev_over_time(m[1h]) > 3',
      'm / on (i, a) last_over_time(m[7m])',
    ]) {
      for (const time of [
        { timeMs: endMs - 1_000_000 },
        { startMs: endMs - 9_000_000, endMs, stepMs: 60_000 },
        { startMs: 0, endMs, stepMs: 600_000 },
      ]) {
        asked.length = 0;
        const found = await engine.query(computing, query, time, { perStepStats: true });
        if ('timeMs' in time) expect(asked, query).toEqual([]);
        const own = await engine.query(selecting, query, time, { perStepStats: true });
        const sorted = ({ value }: typeof own) => {
          if (value.type === 'matrix') return value.series;
          if (value.type !== 'vector') throw new Error(value.type);
          const pairs = value.labels.map((labels, at) => [labels.join(','), value.values[at]] as const);
          return /topk|bottomk/.test(query) ? pairs : pairs.sort(([x], [y]) => (x < y ? -1 : 1));
        };
        expect(sorted(found), query).toEqual(sorted(own));
        expect(found.stats.samplesPerStep, query).toEqual(own.stats.samplesPerStep);
      }
    }
  });
});

describe('an aggregation', () => {
  let a: FakeNode;
  let b: FakeNode;

  beforeEach(async () => {
    a = await FakeNode.start();
    b = await FakeNode.start();
    closers.push(
      () => a.stop(),
      () => b.stop(),
    );
  });

  /** The pages of `groups` series of value 1 for each asked shard. */
  function pagesOf(request: AggregateRequest, groups = 1): Uint8Array[] {
    const aggregator = new Aggregator({
      ...request,
      reference: { startMs: request.startMs, stepMs: request.stepMs },
    });
    for (const shard of (request.select as SelectRequest).shards) {
      for (let i = 0; i < groups; i++) {
        const labels = makeLabels({ __name__: 'm', g: String(i), shard: String(shard) });
        aggregator.add(encodeIdentity(labels), Float64Array.of(TIME_MS), Float64Array.of(1), 1);
      }
    }
    return [...aggregator.groups.pages(1)];
  }

  const TIME_MS = 1_000_000;
  const answers = async (request: AggregateRequest, send: (reply: SentReply) => void) => {
    for (const page of pagesOf(request, 3)) send({ page });
    send({ done: true, coverage: complete(request.select as SelectRequest) });
  };
  const countBy = (cluster: Cluster, signal?: AbortSignal) =>
    engine.query(cluster, 'count by (g) (m)', { timeMs: TIME_MS }, signal === undefined ? {} : { signal });

  it('is asked of the next copy when the first fails midway, and counts nothing twice', async () => {
    for (const fail of [
      () => {
        throw new SilverbackError('UNAVAILABLE', 'stopping');
      },
      () => a.stop(),
    ]) {
      a.aggregate = async (request, send) => {
        // As many pages as the reader gave credit for: they have all been handed over.
        for (const page of pagesOf(request, 3)) send({ page });
        await new Promise((resolve) => setTimeout(resolve, 20));
        fail();
      };
      b.aggregate = answers;
      const { value, coverage } = await countBy(
        clusterOf(new StaticPlacement(placementOf([[a.address, b.address], [b.address]]))),
      );
      if (value.type !== 'vector') throw new Error(value.type);
      expect([...value.values]).toEqual([2, 2, 2]);
      expect(coverage.map(({ shard, state, copy }) => [shard, state, copy]).sort()).toEqual([
        [0, 'complete', `r/${b.address}`],
        [1, 'complete', `r/${b.address}`],
      ]);
    }
  });

  it('takes the shards that one copy lacks from another', async () => {
    a.aggregate = async (request, send) => {
      const select = request.select as SelectRequest;
      const [here, ...gone] = select.shards;
      for (const page of pagesOf({ ...request, select: { ...select, shards: [here as number] } }, 3)) send({ page });
      const [entry] = complete(select);
      send({
        done: true,
        coverage: [
          { ...entry!, shards: [here as number] },
          { ...entry!, shards: gone, state: 'MISSING', reason: 'recovering' },
        ],
      });
    };
    b.aggregate = answers;
    const both = [a.address, b.address];
    const { value, coverage } = await countBy(clusterOf(new StaticPlacement(placementOf([both, both, both]))));
    if (value.type !== 'vector') throw new Error(value.type);
    expect([...value.values]).toEqual([3, 3, 3]);
    expect(coverage.map(({ shard, copy }) => [shard, copy]).sort()).toEqual([
      [0, `r/${a.address}`],
      [1, `r/${b.address}`],
      [2, `r/${b.address}`],
    ]);
  });

  it('says what no copy has', async () => {
    a.aggregate = answers;
    b.aggregate = async () => {
      throw new SilverbackError('UNAVAILABLE', 'stopping');
    };
    const { value, coverage } = await countBy(clusterOf(new StaticPlacement(placementOf([[a.address], [b.address]]))));
    if (value.type !== 'vector') throw new Error(value.type);
    expect([...value.values]).toEqual([1, 1, 1]);
    expect(coverage.find(({ shard }) => shard === 1)).toMatchObject({
      state: 'missing',
      reason: `${b.address}: stopping`,
    });
  });

  it('ends at the nodes when it is cancelled midway, and leaves the stream to others', async () => {
    const impatient = new AbortController();
    const ended: string[] = [];
    for (const [name, node] of [
      ['a', a],
      ['b', b],
    ] as const) {
      node.aggregate = (request, send, signal) =>
        new Promise((resolve) => {
          for (const page of pagesOf(request, 2)) send({ page });
          signal.addEventListener('abort', () => {
            ended.push(name);
            resolve();
          });
          if (a.reads.length > 0 && b.reads.length > 0) impatient.abort();
        });
    }
    const cluster = clusterOf(new StaticPlacement(placementOf([[a.address], [b.address]])));
    await expect(countBy(cluster, impatient.signal)).rejects.toMatchObject({ code: 'CANCELLED' });
    await expect.poll(() => ended.sort(), { timeout: 30_000 }).toEqual(['a', 'b']);
    a.aggregate = answers;
    b.aggregate = answers;
    const { value } = await countBy(cluster);
    if (value.type !== 'vector') throw new Error(value.type);
    expect([...value.values]).toEqual([2, 2, 2]);
    // The same streams: each was greeted once.
    for (const node of [a, b]) expect(node.reads.filter(({ hello }) => hello !== null)).toHaveLength(1);
  });
});
