/**
 * The log of one shard: what is acknowledged is in here first; recovery and replication read it ("the log is the queue").
 *
 * Records go into groups in memory, each of which becomes a frame (LZ4, CRC). One write is under way at a time; the groups that
 * fill meanwhile go together with the next one, so that a disk whose every write takes long does not take them one by one. An
 * fdatasync follows a write within `syncDelayMs`. An idle log has no timer and no buffer. The layout is in segment.ts.
 *
 * Invariants
 * - Sequences start at 1, grow by 1 with each record, and are never given to a second record: an open after an unclean end
 *   goes on SEQUENCE_SKIP above the last record found, and no more than that is ever handed out ahead of an fsync.
 * - An incarnation is durable (in the header of a synced segment) before anybody is told of it.
 * - `segment` changes in `startSegment`, when a write is prepared and never inside `append`. So whoever reads `segment`,
 *   appends the definitions which that segment still lacks, and then the records that use them, all in one synchronous step,
 *   has them in one segment, definitions first.
 * - The last segment file is never removed: it is what an open learns from how far sequences got.
 *
 * Rule for the user: within one segment a log series id is never defined for two different series. After a quarantined
 * range an id whose definition was lost is then unknown (its records can be counted as lost), not wrong.
 *
 * What a crash leaves behind
 * - kill -9: every record whose `written` resolved. Perhaps more frames, and a part of one at the end; the next open cuts that
 *   and reports it.
 * - Power cut: every record whose `synced` resolved; of later ones any part, holes included. Whole frames after a hole are
 *   kept, the hole is reported and set aside.
 * - In `open`, at any point: the same log again. The clean mark of the former life stays until a synced segment without one
 *   follows it; repairs copy aside first, then overwrite, and are done again if they were interrupted.
 * - In `release`, at any point: some of the removed segments may be back. Nothing depends on their absence.
 *
 * Failures: an error of write or fsync other than a full disk fails the log for good; only a restart goes on, since what the
 * system then holds of the file is unknown. A full disk does not: the frame stays queued and is tried again every second
 * at the same offset, new records are refused meanwhile, waiting acknowledgements are told. Nothing is dropped or reordered.
 */
import type { Env, Timer } from '../../core/env/env.ts';
import { messageOf, SilverbackError } from '../../core/errors.ts';
import { Deferred, Group } from './group.ts';
import { Reader, type ReaderAccess } from './reader.ts';
import { type RecoveredLog, recoverLog, SEQUENCE_SKIP } from './recover.ts';
import {
  encodeSegmentHeader,
  FRAME_HEADER_BYTES,
  FrameFlag,
  type FrameHeader,
  type Incarnation,
  isFull,
  type Life,
  type LogProblem,
  MAX_RECORD_BYTES,
  OWN_ORIGIN,
  type Position,
  putFrameHeader,
  RECORD_OVERHEAD_BYTES,
  RecordKind,
  SEGMENT_HEADER_BYTES,
  type Segment,
  segmentName,
} from './segment.ts';
import { Tail } from './tail.ts';

export type { Incarnation, LogProblem, Position, Reader };
export { RecordKind };

export interface LogOptions {
  readonly shard: number;
  /** A segment that holds this much is followed by a new one. Default 16 MiB. */
  readonly segmentBytes?: number;
  /** Records of so many bytes become a frame. Default 64 KiB. */
  readonly groupBytes?: number;
  /** fdatasync at most this long after a write. Default 100. */
  readonly syncDelayMs?: number;
  /** Bound of the bytes appended but not yet taken by the system. Default 8 MiB. */
  readonly maxPendingBytes?: number;
  /** Bound of the bytes of the files that no fsync has covered: what a power cut may take. Default 64 MiB. */
  readonly maxUnsyncedBytes?: number;
  /**
   * Where the shard will replay from (its checkpoint's position). Segments wholly before it are verified only when they are
   * read, and new sequences start above it. Default: the beginning.
   */
  readonly from?: Position;
}

export interface Recovered {
  /** The log was closed in order before, or is new: its incarnation goes on, nothing was lost. */
  readonly clean: boolean;
  /** One past the last record found. */
  readonly endSequence: number;
  readonly segmentCount: number;
  readonly byteCount: number;
  readonly problems: readonly LogProblem[];
}

