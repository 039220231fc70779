/**
 * One shard on its way to one destination: reads the log from the cursor on and makes messages of it.
 *
 * Log series ids are good within a segment, so each segment is a run of messages with references of its own. Records that
 * entered the cluster elsewhere are passed over; the definitions of a segment go out only once it has a record to be sent,
 * by reading that segment again from there: a reader shows its segment's definitions first. A log that only grows by records
 * of other copies, as that of a region that nobody writes to, is not read at all.
 */

import type { Cursor, Cursors } from '../shard/cursors.ts';
import { encodeDefinition, readDefinitions } from '../shard/definitions.ts';
import type { Position, Reader, SegmentInfo } from '../shard/log.ts';
import { RecordKind } from '../shard/log.ts';
import type { Frame } from '../shard/reader.ts';
import { OWN_ORIGIN, RECORD_OVERHEAD_BYTES } from '../shard/segment.ts';
import { Progress } from './progress.ts';

/** A list of definitions above this is sent in parts: a message has a bound, a log record hardly. */
const PART_BYTES = 2 * 1024 * 1024;
/** What is there is sent together up to about this much, unpacked: a frame of a log that is written a lot holds as much. */
const GATHER_BYTES = 64 * 1024;
/** A lag that is caught up is judged after so many looks: it has to be less than this part of what it was. */
const JUDGED_LOOKS = 5;
const SHRINKS = 0.95;

/** What goes out as one message. `records` is good until the lane is asked for more. */
export interface Parcel {
  readonly attempt: number;
  readonly run: number;
  readonly incarnation: number;
  readonly firstSequence: number;
  readonly endSequence: number;
  readonly records: Uint8Array;
  /** Somebody waits for one of them, or for a later one. */
  readonly awaited: boolean;
}

export class Lane {
  readonly shard: number;
  readonly cursor: Cursor;
  readonly progress: Progress;
  /** At the log's end, as far as it was written when the lane looked last. */
  isIdle = false;
  /** The destination said on the stream which log it has: what the cursor says of it holds. */
  isMet = false;
  /** What was written since then goes out with what is written in a moment, unless somebody waits for it. */
  isHeld = false;
  /** Monotonic; nothing is sent before. */
  blockedUntilMs = 0;
  /** Why the destination refused last; empty once it takes records again. */
  problem = '';
  refusalCount = 0;
  /** So much of the log was read by the last `next`, unpacked. */
  readBytes = 0;
  readonly #cursors: Cursors;
  readonly #log: Cursors['log'];
  #reader: Reader | undefined;
  #isReading = false;
  /** The segment whose definitions the destination gets. */
  #openSegment = -1;
  #generation = 0;
  #closed = false;
  readonly #behindBytes: number;
  #isBehind = false;
  /** Looks at the lag since it was judged last; what it was then. */
  #lookCount = 0;
  #judgedBytes = Number.POSITIVE_INFINITY;
  #isFallingBack = false;

