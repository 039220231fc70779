import { connect } from 'node:net';
import { compressSync } from 'snappy';
import { afterEach, describe, expect, it } from 'vitest';
import type { Coverage } from '../../coordinator/query/queryable.ts';
import { SilverbackError } from '../../core/errors.ts';
import { type Asked, bits, readFrames, readRequest, readSamples, seriesOf } from '../remote/wire.ts';
import { type Fixture, serve, stored } from './fixture.ts';

const SAMPLES = 0;
const STREAMED_XOR_CHUNKS = 1;
const STREAMED = 'application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse';

let server: Fixture;
afterEach(() => server.close());

async function post(body: Uint8Array, parameters = '', signal?: AbortSignal) {
  const response = await fetch(`${server.url}/api/v1/read${parameters}`, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/x-protobuf', 'content-encoding': 'snappy', 'accept-encoding': 'gzip' },
    ...(signal === undefined ? {} : { signal }),
  } as RequestInit);
  const bytes = Buffer.from(await response.arrayBuffer());
  return { status: response.status, headers: response.headers, bytes, text: bytes.toString() };
}

const matching = (name: string, value: string, type = 0) => ({ type, name, value });
const asking = (startTimestampMs: number, endTimestampMs: number, ...matchers: ReturnType<typeof matching>[]) => ({
  startTimestampMs,
  endTimestampMs,
  matchers,
});

const ask = (asked: Asked, parameters = '') => post(readRequest(asked), parameters);

const UP = asking(0, 2_000_000, matching('__name__', 'up'));

async function start(sampleCount = 300): Promise<void> {
  server = await serve();
  const times = Array.from({ length: sampleCount }, (_, i) => 1_000_000 + i * 1_000);
  server.store.series_ = [
    stored({ __name__: 'up', job: 'b', place: 'ü' }, [
      [1_000_000, 10],
      [1_015_000, Number.NaN],
    ]),
    stored(
      { __name__: 'up', job: 'a' },
      times.map((t, i) => [t, i % 7 ? i * 0.1 : i]),
    ),
    stored({ __name__: 'down' }, [[1_000_000, -0]]),
  ];
  // A stale marker: its payload has to arrive.
  new Uint32Array(server.store.series_[0]!.values.buffer).set([2, 0x7ff00000], 2);
}

const expected = (fromMs = 0, toMs = Number.POSITIVE_INFINITY) =>
  [1, 0].map((i) => {
    const { labels, timestamps, values } = server.store.series_[i]!;
    return {
      labels: Array.from({ length: labels.length / 2 }, (_, k) => `${labels[2 * k]}=${labels[2 * k + 1]}`).join(','),
      samples: [...timestamps]
        .map((t, k) => [t, Number.isNaN(values[k]) ? '7ff0000000000002' : bits(values[k]!)] as const)
        .filter(([t]) => t >= fromMs && t <= toMs),
    };
  });

