/**
 * What a sample costs from the public SDK to the acknowledgement: SDK -> gRPC -> log -> run -> ack, one node
 * process, the client on the same machine; counted back through the reader.
 *
 *     npm run bench -- sdk [--series N] [--per-series N] [--rounds N] [--runs N] [--shards N] [--ack LOCAL|FSYNC] [--batch N]
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Client } from '../client/index.ts';
import { StaticPlacement } from '../client/placement.ts';
import { Reader } from '../client/reader.ts';
import { nodeEnv } from '../core/env/node.ts';
import { RpcServer } from '../core/grpc.ts';
import { chunkInfo } from '../core/kernel/codec.ts';
import type { AckLevel } from '../core/protocol.ts';
import { Brakes } from '../node/brakes.ts';
import { Callers } from '../node/callers.ts';
import { claimDirectory } from '../node/directory.ts';
import { Metrics } from '../node/metrics.ts';
import { Node } from '../node/node.ts';
import { addShardsService } from '../node/server.ts';
import { Turns } from '../node/turns.ts';
import { InFlight } from '../node/write.ts';
import { Mix, STEP_MS, WINDOW_TICKS } from './mix.ts';

const HOST = '127.0.0.1';

interface Usage {
  readonly cpuUs: number;
  readonly rssBytes: number;
  readonly logBytes: number;
}

interface Run {
  readonly samples: number;
  readonly seconds: number;
  readonly nodeUs: number;
  readonly clientUs: number;
  readonly logBytes: number;
  readonly rssMiB: number;
}

export async function run(args: string[]): Promise<void> {
  const { values: flags } = parseArgs({
    args,
    options: {
      series: { type: 'string', default: '100000' },
      'per-series': { type: 'string', default: '20' },
      rounds: { type: 'string', default: '10' },
      runs: { type: 'string', default: '5' },
      shards: { type: 'string', default: '16' },
      batch: { type: 'string', default: '20000' },
      ack: { type: 'string', default: 'LOCAL' },
      node: { type: 'string' },
    },
  });
  const shardCount = Number(flags.shards);
  if (flags.node !== undefined) return serve(flags.node, shardCount);
  const plan = {
    seriesCount: Number(flags.series),
    perSeries: Number(flags['per-series']),
    rounds: Number(flags.rounds),
    batchSamples: Number(flags.batch),
    ack: flags.ack as AckLevel,
    shardCount,
  };
  console.log(
    `${plan.seriesCount} series, ${plan.perSeries} samples a series and batch, batches of ${plan.batchSamples}, ` +
      `${plan.rounds} rounds, ${shardCount} shards, ack ${plan.ack}; ${cpus().length} x ${cpus()[0]?.model}`,
  );
  const runs: Run[] = [];
  for (let i = 0; i < Number(flags.runs); i++) {
    const result = await measure(plan);
    runs.push(result);
    console.log(describe(`run ${i + 1}`, result));
  }
  const median = (of: (run: Run) => number) => runs.map(of).sort((a, b) => a - b)[runs.length >> 1] as number;
  console.log(
    describe('median', {
      samples: median((one) => one.samples),
      seconds: median((one) => one.seconds),
      nodeUs: median((one) => one.nodeUs),
      clientUs: median((one) => one.clientUs),
      logBytes: median((one) => one.logBytes),
      rssMiB: median((one) => one.rssMiB),
    }),
  );
}

function describe(name: string, one: Run): string {
  return (
    `${name}: ${(one.samples / one.seconds / 1e6).toFixed(2)} M samples/s, CPU a sample: node ${one.nodeUs.toFixed(3)} us, ` +
    `client ${one.clientUs.toFixed(3)} us; ${one.logBytes.toFixed(1)} log bytes a sample; node's RSS ${one.rssMiB.toFixed(0)} MiB`
  );
}

interface Plan {
  readonly seriesCount: number;
  readonly perSeries: number;
  readonly rounds: number;
  readonly batchSamples: number;
  readonly ack: AckLevel;
  readonly shardCount: number;
}

async function measure(plan: Plan): Promise<Run> {
  const { seriesCount, perSeries, rounds, shardCount, ack, batchSamples } = plan;
  const directory = await mkdtemp(join(tmpdir(), 'silverback-bench-'));
  const node = fork(process.argv[1] as string, ['sdk', '--node', directory, '--shards', String(shardCount)], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  try {
    const port = (await message(node)) as number;
    const copy = {
      region: 'r',
      zone: 'a',
      node: 'bench',
      address: `${HOST}:${port}`,
      state: 'active',
      epoch: 1,
    } as const;
    const placement = new StaticPlacement({
      clusterId: 'bench',
      shardCount,
      revision: 1,
      copies: Array.from({ length: shardCount }, () => [copy]),
    });
    let dropped = '';
    const client = new Client({
      endpoints: [],
      placement,
      ack,
      batchSamples,
      maxSeries: seriesCount,
      onDrop: (loss) => {
        dropped = `${loss.sampleCount} samples: ${loss.reason} ${loss.message}`;
      },
    });
    const mix = new Mix();
    const series = Array.from({ length: seriesCount }, (_, i) =>
      client.series({ __name__: `metric_${i % 40}`, host: `host-${Math.floor(i / 40)}`, region: `region-${i % 3}` }),
    );
    // The values of a series as one column, so that the producer's own work stays small.
    const courses = Array.from({ length: 1280 }, (_, i) =>
      Float64Array.from({ length: WINDOW_TICKS }, (_, tick) => mix.value(i, tick)),
    );
    const startMs = Date.now() - rounds * perSeries * STEP_MS;
    const before = await usage(node);
    const ownBefore = process.cpuUsage();
    const startedMs = performance.now();
    const timestamps = new Float64Array(perSeries);
    for (let round = 0; round < rounds; round++) {
      const firstTick = round * perSeries;
      for (let i = 0; i < perSeries; i++) timestamps[i] = startMs + (firstTick + i) * STEP_MS;
      const tick = firstTick % (WINDOW_TICKS - perSeries);
      for (let i = 0; i < seriesCount; i++) {
        const values = (courses[i % courses.length] as Float64Array).subarray(tick, tick + perSeries);
        client.appendColumns(series[i] as (typeof series)[number], timestamps, values);
        if ((i * perSeries) % batchSamples === 0) await client.room();
      }
    }
    await client.flush();
    const seconds = (performance.now() - startedMs) / 1000;
    const own = process.cpuUsage(ownBefore);
    const after = await usage(node);
    const samples = seriesCount * perSeries * rounds;
    const stats = client.stats();
    if (dropped !== '' || stats.acknowledgedCount !== samples) {
      throw new Error(`${stats.acknowledgedCount} of ${samples} samples acknowledged; dropped ${dropped}`);
    }
    await client.close();
    const counted = await count(placement);
    if (counted.samples !== samples || counted.series !== seriesCount) {
      throw new Error(
        `counted back ${counted.samples} samples of ${counted.series} series, wrote ${samples} of ${seriesCount}`,
      );
    }
    return {
      samples,
      seconds,
      nodeUs: (after.cpuUs - before.cpuUs) / samples,
      clientUs: (own.user + own.system) / samples,
      logBytes: after.logBytes / samples,
      rssMiB: after.rssBytes / 2 ** 20,
    };
  } finally {
    node.disconnect();
    await new Promise((resolve) => node.once('exit', resolve));
    await rm(directory, { recursive: true });
  }
}

/** Everything there is, by the headers of its chunks. */
async function count(placement: StaticPlacement): Promise<{ samples: number; series: number }> {
  const reader = new Reader({ env: nodeEnv, placement, caller: 'bench' });
  let samples = 0;
  let series = 0;
  const receive = (page: Uint8Array) => {
    const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
    for (let at = 0; at < page.length; series++) {
      at += 8 + view.getUint32(at + 4, true);
      let chunks = view.getUint32(at, true);
      for (at += 4; chunks > 0; chunks--) {
        const length = view.getUint32(at, true);
        samples += chunkInfo(page.subarray(at + 4, at + 4 + length)).sampleCount;
        at += 4 + length;
      }
    }
  };
  const range = { fromMs: 0, toMs: Date.now() + 1e9, matchers: [] };
  const { coverage } = await reader.select(range, receive, { signal: new AbortController().signal });
  reader.close();
  const bad = coverage.find(({ state }) => state !== 'complete');
  if (bad !== undefined) throw new Error(`shard ${bad.shard} is ${bad.state}: ${bad.reason}`);
  return { samples, series };
}

