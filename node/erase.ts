/** Deleting, and taking out what is deleted: the asked shards one after the other. One that fails does not keep the others. */
import { SilverbackError, wireCode } from '../core/errors.ts';
import type { CleanRequest, DeleteRequest, EraseReply, ShardFailure } from '../core/protocol.ts';
import { type Greeted, greet } from './hello.ts';
import type { Node } from './node.ts';
import { fromWire } from './read.ts';
import type { Shard } from './shard/shard.ts';

type Server = Greeted & Pick<Node, 'find' | 'nowMs'>;

/** How far the asker's clock may be ahead: up to here, "until now" means until this node's now. */
const CLOCK_DIFFERENCE_MS = 10_000;

export function serveDelete(request: DeleteRequest, node: Server, signal: AbortSignal): Promise<EraseReply> {
  greet(request.hello, node);
  const matchers = request.matchers.map(fromWire);
  const { fromMs, toMs } = request;
  const { nowMs } = node;
  const untilMs = toMs > nowMs && toMs - nowMs <= CLOCK_DIFFERENCE_MS ? nowMs : toMs;
  // All that is left of the interval may be the difference.
  if (fromMs > untilMs && fromMs <= toMs) return Promise.resolve({ failures: [] });
  return eachShard(request.shards, node, (shard) => shard.delete(matchers, fromMs, untilMs, signal));
}

export function serveClean(request: CleanRequest, node: Server): Promise<EraseReply> {
  greet(request.hello, node);
  return eachShard(request.shards, node, (shard) => shard.clean());
}

async function eachShard(
  shards: readonly number[],
  node: Server,
  task: (shard: Shard) => Promise<unknown>,
): Promise<EraseReply> {
  const failures: ShardFailure[] = [];
  for (const id of shards) {
    try {
      await task(node.find(id));
    } catch (error) {
      if (!(error instanceof SilverbackError)) throw error;
      failures.push({ shard: id, code: wireCode(error.code), message: error.message });
    }
  }
  return { failures };
}
