/**
 * An open run: the samples of one series in one window, as a Gorilla XOR stream that grows (Pelkonen et al.,
 * "Gorilla: A Fast, Scalable, In-Memory Time Series Database", VLDB 2015, section 4.1; bits least significant first).
 *
 * The header is one cache line and holds the 64 bits that are being filled, so that appending in order touches
 * nothing else but once in 64 bits. Full words go to chained segments of 128 bytes: 15 words, then u32 next.
 * Stream: u64 first value, then per sample the change of the time step and the XOR with the value before.
 *
 *   step change  0:          0
 *                7 bits      01         (zigzag, read from the low end: 1 0 z0..z6)
 *                9 bits      011
 *                12 bits     0111
 *                32 bits     1111
 *   value        same:       0
 *                same frame: 01, then the frame's bits of the XOR
 *                new frame:  11, 5 bits leading zeros (at most 31), 6 bits length - 1, then the bits
 *
 * Late samples wait in the run's backlog (backlog.ts) until they are merged. Which series a run belongs to stands in its
 * window's list.
 */
import { allocCell, freeCell } from './memory';

@unmanaged
export class Run {
  windowStart: i64;
  lastValue: u64;
  /** The bits that are not yet a full word. */
  word: u64;
  /** Milliseconds from windowStart, as are all offsets. */
  lastOffset: u32;
  lastDelta: u32;
  /** Where `word` will go. */
  tail: usize;
  /** Byte 0: bits in `word`. Bytes 1, 2: leading and trailing zeros of the value frame. Byte 3: SEALED. */
  meta: u32;
  /** Samples in the stream. */
  count: u32;
  /** First segment. */
  head: usize;
  /** The series' next run. */
  next: Run | null;
  /** Where the next late sample goes, 0 without a backlog; number of those that wait, and a flag (backlog.ts). */
  backlog: usize;
  backlogCount: u32;
  firstOffset: u32;
}

export const RUN_BYTES: u32 = 64;
const SEGMENT_BYTES: u32 = 128;
export const SEGMENT_PAYLOAD: u32 = 120;

/** In `meta`: sealed, and unchanged since. Every change of the run clears it. */
export const SEALED: u32 = 1 << 24;
/** No frame yet: more leading and trailing zeros than any XOR has. */
const NO_FRAME: u32 = 0xffff00;

/** The most bytes the stream of `count` samples can take: 113 bits a sample, and whole words at its end. */
export function streamBound(count: u32): u32 {
  return count * 15 + 32;
}

/**
 * True while `push` writes to plain memory instead of chained segments: a segment's end then needs no link.
 * This is how a chunk is encoded with the same code.
 */
let linear: bool = false;

/** A header for chunks in the making. */
const draft: Run = changetype<Run>(memory.data(RUN_BYTES, 64));

/** Begins a linear stream at `at`, with its first sample. Push the others onto the returned header, then `endLinear`. */
export function beginLinear(at: usize, offset: u32, value: u64): Run {
  linear = true;
  // Words are stored where `tail` says, and `push` looks at its low bits only for the end of a segment.
  begin(draft, at, offset, value);
  return draft;
}

/** Writes the last bits; returns the address behind the stream. */
export function endLinear(): usize {
  linear = false;
  store<u64>(draft.tail, draft.word);
  return draft.tail + (((draft.meta & 0xff) + 7) >> 3);
}

/** Begins a run's stream. The caller has reserved memory, as for `push`. */
export function start(run: Run, offset: u32, value: u64): void {
  const segment = allocCell(SEGMENT_BYTES);
  run.head = segment;
  begin(run, segment, offset, value);
}

function begin(run: Run, at: usize, offset: u32, value: u64): void {
  store<u64>(at, value);
  run.tail = at + 8;
  run.lastValue = value;
  run.word = 0;
  run.lastOffset = offset;
  run.firstOffset = offset;
  run.lastDelta = 0;
  run.meta = NO_FRAME;
  run.count = 1;
}

function nextSegment(tail: usize): usize {
  if (linear) return tail;
  const segment = allocCell(SEGMENT_BYTES);
  store<u32>(tail, <u32>segment);
  return segment;
}

