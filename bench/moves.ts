/**
 * Copies that move while they are written to, on a region of real processes with one copy of each shard:
 *
 *     npm run bench -- moves [--what shard,drain] [--samples N] [--rate N] [--series N]
 *
 * shard  two shards of `--samples` each (1M) on one node; a second joins and takes one of them
 * drain  a node of three with `--samples` (10M), in 16 shards altogether, is emptied
 *
 * Meanwhile `--rate` samples/s are written, a sample is written and waited for every 20 ms, and everything is counted every
 * 50 ms: how long that takes, and the longest time without an acknowledgement, or without an answer that is complete.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Processes } from '../chaos/processes.ts';
import { Client } from '../client/index.ts';
import { FollowedPlacement } from '../client/placement.ts';
import { nodeEnv } from '../core/env/node.ts';
import { Load, readProbe, told, writeProbe } from './load.ts';
import { Mix, STEP_MS } from './mix.ts';

const POLL_MS = 50;
/** Of everything that goes on, before anything moves. */
const BEFORE_MS = 10_000;
const PER_BATCH = 20;

export async function run(args: string[]): Promise<void> {
  const { values: flags } = parseArgs({
    args,
    options: {
      what: { type: 'string', default: 'shard,drain' },
      samples: { type: 'string' },
      rate: { type: 'string', default: '100000' },
      series: { type: 'string', default: '10000' },
    },
  });
  console.log(`${cpus().length} x ${cpus()[0]?.model}, load ${loadavg()[0]?.toFixed(1)} before the start`);
  const rest = { rate: Number(flags.rate), seriesCount: Number(flags.series) };
  for (const what of flags.what.split(',')) {
    if (what === 'shard') {
      const samples = 2 * Number(flags.samples ?? 1_000_000);
      await measure({ ...rest, samples, nodeCount: 2, firstCount: 1, shardCount: 2, begin: join2 });
    } else if (what === 'drain') {
      const samples = 3 * Number(flags.samples ?? 10_000_000);
      await measure({ ...rest, samples, nodeCount: 3, firstCount: 3, shardCount: 16, begin: drain1 });
    } else throw new Error(`--what ${what}: expected shard or drain`);
  }
}

interface Plan {
  readonly samples: number;
  readonly rate: number;
  readonly seriesCount: number;
  readonly nodeCount: number;
  /** Nodes that are there from the beginning. */
  readonly firstCount: number;
  readonly shardCount: number;
  readonly begin: (processes: Processes) => Promise<Change>;
}

interface Change {
  readonly words: string;
  /** What moves has come to these. */
  readonly targets: readonly string[];
  /** By shard, the nodes of its copies and their states: nothing moves any more. */
  readonly isDone: (copies: readonly (readonly { readonly node: string; readonly state: string }[])[]) => boolean;
}

async function join2(processes: Processes): Promise<Change> {
  processes.start();
  const isDone: Change['isDone'] = (copies) =>
    copies.filter((own) => own.some(({ node }) => node === 'node-2')).length === 1;
  return { words: 'a shard moves to a node that joined', targets: ['node-2'], isDone };
}

async function drain1(processes: Processes): Promise<Change> {
  const query = new URLSearchParams({ region: 'local', name: 'node-1', mode: 'drain' });
  const response = await fetch(`${processes.url}/api/v1/admin/nodes/cordon?${query}`, { method: 'POST' });
  if (!response.ok) throw new Error(`draining: ${response.status} ${await response.text()}`);
  const isDone: Change['isDone'] = (copies) => copies.every((own) => own.every(({ node }) => node !== 'node-1'));
  return { words: 'a node is drained', targets: ['node-2', 'node-3'], isDone };
}

