/**
 * Two regions of real processes, with a proxy on every link: between nodes, between the SDK and everything it talks to,
 * between a coordinator and the nodes, and to the meta store. Only the recorder's and the operator's own questions go past them.
 * Each region has a node more, a spare, which does not run until an operator lets it join.
 *
 * A link is named `<who connects>.<who listens>`, the meta store listens as `meta`.
 *
 * With namespaces, each region is a network of its own (namespaces.ts): nodes of different regions, and nodes and the meta store,
 * then talk directly, and packets are dropped between them instead.
 */
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from '../client/index.ts';
import { nodeEnv } from '../core/env/node.ts';
import { Channel } from '../core/grpc.ts';
import { type AckLevel, shardsService } from '../core/protocol.ts';
import { freeHttpPort } from '../test/local/cluster.ts';
import { Disks } from './disks.ts';
import { Fleet, type Program, served } from './fleet.ts';
import type { Digests } from './judge.ts';
import type { Namespaces } from './namespaces.ts';
import { Operator } from './operator.ts';
import { COORDINATOR, REGIONS, type Region } from './places.ts';
import { Proxies } from './proxies.ts';

const HOST = '127.0.0.1';
const READY_MS = 180_000;
const DIGEST_MS = 20_000;

/** As the coordinator's log has it (core/meta/decide.ts): the shards, how many more, and what happened to them. */
const DECIDED = /"msg":"shards? ([\d, ]+)(?: and (\d+) more)?: ([^"]+)"/g;
const DECISIONS: readonly (readonly [RegExp, string])[] = [
  [/ in place of /, 'moved'],
  [/^moves from /, 'moves begun'],
  [/ is back and active again/, 'came back'],
  [/ is gone$/, 'gone'],
  [/^\S+ takes writes/, 'taken over'],
  [/ is active$/, 'filled'],
  [/ is released$/, 'released'],
];

/** Of each region; and a spare. */
const NODE_COUNT = 2;

export interface WorldOptions {
  readonly dataDir: string;
  /** The program of the Toxiproxy server. */
  readonly toxiproxy: string;
  readonly seed: number;
  readonly shardCount: number;
  readonly frontierBoundMs: number;
  /** How long a node may be away before its data is brought elsewhere. */
  readonly graceMs: number;
  readonly nodeArgs: readonly string[];
  /** What keeps the meta store; undefined: the coordinator does. */
  readonly etcd?: Store;
  /** libfaketime: nodes' wall clocks can jump. */
  readonly faketime?: string;
  /** Nodes' disks are small ones of their own, which can be filled. Takes root. */
  readonly smallDisks?: boolean;
  readonly namespaces?: Namespaces;
}

/** An etcd that can be lost. */
export interface Store {
  /** host:port */
  readonly address: string;
  kill(): Promise<void>;
  /** Resolves once it answers. */
  restart(): Promise<void>;
}

interface NodeAt {
  readonly name: string;
  readonly region: Region;
  /** host:port of its gRPC. */
  readonly address: string;
  readonly httpPort: number;
  readonly isSpare: boolean;
}

export class World {
  readonly fleet: Fleet;
  readonly operator: Operator;
  readonly proxies: Proxies;
  readonly disks: Disks | undefined;
  readonly shardCount: number;
  /** Of the HTTP API. */
  readonly url: string;
  /** host:port of the coordinator's gRPC, past the proxies. */
  readonly grpc: string;
  readonly #dataDir: string;
  readonly #store: Store | undefined;
  readonly #namespaces: Namespaces | undefined;
  readonly #nodes: readonly NodeAt[];
  /** host:port of each link's proxy. */
  readonly #links: ReadonlyMap<string, string>;

  /** Starts the proxies, and none of the processes yet. */
  static async create(options: WorldOptions): Promise<World> {
    const port = await freeHttpPort(REGIONS.length * (NODE_COUNT + 1));
    const nodes = REGIONS.flatMap((region) => Array.from({ length: NODE_COUNT + 1 }, (_, i) => ({ region, i }))).map(
      ({ region, i }, k): NodeAt => ({
        name: `${region}-${i + 1}`,
        region,
        address: `${options.namespaces?.hostOf(region) ?? HOST}:${port + 11 + k}`,
        httpPort: port + 111 + k,
        isSpare: i === NODE_COUNT,
      }),
    );
    const proxies = await Proxies.start(options.toxiproxy, options.seed);
    const links = new Map<string, string>();
    const open = async (from: string, to: string, address: string) => {
      const name = `${from}.${to}`;
      links.set(name, await proxies.open(name, address));
    };
    const grpc = `${options.namespaces?.host ?? HOST}:${port + 5}`;
    const meta = options.etcd?.address ?? grpc;
    for (const from of options.namespaces === undefined ? nodes : []) {
      await open(from.name, 'meta', meta);
      for (const to of nodes) if (to !== from) await open(from.name, to.name, to.address);
    }
    for (const to of nodes) await open(COORDINATOR, to.name, to.address);
    if (options.etcd !== undefined) await open(COORDINATOR, 'meta', meta);
    for (const region of REGIONS) {
      await open(`sdk-${region}`, COORDINATOR, grpc);
      for (const to of nodes) await open(`sdk-${region}`, to.name, to.address);
    }
    return new World(options, port, nodes, proxies, links);
  }