export interface SegmentInfo {
  readonly file: string;
  readonly firstSequence: number;
  /** One past its last record. */
  readonly endSequence: number;
  readonly byteCount: number;
}

const FULL_RETRY_MS = 1000;

/** What a write takes at most, unpacked, unless it is a single record. */
const WRITE_BYTES = 4 * 1024 * 1024;
/** Groups packed in a row: some milliseconds. */
const PACKED_AT_A_TIME = 8;

const DONE = Promise.resolve();

interface SyncWaiter {
  readonly sequence: number;
  readonly waiting: Deferred;
}

export class Log {
  /**
   * Opens or creates the log in `directory` (made if missing), cutting and setting aside what is broken. A full disk does not
   * keep it from found.
   * @throws DISK_FAILED; VERSION; INVALID_ARGUMENT if the log belongs to another shard.
   */
  static async open(
    env: Env,
    directory: string,
    options: LogOptions,
  ): Promise<{ readonly log: Log; readonly recovered: Recovered }> {
    let found: RecoveredLog;
    try {
      found = await recoverLog(env, directory, options);
    } catch (cause) {
      if (cause instanceof SilverbackError) throw cause;
      const message = `shard ${options.shard}: opening the log in ${directory} failed: ${messageOf(cause)}`;
      throw new SilverbackError('DISK_FAILED', message, { cause });
    }
    const log = new Log(env, directory, options, found);
    const { clean, endSequence, problems, segments } = found;
    const recovered = { clean, endSequence, problems, segmentCount: segments.length, byteCount: log.byteCount };
    await log.establish(found.reusable);
    return { log, recovered };
  }

  private readonly segmentBytes: number;
  private readonly syncDelayMs: number;
  readonly maxPendingBytes: number;
  private readonly maxUnsyncedBytes: number;
  private readonly incarnation: Incarnation;
  private readonly lives: readonly Life[];
  /** The files, oldest first. The last one is being written, or was until a new number began. */
  private readonly files: Segment[];
  private activeNumber: number;
  /** The active segment has records, written or not. */
  private activeUsed = false;
  /** Groups not yet written, in order; appends go to the last one while it has room and its segment is the active one. */
  private queue: Group[] = [];
  /** So many of the first groups of the queue are packed, or being written: they take no more. */
  private takenCount = 0;
  private flushing: Promise<void> | undefined;
  private nextSequence: number;
  private writtenEnd: number;
  private syncedEnd: number;
  /** One past the last record that entered the cluster here. Of those found at the open, each may have. */
  private ownEnd: number;
  private pending = 0;
  private last = { bytes: Number.POSITIVE_INFINITY, durationMs: 1 };
  private unsynced = 0;
  private dirty: Segment[] = [];
  private directoryDirty = false;
  private syncTimer: Timer | undefined;
  private syncing: Promise<void> | undefined;
  private syncWaiters: SyncWaiter[] = [];
  private failed: SilverbackError | undefined;
  /** Set while the disk is full. */
  private full: SilverbackError | undefined;
  private wakeRetry: (() => void) | undefined;
  /** The first segment of this open is not durable yet (the disk is full): nothing may be appended. */
  private unestablished = false;
  private closing: Promise<void> | undefined;
  private readonly problemList: LogProblem[] = [];
  private readonly listeners = new Set<() => void>();
  private readonly latest = new Tail();

  private constructor(
    private readonly env: Env,
    private readonly directory: string,
    private readonly options: LogOptions,
    found: RecoveredLog,
  ) {
    this.segmentBytes = options.segmentBytes ?? 16 * 1024 * 1024;
    this.syncDelayMs = options.syncDelayMs ?? 100;
    this.maxUnsyncedBytes = options.maxUnsyncedBytes ?? 64 * 1024 * 1024;
    this.maxPendingBytes = options.maxPendingBytes ?? 8 * 1024 * 1024;
    this.incarnation = found.incarnation;
    this.lives = found.lives;
    this.files = found.segments;
    this.nextSequence = found.nextSequence;
    this.writtenEnd = found.nextSequence;
    this.syncedEnd = found.nextSequence;
    this.ownEnd = found.nextSequence;
    this.activeNumber = (this.files.at(-1)?.number ?? 0) + (found.reusable ? 0 : 1);
  }

  /** The active segment. Records appended now go into it. Changes in `startSegment` and between turns, never in `append`. */
  get segment(): number {
    return this.activeNumber;
  }

