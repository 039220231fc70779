/**
 * The way of samples to the nodes: batches of columns, one per shard, go to each shard's owner over
 * one gRPC stream per node.
 *
 * References. A `ReferenceSource` numbers its series per shard. The writer remembers, per stream,
 * which numbers the node has been told, and puts the identity of the others in front of their first
 * use. A stream that breaks forgets everything; a node that answers UNKNOWN_REF is told again.
 *
 * A write is safe to repeat (samples form a set), so whatever fails in a way that may pass is sent
 * again, to the owner the placement then names, until the write's time is up.
 */

import type { Env } from '../core/env/env.ts';
import { type ErrorCode, SilverbackError } from '../core/errors.ts';
import { Channel, type ChannelCredentials, MAX_MESSAGE_BYTES } from '../core/grpc.ts';
import { decodeIdentity, type Labels } from '../core/labels.ts';
import { isArriving, type PlacementView } from '../core/placement.ts';
import type { AckLevel, ExemplarRefusal, ShardOutcome } from '../core/protocol.ts';
import type { Spoken } from '../core/versions.ts';
import { backoffMs } from './backoff.ts';
import {
  annexBytes,
  type ColumnBatch,
  checkedBytes,
  PIECE_SAMPLES,
  pieces,
  type ReferenceSource,
  runsOf,
  SAMPLE_BYTES,
  sampleCount,
} from './columns.ts';
import { preferred } from './placement.ts';
import { type Answer, type Cargo, NodeStream } from './stream.ts';

export type { ColumnBatch, ReferenceSource } from './columns.ts';

/** Samples of one series that were refused while the rest of its batch was stored. */
export interface SeriesRejection {
  readonly ref: number;
  readonly labels: Labels;
  readonly code: ErrorCode;
  /** Names the series, the value and the rule. */
  readonly message: string;
  readonly sampleCount: number;
  /** 0: not known. */
  readonly retryAfterMs: number;
}

/** What became of one `ColumnBatch`. */
export interface ShardResult {
  readonly shard: number;
  /** `OK`: every sample that `rejections` does not name is acknowledged at the asked level. Else none is known to be. */
  readonly code: 'OK' | ErrorCode;
  /** Empty with `OK`. */
  readonly message: string;
  /** 0: not known. */
  readonly retryAfterMs: number;
  readonly acknowledgedCount: number;
  readonly rejections: readonly SeriesRejection[];
  /** Exemplars that are acknowledged. */
  readonly exemplarCount: number;
  /** Exemplars that never will be. */
  readonly refusedExemplars: readonly ExemplarRefusal[];
}

/** One result per batch, in the order of the batches. */
export interface WriteOutcome {
  readonly results: readonly ShardResult[];
  /** Samples acknowledged over all shards. */
  readonly acknowledgedCount: number;
}

/** What to do about UNCONFIRMED: try until the time is up, or take it for the outcome after 5 s. */
export type Unconfirmed = 'wait' | 'settle';

export interface WriteOptions {
  /** Default `LOCAL`. */
  readonly ack?: AckLevel;
  /** Of samples that no second failure zone has with `PEER`. Default `wait`. */
  readonly unconfirmed?: Unconfirmed;
  /** From the call to the outcome, retries included. What is out of time is UNCONFIRMED if it was sent, else the last obstacle's code. */
  readonly timeoutMs: number;
}

export interface WriterOptions {
  readonly env: Env;
  readonly placement: PlacementView;
  /** One writer serves one source: references of two sources would collide on a stream. */
  readonly source: ReferenceSource;
  /** Who writes, for the nodes' metrics and logs. */
  readonly caller: string;
  /** The home region. Its copies are tried first; undefined: all copies are alike. */
  readonly region?: string;
  /** Default: none (loopback). */
  readonly credentials?: ChannelCredentials;
  /** What may be written in. Default: all that this program speaks. */
  readonly spoken?: Spoken;
  /** Requests not yet answered, per node. Default 32. */
  readonly maxInFlightPerNode?: number;
  /** Bytes of batches the writer holds for all callers; a write past it is answered RESOURCE_EXHAUSTED at once. Default 256 MiB. */
  readonly maxHeldBytes?: number;
}

