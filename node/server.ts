/** A node's gRPC face: the `Shards` service. In and out; what a call does stands in write.ts, read.ts, erase.ts and status.ts. */
import type { RpcServer } from '../core/grpc.ts';
import { shardsService } from '../core/protocol.ts';
import type { Brakes } from './brakes.ts';
import type { Callers } from './callers.ts';
import { serveClean, serveDelete } from './erase.ts';
import type { Node } from './node.ts';
import { ReadBound, serveReads } from './read.ts';
import type { Pace } from './repair/pace.ts';
import type { Repair } from './repair/repair.ts';
import { serveCompare, serveFetch, serveRepair } from './repair/serve.ts';
import { type SinkContext, serveReplication } from './replication/sink.ts';
import { type ProcessFacts, statusOf } from './status.ts';
import type { Turns } from './turns.ts';
import { ValuePages } from './values.ts';
import { type InFlight, serveWrites, type WriteObserver } from './write.ts';

export interface ShardsOptions {
  readonly node: Node;
  readonly inFlight: InFlight;
  readonly turns: Turns;
  readonly brakes: Brakes;
  readonly observer: WriteObserver;
  readonly monotonicMs: () => number;
  /** What takes records of other copies. Undefined: this node takes none. */
  readonly replication?: Omit<SinkContext, 'node'>;
  /** Repair of its copies, where there may be others. */
  readonly repair?: Repair;
  /** Where what callers do is counted. */
  readonly callers: Callers;
  /** How fast it gives to others. */
  readonly pace?: Pace;
  /** Of this program. */
  readonly version: string;
  /** What an operator wants to know of the process. */
  readonly facts?: () => ProcessFacts;
  /** Reads under way. Default: at most 256 at a time. */
  readonly reads?: ReadBound;
}

/** Adds the service to `server`, before it listens. */
export function addShardsService(server: RpcServer, options: ShardsOptions): void {
  const { node, inFlight, turns, brakes, observer, monotonicMs, callers, version, replication, repair } = options;
  const bound = options.reads ?? new ReadBound();
  const values = new ValuePages();
  server
    .duplex(shardsService.Write, (call) =>
      serveWrites(call, { node, inFlight, turns, brakes, observer, monotonicMs, callers }),
    )
    .duplex(shardsService.Read, (call) => serveReads(call, { node, bound, values }))
    .unary(shardsService.Delete, (request, { signal }) => serveDelete(request, node, signal))
    .unary(shardsService.Clean, (request) => serveClean(request, node))
    .unary(shardsService.Status, async () => ({ ...statusOf(node, callers, options.facts?.()), version }))
    .unary(shardsService.Digest, async ({ shard: id }) => {
      const shard = node.find(id);
      const windows: { startMs: number; sums: Uint8Array }[] = [];
      for (const startMs of shard.windows()) windows.push({ startMs, sums: await shard.digest(startMs) });
      return { windows };
    });
  if (replication !== undefined) {
    server.duplex(shardsService.Replicate, (call) => serveReplication(call, { ...replication, node }));
  }
  if (replication !== undefined && repair !== undefined) {
    const context = { node, frontiers: replication.frontiers, digests: repair.digests, pace: options.pace };
    server
      .stream(shardsService.Compare, (request, call) => serveCompare(request, call, context))
      .stream(shardsService.Fetch, (request, call) => serveFetch(request, call, context))
      .unary(shardsService.Repair, (request) => serveRepair(request, context, repair));
  }
}
