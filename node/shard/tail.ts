/**
 * The latest frames of a log, as they were written: who follows it reads them from here, not from the disk. Reading a file costs
 * about what writing it did, and each copy of a shard would read what it has just written.
 */

/** Kept at the most, of one log: a follower that is further behind reads the file. */
const TAIL_BYTES = 256 * 1024;

interface Part {
  readonly segment: number;
  readonly offset: number;
  readonly bytes: Buffer;
}

export class Tail {
  /** Oldest first, without gaps within a segment. */
  #parts: Part[] = [];
  #byteCount = 0;

  /** Bytes that lie in the segment's file at `offset` now. They are not changed any more. */
  put(segment: number, offset: number, bytes: Buffer): void {
    this.#parts.push({ segment, offset, bytes });
    this.#byteCount += bytes.length;
    while (this.#byteCount > TAIL_BYTES) this.#byteCount -= (this.#parts.shift() as Part).bytes.length;
  }

  clear(): void {
    this.#parts = [];
    this.#byteCount = 0;
  }

  /** `length` bytes of a segment's file, not to be changed; undefined where they are not all here. */
  read(segment: number, offset: number, length: number): Buffer | undefined {
    const end = offset + length;
    const first = this.#parts.findLastIndex((part) => part.segment === segment && part.offset <= offset);
    if (first < 0) return undefined;
    const found: Buffer[] = [];
    let at = offset;
    for (let i = first; at < end; i++) {
      const part = this.#parts[i];
      if (part === undefined || part.segment !== segment || part.offset > at) return undefined;
      const bytes = part.bytes.subarray(at - part.offset, end - part.offset);
      if (bytes.length === 0) return undefined;
      found.push(bytes);
      at += bytes.length;
    }
    return found.length === 1 ? found[0] : Buffer.concat(found);
  }
}