/** Counters since the writer was made, and what it holds now. */
export interface WriterStats {
  readonly requestCount: number;
  /** Samples that nodes took, or refused for good. */
  readonly sampleCount: number;
  readonly retryCount: number;
  readonly reconnectCount: number;
  readonly unknownRefCount: number;
  readonly notOwnerCount: number;
  readonly heldBytes: number;
}

/** How long a node waits for another zone for a writer that takes UNCONFIRMED for an outcome. */
const SETTLE_MS = 5_000;

/** UNKNOWN_REF answers to one batch after which the writer waits between tries like for any other obstacle. */
const QUICK_REDEFINITIONS = 3;

/** The door. `write` does not reject for anything that happens to the cluster: its outcome says it, shard by shard. */
export class Writer {
  readonly #options: WriterOptions;
  readonly #nodes = new Map<string, { readonly channel: Channel; readonly stream: NodeStream }>();
  readonly #maxHeldBytes: number;
  readonly #jobs = new Set<Job>();
  #heldBytes = 0;
  #closed = false;
  readonly #counters = { requestCount: 0, sampleCount: 0, retryCount: 0, unknownRefCount: 0, notOwnerCount: 0 };

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#maxHeldBytes = options.maxHeldBytes ?? 256 * 1024 * 1024;
  }

  /**
   * Sends the batches and tries until they are settled or the time is up. At most one batch per shard in a call is
   * best; several are allowed and are answered each for itself. Rejects only for columns that do not fit together.
   */
  write(batches: readonly ColumnBatch[], options: WriteOptions): Promise<WriteOutcome> {
    let bytes = 0;
    for (const batch of batches) bytes += checkedBytes(batch);
    if (this.#closed) return Promise.resolve(refuseAll(batches, closedError()));
    // One batch larger than the bound may pass alone, or it never would.
    if (this.#heldBytes > 0 && this.#heldBytes + bytes > this.#maxHeldBytes) {
      const message = `the writer holds ${this.#heldBytes} bytes, ${bytes} more are over its bound of ${this.#maxHeldBytes}`;
      return Promise.resolve(
        refuseAll(batches, new SilverbackError('RESOURCE_EXHAUSTED', message, { retryAfterMs: 500 })),
      );
    }
    this.#heldBytes += bytes;
    return new Promise((resolve) => {
      const { clock } = this.#options.env;
      const job = new Job(batches, options, clock.monotonicMs() + options.timeoutMs, () => {
        timer.cancel();
        this.#jobs.delete(job);
        this.#heldBytes -= bytes;
        resolve(job.outcome());
      });
      const timer = this.#options.env.timers.after(options.timeoutMs, () => job.expire());
      this.#jobs.add(job);
      void this.#deliver(job, job.parcels);
    });
  }

  /** The source gave `ref` to another series: the next use on every stream defines it again. */
  redefine(shard: number, ref: number): void {
    for (const { stream } of this.#nodes.values()) stream.undefine(shard, ref);
  }

  stats(): WriterStats {
    let reconnectCount = 0;
    for (const { stream } of this.#nodes.values()) reconnectCount += Math.max(0, stream.openCount - 1);
    return { ...this.#counters, reconnectCount, heldBytes: this.#heldBytes };
  }

  /** Ends the streams. Writes under way are answered UNAVAILABLE or, if they were sent, UNCONFIRMED. */
  close(): void {
    this.#closed = true;
    for (const job of this.#jobs) job.abandon();
    for (const { stream, channel } of this.#nodes.values()) {
      stream.close(closedError());
      channel.close();
    }
  }

  /** Settles the parcels, each group of them that goes to one node for itself. Never rejects. */
  async #deliver(job: Job, parcels: readonly Parcel[]): Promise<void> {
    const groups = await this.#route(job, parcels);
    await Promise.all(
      groups.map(async ([address, cargo, group]) => {
        if (address !== undefined) await this.#attempt(job, address, cargo, group);
        const open = group.filter((parcel) => parcel.result === undefined);
        if (open.length === 0 || job.isOver) return;
        this.#counters.retryCount++;
        await this.#pause(open);
        if (!job.isOver) await this.#deliver(job, open);
      }),
    );
  }

  /** Groups parcels by the node that is to take them; those that nobody takes are in a group without an address. */
  async #route(job: Job, parcels: readonly Parcel[]): Promise<[string | undefined, Cargo[], Parcel[]][]> {
    let placement = this.#options.placement.current();
    if (placement === undefined || parcels.some((parcel) => parcel.needsPlacement)) {
      try {
        placement = await this.#options.placement.refresh();
      } catch (error) {
        // The last one known stays in force: nodes take writes without coordinators.
        if (placement === undefined) {
          for (const parcel of parcels) parcel.hinder(asCoded(error));
          return [[undefined, [], [...parcels]]];
        }
      }
    }
    const groups = new Map<string | undefined, [string | undefined, Cargo[], Parcel[]]>();
    for (const parcel of parcels) {
      parcel.needsPlacement = false;
      const { shard } = parcel.batch;
      if (shard >= placement.shardCount) {
        const message = `shard ${shard} does not exist: the cluster has ${placement.shardCount}`;
        job.settle(parcel, new SilverbackError('INVALID_ARGUMENT', message));
        continue;
      }
      const places = placement.copies[shard] ?? [];
      const copies = preferred(places, this.#options.region, ['active', 'joining']).filter(
        (one) => !isArriving(one, places),
      );
      const copy = copies[parcel.detourCount % Math.max(1, copies.length)];
      if (copy === undefined) parcel.hinder(new SilverbackError('UNAVAILABLE', `no node takes shard ${shard}`));
      let group = groups.get(copy?.address);
      if (group === undefined) {
        group = [copy?.address, [], []];
        groups.set(copy?.address, group);
      }
      group[1].push({ batch: parcel.batch, epoch: copy?.epoch ?? 0 });
      group[2].push(parcel);
    }
    return [...groups.values()];
  }

  /** One request to one node for each handful of parcels that fits. */
  async #attempt(job: Job, address: string, cargo: readonly Cargo[], parcels: readonly Parcel[]): Promise<void> {
    const answers: Promise<void>[] = [];
    for (let from = 0; from < parcels.length; ) {
      let samples = 0;
      let to = from;
      for (; to < parcels.length; to++) {
        const { batch } = parcels[to] as Parcel;
        samples += sampleCount(batch) + annexBytes(batch) / SAMPLE_BYTES;
        if (to > from && samples > PIECE_SAMPLES) break;
      }
      const group = parcels.slice(from, to);
      let isSent = false;
      const answer = this.#stream(address).send({
        cargo: cargo.slice(from, to),
        ack: job.ack,
        peerWaitMs: () => job.peerWaitMs(this.#options.env.clock.monotonicMs()),
        isWanted: () => !job.isOver,
        onSent: () => {
          isSent = true;
          this.#counters.requestCount++;
          for (const parcel of group) parcel.unansweredCount++;
        },
      });
      const taken = answer.then((given) => {
        const isSettled = 'outcomes' in given || !given.mayBeStored;
        if (isSent && isSettled) for (const parcel of group) parcel.unansweredCount--;
        this.#take(job, address, group, given);
      });
      answers.push(taken);
      from = to;
    }
    await Promise.all(answers);
  }

  #take(job: Job, address: string, parcels: readonly Parcel[], answer: Answer): void {
    if (job.isOver) return;
    if ('error' in answer) {
      const { code, message } = answer.error;
      const error = new SilverbackError(code, `${address}: ${message}`, { cause: answer.error });
      for (const parcel of parcels) {
        // A node that refuses the request as such would refuse it again; one that broke off may be gone. Another node, or
        // the same after its restart, may speak what this program does.
        if (error.retryable || error.code === 'VERSION') parcel.detour(error);
        else job.settle(parcel, error);
      }
      return;
    }
    for (const [i, outcome] of answer.outcomes.entries()) this.#judge(job, address, parcels[i] as Parcel, outcome);
  }

  #judge(job: Job, address: string, parcel: Parcel, outcome: ShardOutcome): void {
    const { code, retryAfterMs } = outcome;
    if (code === 'OK' || code === 'UNKNOWN_REF') {
      this.#judgeStored(job, address, parcel, outcome);
      return;
    }
    // The definitions of a refused request may not have been taken in; UNKNOWN_REF will say which.
    const error = new SilverbackError(code, `${address}: ${outcome.message}`, { retryAfterMs });
    switch (code) {
      case 'NOT_OWNER':
        this.#counters.notOwnerCount++;
        // Once more from the same placement: nobody can tell who owns it now, and another copy may take it.
        parcel.detour(error, parcel.obstacle.code === 'NOT_OWNER');
        break;
      case 'UNAVAILABLE':
      case 'DISK_FAILED':
        parcel.detour(error);
        break;
      case 'RESOURCE_EXHAUSTED':
        parcel.hinder(error);
        break;
      case 'UNCONFIRMED':
        parcel.isStored = true;
        if (job.waits) parcel.hinder(error);
        else job.settle(parcel, error);
        break;
      default:
        job.settle(parcel, error);
    }
  }

  /** Part of the batch, or all of it, is stored: takes in what was refused, keeps what must be sent again. */
  #judgeStored(job: Job, address: string, parcel: Parcel, outcome: ShardOutcome): void {
    const { batch } = parcel;
    parcel.exemplarCount += outcome.exemplars;
    parcel.refusedExemplars.push(...outcome.refusedExemplars);
    const unknown = wordsOf(outcome.unknownRefs);
    const again = new Set(unknown);
    let obstacle: SilverbackError | undefined;
    for (const { ref, code, message, retryAfterMs } of outcome.rejections) {
      if (code !== 'RESOURCE_EXHAUSTED') continue;
      // There will be room when a window has sealed. Samples of the run that found room are sent again with it.
      again.add(ref);
      obstacle = new SilverbackError(code, `${address}: ${message}`, { retryAfterMs });
    }
    for (const { ref, code, message, samples, retryAfterMs } of outcome.rejections) {
      if (again.has(ref)) continue;
      const labels = decodeIdentity(this.#options.source.identity(batch.shard, ref));
      // A node that says OK here breaks the protocol; its message still says something.
      const refusal: ErrorCode = code === 'OK' ? 'INTERNAL' : code;
      parcel.rejections.push({ ref, labels, code: refusal, message, sampleCount: samples, retryAfterMs });
      parcel.rejectedCount += samples;
    }
    if (outcome.code === 'OK' && again.size === 0) {
      this.#counters.sampleCount += parcel.openCount();
      job.settle(parcel, undefined);
      return;
    }
    if (unknown.length > 0 || outcome.code === 'UNKNOWN_REF') {
      this.#counters.unknownRefCount++;
      this.#forget(address, batch.shard, unknown.length === 0 ? batch.refs : unknown);
      parcel.redefinitionCount++;
      const message = `${address}: ${unknown.length} references of shard ${batch.shard} are not known there`;
      obstacle ??= new SilverbackError('UNKNOWN_REF', message);
    }
    if (again.size > 0) {
      const before = parcel.openCount();
      parcel.batch = runsOf(batch, again);
      this.#counters.sampleCount += before - parcel.openCount();
    }
    parcel.hinder(obstacle ?? new SilverbackError('INTERNAL', `${address}: an outcome without a reason`));
  }

  #forget(address: string, shard: number, refs: Uint32Array): void {
    const stream = this.#nodes.get(address)?.stream;
    for (const ref of refs) stream?.undefine(shard, ref);
  }

  #pause(parcels: readonly Parcel[]): Promise<void> {
    const { env } = this.#options;
    let delayMs = 0;
    for (const parcel of parcels) {
      const isQuick = parcel.obstacle.code === 'UNKNOWN_REF' && parcel.redefinitionCount <= QUICK_REDEFINITIONS;
      const ownMs = isQuick
        ? 0
        : Math.max(parcel.obstacle.retryAfterMs ?? 0, backoffMs(env.random, parcel.failureCount));
      delayMs = Math.max(delayMs, ownMs);
    }
    return delayMs === 0 ? Promise.resolve() : new Promise((resolve) => void env.timers.after(delayMs, resolve));
  }

  #stream(address: string): NodeStream {
    let node = this.#nodes.get(address);
    if (node === undefined) {
      const { env, source, caller, credentials, spoken } = this.#options;
      const channel = new Channel(address, { clock: env.clock, caller, ...(credentials && { credentials }) });
      const stream = new NodeStream({
        env,
        channel,
        source,
        caller,
        clusterId: this.#options.placement.current()?.clusterId ?? '',
        ...(spoken && { spoken }),
        maxInFlightCount: this.#options.maxInFlightPerNode ?? 32,
        maxInFlightBytes: 2 * MAX_MESSAGE_BYTES,
      });
      node = { channel, stream };
      this.#nodes.set(address, node);
    }
    return node.stream;
  }
}

