/**
 * A segment file of the log: its layout, and finding the frames in it again after damage.
 *
 *     header   320 bytes
 *       0  8   magic "SILVLOG" and the version
 *       8  4   shard
 *      12  4   count of past lives in the table, 0 to 16
 *      16  8   sequence of the first record; the file's name is this in 16 hexadecimal digits and ".log"
 *      24  8   incarnation
 *      32 256  past lives, oldest first: incarnation (8), end sequence (8)
 *     288 28   zero
 *     316  4   CRC32 of the 316 bytes before
 *     frames, back to back
 *       0  4   magic "SBfr"
 *       4  4   bytes of the body as stored
 *       8  4   bytes of the body unpacked
 *      12  4   count of records
 *      16  8   sequence of the first record; the others follow without a gap
 *      24  6   incarnation, that of the segment
 *      30  2   flags (FrameFlag)
 *      32  4   CRC32 of the body as stored
 *      36  4   CRC32 of the 36 bytes before
 *      40      body: records back to back (packed by core/lz4.ts if the flag says so), each
 *                0 1 kind, 1 1 origin region, 2 4 payload length, 6 payload
 *
 * Sequences and incarnations are below 2^53 and 2^48, so that they are exact as numbers. A frame is found by its magic, its
 * header's CRC and its incarnation; after damage the search goes on byte by byte. A damaged range is overwritten, once it is
 * copied aside, by the header of a VOID frame of the same length, so that it is found only once.
 */
import { crc32 } from 'node:zlib';
import type { File } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import { checkHeaderVersion, newest } from '../../core/versions.ts';

declare const incarnationBrand: unique symbol;

/** One unbroken life of a log: a random number from 1 to 2^48 - 1. A new one starts with each open after an unclean end. */
export type Incarnation = number & { readonly [incarnationBrand]: true };

/** What is known of an incarnation that ended: one past its last record that was recovered. */
export interface Life {
  readonly incarnation: Incarnation;
  readonly endSequence: number;
}

/** A place in a log: `sequence` is that of the next record to be read. */
export interface Position {
  readonly incarnation: Incarnation;
  readonly sequence: number;
}

/** What a record holds. The log looks only at DEFINITION: a reader repeats those of the segment it starts in. */
export const RecordKind = {
  DEFINITION: 1,
  SAMPLES: 2,
  DELETION: 3,
  METADATA: 4,
  EXEMPLAR: 5,
  HISTOGRAM: 6,
} as const;
export type RecordKind = (typeof RecordKind)[keyof typeof RecordKind];

/** Origin of what entered the cluster here. Only such records are shipped to other copies. */
export const OWN_ORIGIN = 0;

/** Of a record, or a page of a checkpoint, that a later version of this program wrote. Leaving it out would be to lose it. */
export function unknownKind(what: string, kind: number): SilverbackError {
  return new SilverbackError('VERSION', `${what} of kind ${kind}, which this program does not know`);
}

/** Something was wrong with the stored log. The log goes on; the caller reports it. */
export interface LogProblem {
  /** `torn`: an unfinished tail, cut. `damaged`: bytes failed their checks, set aside in `quarantine`. `missing`: files are gone. */
  readonly kind: 'torn' | 'damaged' | 'missing';
  readonly file: string;
  readonly offset: number;
  readonly byteCount: number;
  /** Records that may be lost: from `firstSequence` up to, not including, `endSequence` (infinite at the end of the log). */
  readonly firstSequence: number;
  readonly endSequence: number;
  /** The file that keeps the damaged bytes. */
  readonly quarantine?: string;
}

export interface SegmentHeader {
  readonly shard: number;
  readonly firstSequence: number;
  readonly incarnation: Incarnation;
  /** The incarnations before this one, oldest first, at most 16. */
  readonly lives: readonly Life[];
}

