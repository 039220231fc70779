/**
 * What `npm start` runs: a supervisor of a local cluster of real processes. It holds the data directory, checks the
 * ports, starts a coordinator and the nodes, says what runs where, keeps them running, and feeds the cluster with its
 * own metrics and the machine's.
 */
import { resolve } from 'node:path';
import { Client, type Dropped } from '../../client/client.ts';
import { readSettings } from '../../core/config.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { SilverbackError } from '../../core/errors.ts';
import { lockDirectory } from '../../core/lock.ts';
import { ETCD_SETTINGS, etcdOptions } from '../../core/meta/flags.ts';
import { LocalCluster } from './cluster.ts';
import { inWords, type Layout, readLayout, regionNames, writeLayout } from './layout.ts';
import { host, type Monitor, monitor, scrape } from './monitor.ts';

/** The ports of more would overlap. */
const MOST_NODES = 99;
const DROP_SAY_MS = 30_000;
/** The last samples of self-monitoring may take this long to be acknowledged. */
const FLUSH_MS = 2_000;
/** npm passes a Ctrl-C on that the terminal has sent already: what comes this soon is the same one. */
const SAME_SIGNAL_MS = 1_000;

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

// Whoever read it has gone (`npm start | head`): the cluster goes on, and logs/ has what each process says.
for (const output of [process.stdout, process.stderr]) output.on('error', () => undefined);

/** One line on standard error, and a code that scripts can see. */
function fail(error: unknown): never {
  const message = error instanceof SilverbackError ? error.message : ((error as Error).stack ?? String(error));
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

/** Settings of the run; undefined after --help. Without flags for them, a cluster that exists keeps its regions and nodes. */
async function settle(argv: readonly string[]) {
  const read = (defaults: { readonly regionCount?: string; readonly nodeCount?: string }) =>
    readSettings({
      name: 'npm start --',
      description:
        'Runs a Silverback cluster on this machine: shard nodes and a coordinator, as processes of their own.',
      settings: [
        'httpPort',
        'dataDir',
        'regionCount',
        'nodeCount',
        'shardCount',
        'copyCount',
        ...ETCD_SETTINGS,
        'selfMonitoring',
        'maxSampleAgeMs',
        'memoryBudgetBytes',
        'maxExemplarCount',
        'moveBytesPerSecond',
        'corsOrigin',
        'enableAdminApi',
      ],
      defaults,
      argv,
      readFile: (path) => nodeEnv.disk.readFile(path),
      print: say,
    });
  const first = await read({});
  if (first === undefined) return undefined;
  const { dataDir } = first;
  const existing = readLayout(dataDir);
  const kept = { regionCount: String(existing?.regions.length), nodeCount: String(existing?.nodeCount) };
  const settings = existing === undefined ? first : ((await read(kept)) ?? first);
  const { regionCount, nodeCount } = settings;
  if (existing !== undefined && regionCount !== existing.regions.length) {
    const message = `--regions ${regionCount}: ${dataDir} holds a cluster of ${inWords(existing.regions)}, which cannot change`;
    throw new SilverbackError('INVALID_ARGUMENT', `${message}: leave --regions out, or give another --data-dir`);
  }
  if (existing !== undefined && nodeCount < existing.nodeCount) {
    const message = `--nodes ${nodeCount}: ${dataDir} holds the shards of ${existing.nodeCount} nodes`;
    const where = regionCount > 1 ? ' in each region' : '';
    throw new SilverbackError('INVALID_ARGUMENT', `${message}${where}, at least that many must run`);
  }
  if (regionCount * nodeCount > MOST_NODES) {
    const message = `--regions ${regionCount} of --nodes ${nodeCount}: at most ${MOST_NODES} nodes can be run in all`;
    throw new SilverbackError('INVALID_ARGUMENT', message);
  }
  const layout = { regions: existing?.regions ?? regionNames(regionCount), nodeCount };
  return { ...settings, dataDir: resolve(dataDir), layout };
}

/**
 * The arguments that the children get as they were given: the configuration file, which may hold settings that only they
 * have, and where etcd is.
 */
function passedOn(argv: readonly string[]): string[] {
  return argv.flatMap((arg, i) => {
    const flag = /^--(config|etcd(?:-[a-z]+)*)(=|$)/.exec(arg);
    if (flag === null) return [];
    return flag[2] === '=' ? [arg] : [arg, argv[i + 1]!];
  });
}

async function main(argv: readonly string[]): Promise<void> {
  const startedMs = performance.now();
  const settings = await settle(argv);
  if (settings === undefined) return;
  const { dataDir, maxSampleAgeMs, layout } = settings;
  // A mistake in them is said here, and not by the children's restarts.
  await etcdOptions(nodeEnv, settings, process.env);
  const lock = await lockDirectory(nodeEnv, dataDir);

  let self: { client: Client; monitor: Monitor } | undefined;
  let stoppingSinceMs: number | undefined;
  const stop = async (code: number): Promise<void> => {
    if (stoppingSinceMs !== undefined) return;
    stoppingSinceMs = performance.now();
    await Promise.race([
      self?.monitor.stop().then(() => self?.client.close()),
      new Promise((wake) => setTimeout(wake, FLUSH_MS)),
    ]);
    await cluster.stop();
    await lock.release();
    if (code === 0) say('stopped');
    process.exit(code);
  };

  const cluster = new LocalCluster({
    dataDir,
    httpPort: settings.httpPort,
    layout,
    shared: passedOn(argv),
    coordinatorArgs: [
      ...(settings.shardCount === undefined ? [] : ['--shards', String(settings.shardCount)]),
      ...(settings.copyCount === undefined ? [] : ['--copies', String(settings.copyCount)]),
      ...['--cors-origin', settings.corsOrigin],
      ...(settings.enableAdminApi ? ['--enable-admin-api'] : []),
    ],
    nodeArgs: [
      ...['--max-sample-age', Number.isFinite(maxSampleAgeMs) ? `${maxSampleAgeMs}ms` : 'off'],
      ...['--memory-budget', String(settings.memoryBudgetBytes)],
      ...['--max-exemplars', String(settings.maxExemplarCount)],
      ...['--move-rate', String(settings.moveBytesPerSecond)],
    ],
    say,
    failed(reason) {
      // A mistake in what all of them were given ends each of them.
      if (stoppingSinceMs === undefined) process.stderr.write(`${reason}\n`);
      stop(1).catch(fail);
    },
  });
  process.on('exit', () => cluster.kill());
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (stoppingSinceMs === undefined) {
        say('stopping ...');
        stop(0).catch(fail);
      } else if (performance.now() - stoppingSinceMs > SAME_SIGNAL_MS) {
        say('killing what still runs');
        process.exit(1);
      }
    });
  }

  await cluster.checkPorts().catch(async (error: unknown) => {
    await lock.release();
    throw error;
  });
  writeLayout(dataDir, layout);
  cluster.start();
  await cluster.ready();
  if (stoppingSinceMs !== undefined) return;
  announce(cluster, { dataDir, layout, selfMonitoring: settings.selfMonitoring }, performance.now() - startedMs);
  if (settings.selfMonitoring) {
    const client = new Client({
      endpoints: [cluster.grpc],
      caller: 'npm start',
      region: layout.regions[0] as string,
      onDrop: sayDropped(),
    });
    const processes = cluster.parts.map(({ name, metricsUrl }) =>
      scrape(name === 'coordinator' ? name : 'node', name, metricsUrl),
    );
    self = { client, monitor: monitor(client, [...processes, host()]) };
  }
}

