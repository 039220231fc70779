/**
 * How samples enter a shard. An `Intake` per shard, a `Sender` per stream of a client.
 *
 * Everything from the translation of references to the hand-over to the log is one synchronous step, so that a log record
 * and the state it describes can never differ in order. Only the wait for the log is asynchronous.
 */
import type { Clock } from '../../core/env/env.ts';
import { type ErrorCode, SilverbackError, wireCode } from '../../core/errors.ts';
import { type BatchColumns, startOfBatch } from '../../core/kernel/batch.ts';
import type { RefTable, RejectedSamples, SeriesId, ShardKernel } from '../../core/kernel/shard.ts';
import type { Share } from '../../core/pool.ts';
import type { AckLevel, ExemplarRefusal, Rejection, WireCode } from '../../core/protocol.ts';
import type { Annex, AnnexColumns } from './annex.ts';
import { type Catalogue, FULL_RETRY_MS, shownLabels } from './catalogue.ts';
import { readDefinitions } from './definitions.ts';
import type { Deletion, Deletions } from './deletions.ts';
import { Hitters, metricOf } from './hitters.ts';
import type { Log } from './log.ts';
import type { ShardSettings } from './options.ts';
import type { Recorder } from './recorder.ts';
import type { Retention } from './retention.ts';
import type { Room } from './room.ts';
import { OWN_ORIGIN } from './segment.ts';

/** What one sender wants stored, packed little-endian (proto `ShardBatch`). */
export interface Batch extends BatchColumns, AnnexColumns {
  /** See definitions.ts; the numbers are references. Taken before the samples. */
  readonly definitions: Uint8Array;
}

export interface AppendOutcome {
  /** OK: every sample not named below is stored and acknowledged as asked. Otherwise none is, though some may be stored. */
  readonly code: WireCode;
  readonly message: string;
  /** 0: none advised. */
  readonly retryAfterMs: number;
  /** References whose samples were not stored because they are not defined (any more), each once. */
  readonly unknownRefs: Uint32Array;
  /** Samples that were refused, by series and reason. */
  readonly rejections: readonly Rejection[];
  /** Exemplars acknowledged. */
  readonly exemplarCount: number;
  readonly refusedExemplars: readonly ExemplarRefusal[];
}

/** Refusals that a sender remembers from one batch to the next, so that samples of a refused series are told why. */
const MAX_REFUSED_REFS = 10_000;
/** Rejections of a batch that name their series and the rule in full; the rest refer to these, or the answer would outgrow a message. */
const MAX_NAMED_REJECTIONS = 64;
const AS_NAMED = 'refused as those that are named';
/** Bounds of what a batch may take of the kernel: cells of a run that begins, and a sample that does not compress. */
const RUN_BYTES = 192;
const SAMPLE_BYTES = 16;
const RETRY_MS = 1000;
const NO_REFS = new Uint32Array(0);

/** Copies of the shard in other failure zones. */
export interface Peers {
  /** The record with `sequence` is going to be waited for: it is shipped at once. */
  announce(sequence: number): void;
  /** Resolves when one of them has the record with `sequence` in its log. Rejects with UNCONFIRMED after about `waitMs`. */
  reached(sequence: number, waitMs: number): Promise<void>;
}

export interface IntakeParts {
  readonly kernel: ShardKernel;
  readonly catalogue: Catalogue;
  readonly deletions: Deletions;
  readonly annex: Annex;
  readonly log: Log;
  readonly recorder: Recorder;
  readonly room: Room;
  readonly peers: Peers;
  readonly memory: Pick<Retention, 'admit' | 'grown'>;
}

export class Intake {
  readonly #clock: Clock;
  readonly #kernel: ShardKernel;
  readonly #catalogue: Catalogue;
  readonly #deletions: Deletions;
  readonly #annex: Annex;
  readonly #log: Log;
  readonly #settings: ShardSettings;
  readonly #senders = new Set<Sender>();
  readonly #recorder: Recorder;
  readonly #room: Room;
  readonly #peers: Peers;
  readonly #memory: IntakeParts['memory'];
  readonly #refusedMetrics = new Hitters();
  #closed = false;
  #pressed = false;
  #acceptedCount = 0;
  #refusedCount = 0;