export const SEGMENT_HEADER_BYTES = 320;
export const FRAME_HEADER_BYTES = 40;
/** A record's header. */
export const RECORD_OVERHEAD_BYTES = 6;
export const MAX_RECORD_BYTES = 64 * 1024 * 1024;
export const MAX_LIVES = 16;

/** Bits. LZ4: the body is packed. CLOSE: the log was closed in order here. VOID: a damaged range. DEFINES: holds DEFINITION records. */
export const FrameFlag = { LZ4: 1, CLOSE: 2, VOID: 4, DEFINES: 8 } as const;

const MAGIC = Buffer.from('SILVLOG');
const FRAME_MAGIC = Buffer.from('SBfr');
const FRAME_MAGIC_U32 = FRAME_MAGIC.readUInt32LE(0);
const U32 = 0x1_0000_0000;
/** A body is one record above the usual size at most; LZ4 may add a little to what does not shrink. */
const MAX_BODY_BYTES = MAX_RECORD_BYTES + RECORD_OVERHEAD_BYTES + 1024;
const READ_BYTES = 256 * 1024;

function putU64(target: Buffer, value: number, offset: number): void {
  target.writeUInt32LE(value % U32, offset);
  target.writeUInt32LE(Math.floor(value / U32), offset + 4);
}