async function measure({ samples, rate, seriesCount, nodeCount, firstCount, shardCount, begin }: Plan): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'silverback-bench-'));
  const lease = ['--lease-ttl', '5s'];
  const processes = await Processes.create({
    ...{ dataDir: directory, nodeCount, shardCount, nodeArgs: lease },
    coordinatorArgs: [...lease, '--takeover-grace', '5s', '--enable-admin-api', '--nodes', String(firstCount)],
  });
  const placement = new FollowedPlacement({ env: nodeEnv, endpoints: [processes.grpc], caller: 'bench' });
  const [loader, client] = ['bench', 'probe'].map(
    (caller) => new Client({ endpoints: [processes.grpc], caller, onDrop: () => undefined }),
  ) as [Client, Client];
  try {
    processes.start(processes.names.slice(0, 1 + firstCount));
    await processes.ready();
    await fill(processes.grpc, seriesCount, samples);
    const before = await held(processes);
    const load = new Load(loader, seriesCount, rate);
    const writes = writeProbe(client);
    const reads = readProbe(processes.url, '');
    await sleep(5_000);
    told('', writes, reads);
    await sleep(BEFORE_MS);
    console.log(told(`${samples} samples in ${shardCount} shards, ${rate} samples/s:`, writes, reads));
    const fetchedBefore = await fetched(processes, []);
    const begunMs = performance.now();
    const { words, targets, isDone } = await begin(processes);
    let movingMs = 0;
    for (let isMoving = true; isMoving; await sleep(POLL_MS)) {
      const copies = placement.current()?.copies ?? [];
      const all = copies.flat();
      if (movingMs === 0 && all.some(({ state }) => state === 'joining')) movingMs = performance.now();
      isMoving = !isDone(copies) || all.some(({ state }) => state !== 'active');
    }
    const seconds = [movingMs, begunMs].map((ms) => ((performance.now() - ms) / 1_000).toFixed(1));
    const { bytes, samples: brought } = await fetched(processes, targets);
    console.log(
      told(
        `${words}: ${seconds[0]} s from the first copy that joined on (${seconds[1]} s with the wait for it), ` +
          `${brought} samples in ${(bytes - fetchedBefore.bytes) >> 10} KiB were fetched; ${before} bytes of log and blocks lay there`,
        writes,
        reads,
      ),
    );
    const { droppedCount } = load;
    await Promise.all([load.stop(), writes.stop(), reads.stop()]);
    console.log(`${droppedCount} samples of the load were dropped`);
  } finally {
    await Promise.all([loader.close(0), client.close(0)]);
    placement.close();
    await processes.kill();
    await rm(directory, { recursive: true });
  }
}

/** Of the first node: bytes of logs and files. */
async function held(processes: Processes): Promise<number> {
  const shards = (await processes.status()).filter(({ node }) => node === 'node-1');
  return shards.reduce((sum, { logBytes, diskBytes }) => sum + logBytes + diskBytes, 0);
}

/** What these nodes fetched from others, so far. */
async function fetched(processes: Processes, nodes: readonly string[]): Promise<{ bytes: number; samples: number }> {
  const total = { bytes: 0, samples: 0 };
  for (const node of nodes) {
    const text = await (await fetch(processes.metricsOf(node))).text();
    for (const row of text.split('\n')) {
      const value = Number(row.slice(row.lastIndexOf(' ')));
      if (row.startsWith('silverback_repair_fetched_bytes_total{')) total.bytes += value;
      if (row.startsWith('silverback_repair_samples_total{')) total.samples += value;
    }
  }
  return total;
}

/** So many samples, up to now, 15 s apart. */
async function fill(endpoint: string, seriesCount: number, samples: number): Promise<void> {
  const ticks = Math.ceil(samples / seriesCount);
  const mix = new Mix({ ticks });
  const client = new Client({ endpoints: [endpoint], maxSeries: seriesCount, caller: 'bench' });
  const startMs = Date.now() - ticks * STEP_MS;
  for (let tick = 0; tick < ticks; tick += PER_BATCH) {
    const count = Math.min(PER_BATCH, ticks - tick);
    const timestamps = Float64Array.from({ length: count }, (_, k) => startMs + (tick + k) * STEP_MS);
    for (let i = 0; i < seriesCount; i++) {
      const series = client.series({ __name__: `metric_${i % 40}`, host: `host-${Math.floor(i / 40)}` });
      client.appendColumns(
        series,
        timestamps,
        timestamps.map((_, k) => mix.value(i, tick + k)),
      );
      if (i % 1_000 === 0) await client.room();
    }
  }
  await client.flush();
  const { acknowledgedCount } = client.stats();
  await client.close();
  if (acknowledgedCount !== seriesCount * ticks) throw new Error(`only ${acknowledgedCount} samples were acknowledged`);
}
