/**
 * Warms the code of queries before the process says that it is ready, and after that while it is idle: V8 interprets what it has
 * seldom run, which the first queries of each kind pay for. Queries go the whole way, from a socket through HTTP, parser, engine, fan-out and gRPC,
 * decoding and JSON, but in a world of their own: made-up nodes, an HTTP server on a free loopback port, metrics that
 * nobody reads. Nothing of it is left behind.
 */
import { Agent, get } from 'node:http';
import { Reader } from '../client/reader.ts';
import type { Env } from '../core/env/env.ts';
import { type Duplex, RpcServer } from '../core/grpc.ts';
import type { ChunkCodec } from '../core/kernel/codec.ts';
import { encodeIdentity, type Labels, makeLabels } from '../core/labels.ts';
import type { Placement } from '../core/placement.ts';
import type { Taker } from '../core/promql/evaluator.ts';
import { Aggregator } from '../core/promql/groups.ts';
import { BestSeries, isBest, PointsWriter, VALUES } from '../core/promql/points.ts';
import { type AggregateRequest, type ReadReply, type ReadRequest, shardsService } from '../core/protocol.ts';
import { API_ROWS, Api, type ApiRow } from './http/api.ts';
import { Metrics } from './http/metrics.ts';
import { Params } from './http/params.ts';
import { createHttpServer, type HttpServer } from './http/server.ts';
import { Engine } from './promql/engine.ts';
import { Cluster } from './query/cluster.ts';

const HOST = '127.0.0.1';
const NODE_COUNT = 2;
const SERIES_PER_NODE = 10;
const SAMPLE_COUNT = 240;
const STEP_MS = 15_000;
/** Any time will do: it is the made-up samples' alone. */
const END_MS = 1_700_000_000_000;
const TIMEOUT_MS = 2_000;

export class WarmUp {
  readonly #nodes: readonly { readonly address: string; close(): void }[];
  readonly #reader: Reader;
  readonly #http: HttpServer;
  readonly #base: string;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });

  /** `codec`: the one that real queries use. V8 optimises calls of its functions, not of any codec's. */
  static async open(env: Env, codec: ChunkCodec): Promise<WarmUp> {
    const nodes = await Promise.all(Array.from({ length: NODE_COUNT }, (_, shard) => openNode(codec, shard)));
    const placement = placementOf(nodes.map(({ address }) => address));
    const view = { current: () => placement, refresh: async () => placement, onChange: () => () => undefined };
    const reader = new Reader({ env, placement: view, caller: 'warm-up' });
    const http = createHttpServer({
      env,
      api: new Api({
        env,
        engine: new Engine(env, { timeoutMs: TIMEOUT_MS, experimental: true }),
        queryable: new Cluster({ reader, codec, maxSeries: 1e6, maxSamples: 1e6, timeoutMs: TIMEOUT_MS }),
        timeoutMs: TIMEOUT_MS,
        version: '',
      }),
      metrics: new Metrics({ ofProcess: false }),
      write: (_request, response) => response.end(),
      unready: async () => undefined,
      page: () => undefined,
    });
    const port = await http.listen(HOST, 0);
    return new WarmUp(nodes, reader, http, `http://${HOST}:${port}/api/v1`);
  }

  private constructor(
    nodes: readonly { readonly address: string; close(): void }[],
    reader: Reader,
    http: HttpServer,
    base: string,
  ) {
    this.#nodes = nodes;
    this.#reader = reader;
    this.#http = http;
    this.#base = base;
  }

