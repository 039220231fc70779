/**
 * One `Write` stream to one node: requests in, outcomes out, with a bounded window of requests under
 * way, and what the node knows of our references on it.
 *
 * Invariants: nothing is sent before the node has said what it speaks; a reference is used in a request only after its definition went out on the same stream; a
 * stream that broke has defined nothing; every shipment is answered exactly once.
 */

import type { Env, Timer } from '../core/env/env.ts';
import { SilverbackError } from '../core/errors.ts';
import { brokenBy, type Channel, type ClientDuplexStream, wasNeverSent } from '../core/grpc.ts';
import {
  type AckLevel,
  type Method,
  type ShardBatch,
  type ShardOutcome,
  shardsService,
  type WriteReply,
} from '../core/protocol.ts';
import { agree, helloOf, SPOKEN, type Spoken } from '../core/versions.ts';
import { annexBytes, type ColumnBatch, type ReferenceSource } from './columns.ts';

/** A stream whose oldest request has waited this long is given up: the node hangs, and others may have taken over. */
const STALLED_MS = 15_000;

/** Part of a shipment: the samples of one shard. */
export interface Cargo {
  readonly batch: ColumnBatch;
  /** Of the placement that named this node as the shard's owner. */
  readonly epoch: number;
}

/** What goes out as one request. */
export interface Shipment {
  readonly cargo: readonly Cargo[];
  readonly ack: AckLevel;
  /** With PEER: see the proto. Asked when the request is encoded. */
  peerWaitMs(): number;
  /** Asked right before it is encoded: whoever waited for it may have given up, and its columns may be gone. */
  isWanted(): boolean;
  /** The request has been handed to the connection: until it is answered, it may be stored. */
  onSent(): void;
}

/** Outcomes in the order of the cargo, or the reason why there are none; without `mayBeStored` the node has not got it. */
export type Answer =
  | { readonly outcomes: readonly ShardOutcome[] }
  | { readonly error: SilverbackError; readonly mayBeStored: boolean };

interface Entry {
  readonly shipment: Shipment;
  readonly sampleBytes: number;
  readonly answer: (answer: Answer) => void;
  sentMs: number;
}

// The request is encoded here and not by the call, which would do it whenever its queue gets to it: by
// then the columns may no longer be ours.
const encodedWrite: Method<Buffer, WriteReply> = {
  ...shardsService.Write,
  requestSerialize: (bytes) => bytes,
  requestDeserialize: (bytes) => bytes,
};

export interface NodeStreamOptions {
  readonly env: Env;
  readonly channel: Channel;
  readonly source: ReferenceSource;
  readonly caller: string;
  readonly clusterId: string;
  /** Default: all that this program speaks. */
  readonly spoken?: Spoken;
  readonly maxInFlightCount: number;
  readonly maxInFlightBytes: number;
}

/** A stream that is opened by the first shipment, and again by the first one after it broke. */
export class NodeStream {
  readonly #options: NodeStreamOptions;
  /** Requests sent and not answered, oldest first. */
  readonly #inFlight = new Map<number, Entry>();
  #waiting: Entry[] = [];
  #inFlightBytes = 0;
  #nextBatchId = 1;
  #call: ClientDuplexStream<Buffer, WriteReply> | undefined;
  #defined = new Map<number, RefSet>();
  #watch: Timer | undefined;
  /** The node has said what it speaks, and there is a version of everything in common. */
  #isAgreed = false;
  #openedMs = 0;
  /** Calls opened since the stream was made. */
  openCount = 0;

  constructor(options: NodeStreamOptions) {
    this.#options = options;
  }

  /** Never rejects. */
  send(shipment: Shipment): Promise<Answer> {
    return new Promise((answer) => {
      let sampleBytes = 0;
      for (const { batch } of shipment.cargo) {
        sampleBytes += batch.timestamps.length + batch.values.length + annexBytes(batch);
      }
      this.#waiting.push({ shipment, sampleBytes, answer, sentMs: 0 });
      this.#pump();
    });
  }

  /** The node is to be told again what `ref` stands for. */
  undefine(shard: number, ref: number): void {
    this.#defined.get(shard)?.remove(ref);
  }

