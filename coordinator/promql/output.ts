/** The bytes of an answer in JSON, under way: texts, and points straight from the columns, no string per number where that can be. */
import { formatValue, NUMBER_BYTES, writeDecimal, writeSeconds } from './digits.ts';

/** A piece is about this long. */
const PIECE_BYTES = 64 << 10;
const ZERO = 48;
const COMMA = 44;
const QUOTE = 34;
const OPEN = 91;
const CLOSE = 93;

/**
 * All outputs begin in the same memory: whoever holds one gives way to others only right after `take`. One that is not full has
 * room for a point: `,[`, time, `,"`, value, `"]`.
 */
const scratch = Buffer.allocUnsafeSlow(PIECE_BYTES + 2 * NUMBER_BYTES + 8);

export class Output {
  #bytes = scratch;
  #length = 0;

  get isFull(): boolean {
    return this.#length >= PIECE_BYTES;
  }

  text(text: string): void {
    const most = this.#length + 3 * text.length;
    if (most > this.#bytes.length) {
      const grown = Buffer.allocUnsafeSlow(2 * most);
      this.#bytes.copy(grown, 0, 0, this.#length);
      this.#bytes = grown;
    }
    this.#length += this.#bytes.write(text, this.#length);
  }

  /** `[seconds,"value"]` for each, from index `from` on, until the output is full; returns the index that is next. */
  points(timestamps: Float64Array, values: Float64Array, from: number): number {
    const { length } = values;
    let i = from;
    while (i < length && !this.isFull) {
      const bytes = this.#bytes;
      let at = this.#length;
      if (i > 0) bytes[at++] = COMMA;
      bytes[at++] = OPEN;
      at = writeSeconds(bytes, at, timestamps[i] as number);
      bytes[at++] = COMMA;
      bytes[at++] = QUOTE;
      at = writeValue(bytes, at, values[i] as number);
      bytes[at++] = QUOTE;
      bytes[at++] = CLOSE;
      this.#length = at;
      i++;
    }
    return i;
  }

  /** What was written since the last time. */
  take(): Buffer {
    const piece = Buffer.allocUnsafe(this.#length);
    this.#bytes.copy(piece, 0, 0, this.#length);
    this.#bytes = scratch;
    this.#length = 0;
    return piece;
  }
}

function writeValue(out: Uint8Array, at: number, v: number): number {
  if (v === 0 && 1 / v > 0) {
    out[at] = ZERO;
    return at + 1;
  }
  const end = writeDecimal(out, at, v);
  if (end >= 0) return end;
  const text = formatValue(v);
  for (let i = 0; i < text.length; i++) out[at + i] = text.charCodeAt(i);
  return at + text.length;
}
