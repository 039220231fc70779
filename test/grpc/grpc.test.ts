import { once } from 'node:events';
import { connect } from 'node:http2';
import { Metadata, status } from '@grpc/grpc-js';
import { afterEach, describe, expect, it } from 'vitest';
import { Connections } from '../../core/connections.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { SilverbackError } from '../../core/errors.ts';
import { brokenBy, Channel, MAX_MESSAGE_BYTES, RpcServer, WINDOW_BYTES } from '../../core/grpc.ts';
import {
  clusterService,
  type PlacementReply,
  type QueryRequest,
  shardsService,
  type WriteReply,
} from '../../core/protocol.ts';

const closers: (() => void)[] = [];

afterEach(() => {
  for (const close of closers.splice(0).reverse()) close();
});

async function serve(server: RpcServer): Promise<{ channel: Channel; address: string }> {
  const port = await server.listen('127.0.0.1:0');
  closers.push(() => server.stop());
  const address = `127.0.0.1:${port}`;
  const channel = new Channel(address, { clock: nodeEnv.clock, caller: 'tester' });
  closers.push(() => channel.close());
  return { channel, address };
}

const QUERY: QueryRequest = { query: 'up', timeMs: 1, startMs: 0, endMs: 0, stepMs: 0, region: '' };
const PLACEMENT: PlacementReply = { clusterId: '', shardCount: 0, revision: 0, shards: [] };

async function failure(promise: Promise<unknown>): Promise<SilverbackError> {
  const error: unknown = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(SilverbackError);
  return error as SilverbackError;
}