  /**
   * More than `behindBytes` of the log before its end is a lag that is caught up, not the ordinary one. `attempt`: the first
   * one, above those of earlier lanes on the same stream.
   */
  constructor(shard: number, cursors: Cursors, cursor: Cursor, behindBytes: number, attempt: number) {
    this.shard = shard;
    this.#cursors = cursors;
    this.#log = cursors.log;
    this.cursor = cursor;
    this.progress = new Progress(cursor.position, attempt);
    // Since when that is there, nobody knows.
    this.progress.wrote(Number.NaN, this.#log.writtenSequence);
    this.#behindBytes = behindBytes;
    this.#isBehind = this.lagBytes > behindBytes;
  }

  /** About what the log holds from the first record on that is not known to be in the destination's. */
  get lagBytes(): number {
    return bytesFrom(this.#log.segments(), this.progress.delivered.sequence);
  }

  /** The destination lags: it is caught up from the log. Until it was at the log's end once. */
  get isCatchingUp(): boolean {
    return this.#isBehind;
  }

  /** Catching up may be slowed, in favour of live writes: not where the lag does not shrink. */
  get isPatient(): boolean {
    return this.#isBehind && !this.#isFallingBack;
  }

  /** Somebody waits until the destination has something that was not sent yet. */
  get isAwaited(): boolean {
    return this.cursor.elsewhere && this.#cursors.awaitedEnd > this.progress.read.sequence;
  }

  /** The log got longer; `nowMs` is monotonic. False: by nothing that is to be sent. */
  written(nowMs: number): boolean {
    const isPassed = this.#passOver();
    this.progress.wrote(nowMs, this.#log.writtenSequence);
    if (isPassed) return false;
    if (this.isIdle) this.isHeld = true;
    this.isIdle = false;
    return true;
  }

  /** Once a second, or so: judges the lag. */
  look(): void {
    const { lagBytes } = this;
    if (lagBytes > this.#behindBytes) this.#isBehind = true;
    if (!this.#isBehind) {
      this.#lookCount = 0;
      this.#judgedBytes = Number.POSITIVE_INFINITY;
      this.#isFallingBack = false;
      return;
    }
    if (++this.#lookCount < JUDGED_LOOKS) return;
    this.#lookCount = 0;
    this.#isFallingBack = lagBytes > this.#judgedBytes * SHRINKS;
    this.#judgedBytes = lagBytes;
  }

  /** Reads a frame, or several small ones. What has to be sent of them, in order; nothing when they hold nothing for the destination. */
  async next(): Promise<Parcel[]> {
    this.readBytes = 0;
    this.#isReading = true;
    try {
      const parcels: Parcel[] = [];
      let more: Parcel[] | undefined;
      do {
        const generation = this.#generation;
        more = await this.#readFrame();
        if (this.#generation !== generation || this.#closed) return [];
        parcels.push(...(more ?? []));
      } while (more !== undefined && this.readBytes < GATHER_BYTES && !this.isPatient);
      return together(parcels);
    } finally {
      this.#isReading = false;
    }
  }

  /** What has to be sent of the next frame; undefined at the log's end, or when the lane began anew meanwhile. */
  async #readFrame(): Promise<Parcel[] | undefined> {
    const generation = this.#generation;
    this.#reader ??= this.#open();
    const reader = this.#reader;
    const tail = this.#log.tail();
    const isAllWritten = this.#log.writtenSequence >= tail.sequence;
    // Set before the look: what is written meanwhile takes it back.
    this.isIdle = true;
    const frame = await reader.next();
    this.readBytes += frame?.bytes.length ?? 0;
    if (this.#generation !== generation || this.#closed) return undefined;
    if (frame === undefined) {
      // Also over the sequences that a new incarnation leaves out.
      if (isAllWritten) this.progress.skip(tail);
      this.#isBehind = false;
      return undefined;
    }
    this.isIdle = false;
    if (frame.segment === this.#openSegment) return this.#pack(frame, reader.position());
    const first = firstOwn(frame);
    if (first === undefined) {
      this.#openSegment = -1;
      this.progress.skip(reader.position());
      return [];
    }
    this.progress.skip({ incarnation: frame.incarnation, sequence: first });
    this.#openSegment = frame.segment;
    this.progress.startRun();
    this.#reader = this.#log.read({ incarnation: frame.incarnation, sequence: first });
    await reader.close();
    return [];
  }

  /**
   * Nothing of what was written since the last look entered the cluster here: there is nothing to read. Not in a segment of which
   * the destination has definitions: it would lack those made meanwhile.
   */
  #passOver(): boolean {
    if (this.#isReading || this.#openSegment !== -1) return false;
    const { incarnation } = this.#log.tail();
    const sequence = this.#log.writtenSequence;
    if (this.#log.ownSequence > this.progress.read.sequence) return false;
    const reader = this.#reader;
    this.#reader = undefined;
    reader?.close().catch(() => undefined);
    this.progress.skip({ incarnation, sequence });
    this.#isBehind = false;
    return true;
  }

  /** The destination lost track: everything that is not durable there is sent again, once it said which log it has. */
  restart(): void {
    this.#generation++;
    this.isMet = false;
    const reader = this.#reader;
    this.#reader = undefined;
    this.#openSegment = -1;
    this.isIdle = false;
    this.isHeld = false;
    this.progress.restart(this.cursor.position);
    reader?.close().catch(() => undefined);
  }

  close(): void {
    this.#closed = true;
    this.restart();
  }

  /** Takes over what the destination said, for the log and for whoever waits for it. */
  settle(): void {
    this.cursor.advance(this.progress.delivered.sequence, this.progress.durable);
  }

  #open(): Reader {
    const { position } = this.cursor;
    const { read } = this.progress;
    // What was passed over, or sent and is not durable there yet, is not read again.
    if (read.sequence > position.sequence) return this.#log.read(read);
    const reader = this.cursor.read();
    // The log may have let go what the cursor was at.
    this.progress.skip(this.cursor.position);
    return reader;
  }

  #pack(frame: Frame, to: Position): Parcel[] {
    const { incarnation, firstSequence, endSequence } = frame;
    const parts: Uint8Array[] = [];
    const parcels: Parcel[] = [];
    const put = (records: readonly Uint8Array[], end: number) => {
      const { attempt, run } = this.progress;
      const awaited = this.cursor.elsewhere && this.#cursors.awaitedEnd > firstSequence;
      parcels.push({ attempt, run, incarnation, firstSequence, endSequence: end, records: joined(records), awaited });
    };
    while (frame.next()) {
      const isDefinition = frame.kind === RecordKind.DEFINITION;
      if (!isDefinition && frame.origin !== OWN_ORIGIN) continue;
      const record = frame.bytes.subarray(frame.start - RECORD_OVERHEAD_BYTES, frame.end);
      if (isDefinition && record.length > PART_BYTES)
        for (const part of split(frame.payload)) put([part], frame.sequence);
      else parts.push(record);
    }
    if (parts.length > 0) put(parts, endSequence);
    for (const parcel of parcels) {
      const isLast = parcel === parcels.at(-1);
      this.progress.send(isLast ? to : this.progress.delivered, parcel.endSequence, parcel.records.length);
    }
    if (parcels.length === 0) this.progress.skip(to);
    return parcels;
  }
}

/** Bytes of the segments from a record on. Sequences skip where a log was not closed in order, so this is an estimate. */
function bytesFrom(segments: readonly SegmentInfo[], sequence: number): number {
  let bytes = 0;
  for (const { firstSequence, endSequence, byteCount } of segments) {
    if (endSequence <= sequence) continue;
    const part = Math.min(1, (endSequence - sequence) / (endSequence - firstSequence));
    bytes += Math.ceil(byteCount * part);
  }
  return bytes;
}

/** The first record that is more than a definition and entered the cluster here. Uses the frame's cursor up. */
function firstOwn(frame: Frame): number | undefined {
  while (frame.next()) if (frame.kind !== RecordKind.DEFINITION && frame.origin === OWN_ORIGIN) return frame.sequence;
  return undefined;
}

/** Neighbours of one run as one parcel, up to a bound. */
function together(parcels: readonly Parcel[]): Parcel[] {
  const found: Parcel[] = [];
  let open: Parcel[] = [];
  let byteCount = 0;
  const flush = () => {
    const [first] = open;
    const last = open.at(-1);
    if (first === undefined || last === undefined) return;
    const records = joined(open.map((parcel) => parcel.records));
    const awaited = open.some((parcel) => parcel.awaited);
    found.push({ ...last, firstSequence: first.firstSequence, records, awaited });
    open = [];
    byteCount = 0;
  };
  for (const parcel of parcels) {
    if (open[0]?.run !== parcel.run || byteCount + parcel.records.length > 2 * GATHER_BYTES) flush();
    open.push(parcel);
    byteCount += parcel.records.length;
  }
  flush();
  return found;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return parts.length === 1 ? (parts[0] as Uint8Array) : Buffer.concat(parts);
}

/** A list of definitions as several records. */
function split(list: Uint8Array): Uint8Array[] {
  const records: Uint8Array[] = [];
  let entries: Uint8Array[] = [];
  let byteCount = 0;
  const flush = () => {
    const header = Buffer.alloc(RECORD_OVERHEAD_BYTES);
    header[0] = RecordKind.DEFINITION;
    header.writeUInt32LE(byteCount, 2);
    records.push(Buffer.concat([header, ...entries]));
    entries = [];
    byteCount = 0;
  };
  readDefinitions(list, 'CORRUPT', (number, identity) => {
    const entry = encodeDefinition(number, identity);
    if (byteCount > 0 && byteCount + entry.length > PART_BYTES) flush();
    entries.push(entry);
    byteCount += entry.length;
  });
  if (byteCount > 0) flush();
  return records;
}
