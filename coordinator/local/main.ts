/**
 * What `npm start` runs: a supervisor of a local cluster of real processes. It holds the data directory, checks the
 * ports, starts a coordinator and the nodes, says what runs where, keeps them running, and feeds the cluster with its
 * own metrics and the machine's.
 *
 * Ports follow from --http-port P: the HTTP API has P, the coordinator's gRPC P + 5, the gRPC of node i (from 1) P + 10 + i,
 * its metrics P + 110 + i.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client, type Dropped } from '../../client/client.ts';
import { readSettings } from '../../core/config.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { SilverbackError } from '../../core/errors.ts';
import { lockDirectory } from '../../core/lock.ts';
import { Child } from './child.ts';
import { host, type Monitor, monitor, scrape } from './monitor.ts';
import { whyTaken } from './ports.ts';

const HOST = '127.0.0.1';
const REGION = 'local';
/** How long a process may take to end on SIGTERM. */
const GRACE_MS = 15_000;
const READY_POLL_MS = 100;
/** While it waits, the terminal hears why about this often. */
const READY_SAY_MS = 5_000;
const LOG_MOST_BYTES = 16 << 20;
const DROP_SAY_MS = 30_000;

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** One line on standard error, and a code that scripts can see. */
function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

/** Settings of the run. Without --nodes a cluster that exists keeps its number of nodes. */
async function settle() {
  const argv = process.argv.slice(2);
  const read = (nodes: string) =>
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
        'selfMonitoring',
        'maxSampleAgeMs',
        'memoryBudgetBytes',
      ],
      defaults: { nodeCount: nodes },
      argv,
      readFile: (path) => nodeEnv.disk.readFile(path),
      print: say,
    });
  const first = await read('2');
  if (first === undefined) return undefined;
  const existing = existsSync(first.dataDir)
    ? readdirSync(first.dataDir).filter((name) => /^node-\d+$/.test(name)).length
    : 0;
  const settings = existing === 0 ? first : ((await read(String(existing))) ?? first);
  const { regionCount, nodeCount, dataDir } = settings;
  if (regionCount > 1) {
    throw new SilverbackError(
      'INVALID_ARGUMENT',
      `--regions ${regionCount}: regions are not built yet, only 1 can be run`,
    );
  }
  if (nodeCount < existing) {
    const message = `--nodes ${nodeCount}: ${dataDir} holds the shards of ${existing} nodes, at least that many must run`;
    throw new SilverbackError('INVALID_ARGUMENT', message);
  }
  // The children read the file too: it may hold settings that only they have.
  const config = argv.flatMap((arg, i) =>
    arg === '--config' ? [arg, argv[i + 1]!] : /^--config=/.test(arg) ? [arg] : [],
  );
  return { ...settings, dataDir: resolve(dataDir), config };
}

interface Ports {
  readonly http: number;
  readonly grpc: number;
  readonly node: (number: number) => number;
  readonly nodeHttp: (number: number) => number;
}

async function checkPorts(ports: Ports, nodeCount: number): Promise<void> {
  const all = [
    ports.http,
    ports.grpc,
    ...Array.from({ length: nodeCount }, (_, i) => [ports.node(i + 1), ports.nodeHttp(i + 1)]).flat(),
  ];
  for (const port of all) {
    const why = await whyTaken(HOST, port);
    if (why !== undefined)
      throw new SilverbackError(
        'UNAVAILABLE',
        `${why}: choose other ports with --http-port (the others follow from it)`,
      );
  }
}

/** Waits until the cluster takes writes and answers. Never gives up: recovery takes what it takes. */
async function untilReady(url: string): Promise<void> {
  let saidMs = performance.now();
  for (;;) {
    const why = await fetch(`${url}/-/ready`, { signal: AbortSignal.timeout(5_000) }).then(
      async (response) => (response.ok ? undefined : (await response.text()).trim()),
      () => 'the coordinator does not answer yet',
    );
    if (why === undefined) return;
    if (performance.now() - saidMs > READY_SAY_MS) {
      say(`waiting: ${why}`);
      saidMs = performance.now();
    }
    await new Promise((wake) => setTimeout(wake, READY_POLL_MS));
  }
}

/** Where a child's output goes. A log that has grown large becomes the old one. */
function logFile(dataDir: string, name: string): string {
  const path = join(dataDir, 'logs', `${name}.log`);
  mkdirSync(join(dataDir, 'logs'), { recursive: true });
  if (existsSync(path) && statSync(path).size > LOG_MOST_BYTES) renameSync(path, `${path}.old`);
  return path;
}

