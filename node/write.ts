/**
 * The `Write` stream of one client: each request's shard batches go to their shards at once, its reply
 * goes out when the last of them is settled, whatever the order of the requests.
 */
import { SilverbackError } from '../core/errors.ts';
import type { Duplex } from '../core/grpc.ts';
import { Pool, type Share } from '../core/pool.ts';
import type { ShardBatch, ShardOutcome, WireCode, WriteReply, WriteRequest } from '../core/protocol.ts';
import { toWire } from '../core/versions.ts';
import type { Brake, Brakes } from './brakes.ts';
import type { Callers, Tally } from './callers.ts';
import { type Greeted, greet } from './hello.ts';
import type { Node } from './node.ts';
import type { Sender } from './shard/sender.ts';
import type { Shard } from './shard/shard.ts';
import type { Turns } from './turns.ts';

const RETRY_MS = 200;

/** What a node has taken off the wire and not answered, over all streams. */
export class InFlight extends Pool {
  constructor(limits: { readonly maxBytes: number; readonly maxCount: number }) {
    super({ what: 'write requests', retryAfterMs: RETRY_MS, ...limits });
  }
}

/** Told of every request, for metrics. */
export interface WriteObserver {
  batch(sampleCount: number, outcome: ShardOutcome): void;
  request(durationMs: number): void;
}

export interface WriteContext {
  readonly node: Greeted & Pick<Node, 'taker'>;
  readonly inFlight: InFlight;
  readonly turns: Turns;
  readonly brakes: Brakes;
  readonly observer: WriteObserver;
  readonly monotonicMs: () => number;
  readonly callers: Callers;
}

