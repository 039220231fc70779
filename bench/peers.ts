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
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { SERVERS, startServer } from './server.ts';

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

async function measure(name: string, workload: string, round: number, harness: string, nodes: string): Promise<Line> {
  const { base, folder, pid, harness: own, stop } = await startServer(name, nodes);
  try {
    const out = join(folder, 'line.json');
    const bench = spawn(
      process.execPath,
      [
        ...['--expose-gc', '--max-old-space-size=8192', join(harness, 'bench.mjs'), '--name', name],
        ...['--workload', workload, '--run', String(round), '--pid', String(pid), '--data', join(folder, 'data')],
        ...['--url', `${base}/api/v1/write`, '--out', out, ...own, ...WORKLOADS[workload]!],
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    const code = await new Promise((resolve) => bench.once('exit', resolve));
    if (code !== 0) throw new Error(`the harness ended with ${code}`);
    return JSON.parse(readFileSync(out, 'utf8')) as Line;
  } finally {
    await stop();
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