describe('an rpc server', () => {
  it('raises the windows of its connections, and warns of nothing', async () => {
    const warnings: string[] = [];
    const server = new RpcServer({ warn: (message) => warnings.push(message) });
    const port = await server.listen('127.0.0.1:0');
    closers.push(() => server.stop());
    const session = connect(`http://127.0.0.1:${port}`);
    closers.push(() => session.destroy());
    while (session.remoteSettings.initialWindowSize !== WINDOW_BYTES) await once(session, 'remoteSettings');
    expect(warnings).toEqual([]);
    // The window of the connection: what we may send before the server has read any of it.
    while ((session.state.remoteWindowSize ?? 0) < WINDOW_BYTES) {
      await new Promise((resolve) => session.ping(resolve));
    }
    expect(session.state.remoteWindowSize).toBeGreaterThanOrEqual(WINDOW_BYTES);
  });

  it('closes connections past the bound at once, and counts them; who has one goes on', async () => {
    const connections = new Connections(2);
    const server = new RpcServer({ connections }).unary(clusterService.Query, async () => ({ json: '{}' }) as never);
    const port = await server.listen('127.0.0.1:0');
    closers.push(() => server.stop());
    const open = async () => {
      const session = connect(`http://127.0.0.1:${port}`);
      closers.push(() => session.destroy());
      const refused = new Promise<boolean>((resolve) => {
        session.once('error', () => resolve(true));
        session.once('close', () => resolve(true));
        session.once('remoteSettings', () => resolve(false));
      });
      return { session, isRefused: await refused };
    };
    const first = await open();
    expect([first.isRefused, (await open()).isRefused]).toEqual([false, false]);
    expect((await open()).isRefused).toBe(true);
    expect(connections).toMatchObject({ count: 2, refusedCount: 1 });
    first.session.close();
    while (connections.count > 1) await new Promise((resolve) => setTimeout(resolve, 10));
    expect((await open()).isRefused).toBe(false);
  });

  it('tells the handler who calls', async () => {
    const { channel } = await serve(
      new RpcServer().unary(clusterService.Query, async (_, { caller }) => ({
        status: 200,
        body: Buffer.from(caller.name),
      })),
    );
    const reply = await channel.unary(clusterService.Query, QUERY, { timeoutMs: 5_000 });
    expect(Buffer.from(reply.body).toString()).toBe('tester');
  });

  it('refuses whom its identify refuses', async () => {
    const identify = () => {
      throw new SilverbackError('INVALID_ARGUMENT', 'nobody knows you');
    };
    const server = new RpcServer({ identify })
      .unary(clusterService.Query, async () => ({ status: 200, body: Buffer.alloc(0) }))
      .duplex(shardsService.Write, () => expect.unreachable());
    const { channel } = await serve(server);
    const error = await failure(channel.unary(clusterService.Query, QUERY, { timeoutMs: 5_000 }));
    expect(error.message).toContain('nobody knows you');
    const call = channel.duplex(shardsService.Write);
    const [refused] = await once(call, 'error');
    expect(refused.message).toContain('nobody knows you');
  });

  it('carries codes and retry delays; what is not coded is INTERNAL', async () => {
    let thrown: unknown = new SilverbackError('RESOURCE_EXHAUSTED', 'the queue is full', { retryAfterMs: 250 });
    const { channel } = await serve(
      new RpcServer().unary(clusterService.Query, async () => {
        throw thrown;
      }),
    );
    const full = await failure(channel.unary(clusterService.Query, QUERY, { timeoutMs: 5_000 }));
    expect(full).toMatchObject({ code: 'RESOURCE_EXHAUSTED', message: 'the queue is full', retryAfterMs: 250 });
    thrown = new SilverbackError('NOT_OWNER', 'größer als 3 Bytes: 漢字');
    const other = await failure(channel.unary(clusterService.Query, QUERY, { timeoutMs: 5_000 }));
    expect(other).toMatchObject({ code: 'NOT_OWNER', message: 'größer als 3 Bytes: 漢字', retryAfterMs: undefined });
    thrown = new TypeError('x is not a function');
    const bug = await failure(channel.unary(clusterService.Query, QUERY, { timeoutMs: 5_000 }));
    expect(bug).toMatchObject({ code: 'INTERNAL', message: 'TypeError: x is not a function' });
  });

  it('refuses messages over the limit with TOO_LARGE, in both directions', async () => {
    const { channel } = await serve(
      new RpcServer().unary(clusterService.Query, async ({ query }) => ({
        status: 200,
        body: Buffer.alloc(query === 'big' ? MAX_MESSAGE_BYTES : 1),
      })),
    );
    const big = { ...QUERY, query: 'x'.repeat(MAX_MESSAGE_BYTES) };
    expect(await failure(channel.unary(clusterService.Query, big, { timeoutMs: 5_000 }))).toMatchObject({
      code: 'TOO_LARGE',
    });
    const bigReply = channel.unary(clusterService.Query, { ...QUERY, query: 'big' }, { timeoutMs: 5_000 });
    expect(await failure(bigReply)).toMatchObject({ code: 'TOO_LARGE' });
    // The connection survives.
    await channel.unary(clusterService.Query, QUERY, { timeoutMs: 5_000 });
  });

  it('ends calls that take too long, and tells the handler', async () => {
    let aborted: () => void;
    const wasAborted = new Promise<void>((resolve) => {
      aborted = resolve;
    });
    const { channel } = await serve(
      new RpcServer().unary(clusterService.Query, (_, { signal }) => {
        signal.addEventListener('abort', () => aborted());
        return new Promise(() => undefined);
      }),
    );
    expect(await failure(channel.unary(clusterService.Query, QUERY, { timeoutMs: 1_000 }))).toMatchObject({
      code: 'TIMEOUT',
    });
    await wasAborted;
  });

  it('says UNAVAILABLE where nobody listens', async () => {
    const channel = new Channel('127.0.0.1:1', { clock: nodeEnv.clock, caller: 'tester' });
    closers.push(() => channel.close());
    expect(await failure(channel.unary(clusterService.Query, QUERY, { timeoutMs: 5_000 }))).toMatchObject({
      code: 'UNAVAILABLE',
    });
  });

  it('says UNAVAILABLE when its address is taken', async () => {
    const { address } = await serve(new RpcServer());
    expect(await failure(new RpcServer().listen(address))).toMatchObject({ code: 'UNAVAILABLE' });
  });
});