  /** Why the log takes no more, if it failed. */
  get failure(): SilverbackError | undefined {
    return this.failed;
  }

  /** Damage found by readers since the open. */
  get problems(): readonly LogProblem[] {
    return this.problemList;
  }

  /** Bytes of the segment files. */
  get byteCount(): number {
    let bytes = 0;
    for (const file of this.files) bytes += file.byteCount;
    return bytes;
  }

  /** Bytes appended but not yet taken by the system, unpacked. */
  get pendingBytes(): number {
    return this.pending;
  }

  /** How much the system took with the last write, unpacked, and how long it took for that. */
  get lastWrite(): { readonly bytes: number; readonly durationMs: number } {
    return this.last;
  }

  /** Bytes of the files that no fsync has covered yet. */
  get unsyncedBytes(): number {
    return this.unsynced;
  }

  /**
   * Throws what `append` would throw for `byteCount` more bytes (RECORD_OVERHEAD_BYTES a record counted), so that a step
   * that appends several records is refused before its first. What it admits, appends in the same synchronous step are taken.
   * @throws RESOURCE_EXHAUSTED past maxPendingBytes or maxUnsyncedBytes, or while the disk is full; DISK_FAILED; UNAVAILABLE after close.
   */
  admit(byteCount: number): void {
    if (this.failed !== undefined) throw this.failed;
    if (this.closing !== undefined)
      throw new SilverbackError('UNAVAILABLE', `shard ${this.options.shard}: log is closed`);
    if (this.full !== undefined) throw this.full;
    // A single step may be larger than the bound: an empty log takes it, or nobody ever would.
    if (this.pending > 0 && this.pending + byteCount > this.maxPendingBytes) {
      throw new SilverbackError(
        'RESOURCE_EXHAUSTED',
        `shard ${this.options.shard}: ${this.pending} bytes wait for the log's disk, ${byteCount} more would exceed ${this.maxPendingBytes}`,
        { retryAfterMs: 100 },
      );
    }
    // Of the room that is left a step may take half: so what is small is still taken when what is large has to wait.
    if (this.unsynced > 0 && this.unsynced + 2 * byteCount > this.maxUnsyncedBytes) {
      throw new SilverbackError(
        'RESOURCE_EXHAUSTED',
        `shard ${this.options.shard}: ${this.unsynced} bytes of the log wait for an fsync, at most ${this.maxUnsyncedBytes} may: ${byteCount} more have to wait`,
        { retryAfterMs: 1000 },
      );
    }
    if (this.nextSequence - this.syncedEnd >= SEQUENCE_SKIP) {
      throw new SilverbackError(
        'RESOURCE_EXHAUSTED',
        `shard ${this.options.shard}: too many records wait for an fsync`,
        {
          retryAfterMs: 1000,
        },
      );
    }
  }

  /**
   * Takes a record (copies the payload) and returns its sequence. Synchronous.
   * @throws as `admit`; TOO_LARGE for a record above MAX_RECORD_BYTES.
   */
  append(kind: RecordKind, origin: number, payload: Uint8Array | readonly Uint8Array[]): number {
    let length = 0;
    if (payload instanceof Uint8Array) length = payload.length;
    else for (const part of payload) length += part.length;
    if (length > MAX_RECORD_BYTES) {
      throw new SilverbackError('TOO_LARGE', `log record of ${length} bytes, at most ${MAX_RECORD_BYTES}`);
    }
    const size = RECORD_OVERHEAD_BYTES + length;
    this.admit(size);
    const group = this.groupFor(size);
    group.put(kind, origin, payload, length);
    this.pending += size;
    this.activeUsed = true;
    this.flushing ??= this.flush();
    const sequence = this.nextSequence++;
    if (origin === OWN_ORIGIN) this.ownEnd = this.nextSequence;
    return sequence;
  }

  private groupFor(size: number): Group {
    const last = this.queue.length > this.takenCount ? this.queue[this.queue.length - 1]! : undefined;
    if (last !== undefined && last.segment === this.activeNumber && last.hasRoom(size)) return last;
    const group = new Group(this.activeNumber, this.nextSequence, size, this.options.groupBytes);
    this.queue.push(group);
    return group;
  }

