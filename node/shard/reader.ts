/** Reading a log in order, for recovery and for replication, while it is being written. */
import type { Env, File } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import { unpack } from '../../core/lz4.ts';
import { coverUp, setAside } from './recover.ts';
import {
  FrameFlag,
  type FrameHeader,
  type Incarnation,
  type LogProblem,
  type Position,
  RECORD_OVERHEAD_BYTES,
  RecordKind,
  Scanner,
  type Segment,
} from './segment.ts';
import type { Tail } from './tail.ts';

/** What a reader may see of its log. */
export interface ReaderAccess {
  readonly env: Env;
  readonly directory: string;
  /** The segment that `sequence` lies in, else the oldest. */
  segmentAt(sequence: number): Segment | undefined;
  segmentAfter(number: number): Segment | undefined;
  /** What was written last, by `Segment.number`. */
  readonly latest: Pick<Tail, 'read'>;
  report(problem: LogProblem): void;
}

/**
 * The records of one frame, as a cursor: `next()` moves to the next record and fills the fields. There is one such object
 * per reader, good until it is asked for the next frame; the bytes stay as they are for whoever keeps them.
 */
export class Frame {
  incarnation = 0 as Incarnation;
  /** Tells segments apart (it is `Log.segment` of the time of writing, while one log lives). Log series ids are good within one. */
  segment = 0;
  /** Records between the frame before and this one are lost. */
  afterGap = false;
  firstSequence = 0;
  /** One past the last record. */
  endSequence = 0;
  /** The current record. */
  sequence = 0;
  kind: RecordKind = RecordKind.DEFINITION;
  /** Region in which the record entered the cluster: an index, 0 is this one's own. */
  origin = 0;
  /** The current record's payload lies in `bytes` from `start` to `end`. */
  bytes: Uint8Array = new Uint8Array(0);
  start = 0;
  end = 0;
  private from = 0;
  private upcoming = 0;

  /** Puts the cursor before the first record; of those before `from` only definitions are shown. */
  reset(header: FrameHeader, bytes: Uint8Array, segment: number, afterGap: boolean, from: number): void {
    this.incarnation = header.incarnation;
    this.segment = segment;
    this.afterGap = afterGap;
    this.firstSequence = header.firstSequence;
    this.endSequence = header.firstSequence + header.recordCount;
    this.bytes = bytes;
    this.end = 0;
    this.from = from;
    this.upcoming = header.firstSequence;
  }

  /** Moves to the next record; false after the last. */
  next(): boolean {
    const bytes = this.bytes;
    while (this.upcoming < this.endSequence) {
      const at = this.end;
      const length = bytes[at + 2]! + bytes[at + 3]! * 0x100 + bytes[at + 4]! * 0x1_0000 + bytes[at + 5]! * 0x100_0000;
      this.start = at + RECORD_OVERHEAD_BYTES;
      this.end = this.start + length;
      // `length` is NaN beyond the end of the bytes.
      if (!(this.end <= bytes.length)) {
        throw new SilverbackError(
          'CORRUPT',
          `log record ${this.upcoming} does not fit its frame of ${bytes.length} bytes`,
        );
      }
      this.kind = bytes[at]! as RecordKind;
      this.origin = bytes[at + 1]!;
      this.sequence = this.upcoming++;
      if (this.sequence >= this.from || this.kind === RecordKind.DEFINITION) return true;
    }
    return false;
  }

  /** A view of the current record's payload. */
  get payload(): Uint8Array {
    return this.bytes.subarray(this.start, this.end);
  }
}

/**
 * Reads frames in order, up to what the system has been given when it looks. Iterating ends at the tail; iterating again goes
 * on from there. Records before the start are passed over, except definitions in the segment that the start lies in. Damage
 * that it meets is set aside, reported in `Log.problems`, and passed over. To be closed.
 *
 *     for await (const frame of reader) while (frame.next()) apply(frame.kind, frame.payload);
 */
export class Reader implements AsyncIterable<Frame> {
  private readonly frame = new Frame();
  private segment: Segment | undefined;
  private file: File | undefined;
  private scanner: Scanner | undefined;
  /** The number of the last segment entered. */
  private lastNumber = -1;
  private place: Position;
  /** One past the last record seen, passed over or not, and the incarnation of its segment. */
  private seenEnd = 0;
  private seenIncarnation = 0 as Incarnation;
  private gap = false;
  private closed = false;