/** Shared: an error of its own, with its stack, would cost more than the rest of a parcel. */
const NOT_SENT = new SilverbackError(
  'UNAVAILABLE',
  'the write was not sent in time: earlier ones are not answered yet',
);

/** A batch, or a piece of one, on its way. */
class Parcel {
  readonly batchIndex: number;
  /** What is still to be stored. Shrinks when a node stores part of it. */
  batch: ColumnBatch;
  readonly rejections: SeriesRejection[] = [];
  rejectedCount = 0;
  exemplarCount = 0;
  readonly refusedExemplars: ExemplarRefusal[] = [];
  /** Requests with it that were sent and have no outcome, not yet or never: while there are any, it may be stored. */
  unansweredCount = 0;
  /** A node said UNCONFIRMED of it. */
  isStored = false;
  /** Copies passed over because they did not take it. */
  detourCount = 0;
  failureCount = 0;
  redefinitionCount = 0;
  needsPlacement = false;
  obstacle: SilverbackError = NOT_SENT;
  /** Set once it is settled. */
  result: { readonly error: SilverbackError | undefined } | undefined;

  constructor(batch: ColumnBatch, batchIndex: number) {
    this.batch = batch;
    this.batchIndex = batchIndex;
  }

  openCount(): number {
    return sampleCount(this.batch);
  }

