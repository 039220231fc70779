/**
 * The columnar encoding: values as scaled integers, times as a grid, both packed in as few bits as they need.
 * For measured values, which are short decimals more often than not. Not every set of samples can be written so;
 * then the XOR encoding is used.
 *
 * A value v becomes the integer i with v == i / 10^e, bit for bit, for the smallest e in 0..6 that does for all.
 * Integers are written as differences from their minimum (frame of reference), as zigzag steps, or as steps above the
 * smallest step; whichever is smallest. Times are residuals around a line through first and last, or steps above the
 * smallest step. Packed fields come in blocks of 32 with a width each (times around a line: one width for all), so
 * every block but the last ends on a byte.
 *
 * Behind the chunk header (chunk.ts; its bytes 1..3 hold exponent, time layout, value layout):
 *
 *   varint  period (line) or smallest step (steps)
 *   varint  zigzag of the smallest residual      only around a line of width > 0
 *   varint  zigzag of the minimum (frame of reference) or of the first value (steps)
 *   varint  zigzag of the smallest step          only with steps above the smallest
 *   u8[]    widths of the time blocks            one per block of 32 steps, only with time steps
 *   u8[]    widths of the value blocks           absent when all are 0 (FLAT)
 *   bits    times; padded to a byte
 *   bits    values; padded to a byte
 */
import { bitWidth, maskOf, pack, packEnd, packInto, unzigzag, zigzag } from './bits';
import { readVarint, varintBytes, varintEnd, writeVarint } from '../varint';

const BLOCK: u32 = 32;

/** Time layout: 0..32 is the width around a line, this is steps. */
const STEPS: u32 = 255;

/** Value layouts. */
const FRAME: u32 = 0;
const ZIGZAG: u32 = 1;
const RISING: u32 = 2;
/** Flag: all widths are 0. */
const FLAT: u32 = 128;

const MAX_EXPONENT: u32 = 6;
const POWERS: StaticArray<f64> = [1, 10, 100, 1000, 10000, 100000, 1000000];

/** 1.5 * 2^52: adding it to |x| < 2^51 rounds x to an integer and leaves that in the low bits of the sum. */
const ROUNDER: f64 = 6755399441055744.0;
const ROUNDER_BITS: i64 = 0x4338000000000000;
const LARGEST: f64 = 2251799813685248.0;

/** Bytes of working space that `encodeColumnar` needs at `work`. */
export function columnarWorkBytes(count: u32): u32 {
  return count * 8 + 16;
}

/**
 * The largest number of values whose bits survive v -> integer -> v at this exponent, from the front. Integers go to `ints`.
 * Stops at the first that does not.
 */
function scaleValues(values: usize, count: u32, exponent: u32, ints: usize): u32 {
  const scale = unchecked(POWERS[exponent]);
  const scales = f64x2.splat(scale);
  const rounders = f64x2.splat(ROUNDER);
  const largest = f64x2.splat(LARGEST);
  let i: u32 = 0;
  for (; i + 2 <= count; i += 2) {
    const at = <usize>i << 3;
    const v = v128.load(values + at);
    const sum = f64x2.add(f64x2.mul(v, scales), rounders);
    const rounded = f64x2.sub(sum, rounders);
    const back = f64x2.div(rounded, scales);
    // -0 comes back as +0 and so fails here; a NaN fails the comparison of sizes.
    const good = v128.and(i64x2.eq(back, v), f64x2.lt(f64x2.abs(rounded), largest));
    if (!i64x2.all_true(good)) break;
    v128.store(ints + at, i64x2.sub(sum, i64x2.splat(ROUNDER_BITS)));
  }
  for (; i < count; i++) {
    const at = <usize>i << 3;
    const v = load<f64>(values + at);
    const sum = v * scale + ROUNDER;
    const rounded = sum - ROUNDER;
    if (reinterpret<u64>(rounded / scale) != reinterpret<u64>(v) || !(abs(rounded) < LARGEST)) return i;
    store<i64>(ints + at, reinterpret<i64>(sum) - ROUNDER_BITS);
  }
  return i;
}

/**
 * Encodes behind the header at `chunk` (whose bytes 1..3 it writes); `end` bounds the space, so that a chunk that
 * would not be smaller is given up early. Returns the address behind it, or 0 when the values cannot be written so,
 * or the space does not suffice.
 */
