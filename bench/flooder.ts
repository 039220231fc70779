/**
 * A program that writes to a node as fast as its connections take it, with no regard to what it is answered, until its input
 * ends; then it prints what that was: `{"replies": {code: count}, "messages": [with N for numbers], "retryAfterMs"}`.
 * Arguments: the node's host:port, connections, samples of a request, the caller's name.
 */
import { nodeEnv } from '../core/env/node.ts';
import { Channel, fromStatus } from '../core/grpc.ts';
import { encodeIdentity, makeLabels } from '../core/labels.ts';
import { type ShardBatch, shardsService, type WriteReply } from '../core/protocol.ts';
import { helloOf, SPOKEN } from '../core/versions.ts';

const [address = '', connections, samples, caller = 'flooder'] = process.argv.slice(2);
const sampleCount = Number(samples);
const NO_BYTES = new Uint8Array(0);
const MAX_MESSAGES = 16;

const replies: Record<string, number> = {};
const messages = new Set<string>();
let retryAfterMs = 0;
let stopping = false;

function batch(connection: number): ShardBatch {
  const identity = encodeIdentity(makeLabels({ __name__: 'flood', connection: String(connection) }));
  const definitions = Buffer.alloc(8 + identity.length);
  definitions.writeUInt32LE(identity.length, 4);
  definitions.set(identity, 8);
  const fromMs = Date.now() - sampleCount;
  const timestamps = BigInt64Array.from({ length: sampleCount }, (_, i) => BigInt(fromMs + i));
  return {
    shard: 0,
    epoch: 0,
    definitions,
    refs: new Uint8Array(4),
    counts: new Uint8Array(Uint32Array.of(sampleCount).buffer),
    timestamps: new Uint8Array(timestamps.buffer),
    // Such that no two are alike, so that the log has to take all of their bytes.
    values: Uint8Array.from({ length: 8 * sampleCount }, () => Math.random() * 256),
    exemplars: NO_BYTES,
    metadata: NO_BYTES,
  };
}

async function flood(connection: number): Promise<void> {
  const channel = new Channel(address, { clock: nodeEnv.clock, caller });
  const call = channel.duplex(shardsService.Write);
  const count = (code: string) => {
    replies[code] = (replies[code] ?? 0) + 1;
  };
  let wake: () => void = () => undefined;
  call.on('drain', () => wake());
  call.on('error', (error) => {
    if (!stopping) count(fromStatus(error).code);
    wake();
  });
  call.on('data', (reply: WriteReply) => {
    for (const outcome of reply.shards) {
      count(outcome.code);
      if (outcome.code !== 'RESOURCE_EXHAUSTED' && outcome.code !== 'TOO_LARGE') continue;
      if (messages.size < MAX_MESSAGES) messages.add(outcome.message.replace(/\d+/g, 'N'));
      retryAfterMs = outcome.retryAfterMs;
    }
  });
  const shards = [batch(connection)];
  const hello = helloOf(SPOKEN, '', caller);
  for (let batchId = 1; !stopping && !call.destroyed; batchId++) {
    const isTaken = call.write({ hello, batchId, ack: 'LOCAL', peerWaitMs: 0, shards });
    // The node reads slower than this writes, at times not at all.
    await new Promise<void>((resolve) => {
      wake = resolve;
      if (isTaken) setImmediate(resolve);
    });
  }
  call.cancel();
  channel.close();
}

process.stdin.on('end', () => {
  process.stdout.write(`${JSON.stringify({ replies, messages: [...messages], retryAfterMs })}\n`, () => process.exit());
  stopping = true;
});
process.stdin.resume();
await Promise.all(Array.from({ length: Number(connections) }, (_, i) => flood(i)));
