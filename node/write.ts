/**
 * The `Write` stream of one client: each request's shard batches go to their shards at once, its reply
 * goes out when the last of them is settled, whatever the order of the requests.
 */
import { SilverbackError } from '../core/errors.ts';
import type { Duplex } from '../core/grpc.ts';
import type { Rejection, ShardBatch, ShardOutcome, WireCode, WriteReply, WriteRequest } from '../core/protocol.ts';
import type { Callers } from './callers.ts';
import { checkHello } from './hello.ts';
import type { Node } from './node.ts';
import type { Sender } from './shard/sender.ts';
import type { Shard } from './shard/shard.ts';

/** What a node has taken off the wire and not answered, over all streams. */
export class InFlight {
  readonly maxBytes: number;
  readonly maxCount: number;
  bytes = 0;
  count = 0;

  constructor(limits: { readonly maxBytes: number; readonly maxCount: number }) {
    this.maxBytes = limits.maxBytes;
    this.maxCount = limits.maxCount;
  }

  /** False: it does not fit. A request that is larger than everything passes when it is alone. */
  enter(bytes: number): boolean {
    if (this.count > 0 && (this.bytes + bytes > this.maxBytes || this.count >= this.maxCount)) return false;
    this.bytes += bytes;
    this.count++;
    return true;
  }

  leave(bytes: number): void {
    this.bytes -= bytes;
    this.count--;
  }
}

/** Told of every request, for metrics. */
export interface WriteObserver {
  batch(sampleCount: number, outcome: ShardOutcome): void;
  request(durationMs: number): void;
}

export interface WriteContext {
  readonly node: Pick<Node, 'taker' | 'clusterId' | 'name'>;
  readonly inFlight: InFlight;
  readonly observer: WriteObserver;
  readonly monotonicMs: () => number;
  readonly callers?: Callers;
}

const RETRY_MS = 200;
const NO_BYTES = new Uint8Array(0);

/** Serves a stream until its end. */
export function serveWrites(call: Duplex<WriteRequest, WriteReply>, context: WriteContext): void {
  new WriteStream(call, context).listen();
}

class WriteStream {
  readonly #call: Duplex<WriteRequest, WriteReply>;
  readonly #context: WriteContext;
  /** This stream's references, in each shard it has written to. */
  readonly #senders = new Map<number, { readonly shard: Shard; readonly sender: Sender }>();
  #greeted = false;
  #caller = '';
  #openCount = 0;
  #ended = false;

  constructor(call: Duplex<WriteRequest, WriteReply>, context: WriteContext) {
    this.#call = call;
    this.#context = context;
  }

  listen(): void {
    this.#call.listen({
      request: (request) => this.#take(request),
      end: () => {
        this.#ended = true;
        this.#finishWhenDone();
      },
    });
    this.#call.signal.addEventListener('abort', () => this.#detach());
  }

  #take(request: WriteRequest): void {
    if (!this.#greeted) checkHello(request.hello, this.#context.node);
    this.#greeted = true;
    this.#caller ||= request.hello?.caller ?? '';
    const { inFlight, monotonicMs, observer } = this.#context;
    let bytes = 0;
    for (const batch of request.shards) bytes += bytesOf(batch);
    if (!inFlight.enter(bytes)) {
      const { maxBytes, maxCount } = inFlight;
      const message = `node ${this.#context.node.name} has ${inFlight.count} requests of ${inFlight.bytes} bytes under way, at most ${maxCount} and ${maxBytes} are accepted`;
      const error = new SilverbackError('RESOURCE_EXHAUSTED', message, { retryAfterMs: RETRY_MS });
      const shards = request.shards.map((batch) => this.#observed(batch, refusal(batch.shard, error)));
      this.#call.send({ batchId: request.batchId, shards });
      return;
    }
    this.#openCount++;
    const startedMs = monotonicMs();
    Promise.all(request.shards.map((batch) => this.#append(batch, request)))
      .then(
        (shards) => this.#call.send({ batchId: request.batchId, shards }),
        // Expected failures are outcomes; this is a bug, and this stream's end.
        (error: unknown) => this.#call.finish(error),
      )
      .finally(() => {
        inFlight.leave(bytes);
        observer.request(monotonicMs() - startedMs);
        this.#openCount--;
        this.#finishWhenDone();
      });
  }

  async #append(batch: ShardBatch, { ack, peerWaitMs }: WriteRequest): Promise<ShardOutcome> {
    let sender: Sender;
    try {
      sender = this.#sender(batch.shard);
    } catch (error) {
      if (!(error instanceof SilverbackError)) throw error;
      return this.#observed(batch, refusal(batch.shard, error));
    }
    const { shard } = this.#senders.get(batch.shard) as { shard: Shard };
    const before = shard.seriesCount;
    // Series are made before this returns: whatever is new is this batch's.
    const appended = sender.append(batch, ack, peerWaitMs);
    const newSeriesCount = shard.seriesCount - before;
    const { unknownRefs, exemplarCount, ...outcome } = await appended;
    this.#context.callers?.count(this.#caller, newSeriesCount, refusedForSeries(outcome.rejections));
    const unknown = new Uint8Array(unknownRefs.buffer, unknownRefs.byteOffset, unknownRefs.byteLength);
    return this.#observed(batch, { shard: batch.shard, ...outcome, unknownRefs: unknown, exemplars: exemplarCount });
  }

  #observed(batch: ShardBatch, outcome: ShardOutcome): ShardOutcome {
    this.#context.observer.batch(batch.timestamps.length / 8, outcome);
    return outcome;
  }

  #sender(id: number): Sender {
    const known = this.#senders.get(id);
    // A shard that has gone takes its references, and the memory behind them, with it.
    this.#senders.delete(id);
    const shard = this.#context.node.taker(id);
    const sender = known?.shard === shard ? known.sender : shard.attach();
    this.#senders.set(id, { shard, sender });
    return sender;
  }

  #finishWhenDone(): void {
    if (!this.#ended || this.#openCount > 0) return;
    this.#call.finish();
    this.#detach();
  }

  #detach(): void {
    for (const { sender } of this.#senders.values()) sender.detach();
    this.#senders.clear();
  }
}

function bytesOf({ definitions, refs, counts, timestamps, values, exemplars, metadata }: ShardBatch): number {
  const columns = refs.length + counts.length + timestamps.length + values.length;
  return definitions.length + columns + exemplars.length + metadata.length;
}

/** Samples of series that the shard has no room for. */
function refusedForSeries(rejections: readonly Rejection[]): number {
  let count = 0;
  for (const { code, samples } of rejections) if (code === 'SERIES_LIMIT') count += samples;
  return count;
}

function refusal(shard: number, error: SilverbackError): ShardOutcome {
  // The errors of this file and of `Node.taker` travel; no others come here.
  const code = error.code as WireCode;
  return {
    shard,
    code,
    message: error.message,
    retryAfterMs: error.retryAfterMs ?? 0,
    unknownRefs: NO_BYTES,
    rejections: [],
    exemplars: 0,
    refusedExemplars: [],
  };
}
