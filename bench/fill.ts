/**
 * Filling a copy of a shard from another one, over gRPC on loopback, both in this process: so CPU is that of both sides.
 *
 *     npm run bench -- fill [--samples N] [--series N] [--rounds N]
 *
 * blocks  the windows are sealed in the source and are taken as block files: checksums, digests against samples, fsync
 * series  they are open, and are taken as series: compared, stored in open runs, logged, fsync
 * heal    one sample of a sealed window of `--heal N` samples is lost: what bringing it back fetches
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { nodeEnv } from '../core/env/node.ts';
import { RpcServer } from '../core/grpc.ts';
import { WINDOW_MS } from '../core/kernel/shard.ts';
import { encodeIdentity, makeLabels } from '../core/labels.ts';
import type { Copy } from '../core/placement.ts';
import { shardsService } from '../core/protocol.ts';
import { SPOKEN } from '../core/versions.ts';
import { Refused } from '../node/hello.ts';
import { connectPeer } from '../node/repair/peer.ts';
import { Repair } from '../node/repair/repair.ts';
import { serveCompare, serveFetch } from '../node/repair/serve.ts';
import { Frontiers } from '../node/replication/frontiers.ts';
import { Budget } from '../node/shard/budget.ts';
import { encodeDefinition } from '../node/shard/definitions.ts';
import { Shard } from '../node/shard/shard.ts';
import { Mix, STEP_MS, WINDOW_TICKS } from './mix.ts';

const env = nodeEnv;
/** Ticks of all series in a batch. */
const PER_BATCH = 10;
const FIRST_MS = Math.floor(Date.now() / WINDOW_MS) * WINDOW_MS - 12 * WINDOW_MS;

class Side {
  readonly name: string;
  readonly shard: Shard;
  readonly repair: Repair;
  readonly #server = new RpcServer();
  #port = 0;

  static async open(directory: string, name: string): Promise<Side> {
    const shard = await Shard.open(env, `${directory}/${name}`, {
      shard: 0,
      budget: new Budget(4e9),
      maxSampleAgeMs: Number.POSITIVE_INFINITY,
      sealDelayMs: 0,
      sealIdleMs: 0,
      checkpointIntervalMs: 1e12,
    });
    const side = new Side(name, shard);
    side.#port = await side.#server.listen('127.0.0.1:0');
    return side;
  }

  private constructor(name: string, shard: Shard) {
    this.name = name;
    this.shard = shard;
    const frontiers = new Frontiers(env.clock, 30_000);
    const node = {
      name,
      clusterId: 'bench',
      spoken: SPOKEN,
      refused: new Refused(() => 0),
      nowMs: env.clock.nowMs(),
      find: () => shard,
      assigned: () => [0],
      gaps: () => [],
    };
    const say = () => undefined;
    this.repair = new Repair({
      env,
      node,
      name,
      region: 'bench',
      frontiers,
      origins: { index: async () => 1 },
      connect: (copy) => connectPeer({ env, region: 'bench', node: name, clusterId: 'bench' }, copy),
      maxSampleAgeMs: Number.POSITIVE_INFINITY,
      intervalMs: Number.POSITIVE_INFINITY,
      log: { info: say, warn: say },
    });
    const context = { node, frontiers, digests: this.repair.digests };
    this.#server
      .stream(shardsService.Compare, (request, call) => serveCompare(request, call, context))
      .stream(shardsService.Fetch, (request, call) => serveFetch(request, call, context));
  }

  get copy(): Copy {
    const address = `127.0.0.1:${this.#port}`;
    return { region: 'bench', zone: 'a', node: this.name, address, state: 'active', epoch: 1 };
  }

  async write(seriesCount: number, windows: number, except = -1): Promise<void> {
    const mix = new Mix();
    const sender = this.shard.attach();
    const refs = new Uint8Array(Uint32Array.from({ length: seriesCount }, (_, i) => i).buffer);
    const counts = new Uint8Array(new Uint32Array(seriesCount).fill(PER_BATCH).buffer);
    const definitions = Buffer.concat(Array.from({ length: seriesCount }, (_, i) => encodeDefinition(i, identity(i))));
    for (let tick = 0; tick < windows * WINDOW_TICKS; tick += PER_BATCH) {
      const halves = new Uint32Array(seriesCount * PER_BATCH * 2);
      const values = new Float64Array(seriesCount * PER_BATCH);
      for (let series = 0, at = 0; series < seriesCount; series++) {
        for (let i = tick; i < tick + PER_BATCH; i++, at++) {
          // The sample that is left out repeats the one before.
          const real = i === 100 && series === except ? i - 1 : i;
          const timestampMs = FIRST_MS + real * STEP_MS;
          halves[2 * at] = timestampMs % 2 ** 32;
          halves[2 * at + 1] = Math.floor(timestampMs / 2 ** 32);
          values[at] = mix.value(series, real % WINDOW_TICKS);
        }
      }
      const batch = {
        definitions: tick === 0 ? definitions : new Uint8Array(0),
        refs,
        counts,
        timestamps: new Uint8Array(halves.buffer),
        values: new Uint8Array(values.buffer),
      };
      const outcome = await sender.append(batch, 'LOCAL');
      if (outcome.code !== 'OK' || outcome.rejections.length > 0) throw new Error(outcome.message);
    }
    sender.detach();
  }

