/** The process of a shard node: flags, wiring, signals. */

import { readSettings } from '../core/config.ts';
import { Connections } from '../core/connections.ts';
import type { Env } from '../core/env/env.ts';
import { nodeEnv } from '../core/env/node.ts';
import { SilverbackError } from '../core/errors.ts';
import { RpcServer } from '../core/grpc.ts';
import { whileIdle } from '../core/idle.ts';
import { optimisedSoon } from '../core/jit.ts';
import { createLogger } from '../core/logger.ts';
import { Backoff } from '../core/meta/backoff.ts';
import { type Cluster, readCluster } from '../core/meta/cluster.ts';
import { connectEtcd } from '../core/meta/etcd.ts';
import { ETCD_SETTINGS, etcdOptions } from '../core/meta/flags.ts';
import { register } from '../core/meta/member.ts';
import { connectMeta } from '../core/meta/remote.ts';
import { type MetaStore, StoreRefused } from '../core/meta/store.ts';
import { openView } from '../core/meta/view.ts';
import { reachedAt } from '../core/peers.ts';
import { Brakes } from './brakes.ts';
import { Callers } from './callers.ts';
import { Custody } from './custody.ts';
import { claimDirectory } from './directory.ts';
import { WatchedDisk } from './disk.ts';
import { serveHttp } from './http.ts';
import { Metrics } from './metrics.ts';
import { Node } from './node.ts';
import { ReadBound } from './read.ts';
import { Pace } from './repair/pace.ts';
import { connectPeer } from './repair/peer.ts';
import { Repair } from './repair/repair.ts';
import { Replication } from './replication/replication.ts';
import { addShardsService } from './server.ts';
import { Turns } from './turns.ts';
import { WarmUp } from './warm.ts';
import { InFlight, type WriteObserver } from './write.ts';

const disk = new WatchedDisk(nodeEnv.disk, nodeEnv.clock);
const env: Env = { ...nodeEnv, disk };
const VERSION = '0.1.0';

/** Requests not yet answered, over all streams. With little memory half of the budget's bytes, but a large request and others. */
const IN_FLIGHT = { leastBytes: 32 * 1024 * 1024, maxBytes: 128 * 1024 * 1024, maxCount: 4_096 };

/** How long the last replies may take to reach their sockets after SIGTERM. */
const REPLY_MS = 100;

/** How long the other copies may take to get what this node acknowledged last before it stops. */
const DELIVER_MS = 3_000;
const DELIVER_POLL_MS = 20;

/** Of this process, for warming the code of reads. */
const WARM_UP_CPU_MS = 1_500;