/**
 * Appends a sample that lies behind the last one (offset > run.lastOffset). The run counts as changed.
 *
 * Which frame is used and whether the word is full cannot be predicted, so both are computed without a branch: the word is
 * stored in any case, where it will go, and what lies there is not looked at before it is full.
 */
@inline export function push(run: Run, offset: u32, value: u64): void {
  const delta = offset - run.lastOffset;
  const change = <i32>(delta - run.lastDelta);
  let frame = run.meta & 0xffff00;
  let filled = <u64>(run.meta & 0xff);
  let word = run.word;
  let tail = run.tail;
  let xor = value ^ run.lastValue;
  let bits: u64 = 0;
  let n: u64 = 1;
  run.lastOffset = offset;
  run.lastDelta = delta;
  run.lastValue = value;
  run.count++;
  if (change != 0) {
    const z = <u64>(<u32>((change << 1) ^ (change >> 31)));
    if (z < 128) { bits = 1 | (z << 2); n = 9; }
    else if (z < 512) { bits = 3 | (z << 3); n = 12; }
    else if (z < 4096) { bits = 7 | (z << 4); n = 16; }
    else { bits = 15 | (z << 4); n = 36; }
  }
  if (xor == 0) {
    n++;
  } else {
    const lead = min<u64>(clz(xor), 31);
    const trail = ctz(xor);
    const frameLead = <u64>((frame >> 8) & 0xff);
    const frameTrail = <u64>(frame >> 16);
    const needed = 64 - lead - trail;
    const frameLength = 64 - frameLead - frameTrail;
    // A frame that has become much too wide costs more than the 11 bits of a new one.
    const same = i32(lead >= frameLead) & i32(trail >= frameTrail) & i32(frameLength <= needed + 11);
    const length = select<u64>(frameLength, needed, same);
    bits |= select<u64>(1, 3 | (lead << 2) | ((needed - 1) << 7), same) << n;
    n += select<u64>(2, 13, same);
    xor >>= select<u64>(frameTrail, trail, same);
    frame = select<u32>(frame, (<u32>lead << 8) | (<u32>trail << 16), same);
    if (n + length > 64) {
      word |= bits << filled;
      store<u64>(tail, word);
      const full = filled + n >= 64;
      word = select<u64>((bits >> 1) >> (63 - filled), word, full);
      filled = (filled + n) & 63;
      tail = advance(tail, full);
      bits = xor;
      n = length;
    } else {
      bits |= xor << n;
      n += length;
    }
  }
  word |= bits << filled;
  store<u64>(tail, word);
  const full = filled + n >= 64;
  run.word = select<u64>((bits >> 1) >> (63 - filled), word, full);
  run.meta = frame | <u32>((filled + n) & 63);
  run.tail = advance(tail, full);
}

/** Where the next word goes after the one at `tail`, if that is full. */
@inline function advance(tail: usize, full: bool): usize {
  tail += <usize>full << 3;
  return (tail & (SEGMENT_BYTES - 1)) == SEGMENT_PAYLOAD ? nextSegment(tail) : tail;
}

/** Bytes of full words in the run's segments, first value included. */
export function wordBytes(run: Run): u32 {
  let bytes: u32 = 0;
  let segment = run.head;
  while ((run.tail & ~(SEGMENT_BYTES - 1)) != segment) {
    bytes += SEGMENT_PAYLOAD;
    segment = load<u32>(segment, SEGMENT_PAYLOAD);
  }
  return bytes + <u32>(run.tail - segment);
}

/** Copies the stream to `to` (with 16 bytes of slack); returns the address behind it. */
export function gather(run: Run, to: usize): usize {
  let segment = run.head;
  while ((run.tail & ~(SEGMENT_BYTES - 1)) != segment) {
    // With the link behind the payload, which the next segment overwrites: 128 bytes are eight plain moves.
    for (let i: usize = 0; i < SEGMENT_BYTES; i += 16) v128.store(to + i, v128.load(segment + i));
    to += SEGMENT_PAYLOAD;
    segment = load<u32>(segment, SEGMENT_PAYLOAD);
  }
  for (; segment < run.tail; segment += 8, to += 8) store<u64>(to, load<u64>(segment));
  store<u64>(to, run.word);
  return to + (((run.meta & 0xff) + 7) >> 3);
}

