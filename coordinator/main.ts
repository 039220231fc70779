/**
 * The coordinator process: takes remote write and queries over HTTP, tells clients over gRPC where shards live, and
 * keeps the embedded meta store, unless etcd does. Everything it is made of is put together here.
 *
 *     node dist/coordinator/main.js --http-port 9090 --listen 127.0.0.1:9190 --data-dir data/coordinator
 */
import { fileURLToPath } from 'node:url';
import { Eraser } from '../client/eraser.ts';
import { Reader } from '../client/reader.ts';
import { Writer } from '../client/writer.ts';
import { Channels } from '../core/channels.ts';
import { readSettings, writtenSettings } from '../core/config.ts';
import { Connections } from '../core/connections.ts';
import { nodeEnv } from '../core/env/node.ts';
import { SilverbackError } from '../core/errors.ts';
import { RpcServer } from '../core/grpc.ts';
import { whileIdle } from '../core/idle.ts';
import { optimisedSoon } from '../core/jit.ts';
import { ChunkCodec } from '../core/kernel/codec.ts';
import { DEFAULT_LABEL_LIMITS } from '../core/labels.ts';
import { lockDirectory } from '../core/lock.ts';
import { createLogger } from '../core/logger.ts';
import { openClusterWhenThere } from '../core/meta/cluster.ts';
import { openEmbeddedMeta } from '../core/meta/embedded.ts';
import { connectEtcd } from '../core/meta/etcd.ts';
import { ETCD_SETTINGS, etcdOptions } from '../core/meta/flags.ts';
import { follow } from '../core/meta/follow.ts';
import { KEYS } from '../core/meta/keys.ts';
import type { Member } from '../core/meta/member.ts';
import * as operate from '../core/meta/operate.ts';
import { keepPlacement } from '../core/meta/placer.ts';
import { addMetaService } from '../core/meta/service.ts';
import { decodeValue } from '../core/meta/values.ts';
import { openView } from '../core/meta/view.ts';
import { memberReachedAt, viewReachedAt } from '../core/peers.ts';
import { regionsOf } from '../core/placement.ts';
import { Operations } from './cluster/operations.ts';
import { Survey } from './cluster/survey.ts';
import { addClusterService } from './grpc.ts';
import { Api } from './http/api.ts';
import { Metrics } from './http/metrics.ts';
import { createHttpServer } from './http/server.ts';
import { writeHandler } from './http/write.ts';
import { Receiver } from './ingest/receiver.ts';
import { Engine } from './promql/engine.ts';
import { ResultCache } from './query/cache.ts';
import { Cluster } from './query/cluster.ts';
import { Readiness } from './query/readiness.ts';
import { askReal, WarmUp } from './warm.ts';
import { registerPage } from './web/page.ts';

const MAX_BODY_BYTES = 32 << 20;
const MAX_RAW_BYTES = 128 << 20;
/** Samples that one selector of a query may find. At 1.4 bytes each, what the pages of it may take. */
const MAX_SELECTED_SAMPLES = 200_000_000;
const MAX_SELECTED_SERIES = 2_000_000;
/** Before it is ready: some 300 queries in a second of CPU. */
const WARM_UP = { maxCpuMs: 1_000, maxRounds: 40 };
/** CPU time for more of them afterwards, while nobody asks. */
const IDLE_WARM_UP_CPU_MS = 2_500;
const WARMING = 'not ready: warming up';
/** How long calls under way may take to end when the process is told to stop. */
const DRAIN_MS = 5_000;