  private constructor(
    options: WorldOptions,
    port: number,
    nodes: readonly NodeAt[],
    proxies: Proxies,
    links: ReadonlyMap<string, string>,
  ) {
    this.proxies = proxies;
    this.shardCount = options.shardCount;
    this.url = `http://${HOST}:${port}`;
    this.grpc = `${options.namespaces?.host ?? HOST}:${port + 5}`;
    this.#dataDir = options.dataDir;
    this.#store = options.etcd;
    this.#namespaces = options.namespaces;
    this.#nodes = nodes;
    this.#links = links;
    this.fleet = new Fleet(options.dataDir, this.#programs(options, port));
    const directories = nodes.map(({ name }) => [name, this.fleet.directoryOf(name)] as const);
    for (const { name, isSpare } of nodes) this.fleet.hold(name, isSpare);
    const wipe = (name: string) => this.#wipe(name);
    this.operator = new Operator({ url: this.url, fleet: this.fleet, wipe, coordinator: COORDINATOR });
    this.disks = options.smallDisks ? new Disks(new Map(directories)) : undefined;
  }

  /** Without spares. */
  get nodes(): string[] {
    return REGIONS.flatMap((region) => this.nodesOf(region));
  }

  /** Without its spare. */
  nodesOf(region: Region): string[] {
    return this.hostsOf(region).slice(0, NODE_COUNT);
  }

  /** Its nodes and its spare, in this order. */
  hostsOf(region: Region): string[] {
    return this.#nodes.filter((node) => node.region === region).map(({ name }) => name);
  }

  /** Links from one of these to one of those. */
  links(from: readonly string[], to: readonly string[]): string[] {
    return [...this.#links.keys()].filter((link) => {
      const [a = '', b = ''] = link.split('.');
      return from.includes(a) && to.includes(b);
    });
  }

  ready(): Promise<void> {
    return served(this.url, this.fleet, READY_MS);
  }

