/** A real node with real shards in a temporary directory, served on loopback. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { StaticPlacement } from '../../client/placement.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { RpcServer } from '../../core/grpc.ts';
import type { Copy } from '../../core/placement.ts';
import { Brakes } from '../../node/brakes.ts';
import { Callers } from '../../node/callers.ts';
import { claimDirectory } from '../../node/directory.ts';
import { Metrics } from '../../node/metrics.ts';
import { Node, type NodeOptions } from '../../node/node.ts';
import { ReadBound } from '../../node/read.ts';
import { addShardsService } from '../../node/server.ts';
import { Turns } from '../../node/turns.ts';
import { InFlight } from '../../node/write.ts';

export const env = nodeEnv;

export function temporaryDirectory(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'silverback-test-'));
}

export interface Served {
  readonly node: Node;
  readonly inFlight: InFlight;
  readonly metrics: Metrics;
  readonly address: string;
  readonly messages: string[];
  /** Closes everything in order; the directory stays. */
  close(): Promise<void>;
}

export async function serve(
  directory: string,
  options: Partial<NodeOptions> & { inFlight?: InFlight; address?: string; maxReadCount?: number } = {},
): Promise<Served> {
  const cluster = { clusterId: 'c', shardCount: options.shardCount ?? 4 };
  const messages: string[] = [];
  const say = (_: object, message: string) => void messages.push(message);
  const claim = await claimDirectory(env, directory);
  await claim.record(cluster);
  const node = new Node({
    env,
    ...cluster,
    name: 'n1',
    region: 'r',
    claim,
    memoryBudgetBytes: 2 ** 30,
    maxSampleAgeMs: Number.POSITIVE_INFINITY,
    maxSeriesCount: 10_000,
    log: { info: say, warn: say, error: say },
    ...options,
  });
  const inFlight = options.inFlight ?? new InFlight({ maxBytes: 64 * 2 ** 20, maxCount: 1_000 });
  const callers = new Callers(() => env.clock.monotonicMs());
  const metrics = new Metrics({ node, inFlight, callers });
  const server = new RpcServer();
  addShardsService(server, {
    node,
    inFlight,
    turns: new Turns(env),
    brakes: new Brakes(env),
    observer: metrics,
    callers,
    monotonicMs: () => env.clock.monotonicMs(),
    version: 'test',
    ...(options.maxReadCount !== undefined && { reads: new ReadBound(options.maxReadCount) }),
  });
  const port = await server.listen(options.address ?? '127.0.0.1:0');
  return {
    node,
    inFlight,
    metrics,
    address: `127.0.0.1:${port}`,
    messages,
    async close() {
      await node.close();
      server.stop();
    },
  };
}

/** Every shard on the node at `address`. */
export function allOn(address: string, shardCount = 4): StaticPlacement {
  const copy: Copy = { region: 'r', zone: 'a', node: 'n1', address, state: 'active', epoch: 1 };
  return new StaticPlacement({
    clusterId: 'c',
    shardCount,
    revision: 1,
    copies: Array.from({ length: shardCount }, () => [copy]),
  });
}

export function removeDirectory(directory: string): Promise<void> {
  return rm(directory, { recursive: true, force: true });
}