async function main(): Promise<void> {
  const settings = await readSettings({
    name: 'silverback-node',
    description: 'A shard node of a Silverback cluster.',
    settings: [
      'nodeName',
      'region',
      'zone',
      'listen',
      'httpHost',
      'httpPort',
      'dataDir',
      'meta',
      'peerAddresses',
      ...ETCD_SETTINGS,
      'maxSampleAgeMs',
      'memoryBudgetBytes',
      'seriesPerShard',
      'maxExemplarCount',
      'logBudgetBytes',
      'catchUpBytesPerSecond',
      'repairIntervalMs',
      'moveBytesPerSecond',
      'frontierBoundMs',
      'maxConnectionCount',
      'leaseTtlMs',
      'logLevel',
    ],
    defaults: { listen: '127.0.0.1:9191', httpPort: '9192' },
    argv: process.argv.slice(2),
    readFile: (path) => env.disk.readFile(path),
    print: (text) => process.stdout.write(text),
  });
  if (settings === undefined) return;
  const log = createLogger(settings.nodeName, settings.logLevel);
  const stop = stopSignal();
  // The timers of `env` do not keep a process alive, and a new node that waits for its cluster has nothing else.
  const alive = setInterval(() => undefined, 60_000);

  const claim = await claimDirectory(env, settings.dataDir);
  const etcd = await etcdOptions(env, settings, process.env);
  const meta =
    etcd === undefined
      ? connectMeta(env, { address: settings.meta, caller: settings.nodeName })
      : connectEtcd(env, etcd);
  // A new node needs to know its cluster; one that was here before goes on with what it has, whoever else is down.
  const asked = waitForCluster(meta, stop, (refused) => {
    if (claim.identity === undefined) throw refused;
    log.error({}, refused.message);
  });
  const cluster = claim.identity ?? (await asked);
  if (cluster === undefined) {
    await claim.release();
    clearInterval(alive);
    return;
  }
  await claim.record(cluster);
  const replication = await Replication.open({
    env,
    name: settings.nodeName,
    region: settings.region,
    zone: settings.zone,
    clusterId: cluster.clusterId,
    directory: settings.dataDir,
    frontierBoundMs: settings.frontierBoundMs,
    catchUpBytesPerSecond: settings.catchUpBytesPerSecond,
    log,
  });
  const node = new Node({
    env,
    name: settings.nodeName,
    region: settings.region,
    claim,
    clusterId: cluster.clusterId,
    shardCount: cluster.shardCount,
    memoryBudgetBytes: settings.memoryBudgetBytes,
    maxSampleAgeMs: settings.maxSampleAgeMs,
    maxSeriesCount: settings.seriesPerShard,
    maxExemplarCount: settings.maxExemplarCount,
    logBudgetBytes: settings.logBudgetBytes,
    watcher: replication,
    log,
  });
  const asker = { env, region: settings.region, node: settings.nodeName, clusterId: cluster.clusterId };
  const repair = new Repair({
    env,
    node,
    name: settings.nodeName,
    region: settings.region,
    frontiers: replication.frontiers,
    origins: replication.origins,
    connect: (copy) => connectPeer(asker, copy),
    pace: replication.pace,
    maxSampleAgeMs: settings.maxSampleAgeMs,
    intervalMs: settings.repairIntervalMs,
    log,
  });
  const { leastBytes, maxBytes, maxCount } = IN_FLIGHT;
  const inFlight = new InFlight({
    maxBytes: Math.min(maxBytes, Math.max(leastBytes, settings.memoryBudgetBytes / 2)),
    maxCount,
  });
  const callers = new Callers(() => env.clock.monotonicMs());
  const grpcConnections = new Connections(settings.maxConnectionCount);
  const httpConnections = new Connections(settings.maxConnectionCount);
  const connections = { grpc: grpcConnections, http: httpConnections };
  const metrics = new Metrics({ node, inFlight, callers, connections, disk, replication, repair });
  const isBusy = () => inFlight.count > 0;
  const pace = new Pace({ env, bytesPerSecond: settings.moveBytesPerSecond, isBusy });
  const reads = new ReadBound();
  let writeCount = 0;
  const observer: WriteObserver = {
    batch: (sampleCount, outcome) => metrics.batch(sampleCount, outcome),
    request: (durationMs) => {
      writeCount++;
      metrics.request(durationMs);
    },
  };
  const server = new RpcServer({ connections: grpcConnections, warn: (message) => log.warn({}, message) });
  addShardsService(server, {
    node,
    inFlight,
    turns: new Turns(env),
    brakes: new Brakes(env),
    observer,
    reads,
    callers,
    monotonicMs: () => env.clock.monotonicMs(),
    replication: { env, origins: replication.origins, frontiers: replication.frontiers, pace: replication.pace },
    repair,
    pace,
    version: VERSION,
    facts: () => ({
      region: settings.region,
      zone: settings.zone,
      pid: process.pid,
      uptimeMs: process.uptime() * 1_000,
      residentBytes: process.memoryUsage.rss(),
      lags: replication.lags(),
      moveBytesPerSecond: pace.bytesPerSecond,
      movedBytesPerSecond: Math.round(pace.measuredBytesPerSecond ?? 0),
    }),
  });
  const port = await server.listen(settings.listen);
  const http = await serveHttp(settings.httpHost, settings.httpPort, {
    registry: metrics.registry,
    isReady: () => node.ready,
    connections: httpConnections,
  });
  const address = settings.listen.replace(/:\d+$/, `:${port}`);
  log.info(
    { address, http: `${settings.httpHost}:${http.port}`, dataDir: settings.dataDir, ...cluster },
    'node listens',
  );
  const resumed = claim.identity === undefined ? Promise.resolve() : node.resume();

  const living = await asked;
  if (living !== undefined && !stop.aborted) {
    await claim.record(living);
    const view = openView(env, meta, (message) => log.error({}, message));
    let looked = (): void => undefined;
    view.onChange((placement) => {
      const reached = reachedAt(placement, settings.peerAddresses ?? new Map());
      replication.follow(reached);
      repair.follow(reached);
      node.follow(placement).then(
        () => {
          refuseUnreadable(node);
          log.info({ shards: node.assigned(), revision: placement.revision }, 'placement followed');
          looked();
        },
        (error: unknown) => fail(log, error),
      );
    });
    // Who is registered is given writes: a node that has data comes first when it can serve it.
    await Promise.race([resumed, aborted(stop)]);
    refuseUnreadable(node);
    const member = { name: settings.nodeName, region: settings.region, zone: settings.zone, address };
    const registration = register(env, meta, member, settings.leaseTtlMs);
    const custody = new Custody({
      env,
      node,
      replication,
      fill: (shard, signal) => repair.fill(shard, signal),
      report: (reports) => registration.report(reports),
      log,
    });
    looked = () => custody.look();
    const activity = () => reads.total + writeCount;
    const warming = warm(`${settings.dataDir}/warm-up`, activity, stop).catch((error: unknown) =>
      log.warn({ err: error }, 'not warmed up'),
    );
    await aborted(stop);
    view.close();
    custody.close();
    await registration.close();
    await warming;
  } else {
    await aborted(stop);
  }

  log.info({}, 'stopping');
  // What it acknowledged is in the other copies before they have to answer without it.
  node.retire();
  for (let waitedMs = 0; waitedMs < DELIVER_MS && !replication.isAbreast; waitedMs += DELIVER_POLL_MS) {
    await new Promise<void>((resolve) => void env.timers.after(DELIVER_POLL_MS, resolve));
  }
  // Streams of clients never end by themselves: closing the shards answers what is under way, then the server may go.
  const drained = server.drain();
  replication.close();
  repair.close();
  await node.close();
  await Promise.race([drained, new Promise<void>((resolve) => void env.timers.after(REPLY_MS, resolve))]);
  server.stop();
  http.close();
  await meta.close();
  log.info({}, 'stopped');
  clearInterval(alive);
}