  constructor(
    private readonly access: ReaderAccess,
    private readonly start: Position,
  ) {
    this.place = start;
  }

  /** Where the next record will be read: the records of the frame handed out last count as read. */
  position(): Position {
    return this.place;
  }

  /** The next frame; undefined at the tail, for now. @throws DISK errors as the system gives them; CORRUPT. */
  async next(): Promise<Frame | undefined> {
    while (!this.closed) {
      if (this.segment === undefined && !(await this.enter())) return undefined;
      const segment = this.segment!;
      const scanner = this.scanner!;
      const found = await scanner.next(segment.byteCount);
      if (found === undefined) {
        // Once a later segment exists, this one is whole.
        if (this.access.segmentAfter(segment.number) === undefined) return undefined;
        if (scanner.offset >= segment.byteCount) await this.leave();
      } else if (found.kind === 'damage') {
        await this.passDamage(segment, found.offset, found.byteCount);
      } else if (this.wanted(found.header, segment)) {
        const { header } = found;
        const bytes = header.flags & FrameFlag.LZ4 ? unpack(found.body, header.rawBytes) : found.body;
        const end = header.firstSequence + header.recordCount;
        const afterGap = this.gap;
        this.gap = false;
        this.place = { incarnation: header.incarnation, sequence: Math.max(end, this.place.sequence) };
        this.frame.reset(header, bytes, segment.number, afterGap, this.start.sequence);
        return this.frame;
      }
    }
    return undefined;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Frame> {
    for (;;) {
      const frame = await this.next();
      if (frame === undefined) return;
      yield frame;
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    await this.leave();
  }

  /** Whether the frame has records to be shown. Notes what is missing before it. */
  private wanted(header: FrameHeader, segment: Segment): boolean {
    if (header.recordCount === 0) return false;
    if (header.firstSequence !== this.seenEnd) this.gap = true;
    this.seenEnd = header.firstSequence + header.recordCount;
    if (this.seenEnd > this.start.sequence) return true;
    return (header.flags & FrameFlag.DEFINES) !== 0 && segment.header.firstSequence <= this.start.sequence;
  }

  private async enter(): Promise<boolean> {
    for (;;) {
      const segment =
        this.lastNumber < 0 ? this.access.segmentAt(this.start.sequence) : this.access.segmentAfter(this.lastNumber);
      if (segment === undefined) return false;
      this.lastNumber = segment.number;
      try {
        this.file = await this.access.env.disk.open(segment.path, 'read');
      } catch (error) {
        // Released meanwhile.
        if ((error as { code?: unknown }).code === 'ENOENT') continue;
        throw error;
      }
      this.segment = segment;
      // A new incarnation skips sequences; within one, even the first frame of a segment may turn out to be missing.
      if (this.seenIncarnation !== segment.header.incarnation) this.seenEnd = segment.header.firstSequence;
      this.seenIncarnation = segment.header.incarnation;
      const { file } = this;
      const { latest } = this.access;
      const read = async (offset: number, length: number) =>
        latest.read(segment.number, offset, length) ?? file.read(offset, length);
      this.scanner = new Scanner({ read }, segment.header.incarnation);
      return true;
    }
  }

  private async leave(): Promise<void> {
    const file = this.file;
    this.segment = undefined;
    this.scanner = undefined;
    this.file = undefined;
    await file?.close();
  }

  private async passDamage(segment: Segment, offset: number, byteCount: number): Promise<void> {
    this.gap = true;
    const { env, directory } = this.access;
    const firstSequence = this.seenEnd;
    const file = await env.disk.open(segment.path, 'append');
    try {
      const quarantine = await setAside(env, directory, segment.path, file, offset, byteCount);
      if (quarantine !== undefined) {
        await coverUp(file, offset, byteCount, firstSequence, segment.header.incarnation);
        await file.sync();
      }
      const endSequence = segment.endSequence;
      const problem = { file: segment.path, offset, byteCount, firstSequence, endSequence };
      this.access.report({ kind: 'damaged', ...problem, ...(quarantine === undefined ? {} : { quarantine }) });
    } finally {
      await file.close();
    }
  }
}