/** Fills fresh segments with `bytes` (a multiple of 8) of full words: a run comes back from a checkpoint. Memory is reserved. */
export function scatter(run: Run, from: usize, bytes: u32): void {
  let segment = allocCell(SEGMENT_BYTES);
  run.head = segment;
  while (bytes >= SEGMENT_PAYLOAD) {
    memory.copy(segment, from, SEGMENT_PAYLOAD);
    const next = allocCell(SEGMENT_BYTES);
    store<u32>(segment, <u32>next, SEGMENT_PAYLOAD);
    segment = next;
    from += SEGMENT_PAYLOAD;
    bytes -= SEGMENT_PAYLOAD;
  }
  memory.copy(segment, from, bytes);
  run.tail = segment + bytes;
}

/** Frees the segments. */
export function freeStream(run: Run): void {
  let segment = run.head;
  while ((run.tail & ~(SEGMENT_BYTES - 1)) != segment) {
    const next: usize = load<u32>(segment, SEGMENT_PAYLOAD);
    freeCell(segment, SEGMENT_BYTES);
    segment = next;
  }
  freeCell(segment, SEGMENT_BYTES);
}

/**
 * Decodes a stream of `count` >= 1 samples in [at, end), with 8 bytes of slack behind, into u32 offsets (the first one
 * is `offset`) and u64 values. False when the stream is cut short or time does not advance: the bytes are no stream.
 */
export function decodeStream(at: usize, end: usize, count: u32, offset: u32, offsets: usize, values: usize): bool {
  if (at + 8 > end) return false;
  let value = load<u64>(at);
  at += 8;
  const bound = <usize>(end - at) << 3;
  let bit: usize = 0;
  let delta: u32 = 0;
  let frameTrail: u64 = 0;
  let frameLength: u64 = 0;
  let frameMask: u64 = 0;
  const offsetsEnd = offsets + (<usize>count << 2);
  store<u32>(offsets, offset);
  store<u64>(values, value);
  offsets += 4;
  values += 8;
  while (offsets < offsetsEnd) {
    if (bit > bound) return false;
    let w = load<u64>(at + (bit >> 3)) >> <u64>(bit & 7); // at least 57 valid bits
    if ((w & 0xff) == 0) {
      // Four samples or more that repeat step and value: two zero bits each.
      if (delta == 0) return false;
      let repeats = <usize>(ctz(w | (<u64>1 << 56)) >> 1);
      repeats = min(repeats, (offsetsEnd - offsets) >> 2);
      bit += repeats << 1;
      do {
        offset += delta;
        store<u32>(offsets, offset);
        store<u64>(values, value);
        offsets += 4;
        values += 8;
      } while (--repeats != 0);
      continue;
    }
    if (w & 1) {
      let z: u64;
      if (!(w & 2)) { z = (w >> 2) & 0x7f; w >>= 9; bit += 9; }
      else if (!(w & 4)) { z = (w >> 3) & 0x1ff; w >>= 12; bit += 12; }
      else if (!(w & 8)) { z = (w >> 4) & 0xfff; w >>= 16; bit += 16; }
      else { z = (w >> 4) & 0xffffffff; w >>= 36; bit += 36; }
      delta += <u32>z >> 1 ^ (0 - (<u32>z & 1));
    } else {
      w >>= 1;
      bit += 1;
    }
    if (delta - 1 >= 0x7fffffff) return false;
    offset += delta;
    if (w & 1) { // at least 57 - 36 = 21 valid bits: a frame fits
      if (w & 2) {
        const lead = (w >> 2) & 31;
        frameLength = ((w >> 7) & 63) + 1;
        frameTrail = (64 - lead - frameLength) & 63;
        frameMask = <u64>-1 >> (64 - frameLength);
        bit += 13;
      } else {
        bit += 2;
      }
      const from = at + (bit >> 3);
      const skip = <u64>(bit & 7);
      let x = load<u64>(from) >> skip;
      if (frameLength > 57 && skip != 0) x |= <u64>load<u8>(from, 8) << (64 - skip);
      value ^= (x & frameMask) << frameTrail;
      bit += <usize>frameLength;
    } else {
      bit += 1;
    }
    store<u32>(offsets, offset);
    store<u64>(values, value);
    offsets += 4;
    values += 8;
  }
  return bit <= bound;
}