  /** The same node may take it later. */
  hinder(error: SilverbackError): void {
    this.obstacle = error;
    this.failureCount++;
  }

  /** The node is the wrong one, or gone: ask who owns the shard and, with `pass`, try its next copy. */
  detour(error: SilverbackError, pass = true): void {
    this.hinder(error);
    this.needsPlacement = true;
    if (pass) this.detourCount++;
  }
}

/** One call of `write`. */
class Job {
  readonly ack: AckLevel;
  /** UNCONFIRMED is no outcome before the time is up. */
  readonly waits: boolean;
  readonly parcels: Parcel[];
  readonly #batches: readonly ColumnBatch[];
  readonly #timeoutMs: number;
  readonly #deadlineMs: number;
  readonly #onOver: () => void;
  #openCount: number;

  constructor(batches: readonly ColumnBatch[], options: WriteOptions, deadlineMs: number, onOver: () => void) {
    this.ack = options.ack ?? 'LOCAL';
    this.waits = options.unconfirmed !== 'settle';
    this.#deadlineMs = deadlineMs;
    this.#batches = batches;
    this.#timeoutMs = options.timeoutMs;
    this.#onOver = onOver;
    this.parcels = batches.flatMap((batch, index) => pieces(batch).map((piece) => new Parcel(piece, index)));
    this.#openCount = this.parcels.length;
    // Not within the constructor: the caller does not know the job yet.
    if (this.#openCount === 0) queueMicrotask(onOver);
  }

  /** Settled or out of time: nobody waits any more, and the columns may be gone. */
  get isOver(): boolean {
    return this.#openCount === 0;
  }

  /** How long the node may wait for another zone, so that its answer comes before the time is up. */
  peerWaitMs(nowMs: number): number {
    if (this.ack !== 'PEER') return 0;
    const leftMs = this.#deadlineMs - nowMs;
    const waitMs = Math.max(1, Math.floor(leftMs - Math.min(1_000, leftMs / 4)));
    return this.waits ? waitMs : Math.min(waitMs, SETTLE_MS);
  }

  settle(parcel: Parcel, error: SilverbackError | undefined): void {
    if (parcel.result !== undefined) return;
    parcel.result = { error };
    if (--this.#openCount === 0) this.#onOver();
  }

  /** The time is up. */
  expire(): void {
    this.#giveUp((obstacle) => `after ${Math.round(this.#timeoutMs)} ms: ${obstacle.message}`);
  }

  /** The writer is closed. */
  abandon(): void {
    this.#giveUp(() => 'before the writer was closed', 'UNAVAILABLE');
  }

  #giveUp(reason: (obstacle: SilverbackError) => string, code?: ErrorCode): void {
    for (const parcel of this.parcels) {
      const { unansweredCount, isStored, obstacle } = parcel;
      const options = { retryAfterMs: obstacle.retryAfterMs ?? 0, cause: obstacle };
      const error =
        unansweredCount > 0 || isStored
          ? new SilverbackError('UNCONFIRMED', `not confirmed ${reason(obstacle)}`, options)
          : new SilverbackError(code ?? obstacle.code, `not stored ${reason(obstacle)}`, options);
      this.settle(parcel, error);
    }
  }

  outcome(): WriteOutcome {
    const results = this.#batches.map((batch) => ({
      shard: batch.shard,
      code: 'OK' as 'OK' | ErrorCode,
      message: '',
      retryAfterMs: 0,
      acknowledgedCount: sampleCount(batch),
      rejections: [] as SeriesRejection[],
      exemplarCount: 0,
      refusedExemplars: [] as ExemplarRefusal[],
    }));
    let acknowledgedCount = 0;
    for (const parcel of this.parcels) {
      const result = results[parcel.batchIndex] as (typeof results)[number];
      const error = parcel.result?.error;
      result.acknowledgedCount -= parcel.rejectedCount + (error === undefined ? 0 : parcel.openCount());
      result.rejections.push(...parcel.rejections);
      result.exemplarCount += parcel.exemplarCount;
      result.refusedExemplars.push(...parcel.refusedExemplars);
      if (error === undefined || result.code !== 'OK') continue;
      result.code = error.code;
      result.message = error.message;
      result.retryAfterMs = error.retryAfterMs ?? 0;
    }
    for (const result of results) acknowledgedCount += result.acknowledgedCount;
    return { results, acknowledgedCount };
  }
}

/** Packed u32 as numbers. Copies: the bytes of a message lie at any offset. */
function wordsOf(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(Uint8Array.from(bytes).buffer);
}

function refuseAll(batches: readonly ColumnBatch[], error: SilverbackError): WriteOutcome {
  const { code, message } = error;
  const results = batches.map(({ shard }) => ({
    shard,
    code,
    message,
    retryAfterMs: error.retryAfterMs ?? 0,
    acknowledgedCount: 0,
    rejections: [],
    exemplarCount: 0,
    refusedExemplars: [],
  }));
  return { results, acknowledgedCount: 0 };
}

function closedError(): SilverbackError {
  return new SilverbackError('UNAVAILABLE', 'the writer is closed');
}

function asCoded(error: unknown): SilverbackError {
  return error instanceof SilverbackError ? error : new SilverbackError('INTERNAL', String(error), { cause: error });
}
