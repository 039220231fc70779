/**
 * Warms the code of reads while a node has nothing else to do: V8 interprets what it has seldom run, which the first reads of
 * each kind pay for. Reads go the whole way, from a socket through gRPC and postings to open runs, blocks and pages, but of
 * shards of their own, in `directory`, which is gone at the end.
 */
import type { Env } from '../core/env/env.ts';
import { Channel, type ClientDuplexStream, type Duplex, RpcServer } from '../core/grpc.ts';
import { encodeIdentity, makeLabels } from '../core/labels.ts';
import { VALUES } from '../core/promql/points.ts';
import {
  type AggregateRequest,
  BLANK_READ,
  type ReadReply,
  type ReadRequest,
  shardsService,
  type WireMatcher,
} from '../core/protocol.ts';
import { helloOf, SPOKEN } from '../core/versions.ts';
import { Refused } from './hello.ts';
import { ReadBound, serveReads } from './read.ts';
import { Budget } from './shard/budget.ts';
import type { Batch } from './shard/sender.ts';
import { Shard } from './shard/shard.ts';
import { ValuePages } from './values.ts';

const HOST = '127.0.0.1';
/** More than a bitmap has in one word. */
const SERIES_COUNT = 72;
const SAMPLE_COUNT = 120;
const STEP_MS = 30_000;
const HOUR_MS = 3_600_000;
/** A read asks so many; the first has open runs, the second blocks, the others nothing. */
const SHARD_COUNT = 8;

export class WarmUp {
  readonly #env: Env;
  readonly #directory: string;
  readonly #shards: readonly Shard[];
  readonly #server: RpcServer;
  readonly #channel: Channel;
  readonly #call: ClientDuplexStream<ReadRequest, ReadReply>;
  readonly #questions: readonly Partial<ReadRequest>[];
  #lastId = 0;
  #answered: ((isGood: boolean) => void) | undefined;
  #isBroken = false;

  /** What is in `directory` is removed. */
  static async open(env: Env, directory: string): Promise<WarmUp> {
    await env.disk.removeTree(directory);
    const nowMs = env.clock.nowMs();
    const shards = await Promise.all([0, 1, 2].map((id) => openShard(env, `${directory}/${id}`, id)));
    const [open, sealed] = shards as [Shard, Shard];
    await fill(open, nowMs - HOUR_MS);
    await fill(sealed, nowMs - 6 * HOUR_MS);
    for (let i = 0; i < 4; i++) await sealed.tick();
    const server = new RpcServer();
    const node = {
      clusterId: '',
      name: 'warm-up',
      spoken: SPOKEN,
      refused: new Refused(() => 0),
      find: (id: number) => shards[Math.min(id, 2)] as Shard,
      gaps: (id: number, range: { fromMs: number; toMs: number }) => [
        ...(shards[Math.min(id, 2)] as Shard).gaps(range),
      ],
      heard: () => undefined,
      assigned: () => Array.from({ length: SHARD_COUNT }, (_, i) => i),
    };
    const bound = new ReadBound(4);
    const values = new ValuePages();
    server.duplex(shardsService.Read, (call: Duplex<ReadRequest, ReadReply>) =>
      serveReads(call, { node, bound, values }),
    );
    const port = await server.listen(`${HOST}:0`);
    return new WarmUp(env, directory, shards, server, `${HOST}:${port}`, questionsAt(nowMs));
  }

