/**
 * Snappy's block format (github.com/google/snappy/blob/main/format_description.txt), resumable: a
 * body is decompressed a stretch ahead of the parser, so that what was written is still in the
 * cache when it is read. Copies go 16 bytes at a time and may run into the slack of either region.
 */
import {
  SNAPPY_LITERAL,
  SNAPPY_OFFSET,
  SNAPPY_OVERRUN,
  SNAPPY_PREAMBLE,
  SNAPPY_TOO_LARGE,
  SNAPPY_TRAILING,
  SNAPPY_TRUNCATED,
  fail,
} from './state';

let source: usize = 0;
let sourceEnd: usize = 0;
let base: usize = 0;
let end: usize = 0;
/** Decompressed up to here. */
export let written: usize = 0;

/** Declared size of the decompressed body. */
export function declared(): usize {
  return end - base;
}

/** Reads the preamble. The `length` bytes at `from` will be decompressed to `to`, at most `limit` of them. */
export function open(from: usize, length: usize, to: usize, limit: usize): bool {
  base = to;
  written = to;
  end = to;
  source = from;
  sourceEnd = from + length;
  let size: u64 = 0;
  let shift: u64 = 0;
  while (true) {
    if (source >= sourceEnd || shift > 28) return fail(SNAPPY_PREAMBLE, from);
    const byte = <u64>load<u8>(source++);
    size |= (byte & 127) << shift;
    shift += 7;
    if (byte < 128) break;
  }
  if (size > 0xffffffff) return fail(SNAPPY_PREAMBLE, from);
  if (size > <u64>limit) {
    end = to + <usize>size; // for the message; nothing is written
    return fail(SNAPPY_TOO_LARGE, from);
  }
  end = to + <usize>size;
  return true;
}

/** Decompresses until at least `target` (at most the end) is written. */
export function inflate(target: usize): bool {
  let s = source;
  let d = written;
  const sEnd = sourceEnd;
  const dEnd = end;
  const dBase = base;
  if (target > dEnd) target = dEnd;
  while (d < target) {
    if (s >= sEnd) return fail(SNAPPY_TRUNCATED, s);
    const op = s;
    const tag = <u32>load<u8>(s++);
    const kind = tag & 3;
    if (kind == 0) {
      let length = <usize>(tag >> 2);
      if (length < 60) {
        length++;
      } else {
        const count = length - 59;
        length = <usize>(load<u32>(s) & (<u32>-1 >> (32 - (<u32>count << 3)))) + 1;
        s += count;
        if (s > sEnd || length == 0) return fail(SNAPPY_LITERAL, op);
      }
      if (length > sEnd - s) return fail(SNAPPY_LITERAL, op);
      if (length > dEnd - d) return fail(SNAPPY_OVERRUN, op);
      if (length <= 16) {
        v128.store(d, v128.load(s));
      } else if (length <= 64) {
        v128.store(d, v128.load(s));
        v128.store(d, v128.load(s, 16), 16);
        if (length > 32) {
          v128.store(d, v128.load(s, 32), 32);
          v128.store(d, v128.load(s, 48), 48);
        }
      } else {
        memory.copy(d, s, length);
      }
      d += length;
      s += length;
      continue;
    }
    let length: usize;
    let offset: usize;
    if (kind == 1) {
      length = <usize>((tag >> 2) & 7) + 4;
      offset = (<usize>(tag >> 5) << 8) | <usize>load<u8>(s);
      s += 1;
    } else if (kind == 2) {
      length = <usize>(tag >> 2) + 1;
      offset = <usize>load<u16>(s);
      s += 2;
    } else {
      length = <usize>(tag >> 2) + 1;
      offset = <usize>load<u32>(s);
      s += 4;
    }
    if (s > sEnd) return fail(SNAPPY_TRUNCATED, op);
    if (offset - 1 >= d - dBase) return fail(SNAPPY_OFFSET, op); // 0 wraps around
    if (length > dEnd - d) return fail(SNAPPY_OVERRUN, op);
    const from = d - offset;
    if (offset >= 16) {
      v128.store(d, v128.load(from));
      if (length > 16) {
        v128.store(d, v128.load(from, 16), 16);
        if (length > 32) {
          v128.store(d, v128.load(from, 32), 32);
          v128.store(d, v128.load(from, 48), 48);
        }
      }
    } else if (offset >= 8) {
      for (let i: usize = 0; i < length; i += 8) store<u64>(d + i, load<u64>(from + i));
    } else {
      for (let i: usize = 0; i < length; i++) store<u8>(d + i, load<u8>(from + i));
    }
    d += length;
  }
  source = s;
  written = d;
  if (d == dEnd && s != sEnd) return fail(SNAPPY_TRAILING, s);
  return true;
}
