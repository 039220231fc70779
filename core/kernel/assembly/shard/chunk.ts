/**
 * A chunk: samples of one series within less than 2^31 ms, in one of two encodings. It says everything about itself:
 *
 *   u8   encoding: 1 XOR (run.ts), 2 columnar (columnar.ts)
 *   u8   exponent     u8   time layout     u8   value layout      columnar; 0 in XOR
 *   u32  samples, at least 1
 *   i64  first timestamp, ms
 *   u32  last timestamp - first timestamp
 *   ...  body to the end
 */
import { columnarWorkBytes, decodeColumnar, encodeColumnar } from './columnar';
import { WINDOW_MS } from './rule';
import { beginLinear, decodeStream, endLinear, gather, push, streamBound, Run } from './run';
import { scratch, WORK } from './scratch';

export const HEADER_BYTES: u32 = 20;
const XOR: u32 = 1;
const COLUMNAR: u32 = 2;

@inline export function chunkCount(chunk: usize): u32 {
  return load<u32>(chunk, 4);
}

@inline export function chunkMin(chunk: usize): i64 {
  return load<i64>(chunk, 8);
}

@inline export function chunkSpan(chunk: usize): u32 {
  return load<u32>(chunk, 16);
}

/** The most bytes a chunk of `count` samples can take. */
export function chunkBound(count: u32): u32 {
  return HEADER_BYTES + streamBound(count);
}

function writeHeader(chunk: usize, encoding: u32, count: u32, min: i64, span: u32): void {
  store<u32>(chunk, encoding);
  store<u32>(chunk, count, 4);
  store<i64>(chunk, min, 8);
  store<u32>(chunk, span, 16);
}

/** Could these bytes be a chunk? A chunk that passes has plausible counts; its body may still be found broken in decoding. */
export function isChunk(chunk: usize, bytes: u32): bool {
  if (bytes <= HEADER_BYTES) return false;
  const encoding = load<u8>(chunk);
  const count = chunkCount(chunk);
  const span = chunkSpan(chunk);
  return (encoding == XOR || encoding == COLUMNAR) && count != 0 && span < 0x80000000 && count - 1 <= span
    && chunkMin(chunk) >= 0 && chunkMin(chunk) <= i64.MAX_VALUE - <i64>span
    // Two bits a sample are the least in XOR; a columnar chunk may say all in a few bytes, within one window.
    && (encoding == XOR ? <u64>count <= (<u64>bytes << 2) : count <= WINDOW_MS);
}

/** Do all samples lie in the window? */
export function isWithin(chunk: usize, windowStart: i64): bool {
  return chunkMin(chunk) >= windowStart && chunkMin(chunk) - windowStart + <i64>chunkSpan(chunk) < <i64>WINDOW_MS;
}

/** The run's stream as a chunk at `to`; returns its length. */
export function exportRun(run: Run, to: usize): u32 {
  writeHeader(to, XOR, run.count, run.windowStart + run.firstOffset, run.lastOffset - run.firstOffset);
  return <u32>(gather(run, to + HEADER_BYTES) - to);
}

/** Encodes a set as XOR. Offsets count from `origin`. Returns the length. */
export function encodeXor(count: u32, offsets: usize, values: usize, origin: i64, to: usize): u32 {
  const first = load<u32>(offsets);
  const last = load<u32>(offsets + ((<usize>count - 1) << 2));
  writeHeader(to, XOR, count, origin + first, last - first);
  const run = beginLinear(to + HEADER_BYTES, first, load<u64>(values));
  for (let i: usize = 1; i < count; i++) push(run, load<u32>(offsets + (i << 2)), load<u64>(values + (i << 3)));
  return <u32>(endLinear() - to);
}

/**
 * Encodes a set in the smaller encoding, columnar when both take the same; a pure function of the set. `to` has
 * `chunkBound(count)` bytes twice. Returns the length; the chunk begins at `sealedAt()`.
 */
export function encodeSealed(count: u32, offsets: usize, values: usize, origin: i64, to: usize): u32 {
  const first = load<u32>(offsets);
  const last = load<u32>(offsets + ((<usize>count - 1) << 2));
  const xorBound = chunkBound(count);
  const columnar = to;
  sealed = columnar;
  const work = scratch(WORK, columnarWorkBytes(count));
  writeHeader(columnar, COLUMNAR, count, origin + first, last - first);
  const end = encodeColumnar(columnar, columnar + HEADER_BYTES, columnar + xorBound, count, offsets, values, work);
  // XOR spends two bits a sample or more: no need to try when columnar is below that.
  if (end != 0 && <u64>(end - columnar) <= <u64>HEADER_BYTES + (<u64>count >> 2)) return <u32>(end - columnar);
  const xor = columnar + xorBound;
  const xorBytes = encodeXor(count, offsets, values, origin, xor);
  if (end != 0 && <u32>(end - columnar) <= xorBytes) return <u32>(end - columnar);
  sealed = xor;
  return xorBytes;
}

let sealed: usize = 0;

/** Where the last `encodeSealed` left its chunk. */
export function sealedAt(): usize {
  return sealed;
}

/**
 * Decodes a chunk that passed `isChunk` into u32 offsets, the first being `first`, and u64 values. 64 bytes of slack lie
 * behind the chunk. False when its body is broken: then the columns hold nothing of use.
 */
export function decodeChunk(chunk: usize, bytes: u32, first: u32, offsets: usize, values: usize): bool {
  const count = chunkCount(chunk);
  const body = chunk + HEADER_BYTES;
  const end = chunk + bytes;
  const whole = load<u8>(chunk) == XOR
    ? decodeStream(body, end, count, first, offsets, values)
    : decodeColumnar(chunk, body, end, count, first, offsets, values);
  return whole && load<u32>(offsets + ((<usize>count - 1) << 2)) - first == chunkSpan(chunk);
}
