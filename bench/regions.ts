/**
 * What clients of two regions see when a node dies, and when the regions lose one another: two nodes each, a real Toxiproxy on
 * every link (chaos/world.ts), `--rate` samples/s written to east.
 *
 *     npm run bench -- regions [--what kill,cut] [--rate N] [--series N] [--minutes N] [--toxiproxy PATH]
 *
 * kill  a node of east gets SIGKILL: until its shards are written in east again, and what a client with retries sees
 * cut   the links between the regions are cut for `--minutes`: what writes take, then until the lag is gone, then, with the load
 *       stopped, until the digests of all windows are equal
 *
 * A sample is written and waited for every 20 ms, and everything is counted every 50 ms, in whatever region answers.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { World } from '../chaos/world.ts';
import { FollowedPlacement } from '../client/placement.ts';
import type { LagReport } from '../coordinator/cluster/report.ts';
import { nodeEnv } from '../core/env/node.ts';
import { Load, type Probe, readProbe, told, writeProbe } from './load.ts';

const POLL_MS = 50;
const SHARD_COUNT = 16;
const RETRY_MS = 60_000;
/** Of everything that goes on, before anything happens, and after it. */
const CALM_MS = 15_000;
/** Lag, in seconds, at which a region counts as caught up: the lag is told to about a second. */
const CAUGHT_UP_SECONDS = 2;

export async function run(args: string[]): Promise<void> {
  const { values: flags } = parseArgs({
    args,
    options: {
      what: { type: 'string', default: 'kill,cut' },
      rate: { type: 'string', default: '100000' },
      series: { type: 'string', default: '10000' },
      minutes: { type: 'string', default: '1' },
      toxiproxy: { type: 'string', default: process.env['SILVERBACK_TEST_TOXIPROXY'] ?? '' },
    },
  });
  if (!existsSync(flags.toxiproxy)) {
    throw new Error(`--toxiproxy ${JSON.stringify(flags.toxiproxy)}: expected the path of a Toxiproxy server`);
  }
  console.log(`${cpus().length} x ${cpus()[0]?.model}, load ${loadavg()[0]?.toFixed(1)} before the start`);
  const cutMs = Number(flags.minutes) * 60_000;
  const acts: Record<string, (bench: Bench) => Promise<void>> = { kill, cut: (bench) => cut(bench, cutMs) };
  for (const what of flags.what.split(',')) {
    const act = acts[what];
    if (act === undefined) throw new Error(`--what ${what}: expected kill or cut`);
    await withWorld(flags.toxiproxy, Number(flags.series), Number(flags.rate), act);
  }
}

interface Bench {
  readonly world: World;
  readonly placement: FollowedPlacement;
  readonly load: Load;
  readonly writes: Probe;
  readonly reads: Probe;
}

async function withWorld(
  toxiproxy: string,
  seriesCount: number,
  rate: number,
  act: (bench: Bench) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'silverback-bench-'));
  const world = await World.create({
    ...{ dataDir: directory, toxiproxy, seed: 1, shardCount: SHARD_COUNT },
    ...{ frontierBoundMs: 30_000, graceMs: 60_000, nodeArgs: [] },
  });
  const placement = new FollowedPlacement({ env: nodeEnv, endpoints: [world.grpc], caller: 'bench' });
  const clients = ['LOCAL', 'LOCAL'].map(() => world.client('east', 'LOCAL', RETRY_MS));
  try {
    world.fleet.start();
    await world.ready();
    const load = new Load(clients[0]!, seriesCount, rate);
    const writes = writeProbe(clients[1]!);
    const reads = readProbe(world.url, '');
    await sleep(CALM_MS);
    told('', writes, reads);
    await sleep(CALM_MS);
    console.log(told(`${rate} samples/s to east:`, writes, reads));
    await act({ world, placement, load, writes, reads });
    await Promise.all([load.stop(), writes.stop(), reads.stop()]);
  } finally {
    for (const client of clients) await client.close(0);
    placement.close();
    await world.close(false);
    await rm(directory, { recursive: true });
  }
}

async function kill({ world, placement, load, writes, reads }: Bench): Promise<void> {
  const held = await placesIn(placement, 'east');
  const lost = [...held].filter(([, node]) => node === 'east-1').map(([shard]) => shard);
  const startedMs = performance.now();
  await world.fleet.kill(['east-1']);
  for (let isTaken = false; !isTaken; await sleep(POLL_MS)) {
    const copies = placement.current()?.copies ?? [];
    isTaken = lost.every((shard) =>
      copies[shard]?.some(({ region, node, state }) => region === 'east' && node !== 'east-1' && state !== 'leaving'),
    );
  }
  const takenMs = performance.now() - startedMs;
  await sleep(CALM_MS);
  const how = `a node of east was killed: other nodes of east take the writes of its ${lost.length} shards after ${(takenMs / 1_000).toFixed(1)} s`;
  console.log(told(`${how}; ${load.droppedCount} samples of the load were given up`, writes, reads));
}

async function cut({ world, placement, load, writes, reads }: Bench, cutMs: number): Promise<void> {
  const [east, west] = [world.hostsOf('east'), world.hostsOf('west')];
  for (const link of [...world.links(east, west), ...world.links(west, east)]) {
    await world.proxies.strike(link, { kind: 'cut' });
  }
  await sleep(cutMs);
  const behind = await lags(world, 'west');
  const records = behind.reduce((sum, lag) => sum + lag.records, 0);
  const what = `west cut off for ${cutMs / 60_000} min, ${records} records behind`;
  console.log(told(`${what}; ${load.droppedCount} samples of the load were given up`, writes, reads));
  const startedMs = performance.now();
  await world.proxies.heal();
  while ((await lags(world, 'west')).some(({ seconds }) => seconds === null || seconds > CAUGHT_UP_SECONDS)) {
    await sleep(POLL_MS);
  }
  const caughtUpMs = performance.now();
  console.log(told(`caught up after ${((caughtUpMs - startedMs) / 1_000).toFixed(1)} s`, writes, reads));
  await Promise.all([load.stop(), writes.stop()]);
  const stoppedMs = performance.now();
  for (let isEqual = false; !isEqual; await sleep(POLL_MS)) {
    const digests = [];
    for (const region of ['east', 'west'] as const) {
      const found = await world.digests(region, await placesIn(placement, region));
      digests.push(JSON.stringify([...found].sort(([a], [b]) => (a < b ? -1 : 1))));
    }
    isEqual = digests[0] === digests[1];
  }
  const seconds = [startedMs, stoppedMs].map((ms) => ((performance.now() - ms) / 1_000).toFixed(1));
  console.log(
    `digests of all windows equal ${seconds[0]} s after the end of the cut, ${seconds[1]} s after that of the load`,
  );
}

/** The node of each shard's active copy. */
async function placesIn(placement: FollowedPlacement, region: string): Promise<Map<number, string>> {
  const { copies } = await placement.refresh();
  return new Map(
    copies.flatMap((own, shard) => {
      const copy = own.find((one) => one.region === region && one.state === 'active');
      return copy === undefined ? [] : [[shard, copy.node] as const];
    }),
  );
}

/** Of what enters elsewhere, on its way to the region. */
async function lags({ url }: World, region: string): Promise<LagReport[]> {
  const response = await fetch(`${url}/api/v1/cluster/lag`);
  const { data } = (await response.json()) as { data: LagReport[] };
  return data.filter(({ from, to }) => from.region !== region && to.region === region);
}
