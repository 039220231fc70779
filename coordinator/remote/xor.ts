/**
 * Prometheus's XOR chunks (prometheus/tsdb/chunkenc/xor.go), which are a variant of Gorilla's. All numbers are big-endian,
 * bits go from the highest to the lowest:
 *
 *     u16 samples
 *     first sample:   varint zigzag(timestamp), 64 bits of the value
 *     second:         uvarint step, value
 *     further:        change of the step, value
 *     change of step: `0` (none), `10` + 14 bits, `110` + 17, `1110` + 20, `1111` + 64
 *     value, of the XOR with the value before: `0` (the same), `10` + the bits within the frame before, or
 *                     `11` + 5 bits leading zeros (at most 31) + 6 bits length (0: 64) + the bits
 */
import type { Columns } from '../query/queryable.ts';

/** Prometheus makes them no longer, and nobody expects more. */
export const MAX_CHUNK_SAMPLES = 120;
/** The most that so many samples take: 145 bits each, and what is before them. */
export const MAX_CHUNK_BYTES = 2 + 10 + 10 + MAX_CHUNK_SAMPLES * 19;

/** No frame has been opened: no XOR fits into it. */
const NO_FRAME = 0xff;

export class XorEncoder {
  #bytes: Uint8Array = new Uint8Array(0);
  /** The byte that is being filled, and how many of its bits are free. */
  #at = 0;
  #free = 0;

  /**
   * Writes the samples `from..to - 1` (at least one, at most MAX_CHUNK_SAMPLES) into `out` at `at`, where MAX_CHUNK_BYTES
   * must have room. Returns where the chunk ends.
   */
  encode({ timestamps, values }: Columns, from: number, to: number, out: Uint8Array, at: number): number {
    this.#bytes = out;
    out[at] = (to - from) >>> 8;
    out[at + 1] = to - from;
    this.#at = at + 1;
    this.#free = 0;

    // As words: a NaN may lose its payload on the way through a number.
    const words = new Uint32Array(values.buffer, values.byteOffset, values.length * 2);
    let time = timestamps[from] as number;
    let low = words[2 * from] as number;
    let high = words[2 * from + 1] as number;
    this.#varint(time < 0 ? -2 * time - 1 : 2 * time);
    this.#put(high, 32);
    this.#put(low, 32);
    let step = 0;
    let leading = NO_FRAME;
    let trailing = 0;
    for (let i = from + 1; i < to; i++) {
      const newStep = (timestamps[i] as number) - time;
      if (i === from + 1) this.#varint(newStep);
      else this.#change(newStep - step);
      time += newStep;
      step = newStep;

      const newLow = words[2 * i] as number;
      const newHigh = words[2 * i + 1] as number;
      const lowXor = low ^ newLow;
      const highXor = high ^ newHigh;
      low = newLow;
      high = newHigh;
      if (lowXor === 0 && highXor === 0) {
        this.#put(0, 1);
        continue;
      }
      const newLeading = Math.min(31, highXor !== 0 ? Math.clz32(highXor) : 32);
      const newTrailing = lowXor !== 0 ? trailingZeros(lowXor) : 32 + trailingZeros(highXor);
      if (leading !== NO_FRAME && newLeading >= leading && newTrailing >= trailing) {
        this.#put(0b10, 2);
      } else {
        leading = newLeading;
        trailing = newTrailing;
        this.#put(0b11, 2);
        this.#put(leading, 5);
        this.#put((64 - leading - trailing) & 63, 6);
      }
      this.#putShifted(highXor, lowXor, trailing, 64 - leading - trailing);
    }
    return this.#at + 1;
  }

  #change(change: number): void {
    if (change === 0) this.#put(0, 1);
    else if (fits(change, 14)) {
      this.#put(0b10, 2);
      this.#put(change, 14);
    } else if (fits(change, 17)) {
      this.#put(0b110, 3);
      this.#put(change, 17);
    } else if (fits(change, 20)) {
      this.#put(0b1110, 4);
      this.#put(change, 20);
    } else {
      this.#put(0b1111, 4);
      this.#put(Math.floor(change / 2 ** 32), 32);
      this.#put(change % 2 ** 32, 32);
    }
  }

  /** LEB128; bytes of it need not start at a byte of the chunk. */
  #varint(value: number): void {
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) this.#put((rest % 0x80) | 0x80, 8);
    this.#put(rest, 8);
  }

  /** `count` bits of a 64-bit word, without the lowest `shift`. */
  #putShifted(high: number, low: number, shift: number, count: number): void {
    let shiftedHigh = 0;
    let shiftedLow = low;
    if (shift >= 32) shiftedLow = high >>> (shift - 32);
    else {
      shiftedHigh = high >>> shift;
      if (shift > 0) shiftedLow = (low >>> shift) | (high << (32 - shift));
    }
    if (count > 32) this.#put(shiftedHigh, count - 32);
    this.#put(shiftedLow, Math.min(count, 32));
  }

  /** The lowest `count` bits of a word; what is above them is not looked at. */
  #put(bits: number, count: number): void {
    const bytes = this.#bytes;
    let left = count;
    while (left > 0) {
      if (this.#free === 0) {
        bytes[++this.#at] = 0;
        this.#free = 8;
      }
      const taken = Math.min(left, this.#free);
      left -= taken;
      this.#free -= taken;
      bytes[this.#at] = (bytes[this.#at] as number) | (((bits >>> left) & ((1 << taken) - 1)) << this.#free);
    }
  }
}

function trailingZeros(word: number): number {
  return 31 - Math.clz32(word & -word);
}

/** Prometheus's own range for so many bits: it is one off two's complement's, at both ends. */
function fits(change: number, bits: number): boolean {
  const half = 2 ** (bits - 1);
  return -(half - 1) <= change && change <= half;
}
