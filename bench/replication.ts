/**
 * What a second region costs, how far it lags, and how it catches up after it was away, on a local cluster of one node per
 * region that is written to through the SDK:
 *
 *     npm run bench -- replication [--what cost,lag,cut] [--rate N] [--seconds N] [--cut-rate N] [--cut N] [--series N]
 *
 * CPU: that of the nodes per sample, with one region and with two, and of each node. Lag: what an acknowledgement PEER takes beside LOCAL, one
 * sample every 20 ms among the load; and, in a run of its own, since asking costs, the cursors' lag as the metric tells it, asked
 * for every 100 ms. Catching up: the node of the other region is stopped (SIGSTOP) for `--cut` seconds; from
 * SIGCONT on until it lags by less than two seconds, and what writes take meanwhile in both regions. Linux only (/proc).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Client } from '../client/index.ts';
import type { AckLevel } from '../core/protocol.ts';
import { inWords, Load } from './load.ts';
import { cpuMs } from './server.ts';

const LOCAL = fileURLToPath(new URL('../coordinator/local/main.js', import.meta.url));
const PROBE_MS = 20;
const LOOK_MS = 100;
/** Lag, in seconds, at which a region counts as caught up. */
const CAUGHT_UP_SECONDS = 2;

export async function run(args: string[]): Promise<void> {
  const { values: flags } = parseArgs({
    args,
    options: {
      what: { type: 'string', default: 'cost,lag,cut' },
      rate: { type: 'string', default: '200000' },
      seconds: { type: 'string', default: '30' },
      'cut-rate': { type: 'string', default: '100000' },
      cut: { type: 'string', default: '60' },
      series: { type: 'string', default: '20000' },
    },
  });
  const [rate, seconds, cutRate, cutSeconds, seriesCount] = [
    flags.rate,
    flags.seconds,
    flags['cut-rate'],
    flags.cut,
    flags.series,
  ].map(Number) as [number, number, number, number, number];
  const what = flags.what.split(',');
  const unknown = what.find((one) => !['cost', 'lag', 'cut'].includes(one));
  if (unknown !== undefined) throw new Error(`--what ${unknown}: expected cost, lag or cut`);
  console.log(`${cpus().length} x ${cpus()[0]?.model}, load ${loadavg()[0]?.toFixed(1)} before the start`);
  const withCost = what.includes('cost');
  const one = withCost ? await withCluster(1, (cluster) => cost(cluster, rate, seconds, seriesCount)) : 0;
  await withCluster(2, async (cluster) => {
    if (withCost) {
      const two = await cost(cluster, rate, seconds, seriesCount);
      console.log(`two regions take ${(two / one).toFixed(2)} times the CPU of one`);
    }
    if (what.includes('lag')) await cursorLag(cluster, rate, seconds, seriesCount);
    if (what.includes('cut')) await cutOff(cluster, cutRate, cutSeconds, seriesCount);
  });
}

interface Cluster {
  readonly regionCount: number;
  readonly grpc: string;
  /** Of the nodes, east's first. */
  readonly pids: readonly number[];
  /** Of east's node. */
  readonly metrics: string;
}

