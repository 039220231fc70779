/**
 * Byte planes: n words of 8 bytes become 8 planes of n bytes, plane k holding byte k of every word. Bytes of equal
 * meaning lie side by side then, which is what LZ4 needs to find repetitions.
 */

@inline function interleaveLow(a: v128, b: v128): v128 {
  return i8x16.shuffle(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}

@inline function interleaveHigh(a: v128, b: v128): v128 {
  return i8x16.shuffle(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

/**
 * Writes the planes of `count` words at `from` (64-byte slack behind it) to `to`. Interleaving bytes of words i and i+8
 * four times brings byte k of all 16 words together.
 */
export function splitPlanes(from: usize, count: u32, to: usize): void {
  const n = <usize>count;
  let i: usize = 0;
  for (; i + 16 <= n; i += 16) {
    const at = from + (i << 3);
    // Words as pairs (0,1) .. (14,15); after four rounds each register holds one byte of words 0..15 in order.
    const w0 = v128.load(at), w1 = v128.load(at, 16), w2 = v128.load(at, 32), w3 = v128.load(at, 48);
    const w4 = v128.load(at, 64), w5 = v128.load(at, 80), w6 = v128.load(at, 96), w7 = v128.load(at, 112);
    const a0 = interleaveLow(w0, w4), a1 = interleaveHigh(w0, w4), a2 = interleaveLow(w1, w5), a3 = interleaveHigh(w1, w5);
    const a4 = interleaveLow(w2, w6), a5 = interleaveHigh(w2, w6), a6 = interleaveLow(w3, w7), a7 = interleaveHigh(w3, w7);
    const b0 = interleaveLow(a0, a4), b1 = interleaveHigh(a0, a4), b2 = interleaveLow(a1, a5), b3 = interleaveHigh(a1, a5);
    const b4 = interleaveLow(a2, a6), b5 = interleaveHigh(a2, a6), b6 = interleaveLow(a3, a7), b7 = interleaveHigh(a3, a7);
    const c0 = interleaveLow(b0, b4), c1 = interleaveHigh(b0, b4), c2 = interleaveLow(b1, b5), c3 = interleaveHigh(b1, b5);
    const c4 = interleaveLow(b2, b6), c5 = interleaveHigh(b2, b6), c6 = interleaveLow(b3, b7), c7 = interleaveHigh(b3, b7);
    let plane = to + i;
    v128.store(plane, interleaveLow(c0, c4)); plane += n;
    v128.store(plane, interleaveHigh(c0, c4)); plane += n;
    v128.store(plane, interleaveLow(c1, c5)); plane += n;
    v128.store(plane, interleaveHigh(c1, c5)); plane += n;
    v128.store(plane, interleaveLow(c2, c6)); plane += n;
    v128.store(plane, interleaveHigh(c2, c6)); plane += n;
    v128.store(plane, interleaveLow(c3, c7)); plane += n;
    v128.store(plane, interleaveHigh(c3, c7));
  }
  for (; i < n; i++) {
    let word = load<u64>(from + (i << 3));
    for (let k: usize = 0; k < 8; k++, word >>= 8) store<u8>(to + k * n + i, <u8>word);
  }
}

/** The inverse of `splitPlanes`: the words of `count` bytes in each of the 8 planes at `from`. */
export function joinPlanes(from: usize, count: u32, to: usize): void {
  const n = <usize>count;
  let i: usize = 0;
  for (; i + 16 <= n; i += 16) {
    let plane = from + i;
    const p0 = v128.load(plane); plane += n;
    const p1 = v128.load(plane); plane += n;
    const p2 = v128.load(plane); plane += n;
    const p3 = v128.load(plane); plane += n;
    const p4 = v128.load(plane); plane += n;
    const p5 = v128.load(plane); plane += n;
    const p6 = v128.load(plane); plane += n;
    const p7 = v128.load(plane);
    // Bytes to pairs, pairs to fours, fours to words.
    const a0 = interleaveLow(p0, p4), a1 = interleaveLow(p1, p5), a2 = interleaveLow(p2, p6), a3 = interleaveLow(p3, p7);
    const a4 = interleaveHigh(p0, p4), a5 = interleaveHigh(p1, p5), a6 = interleaveHigh(p2, p6), a7 = interleaveHigh(p3, p7);
    const b0 = interleaveLow(a0, a2), b1 = interleaveHigh(a0, a2), b2 = interleaveLow(a1, a3), b3 = interleaveHigh(a1, a3);
    const b4 = interleaveLow(a4, a6), b5 = interleaveHigh(a4, a6), b6 = interleaveLow(a5, a7), b7 = interleaveHigh(a5, a7);
    const at = to + (i << 3);
    v128.store(at, interleaveLow(b0, b2));
    v128.store(at, interleaveHigh(b0, b2), 16);
    v128.store(at, interleaveLow(b1, b3), 32);
    v128.store(at, interleaveHigh(b1, b3), 48);
    v128.store(at, interleaveLow(b4, b6), 64);
    v128.store(at, interleaveHigh(b4, b6), 80);
    v128.store(at, interleaveLow(b5, b7), 96);
    v128.store(at, interleaveHigh(b5, b7), 112);
  }
  for (; i < n; i++) {
    let word: u64 = 0;
    for (let k: usize = 0; k < 8; k++) word |= <u64>load<u8>(from + k * n + i) << (k << 3);
    store<u64>(to + (i << 3), word);
  }
}