async function main(): Promise<void> {
  const env = nodeEnv;
  const settings = await readSettings({
    name: 'silverback-coordinator',
    description: 'Takes remote write and PromQL queries, and knows where every shard lives.',
    settings: [
      'httpHost',
      'httpPort',
      'listen',
      'dataDir',
      'region',
      'placedRegions',
      'peerAddresses',
      'nodeName',
      'nodeCount',
      'shardCount',
      'copyCount',
      ...ETCD_SETTINGS,
      'leaseTtlMs',
      'takeoverGraceMs',
      'queryTimeoutMs',
      'lookbackMs',
      'queryCacheBytes',
      'corsOrigin',
      'enableAdminApi',
      'maxConnectionCount',
      'logLevel',
    ],
    defaults: { nodeName: 'coordinator-1' },
    argv: process.argv.slice(2),
    readFile: (path) => env.disk.readFile(path),
    print: (text) => process.stdout.write(text),
  });
  if (settings === undefined) return;
  const { region, nodeName, leaseTtlMs } = settings;
  const log = createLogger(nodeName, settings.logLevel);
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'a bug: this process cannot go on');
    process.exit(70);
  });

  const lock = await lockDirectory(env, settings.dataDir);
  const etcd = await etcdOptions(env, settings, process.env);
  const meta =
    etcd === undefined
      ? await openEmbeddedMeta(env, `${settings.dataDir}/meta`, { say: (message) => log.warn(message) })
      : connectEtcd(env, etcd);
  // Until etcd answers nothing else keeps this process alive, and nothing but its supervisor's end should end it.
  const alive = setInterval(() => undefined, 60_000);
  const orphaned = (): never => process.exit(0);
  process.on('disconnect', orphaned);
  const { clusterId, shardCount } = await openClusterWhenThere(env, meta, settings.shardCount, (message) =>
    log.warn(message),
  );
  process.off('disconnect', orphaned);
  clearInterval(alive);
  const placement = openView(env, meta, (message) => log.error(message));
  placement.onChange(({ revision }) => log.info({ revision }, 'placement changed'));
  // Each region has a placement and an election of its own.
  const placedRegions = settings.placedRegions ?? [region];
  const placers = placedRegions.map((placed) =>
    keepPlacement(env, meta, {
      clusterId,
      shardCount,
      region: placed,
      name: nodeName,
      expectedNodes: settings.nodeCount,
      copies: settings.copyCount,
      leaseTtlMs,
      graceMs: settings.takeoverGraceMs,
      say: (message) => log.info({ region: placed }, message),
      warn: (message) => log.warn({ region: placed }, message),
    }),
  );

  const peers = settings.peerAddresses ?? new Map<string, string>();
  const reached = viewReachedAt(placement, peers);
  const link = { env, placement: reached, caller: nodeName, region };
  const reader = new Reader(link);
  const eraser = new Eraser(link);
  const members = follow(env, meta, KEYS.nodes, () => undefined);
  const channels = new Channels(link);
  const survey = new Survey({
    channels,
    placement: reached,
    regions: () => placement.regions(),
    members: () => {
      const entries = members.entries();
      return entries && [...entries.values()].map((entry) => memberReachedAt(decodeValue<Member>(entry), peers));
    },
  });
  const operations = new Operations({
    clock: env.clock,
    placement: reached,
    channels,
    caller: nodeName,
    warn: (message) => log.warn(message),
  });
  const readiness = new Readiness({ clock: env.clock, survey, regions: placedRegions });
  const receiver = new Receiver({
    env,
    kernel: { shardCount, maxBodyBytes: MAX_BODY_BYTES, maxRawBytes: MAX_RAW_BYTES, ...DEFAULT_LABEL_LIMITS },
    openWriter: (source) => new Writer({ ...link, source }),
  });
  const engine = new Engine(env, {
    lookbackMs: settings.lookbackMs,
    timeoutMs: settings.queryTimeoutMs,
    experimental: true,
  });
  const codec = ChunkCodec.create();
  const queryable = new Cluster({
    reader,
    codec,
    maxSeries: MAX_SELECTED_SERIES,
    maxSamples: MAX_SELECTED_SAMPLES,
    timeoutMs: settings.queryTimeoutMs,
  });
  const cache = new ResultCache({
    clock: env.clock,
    timers: env.timers,
    engine,
    queryable,
    windowVersions: (range, context) => queryable.windowVersions(range, context),
    maxBytes: settings.queryCacheBytes,
  });
  let isWarm = false;
  const ownVersion = await version();
  const api = new Api({
    env,
    engine,
    queryable,
    annex: queryable,
    cache,
    timeoutMs: settings.queryTimeoutMs,
    version: ownVersion,
    operation: {
      survey,
      operations,
      facts: (found) => ({
        clusterId,
        shardCount,
        version: ownVersion,
        metaStore: etcd === undefined ? 'embedded' : 'etcd',
        grpc: settings.listen,
        unready: isWarm ? readiness.judge(found) : WARMING,
      }),
    },
    settings: writtenSettings(settings),
    regions: () => regionsOf(placement.current()),
    cardinality: (context) => queryable.cardinality(context),
  });

  const removeNode = async (from: string, name: string): Promise<void> => {
    await operate.removeLostNode(meta, from, name);
    log.warn({ region: from, node: name }, 'declared lost: nobody waits for it any more');
  };
  const metrics = new Metrics({ ofProcess: true });
  metrics.watchReceiver(receiver);
  metrics.watchCache(cache);
  metrics.watchPlacers(placers);
  const grpcConnections = new Connections(settings.maxConnectionCount);
  const httpConnections = new Connections(settings.maxConnectionCount);
  metrics.watchConnections({ grpc: grpcConnections, http: httpConnections });
  const http = createHttpServer({
    env,
    api,
    metrics,
    write: writeHandler({
      receiver,
      count: (status) => metrics.request('/write', status),
      warn: (error) => log.error({ err: error }, 'remote write failed'),
    }),
    unready: async () => (isWarm ? readiness.missing() : WARMING),
    page: registerPage,
    admin: settings.enableAdminApi
      ? {
          env,
          eraser,
          removeLostNode: removeNode,
          removeNode: (from, name) => operate.removeNode(meta, from, name),
          switchMoves: (from, moves) => operate.switchMoves(meta, from, moves),
          switchMove: (from, id, mode) => operate.switchMove(meta, from, id, mode),
          orderMoves: (from, order) => operate.orderMoves(meta, from, order),
          rebalance: (from) => operate.rebalance(meta, from),
          setCordon: (from, name, cordon) => operate.setCordon(meta, from, name, cordon),
        }
      : undefined,
    corsOrigin: settings.corsOrigin,
    connections: httpConnections,
  });
  const rpc = new RpcServer({ connections: grpcConnections, warn: (message) => log.warn(message) });
  addMetaService(rpc, meta);
  addClusterService(rpc, placement, api, removeNode);

  let stopping = false;
  const stopped = new AbortController();
  const stop = async (signal: string): Promise<void> => {
    if (stopping) return;
    stopping = true;
    stopped.abort();
    log.info({ signal }, 'stopping');
    // First nothing new comes in, then what is under way ends, then what it needed goes.
    await Promise.race([http.close(), pause(DRAIN_MS)]);
    receiver.close();
    reader.close();
    eraser.close();
    channels.close();
    members.close();
    await Promise.all(placers.map((placer) => placer.close()));
    placement.close();
    rpc.stop();
    await meta.close();
    await lock.release();
    log.info('stopped');
    process.exit(0);
  };
  // A supervisor that is gone (`disconnect`) cannot end this process any more.
  for (const signal of ['SIGTERM', 'SIGINT', 'disconnect'] as const) {
    process.on(signal, () => {
      stop(signal).catch((error: unknown) => {
        log.error({ err: error }, 'could not stop cleanly');
        process.exit(1);
      });
    });
  }

  await rpc.listen(settings.listen);
  const port = await http.listen(settings.httpHost, settings.httpPort).catch((cause: Error) => {
    throw new SilverbackError(
      'UNAVAILABLE',
      `cannot listen on ${settings.httpHost}:${settings.httpPort}: ${cause.message}`,
    );
  });
  log.info({ clusterId, shardCount, http: `${settings.httpHost}:${port}`, grpc: settings.listen }, 'started');
  // Takes what comes meanwhile; a query then is slow, that is all.
  const ready = (queryCount: number): void => {
    isWarm = true;
    log.info({ queryCount }, 'warm');
  };
  await warm({ api, codec, activity: () => http.requestCount, signal: stopped.signal, ready }).catch((error: unknown) =>
    log.warn({ err: error }, 'not warmed up'),
  );
  isWarm = true;
}