/** Runs reads of shards made for that, while nothing else is asked. Resolves once nothing of it is left. */
async function warm(directory: string, activity: () => number, signal: AbortSignal): Promise<void> {
  let warmUp: WarmUp | undefined;
  try {
    await whileIdle({
      env,
      cpuMs,
      maxCpuMs: WARM_UP_CPU_MS,
      activity,
      signal,
      work: async (isWanted) => {
        warmUp ??= await WarmUp.open(env, directory);
        const own = warmUp;
        await optimisedSoon(() => own.round(isWanted));
      },
    });
  } finally {
    await warmUp?.close();
  }
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Asks until the cluster exists. Undefined: stopped first. */
async function waitForCluster(
  meta: MetaStore,
  stop: AbortSignal,
  refused: (error: StoreRefused) => void,
): Promise<Cluster | undefined> {
  const backoff = new Backoff(env, { firstMs: 50, mostMs: 1_000 });
  let isToldOf = '';
  while (!stop.aborted) {
    try {
      const cluster = await readCluster(meta);
      if (cluster !== undefined) return cluster;
    } catch (error) {
      if (error instanceof SilverbackError && error.code === 'VERSION') throw error;
      if (error instanceof StoreRefused && error.message !== isToldOf) {
        isToldOf = error.message;
        refused(error);
      }
    }
    await new Promise<void>((resolve) => void env.timers.after(backoff.nextMs(), resolve));
  }
  return undefined;
}

/** Aborted by the first SIGTERM or SIGINT, or when the supervisor that started this process is gone; a second signal ends the process. */
function stopSignal(): AbortSignal {
  const controller = new AbortController();
  process.on('disconnect', () => controller.abort());
  process.channel?.unref();
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(1);
      controller.abort();
    });
  }
  return controller.signal;
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

/** Before it registers, and before it could write anything: what a later program left is for that program. */
function refuseUnreadable({ unreadable }: Node): void {
  if (unreadable !== undefined) throw new SilverbackError('VERSION', unreadable);
}

function fail(log: { error(fields: object, message: string): void }, error: unknown): never {
  const isVersion = error instanceof SilverbackError && error.code === 'VERSION';
  log.error(isVersion ? {} : { err: error }, isVersion ? error.message : 'node cannot go on');
  process.exit(1);
}

main().catch((error: unknown) => {
  const message =
    error instanceof SilverbackError ? error.message : error instanceof Error ? error.stack : String(error);
  process.stderr.write(`silverback-node: ${message}\n`);
  process.exit(1);
});