export function encodeColumnar(chunk: usize, body: usize, end: usize, count: u32, offsets: usize, values: usize, work: usize): usize {
  let exponent: u32 = 0;
  while (scaleValues(values, count, exponent, work) != count) {
    if (++exponent > MAX_EXPONENT) return 0;
  }
  const n = <usize>count;
  const stepBlocks = (count - 1 + BLOCK - 1) / BLOCK;

  // Times: around a line, or steps?
  const first = load<u32>(offsets);
  const span = load<u32>(offsets + ((n - 1) << 2)) - first;
  const period: u32 = count > 1 ? (span + ((count - 1) >> 1)) / (count - 1) : 0;
  let lowest: i32 = 0;
  let highest: i32 = 0;
  let smallestStep: u32 = u32.MAX_VALUE;
  let expected = first;
  let before = first;
  for (let i: usize = 1; i < n; i++) {
    const offset = load<u32>(offsets + (i << 2));
    expected += period;
    const residual = <i32>(offset - expected);
    lowest = min(lowest, residual);
    highest = max(highest, residual);
    smallestStep = min(smallestStep, offset - before);
    before = offset;
  }
  const lineWidth = bitWidth(<u64>(<u32>(highest - lowest)));
  const lineBits = lineWidth * count;
  let stepBits: u32 = 0;
  if (lineWidth > 1) {
    for (let from: usize = 1; from < n; from += BLOCK) {
      const to = min(from + BLOCK, n);
      let all: u32 = 0;
      for (let i = from; i < to; i++) {
        all |= load<u32>(offsets + (i << 2)) - load<u32>(offsets + ((i - 1) << 2)) - smallestStep;
      }
      stepBits += bitWidth(all) * <u32>(to - from);
    }
  }
  const steps = lineWidth > 1 && stepBits + (stepBlocks << 3) < lineBits;

  // Values: which layout takes the fewest bits?
  let least = load<i64>(work);
  let leastStep: i64 = i64.MAX_VALUE;
  for (let i: usize = 1; i < n; i++) {
    const value = load<i64>(work + (i << 3));
    least = min(least, value);
    leastStep = min(leastStep, value - load<i64>(work + (i << 3) - 8));
  }
  const frameBits = fieldBits(FRAME, work, count, least, leastStep);
  const zigzagBits = fieldBits(ZIGZAG, work, count, least, leastStep);
  const risingBits = fieldBits(RISING, work, count, least, leastStep);
  let layout = FRAME;
  let valueBits = frameBits;
  if (zigzagBits < valueBits) { layout = ZIGZAG; valueBits = zigzagBits; }
  if (risingBits < valueBits) { layout = RISING; valueBits = risingBits; }
  const flat = valueBits == 0;
  const valueBlocks = layout == FRAME ? (count + BLOCK - 1) / BLOCK : stepBlocks;

  const base = layout == FRAME ? least : load<i64>(work);
  let size = varintBytes(steps ? smallestStep : period) + varintBytes(zigzag(base));
  if (!steps && lineWidth != 0) size += varintBytes(zigzag(lowest));
  if (layout == RISING) size += varintBytes(zigzag(leastStep));
  if (!flat) size += valueBlocks;
  if (steps) size += stepBlocks;
  size += ((steps ? stepBits : lineBits) + 7) >> 3;
  size += (valueBits + 7) >> 3;
  if (body + size > end) return 0;

  store<u8>(chunk, <u8>exponent, 1);
  store<u8>(chunk, <u8>(steps ? STEPS : lineWidth), 2);
  store<u8>(chunk, <u8>(flat ? layout | FLAT : layout), 3);
  let at = writeVarint(body, steps ? smallestStep : period);
  if (!steps && lineWidth != 0) at = writeVarint(at, zigzag(lowest));
  at = writeVarint(at, zigzag(base));
  if (layout == RISING) at = writeVarint(at, zigzag(leastStep));
  const timeWidths = at;
  if (steps) at += stepBlocks;
  const valueWidths = at;
  if (!flat) at += valueBlocks;

  packInto(at);
  if (steps) {
    for (let from: usize = 1; from < n; from += BLOCK) {
      const to = min(from + BLOCK, n);
      let all: u32 = 0;
      for (let i = from; i < to; i++) {
        all |= load<u32>(offsets + (i << 2)) - load<u32>(offsets + ((i - 1) << 2)) - smallestStep;
      }
      const width = bitWidth(all);
      store<u8>(timeWidths + ((from - 1) >> 5), <u8>width);
      for (let i = from; i < to; i++) {
        const step: u32 = load<u32>(offsets + (i << 2)) - load<u32>(offsets + ((i - 1) << 2));
        pack(step - smallestStep, width);
      }
    }
  } else if (lineWidth != 0) {
    expected = first + lowest;
    for (let i: usize = 0; i < n; i++) {
      // In 32 bits, where it wraps to the residual: as an argument of 64 bits it would be computed in 64.
      const residual: u32 = load<u32>(offsets + (i << 2)) - expected;
      pack(residual, lineWidth);
      expected += period;
    }
  }
  at = packEnd();
  if (flat) return at;

  packInto(at);
  for (let from: usize = layout == FRAME ? 0 : 1, block: usize = 0; from < n; from += BLOCK, block++) {
    const to = min(from + BLOCK, n);
    let all: u64 = 0;
    for (let i = from; i < to; i++) all |= field(layout, work + (i << 3), least, leastStep);
    const width = bitWidth(all);
    store<u8>(valueWidths + block, <u8>width);
    for (let i = from; i < to; i++) pack(field(layout, work + (i << 3), least, leastStep), width);
  }
  return packEnd();
}