function message(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve, reject) => {
    child.once('message', resolve);
    child.once('exit', (code) => reject(new Error(`the node ended with ${code}`)));
  });
}

function usage(child: ChildProcess): Promise<Usage> {
  child.send('usage');
  return message(child) as Promise<Usage>;
}

/** The node's process: as node/main.ts composes it, but for the meta store. */
async function serve(directory: string, shardCount: number): Promise<void> {
  const env = nodeEnv;
  const claim = await claimDirectory(env, directory);
  const cluster = { clusterId: 'bench', shardCount };
  await claim.record(cluster);
  const quiet = () => undefined;
  const node = new Node({
    env,
    ...cluster,
    name: 'bench',
    region: 'r',
    claim,
    memoryBudgetBytes: 8 * 2 ** 30,
    maxSampleAgeMs: 26 * 3_600_000,
    maxSeriesCount: 2_000_000,
    log: { info: quiet, warn: (_, text) => console.error(text), error: (_, text) => console.error(text) },
  });
  const inFlight = new InFlight({ maxBytes: 128 * 2 ** 20, maxCount: 4_096 });
  const server = new RpcServer({ warn: (text) => console.error(text) });
  const callers = new Callers(() => env.clock.monotonicMs());
  addShardsService(server, {
    node,
    inFlight,
    turns: new Turns(env),
    brakes: new Brakes(env),
    callers,
    observer: new Metrics({ node, inFlight, callers }),
    monotonicMs: () => env.clock.monotonicMs(),
    version: 'bench',
  });
  const port = await server.listen(`${HOST}:0`);
  await node.assign([...Array(shardCount).keys()]);
  process.on('message', () => {
    const { user, system } = process.cpuUsage();
    const logBytes = node.status().reduce((sum, shard) => sum + shard.logBytes, 0);
    process.send?.({ cpuUs: user + system, rssBytes: process.memoryUsage.rss(), logBytes } satisfies Usage);
  });
  process.on('disconnect', () => process.exit(0));
  process.send?.(port);
}
