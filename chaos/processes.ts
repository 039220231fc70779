/**
 * A cluster, of one region unless more are asked for: a coordinator and nodes, as `npm start` runs them
 * (coordinator/local/cluster.ts). Ports stay the same over restarts.
 */
import { nodeEnv } from '../core/env/node.ts';
import { Channel } from '../core/grpc.ts';
import { type ShardStatus, shardsService } from '../core/protocol.ts';
import { eventually, freeHttpPort } from '../test/local/cluster.ts';
import { Fleet, type Program, served } from './fleet.ts';

const HOST = '127.0.0.1';
const READY_MS = 120_000;
const STATUS_MS = 15_000;

export interface ProcessesOptions {
  /** Everything lies below it: `<name>/` per process, `logs/`. */
  readonly dataDir: string;
  /** Of each region. */
  readonly nodeCount: number;
  readonly shardCount: number;
  /** Default: one, `local`. The coordinator is in the first. */
  readonly regions?: readonly string[];
  /** Further arguments of the nodes. */
  readonly nodeArgs?: readonly string[];
  /** And of the coordinator. */
  readonly coordinatorArgs?: readonly string[];
}

/** What a node says of one of its shards. */
export interface NodeShard extends ShardStatus {
  readonly node: string;
}

export class Processes extends Fleet {
  /** Of the HTTP API. */
  readonly url: string;
  /** host:port of the coordinator's gRPC. */
  readonly grpc: string;
  readonly #httpPort: number;

  /** Finds free ports. Starts nothing. */
  static async create(options: ProcessesOptions): Promise<Processes> {
    return new Processes(options, await freeHttpPort(options.nodeCount * (options.regions?.length ?? 1)));
  }

  private constructor(options: ProcessesOptions, httpPort: number) {
    super(options.dataDir, programsOf(options, httpPort));
    this.#httpPort = httpPort;
    this.url = `http://${HOST}:${httpPort}`;
    this.grpc = grpcOf(httpPort);
  }

  get nodes(): readonly string[] {
    return this.names.slice(1);
  }

  /** Where a node serves its metrics. */
  metricsOf(node: string): string {
    return `http://${HOST}:${this.#httpPort + 110 + this.names.indexOf(node)}/metrics`;
  }

  /** Resolves when every shard is served. Rejects when a process ended by itself, or after two minutes. */
  ready(): Promise<void> {
    return served(this.url, this, READY_MS);
  }

  /** How the shards of the running nodes are, by the nodes' own account. */
  async status(): Promise<NodeShard[]> {
    const found: NodeShard[] = [];
    for (const [i, node] of this.nodes.entries()) {
      if (!this.isRunning(node)) continue;
      const channel = new Channel(`${HOST}:${this.#httpPort + 11 + i}`, { clock: nodeEnv.clock, caller: 'chaos' });
      // A connection to a node that was down is tried again within two seconds; until then a call fails at once.
      const { shards } = await eventually(
        () => channel.unary(shardsService.Status, {}, { timeoutMs: 10_000 }),
        STATUS_MS,
      );
      channel.close();
      found.push(...shards.map((shard) => ({ ...shard, node })));
    }
    return found;
  }
}

function grpcOf(httpPort: number): string {
  return `${HOST}:${httpPort + 5}`;
}

/** The coordinator first, then the nodes, region by region. */
function programsOf(
  { nodeCount, shardCount, regions = ['local'], nodeArgs = [], coordinatorArgs = [] }: ProcessesOptions,
  port: number,
): Program[] {
  const shared = ['--http-host', HOST];
  const counts = ['--nodes', String(nodeCount), '--shards', String(shardCount)];
  const listens = ['--http-port', String(port), '--listen', grpcOf(port)];
  const places = ['--region', regions[0] as string, '--place-regions', regions.join(',')];
  const nodes = Array.from({ length: regions.length * nodeCount }, (_, i): Program => {
    const number = i + 1;
    const place = ['--region', regions[Math.floor(i / nodeCount)] as string, '--zone', `zone-${number}`];
    const ports = ['--listen', `${HOST}:${port + 10 + number}`, '--http-port', String(port + 110 + number)];
    const args = [...shared, ...place, ...ports, '--meta', grpcOf(port), ...nodeArgs];
    return { name: `node-${number}`, kind: 'node', args };
  });
  return [
    {
      name: 'coordinator',
      kind: 'coordinator',
      args: [...shared, ...places, ...listens, ...counts, ...coordinatorArgs],
    },
    ...nodes,
  ];
}
