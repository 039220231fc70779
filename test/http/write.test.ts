import { request } from 'node:http';
import { connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { Receipt } from '../../coordinator/ingest/receipt.ts';
import { type Admission, Senders } from '../../coordinator/ingest/senders.ts';
import { SilverbackError } from '../../core/errors.ts';
import { type Fixture, serve } from './fixture.ts';

let server: Fixture;
afterEach(() => server.close());

class FakeReceiver {
  readonly maxBodyBytes = 1000;
  senders = new Senders({ maxBytes: 10_000, maxCount: 10 });
  readonly names: string[] = [];
  readonly bodies: Buffer[] = [];
  readonly versions: (number | undefined)[] = [];
  answer: () => Promise<Receipt> = async () => ({
    status: 204,
    message: '',
    retryAfterMs: undefined,
    writtenSampleCount: 7,
    refusedSampleCount: 0,
    writtenExemplarCount: 3,
    refusedExemplarCount: 0,
  });

  get held(): number {
    return this.senders.heldBytes;
  }
  admit(sender: string, bytes: number): Admission {
    this.names.push(sender);
    return this.senders.admit(sender, bytes);
  }
  receive(chunks: readonly Uint8Array[], version?: number): Promise<Receipt> {
    this.versions.push(version);
    this.bodies.push(Buffer.concat(chunks));
    return this.answer();
  }
}

async function start(): Promise<FakeReceiver> {
  const receiver = new FakeReceiver();
  server = await serve({ receiver });
  return receiver;
}

const HEADERS = { 'content-type': 'application/x-protobuf', 'content-encoding': 'snappy' };

async function post(body: Uint8Array | ReadableStream<Uint8Array>, headers: Record<string, string> = {}) {
  const init = { method: 'POST', body, headers: { ...HEADERS, ...headers }, duplex: 'half' } as unknown as RequestInit;
  const response = await fetch(`${server.url}/api/v1/write?x=1`, init);
  return { status: response.status, headers: response.headers, text: await response.text() };
}

describe('remote write over HTTP', () => {
  it('hands the body over as it came and answers what the receiver says', async () => {
    const receiver = await start();
    const body = new Uint8Array(900).map((_, i) => i);
    expect(await post(body)).toMatchObject({ status: 204, text: '' });
    expect([...(receiver.bodies[0] as Buffer)]).toEqual([...body]);
    receiver.answer = async () => ({
      status: 503,
      message: 'shard 3: not there',
      retryAfterMs: 2400,
      writtenSampleCount: 0,
      refusedSampleCount: 0,
      writtenExemplarCount: 0,
      refusedExemplarCount: 0,
    });
    const later = await post(body);
    expect(later).toMatchObject({ status: 503, text: 'shard 3: not there\n' });
    expect(later.headers.get('retry-after')).toBe('3');
    receiver.answer = async () => {
      throw new SilverbackError('INVALID_ARGUMENT', 'remote write body is not snappy');
    };
    expect(await post(body)).toMatchObject({ status: 400, text: 'remote write body is not snappy\n' });
    receiver.answer = async () => {
      throw new TypeError('a bug');
    };
    expect(await post(body)).toMatchObject({ status: 500, text: 'internal error\n' });
    expect(receiver.held).toBe(0);
  });

  it('tells 2.0 by its content type, and says what was written', async () => {
    const receiver = await start();
    const plain = await post(new Uint8Array(3));
    expect(plain.headers.get('x-prometheus-remote-write-samples-written')).toBeNull();
    const answer = await post(new Uint8Array(3), {
      'content-type': 'application/x-protobuf;proto=io.prometheus.write.v2.Request',
    });
    expect(receiver.versions).toEqual([1, 2]);
    expect(answer.status).toBe(204);
    expect(answer.headers.get('x-prometheus-remote-write-samples-written')).toBe('7');
    expect(answer.headers.get('x-prometheus-remote-write-histograms-written')).toBe('0');
    expect(answer.headers.get('x-prometheus-remote-write-exemplars-written')).toBe('3');
  });

  it('takes a body in chunks without a length', async () => {
    const receiver = await start();
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let i = 0; i < 5; i++) controller.enqueue(new Uint8Array([i]));
        controller.close();
      },
    });
    expect((await post(stream)).status).toBe(204);
    expect([...(receiver.bodies[0] as Buffer)]).toEqual([0, 1, 2, 3, 4]);
    expect(receiver.held).toBe(0);
  });

  it('refuses a body over the limit by its length, before it comes, and while it comes', async () => {
    const receiver = await start();
    const status = await new Promise((resolve, reject) => {
      const call = request(`${server.url}/api/v1/write`, {
        method: 'POST',
        headers: { ...HEADERS, 'content-length': 1_000_000 },
      });
      call.on('response', (response) => {
        resolve(response.statusCode);
        call.destroy();
      });
      call.on('error', reject);
      call.flushHeaders();
    });
    expect(status).toBe(413);
    const endless = await new Promise<string>((resolve) => {
      const socket = connect(server.port, '127.0.0.1');
      let text = '';
      socket.on('data', (part) => {
        text += part.toString();
      });
      socket.on('close', () => resolve(text));
      socket.on('error', () => undefined);
      socket.write('POST /api/v1/write HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n');
      for (let i = 0; i < 20; i++) socket.write(`64\r\n${'x'.repeat(100)}\r\n`);
      socket.write('0\r\n\r\n');
    });
    expect(endless).toContain('413 Payload Too Large');
    expect(endless).toContain('at most 1000 are allowed');
    expect(receiver.bodies).toHaveLength(0);
    expect(receiver.held).toBe(0);
  });

  it('turns bodies away while too much is under way', async () => {
    const receiver = await start();
    receiver.senders = new Senders({ maxBytes: 100, maxCount: 10 });
    const other = receiver.admit('other', 50);
    const answer = await post(new Uint8Array(60), { 'user-agent': 'Prometheus/2.42.0' });
    expect(answer.status).toBe(429);
    expect(answer.text).toMatch(
      /^1 bodies of 50 bytes are under way, 0 of 0 bytes are of Prometheus\/2.42.0 at .*127.0.0.1: /,
    );
    expect(answer.headers.get('retry-after')).toBe('1');
    expect((await post(new Uint8Array(49))).status).toBe(204);
    other.release();
    expect(receiver.held).toBe(0);
  });

  it('forgets a body whose sender goes away', async () => {
    const receiver = await start();
    const socket = connect(server.port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write('POST /api/v1/write HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\nabc');
    await expect.poll(() => receiver.held).toBe(500);
    socket.destroy();
    await expect.poll(() => receiver.held).toBe(0);
    expect(receiver.bodies).toHaveLength(0);
  });

  it.each<[Record<string, string>, string]>([
    [{ 'content-type': 'application/json' }, 'content type application/x-protobuf'],
    [
      { 'content-type': 'application/x-protobuf;proto=io.prometheus.write.v3.Request' },
      'proto=prometheus.WriteRequest',
    ],
    [{ 'content-encoding': 'gzip' }, 'content encoding snappy, not gzip'],
  ])('answers %o with 415', async (headers, words) => {
    await start();
    const answer = await post(new Uint8Array(1), headers);
    expect(answer.status).toBe(415);
    expect(answer.text).toContain(words);
  });

  it('takes the type with its proto, and only POST', async () => {
    await start();
    expect(
      (await post(new Uint8Array(1), { 'content-type': 'application/x-protobuf; proto=prometheus.WriteRequest' }))
        .status,
    ).toBe(204);
    const got = await fetch(`${server.url}/api/v1/write`);
    expect(got.status).toBe(405);
    expect(got.headers.get('allow')).toBe('POST');
  });
});