  /**
   * Resolves when the system has taken every record up to and with `sequence`: they survive kill -9.
   * @throws DISK_FAILED; RESOURCE_EXHAUSTED when the disk is full: the record stays queued and will be tried again, so
   * whoever sees this may send again, harmlessly; UNAVAILABLE if the log closed before.
   */
  written(sequence: number): Promise<void> {
    if (sequence < this.writtenEnd) return DONE;
    const refusal = this.failed ?? this.full;
    if (refusal !== undefined) return Promise.reject(refusal);
    for (let i = this.queue.length - 1; i >= 0; i--) {
      const group = this.queue[i]!;
      if (group.firstSequence > sequence) continue;
      if (sequence >= group.endSequence) break;
      group.waiting ??= new Deferred();
      return group.waiting.promise;
    }
    return Promise.reject(
      new SilverbackError('INTERNAL', `shard ${this.options.shard}: sequence ${sequence} was not handed out`),
    );
  }

  /** Resolves when every record up to and with `sequence` survives a power cut. Asks for an fsync at once. @throws as `written`. */
  synced(sequence: number): Promise<void> {
    if (sequence < this.syncedEnd) return DONE;
    const refusal = this.failed ?? (sequence < this.writtenEnd ? undefined : this.full);
    if (refusal !== undefined) return Promise.reject(refusal);
    if (sequence >= this.nextSequence) {
      return Promise.reject(
        new SilverbackError('INTERNAL', `shard ${this.options.shard}: sequence ${sequence} was not handed out`),
      );
    }
    const last = this.syncWaiters.at(-1);
    if (last?.sequence === sequence) return last.waiting.promise;
    const waiting = new Deferred();
    this.syncWaiters.push({ sequence, waiting });
    if (sequence < this.writtenEnd) this.scheduleSync();
    return waiting.promise;
  }

  /** From here on nothing that was appended so far entered the cluster here. */
  get ownSequence(): number {
    return this.ownEnd;
  }

  /** One past the last record that the system has taken. */
  get writtenSequence(): number {
    return this.writtenEnd;
  }

  /** One past the last record that survives a power cut. */
  get syncedSequence(): number {
    return this.syncedEnd;
  }