function announce(
  cluster: LocalCluster,
  {
    dataDir,
    layout,
    selfMonitoring,
  }: { readonly dataDir: string; readonly layout: Layout; readonly selfMonitoring: boolean },
  tookMs: number,
): void {
  const rows = cluster.parts.map(
    ({ name, pid, where }) => `  ${name.padEnd(13)} pid ${String(pid).padEnd(8)} ${where}`,
  );
  const query = selfMonitoring ? 'rate(host_network_receive_bytes_total[1m])' : 'count({__name__!=""})';
  say(`
Silverback is ready (${(tookMs / 1_000).toFixed(1)} s): ${inWords(layout.regions)}${layout.regions.length > 1 ? ', each with all data' : ''}.

${rows.join('\n')}
  data          ${dataDir} (logs/ holds what each process says)

  page and API  ${cluster.url}
  remote write  ${cluster.url}/api/v1/write
  SDK (gRPC)    ${cluster.grpc}

Try a query:
  curl -G ${cluster.url}/api/v1/query --data-urlencode 'query=${query}'

Ctrl-C stops it.
`);
}

/** Says that self-monitoring lost samples, at most now and then. */
function sayDropped(): (dropped: Dropped) => void {
  let saidMs = Number.NEGATIVE_INFINITY;
  return ({ sampleCount, message }) => {
    if (performance.now() - saidMs < DROP_SAY_MS) return;
    saidMs = performance.now();
    say(`self-monitoring lost ${sampleCount} samples: ${message}`);
  };
}

main(process.argv.slice(2)).catch(fail);