  constructor(clock: Clock, parts: IntakeParts, settings: ShardSettings) {
    this.#clock = clock;
    this.#kernel = parts.kernel;
    this.#catalogue = parts.catalogue;
    this.#deletions = parts.deletions;
    this.#annex = parts.annex;
    this.#log = parts.log;
    this.#recorder = parts.recorder;
    this.#room = parts.room;
    this.#peers = parts.peers;
    this.#memory = parts.memory;
    this.#settings = settings;
  }

  /** Samples stored since the shard was opened; repeated ones count. */
  get acceptedCount(): number {
    return this.#acceptedCount;
  }

  get refusedCount(): number {
    return this.#refusedCount;
  }

  /** Of new series that found no room: the metrics that had most of them. */
  get refusedMetrics(): Hitters {
    return this.#refusedMetrics;
  }

  get senderCount(): number {
    return this.#senders.size;
  }

  /** True once after samples were refused for want of windows or memory. */
  takePressure(): boolean {
    const pressed = this.#pressed;
    this.#pressed = false;
    return pressed;
  }

  /** Room is wanted: as if samples had been refused. */
  press(): void {
    this.#pressed = true;
  }

  attach(holder: string): Sender {
    if (this.#closed) throw this.#closedError();
    const refs = this.#kernel.createRefs();
    const sender = new Sender(this, { refs, share: this.#room.open(holder), refused: new Map() });
    this.#senders.add(sender);
    return sender;
  }

  /**
   * Deletes an interval of some living series, at most MAX_LISTED. In force when this returns, durable when
   * `Recorder.deletionsDurable` says so. Throws RESOURCE_EXHAUSTED past the limit, and what the log throws.
   */
  delete(ids: readonly SeriesId[], fromMs: number, toMs: number): void {
    if (this.#closed) throw this.#closedError();
    const fresh: Deletion[] = [];
    for (const id of ids) {
      const deletion = { id, fromMs, toMs };
      if (!this.#deletions.covers(deletion)) fresh.push(deletion);
    }
    if (fresh.length === 0) return;
    const { count } = this.#deletions;
    const { maxDeletionCount } = this.#settings.limits;
    if (count + fresh.length > maxDeletionCount) {
      const message = `shard ${this.#settings.shard} keeps ${count} deletions, ${fresh.length} more would exceed the ${maxDeletionCount} that are accepted`;
      throw new SilverbackError('RESOURCE_EXHAUSTED', message, { retryAfterMs: 60_000 });
    }
    this.#recorder.delete(fresh, OWN_ORIGIN);
    for (const deletion of fresh) this.#deletions.add(deletion);
  }

  close(): void {
    this.#closed = true;
    for (const sender of this.#senders) sender.detach();
  }

  /** For `Sender` only. */
  detach(sender: Sender, { refs, share }: Belongings): void {
    if (!this.#senders.delete(sender)) return;
    this.#kernel.dropRefs(refs);
    this.#room.close(share);
  }

  /** For `Sender` only: `define`. Throws the refusal. */
  define(refs: RefTable, ref: number, identity: Uint8Array): void {
    if (this.#closed) throw this.#closedError();
    const id = this.#catalogue.admit(identity);
    this.#recorder.use(id);
    this.#kernel.defineRef(refs, ref, id);
  }

  /** For `Sender` only: `append`. */
  async append(own: Belongings, batch: Batch, asked: Asked): Promise<AppendOutcome> {
    const step = this.#step(own, batch);
    const failure = step.failure ?? (step.sequence === 0 ? undefined : await this.#confirm(step.sequence, asked));
    return {
      code: failure === undefined ? 'OK' : wireCode(failure.code),
      message: failure?.message ?? '',
      retryAfterMs: failure?.retryAfterMs ?? 0,
      unknownRefs: step.unknownRefs,
      rejections: step.rejections,
      exemplarCount: failure === undefined ? step.exemplarCount : 0,
      refusedExemplars: step.refusedExemplars,
    };
  }

  async #confirm(sequence: number, { ack, peerWaitMs }: Asked): Promise<SilverbackError | undefined> {
    const startedMs = this.#clock.monotonicMs();
    // Before the log has it: who follows the log looks as soon as it does.
    if (ack === 'PEER') this.#peers.announce(sequence);
    try {
      if (ack === 'FSYNC') await this.#log.synced(sequence);
      else await this.#log.written(sequence);
      if (ack !== 'FSYNC') this.#settings.committed(this.#clock.monotonicMs() - startedMs);
      if (ack === 'PEER') await this.#peers.reached(sequence, peerWaitMs);
      return undefined;
    } catch (error) {
      if (error instanceof SilverbackError) return error;
      throw error;
    }
  }

  /** The synchronous part. `sequence`: that of the last log record, 0 when nothing was logged. */
  #step(own: Belongings, batch: Batch): Step {
    const step: Step = {
      sequence: 0,
      failure: undefined,
      unknownRefs: NO_REFS,
      rejections: [],
      exemplarCount: 0,
      refusedExemplars: [],
    };
    const unknown = new Set<number>();
    try {
      if (this.#closed) throw this.#closedError();
      if (this.#log.failure !== undefined) throw this.#log.failure;
      const sampleCount = batch.timestamps.length / 8;
      const { maxBatchSampleCount } = this.#settings.limits;
      if (sampleCount > maxBatchSampleCount) {
        throw new SilverbackError(
          'TOO_LARGE',
          `batch of ${sampleCount} samples for shard ${this.#settings.shard}, at most ${maxBatchSampleCount} are accepted`,
        );
      }
      const besideBytes = (batch.exemplars?.length ?? 0) + (batch.metadata?.length ?? 0);
      const logBytes = batch.definitions.length + batch.timestamps.length * 2 + batch.refs.length * 2 + besideBytes;
      this.#room.take(own.share, logBytes, () => {
        this.#admitMemory(batch, sampleCount);
        this.#takeDefinitions(own.refs, batch.definitions, own.refused);
        this.#store(own.refs, batch, step, unknown);
      });
    } catch (error) {
      if (!(error instanceof SilverbackError)) throw error;
      step.failure = error;
    }
    this.#memory.grown();
    if (own.refused.size > 0) this.#explainRefused(batch, unknown, own.refused, step.rejections);
    step.unknownRefs = Uint32Array.from(unknown);
    return step;
  }

  /** What is stored of the batch goes into the kernel and the log; what becomes of it into `step` and `unknown`. */
  #store(refs: RefTable, batch: Batch, step: Step, unknown: Set<number>): void {
    const nowMs = this.#clock.nowMs();
    const admission = {
      minMs: Math.max(0, nowMs - this.#settings.maxSampleAgeMs),
      maxMs: nowMs + this.#settings.maxFutureMs,
    };
    const cursor = startOfBatch();
    while (!cursor.done) {
      this.#recorder.followSegment();
      const slice = this.#kernel.append(refs, batch, admission, cursor);
      for (const ref of slice.unknownRefs) unknown.add(ref);
      // Naming the series calls the kernel, which ends the life of the slice's views: the log comes first.
      const rejections = slice.rejections;
      this.#acceptedCount += slice.acceptedCount;
      if (slice.record.length > 0) step.sequence = this.#recorder.record(slice, OWN_ORIGIN);
      for (const rejected of rejections) step.rejections.push(this.#rejection(rejected, nowMs, step.rejections.length));
    }
    const beside = this.#annex.append(this.#log, batch);
    step.sequence = Math.max(step.sequence, beside.sequence);
    step.exemplarCount = beside.exemplarCount;
    step.refusedExemplars = beside.refused;
  }

  #admitMemory({ refs, definitions }: Batch, sampleCount: number): void {
    try {
      this.#memory.admit(definitions.length + (refs.length / 4) * RUN_BYTES + sampleCount * SAMPLE_BYTES);
    } catch (error) {
      this.#pressed = true;
      throw error;
    }
  }

  #takeDefinitions(refs: RefTable, bytes: Uint8Array, refused: Map<number, SilverbackError>): void {
    let namedCount = 0;
    const unnamed = new Map<ErrorCode, SilverbackError>();
    const refuse = (ref: number, code: ErrorCode, retryAfterMs: number | undefined) => {
      let error = unnamed.get(code);
      if (error === undefined) {
        error = new SilverbackError(code, AS_NAMED, retryAfterMs === undefined ? {} : { retryAfterMs });
        unnamed.set(code, error);
      }
      refused.set(ref, error);
    };
    readDefinitions(bytes, 'INVALID_ARGUMENT', (ref, identity) => {
      // Refusing must cost less than admitting: of those that find no room, few get an error of their own.
      if (namedCount >= MAX_NAMED_REJECTIONS && this.#catalogue.fullness !== undefined) {
        if (this.#catalogue.find(identity) === undefined) {
          this.#refusedMetrics.add(metricOf(identity));
          refuse(ref, 'SERIES_LIMIT', FULL_RETRY_MS);
          return;
        }
      }
      try {
        this.define(refs, ref, identity);
        refused.delete(ref);
      } catch (error) {
        if (!(error instanceof SilverbackError)) throw error;
        if (namedCount++ < MAX_NAMED_REJECTIONS) refused.set(ref, error);
        else refuse(ref, error.code, error.retryAfterMs);
        if (error.code === 'SERIES_LIMIT') this.#refusedMetrics.add(metricOf(identity));
        if (error.code === 'RESOURCE_EXHAUSTED') this.#pressed = true;
      }
    });
  }

  #rejection(rejected: RejectedSamples, nowMs: number, index: number): Rejection {
    this.#refusedCount += rejected.sampleCount;
    const { maxSampleAgeMs, maxFutureMs, limits } = this.#settings;
    const isNamed = index < MAX_NAMED_REJECTIONS;
    const series = isNamed ? shownLabels(this.#catalogue.labels(rejected.seriesId)) : '';
    const what = rejected.sampleCount === 1 ? 'sample at' : `${rejected.sampleCount} samples, the first at`;
    const sample = `series ${series}: ${what} ${atMs(rejected.timestampMs)}`;
    const of = (code: WireCode, message: string, retryAfterMs = 0): Rejection => ({
      ref: rejected.ref,
      code,
      message: isNamed ? message : AS_NAMED,
      samples: rejected.sampleCount,
      retryAfterMs,
    });
    switch (rejected.reason) {
      case 'old':
        return of(
          'TOO_OLD',
          `${sample}, older than the accepted age of ${maxSampleAgeMs / 3_600_000} h (it is ${atMs(nowMs)})`,
        );
      case 'ahead':
        return of(
          'TOO_FAR_AHEAD',
          `${sample}, more than the accepted ${maxFutureMs / 60_000} min ahead (it is ${atMs(nowMs)})`,
        );
      case 'negative':
        return of('INVALID_ARGUMENT', `${sample}, before 1970`);
      case 'windows':
        this.#pressed = true;
        return of(
          'RESOURCE_EXHAUSTED',
          `${sample}, would open one more window than the ${limits.maxOpenWindowCount} that may be open`,
          RETRY_MS,
        );
      case 'memory':
        this.#pressed = true;
        return of(
          'RESOURCE_EXHAUSTED',
          `${sample}, the shard's ${limits.maxKernelBytes} bytes for open windows are full`,
          RETRY_MS,
        );
    }
  }

  /** Turns unknown references whose definition was refused into rejections that say so. */
  #explainRefused(
    batch: Batch,
    unknown: Set<number>,
    refused: Map<number, SilverbackError>,
    rejections: Rejection[],
  ): void {
    const isFull = this.#catalogue.fullness !== undefined;
    const counts = new Map<number, number>();
    const refs = new DataView(batch.refs.buffer, batch.refs.byteOffset, batch.refs.byteLength);
    const runs = new DataView(batch.counts.buffer, batch.counts.byteOffset, batch.counts.byteLength);
    for (let i = 0; i * 4 + 4 <= refs.byteLength; i++) {
      const ref = refs.getUint32(i * 4, true);
      if (!unknown.has(ref) || !refused.has(ref)) continue;
      counts.set(ref, (counts.get(ref) ?? 0) + (runs.byteLength === 0 ? 1 : runs.getUint32(i * 4, true)));
    }
    for (const [ref, samples] of counts) {
      const error = refused.get(ref) as SilverbackError;
      // What may succeed now is asked for anew: the sender gets UNKNOWN_REF next time and defines it again.
      if (error.code === 'SERIES_LIMIT' ? !isFull : error.retryable) refused.delete(ref);
      unknown.delete(ref);
      this.#refusedCount += samples;
      rejections.push({
        ref,
        code: wireCode(error.code),
        message: error.message,
        samples,
        retryAfterMs: error.retryAfterMs ?? 0,
      });
    }
    for (const ref of refused.keys()) {
      if (refused.size <= MAX_REFUSED_REFS) break;
      refused.delete(ref);
    }
  }

  #closedError(): SilverbackError {
    return new SilverbackError('UNAVAILABLE', `shard ${this.#settings.shard} is closing`, { retryAfterMs: RETRY_MS });
  }
}

/** What a sender has of its shard. */
interface Belongings {
  readonly refs: RefTable;
  readonly share: Share;
  readonly refused: Map<number, SilverbackError>;
}

/** The acknowledgement. */
interface Asked {
  readonly ack: AckLevel;
  readonly peerWaitMs: number;
}

interface Step {
  sequence: number;
  failure: SilverbackError | undefined;
  unknownRefs: Uint32Array;
  readonly rejections: Rejection[];
  exemplarCount: number;
  refusedExemplars: readonly ExemplarRefusal[];
}

/** A sender's own reference space in one shard, and its way in. References are good until `detach`, or until told unknown. */
export class Sender {
  readonly #intake: Intake;
  readonly #own: Belongings;
  #attached = true;

  /** Made by `Shard.attach`. */
  constructor(intake: Intake, own: Belongings) {
    this.#intake = intake;
    this.#own = own;
  }

  /**
   * Binds a reference to the series of these identity bytes, rebinds it if it was bound. Throws INVALID_LABELS, SERIES_LIMIT,
   * TOO_LARGE (the reference), RESOURCE_EXHAUSTED. `batch.definitions` does the same, a refusal then answers the samples.
   */
  define(ref: number, identity: Uint8Array): void {
    if (!this.#attached) throw new SilverbackError('UNAVAILABLE', 'the sender is detached');
    this.#intake.define(this.#own.refs, ref, identity);
    this.#own.refused.delete(ref);
  }

  /**
   * Stores a batch. Its samples can be read when this returns its promise; the promise resolves when the log has them as
   * `ack` asks. Every expected failure is in the outcome. Repeating a batch, whole or in part, changes nothing.
   * `peerWaitMs`: see the proto.
   */
  async append(batch: Batch, ack: AckLevel, peerWaitMs = 0): Promise<AppendOutcome> {
    if (!this.#attached) {
      const message = 'the sender is detached';
      const nothing = { unknownRefs: NO_REFS, rejections: [], exemplarCount: 0, refusedExemplars: [] };
      return { code: 'UNAVAILABLE', message, retryAfterMs: RETRY_MS, ...nothing };
    }
    return this.#intake.append(this.#own, batch, { ack, peerWaitMs });
  }

  /** Gives the references back. */
  detach(): void {
    if (!this.#attached) return;
    this.#attached = false;
    this.#intake.detach(this, this.#own);
  }
}

/** As people write it, with the number that was sent. */
function atMs(timestampMs: number): string {
  const date = new Date(timestampMs);
  return Number.isNaN(date.getTime()) ? `${timestampMs} ms` : `${date.toISOString()} (${timestampMs} ms)`;
}
