/** Protobuf's wire format (protobuf.dev/programming-guides/encoding), bounds checked. */
import { LENGTH, TAG, VARINT, WIRE_TYPE, fail } from './state';

/** Where the last read ended. Meaningful only after a read that did not fail. */
export let after: usize = 0;
let wide: u64 = 0;

/** The value of the last `readVarint`. */
export function varint(): u64 {
  return wide;
}

/** Reads at most ten bytes of [p, end). */
export function readVarint(p: usize, end: usize): bool {
  if (p < end) {
    const first = <u64>load<u8>(p);
    if (first < 128) {
      wide = first;
      after = p + 1;
      return true;
    }
  }
  let value: u64 = 0;
  let shift: u64 = 0;
  const start = p;
  while (p < end && shift < 70) {
    const byte = <u64>load<u8>(p++);
    value |= (byte & 127) << shift;
    if (byte < 128) {
      // The tenth byte holds one bit.
      if (shift == 63 && byte > 1) return fail(VARINT, start);
      wide = value;
      after = p;
      return true;
    }
    shift += 7;
  }
  return fail(VARINT, start);
}

/** Reads a length and checks that so many bytes are left before `end`. */
export function readLength(p: usize, end: usize): bool {
  if (!readVarint(p, end)) return false;
  if (wide > <u64>(end - after)) return fail(LENGTH, p);
  return true;
}

/** Reads the tag of a field: 32 bits, field numbers from 1 on. */
export function readTag(p: usize, end: usize): bool {
  if (!readVarint(p, end)) return false;
  if (wide > 0xffffffff || wide >> 3 == 0) return fail(TAG, p);
  return true;
}

/** Skips the value of a field whose tag was `tag` and whose value starts at `p`. */
export function skip(tag: u32, p: usize, end: usize): bool {
  const type = tag & 7;
  if (type == 0) return readVarint(p, end);
  if (type == 2) {
    if (!readLength(p, end)) return false;
    after += <usize>wide;
    return true;
  }
  // Groups (3, 4) were never part of these messages.
  const size: usize = type == 1 ? 8 : type == 5 ? 4 : 0;
  if (size == 0) return fail(WIRE_TYPE, p);
  if (size > end - p) return fail(LENGTH, p);
  after = p + size;
  return true;
}
