import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { credentials, Client as GrpcClient } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Client } from '../../client/client.ts';
import { Reader } from '../../client/reader.ts';
import { Engine } from '../../coordinator/promql/engine.ts';
import { Cluster } from '../../coordinator/query/cluster.ts';
import type { Queryable } from '../../coordinator/query/queryable.ts';
import { Connections } from '../../core/connections.ts';
import { Channel } from '../../core/grpc.ts';
import { ChunkCodec, chunkInfo } from '../../core/kernel/codec.ts';
import { decodeIdentity, formatLabels } from '../../core/labels.ts';
import {
  BLANK_READ,
  type ReadReply,
  type ReadRequest,
  type ShardOutcome,
  shardsService,
  type WriteReply,
  type WriteRequest,
} from '../../core/protocol.ts';
import { claimDirectory } from '../../node/directory.ts';
import { serveHttp } from '../../node/http.ts';
import { coverageOf } from '../../node/read.ts';
import type { Interrupt } from '../../node/shard/slicer.ts';
import { InFlight } from '../../node/write.ts';
import { allOn, env, removeDirectory, type Served, serve, temporaryDirectory } from './cluster.ts';

let directory: string;
const closers: (() => unknown)[] = [];

beforeEach(async () => {
  directory = await temporaryDirectory();
});

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  await removeDirectory(directory);
});

async function start(options: Parameters<typeof serve>[1] = {}): Promise<Served> {
  const served = await serve(directory, options);
  closers.push(() => served.close());
  return served;
}

async function startAll(options: Parameters<typeof serve>[1] = {}): Promise<Served> {
  const served = await start(options);
  await served.node.assign([0, 1, 2, 3]);
  return served;
}

function clientOf(address: string, options: Partial<ConstructorParameters<typeof Client>[0]> = {}): Client {
  const client = new Client({
    endpoints: [],
    placement: allOn(address),
    retryMs: 5_000,
    onDrop: () => undefined,
    ...options,
  });
  closers.push(() => client.close(100));
  return client;
}

function readerOf(address: string): Reader {
  const reader = new Reader({ env, placement: allOn(address), caller: 'test' });
  closers.push(() => reader.close());
  return reader;
}

const never = new AbortController().signal;

/** Series of a page and the number of their samples, by headers. */
function* seriesOf(page: Uint8Array): Generator<readonly [string, number]> {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  for (let at = 0; at < page.length; ) {
    const length = view.getUint32(at + 4, true);
    const name = formatLabels(decodeIdentity(page.subarray(at + 8, at + 8 + length)));
    at += 8 + length;
    let chunks = view.getUint32(at, true);
    let samples = 0;
    for (at += 4; chunks > 0; chunks--) {
      const chunkLength = view.getUint32(at, true);
      samples += chunkInfo(page.subarray(at + 4, at + 4 + chunkLength)).sampleCount;
      at += 4 + chunkLength;
    }
    yield [name, samples];
  }
}

/** Series and the number of their samples, and the ledger. */
async function selectAll(reader: Reader, range = { fromMs: 0, toMs: 10 ** 9 }) {
  const found = new Map<string, number>();
  const receive = (page: Uint8Array) => {
    for (const [name, samples] of seriesOf(page)) {
      expect(found.has(name)).toBe(false);
      found.set(name, samples);
    }
  };
  const { coverage } = await reader.select({ ...range, matchers: [] }, receive, { signal: never });
  return { found, coverage };
}

const SAMPLES = Array.from({ length: 100 }, (_, i) => ({
  labels: { __name__: 'm', i: String(i % 20) },
  timestampMs: 1_000 * i,
  value: i / 4,
}));

