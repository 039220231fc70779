/** Nodes of two regions in this process, with real disks and real connections, that can be cut off and brought back. */
import { rm } from 'node:fs/promises';
import { RpcServer } from '../../core/grpc.ts';
import { encodeIdentity, makeLabels } from '../../core/labels.ts';
import type { Copy, Placement } from '../../core/placement.ts';
import { SPOKEN, type Spoken } from '../../core/versions.ts';
import { Brakes } from '../../node/brakes.ts';
import { Callers } from '../../node/callers.ts';
import { claimDirectory } from '../../node/directory.ts';
import { Node } from '../../node/node.ts';
import { connectPeer } from '../../node/repair/peer.ts';
import { Repair } from '../../node/repair/repair.ts';
import { Replication } from '../../node/replication/replication.ts';
import { addShardsService } from '../../node/server.ts';
import { encodeDefinition } from '../../node/shard/definitions.ts';
import type { Batch } from '../../node/shard/sender.ts';
import type { Shard } from '../../node/shard/shard.ts';
import { Turns } from '../../node/turns.ts';
import { InFlight } from '../../node/write.ts';
import { env, temporaryDirectory } from '../node/cluster.ts';

const SHARD_COUNT = 2;

/** A region with one node, which keeps its directory and its address over `stop` and `start`. */
export class Region {
  readonly name: string;
  readonly messages: string[] = [];
  readonly directory: string;
  readonly #logBudgetBytes: number;
  /** What it speaks from its next start on. */
  spoken: Spoken = SPOKEN;
  #address = '127.0.0.1:0';
  #running:
    | { readonly node: Node; readonly replication: Replication; readonly repair: Repair; readonly server: RpcServer }
    | undefined;

  static async create(name: string, logBudgetBytes = Number.POSITIVE_INFINITY): Promise<Region> {
    const region = new Region(name, await temporaryDirectory(), logBudgetBytes);
    await region.start();
    return region;
  }

  private constructor(name: string, directory: string, logBudgetBytes: number) {
    this.name = name;
    this.directory = directory;
    this.#logBudgetBytes = logBudgetBytes;
  }

  get node(): Node {
    return this.#open.node;
  }

  get replication(): Replication {
    return this.#open.replication;
  }

  get repair(): Repair {
    return this.#open.repair;
  }

  get copy(): Copy {
    return { region: this.name, zone: 'a', node: 'n', address: this.#address, state: 'active', epoch: 1 };
  }

  get #open() {
    if (this.#running === undefined) throw new Error(`${this.name} does not run`);
    return this.#running;
  }

  shard(id: number): Shard {
    return this.node.find(id);
  }

  async start(): Promise<void> {
    const cluster = { clusterId: 'c', shardCount: SHARD_COUNT };
    const say = (fields: object, message: string) =>
      void this.messages.push(
        `${message} ${JSON.stringify(fields, (_, value) => (value instanceof Error ? value.message : value))}`,
      );
    const log = { info: say, warn: say, error: say };
    const claim = await claimDirectory(env, this.directory);
    await claim.record(cluster);
    const { spoken } = this;
    const own = { env, name: 'n', region: this.name, log, spoken };
    const replication = await Replication.open({
      ...own,
      ...{ zone: 'a', clusterId: 'c', directory: this.directory, frontierBoundMs: 30_000 },
    });
    const node = new Node({
      ...own,
      ...cluster,
      claim,
      memoryBudgetBytes: 2 ** 30,
      maxSampleAgeMs: Number.POSITIVE_INFINITY,
      maxSeriesCount: 10_000,
      logBudgetBytes: this.#logBudgetBytes,
      watcher: replication,
    });
    const repair = new Repair({
      ...own,
      node,
      frontiers: replication.frontiers,
      origins: replication.origins,
      connect: (copy) => connectPeer({ env, region: this.name, node: 'n', clusterId: 'c', spoken }, copy),
      maxSampleAgeMs: Number.POSITIVE_INFINITY,
      // Rounds are asked for.
      intervalMs: Number.POSITIVE_INFINITY,
    });
    const server = new RpcServer();
    addShardsService(server, {
      node,
      inFlight: new InFlight({ maxBytes: 2 ** 26, maxCount: 1_000 }),
      turns: new Turns(env),
      brakes: new Brakes(env),
      observer: { batch: () => undefined, request: () => undefined },
      callers: new Callers(() => env.clock.monotonicMs()),
      monotonicMs: () => env.clock.monotonicMs(),
      version: 'test',
      replication: { env, origins: replication.origins, frontiers: replication.frontiers, pace: replication.pace },
      repair,
    });
    this.#address = `127.0.0.1:${await server.listen(this.#address)}`;
    this.#running = { node, replication, repair, server };
  }

  async follow(placement: Placement): Promise<void> {
    this.replication.follow(placement);
    this.repair.follow(placement);
    await this.node.follow(placement);
  }

  async stop(): Promise<void> {
    const { node, replication, repair, server } = this.#open;
    this.#running = undefined;
    replication.close();
    repair.close();
    await node.close();
    server.stop();
  }

  /** The disk with the shards is lost. */
  async wipe(): Promise<void> {
    await rm(`${this.directory}/shards`, { recursive: true });
  }

  async remove(): Promise<void> {
    if (this.#running !== undefined) await this.stop();
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** Every shard has a copy in each of the regions. */
export function placementOf(regions: readonly Region[]): Placement {
  const copies = regions.map((region) => region.copy);
  return {
    clusterId: 'c',
    shardCount: SHARD_COUNT,
    revision: 1,
    copies: Array.from({ length: SHARD_COUNT }, () => copies),
  };
}

/** What a shard holds, by window, as text that can be compared. */
export async function digestsOf(shard: Shard): Promise<string[]> {
  const found: string[] = [];
  for (const startMs of shard.windows()) {
    const digest = Buffer.from(await shard.digest(startMs));
    if (digest.some((byte) => byte !== 0)) found.push(`${startMs} ${digest.toString('hex')}`);
  }
  return found;
}

/** One sample of each of `count` series; the region's name is a label where it is given. */
export function batchAt(timestampMs: number, value: number, count: number, from: string): Batch {
  const timestamps = new BigInt64Array(count).fill(BigInt(timestampMs));
  const values = Float64Array.from({ length: count }, (_, i) => value + i / 7);
  return {
    definitions: Buffer.concat(
      Array.from({ length: count }, (_, i) =>
        encodeDefinition(i, encodeIdentity(makeLabels({ __name__: 'm', from, i: String(i) }))),
      ),
    ),
    refs: new Uint8Array(Uint32Array.from({ length: count }, (_, i) => i).buffer),
    counts: new Uint8Array(0),
    timestamps: new Uint8Array(timestamps.buffer),
    values: new Uint8Array(values.buffer),
  };
}