  /** Calls `listener` after each write; returns the way to stop. While there are any, the latest frames stay in memory for readers. */
  onWritten(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) this.latest.clear();
    };
  }

  /** Where the next record will go. A checkpoint of all that was appended so far carries this. */
  tail(): Position {
    return { incarnation: this.incarnation, sequence: this.nextSequence };
  }

  /** Of this life and of those before, the present one first; at most 16 that ended are known. */
  get incarnations(): readonly Incarnation[] {
    return [this.incarnation, ...this.lives.map(({ incarnation }) => incarnation).reverse()];
  }

  /** Ends the active segment, unless it is empty: what is appended from now on goes into a new one. */
  startSegment(): void {
    if (!this.activeUsed) return;
    this.activeNumber++;
    this.activeUsed = false;
  }

  /** A reader from `from` on. See `clamp` for where it really starts. */
  read(from: Position): Reader {
    return new Reader(this.access(), this.clamp(from));
  }

  /**
   * Where a reader at `from` goes on: not beyond what was recovered of that incarnation, not before the oldest record kept;
   * the oldest record for an incarnation that is not known.
   */
  clamp(from: Position): Position {
    const oldest = this.files[0];
    const start: Position =
      oldest === undefined
        ? { incarnation: this.incarnation, sequence: this.nextSequence }
        : { incarnation: oldest.header.incarnation, sequence: oldest.header.firstSequence };
    let end: number | undefined;
    if (from.incarnation === this.incarnation) end = this.nextSequence;
    else end = this.lives.find((life) => life.incarnation === from.incarnation)?.endSequence;
    if (end === undefined) return start;
    const sequence = Math.min(from.sequence, end);
    return sequence < start.sequence ? start : { incarnation: from.incarnation, sequence };
  }

  /** How many records there were between: what an incarnation lost at its end, and what the next one leaves out, are none. */
  countBetween(from: Position, to: number): number {
    const life = this.lives.find(({ incarnation }) => incarnation === from.incarnation);
    const start = Math.min(from.sequence, life?.endSequence ?? from.sequence);
    const skipped = this.lives.filter(({ endSequence }) => start <= endSequence && endSequence + SEQUENCE_SKIP <= to);
    return Math.max(0, to - start - skipped.length * SEQUENCE_SKIP);
  }

  /** Removes segments all of whose records are before `sequence`; never the last one, nor one not yet synced. */
  async release(sequence: number): Promise<void> {
    let count = 0;
    while (count < this.files.length - 1) {
      const file = this.files[count]!;
      if (file.endSequence > sequence || file.file !== undefined) break;
      count++;
    }
    for (const file of this.files.splice(0, count)) {
      try {
        await this.env.disk.remove(file.path);
      } catch (cause) {
        const message = `shard ${this.options.shard}: removing ${file.path} failed: ${messageOf(cause)}`;
        throw new SilverbackError('DISK_FAILED', message, { cause });
      }
    }
  }

  segments(): SegmentInfo[] {
    return this.files.map((file) => ({
      file: file.path,
      firstSequence: file.header.firstSequence,
      endSequence: file.endSequence,
      byteCount: file.byteCount,
    }));
  }

  /** Writes what is pending, syncs, marks a clean end. Rejects if that fails; the log is closed all the same. */
  close(): Promise<void> {
    this.closing ??= this.shutDown();
    return this.closing;
  }

  // Writing

  /** Writes the queue until it is empty. Starts in a turn of its own, so that a turn's appends go together. */
  private async flush(): Promise<void> {
    await this.env.timers.yield();
    while (this.failed === undefined && (this.queue.length > 0 || this.unestablished)) {
      try {
        if (this.unestablished) await this.createFirst();
        if (this.queue.length > 0) await this.writeNext();
      } catch (error) {
        if (!isFull(error)) this.fail('writing', error);
        else if (!(await this.waitForSpace(error))) break;
      } finally {
        this.takenCount = 0;
      }
    }
    this.flushing = undefined;
  }

  /** Writes the first groups of the queue. */
  private async writeNext(): Promise<void> {
    const groups = await this.packNext();
    const last = groups.at(-1);
    if (last === undefined || this.failed !== undefined) return;
    const segment = await this.segmentOf(last.segment, groups[0]!.firstSequence);
    const frames = groups.map((group) => group.frame(this.incarnation));
    const parts = segment.byteCount === 0 ? [encodeSegmentHeader(segment.header), ...frames] : frames;
    let byteCount = 0;
    for (const part of parts) byteCount += part.length;
    // Roll before the write: what is appended while it is under way then already goes into the next segment.
    if (last.segment === this.activeNumber && segment.byteCount + byteCount >= this.segmentBytes) this.startSegment();
    const startedMs = this.env.clock.monotonicMs();
    await segment.file!.write(parts, segment.byteCount);
    if (this.failed !== undefined) return;
    this.full = undefined;
    for (const part of parts) {
      // A copy where somebody follows: the group's buffer is another's soon.
      if (this.listeners.size > 0) this.latest.put(segment.number, segment.byteCount, Buffer.from(part));
      segment.byteCount += part.length;
    }
    this.unsynced += byteCount;
    segment.endSequence = last.endSequence;
    this.writtenEnd = last.endSequence;
    this.queue.splice(0, groups.length);
    this.takenCount = 0;
    this.last = { bytes: 0, durationMs: this.env.clock.monotonicMs() - startedMs };
    for (const group of groups) {
      this.last.bytes += group.byteCount;
      this.pending -= group.byteCount;
      group.free();
      group.waiting?.resolve();
    }
    if (!this.dirty.includes(segment)) this.dirty.push(segment);
    this.scheduleSync();
    for (const listener of this.listeners) listener();
  }

  /**
   * The groups of the next write, packed: those of one segment, up to WRITE_BYTES. Which they are is the same again after a
   * write that found the disk full, or more: the same bytes go to the same place.
   */
  private async packNext(): Promise<readonly Group[]> {
    const groups: Group[] = [];
    let byteCount = 0;
    for (;;) {
      const group = this.queue[groups.length];
      if (group === undefined || group.segment !== (groups[0] ?? group).segment) return groups;
      byteCount += group.byteCount;
      if (groups.length > 0 && byteCount > WRITE_BYTES) return groups;
      this.takenCount = groups.push(group);
      group.frame(this.incarnation);
      if (groups.length % PACKED_AT_A_TIME === 0) await this.env.timers.yield();
    }
  }

  /** The file for what begins with `firstSequence`, created if that is the first of its segment. Its header goes with the first frame. */
  private async segmentOf(number: number, firstSequence: number): Promise<Segment> {
    let segment = this.files.at(-1);
    if (segment?.number !== number) {
      const former = segment;
      segment = this.newSegment(number, firstSequence);
      segment.file = await this.env.disk.open(segment.path, 'create');
      this.files.push(segment);
      this.directoryDirty = true;
      // The next sync closes it.
      if (former?.file !== undefined && !this.dirty.includes(former)) this.dirty.push(former);
    }
    return segment;
  }

  private newSegment(number: number, firstSequence: number): Segment {
    return {
      number,
      path: `${this.directory}/${segmentName(firstSequence)}`,
      header: { shard: this.options.shard, firstSequence, incarnation: this.incarnation, lives: this.lives },
      file: undefined,
      byteCount: 0,
      endSequence: firstSequence,
    };
  }

  /** Makes the first segment of this open durable, before anything can be appended; on a full disk, later. */
  private async establish(reusable: boolean): Promise<void> {
    try {
      if (reusable) await this.reuseLast();
      else await this.createFirst();
    } catch (error) {
      if (!isFull(error)) {
        this.fail('opening', error);
        throw this.failed;
      }
      this.unestablished = true;
      this.full = this.fullError(error);
      this.flushing = this.flush();
    }
  }

  private async createFirst(): Promise<void> {
    const segment = this.newSegment(this.activeNumber, this.nextSequence);
    // `append`: an earlier try on a full disk may have left the file.
    segment.file = await this.env.disk.open(segment.path, 'append');
    try {
      await segment.file.write([encodeSegmentHeader(segment.header)], 0);
      await segment.file.truncate(SEGMENT_HEADER_BYTES);
      await segment.file.sync();
      await this.env.disk.syncDirectory(this.directory);
    } catch (error) {
      await segment.file.close();
      throw error;
    }
    segment.byteCount = SEGMENT_HEADER_BYTES;
    const former = this.files.at(-1);
    this.files.push(segment);
    this.unestablished = false;
    this.full = undefined;
    // A life without records leaves a file that tells nothing this one does not tell.
    if (former !== undefined && former.byteCount <= SEGMENT_HEADER_BYTES) {
      this.files.splice(this.files.length - 2, 1);
      await this.env.disk.remove(former.path);
    }
  }

  /** A clean log whose last segment has no records: that segment loses its mark and goes on. */
  private async reuseLast(): Promise<void> {
    const segment = this.files.at(-1)!;
    segment.file = await this.env.disk.open(segment.path, 'append');
    await segment.file.truncate(SEGMENT_HEADER_BYTES);
    await segment.file.sync();
    await this.env.disk.syncDirectory(this.directory);
    segment.byteCount = SEGMENT_HEADER_BYTES;
  }

  // Failures

  private fail(doing: string, cause: unknown): void {
    if (this.failed !== undefined) return;
    const path = this.files.at(-1)?.path ?? this.directory;
    this.failed = new SilverbackError(
      'DISK_FAILED',
      `shard ${this.options.shard}: ${doing} the log failed (${path}): ${messageOf(cause)}; it takes no more until restart`,
      { cause },
    );
    this.syncTimer?.cancel();
    this.refuseWaiting(this.failed);
    // Their buffers are not given back: a write may still be reading one.
    this.queue = [];
    this.pending = 0;
  }

  private refuseWaiting(error: SilverbackError): void {
    for (const group of this.queue) {
      group.waiting?.reject(error);
      group.waiting = undefined;
    }
    const waiters = this.syncWaiters;
    const keep = error === this.failed ? 0 : this.writtenEnd;
    this.syncWaiters = waiters.filter((waiter) => waiter.sequence < keep);
    for (const waiter of waiters) if (waiter.sequence >= keep) waiter.waiting.reject(error);
  }

  private fullError(cause: unknown): SilverbackError {
    return new SilverbackError(
      'RESOURCE_EXHAUSTED',
      `shard ${this.options.shard}: no space for the log in ${this.directory}: ${messageOf(cause)}; writes go on when there is`,
      { cause, retryAfterMs: FULL_RETRY_MS },
    );
  }

  /** Waits before the next try; false if the log is closing and there will be none. */
  private async waitForSpace(error: unknown): Promise<boolean> {
    this.full = this.fullError(error);
    this.refuseWaiting(this.full);
    if (this.closing !== undefined) return false;
    await new Promise<void>((resolve) => {
      const timer = this.env.timers.after(FULL_RETRY_MS, resolve);
      this.wakeRetry = () => {
        timer.cancel();
        resolve();
      };
    });
    this.wakeRetry = undefined;
    return true;
  }

  // Syncing

  /** Starts an fsync if one is due now, or a timer for it. */
  private scheduleSync(): void {
    if (this.syncing !== undefined || this.failed !== undefined || this.dirty.length === 0) return;
    const wanted = this.syncWaiters.some((waiter) => waiter.sequence < this.writtenEnd);
    if (wanted || this.closing !== undefined) {
      this.syncTimer?.cancel();
      this.syncTimer = undefined;
      this.syncing = this.sync();
    } else if (this.syncTimer === undefined) {
      this.syncTimer = this.env.timers.after(this.syncDelayMs, () => {
        this.syncTimer = undefined;
        this.syncing ??= this.sync();
      });
    }
  }

  private async sync(): Promise<void> {
    const segments = this.dirty;
    const withDirectory = this.directoryDirty;
    const end = this.writtenEnd;
    const byteCount = this.unsynced;
    this.dirty = [];
    this.directoryDirty = false;
    try {
      for (const segment of segments) await segment.file!.sync();
      if (withDirectory) await this.env.disk.syncDirectory(this.directory);
      await this.closeFinished(segments);
    } catch (error) {
      this.fail('syncing', error);
    }
    this.syncing = undefined;
    if (this.failed !== undefined) return;
    this.syncedEnd = end;
    this.unsynced -= byteCount;
    const waiters = this.syncWaiters;
    this.syncWaiters = waiters.filter((waiter) => waiter.sequence >= end);
    for (const waiter of waiters) if (waiter.sequence < end) waiter.waiting.resolve();
    this.scheduleSync();
  }

  /** Closes those of the synced files that nothing will be written to any more. */
  private async closeFinished(segments: readonly Segment[]): Promise<void> {
    for (const segment of segments) {
      if (segment === this.files.at(-1) || this.dirty.includes(segment)) continue;
      const file = segment.file!;
      segment.file = undefined;
      await file.close();
    }
  }

  private async shutDown(): Promise<void> {
    this.wakeRetry?.();
    this.syncTimer?.cancel();
    this.syncTimer = undefined;
    await this.flushing;
    await this.syncing;
    if (this.failed === undefined && this.full === undefined) {
      try {
        await this.markClosed();
      } catch (error) {
        this.fail('closing', error);
      }
    }
    for (const segment of this.files) {
      const file = segment.file;
      segment.file = undefined;
      await file?.close().catch(() => undefined);
    }
    const refusal = this.failed ?? this.full;
    this.failed ??= new SilverbackError('UNAVAILABLE', `shard ${this.options.shard}: log is closed`);
    if (refusal === undefined) return;
    this.refuseWaiting(this.failed);
    throw refusal;
  }

  private async markClosed(): Promise<void> {
    while ((this.syncing !== undefined || this.dirty.length > 0) && this.failed === undefined) {
      this.syncing ??= this.sync();
      await this.syncing;
    }
    if (this.failed !== undefined) return;
    const segment = this.files.at(-1)!;
    const mark = Buffer.alloc(FRAME_HEADER_BYTES);
    const header: FrameHeader = {
      storedBytes: 0,
      rawBytes: 0,
      recordCount: 0,
      firstSequence: this.nextSequence,
      incarnation: this.incarnation,
      flags: FrameFlag.CLOSE,
    };
    putFrameHeader(mark, header, 0);
    await segment.file!.write([mark], segment.byteCount);
    segment.byteCount += FRAME_HEADER_BYTES;
    await segment.file!.sync();
  }

  // Reading

  private access(): ReaderAccess {
    return {
      env: this.env,
      directory: this.directory,
      segmentAt: (sequence) => this.files.findLast((file) => file.header.firstSequence <= sequence) ?? this.files[0],
      segmentAfter: (number) => this.files.find((file) => file.number > number),
      latest: this.latest,
      report: (problem) => {
        const known = this.problemList.some((p) => p.file === problem.file && p.offset === problem.offset);
        if (!known) this.problemList.push(problem);
      },
    };
  }
}