/** Bits that the fields of a layout take, with a width for each block of 32. */
@inline function fieldBits(layout: u32, ints: usize, count: u32, least: i64, leastStep: i64): u32 {
  const n = <usize>count;
  let bits: u32 = 0;
  for (let from: usize = layout == FRAME ? 0 : 1; from < n; from += BLOCK) {
    const to = min(from + BLOCK, n);
    let all: u64 = 0;
    for (let i = from; i < to; i++) all |= field(layout, ints + (i << 3), least, leastStep);
    bits += bitWidth(all) * <u32>(to - from);
  }
  return bits;
}

/** What is packed for the integer at `at`. */
@inline function field(layout: u32, at: usize, least: i64, leastStep: i64): u64 {
  const value = load<i64>(at);
  if (layout == FRAME) return <u64>(value - least);
  const step = value - load<i64>(at - 8);
  return layout == ZIGZAG ? zigzag(step) : <u64>(step - leastStep);
}

/**
 * Decodes what `encodeColumnar` wrote into u32 offsets (the first one is `first`) and u64 values. [body, end) has 8 bytes
 * of slack behind. False when the bytes are no such chunk.
 */
export function decodeColumnar(chunk: usize, body: usize, end: usize, count: u32, first: u32, offsets: usize, values: usize): bool {
  const exponent = <u32>load<u8>(chunk, 1);
  const lineWidth = <u32>load<u8>(chunk, 2);
  const layout = <u32>load<u8>(chunk, 3) & ~FLAT;
  const flat = (load<u8>(chunk, 3) & FLAT) != 0;
  const steps = lineWidth == STEPS;
  if (exponent > MAX_EXPONENT || (lineWidth > 32 && !steps) || layout > RISING) return false;

  const period = <u32>readVarint(body, end);
  let at = varintEnd();
  if (at == 0) return false;
  let lowest: i64 = 0;
  if (!steps && lineWidth != 0) {
    lowest = unzigzag(readVarint(at, end));
    at = varintEnd();
    if (at == 0) return false;
  }
  const base = unzigzag(readVarint(at, end));
  at = varintEnd();
  if (at == 0) return false;
  let leastStep: i64 = 0;
  if (layout == RISING) {
    leastStep = unzigzag(readVarint(at, end));
    at = varintEnd();
    if (at == 0) return false;
  }
  const stepBlocks = (count - 1 + BLOCK - 1) / BLOCK;
  const timeWidths = at;
  if (steps) at += stepBlocks;
  const valueWidths = at;
  if (!flat) at += layout == FRAME ? (count + BLOCK - 1) / BLOCK : stepBlocks;
  if (at > end) return false;

  const offsetsEnd = offsets + (<usize>count << 2);
  if (steps) {
    store<u32>(offsets, first);
    at = unpackTimeSteps(at, end, timeWidths, offsets + 4, offsetsEnd, first, period);
    if (at == 0) return false;
  } else if (lineWidth == 0) {
    for (let to = offsets; to < offsetsEnd; to += 4) {
      store<u32>(to, first);
      first += period;
    }
  } else {
    const bytes = <usize>((<u64>lineWidth * <u64>count + 7) >> 3);
    if (at + bytes > end) return false;
    let expected = first + <u32>lowest;
    const mask = maskOf(lineWidth);
    let bit: usize = 0;
    for (let to = offsets; to < offsetsEnd; to += 4) {
      store<u32>(to, expected + <u32>((load<u64>(at + (bit >> 3)) >> (bit & 7)) & mask));
      bit += lineWidth;
      expected += period;
    }
    at += bytes;
  }

  const scale = unchecked(POWERS[exponent]);
  const valuesEnd = values + (<usize>count << 3);
  if (flat) {
    // One value, or steps that are all equal.
    let integer = base;
    for (; values < valuesEnd; values += 8) {
      store<f64>(values, <f64>integer / scale);
      integer += leastStep;
    }
    return true;
  }
  if (layout == FRAME) return unpackFrame(at, end, valueWidths, values, valuesEnd, base, scale);
  store<f64>(values, <f64>base / scale);
  if (layout == RISING) return unpackRising(at, end, valueWidths, values + 8, valuesEnd, base, leastStep, scale);
  return unpackZigzag(at, end, valueWidths, values + 8, valuesEnd, base, scale);
}