describe('a node', () => {
  it('stores what the sdk writes, and gives it back', async () => {
    const { address } = await startAll();
    await clientOf(address).write(SAMPLES);
    const { found, coverage } = await selectAll(readerOf(address));
    expect([...found.values()].every((count) => count === 5)).toBe(true);
    expect(found.size).toBe(20);
    expect(coverage.map(({ shard, state, reason }) => [shard, state, reason])).toEqual(
      [0, 1, 2, 3].map((shard) => [shard, 'complete', '']),
    );
  });

  it('aggregates as the engine does by itself', async () => {
    const { address } = await startAll();
    await clientOf(address).write(SAMPLES);
    const reader = readerOf(address);
    const cluster = new Cluster({ reader, codec: ChunkCodec.create(), maxSeries: 20, maxSamples: 100 });
    const plain: Queryable = {
      select: cluster.select.bind(cluster),
      series: cluster.series.bind(cluster),
      labelNames: cluster.labelNames.bind(cluster),
      labelValues: cluster.labelValues.bind(cluster),
    };
    const engine = new Engine(env);
    const time = { startMs: 0, endMs: 120_000, stepMs: 7_000 };
    for (const query of [
      'sum by (i) (rate(m[1m]))',
      'max(m)',
      'count without (i) (m)',
      'avg(avg_over_time(m[50s] offset 5s))',
      'group by (i) (m) * sum(m @ 40)',
    ]) {
      const pushed = await engine.query(cluster, query, time, { perStepStats: true });
      const own = await engine.query(plain, query, time, { perStepStats: true });
      expect(pushed.value, query).toEqual(own.value);
      expect(pushed.coverage, query).toEqual(own.coverage);
      expect(pushed.infos, query).toEqual(own.infos);
      expect(pushed.stats.samplesPerStep, query).toEqual(own.stats.samplesPerStep);
    }
    const few = new Cluster({ reader, codec: ChunkCodec.create(), maxSeries: 1 });
    await expect(engine.query(few, 'sum(m)', time)).rejects.toMatchObject({ code: 'TOO_LARGE' });
  });

  it('answers labels and series', async () => {
    const { address } = await startAll();
    await clientOf(address).write(SAMPLES);
    const reader = readerOf(address);
    const range = { fromMs: 0, toMs: 10 ** 9 };
    const all = { ...range, selectors: [] };
    expect((await reader.labelNames(all, { signal: never })).values).toEqual(['__name__', 'i']);
    const one = {
      ...range,
      selectors: [[{ name: 'i', op: '=~' as const, value: '1[0-3]' }], [{ name: 'i', op: '=' as const, value: '7' }]],
    };
    expect((await reader.labelValues('i', one, { signal: never })).values).toEqual(['10', '11', '12', '13', '7']);
    let bytes = 0;
    const { coverage } = await reader.series(
      one,
      (page) => {
        bytes += page.length;
      },
      { signal: never },
    );
    expect(bytes).toBeGreaterThan(5 * 12);
    expect(coverage).toHaveLength(4);
    const bad = { ...range, selectors: [[{ name: 'i', op: '=~' as const, value: '(' }]] };
    await expect(reader.labelNames(bad, { signal: never })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  it('has everything after a restart, and resumes the shards it had', async () => {
    const before = await serve(directory);
    await before.node.assign([0, 1, 2, 3]);
    await clientOf(before.address).write(SAMPLES);
    await before.close();
    const { node, address } = await start();
    expect(node.ready).toBe(false);
    await node.resume();
    expect(node.ready).toBe(true);
    expect((await selectAll(readerOf(address))).found.size).toBe(20);
  });

  it('is restarted under a client that goes on', async () => {
    const before = await serve(directory);
    await before.node.assign([0, 1, 2, 3]);
    const client = clientOf(before.address, { retryMs: 20_000 });
    await client.write(SAMPLES.slice(0, 50));
    await before.close();
    const during = client.write(SAMPLES.slice(50));
    const { node, address } = await start({ address: before.address });
    await node.resume();
    await during;
    expect((await selectAll(readerOf(address))).found.size).toBe(20);
  });

  it('serves what the placement gives it and lets go of the rest', async () => {
    const { node, address, messages } = await start();
    const { copies, ...rest } = allOn(address).current();
    const own = (shards: number[]) => ({
      ...rest,
      copies: copies.map((copy, shard) => (shards.includes(shard) ? copy : [])),
    });
    await node.follow(own([0, 2]));
    expect(node.assigned()).toEqual([0, 2]);
    expect(() => node.find(1)).toThrow(expect.objectContaining({ code: 'NOT_OWNER' }));
    await node.follow(own([2, 3]));
    expect(node.assigned()).toEqual([2, 3]);
    await expect(node.follow({ ...rest, copies, clusterId: 'other' })).rejects.toThrow('other');
    expect(messages.filter((message) => message === 'shard open')).toHaveLength(3);
    const { coverage } = await selectAll(readerOf(address));
    expect(coverage.filter(({ state }) => state === 'missing').map(({ shard, reason }) => [shard, reason])).toEqual([
      [0, 'shard 0 is not served by node n1'],
      [1, 'shard 1 is not served by node n1'],
    ]);
  });

  it('reports a shard that does not open, and serves the others', async () => {
    await writeFile(`${directory}/shards`, 'a file where a directory should be');
    const { node, address } = await startAll();
    expect(node.ready).toBe(true);
    expect(node.status().map(({ state }) => state)).toEqual(['failed', 'failed', 'failed', 'failed']);
    expect(node.status()[0]?.problem).not.toBe('');
    const { coverage } = await selectAll(readerOf(address));
    expect(coverage[0]?.reason).toContain('shard 0 failed to open');
  });

  it('says what it holds', async () => {
    const { address, metrics } = await startAll();
    await clientOf(address).write(SAMPLES);
    const channel = new Channel(address, { clock: env.clock, caller: 'test' });
    closers.push(() => channel.close());
    const status = await channel.unary(shardsService.Status, {}, { timeoutMs: 5_000 });
    expect(status).toMatchObject({ node: 'n1', version: 'test', ready: true });
    expect(status.shards.map(({ state }) => state)).toEqual(Array(4).fill('serving'));
    expect(status.shards.reduce((sum, shard) => sum + shard.samples, 0)).toBe(100);
    const http = await serveHttp('127.0.0.1', 0, {
      registry: metrics.registry,
      isReady: () => false,
      connections: new Connections(16),
    });
    closers.push(() => http.close());
    const get = async (path: string) => {
      const response = await fetch(`http://127.0.0.1:${http.port}${path}`);
      return [response.status, await response.text()] as const;
    };
    const [code, text] = await get('/metrics');
    expect(code).toBe(200);
    expect(text).toContain('silverback_node_write_samples_total{code="OK"} 100');
    expect(text).toMatch(/silverback_shard_accepted_samples_total\{shard="\d"\} \d+/);
    expect((await get('/-/healthy'))[0]).toBe(200);
    expect((await get('/-/ready'))[0]).toBe(503);
    expect((await get('/nothing'))[0]).toBe(404);
  });
});

describe('the write stream', () => {
  const columns = (shard: number, definitions = Buffer.alloc(0), ref = 1) => ({
    shard,
    epoch: 0,
    definitions,
    refs: Buffer.from(Uint32Array.of(ref).buffer),
    counts: Buffer.alloc(0),
    timestamps: Buffer.from(BigInt64Array.of(5_000n).buffer),
    values: Buffer.from(Float64Array.of(1).buffer),
    exemplars: Buffer.alloc(0),
    metadata: Buffer.alloc(0),
  });
  const HELLO = { version: 1, clusterId: 'c', caller: 'test', speaks: [] };

  function open(address: string) {
    const channel = new Channel(address, { clock: env.clock, caller: 'test' });
    closers.push(() => channel.close());
    return channel.duplex(shardsService.Write);
  }

  async function ask(address: string, request: Partial<WriteRequest>): Promise<readonly ShardOutcome[]> {
    const call = open(address);
    call.write({ hello: HELLO, batchId: 7, ack: 'LOCAL', peerWaitMs: 0, shards: [], ...request });
    const [reply] = (await once(call, 'data')) as [WriteReply];
    expect(reply.batchId).toBe(7);
    call.end();
    return reply.shards;
  }

  it('wants to be greeted, in its version, by its cluster', async () => {
    const { address } = await startAll();
    for (const [hello, message] of [
      [null, 'must carry hello'],
      [{ ...HELLO, version: 2 }, 'version 2'],
      [{ ...HELLO, clusterId: 'other' }, 'belongs to cluster c'],
    ] as const) {
      const call = open(address);
      call.on('data', () => expect.unreachable());
      call.write({ hello, batchId: 1, ack: 'LOCAL', peerWaitMs: 0, shards: [columns(0)] });
      const [error] = await once(call, 'error');
      expect(error.details).toContain(message);
    }
  });

  it('answers each shard for itself: unknown references, shards that are elsewhere', async () => {
    const { node, address } = await start();
    await node.assign([0]);
    const outcomes = await ask(address, { shards: [columns(0), columns(1)] });
    expect(outcomes[0]).toMatchObject({ shard: 0, unknownRefs: Buffer.from([1, 0, 0, 0]) });
    expect(outcomes[1]).toMatchObject({ shard: 1, code: 'NOT_OWNER', message: 'shard 1 is not served by node n1' });
  });

  it('refuses what is over its bound, with a delay, and takes it when there is room', async () => {
    const inFlight = new InFlight({ maxBytes: 100, maxCount: 10 });
    const { address } = await startAll({ inFlight });
    const other = inFlight.open('other');
    inFlight.enter(other, 90);
    const [refused] = await ask(address, { shards: [columns(0)] });
    expect(refused).toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
    expect(refused?.retryAfterMs).toBeGreaterThan(0);
    const client = clientOf(address);
    const written = client.write([SAMPLES[0] as (typeof SAMPLES)[number]]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    inFlight.leave(other, 90);
    await written;
    expect([inFlight.bytes, inFlight.count]).toEqual([0, 0]);
    // One that is larger than everything passes alone.
    await client.write(SAMPLES);
  });

  it('gives references back when the stream ends', async () => {
    const { node, address } = await startAll();
    const client = clientOf(address);
    await client.write(SAMPLES);
    const senders = () => [...node.serving()].reduce((sum, { stats }) => sum + stats.senderCount, 0);
    expect(senders()).toBe(4);
    await client.close();
    while (senders() > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  });

  it('says which samples it refuses, and why', async () => {
    const { address } = await startAll({ maxSampleAgeMs: 3_600_000, maxSeriesCount: 3 });
    const client = clientOf(address);
    const nowMs = Date.now();
    const sample = { labels: { __name__: 'm' }, timestampMs: nowMs, value: 1 };
    await client.write([sample]);
    await expect(client.write([{ ...sample, timestampMs: nowMs - 7_200_000 }])).rejects.toMatchObject({
      code: 'TOO_OLD',
    });
    await expect(client.write([{ ...sample, timestampMs: nowMs + 7_200_000 }])).rejects.toMatchObject({
      code: 'TOO_FAR_AHEAD',
    });
    const many = Array.from({ length: 40 }, (_, i) => ({ ...sample, labels: { __name__: 'm', i: String(i) } }));
    await expect(client.write(many)).rejects.toMatchObject({ code: 'SERIES_LIMIT' });
    expect(client.stats().acknowledgedCount).toBeGreaterThan(4);
  });

  it('refuses a message over the limit, with words', async () => {
    const { address } = await startAll();
    const { path, requestSerialize, responseDeserialize } = shardsService.Write;
    const request = {
      hello: HELLO,
      batchId: 1,
      peerWaitMs: 0,
      ack: 'LOCAL' as const,
      shards: [{ ...columns(0), values: Buffer.alloc(17 * 2 ** 20) }],
    };
    const ours = open(address);
    ours.write(request);
    const [unsent] = await once(ours, 'error');
    expect(unsent.details).toContain('size larger than 16777216');
    // A client with other ideas about the limit is told by the node.
    const client = new GrpcClient(address, credentials.createInsecure(), { 'grpc.max_send_message_length': -1 });
    closers.push(() => client.close());
    const theirs = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
    theirs.write(request);
    const [refused] = await once(theirs, 'error');
    expect(refused.details).toMatch(/larger than max \(\d+ vs 16777216\)/);
  });
});

describe('a select', () => {
  it('is stopped on the node when the reader aborts', async () => {
    const { address, node } = await startAll();
    const client = clientOf(address);
    for (let i = 0; i < 4_000; i++) {
      const series = client.series({ __name__: 'm', i: String(i), text: 'x'.repeat(2_000) });
      client.append(series, 1_000, i);
    }
    await client.flush();
    // Counts what is still being read: a shard's select ends by itself only at its last page.
    let running = 0;
    let pages = 0;
    let signals: (Interrupt | undefined)[] = [];
    for (let id = 0; id < 4; id++) {
      const shard = node.find(id);
      const select = shard.select.bind(shard);
      shard.select = async function* (request, signal) {
        running++;
        signals.push(signal);
        try {
          for await (const page of select(request, signal)) {
            pages++;
            yield page;
          }
        } finally {
          running--;
        }
      };
    }
    const controller = new AbortController();
    const range = { fromMs: 0, toMs: 10 ** 9, matchers: [] };
    const reading = readerOf(address).select(
      range,
      () => {
        controller.abort();
        return new Promise(() => undefined);
      },
      { signal: controller.signal },
    );
    await expect(reading).rejects.toMatchObject({ code: 'CANCELLED' });
    while (running > 0) await new Promise((resolve) => setTimeout(resolve, 10));
    // It is told even where it has no page to give for long.
    expect(signals).toHaveLength(1);
    expect(() => signals[0]?.throwIfAborted()).toThrow('the reader wants no more');
    signals = [];
    const stoppedAt = pages;
    let all = 0;
    await readerOf(address).select(range, () => void all++, { signal: never });
    expect(pages - stoppedAt).toBeGreaterThan(stoppedAt);
  });

  it('fails past its limits', async () => {
    const { address } = await startAll();
    await clientOf(address).write(SAMPLES);
    const reader = readerOf(address);
    const range = { fromMs: 0, toMs: 10 ** 9, matchers: [] };
    const one = { signal: never };
    await expect(reader.select({ ...range, maxSeries: 1 }, () => undefined, one)).rejects.toMatchObject({
      code: 'TOO_LARGE',
    });
    await expect(reader.select({ ...range, maxSamples: 4 }, () => undefined, one)).rejects.toMatchObject({
      code: 'TOO_LARGE',
    });
    await reader.select({ ...range, maxSeries: 20, maxSamples: 100 }, () => undefined, one);
  });

  it('is refused when too many are under way', async () => {
    const { address } = await startAll({ maxReadCount: 0 });
    const { coverage } = await selectAll(readerOf(address));
    expect(coverage.every(({ state, reason }) => state === 'missing' && reason.includes('reads already'))).toBe(true);
  });

  it('has a ledger without holes', () => {
    const gap = (fromMs: number, toMs: number) => ({ fromMs, toMs, state: 'missing' as const, reason: 'lost' });
    const entry = (state: string, fromMs: number, toMs: number) =>
      expect.objectContaining({ shards: [3], state, fromMs, toMs, reason: state === 'MISSING' ? 'lost' : '' });
    const range = { fromMs: 10, toMs: 99 };
    expect(coverageOf(3, range, [])).toEqual([entry('COMPLETE', 10, 99)]);
    expect(coverageOf(3, range, [gap(0, 200)])).toEqual([entry('MISSING', 10, 99)]);
    expect(coverageOf(3, range, [gap(50, 70), gap(0, 20), gap(60, 80), gap(100, 110)])).toEqual([
      entry('MISSING', 10, 20),
      entry('COMPLETE', 21, 49),
      entry('MISSING', 50, 70),
      entry('MISSING', 71, 80),
      entry('COMPLETE', 81, 99),
    ]);
    const doubt = { fromMs: 0, toMs: 99, state: 'unconfirmed' as const, reason: '' };
    expect(coverageOf(3, range, [doubt, gap(40, 50)])).toEqual([
      entry('UNCONFIRMED', 10, 39),
      entry('MISSING', 40, 50),
      entry('UNCONFIRMED', 51, 99),
    ]);
  });
});

describe('a read stream', () => {
  const SELECT = { shards: [], matchers: [], fromMs: 0, toMs: 10 ** 9, maxSeries: 0, maxSamples: 0 };
  const BLANK = { ...BLANK_READ, id: 1 };
  const HELLO = { version: 1, clusterId: 'c', caller: 'test', speaks: [] };

  function open(address: string) {
    const channel = new Channel(address, { clock: env.clock, caller: 'test' });
    closers.push(() => channel.close());
    const call = channel.duplex(shardsService.Read);
    closers.push(() => call.on('error', () => undefined).cancel());
    const replies: ReadReply[] = [];
    call.on('data', (reply: ReadReply) => replies.push(reply));
    const say = (request: Partial<ReadRequest>) => void call.write({ ...BLANK, ...request });
    const until = async (isSo: () => boolean) => {
      while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    return { call, replies, say, until };
  }

  it('wants to be greeted, in its version, by its cluster', async () => {
    const { address } = await startAll();
    for (const [hello, message] of [
      [null, 'must carry hello'],
      [{ ...HELLO, version: 2 }, 'version 2'],
      [{ ...HELLO, clusterId: 'other' }, 'belongs to cluster c'],
    ] as const) {
      const { call, say } = open(address);
      say({ hello, select: SELECT });
      const [error] = await once(call, 'error');
      expect(error.details).toContain(message);
    }
  });

  it('sends no more than it has credit for, and answers others meanwhile', async () => {
    const { address } = await startAll();
    const client = clientOf(address);
    for (let i = 0; i < 2_000; i++) {
      client.append(client.series({ __name__: 'm', i: String(i), text: 'x'.repeat(1_000) }), 1_000, i);
    }
    await client.flush();
    const { replies, say, until } = open(address);
    const of = (id: number) => replies.filter((reply) => reply.id === id);
    say({ hello: HELLO, select: SELECT, credit: 2 });
    await until(() => of(1).length === 2);
    const one = { name: 'i', op: 'EQ', value: '7' } as const;
    say({ id: 2, select: { ...SELECT, matchers: [one] }, credit: 1 });
    await until(() => of(2).some(({ done }) => done));
    expect(of(1)).toHaveLength(2);
    say({ credit: 1 });
    await until(() => of(1).length === 3);
    // With nothing to spend, a read can only be called off.
    say({ id: 3, labelValues: { shards: [], fromMs: 0, toMs: 10 ** 9, selectors: [], name: 'i' } });
    say({ id: 3, cancel: true });
    say({ credit: 1_000 });
    await until(() => of(1).some(({ done }) => done));
    expect(of(3)).toEqual([]);
    const names = new Set(of(1).flatMap(({ page }) => [...seriesOf(page)].map(([name]) => name)));
    expect(names.size).toBe(2_000);
    expect(of(1).at(-1)?.coverage).toMatchObject([{ shards: [0, 1, 2, 3], state: 'COMPLETE' }]);
  });

  it('says what is wrong with a read, and goes on', async () => {
    const { address } = await startAll();
    const { replies, say, until } = open(address);
    const bad = { name: 'i', op: 'RE', value: '(' } as const;
    say({ hello: HELLO, select: { ...SELECT, matchers: [bad] }, credit: 1 });
    await until(() => replies.length === 1);
    expect(replies[0]).toMatchObject({ id: 1, code: 'INVALID_ARGUMENT', done: false });
    say({ id: 1, series: { shards: [2], fromMs: 0, toMs: 1, selectors: [], name: '' }, credit: 1 });
    await until(() => replies.length === 2);
    expect(replies[1]).toMatchObject({ id: 1, code: 'OK', done: true, coverage: [{ shards: [2] }] });
  });
});

describe('a data directory', () => {
  it('is of one cluster and one shard count for ever', async () => {
    const claim = await claimDirectory(env, directory);
    expect(claim.identity).toBeUndefined();
    await claim.record({ clusterId: 'c', shardCount: 4 });
    await claim.release();
    const again = await claimDirectory(env, directory);
    expect(again.identity).toEqual({ clusterId: 'c', shardCount: 4 });
    await again.record({ clusterId: 'c', shardCount: 4 });
    await expect(again.record({ clusterId: 'c', shardCount: 8 })).rejects.toThrow(
      'was made for 4 shards, the cluster has 8',
    );
    await expect(again.record({ clusterId: 'd', shardCount: 4 })).rejects.toThrow('belongs to cluster c, not to d');
    await again.release();
  });

  it('refuses an identity it cannot read, and stays free', async () => {
    const claim = await claimDirectory(env, directory);
    await claim.record({ clusterId: 'c', shardCount: 4 });
    await claim.release();
    const path = `${directory}/identity`;
    const bytes = await readFile(path);
    await writeFile(path, Buffer.concat([bytes.subarray(0, 7), Buffer.from([2]), bytes.subarray(8)]));
    await expect(claimDirectory(env, directory)).rejects.toMatchObject({ code: 'VERSION' });
    await writeFile(path, bytes.subarray(0, 20));
    await expect(claimDirectory(env, directory)).rejects.toMatchObject({ code: 'CORRUPT' });
    await writeFile(path, 'something else');
    await expect(claimDirectory(env, directory)).rejects.toMatchObject({ code: 'CORRUPT' });
    await writeFile(path, bytes);
    await (await claimDirectory(env, directory)).release();
  });
});
