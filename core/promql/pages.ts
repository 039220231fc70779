/** Writes pages of results, one after the other, into the same memory. Numbers are little-endian. */
export class PageWriter {
  #bytes = new Uint8Array(4_096);
  #view = new DataView(this.#bytes.buffer);
  length = 0;

  word(value: number): void {
    this.#reserve(4);
    this.#view.setUint32(this.length, value, true);
    this.length += 4;
  }

  /** In the place of one that was written. */
  setWord(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
  }

  double(value: number): void {
    this.#reserve(8);
    this.#view.setFloat64(this.length, value, true);
    this.length += 8;
  }

  /** In the place of one that was written. */
  setDouble(at: number, value: number): void {
    this.#view.setFloat64(at, value, true);
  }

  bytes(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  /** With its length before it. */
  text(bytes: Uint8Array): void {
    this.word(bytes.length);
    this.bytes(bytes);
  }

  /** So many zeros; returns where they begin. */
  zeros(count: number): number {
    this.#reserve(count);
    const at = this.length;
    this.#bytes.fill(0, at, at + count);
    this.length += count;
    return at;
  }

  /** Sets a bit among zeros that begin at `at`. */
  setBit(at: number, bit: number): void {
    const byte = at + (bit >>> 3);
    this.#bytes[byte] = (this.#bytes[byte] as number) | (1 << (bit & 7));
  }

  /** The page, as a copy; another one begins. */
  take(): Uint8Array {
    const page = this.#bytes.slice(0, this.length);
    this.length = 0;
    return page;
  }

  #reserve(byteCount: number): void {
    const needed = this.length + byteCount;
    if (needed <= this.#bytes.length) return;
    const grown = new Uint8Array(2 * needed);
    grown.set(this.#bytes.subarray(0, this.length));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

export function bytesOf(column: Float64Array | Uint32Array | Uint8Array): Uint8Array {
  return new Uint8Array(column.buffer, column.byteOffset, column.byteLength);
}