/** Returns the address behind the blocks, 0 when they do not fit. */
function unpackTimeSteps(at: usize, end: usize, widths: usize, to: usize, toEnd: usize, offset: u32, smallestStep: u32): usize {
  while (to < toEnd) {
    const width = <usize>load<u8>(widths++);
    const blockEnd = min(to + (BLOCK << 2), toEnd);
    const bytes = ((((blockEnd - to) >> 2) * width) + 7) >> 3;
    if (width > 32 || at + bytes > end) return 0;
    const mask = maskOf(<u32>width);
    let bit: usize = 0;
    for (; to < blockEnd; to += 4) {
      offset += smallestStep + <u32>((load<u64>(at + (bit >> 3)) >> (bit & 7)) & mask);
      store<u32>(to, offset);
      bit += width;
    }
    at += bytes;
  }
  return at;
}

/** Fields are at most 56 bits wide (integers are below 2^51), so that one load at a byte holds them. */
const WIDEST: usize = 56;

function unpackFrame(at: usize, end: usize, widths: usize, to: usize, toEnd: usize, least: i64, scale: f64): bool {
  while (to < toEnd) {
    const width = <usize>load<u8>(widths++);
    const blockEnd = min(to + (BLOCK << 3), toEnd);
    const bytes = ((((blockEnd - to) >> 3) * width) + 7) >> 3;
    if (width > WIDEST || at + bytes > end) return false;
    const mask = maskOf(<u32>width);
    let bit: usize = 0;
    for (; to < blockEnd; to += 8) {
      const field = (load<u64>(at + (bit >> 3)) >> (bit & 7)) & mask;
      store<f64>(to, <f64>(least + <i64>field) / scale);
      bit += width;
    }
    at += bytes;
  }
  return true;
}

function unpackRising(at: usize, end: usize, widths: usize, to: usize, toEnd: usize, integer: i64, leastStep: i64, scale: f64): bool {
  while (to < toEnd) {
    const width = <usize>load<u8>(widths++);
    const blockEnd = min(to + (BLOCK << 3), toEnd);
    const bytes = ((((blockEnd - to) >> 3) * width) + 7) >> 3;
    if (width > WIDEST || at + bytes > end) return false;
    const mask = maskOf(<u32>width);
    let bit: usize = 0;
    for (; to < blockEnd; to += 8) {
      integer += leastStep + <i64>((load<u64>(at + (bit >> 3)) >> (bit & 7)) & mask);
      store<f64>(to, <f64>integer / scale);
      bit += width;
    }
    at += bytes;
  }
  return true;
}

function unpackZigzag(at: usize, end: usize, widths: usize, to: usize, toEnd: usize, integer: i64, scale: f64): bool {
  while (to < toEnd) {
    const width = <usize>load<u8>(widths++);
    const blockEnd = min(to + (BLOCK << 3), toEnd);
    const bytes = ((((blockEnd - to) >> 3) * width) + 7) >> 3;
    if (width > WIDEST || at + bytes > end) return false;
    const mask = maskOf(<u32>width);
    let bit: usize = 0;
    for (; to < blockEnd; to += 8) {
      integer += unzigzag((load<u64>(at + (bit >> 3)) >> (bit & 7)) & mask);
      store<f64>(to, <f64>integer / scale);
      bit += width;
    }
    at += bytes;
  }
  return true;
}