async function main(): Promise<void> {
  const startedMs = performance.now();
  const settings = await settle();
  if (settings === undefined) return;
  const { dataDir, nodeCount, httpPort } = settings;
  const ports: Ports = {
    http: httpPort,
    grpc: httpPort + 5,
    node: (number) => httpPort + 10 + number,
    nodeHttp: (number) => httpPort + 110 + number,
  };
  const url = `http://${HOST}:${ports.http}`;
  const meta = `${HOST}:${ports.grpc}`;
  const lock = await lockDirectory(nodeEnv, dataDir);
  const children: Child[] = [];
  process.on('exit', () => {
    for (const child of children) child.kill();
  });
  let client: Client | undefined;
  let monitoring: Monitor | undefined;
  let stopping = false;

  const stop = async (code: number): Promise<void> => {
    if (stopping) return;
    stopping = true;
    await Promise.race([
      monitoring?.stop().then(() => client?.close()),
      new Promise((wake) => setTimeout(wake, 2_000)),
    ]);
    const [coordinator, ...nodes] = children;
    await coordinator?.stop(GRACE_MS);
    await Promise.all(nodes.map((node) => node.stop(GRACE_MS)));
    await lock.release();
    process.exit(code);
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (stopping) {
        say('killing what still runs');
        process.exit(1);
      }
      say('stopping ...');
      stop(0).then(
        () => undefined,
        (error: unknown) => fail(String(error)),
      );
    });
  }

  await checkPorts(ports, nodeCount).catch(async (error: unknown) => {
    await lock.release();
    throw error;
  });
  const maxAge = Number.isFinite(settings.maxSampleAgeMs) ? `${settings.maxSampleAgeMs}ms` : 'off';
  const shared = [...settings.config, '--region', REGION];
  const start = (name: string, program: string, args: readonly string[]): void => {
    const script = fileURLToPath(new URL(`../../${program}/main.js`, import.meta.url));
    const failed = (reason: string): void => {
      if (stopping) return;
      process.stderr.write(`${reason}\n`);
      stop(1).catch((error: unknown) => fail(String(error)));
    };
    const own = ['--name', name, '--data-dir', join(dataDir, name), ...args];
    children.push(new Child({ name, script, args: [...shared, ...own], logFile: logFile(dataDir, name), say, failed }));
  };
  start('coordinator', 'coordinator', [
    ...['--http-host', HOST, '--http-port', String(ports.http), '--listen', meta, '--nodes', String(nodeCount)],
    ...(settings.shardCount === undefined ? [] : ['--shards', String(settings.shardCount)]),
  ]);
  for (let number = 1; number <= nodeCount; number++) {
    start(`node-${number}`, 'node', [
      ...['--listen', `${HOST}:${ports.node(number)}`, '--meta', meta, '--zone', `zone-${number}`],
      ...['--http-host', HOST, '--http-port', String(ports.nodeHttp(number))],
      ...['--max-sample-age', maxAge, '--memory-budget', String(settings.memoryBudgetBytes)],
    ]);
  }

  await untilReady(url);
  if (stopping) return;
  for (const child of children) child.keep();
  announce(((performance.now() - startedMs) / 1_000).toFixed(1));

  if (settings.selfMonitoring) {
    client = new Client({ endpoints: [meta], caller: 'npm start', onDrop: droppedSayer() });
    const nodes = Array.from({ length: nodeCount }, (_, i) =>
      scrape('node', `node-${i + 1}`, `http://${HOST}:${ports.nodeHttp(i + 1)}/metrics`),
    );
    monitoring = monitor(client, [scrape('coordinator', 'coordinator', `${url}/metrics`), ...nodes, host()]);
  }

  function announce(seconds: string): void {
    const rows = children.map((child, i) => {
      const where = i === 0 ? `HTTP ${HOST}:${ports.http}, gRPC ${meta}` : `gRPC ${HOST}:${ports.node(i)}`;
      return `  ${child.name.padEnd(13)} pid ${String(child.pid).padEnd(8)} ${where}`;
    });
    const query = settings?.selfMonitoring ? 'rate(host_network_receive_bytes_total[1m])' : 'count({__name__!=""})';
    say(`
Silverback is ready (${seconds} s).

${rows.join('\n')}
  data          ${dataDir} (logs/ holds what each process says)

  HTTP API      ${url}
  remote write  ${url}/api/v1/write
  SDK (gRPC)    ${meta}

Try a query:
  curl -G ${url}/api/v1/query --data-urlencode 'query=${query}'

Ctrl-C stops it.
`);
  }
}

/** Says that self-monitoring lost samples, at most now and then. */
function droppedSayer(): (dropped: Dropped) => void {
  let saidMs = Number.NEGATIVE_INFINITY;
  return ({ sampleCount, message }) => {
    if (performance.now() - saidMs < DROP_SAY_MS) return;
    saidMs = performance.now();
    say(`self-monitoring lost ${sampleCount} samples: ${message}`);
  };
}

main().catch((error: unknown) => {
  fail(error instanceof SilverbackError ? error.message : String((error as Error).stack ?? error));
});
