/** A node's gRPC face: the `Shards` service. In and out; what a call does stands in write.ts and read.ts. */
import { SilverbackError } from '../core/errors.ts';
import type { RpcServer } from '../core/grpc.ts';
import { shardsService } from '../core/protocol.ts';
import type { Node } from './node.ts';
import { labelNames, labelValues, select, series } from './read.ts';
import { type InFlight, serveWrites, type WriteObserver } from './write.ts';

export interface ShardsOptions {
  readonly node: Node;
  readonly inFlight: InFlight;
  readonly observer: WriteObserver;
  readonly monotonicMs: () => number;
  /** Of this program. */
  readonly version: string;
  /** Reads under way at a time; more are refused. Default 256. */
  readonly maxReadCount?: number;
}

/** Adds the service to `server`, before it listens. */
export function addShardsService(server: RpcServer, options: ShardsOptions): void {
  const { node, inFlight, observer, monotonicMs, version } = options;
  const maxReadCount = options.maxReadCount ?? 256;
  let readCount = 0;

  /** Runs a read if there is room for it. */
  async function read<T>(task: () => Promise<T>): Promise<T> {
    if (readCount >= maxReadCount) {
      const message = `node ${node.name} answers ${readCount} reads already`;
      throw new SilverbackError('RESOURCE_EXHAUSTED', message, { retryAfterMs: 500 });
    }
    readCount++;
    try {
      return await task();
    } finally {
      readCount--;
    }
  }

  server
    .duplex(shardsService.Write, (call) => serveWrites(call, { node, inFlight, observer, monotonicMs }))
    .stream(shardsService.Select, (request, call) => read(() => select(node, request, call)))
    .stream(shardsService.Series, (request, call) => read(() => series(node, request, call)))
    .unary(shardsService.LabelNames, (request, call) => read(() => labelNames(node, request, call)))
    .unary(shardsService.LabelValues, (request, call) => read(() => labelValues(node, request, call)))
    .unary(shardsService.Status, async () => ({ node: node.name, version, ready: node.ready, shards: node.status() }));
}