function getU64(source: Buffer, offset: number): number {
  return source.readUInt32LE(offset) + source.readUInt32LE(offset + 4) * U32;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function segmentName(firstSequence: number): string {
  return `${firstSequence.toString(16).padStart(16, '0')}.log`;
}

/** The first sequence that a segment's name states; undefined if it is not a segment's name. */
export function parseSegmentName(name: string): number | undefined {
  return /^00[0-9a-f]{14}\.log$/.test(name) ? Number.parseInt(name.slice(0, 16), 16) : undefined;
}

export function encodeSegmentHeader(header: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  MAGIC.copy(bytes);
  bytes[7] = newest('log segment');
  bytes.writeUInt32LE(header.shard, 8);
  bytes.writeUInt32LE(header.lives.length, 12);
  putU64(bytes, header.firstSequence, 16);
  putU64(bytes, header.incarnation, 24);
  header.lives.forEach((life, i) => {
    putU64(bytes, life.incarnation, 32 + i * 16);
    putU64(bytes, life.endSequence, 40 + i * 16);
  });
  bytes.writeUInt32LE(crc32(bytes.subarray(0, SEGMENT_HEADER_BYTES - 4)), SEGMENT_HEADER_BYTES - 4);
  return bytes;
}

/** The header at the start of `source`; undefined if it is damaged. @throws VERSION for one of another version. */
export function parseSegmentHeader(source: Uint8Array, file: string): SegmentHeader | undefined {
  const bytes = asBuffer(source);
  // Before its length: another version's header may be shorter.
  if (source.length < 8 || !bytes.subarray(0, 7).equals(MAGIC)) return undefined;
  checkHeaderVersion('log segment', bytes, SEGMENT_HEADER_BYTES - 4, file);
  if (source.length < SEGMENT_HEADER_BYTES) return undefined;
  if (crc32(bytes.subarray(0, SEGMENT_HEADER_BYTES - 4)) !== bytes.readUInt32LE(SEGMENT_HEADER_BYTES - 4)) {
    return undefined;
  }
  const lives: Life[] = [];
  for (let i = 0; i < Math.min(MAX_LIVES, bytes.readUInt32LE(12)); i++) {
    lives.push({ incarnation: getU64(bytes, 32 + i * 16) as Incarnation, endSequence: getU64(bytes, 40 + i * 16) });
  }
  return {
    shard: bytes.readUInt32LE(8),
    firstSequence: getU64(bytes, 16),
    incarnation: getU64(bytes, 24) as Incarnation,
    lives,
  };
}

/** A segment file. `file` is open while it may be written or synced. */
export interface Segment {
  readonly number: number;
  readonly path: string;
  readonly header: SegmentHeader;
  file: File | undefined;
  byteCount: number;
  endSequence: number;
}

/** No space: the one failure of a write that time may mend. */
export function isFull(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return code === 'ENOSPC' || code === 'EDQUOT';
}

/** What a frame header says, but for its CRCs. */
export interface FrameHeader {
  storedBytes: number;
  rawBytes: number;
  recordCount: number;
  firstSequence: number;
  incarnation: Incarnation;
  flags: number;
}

/** Writes a frame header into the first 40 bytes of `target`. */
export function putFrameHeader(target: Buffer, header: FrameHeader, bodyCrc: number): void {
  target.writeUInt32LE(FRAME_MAGIC_U32, 0);
  target.writeUInt32LE(header.storedBytes, 4);
  target.writeUInt32LE(header.rawBytes, 8);
  target.writeUInt32LE(header.recordCount, 12);
  putU64(target, header.firstSequence, 16);
  target.writeUIntLE(header.incarnation, 24, 6);
  target.writeUInt16LE(header.flags, 30);
  target.writeUInt32LE(bodyCrc, 32);
  target.writeUInt32LE(crc32(target.subarray(0, 36)), 36);
}

/** The header of a VOID frame that covers `byteCount` bytes (at least FRAME_HEADER_BYTES), itself included. */
export function voidFrame(byteCount: number, sequence: number, incarnation: Incarnation): Buffer {
  const bytes = Buffer.alloc(FRAME_HEADER_BYTES);
  const storedBytes = byteCount - FRAME_HEADER_BYTES;
  const flags = FrameFlag.VOID;
  putFrameHeader(bytes, { storedBytes, rawBytes: 0, recordCount: 0, firstSequence: sequence, incarnation, flags }, 0);
  return bytes;
}

/** What lies next in a segment. Fields of a frame are those of its header; `body` is as stored, for one `next` only. */
export type Found =
  | {
      readonly kind: 'frame';
      readonly offset: number;
      readonly byteCount: number;
      readonly header: FrameHeader;
      readonly body: Uint8Array;
    }
  /** Bytes that are no frame, up to the next one or to the end. `torn`: they are what an interrupted write leaves. */
  | {
      readonly kind: 'damage';
      readonly offset: number;
      readonly byteCount: number;
      readonly atEnd: boolean;
      readonly torn: boolean;
    };

/**
 * Walks the frames of a segment in order, through a window of the file. It may be asked again after the end, once `end` has
 * grown.
 */
export class Scanner {
  /** Where the next frame is looked for. */
  offset = SEGMENT_HEADER_BYTES;
  private window: Buffer = Buffer.alloc(0);
  private windowStart = 0;
  private readonly header: FrameHeader = {
    storedBytes: 0,
    rawBytes: 0,
    recordCount: 0,
    firstSequence: 0,
    incarnation: 0 as Incarnation,
    flags: 0,
  };
  private bodyCrc = 0;

  /** `incarnation` 0: the header is lost; that of the first frame found holds. */
  constructor(
    private readonly file: Pick<File, 'read'>,
    public incarnation: Incarnation,
  ) {}

  /** The next frame or damaged range before `end`; undefined at the end. */
  async next(end: number): Promise<Found | undefined> {
    const start = this.offset;
    if (start >= end) return undefined;
    const byteCount = await this.frameAt(start, end);
    if (byteCount > 0) return this.frame(start, byteCount);
    const torn = await this.looksTorn(start, end);
    const next = await this.search(start + 1, end);
    this.offset = next;
    return { kind: 'damage', offset: start, byteCount: next - start, atEnd: next === end, torn: torn && next === end };
  }

  private frame(offset: number, byteCount: number): Found {
    const bodyStart = offset - this.windowStart + FRAME_HEADER_BYTES;
    const body = this.window.subarray(bodyStart, bodyStart + byteCount - FRAME_HEADER_BYTES);
    if (this.incarnation === 0) this.incarnation = this.header.incarnation;
    this.offset = offset + byteCount;
    return { kind: 'frame', offset, byteCount, header: this.header, body };
  }

  /** The length of the valid frame at `offset`, its header parsed; 0 if there is none. */
  private async frameAt(offset: number, end: number): Promise<number> {
    if (!(await this.headerAt(offset, end))) return 0;
    const byteCount = FRAME_HEADER_BYTES + this.header.storedBytes;
    if (offset + byteCount > end) return 0;
    if (this.header.flags & FrameFlag.VOID) return byteCount;
    if (!(await this.load(offset, byteCount, end))) return 0;
    const at = offset - this.windowStart;
    return crc32(this.window.subarray(at + FRAME_HEADER_BYTES, at + byteCount)) === this.bodyCrc ? byteCount : 0;
  }

  private async headerAt(offset: number, end: number): Promise<boolean> {
    if (offset + FRAME_HEADER_BYTES > end || !(await this.load(offset, FRAME_HEADER_BYTES, end))) return false;
    const window = this.window;
    const at = offset - this.windowStart;
    if (window.readUInt32LE(at) !== FRAME_MAGIC_U32) return false;
    if (crc32(window.subarray(at, at + 36)) !== window.readUInt32LE(at + 36)) return false;
    const header = this.header;
    header.storedBytes = window.readUInt32LE(at + 4);
    header.rawBytes = window.readUInt32LE(at + 8);
    header.recordCount = window.readUInt32LE(at + 12);
    header.firstSequence = getU64(window, at + 16);
    header.incarnation = window.readUIntLE(at + 24, 6) as Incarnation;
    header.flags = window.readUInt16LE(at + 30);
    this.bodyCrc = window.readUInt32LE(at + 32);
    if (this.incarnation !== 0 && header.incarnation !== this.incarnation) return false;
    return (
      (header.flags & FrameFlag.VOID) !== 0 ||
      (header.storedBytes <= MAX_BODY_BYTES && header.rawBytes <= MAX_BODY_BYTES)
    );
  }

  /** An interrupted write leaves a frame cut short, or zeros. A whole frame that fails its CRC is something else. */
  private async looksTorn(offset: number, end: number): Promise<boolean> {
    if (end - offset < FRAME_HEADER_BYTES) return true;
    if (await this.headerAt(offset, end)) return offset + FRAME_HEADER_BYTES + this.header.storedBytes > end;
    for (let at = offset; at < end; ) {
      const count = Math.min(READ_BYTES, end - at);
      if (!(await this.load(at, count, end))) return true;
      const start = at - this.windowStart;
      for (let i = start; i < start + count; i++) if (this.window[i] !== 0) return false;
      at += count;
    }
    return true;
  }

  /** Where the next valid frame from `offset` on starts; `end` if there is none. */
  private async search(offset: number, end: number): Promise<number> {
    let at = offset;
    while (at + FRAME_HEADER_BYTES <= end) {
      if (!(await this.load(at, Math.min(READ_BYTES, end - at), end))) return end;
      const found = this.window.indexOf(FRAME_MAGIC, at - this.windowStart);
      if (found < 0) {
        // A magic may straddle the window's end: its last 3 bytes are looked at again.
        at = Math.max(at + 1, this.windowStart + this.window.length - 3);
      } else {
        const candidate = this.windowStart + found;
        if ((await this.frameAt(candidate, end)) > 0) return candidate;
        at = candidate + 1;
      }
    }
    return end;
  }

  /** Sees to it that the window holds `byteCount` bytes at `offset`; false if the file ends before. */
  private async load(offset: number, byteCount: number, end: number): Promise<boolean> {
    const loadedEnd = this.windowStart + this.window.length;
    if (offset >= this.windowStart && offset + byteCount <= loadedEnd) return true;
    // Never beyond `end`: what lies there may be half written, and would be stale at the next look.
    this.window = asBuffer(await this.file.read(offset, Math.min(Math.max(byteCount, READ_BYTES), end - offset)));
    this.windowStart = offset;
    return this.window.length >= byteCount;
  }
}