describe('a reply stream', () => {
  it('ends a stream when its last reply is taken, and fails with what became of that', async () => {
    const { channel } = await serve(
      new RpcServer().stream(clusterService.Placement, async (_, call) => {
        for (let revision = 1; revision <= 4; revision++) await call.send({ ...PLACEMENT, revision });
      }),
    );
    const taken: number[] = [];
    const slowly = async ({ revision }: PlacementReply): Promise<void> => {
      await new Promise((wake) => setTimeout(wake, 100));
      taken.push(revision);
    };
    await channel.stream(clusterService.Placement, {}, {}, slowly);
    expect(taken).toEqual([1, 2, 3, 4]);
    const failing = channel.stream(clusterService.Placement, {}, {}, async (reply) => {
      await slowly(reply);
      if (reply.revision === 4) throw new RangeError('not the last one');
    });
    await expect(failing).rejects.toThrow('not the last one');
  });

  it('holds the handler back while the receiver is busy', async () => {
    const reply = { ...PLACEMENT, clusterId: 'x'.repeat(1024 * 1024) };
    const count = 200;
    let sent = 0;
    const { channel } = await serve(
      new RpcServer().stream(clusterService.Placement, async (_, call) => {
        for (; sent < count; sent++) await call.send(reply);
      }),
    );
    let release: (() => void) | undefined;
    let received = 0;
    let paused: () => void;
    const isPaused = new Promise<void>((resolve) => {
      paused = resolve;
    });
    const done = channel.stream(clusterService.Placement, {}, {}, () => {
      received++;
      if (received > 1) return undefined;
      paused();
      return new Promise<void>((resolve) => {
        release = resolve;
      });
    });
    await isPaused;
    // Whatever the buffers on the way hold, it is far less than everything: wait until nothing moves.
    for (let before = -1; before !== sent; ) {
      before = sent;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    expect(received).toBe(1);
    expect(sent).toBeLessThan(100);
    release?.();
    await done;
    expect(received).toBe(count);
  });

  it('stops the handler when the receiver throws or aborts, and gives its error', async () => {
    let failed: (error: unknown) => void = () => undefined;
    const { channel } = await serve(
      new RpcServer().stream(clusterService.Placement, async (_, call) => {
        try {
          for (;;) await call.send({ ...PLACEMENT, clusterId: 'x'.repeat(65_536) });
        } catch (error) {
          failed(error);
          throw error;
        }
      }),
    );
    const stopped = () => new Promise<unknown>((resolve) => (failed = resolve));

    let stop = stopped();
    const thrown = channel.stream(clusterService.Placement, {}, {}, () => {
      throw new RangeError('enough');
    });
    await expect(thrown).rejects.toThrow(new RangeError('enough'));
    expect(await stop).toMatchObject({ code: 'CANCELLED' });

    stop = stopped();
    const rejected = channel.stream(clusterService.Placement, {}, {}, () => Promise.reject(new RangeError('enough')));
    await expect(rejected).rejects.toThrow(new RangeError('enough'));
    expect(await stop).toMatchObject({ code: 'CANCELLED' });

    stop = stopped();
    const controller = new AbortController();
    const aborted = channel.stream(clusterService.Placement, {}, { signal: controller.signal }, () =>
      controller.abort(),
    );
    expect(await failure(aborted)).toMatchObject({ code: 'CANCELLED' });
    expect(await stop).toMatchObject({ code: 'CANCELLED' });
  });
});

describe('a duplex', () => {
  it('answers in any order and ends after the caller', async () => {
    const { channel } = await serve(
      new RpcServer().duplex(shardsService.Write, (call) => {
        const held: WriteReply[] = [];
        call.listen({
          request: ({ batchId }) => void held.unshift({ batchId, shards: [], speaks: [] }),
          end() {
            for (const reply of held) call.send(reply);
            call.finish();
          },
        });
      }),
    );
    const call = channel.duplex(shardsService.Write);
    const replies: number[] = [];
    call.on('data', ({ batchId }) => replies.push(batchId));
    for (const batchId of [1, 2, 3]) call.write({ hello: null, batchId, ack: 'LOCAL', shards: [], peerWaitMs: 0 });
    call.end();
    await once(call, 'end');
    expect(replies).toEqual([3, 2, 1]);
  });

  it('survives a handler that throws', async () => {
    const { channel } = await serve(
      new RpcServer().duplex(shardsService.Write, (call) => {
        call.listen({
          request() {
            throw new SilverbackError('INVALID_ARGUMENT', 'no such thing');
          },
          end: () => call.finish(),
        });
      }),
    );
    for (let i = 0; i < 2; i++) {
      const call = channel.duplex(shardsService.Write);
      call.write({ hello: null, batchId: 1, ack: 'LOCAL', shards: [], peerWaitMs: 0 });
      const [error] = await once(call, 'error');
      expect(error.message).toContain('no such thing');
    }
  });

  it('takes one or two more requests once it is paused, and all when it goes on', async () => {
    let taken = 0;
    let resume: () => void = () => undefined;
    const { channel } = await serve(
      new RpcServer().duplex(shardsService.Write, (call) => {
        resume = () => call.resume();
        call.listen({
          request({ batchId }) {
            taken++;
            if (batchId === 0) call.pause();
            // What goes out meanwhile does not set it going.
            call.send({ batchId, shards: [], speaks: [] });
          },
          end: () => call.finish(),
        });
      }),
    );
    const call = channel.duplex(shardsService.Write);
    let replies = 0;
    call.on('data', () => replies++);
    const count = 200;
    for (let batchId = 0; batchId < count; batchId++)
      call.write({ hello: null, batchId, ack: 'LOCAL', shards: [], peerWaitMs: 0 });
    for (let before = -1; before !== replies || replies === 0; ) {
      before = replies;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    expect(taken).toBeLessThanOrEqual(3);
    resume();
    call.end();
    await once(call, 'end');
    expect(replies).toBe(count);
  });

  it('takes no more requests while the caller does not read its replies', async () => {
    let taken = 0;
    const message = 'x'.repeat(65_536);
    const { channel } = await serve(
      new RpcServer().duplex(shardsService.Write, (call) => {
        call.listen({
          request({ batchId }) {
            taken++;
            const outcome = {
              shard: 0,
              code: 'OK',
              message,
              retryAfterMs: 0,
              unknownRefs: Buffer.alloc(0),
              rejections: [],
              exemplars: 0,
              refusedExemplars: [],
            } as const;
            call.send({ batchId, shards: [outcome], speaks: [] });
          },
          end: () => call.finish(),
        });
      }),
    );
    const call = channel.duplex(shardsService.Write);
    const count = 2_000;
    // grpc-js reads ahead without bound until the first read, so there must be one.
    call.once('data', () => call.pause());
    for (let batchId = 0; batchId < count; batchId++)
      call.write({ hello: null, batchId, ack: 'LOCAL', shards: [], peerWaitMs: 0 });
    for (let before = -1; before !== taken || taken === 0; ) {
      before = taken;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    expect(taken).toBeLessThan(count / 2);
    let replies = 1;
    call.on('data', () => replies++);
    call.resume();
    call.end();
    await once(call, 'end');
    expect(replies).toBe(count);
  });
});

describe('a stream that broke', () => {
  const of = (code: status, details: string, metadata = new Metadata()) =>
    brokenBy(Object.assign(new Error(details), { code, details, metadata }));

  it('is a connection that is gone, whatever grpc calls it', () => {
    const details = 'Received RST_STREAM with code 0 (Call ended without gRPC status)';
    expect(of(status.INTERNAL, details)).toMatchObject({ code: 'UNAVAILABLE', message: details, retryable: true });
    expect(of(status.CANCELLED, 'Call cancelled')).toMatchObject({ code: 'UNAVAILABLE' });
    expect(of(status.UNIMPLEMENTED, 'no such method')).toMatchObject({ code: 'VERSION' });
  });

  it('is what the other side said, where it said it', () => {
    const metadata = new Metadata();
    metadata.set('silverback-code', 'INTERNAL');
    expect(of(status.INTERNAL, 'a bug', metadata)).toMatchObject({ code: 'INTERNAL', message: 'a bug' });
  });
});