  /** Ends the stream; what is open is answered with `error`. */
  close(error: SilverbackError): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#break(error, true);
    for (const entry of waiting) entry.answer({ error, mayBeStored: false });
  }

  #pump(): void {
    if (this.#waiting.length === 0) return;
    const call = this.#call ?? this.#open();
    while (this.#isAgreed && this.#waiting.length > 0 && this.#hasRoom(this.#waiting[0] as Entry)) {
      const entry = this.#waiting.shift() as Entry;
      if (entry.shipment.isWanted()) this.#ship(entry, call);
      else entry.answer({ error: new SilverbackError('TIMEOUT', 'given up before it was sent'), mayBeStored: false });
    }
  }

  #hasRoom(next: Entry): boolean {
    if (this.#inFlight.size === 0) return true;
    const { maxInFlightCount, maxInFlightBytes } = this.#options;
    return this.#inFlight.size < maxInFlightCount && this.#inFlightBytes + next.sampleBytes <= maxInFlightBytes;
  }

  #ship(entry: Entry, call: ClientDuplexStream<Buffer, WriteReply>): void {
    const { shipment } = entry;
    const batchId = this.#nextBatchId++;
    const request = shardsService.Write.requestSerialize({
      hello: null,
      batchId,
      ack: shipment.ack,
      peerWaitMs: shipment.peerWaitMs(),
      shards: shipment.cargo.map((cargo) => this.#encode(cargo)),
    });
    entry.sentMs = this.#options.env.clock.monotonicMs();
    this.#inFlight.set(batchId, entry);
    this.#inFlightBytes += entry.sampleBytes;
    shipment.onSent();
    call.write(request);
  }

  #encode({ batch, epoch }: Cargo): ShardBatch {
    return {
      shard: batch.shard,
      epoch,
      definitions: this.#define(batch),
      refs: bytesOf(batch.refs),
      counts: batch.counts === undefined ? NO_BYTES : bytesOf(batch.counts),
      timestamps: batch.timestamps,
      values: batch.values,
      exemplars: batch.exemplars ?? NO_BYTES,
      metadata: batch.metadata ?? NO_BYTES,
    };
  }

  /** The definitions of those references of the batch that this stream has not seen. */
  #define(batch: ColumnBatch): Uint8Array {
    let defined = this.#defined.get(batch.shard);
    if (defined === undefined) {
      defined = new RefSet();
      this.#defined.set(batch.shard, defined);
    }
    let out = NO_BYTES;
    let length = 0;
    for (const ref of batch.refs) {
      if (!defined.add(ref)) continue;
      const identity = this.#options.source.identity(batch.shard, ref);
      const end = length + 8 + identity.length;
      if (end > out.length) {
        const grown = Buffer.allocUnsafe(Math.max(4_096, 2 * end));
        grown.set(out.subarray(0, length));
        out = grown;
      }
      out.writeUInt32LE(ref, length);
      out.writeUInt32LE(identity.length, length + 4);
      out.set(identity, length + 8);
      length = end;
    }
    return out.subarray(0, length);
  }

  #open(): ClientDuplexStream<Buffer, WriteReply> {
    const call = this.#options.channel.duplex(encodedWrite);
    this.#call = call;
    this.openCount++;
    this.#defined = new Map();
    this.#isAgreed = false;
    this.#openedMs = this.#options.env.clock.monotonicMs();
    this.#watch = this.#options.env.timers.every(1_000, () => this.#checkStalled());
    const broke = (error: SilverbackError, mayBeStored: boolean) => {
      if (this.#call !== call) return;
      this.#break(error, mayBeStored);
      this.#pump();
    };
    call.on('data', (reply) => {
      if (this.#call === call) this.#take(reply);
    });
    call.on('error', (error) => broke(brokenBy(error), !wasNeverSent(error)));
    // A stream that ended well has no `error`; its node is stopping.
    call.on('status', () => broke(new SilverbackError('UNAVAILABLE', 'the node ended the stream'), true));
    const { spoken = SPOKEN, clusterId, caller } = this.#options;
    const hello = helloOf(spoken, clusterId, caller);
    call.write(shardsService.Write.requestSerialize({ hello, batchId: 0, ack: 'LOCAL', peerWaitMs: 0, shards: [] }));
    return call;
  }

  /** At the first reply. */
  #agree({ speaks }: WriteReply): void {
    const { spoken = SPOKEN, caller } = this.#options;
    try {
      agree(spoken, speaks, ['protocol', 'batch'], { us: caller, them: 'the node' });
      this.#isAgreed = true;
    } catch (error) {
      this.#break(error as SilverbackError, false);
    }
    this.#pump();
  }

  #take(reply: WriteReply): void {
    if (!this.#isAgreed) {
      this.#agree(reply);
      return;
    }
    const entry = this.#inFlight.get(reply.batchId);
    if (entry === undefined) return;
    this.#inFlight.delete(reply.batchId);
    this.#inFlightBytes -= entry.sampleBytes;
    if (reply.shards.length === entry.shipment.cargo.length) {
      entry.answer({ outcomes: reply.shards });
    } else {
      const message = `${reply.shards.length} outcomes for ${entry.shipment.cargo.length} shard batches`;
      entry.answer({ error: new SilverbackError('INTERNAL', message), mayBeStored: true });
    }
    this.#pump();
  }

  #break(error: SilverbackError, mayBeStored: boolean): void {
    const call = this.#call;
    // Who waits for a node that does not even greet is told, so that another one can be tried.
    const unsent = this.#isAgreed ? [] : this.#waiting.splice(0);
    this.#isAgreed = false;
    this.#call = undefined;
    this.#watch?.cancel();
    const open = [...this.#inFlight.values()];
    this.#inFlight.clear();
    this.#inFlightBytes = 0;
    call?.cancel();
    for (const entry of open) entry.answer({ error, mayBeStored });
    for (const entry of unsent) entry.answer({ error, mayBeStored: false });
  }

  #checkStalled(): void {
    const [oldest] = this.#inFlight.values();
    const sinceMs = this.#isAgreed ? oldest?.sentMs : this.#openedMs;
    if (sinceMs === undefined || this.#options.env.clock.monotonicMs() - sinceMs < STALLED_MS) return;
    this.#break(new SilverbackError('UNAVAILABLE', `the node has not answered for ${STALLED_MS} ms`), true);
    this.#pump();
  }
}

const NO_BYTES = Buffer.alloc(0);

/** The host's byte order is the wire's: every platform that Node runs on with wasm is little-endian. */
function bytesOf(words: Uint32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

/** A set of small numbers. */
class RefSet {
  #words = new Uint32Array(64);

  /** False if it was in already. */
  add(ref: number): boolean {
    const word = ref >>> 5;
    if (word >= this.#words.length) {
      const grown = new Uint32Array(Math.max(word + 1, 2 * this.#words.length));
      grown.set(this.#words);
      this.#words = grown;
    }
    const bits = this.#words[word] as number;
    const bit = 1 << (ref & 31);
    if ((bits & bit) !== 0) return false;
    this.#words[word] = bits | bit;
    return true;
  }

  remove(ref: number): void {
    const word = ref >>> 5;
    if (word < this.#words.length) this.#words[word] = (this.#words[word] as number) & ~(1 << (ref & 31));
  }
}
