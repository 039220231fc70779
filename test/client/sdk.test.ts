import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Client, type ClientOptions, type Dropped } from '../../client/client.ts';
import { StaticPlacement, toReply } from '../../client/placement.ts';
import { RpcServer } from '../../core/grpc.ts';
import type { Placement } from '../../core/placement.ts';
import { clusterService, type QueryReply, type QueryRequest } from '../../core/protocol.ts';
import { FakeNode, placementOf } from './fake.ts';

/** A coordinator that only knows where shards are, and says what it is told to queries. */
class FakeCoordinator {
  placement: Placement | undefined;
  answer: (request: QueryRequest) => QueryReply = () => ({ status: 200, body: Buffer.from('{}') });
  placementCalls = 0;
  address = '127.0.0.1:0';
  #server: RpcServer | undefined;

  async start(): Promise<void> {
    this.#server = new RpcServer()
      .stream(clusterService.Placement, async (_, call) => {
        this.placementCalls++;
        if (this.placement !== undefined) await call.send(toReply(this.placement));
        await new Promise((resolve) => call.signal.addEventListener('abort', resolve));
      })
      .unary(clusterService.Query, async (request) => this.answer(request));
    this.address = `127.0.0.1:${await this.#server.listen(this.address)}`;
  }

  stop(): void {
    this.#server?.stop();
  }
}

let node: FakeNode;
let coordinator: FakeCoordinator;
let clients: Client[];
let drops: Dropped[];

beforeEach(async () => {
  node = await FakeNode.start();
  coordinator = new FakeCoordinator();
  await coordinator.start();
  clients = [];
  drops = [];
});

afterEach(async () => {
  await Promise.all(clients.map((client) => client.close(1)));
  node.stop();
  coordinator.stop();
});

const fourShards = () => placementOf(Array(4).fill([node.address]));

function clientWith(options: Partial<ClientOptions> = {}): Client {
  const client = new Client({
    endpoints: [coordinator.address],
    placement: new StaticPlacement(fourShards()),
    onDrop: (dropped) => drops.push(dropped),
    metricLabels: {},
    ...options,
  });
  clients.push(client);
  return client;
}

const sample = (name: string, timestampMs: number, value = 1) => ({ labels: { __name__: name }, timestampMs, value });

function stored(series: string): [timestampMs: number, value: number][] {
  return [...(node.samples.get(series) ?? [])].map((text) => {
    const [time, bits] = text.split('=') as [string, string];
    return [Number(time), new Float64Array(BigUint64Array.of(BigInt(`0x${bits}`)).buffer)[0] as number];
  });
}