  /** A client of that region, which reaches everything through its links. */
  client(region: Region, ack: AckLevel, retryMs: number): Client {
    const caller = `sdk-${region}`;
    const peers = this.#peersOf(caller).map(({ region: at, name, through }) => [`${at}/${name}`, through]);
    return new Client({
      ...{ endpoints: [this.#link(caller, COORDINATOR)], region, ack, retryMs, caller },
      peerAddresses: Object.fromEntries(peers),
      onDrop: () => undefined,
    });
  }

  /** What these copies hold, as their nodes say; `places`: the node of each shard. Rejects when one of them does not answer. */
  async digests(region: Region, places: ReadonlyMap<number, string>): Promise<Digests> {
    const found = new Map<string, string>();
    for (const { region: at, name, address } of this.#nodes) {
      const shards = [...places].filter(([, node]) => node === name).map(([shard]) => shard);
      if (at !== region || shards.length === 0) continue;
      const channel = new Channel(address, { clock: nodeEnv.clock, caller: 'chaos' });
      try {
        const options = { timeoutMs: DIGEST_MS };
        for (const shard of shards) {
          const { windows } = await channel.unary(shardsService.Digest, { shard }, options);
          for (const { startMs, sums } of windows) {
            if (sums.every((byte) => byte === 0)) continue;
            found.set(`shard ${shard}, window ${startMs}`, Buffer.from(sums).toString('base64'));
          }
        }
      } finally {
        channel.close();
      }
    }
    return found;
  }

  /** What the keepers of the placement said that they did, and to how many copies. */
  decisions(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const [, shards = '', more, what = ''] of this.fleet.logOf(COORDINATOR).matchAll(DECIDED)) {
      const done = DECISIONS.find(([pattern]) => pattern.test(what))?.[1];
      if (done !== undefined) counts[done] = (counts[done] ?? 0) + shards.split(',').length + Number(more ?? 0);
    }
    return counts;
  }

  /** Takes the meta store away, and with it the coordinator where that one keeps it. */
  async loseStore(): Promise<void> {
    if (this.#store === undefined) await this.fleet.kill([COORDINATOR]);
    else await this.#store.kill();
  }

  async restoreStore(): Promise<void> {
    if (this.#store === undefined) this.fleet.start([COORDINATOR]);
    else await this.#store.restart();
  }

  /** How far the node's wall clock is from the right one; it takes notice within a second. */
  setClock(name: string, offsetMs: number): void {
    writeFileSync(this.#clockOf(name), `${offsetMs < 0 ? '' : '+'}${offsetMs / 1_000}\n`);
  }

  /** Packets from one region to the other go nowhere, or pass again. */
  drop(from: Region, to: Region, isDropped: boolean): void {
    if (this.#namespaces === undefined) throw new Error('there are no namespaces');
    this.#namespaces.drop(from, to, isDropped);
  }

  /** `keepsDisks`: for who wants to look at them. */
  async close(keepsDisks: boolean): Promise<void> {
    await this.operator.close();
    await this.fleet.kill();
    this.proxies.close();
    this.disks?.close(keepsDisks);
  }

  /** Its directory may be a disk of its own, and stays. */
  #wipe(name: string): void {
    const directory = this.fleet.directoryOf(name);
    if (!existsSync(directory)) return;
    for (const entry of readdirSync(directory)) rmSync(join(directory, entry), { recursive: true });
  }

  #clockOf(name: string): string {
    return join(this.#dataDir, 'clocks', name);
  }

  #faketimeOf(name: string, library: string): Record<string, string> {
    mkdirSync(join(this.#dataDir, 'clocks'), { recursive: true });
    this.setClock(name, 0);
    return {
      ...{ LD_PRELOAD: library, FAKETIME_TIMESTAMP_FILE: this.#clockOf(name), FAKETIME_CACHE_DURATION: '1' },
      ...{ FAKETIME_DONT_FAKE_MONOTONIC: '1', FAKETIME_DONT_RESET: '1' },
    };
  }

  #link(from: string, to: string): string {
    const address = this.#links.get(`${from}.${to}`);
    if (address === undefined) throw new Error(`there is no link ${from}.${to}`);
    return address;
  }

  /** The nodes that `from` reaches through a proxy. */
  #peersOf(from: string): (NodeAt & { readonly through: string })[] {
    return this.#nodes.flatMap((node) => {
      const through = this.#links.get(`${from}.${node.name}`);
      return through === undefined ? [] : [{ ...node, through }];
    });
  }

  #programs(options: WorldOptions, port: number): Program[] {
    const { shardCount, nodeArgs, etcd, frontierBoundMs, graceMs, faketime, namespaces } = options;
    const peersOf = (from: string) =>
      this.#peersOf(from).flatMap(({ region, name, through }) => ['--peer-address', `${region}/${name}=${through}`]);
    const metaOf = (from: string) => {
      const isDirect = namespaces !== undefined && from !== COORDINATOR;
      const address = isDirect ? (etcd?.address ?? this.grpc) : this.#link(from, 'meta');
      return [etcd === undefined ? '--meta' : '--etcd', address];
    };
    const nodes = this.#nodes.map(({ name, region, address, httpPort }, i): Program => {
      const where = ['--region', region, '--zone', `zone-${i + 1}`, '--listen', address];
      const http = ['--http-host', HOST, '--http-port', String(httpPort)];
      const bound = ['--frontier-bound', `${frontierBoundMs}ms`, '--lease-ttl', '2s'];
      return {
        name,
        kind: 'node',
        args: [...where, ...http, ...metaOf(name), ...peersOf(name), ...bound, ...nodeArgs],
        ...(namespaces === undefined ? {} : { within: namespaces.within(region) }),
        ...(faketime === undefined ? {} : { environment: this.#faketimeOf(name, faketime) }),
      };
    });
    const counts = ['--nodes', String(NODE_COUNT), '--shards', String(shardCount)];
    const where = ['--region', REGIONS[0], '--place-regions', REGIONS.join(','), '--listen', this.grpc];
    const http = ['--http-host', HOST, '--http-port', String(port), '--lease-ttl', '2s'];
    const care = ['--takeover-grace', `${graceMs}ms`, '--enable-admin-api'];
    const store = etcd === undefined ? [] : metaOf(COORDINATOR);
    const args = [...where, ...http, ...counts, ...care, ...store, ...peersOf(COORDINATOR)];
    return [{ name: COORDINATOR, kind: 'coordinator', args }, ...nodes];
  }
}
