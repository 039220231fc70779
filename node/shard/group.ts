/** Records of a log on their way into one frame: gathered as they come, packed once, written, and let go. */
import { crc32 } from 'node:zlib';
import { pack } from '../../core/lz4.ts';
import {
  FRAME_HEADER_BYTES,
  FrameFlag,
  type FrameHeader,
  type Incarnation,
  putFrameHeader,
  RECORD_OVERHEAD_BYTES,
  RecordKind,
} from './segment.ts';

/** A group becomes a frame at this size: LZ4 looks back 64 KiB, and packing it takes well under a millisecond. */
const GROUP_BYTES = 64 * 1024;

/** Buffers of groups, shared by all logs of the thread: an idle log holds none. */
const spareBuffers: Buffer[] = [];
const MAX_SPARE_BUFFERS = 32;

/** Something that others wait for. */
export class Deferred {
  readonly promise: Promise<void>;
  resolve!: () => void;
  reject!: (error: unknown) => void;

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }
}

/** Records appended but not yet taken by the system: one frame to be. */
export class Group {
  recordCount = 0;
  waiting: Deferred | undefined;
  /** Starts with room for the frame's header. */
  readonly #buffer: Buffer;
  #used = FRAME_HEADER_BYTES;
  #flags = 0;
  #frame: Uint8Array | undefined;

  /** One that has room for a first record of `recordBytes`, its overhead included. */
  constructor(
    readonly segment: number,
    readonly firstSequence: number,
    recordBytes: number,
    groupBytes = GROUP_BYTES,
  ) {
    const capacity = Math.max(FRAME_HEADER_BYTES + recordBytes, groupBytes);
    const spare = capacity === GROUP_BYTES ? spareBuffers.pop() : undefined;
    this.#buffer = spare ?? Buffer.allocUnsafeSlow(capacity);
  }

  get endSequence(): number {
    return this.firstSequence + this.recordCount;
  }

  /** Of the records, with their overhead. */
  get byteCount(): number {
    return this.#used - FRAME_HEADER_BYTES;
  }

  hasRoom(recordBytes: number): boolean {
    return this.#used + recordBytes <= this.#buffer.length;
  }

  /** Copies a record in, for which there is room. `length` is that of the payload. */
  put(kind: RecordKind, origin: number, payload: Uint8Array | readonly Uint8Array[], length: number): void {
    const buffer = this.#buffer;
    let at = this.#used;
    buffer[at] = kind;
    buffer[at + 1] = origin;
    buffer[at + 2] = length;
    buffer[at + 3] = length >>> 8;
    buffer[at + 4] = length >>> 16;
    buffer[at + 5] = length >>> 24;
    at += RECORD_OVERHEAD_BYTES;
    if (payload instanceof Uint8Array) buffer.set(payload, at);
    else {
      for (const part of payload) {
        buffer.set(part, at);
        at += part.length;
      }
    }
    this.#used += RECORD_OVERHEAD_BYTES + length;
    this.recordCount++;
    if (kind === RecordKind.DEFINITION) this.#flags |= FrameFlag.DEFINES;
  }

  /** What is to be written: packed at the first call, after which nothing is put in any more. */
  frame(incarnation: Incarnation): Uint8Array {
    this.#frame ??= this.#pack(incarnation);
    return this.#frame;
  }

  /** Written: the buffer is another group's now. */
  free(): void {
    if (this.#buffer.length === GROUP_BYTES && spareBuffers.length < MAX_SPARE_BUFFERS) spareBuffers.push(this.#buffer);
  }

  /** In place: what is packed is shorter, and one piece is cheaper to write than two. */
  #pack(incarnation: Incarnation): Uint8Array {
    const body = this.#buffer.subarray(FRAME_HEADER_BYTES, this.#used);
    const packed = pack(body);
    const stored = packed ?? body;
    const header: FrameHeader = {
      storedBytes: stored.length,
      rawBytes: body.length,
      recordCount: this.recordCount,
      firstSequence: this.firstSequence,
      incarnation,
      flags: this.#flags | (packed === undefined ? 0 : FrameFlag.LZ4),
    };
    putFrameHeader(this.#buffer, header, crc32(stored));
    if (packed !== undefined) this.#buffer.set(packed, FRAME_HEADER_BYTES);
    return this.#buffer.subarray(0, FRAME_HEADER_BYTES + stored.length);
  }
}
