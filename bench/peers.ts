/**
 * Silverback beside VictoriaMetrics and Prometheus on the workloads of the peer harness: ingest CPU, memory
 * growth and queries, each server started afresh on an empty directory, servers interleaved round by round.
 *
 *     npm run bench -- peers [--harness DIR] [--workloads std-bulk,std-live,highcard] [--rounds 5]
 *                            [--servers silverback,victoriametrics,prometheus] [--nodes 2] [--out FILE]
 *
 * The harness (`bench.mjs` of DIR, dependencies installed there) counts the CPU of the server's process and all of
 * its children; the peers are the Debian packages `victoria-metrics` and `prometheus`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

interface Target {
  readonly command: string;
  readonly args: readonly string[];
  readonly ready: string;
  /** Further arguments of the harness. */
  readonly harness: readonly string[];
}

interface Place {
  readonly port: number;
  readonly folder: string;
  readonly nodes: string;
}

const LOCAL = fileURLToPath(new URL('../coordinator/local/main.js', import.meta.url));

/** One row per server: how it is started on an empty folder, and how it is asked. */
const SERVERS: Readonly<Record<string, (place: Place) => Target>> = {
  silverback: ({ port, folder, nodes }) => ({
    command: process.execPath,
    args: [
      LOCAL,
      ...[
        '--http-port',
        String(port),
        '--data-dir',
        join(folder, 'data'),
        '--regions',
        '1',
        '--nodes',
        nodes,
        '--no-self-monitoring',
      ],
    ],
    ready: '/-/ready',
    harness: ['--query-extra', 'nocache=1'],
  }),
  victoriametrics: ({ port, folder }) => ({
    command: 'victoria-metrics',
    args: [
      `-storageDataPath=${join(folder, 'data')}`,
      `-httpListenAddr=127.0.0.1:${port}`,
      '-retentionPeriod=3',
      '-search.latencyOffset=0s',
      '-loggerLevel=WARN',
    ],
    ready: '/health',
    harness: ['--query-extra', 'nocache=1'],
  }),
  prometheus: ({ port, folder }) => {
    writeFileSync(join(folder, 'prometheus.yml'), 'global:\n  scrape_interval: 15s\n');
    return {
      command: 'prometheus',
      args: [
        `--config.file=${join(folder, 'prometheus.yml')}`,
        `--storage.tsdb.path=${join(folder, 'data')}`,
        '--storage.tsdb.retention.time=30d',
        `--web.listen-address=127.0.0.1:${port}`,
        '--web.enable-remote-write-receiver',
        '--log.level=warn',
      ],
      ready: '/-/ready',
      harness: [],
    };
  },
};

/** The harness's arguments for each workload, as its `run-peers.sh` has them. */
const WORKLOADS: Readonly<Record<string, readonly string[]>> = {
  'std-bulk': ['--hosts', '100', '--hours', '6', '--mode', 'bulk'],
  'std-live': ['--hosts', '100', '--hours', '2', '--mode', 'live', '--queries', 'no'],
  highcard: ['--hosts', '2000', '--hours', '0.25', '--mode', 'live'],
};