/** Of one request, over its shards: what each shard takes at most. Its answer may have to name every one of them. */
const MAX_REQUEST_SAMPLES = 131_072;
/** Streams that have written, over all callers: what each has defined takes memory in its shards. */
const MAX_STREAMS = 1_024;
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
  /** Its caller's; undefined before it has said who it is. */
  #tally: Tally | undefined;
  #share: Share | undefined;
  #brake: Brake | undefined;
  #openCount = 0;
  #ended = false;
  #detached = false;

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
    const isFirst = this.#tally === undefined;
    const tally = this.#tally ?? this.#greet(request);
    if (request.shards.length === 0) {
      // The greeting, for itself: there is nothing to bound.
      const speaks = isFirst ? toWire(this.#context.node.spoken) : [];
      this.#call.send({ batchId: request.batchId, shards: [], speaks });
      return;
    }
    const share = this.#share as Share;
    const brake = this.#brake as Brake;
    const { inFlight, monotonicMs, turns } = this.#context;
    let bytes = 0;
    let samples = 0;
    for (const batch of request.shards) {
      bytes += bytesOf(batch);
      samples += batch.timestamps.length / 8;
    }
    tally.requestCount++;
    tally.byteCount += bytes;
    tally.sampleCount += samples;
    try {
      if (samples > MAX_REQUEST_SAMPLES) {
        const message = `request of ${samples} samples, at most ${MAX_REQUEST_SAMPLES} are accepted`;
        throw new SilverbackError('TOO_LARGE', message);
      }
      inFlight.enter(share, bytes);
    } catch (error) {
      if (!(error instanceof SilverbackError)) throw error;
      this.#turnAway(request, tally, error);
      return;
    }
    this.#openCount++;
    tally.inFlightCount++;
    tally.inFlightBytes += bytes;
    const startedMs = monotonicMs();
    brake.wait(bytes);
    turns.add(share, bytes, () => {
      brake.begin(bytes);
      this.#write(request, tally).finally(() => {
        inFlight.leave(share, bytes);
        tally.inFlightCount--;
        tally.inFlightBytes -= bytes;
        this.#context.observer.request(monotonicMs() - startedMs);
        this.#openCount--;
        this.#finishWhenDone();
      });
    });
  }

  /** The first request of the stream says whose it is. */
  #greet({ hello }: WriteRequest): Tally {
    const { node, brakes, callers, inFlight } = this.#context;
    greet(hello, node, ['batch']);
    if (callers.streamCount >= MAX_STREAMS) {
      const message = `node ${node.name} has ${callers.streamCount} streams of writers open, at most ${MAX_STREAMS} are accepted`;
      throw new SilverbackError('RESOURCE_EXHAUSTED', message, { retryAfterMs: 1_000 });
    }
    const caller = hello?.caller ?? '';
    // Processes of one name share what they may have under way if they run on one host.
    const holder = `${caller} at ${this.#call.caller.address.replace(/:\d+$/, '')}`;
    const tally = callers.of(caller);
    tally.streamCount++;
    this.#tally = tally;
    this.#share = inFlight.open(holder);
    this.#brake = brakes.open(holder, tally, this.#call);
    return tally;
  }

  /** Never rejects. */
  async #write(request: WriteRequest, tally: Tally): Promise<void> {
    // Its references went with the stream, and nobody is there to be answered.
    if (this.#detached) return;
    try {
      const shards = await Promise.all(request.shards.map((batch) => this.#append(batch, request, tally)));
      this.#call.send({ batchId: request.batchId, shards, speaks: [] });
    } catch (error) {
      // Expected failures are outcomes; this is a bug, and this stream's end.
      this.#call.finish(error);
    }
  }

  #turnAway({ batchId, shards }: WriteRequest, tally: Tally, error: SilverbackError): void {
    tally.turnedAwayCount++;
    this.#call.send({
      batchId,
      shards: shards.map((batch) => this.#observed(batch, refusal(batch.shard, error), tally)),
      speaks: [],
    });
  }

  async #append(batch: ShardBatch, { ack, peerWaitMs }: WriteRequest, tally: Tally): Promise<ShardOutcome> {
    let sender: Sender;
    try {
      sender = this.#sender(batch.shard);
    } catch (error) {
      if (!(error instanceof SilverbackError)) throw error;
      return this.#observed(batch, refusal(batch.shard, error), tally);
    }
    const { shard } = this.#senders.get(batch.shard) as { shard: Shard };
    const before = shard.seriesCount;
    // Series are made before this returns: whatever is new is this batch's.
    const appended = sender.append(batch, ack, peerWaitMs);
    tally.addSeries(shard.seriesCount - before);
    const { unknownRefs, exemplarCount, ...outcome } = await appended;
    const unknown = new Uint8Array(unknownRefs.buffer, unknownRefs.byteOffset, unknownRefs.byteLength);
    const told = { shard: batch.shard, ...outcome, unknownRefs: unknown, exemplars: exemplarCount };
    return this.#observed(batch, told, tally);
  }

  #observed(batch: ShardBatch, outcome: ShardOutcome, tally: Tally): ShardOutcome {
    const sampleCount = batch.timestamps.length / 8;
    this.#context.observer.batch(sampleCount, outcome);
    const { code, rejections } = outcome;
    if (code === 'RESOURCE_EXHAUSTED' || code === 'TOO_LARGE') {
      this.#brake?.refuse(bytesOf(batch), outcome.retryAfterMs || RETRY_MS);
    }
    if (code !== 'OK' && code !== 'UNKNOWN_REF') tally.refuse(code, sampleCount);
    else for (const one of rejections) if (one.code !== 'OK') tally.refuse(one.code, one.samples);
    return outcome;
  }

  #sender(id: number): Sender {
    const known = this.#senders.get(id);
    // A shard that has gone takes its references, and the memory behind them, with it.
    this.#senders.delete(id);
    const shard = this.#context.node.taker(id);
    const sender = known?.shard === shard ? known.sender : shard.attach(this.#share?.holder);
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
    if (this.#detached) return;
    this.#detached = true;
    if (this.#tally !== undefined) this.#tally.streamCount--;
    if (this.#share !== undefined) this.#context.inFlight.close(this.#share);
    if (this.#brake !== undefined) this.#context.brakes.close(this.#brake, this.#call);
  }
}

function bytesOf({ definitions, refs, counts, timestamps, values, exemplars, metadata }: ShardBatch): number {
  const columns = refs.length + counts.length + timestamps.length + values.length;
  return definitions.length + columns + exemplars.length + metadata.length;
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