describe('remote read', () => {
  it('answers with samples when nothing else is asked for, sorted, bit for bit', async () => {
    await start();
    const { status, headers, bytes } = await ask({ queries: [UP] });
    expect(status).toBe(200);
    expect(headers.get('content-type')).toBe('application/x-protobuf');
    expect(headers.get('content-encoding')).toBe('snappy');
    expect(headers.get('x-silverback-coverage')).toBe('complete');
    expect(readSamples(bytes)).toEqual([expected()]);
  });

  it('answers with chunks of at most 120 samples in frames', async () => {
    await start();
    const { status, headers, bytes } = await ask({ queries: [UP], acceptedResponseTypes: [STREAMED_XOR_CHUNKS] });
    expect(status).toBe(200);
    expect(headers.get('content-type')).toBe(STREAMED);
    expect(headers.get('content-encoding')).toBeNull();
    const frames = readFrames(bytes);
    expect(seriesOf(frames)).toEqual(expected());
    expect(frames[0]?.chunks.map(({ data }) => (data[0]! << 8) | data[1]!)).toEqual([120, 120, 60]);
    expect(frames[0]?.chunks[1]).toMatchObject({ type: 1, minTimeMs: 1_120_000, maxTimeMs: 1_239_000 });
  });

  it('answers each query for its own time, in order', async () => {
    await start();
    const queries = [
      asking(1_000_001, 1_015_000, matching('__name__', 'up')),
      asking(0, 9e15, matching('__name__', 'nothing')),
      asking(-9e15, 9e15, matching('__name__', 'down')),
    ];
    const samples = readSamples((await ask({ queries })).bytes);
    expect(samples).toEqual([
      expected(1_000_001, 1_015_000),
      [],
      [{ labels: '__name__=down', samples: [[1_000_000, bits(-0)]] }],
    ]);
    const frames = readFrames((await ask({ queries, acceptedResponseTypes: [STREAMED_XOR_CHUNKS] })).bytes);
    expect([0, 1, 2].map((i) => seriesOf(frames, i))).toEqual(samples);
    expect(readSamples((await ask({ queries: [] })).bytes)).toEqual([]);
  });

  it('cuts a long series into frames of at most 1 MiB', async () => {
    await start();
    // Nothing about these values can be compressed.
    const values = Array.from({ length: 200_000 }, (_, i) => Math.sin(i) * 2 ** (i % 900));
    server.store.series_ = [
      stored(
        { __name__: 'up' },
        values.map((v, i) => [i * 1_000, v]),
      ),
    ];
    const asked = { queries: [asking(0, 9e15, matching('__name__', 'up'))] };
    const frames = readFrames((await ask({ ...asked, acceptedResponseTypes: [STREAMED_XOR_CHUNKS] })).bytes);
    expect(frames.length).toBeGreaterThan(1);
    for (const { bytes } of frames) expect(bytes).toBeLessThanOrEqual(1 << 20);
    const [series] = seriesOf(frames);
    expect(series?.samples).toEqual(values.map((v, i) => [i * 1_000, bits(v)]));
    // Also of many pieces: the other form.
    expect(readSamples((await ask(asked)).bytes)).toEqual([[series]]);
  });

  it('takes the first accepted type that it knows', async () => {
    await start();
    const typeOf = async (...acceptedResponseTypes: number[]) =>
      (await ask({ queries: [UP], acceptedResponseTypes })).headers.get('content-type');
    expect(await typeOf(SAMPLES, STREAMED_XOR_CHUNKS)).toBe('application/x-protobuf');
    expect(await typeOf(7, STREAMED_XOR_CHUNKS, SAMPLES)).toBe(STREAMED);
    const answer = await ask({ queries: [UP], acceptedResponseTypes: [7] });
    expect(answer).toMatchObject({ status: 400, text: expect.stringContaining('accepted response types 7 is known') });
  });

  it.each<[string, Buffer, number, string]>([
    ['no snappy', Buffer.from('hello'), 400, 'the body is not snappy'],
    ['no message', compressSync('hello'), 400, 'the body is not a ReadRequest'],
    ['nothing', Buffer.alloc(0), 400, 'the body is not snappy'],
    ['too much', Buffer.alloc(2 << 20), 413, 'larger than 1048576 bytes'],
    ['too much inside', compressSync(Buffer.alloc(5 << 20)), 422, 'at most 4194304 are allowed'],
    [
      'an unknown matcher',
      readRequest({ queries: [asking(0, 1, matching('job', 'a', 4))] }),
      400,
      'matcher type 4 of label "job" is unknown',
    ],
    [
      'a bad expression',
      readRequest({ queries: [asking(0, 1, matching('job', '(', 2))] }),
      400,
      'regular expression for label "job"',
    ],
  ])('refuses %s', async (_name, body, status, words) => {
    await start();
    const answer = await post(body);
    expect(answer.status).toBe(status);
    expect(answer.text).toContain(words);
    expect(answer.headers.get('content-type')).toBe('text/plain; charset=utf-8');
  });

  it('never hides that something is missing', async () => {
    await start();
    const missing: Coverage = { shard: 3, fromMs: 0, toMs: 1, state: 'missing', reason: 'node-2 does not answer' };
    server.store.coverage = [{ shard: 0, fromMs: 0, toMs: 1, state: 'complete' }, missing];
    const answer = await ask({ queries: [UP] });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('x-silverback-coverage')).toBe('missing; shards=3');
    for (const acceptedResponseTypes of [[SAMPLES], [STREAMED_XOR_CHUNKS]]) {
      const denied = await ask({ queries: [UP], acceptedResponseTypes }, '?partial=deny');
      expect(denied).toMatchObject({ status: 503, text: expect.stringContaining('node-2 does not answer') });
      expect(denied.headers.get('retry-after')).toBe('1');
    }
    server.store.coverage = [missing];
    expect((await ask({ queries: [UP] })).status).toBe(503);
  });

  it('has a limit of samples, which chunks do not have', async () => {
    await start();
    await server.close();
    server = await serve({ maxReadSamples: 301 });
    server.store.series_ = ['a', 'b'].map((job) =>
      stored(
        { __name__: 'up', job },
        Array.from({ length: 151 }, (_, i) => [1_000_000 + i, i]),
      ),
    );
    const answer = await ask({ queries: [UP] });
    expect(answer).toMatchObject({ status: 422, text: expect.stringContaining('exceeded sample limit (301)') });
    expect((await ask({ queries: [UP], acceptedResponseTypes: [STREAMED_XOR_CHUNKS] })).status).toBe(200);
  });

  it('says what went wrong when the selection fails', async () => {
    await start();
    server.store.hold = async () => {
      throw new SilverbackError('TOO_LARGE', 'the selection has 7 series, at most 6 are allowed');
    };
    expect(await ask({ queries: [UP] })).toMatchObject({
      status: 422,
      text: 'the selection has 7 series, at most 6 are allowed\n',
    });
  });

  it('lets four run at a time, and those that went away are not run', async () => {
    await start();
    let running = 0;
    let most = 0;
    let free: () => void = () => undefined;
    const open = new Promise<void>((resolve) => {
      free = resolve;
    });
    server.store.hold = async () => {
      most = Math.max(most, ++running);
      await open;
      running--;
    };
    const answers = Array.from({ length: 6 }, () => ask({ queries: [UP] }));
    const impatient = new AbortController();
    const gone = post(readRequest({ queries: [UP] }), '', impatient.signal).catch(() => 'gone');
    const waiting = async () =>
      Number(/silverback_remote_reads_waiting (\d+)/.exec(await (await fetch(`${server.url}/metrics`)).text())?.[1]);
    await expect.poll(waiting, { timeout: 30_000 }).toBe(3);
    impatient.abort();
    expect(await gone).toBe('gone');
    await expect.poll(waiting, { timeout: 30_000 }).toBe(2);
    free();
    for (const { status } of await Promise.all(answers)) expect(status).toBe(200);
    expect(most).toBe(4);
  });

  it('a reader that takes nothing loses its turn', async () => {
    server = await serve({ timeoutMs: 1_000 });
    const values = Array.from({ length: 1_000_000 }, (_, i) => [i * 1_000, Math.sin(i)] as const);
    server.store.series_ = [stored({ __name__: 'up' }, values)];
    const body = readRequest({
      queries: [asking(0, 9e15, matching('__name__', 'up'))],
      acceptedResponseTypes: [STREAMED_XOR_CHUNKS],
    });
    const socket = connect(server.port, '127.0.0.1');
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => undefined);
    socket.write(`POST /api/v1/read HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n`);
    socket.write(body);
    await new Promise((resolve) => socket.once('readable', resolve));
    const running = async () =>
      Number(/silverback_remote_reads_running (\d+)/.exec(await (await fetch(`${server.url}/metrics`)).text())?.[1]);
    await expect.poll(running, { timeout: 30_000 }).toBe(0);
    socket.resume();
    await closed;
  });
});