describe('client.write', () => {
  it('resolves when the samples are acknowledged', async () => {
    const client = clientWith();
    await client.write([sample('a', 1, 0.5), sample('b', 2), sample('a', 3)]);
    expect(stored('a')).toEqual([
      [1, 0.5],
      [3, 1],
    ]);
    expect(stored('b')).toEqual([[2, 1]]);
    expect(client.stats()).toMatchObject({ acknowledgedCount: 3, heldCount: 0, droppedCount: 0 });
  });

  it('takes labels in any order, and every float', async () => {
    const client = clientWith();
    const values = [0, -0, 1e-310, Number.MAX_VALUE, -1.5, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    await client.write(
      values.map((value, timestampMs) => ({ labels: { z: 'ä', __name__: 'v', a: '', b: '1' }, timestampMs, value })),
    );
    await client.write([{ labels: { b: '1', z: 'ä', __name__: 'v' }, timestampMs: 2 ** 45, value: 7 }]);
    expect(stored('v{b="1", z="ä"}')).toEqual([...values.map((value, i) => [i, value]), [2 ** 45, 7]]);
    expect(Object.is(stored('v{b="1", z="ä"}')[1]?.[1], -0)).toBe(true);
  });

  it('sends writes of one turn together', async () => {
    const client = clientWith();
    await Promise.all(Array.from({ length: 50 }, (_, i) => client.write([sample('a', i)])));
    expect(node.requests).toHaveLength(1);
  });

  it('rejects for the samples that were refused, and only for those', async () => {
    node.reject = (series) => (series === 'bad' ? { code: 'TOO_OLD', message: 'series bad is too old' } : undefined);
    const client = clientWith();
    const good = client.write([sample('good', 1)]);
    await expect(client.write([sample('bad', 1), sample('bad', 2), sample('fine', 1)])).rejects.toMatchObject({
      code: 'TOO_OLD',
      message: 'series bad is too old',
    });
    await good;
    expect([...node.samples.keys()].sort()).toEqual(['fine', 'good']);
    expect(drops).toEqual([{ sampleCount: 2, reason: 'TOO_OLD', message: 'series bad is too old' }]);
    expect(client.stats()).toMatchObject({ acknowledgedCount: 2, droppedCount: 2 });
  });

  it('refuses bad samples before it takes any', async () => {
    const client = clientWith();
    for (const bad of [
      sample('a', 1.5),
      sample('a', -1),
      sample('a', Number.NaN),
      { labels: {}, timestampMs: 1, value: 1 },
      { labels: { __name__: '\ud800' }, timestampMs: 1, value: 1 },
    ]) {
      await expect(client.write([sample('good', 1), bad])).rejects.toMatchObject({ code: /INVALID/ });
    }
    await client.flush();
    expect(node.sampleCount).toBe(0);
  });

  it('gives up after its time, and says so', async () => {
    node.judge = () => ({ code: 'RESOURCE_EXHAUSTED', message: 'the queue is full', retryAfterMs: 10 });
    // Long enough for an answer on a busy machine.
    const client = clientWith({ retryMs: 1_000 });
    await expect(client.write([sample('a', 1)])).rejects.toThrow('the queue is full');
    expect(drops).toMatchObject([{ sampleCount: 1, reason: 'RESOURCE_EXHAUSTED' }]);
  });

  it('takes nothing any more after close', async () => {
    const client = clientWith();
    await client.close();
    await expect(client.write([sample('a', 1)])).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    await expect(client.query('up')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });
});

describe('client.append', () => {
  it('goes out when the batch is full, or old enough', async () => {
    const client = clientWith({ batchSamples: 10, batchAgeMs: 50 });
    const series = client.series({ __name__: 'a' });
    for (let i = 0; i < 9; i++) client.append(series, i, i);
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(node.requests).toHaveLength(0);
    while (node.sampleCount < 9) await new Promise((resolve) => setTimeout(resolve, 10));
    for (let i = 0; i < 25; i++) client.append(series, 100 + i, i);
    expect(client.appendColumns(series, [200, 201], [1, 2])).toBe(2);
    await client.flush();
    expect(node.sampleCount).toBe(36);
    // Two full ones, and the rest.
    expect(node.requests.slice(1).map(({ shards }) => (shards[0]?.timestamps.length ?? 0) / 8)).toEqual([10, 10, 7]);
  });

  it('holds no more than its buffer, and reports what it drops', async () => {
    const held: (() => void)[] = [];
    node.hold = (answer) => held.push(answer);
    const client = clientWith({ bufferSamples: 100, batchSamples: 10 });
    const series = client.series({ __name__: 'a' });
    const taken = Array.from({ length: 150 }, (_, i) => client.append(series, i, i)).filter(Boolean).length;
    expect(taken).toBe(100);
    expect(client.appendColumns(series, [1000, 1001, 1002], [1, 2, 3])).toBe(0);
    await expect(client.write([sample('b', 1), sample('b', 2)])).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
    const waiting = client.room();
    const dropped = () => drops.reduce((sum, { sampleCount }) => sum + sampleCount, 0);
    while (dropped() < 55) await new Promise((resolve) => setTimeout(resolve, 10));
    expect(dropped()).toBe(55);
    expect(new Set(drops.map(({ reason }) => reason))).toEqual(new Set(['BUFFER_FULL']));
    while (held.length < 10) await new Promise((resolve) => setTimeout(resolve, 10));
    node.hold = undefined;
    for (const answer of held) answer();
    await waiting;
    await client.flush();
    expect(client.stats()).toMatchObject({ acknowledgedCount: 100, droppedCount: 55, heldCount: 0 });
    expect(client.append(series, 5_000, 1)).toBe(true);
  });

  it('lets batches fill while others wait', async () => {
    const held: (() => void)[] = [];
    node.hold = (answer) => held.push(answer);
    const client = clientWith({ batchAgeMs: 60_000 });
    const writes: Promise<void>[] = [];
    for (let i = 0; i < 40; i++) {
      writes.push(client.write([sample('a', i)]));
      await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    }
    while (held.length < 16) await new Promise((resolve) => setTimeout(resolve, 10));
    node.hold = undefined;
    for (const answer of held) answer();
    await Promise.all(writes);
    expect(node.sampleCount).toBe(40);
    expect(node.requests.length).toBeLessThanOrEqual(18);
  });

  it('keeps samples while the cluster is away, and delivers them', async () => {
    node.stop();
    const client = clientWith({ batchSamples: 50, retryMs: 30_000 });
    const series = client.series({ __name__: 'a' });
    for (let i = 0; i < 5_000; i++) client.append(series, i, i);
    const flushed = client.flush();
    await new Promise((resolve) => setTimeout(resolve, 100));
    await node.start();
    await flushed;
    expect(node.sampleCount).toBe(5_000);
    expect(drops).toEqual([]);
  });

  it('knows only so many series, and only its own', () => {
    const client = clientWith({ maxSeries: 2 });
    const first = client.series({ __name__: 'a', b: 'c' });
    client.series({ __name__: 'b' });
    expect(client.series({ b: 'c', __name__: 'a' })).toBe(first);
    expect(() => client.series({ __name__: 'c' })).toThrow(expect.objectContaining({ code: 'SERIES_LIMIT' }));
    const other = clientWith();
    expect(() => other.append(first, 1, 1)).toThrow('another client');
  });

  it('flushes at close, and drops what cannot be delivered in time', async () => {
    const client = clientWith({ batchAgeMs: 60_000 });
    client.append(client.series({ __name__: 'a' }), 1, 1);
    client.setGauge('g', 5);
    await client.close();
    expect(stored('a')).toEqual([[1, 1]]);
    expect(stored('g')).toMatchObject([[expect.any(Number), 5]]);

    let heldCount = 0;
    node.hold = () => heldCount++;
    const stuck = clientWith({ batchSamples: 10 });
    const series = stuck.series({ __name__: 'b' });
    for (let i = 0; i < 505; i++) stuck.append(series, i, 1);
    while (heldCount === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    await stuck.close(50);
    expect(drops.reduce((sum, { sampleCount }) => sum + sampleCount, 0)).toBe(505);
    // Those that were sent may be stored; those that were not are not.
    expect(new Set(drops.map(({ reason }) => reason))).toEqual(new Set(['UNCONFIRMED', 'UNAVAILABLE']));
    expect(stuck.stats()).toMatchObject({ heldCount: 0, droppedCount: 505 });
  });
});

describe('metrics', () => {
  it('writes counters as totals that begin with zero', async () => {
    const client = clientWith({ flushMs: 60_000 });
    const before = Date.now();
    client.logCounter('hits_total');
    client.logCounter('hits_total', 4);
    client.logCounter(['hits_total', { route: '/' }], 2);
    await client.flush();
    client.logCounter({ __name__: 'hits_total' }, 0.5);
    await new Promise((resolve) => setTimeout(resolve, 5));
    await client.flush();
    const points = stored('hits_total');
    expect(points.map(([, value]) => value)).toEqual([0, 5, 5.5]);
    expect(points[0]?.[0]).toBeGreaterThanOrEqual(before - 1);
    expect(points[0]?.[0]).toBeLessThan(points[1]?.[0] as number);
    expect(stored('hits_total{route="/"}').map(([, value]) => value)).toEqual([0, 2, 2]);
  });

  it('writes latencies as histograms in seconds', async () => {
    const client = clientWith({ flushMs: 60_000, latencyBuckets: [0.01, 0.1] });
    for (const durationMs of [5, 10, 11, 5_000]) client.logLatency(['wait_seconds', { queue: 'q' }], durationMs);
    await client.flush();
    const last = (series: string) => stored(series).at(-1)?.[1];
    expect(last('wait_seconds_bucket{le="0.01", queue="q"}')).toBe(2);
    expect(last('wait_seconds_bucket{le="0.1", queue="q"}')).toBe(3);
    expect(last('wait_seconds_bucket{le="+Inf", queue="q"}')).toBe(4);
    expect(last('wait_seconds_count{queue="q"}')).toBe(4);
    expect(last('wait_seconds_sum{queue="q"}')).toBeCloseTo(5.026, 9);
    expect(stored('wait_seconds_count{queue="q"}')[0]?.[1]).toBe(0);
  });

  it('writes by itself every so often, gauges with their last value', async () => {
    const client = clientWith({ flushMs: 50, batchAgeMs: 5, metricLabels: { instance: 'i' } });
    client.setGauge('depth', 3);
    client.setGauge('depth', 4);
    client.setGauge(['depth', { instance: 'own' }], -1);
    while (stored('depth{instance="i"}').length < 2) await new Promise((resolve) => setTimeout(resolve, 10));
    expect(stored('depth{instance="i"}').every(([, value]) => value === 4)).toBe(true);
    expect(stored('depth{instance="own"}')[0]?.[1]).toBe(-1);
  });

  it('reports bad calls instead of throwing', () => {
    const client = clientWith();
    client.logCounter('c', -1);
    client.logCounter('c', Number.NaN);
    client.logLatency('l', Number.POSITIVE_INFINITY);
    client.setGauge({ room: 'kitchen' }, 1);
    client.logCounter('x');
    client.setGauge('x', 1);
    expect(drops.map(({ reason }) => reason)).toEqual([
      'INVALID_ARGUMENT',
      'INVALID_ARGUMENT',
      'INVALID_ARGUMENT',
      'INVALID_LABELS',
      'INVALID_ARGUMENT',
    ]);
    expect(() => clientWith({ latencyBuckets: [1, 1] })).toThrow('ascend');
    expect(() => clientWith({ batchSamples: 0 })).toThrow('batchSamples');
  });
});

describe('endpoints', () => {
  it('tell where the shards are, also when they come later and change', async () => {
    coordinator.stop();
    const client = new Client({
      endpoints: ['127.0.0.1:1', coordinator.address],
      onDrop: (dropped) => drops.push(dropped),
    });
    clients.push(client);
    const written = client.write([sample('a', 1)]);
    await new Promise((resolve) => setTimeout(resolve, 100));
    coordinator.placement = fourShards();
    await coordinator.start();
    await written;
    const other = await FakeNode.start();
    coordinator.placement = placementOf(Array(4).fill([other.address]), 2);
    node.judge = () => ({ code: 'NOT_OWNER', message: 'moved' });
    await client.write([sample('a', 2)]);
    expect(other.sampleCount).toBe(1);
    // Coordinators may go: the last placement stays in force.
    coordinator.stop();
    await client.write([sample('a', 3)]);
    expect(other.sampleCount).toBe(2);
    other.stop();
    expect(drops).toEqual([]);
  });

  it('say what is wrong when nobody answers', async () => {
    coordinator.stop();
    const client = new Client({
      endpoints: [coordinator.address],
      retryMs: 200,
      onDrop: (dropped) => drops.push(dropped),
    });
    clients.push(client);
    await expect(client.write([sample('a', 1)])).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringContaining(coordinator.address),
    });
    await expect(client.query('up')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(() => new Client({ endpoints: [] })).toThrow('endpoints');
  });

  it('answer queries', async () => {
    const requests: QueryRequest[] = [];
    const data = { resultType: 'vector', result: [{ metric: { a: 'b' }, value: [1, '2'] }] };
    coordinator.answer = (request) => {
      requests.push(request);
      return {
        status: 200,
        body: Buffer.from(JSON.stringify({ status: 'success', data, warnings: ['shard 3 is missing'] })),
      };
    };
    const client = clientWith({ endpoints: ['127.0.0.1:1', coordinator.address] });
    expect(await client.query('up', { timeMs: 5_000 })).toEqual({ ...data, warnings: ['shard 3 is missing'] });
    await client.queryRange('rate(x[5m])', { startMs: 1, endMs: 2, stepMs: 3, region: '' });
    expect(requests).toEqual([
      { query: 'up', timeMs: 5_000, startMs: 0, endMs: 0, stepMs: 0, region: '' },
      { query: 'rate(x[5m])', timeMs: 0, startMs: 1, endMs: 2, stepMs: 3, region: '' },
    ]);
    await expect(client.queryRange('up', { startMs: 1, endMs: 2, stepMs: 0, region: '' })).rejects.toThrow('stepMs');
    coordinator.answer = () => ({
      status: 400,
      body: Buffer.from(JSON.stringify({ status: 'error', errorType: 'bad_data', error: 'parse error' })),
    });
    await expect(client.query('(')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', message: 'parse error' });
  });
});