async function withCluster<T>(regionCount: number, use: (cluster: Cluster) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'silverback-bench-'));
  const port = 21_000 + Math.floor(Math.random() * 10_000);
  const flags = ['--http-port', String(port), '--data-dir', join(folder, 'data'), '--regions', String(regionCount)];
  const child = spawn(process.execPath, [LOCAL, ...flags, '--nodes', '1', '--no-self-monitoring'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const pids = await announced(child);
    return await use({
      regionCount,
      pids,
      grpc: `127.0.0.1:${port + 5}`,
      metrics: `http://127.0.0.1:${port + 111}/metrics`,
    });
  } finally {
    child.kill('SIGINT');
    await new Promise((resolve) => child.once('exit', resolve));
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Resolves with the nodes' process numbers once the cluster is ready. */
async function announced(child: ChildProcess): Promise<number[]> {
  const pids: number[] = [];
  if (child.stdout === null) throw new Error('the cluster has no output');
  for await (const line of createInterface({ input: child.stdout })) {
    const pid = /^ {2}(?!coordinator)\S+ +pid (\d+)/.exec(line)?.[1];
    if (pid !== undefined) pids.push(Number(pid));
    if (line.startsWith('Try a query')) return pids;
  }
  throw new Error('the cluster did not start');
}

/** CPU of the nodes per sample, in nanoseconds; with two regions also what acknowledgements take. */
async function cost(cluster: Cluster, rate: number, seconds: number, seriesCount: number): Promise<number> {
  const load = steadyLoad(cluster, seriesCount, rate);
  await sleep(5_000);
  const eachMs = () => cluster.pids.map((pid) => cpuMs([pid]));
  const before = { cpu: eachMs(), sent: load.acknowledgedCount, atMs: performance.now() };
  // As many with one region: they are load, too.
  const levels: AckLevel[] = cluster.regionCount === 1 ? ['LOCAL', 'LOCAL'] : ['LOCAL', 'PEER'];
  const probes = levels.map((ack) => new Probe(cluster, ack));
  await sleep(seconds * 1_000);
  const took = await Promise.all(probes.map((one) => one.stop()));
  const samples = load.acknowledgedCount - before.sent;
  const each = eachMs().map((ms, i) => ((ms - (before.cpu[i] ?? 0)) * 1e6) / samples);
  const nanoseconds = each.reduce((sum, one) => sum + one, 0);
  const perSecond = samples / ((performance.now() - before.atMs) / 1_000);
  await load.stop();
  console.log(
    `${cluster.regionCount} regions: ${Math.round(perSecond)} samples/s, ${load.droppedCount} dropped; ` +
      `nodes ${nanoseconds.toFixed(0)} ns CPU a sample (${each.map((one) => one.toFixed(0)).join(' + ')}); ` +
      took.map((times, i) => `${levels[i]} ${inWords(times)}`).join('; '),
  );
  return nanoseconds;
}

/** Into east. */
function steadyLoad({ grpc }: Cluster, seriesCount: number, rate: number): Load {
  const client = new Client({
    ...{ endpoints: [grpc], region: 'east', caller: 'bench', bufferSamples: 400_000 },
    onDrop: () => undefined,
  });
  return new Load(client, seriesCount, rate);
}

/** How old the oldest record is that east's log holds and west's does not, looked at often. */
async function cursorLag(cluster: Cluster, rate: number, seconds: number, seriesCount: number): Promise<void> {
  const load = steadyLoad(cluster, seriesCount, rate);
  await sleep(5_000);
  const before = load.acknowledgedCount;
  const startedMs = performance.now();
  const each: number[] = [];
  const oldest: number[] = [];
  while (performance.now() - startedMs < seconds * 1_000) {
    const lags = (await lag(cluster, 'seconds')).map((one) => one * 1_000);
    each.push(...lags);
    oldest.push(Math.max(...lags));
    await sleep(LOOK_MS);
  }
  const perSecond = (load.acknowledgedCount - before) / ((performance.now() - startedMs) / 1_000);
  await load.stop();
  console.log(
    `cursor lag at ${Math.round(perSecond)} samples/s: of a shard ${inWords(each)}; of the one that lags most ${inWords(oldest)}`,
  );
}

async function cutOff(cluster: Cluster, rate: number, seconds: number, seriesCount: number): Promise<void> {
  const [, west] = cluster.pids as [number, number];
  const load = steadyLoad(cluster, seriesCount, rate);
  const east = new Probe(cluster, 'LOCAL');
  const other = new Probe(cluster, 'LOCAL', 'west');
  await sleep(5_000);
  east.take();
  other.take();
  await sleep(10_000);
  const before = [east.take(), other.take()];
  other.isPaused = true;
  await sleep(1_000);
  process.kill(west, 'SIGSTOP');
  try {
    await sleep(seconds * 1_000);
  } finally {
    process.kill(west, 'SIGCONT');
  }
  const startedMs = performance.now();
  const cut = east.take();
  other.isPaused = false;
  const lagRecords = await lag(cluster, 'records');
  while (Math.max(...(await lag(cluster, 'seconds'))) > CAUGHT_UP_SECONDS) await sleep(200);
  const caughtUpSeconds = (performance.now() - startedMs) / 1_000;
  const meanwhile = await Promise.all([east.stop(), other.stop()]);
  const { droppedCount } = load;
  await load.stop();
  console.log(
    `cut off for ${seconds} s at ${rate} samples/s (${droppedCount} dropped): ` +
      `${lagRecords.reduce((sum, count) => sum + count, 0)} records behind, caught up after ${caughtUpSeconds.toFixed(1)} s`,
  );
  for (const [i, region] of ['east', 'west'].entries()) {
    const away = i === 0 ? `; cut off ${inWords(cut)}` : '';
    console.log(
      `writes to ${region}: before ${inWords(before[i] ?? [])}${away}; catching up ${inWords(meanwhile[i] ?? [])}`,
    );
  }
}

/** One sample after the other, each timed until it is acknowledged. The first one connects, and does not count. */
class Probe {
  readonly #client: Client;
  readonly #running: Promise<void>;
  #times: number[] = [];
  #stopping = false;
  isPaused = false;

  constructor({ grpc }: Cluster, ack: AckLevel, region = 'east') {
    this.#client = new Client({ endpoints: [grpc], region, ack, caller: 'probe', onDrop: () => undefined });
    this.#running = this.#run({ ack, region });
  }

  /** What was timed since the last time. */
  take(): number[] {
    const times = this.#times;
    this.#times = [];
    return times;
  }

  async stop(): Promise<number[]> {
    this.#stopping = true;
    await this.#running;
    await this.#client.close();
    return this.take();
  }

  async #run(labels: Readonly<Record<string, string>>): Promise<void> {
    for (let turn = 0; !this.#stopping; turn++) {
      const startedMs = performance.now();
      if (!this.isPaused) {
        const sample = {
          labels: { __name__: 'probe', ...labels, turn: String(turn % 32) },
          timestampMs: Date.now(),
          value: 1,
        };
        await this.#client.write([sample]).catch(() => undefined);
        if (turn > 0) this.#times.push(performance.now() - startedMs);
      }
      await sleep(Math.max(1, PROBE_MS - (performance.now() - startedMs)));
    }
  }
}

/** Of each shard at its destination. */
async function lag({ metrics }: Cluster, unit: 'records' | 'seconds'): Promise<number[]> {
  const text = await (await fetch(metrics)).text();
  const rows = text.split('\n').filter((row) => row.startsWith(`silverback_replication_lag_${unit}{`));
  return rows.map((row) => Number(row.slice(row.lastIndexOf(' '))));
}