interface WarmOptions {
  readonly api: Api;
  readonly codec: ChunkCodec;
  readonly activity: () => number;
  readonly signal: AbortSignal;
  /** Called when the process is warm enough to be asked. */
  readonly ready: (queryCount: number) => void;
}

/** Warms the code of queries, and goes on with that while nobody asks. */
async function warm({ api, codec, activity, signal, ready }: WarmOptions): Promise<void> {
  const warmUp = await WarmUp.open(nodeEnv, codec);
  try {
    const untilMs = cpuMs() + WARM_UP.maxCpuMs;
    const isWanted = () => cpuMs() < untilMs && !signal.aborted;
    let queryCount = 0;
    for (let i = 0; i < WARM_UP.maxRounds && isWanted(); i++) {
      queryCount += await optimisedSoon(() => warmUp.round(isWanted));
    }
    ready(queryCount);
    let hasAsked = false;
    await whileIdle({
      env: nodeEnv,
      cpuMs,
      maxCpuMs: IDLE_WARM_UP_CPU_MS,
      activity,
      signal,
      work: async (isStillWanted) => {
        if (!hasAsked) await askReal(api, signal);
        hasAsked = true;
        await optimisedSoon(() => warmUp.round(isStillWanted));
      },
    });
  } finally {
    await warmUp.close();
  }
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function pause(delayMs: number): Promise<void> {
  return new Promise((resolve) => void nodeEnv.timers.after(delayMs, resolve));
}

/** The sources lie in coordinator/, the compiled program in dist/coordinator/; package.json lies above both. */
async function version(): Promise<string> {
  for (const above of ['../package.json', '../../package.json']) {
    const path = fileURLToPath(new URL(above, import.meta.url));
    if (!(await nodeEnv.disk.exists(path))) continue;
    return (JSON.parse(new TextDecoder().decode(await nodeEnv.disk.readFile(path))) as { version: string }).version;
  }
  return 'unknown';
}

main().catch((error: unknown) => {
  const known = error instanceof SilverbackError;
  createLogger('coordinator', 'info').fatal(
    known ? error.message : { err: error },
    known ? undefined : 'could not start',
  );
  process.exit(1);
});