/** The fields of the harness's result line that are shown here. */
interface Line {
  readonly name: string;
  readonly workload: string;
  readonly kept: number;
  readonly params: { readonly samples: number };
  readonly ingest: {
    readonly cpu_us_per_sample: number;
    readonly cpu_us_per_sample_settled: number;
    readonly samples_per_s: number;
    readonly errors: number;
  };
  readonly memory: {
    readonly start: { readonly pss: number; readonly rss: number };
    readonly settled: { readonly pss: number; readonly rss: number };
  };
  readonly queries: readonly { id: string; p50_ms: number; cpu_ms: number; sum: number | null; bad: number }[];
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

async function untilReady(child: ChildProcess, url: string): Promise<void> {
  for (let i = 0; i < 300; i++) {
    if (child.exitCode !== null) throw new Error(`${child.spawnfile} ended with ${child.exitCode}`);
    const answer = await fetch(url).catch(() => undefined);
    if (answer?.ok) return;
    await sleep(100);
  }
  throw new Error(`${url} does not answer`);
}

async function measure(name: string, workload: string, round: number, harness: string, nodes: string): Promise<Line> {
  const folder = mkdtempSync(join(tmpdir(), 'silverback-peers-'));
  const port = await freePort();
  const target = SERVERS[name]!({ port, folder, nodes });
  const child = spawn(target.command, target.args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  try {
    const base = `http://127.0.0.1:${port}`;
    await untilReady(child, base + target.ready);
    const out = join(folder, 'line.json');
    const bench = spawn(
      process.execPath,
      [
        ...['--expose-gc', '--max-old-space-size=8192', join(harness, 'bench.mjs'), '--name', name],
        ...['--workload', workload, '--run', String(round), '--pid', String(child.pid), '--data', join(folder, 'data')],
        ...['--url', `${base}/api/v1/write`, '--out', out, ...target.harness, ...WORKLOADS[workload]!],
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    const code = await new Promise((resolve) => bench.once('exit', resolve));
    if (code !== 0) throw new Error(`the harness ended with ${code}`);
    return JSON.parse(readFileSync(out, 'utf8')) as Line;
  } finally {
    child.kill('SIGTERM');
    await Promise.race([ended, sleep(20_000)]);
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function report(workload: string, lines: readonly Line[]): void {
  const names = [...new Set(lines.map((line) => line.name))];
  const of = (name: string, pick: (line: Line) => number) =>
    median(lines.filter((line) => line.name === name).map(pick));
  const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(0);
  console.log(`\n${workload}: medians of ${lines.length / names.length} rounds`);
  console.log('| server | CPU us/sample | with settling | k samples/s | PSS growth MiB | errors | kept |');
  console.log('|---|---|---|---|---|---|---|');
  for (const name of names) {
    const kept = lines.every((line) => line.name !== name || line.kept === line.params.samples) ? 'all' : 'NOT ALL';
    console.log(
      `| ${name} | ${of(name, (l) => l.ingest.cpu_us_per_sample).toFixed(3)} | ${of(name, (l) => l.ingest.cpu_us_per_sample_settled).toFixed(3)} ` +
        `| ${(of(name, (l) => l.ingest.samples_per_s) / 1000).toFixed(0)} | ${mib(of(name, (l) => l.memory.settled.pss - l.memory.start.pss))} ` +
        `| ${of(name, (l) => l.ingest.errors)} | ${kept} |`,
    );
  }
  const ids = lines[0]!.queries.map((query) => query.id);
  if (ids.length === 0) return;
  console.log(`\n| query | ${names.map((name) => `${name} p50 ms | CPU ms |`).join(' ')}`);
  console.log(`|---|${names.map(() => '---|---|').join('')}`);
  for (const id of ids) {
    const query = (line: Line) => line.queries.find((q) => q.id === id)!;
    const cells = names.map(
      (name) => `${of(name, (l) => query(l).p50_ms).toFixed(2)} | ${of(name, (l) => query(l).cpu_ms).toFixed(2)} |`,
    );
    console.log(`| ${id} | ${cells.join(' ')}`);
  }
}

export async function run(args: string[]): Promise<void> {
  const { values: options } = parseArgs({
    args,
    options: {
      harness: { type: 'string', default: '../shared/peers' },
      workloads: { type: 'string', default: Object.keys(WORKLOADS).join(',') },
      servers: { type: 'string', default: Object.keys(SERVERS).join(',') },
      rounds: { type: 'string', default: '5' },
      nodes: { type: 'string', default: '2' },
      out: { type: 'string' },
    },
  });
  const all: Line[] = [];
  for (const workload of options.workloads.split(',')) {
    const lines: Line[] = [];
    for (let round = 1; round <= Number(options.rounds); round++) {
      for (const name of options.servers.split(',')) {
        console.error(`== ${name} ${workload} round ${round}`);
        lines.push(await measure(name, workload, round, options.harness, options.nodes));
      }
    }
    report(workload, lines);
    all.push(...lines);
    if (options.out !== undefined) writeFileSync(options.out, all.map((line) => `${JSON.stringify(line)}\n`).join(''));
  }
}
