/**
 * What a write of series that exist waits for its acknowledgement while there is too much of something else: new series without
 * end, a client that floods, a peer that stands still, a slow disk. Two regions of one node each, one shard, real processes; the
 * writes are of 100 samples, one after the other, through the SDK, LOCAL, to the first region. Under each load it also states
 * the memory of the node that takes them, and whether any of the writes failed.
 *
 *     npm run bench -- overload [--seconds 15] [--connections 8] [--disk-ms 20]
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Fleet, served } from '../chaos/fleet.ts';
import { Client } from '../client/index.ts';
import { freeHttpPort } from '../test/local/cluster.ts';

const HOST = '127.0.0.1';
const SERIES = 100;
const PAUSE_MS = 10;
const SERIES_PER_SHARD = 50_000;
const READY_MS = 120_000;
/** Beside the sources, not compiled. */
const SLOW_DISK = fileURLToPath(new URL('../../test/overload/slow-disk.cjs', import.meta.url));
const EXPLODER = fileURLToPath(new URL('./exploder.js', import.meta.url));
const FLOODER = fileURLToPath(new URL('./flooder.js', import.meta.url));

interface Scene {
  readonly fleet: Fleet;
  readonly grpc: string;
  readonly address: string;
  readonly slow: (delays: object) => void;
}

/** Makes things worse; resolves to how they get better again. */
type Trouble = (scene: Scene, options: Options) => Promise<() => Promise<void>>;

interface Options {
  readonly connections: string;
  readonly diskMs: number;
}

const TROUBLES: Readonly<Record<string, Trouble>> = {
  none: async () => async () => undefined,
  // In processes of their own: this one would be too busy to be quick beside them.
  cardinality: async ({ grpc }) => {
    const child = spawn(process.execPath, [EXPLODER, grpc, 'east'], { stdio: ['ignore', 'ignore', 'inherit'] });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    return async () => {
      child.kill();
      await ended;
    };
  },
  flood: async ({ address }, { connections }) => {
    const child = spawn(process.execPath, [FLOODER, address, connections, '20000'], {
      stdio: ['pipe', 'ignore', 'inherit'],
    });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    return async () => {
      child.stdin?.end();
      await ended;
    };
  },
  peer: async ({ fleet }) => {
    fleet.freeze(['west-1']);
    return async () => fleet.thaw(['west-1']);
  },
  disk: async ({ slow }, { diskMs }) => {
    slow({ writeMs: diskMs, syncMs: 10 * diskMs });
    return async () => slow({});
  },
};

export async function run(args: string[]): Promise<void> {
  const options = {
    seconds: { type: 'string', default: '15' },
    connections: { type: 'string', default: '8' },
    'disk-ms': { type: 'string', default: '20' },
  } as const;
  const { values } = parseArgs({ args, options });
  console.log(
    '| trouble | writes | p50 ms | p99 ms | most ms | failed | node RSS MiB, most |\n|---|---|---|---|---|---|---|',
  );
  for (const [name, trouble] of Object.entries(TROUBLES)) {
    const scene = await start();
    try {
      const client = new Client({
        endpoints: [scene.grpc],
        region: 'east',
        caller: 'live',
        batchAgeMs: 1,
        onDrop: () => undefined,
      });
      await measure(client, scene, 2_000);
      const mend = await trouble(scene, { connections: values.connections, diskMs: Number(values['disk-ms']) });
      const { latenciesMs, failedCount, mostResident } = await measure(client, scene, Number(values.seconds) * 1_000);
      await mend();
      latenciesMs.sort((a, b) => a - b);
      const at = (share: number) => (latenciesMs[Math.floor((latenciesMs.length - 1) * share)] ?? 0).toFixed(1);
      console.log(
        `| ${name} | ${latenciesMs.length} | ${at(0.5)} | ${at(0.99)} | ${at(1)} | ${failedCount} | ${Math.round(mostResident / 2 ** 20)} |`,
      );
      await client.close(0);
    } finally {
      await scene.stop();
    }
  }
}

async function measure(client: Client, { fleet }: Scene, forMs: number) {
  const latenciesMs: number[] = [];
  let failedCount = 0;
  let mostResident = 0;
  const untilMs = performance.now() + forMs;
  while (performance.now() < untilMs) {
    const timestampMs = Date.now();
    const samples = Array.from({ length: SERIES }, (_, i) => ({
      labels: { __name__: 'live', i: String(i) },
      timestampMs,
      value: i,
    }));
    const startedMs = performance.now();
    await client.write(samples).catch(() => failedCount++);
    latenciesMs.push(performance.now() - startedMs);
    const status = readFileSync(`/proc/${fleet.pidOf('east-1')}/status`, 'utf8');
    mostResident = Math.max(mostResident, Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) * 1_024);
    await sleep(PAUSE_MS);
  }
  return { latenciesMs, failedCount, mostResident };
}

async function start(): Promise<Scene & { stop(): Promise<void> }> {
  const directory = mkdtempSync(join(tmpdir(), 'silverback-bench-'));
  const slowFile = join(directory, 'slow.json');
  const port = await freeHttpPort(2);
  const grpc = `${HOST}:${port + 5}`;
  const places = ['--region', 'east', '--place-regions', 'east,west', '--nodes', '1', '--shards', '1'];
  const nodes = ['east', 'west'].map((region, i) => ({
    name: `${region}-1`,
    kind: 'node' as const,
    args: [
      ...['--region', region, '--meta', grpc, '--listen', `${HOST}:${port + 11 + i}`],
      ...['--http-host', HOST, '--http-port', String(port + 111 + i), '--series-per-shard', String(SERIES_PER_SHARD)],
    ],
    environment: region === 'east' ? { NODE_OPTIONS: `--require ${SLOW_DISK}`, SLOW_DISK: slowFile } : {},
  }));
  const listens = ['--http-host', HOST, '--http-port', String(port), '--listen', grpc];
  const fleet = new Fleet(directory, [
    { name: 'coordinator', kind: 'coordinator', args: [...listens, ...places] },
    ...nodes,
  ]);
  const stop = async () => {
    await fleet.kill();
    rmSync(directory, { recursive: true, force: true });
  };
  fleet.start();
  try {
    await served(`http://${HOST}:${port}`, fleet, READY_MS);
  } catch (error) {
    await stop();
    throw error;
  }
  const slow = (delays: object) => writeFileSync(slowFile, JSON.stringify(delays));
  return { fleet, grpc, address: `${HOST}:${port + 11}`, slow, stop };
}