  /** Asks each kind of query once, as long as it is wanted. Resolves with how many were answered. */
  async round(isWanted: () => boolean): Promise<number> {
    let count = 0;
    for (const path of PATHS) {
      if (!isWanted()) break;
      if (await isAnswered(`${this.#base}${path}`, this.#agent)) count++;
    }
    return count;
  }

  async close(): Promise<void> {
    this.#agent.destroy();
    await this.#http.close();
    this.#reader.close();
    for (const { close } of this.#nodes) close();
  }
}

/**
 * Asks each kind of query once of the cluster itself, which has nothing of these metrics. What V8 optimised for the made-up world
 * alone would be thrown away by the first real query; what it optimises from now on is for both. Resolves with how many were answered.
 */
export async function askReal(api: Api, signal: AbortSignal): Promise<number> {
  let count = 0;
  for (const url of PATHS) {
    const [path, query] = url.split('?') as [string, string];
    const label = /^\/label\/(.+)\/values$/.exec(path)?.[1];
    const row = API_ROWS.find((one) => one.path === (label === undefined ? path : '/label/:name/values')) as ApiRow;
    for (const extra of ['', '&nocache=1']) {
      if (signal.aborted) return count;
      const { status } = await api.answer(row, { params: new Params(query + extra), name: label ?? '', signal });
      if (status === 200) count++;
    }
  }
  return count;
}

/** What dashboards ask, small. */
const PATHS: readonly string[] = [
  ranged('warm_gauge{host="host-1"}', STEP_MS / 1000),
  ranged('sum by (region) (rate(warm_gauge[5m]))', 60),
  '/label/host/values?start=1699996400&end=1700000000',
  instant('topk(3, avg_over_time(warm_gauge[10m]))'),
  '/series?match[]=warm_gauge&start=1699996400&end=1700000000',
  ranged('max by (host) ({__name__=~"warm_.*"})', 60),
  instant('quantile_over_time(0.95, warm_gauge{region="region-1"}[1h])'),
  ranged('avg by (region) (quantile_over_time(0.9, warm_gauge[5m]))', 60),
  ranged('warm_gauge{host="host-2"}', 60),
  ranged('sum by (region) (rate(warm_gauge[5m])) / sum by (region) (rate(warm_gauge[5m]))', 60),
];

function ranged(query: string, stepSeconds: number): string {
  const end = END_MS / 1000;
  return `/query_range?query=${encodeURIComponent(query)}&start=${end - 3600}&end=${end}&step=${stepSeconds}`;
}

function instant(query: string): string {
  return `/query?query=${encodeURIComponent(query)}&time=${END_MS / 1000}`;
}

/** A node that gives the same few series to whoever asks. */
async function openNode(codec: ChunkCodec, shard: number): Promise<{ address: string; close(): void }> {
  const chunked = pageOf(codec, shard, true);
  const bare = pageOf(codec, shard, false);
  const values = Buffer.from(JSON.stringify(Array.from({ length: SERIES_PER_NODE }, (_, i) => `host-${i}`)));
  const server = new RpcServer();
  server.duplex(shardsService.Read, (call: Duplex<ReadRequest, ReadReply>) => {
    call.listen({
      request: ({ id, select, series, aggregate, labelValues }) => {
        if (aggregate !== null) {
          call.send(reply(id, shard, { page: computedOf(aggregate, shard) }));
          return;
        }
        const asked = select ?? series;
        if (labelValues !== null) call.send(reply(id, shard, { page: values }));
        else if (asked === null) call.send(reply(id, shard, {}));
        else call.send(reply(id, shard, { page: asked === select ? chunked : bare }));
      },
      end: () => call.finish(),
    });
  });
  const port = await server.listen(`${HOST}:0`);
  return { address: `${HOST}:${port}`, close: () => server.stop() };
}

function reply(id: number, shard: number, content: Partial<ReadReply>): ReadReply {
  return {
    id,
    page: new Uint8Array(0),
    values: [],
    done: true,
    coverage: [{ shards: [shard], fromMs: 0, toMs: END_MS, state: 'COMPLETE', reason: '' }],
    code: 'OK',
    message: '',
    retryAfterMs: 0,
    ...content,
  };
}

/** A select page (ARCHITECTURE.md) of some series, with an hour of samples each. */
function pageOf(codec: ChunkCodec, shard: number, withChunks: boolean): Uint8Array {
  const parts: Uint8Array[] = [];
  const word = (value: number) => parts.push(new Uint8Array(Uint32Array.of(value).buffer));
  for (let i = 0; i < SERIES_PER_NODE; i++) {
    const identity = encodeIdentity(labelsOf(i, shard));
    word(shard);
    word(identity.length);
    parts.push(identity);
    word(withChunks ? 1 : 0);
    if (!withChunks) continue;
    const { timestamps, values } = columnsOf(i);
    const chunk = codec.encode(timestamps, values).slice();
    word(chunk.length);
    parts.push(chunk);
  }
  return Buffer.concat(parts);
}

/** What a node would compute of the same series, as a page. */
function computedOf(request: AggregateRequest, shard: number): Uint8Array {
  const { operation, startMs, stepMs } = request;
  const aggregation = { ...request, reference: { startMs, stepMs } };
  const addAll = <T extends Taker>(taker: T): T => {
    for (let i = 0; i < SERIES_PER_NODE; i++) {
      const { timestamps, values } = columnsOf(i);
      taker.add(encodeIdentity(labelsOf(i, shard)), timestamps, values, timestamps.length);
    }
    return taker;
  };
  if (operation === VALUES) return addAll(new PointsWriter(aggregation)).take();
  const taker = isBest(operation) ? new BestSeries(aggregation) : new Aggregator(aggregation);
  const [page] = addAll<Aggregator | BestSeries>(taker).pages(Number.POSITIVE_INFINITY);
  return page as Uint8Array;
}

function labelsOf(i: number, shard: number): Labels {
  return makeLabels({ __name__: 'warm_gauge', host: `host-${i}`, node: String(shard), region: `region-${i % 3}` });
}

function columnsOf(i: number): { timestamps: Float64Array; values: Float64Array } {
  return {
    timestamps: Float64Array.from({ length: SAMPLE_COUNT }, (_, k) => END_MS - (SAMPLE_COUNT - k) * STEP_MS),
    values: Float64Array.from({ length: SAMPLE_COUNT }, (_, k) => ((k * 37 + i) % 1000) / (i % 2 === 0 ? 100 : 1) - 3),
  };
}

/** A shard on each node. */
function placementOf(addresses: readonly string[]): Placement {
  return {
    clusterId: '',
    shardCount: addresses.length,
    revision: 1,
    copies: addresses.map((address, i) => [
      { region: 'warm-up', zone: '', node: String(i), address, state: 'active', epoch: 1 },
    ]),
  };
}

/** A query that fails warms less, and is no reason not to start. */
function isAnswered(url: string, agent: Agent): Promise<boolean> {
  return new Promise((resolve) => {
    get(url, { agent }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode === 200));
      response.on('error', () => resolve(false));
    }).on('error', () => resolve(false));
  });
}