  async seal(): Promise<void> {
    while (this.shard.stats().openWindowCount > 0) await this.shard.tick();
  }

  async close(): Promise<void> {
    this.repair.close();
    this.#server.stop();
    await this.shard.close();
  }
}

function identity(series: number): Uint8Array {
  return encodeIdentity(
    makeLabels({
      __name__: `metric_${series % 97}`,
      instance: `host-${series % 1000}:9100`,
      job: 'bench',
      n: `${series}`,
    }),
  );
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] as number;

export async function run(args: string[]): Promise<void> {
  const { values: flags } = parseArgs({
    args,
    options: {
      samples: { type: 'string', default: '10000000' },
      series: { type: 'string', default: '5000' },
      rounds: { type: 'string', default: '5' },
      heal: { type: 'string', default: '1000000' },
    },
  });
  const seriesCount = Number(flags.series);
  const windows = Math.max(1, Math.round(Number(flags.samples) / (seriesCount * WINDOW_TICKS)));
  const root = mkdtempSync(join(tmpdir(), 'silverback-fill-'));
  try {
    await fill(root, seriesCount, windows, Number(flags.rounds));
    await heal(root, Math.round(Number(flags.heal) / WINDOW_TICKS));
  } finally {
    rmSync(root, { recursive: true });
  }
}

async function fill(root: string, seriesCount: number, windows: number, rounds: number): Promise<void> {
  const source = await Side.open(root, 'source');
  await source.write(seriesCount, windows);
  const sampleCount = seriesCount * windows * WINDOW_TICKS;
  console.log(`${sampleCount} samples: ${seriesCount} series, ${windows} windows`);
  for (const how of ['series', 'blocks']) {
    if (how === 'blocks') await source.seal();
    const rates: number[] = [];
    const costs: number[] = [];
    let bytes = 0;
    for (let round = 0; round < rounds; round++) {
      const copy = await Side.open(root, `${how}-${round}`);
      const placement = { clusterId: 'bench', shardCount: 1, revision: 1, copies: [[source.copy, copy.copy]] };
      copy.repair.follow(placement);
      const [startedMs, startedCpuMs] = [performance.now(), cpuMs()];
      await copy.repair.fill(0, new AbortController().signal);
      rates.push(sampleCount / (performance.now() - startedMs) / 1_000);
      costs.push(((cpuMs() - startedCpuMs) * 1e6) / sampleCount);
      const [status] = copy.repair.status();
      if (status?.samples !== sampleCount) throw new Error(`${status?.samples} samples came`);
      bytes = status.bytes;
      await copy.close();
      rmSync(`${root}/${how}-${round}`, { recursive: true });
    }
    const range = `${Math.min(...rates).toFixed(1)} to ${Math.max(...rates).toFixed(1)}`;
    console.log(
      `${how}: ${median(rates).toFixed(1)} M samples/s (${range}), CPU of both sides ${median(costs).toFixed(0)} ns a sample, ${(bytes / sampleCount).toFixed(2)} bytes a sample`,
    );
  }
  await source.close();
}

async function heal(root: string, seriesCount: number): Promise<void> {
  const [source, copy] = [await Side.open(root, 'whole'), await Side.open(root, 'lacking')];
  await source.write(seriesCount, 1);
  await copy.write(seriesCount, 1, 1234);
  for (const side of [source, copy]) await side.seal();
  const [windowBytes] = [...source.shard.blockBytes().values()] as [number];
  copy.repair.follow({ clusterId: 'bench', shardCount: 1, revision: 1, copies: [[source.copy, copy.copy]] });
  await copy.repair.run();
  const status = copy.repair.status()[0];
  const share = ((100 * (status?.bytes ?? 0)) / windowBytes).toFixed(2);
  console.log(
    `heal: ${status?.samples} sample of ${seriesCount * WINDOW_TICKS} was lost; ${status?.bytes} bytes were fetched, ${share} % of the window's ${windowBytes}`,
  );
  for (const side of [source, copy]) await side.close();
}