  private constructor(
    env: Env,
    directory: string,
    shards: readonly Shard[],
    server: RpcServer,
    address: string,
    questions: readonly Partial<ReadRequest>[],
  ) {
    this.#env = env;
    this.#directory = directory;
    this.#shards = shards;
    this.#server = server;
    this.#questions = questions;
    this.#channel = new Channel(address, { clock: env.clock, caller: 'warm-up' });
    this.#call = this.#channel.duplex(shardsService.Read);
    this.#call.on('data', (reply: ReadReply) => {
      if (reply.done || reply.code !== 'OK') this.#answered?.(reply.code === 'OK');
    });
    this.#call.on('error', () => {
      this.#isBroken = true;
      this.#answered?.(false);
    });
  }

  /** Asks each question once. Resolves with how many were answered. */
  async round(isWanted: () => boolean): Promise<number> {
    let count = 0;
    for (const question of this.#questions) {
      if (this.#isBroken || !isWanted()) break;
      const hello = this.#lastId === 0 ? helloOf(SPOKEN, '', 'warm-up') : null;
      const answered = new Promise<boolean>((resolve) => {
        this.#answered = resolve;
      });
      this.#call.write({ ...BLANK_READ, ...question, hello, id: ++this.#lastId, credit: 100 });
      if (await answered) count++;
    }
    return count;
  }

  async close(): Promise<void> {
    this.#call.cancel();
    this.#channel.close();
    this.#server.stop();
    await Promise.all(this.#shards.map((shard) => shard.close()));
    await this.#env.disk.removeTree(this.#directory);
  }
}

function openShard(env: Env, directory: string, shard: number): Promise<Shard> {
  return Shard.open(env, directory, { shard, budget: new Budget(64 << 20), sealDelayMs: 0, sealIdleMs: 0 });
}

/** Writes an hour of samples of some series. */
async function fill(shard: Shard, startMs: number): Promise<void> {
  const definitions: Uint8Array[] = [];
  const timestamps = new BigInt64Array(SERIES_COUNT * SAMPLE_COUNT);
  const values = new Float64Array(SERIES_COUNT * SAMPLE_COUNT);
  for (let i = 0; i < SERIES_COUNT; i++) {
    const name = i % 2 === 0 ? 'warm_gauge' : 'warm_total';
    const labels = makeLabels({ __name__: name, host: `host-${i >> 1}`, job: 'warm-up', region: `region-${i % 3}` });
    const identity = encodeIdentity(labels);
    definitions.push(new Uint8Array(Uint32Array.of(i, identity.length).buffer), identity);
    for (let k = 0; k < SAMPLE_COUNT; k++) {
      timestamps[i * SAMPLE_COUNT + k] = BigInt(startMs + k * STEP_MS);
      values[i * SAMPLE_COUNT + k] = i % 2 === 0 ? ((k * 37 + i) % 1000) / 100 : k * 7;
    }
  }
  const bytesOf = ({ buffer }: { readonly buffer: ArrayBufferLike }) => new Uint8Array(buffer);
  const batch: Batch = {
    definitions: Buffer.concat(definitions),
    refs: bytesOf(Uint32Array.from({ length: SERIES_COUNT }, (_, i) => i)),
    counts: bytesOf(new Uint32Array(SERIES_COUNT).fill(SAMPLE_COUNT)),
    timestamps: bytesOf(timestamps),
    values: bytesOf(values),
  };
  await shard.attach().append(batch, 'LOCAL');
}

/** What coordinators ask for dashboards, small. */
function questionsAt(nowMs: number): readonly Partial<ReadRequest>[] {
  const shards = Array.from({ length: SHARD_COUNT }, (_, i) => i);
  const is = (name: string, value: string, op: WireMatcher['op'] = 'EQ'): WireMatcher => ({ name, op, value });
  const gauge = is('__name__', 'warm_gauge');
  const select = (spanMs: number, ...matchers: readonly WireMatcher[]) => ({
    shards,
    matchers,
    fromMs: nowMs - spanMs + 1,
    toMs: nowMs,
    maxSeries: 2_000_000,
    maxSamples: 200_000_000,
  });
  const labels = (spanMs: number, name: string, ...matchers: readonly WireMatcher[]) => ({
    shards,
    fromMs: nowMs - spanMs,
    toMs: nowMs,
    name,
    selectors: matchers.length === 0 ? [] : [{ matchers }],
  });
  const computed = (operation: string, asked: Partial<AggregateRequest>, ...matchers: readonly WireMatcher[]) => ({
    aggregate: {
      select: select(HOUR_MS + 300_000, ...matchers),
      operation,
      grouping: [],
      without: false,
      function: '',
      parameter: 0,
      limit: 0,
      rangeMs: 300_000,
      startMs: nowMs - HOUR_MS,
      stepMs: 60_000,
      steps: 61,
      perStep: false,
      ...asked,
    },
  });
  const sixHours = { startMs: nowMs - 6 * HOUR_MS, stepMs: 60_000, steps: 361, select: select(6 * HOUR_MS, gauge) };
  const now = { startMs: nowMs, stepMs: 0, steps: 1 };
  const total = is('__name__', 'warm_total');
  return [
    { select: select(HOUR_MS + 300_000, gauge, is('host', 'host-1')) },
    computed(VALUES, sixHours),
    computed('sum', { grouping: ['region'], function: 'rate' }, total),
    { labelValues: { ...labels(HOUR_MS, 'host'), asJson: true } },
    computed('topk', { ...now, limit: 3, function: 'avg_over_time', rangeMs: 600_000 }, gauge),
    { series: labels(HOUR_MS, '', gauge) },
    computed('max', { grouping: ['host'] }, is('__name__', 'warm_(gau[f-h]e|t[a-z]tal)', 'RE')),
    computed(
      VALUES,
      { ...now, function: 'quantile_over_time', parameter: 0.95, rangeMs: HOUR_MS },
      ...[gauge, is('region', 'region-1')],
    ),
    computed('avg', { grouping: ['region'], function: 'quantile_over_time', parameter: 0.9 }, gauge),
    { labelValues: { ...labels(7 * HOUR_MS, 'host'), asJson: true } },
  ];
}
