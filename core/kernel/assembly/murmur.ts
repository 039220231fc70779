/**
 * MurmurHash3_x64_128 with seed 0 (Austin Appleby, public domain; aappleby/smhasher, MurmurHash3.cpp).
 * Results are left in `hashLow()` (h1) and `hashHigh()` (h2).
 */

const C1: u64 = 0x87c37b91114253d5;
const C2: u64 = 0x4cf5ad432745937f;

let h1: u64 = 0;
let h2: u64 = 0;

@inline export function hashLow(): u64 {
  return h1;
}

@inline export function hashHigh(): u64 {
  return h2;
}

@inline function finalMix(k: u64): u64 {
  k ^= k >> 33;
  k *= 0xff51afd7ed558ccd;
  k ^= k >> 33;
  k *= 0xc4ceb9fe1a85ec53;
  return k ^ (k >> 33);
}

@inline function mix1(k: u64): u64 {
  return rotl(k * C1, 31) * C2;
}

@inline function mix2(k: u64): u64 {
  return rotl(k * C2, 33) * C1;
}

/** The 1 to 8 bytes at `at` as a little-endian word, without reading past them. */
function partialWord(at: usize, bytes: u32): u64 {
  let word: u64 = 0;
  for (let i: u32 = 0; i < bytes; i++) word |= <u64>load<u8>(at + i) << (i << 3);
  return word;
}

export function hash128(at: usize, bytes: u32): void {
  let a: u64 = 0;
  let b: u64 = 0;
  const bodyEnd = at + (bytes & ~15);
  let p = at;
  for (; p < bodyEnd; p += 16) {
    a ^= mix1(load<u64>(p));
    a = (rotl(a, 27) + b) * 5 + 0x52dce729;
    b ^= mix2(load<u64>(p, 8));
    b = (rotl(b, 31) + a) * 5 + 0x38495ab5;
  }
  const tail = bytes & 15;
  if (tail > 8) b ^= mix2(partialWord(p + 8, tail - 8));
  if (tail > 0) a ^= mix1(partialWord(p, min<u32>(tail, 8)));
  finish(a, b, bytes);
}

@inline function finish(a: u64, b: u64, bytes: u32): void {
  a ^= bytes;
  b ^= bytes;
  a += b;
  b += a;
  a = finalMix(a);
  b = finalMix(b);
  a += b;
  h1 = a;
  h2 = b + a;
}

let prefixA: u64 = 0;
let prefixB: u64 = 0;

/** Takes the first 16 bytes of several 32-byte messages at once; `hashAfterPrefix` finishes each. */
export function hashPrefix(word0: u64, word1: u64): void {
  const a = rotl(mix1(word0), 27) * 5 + 0x52dce729;
  prefixA = a;
  prefixB = (rotl(mix2(word1), 31) + a) * 5 + 0x38495ab5;
}

/** hash128 of the 32 bytes word0 word1 (of `hashPrefix`) word2 word3. */
@inline export function hashAfterPrefix(word2: u64, word3: u64): void {
  let a = prefixA ^ mix1(word2);
  let b = prefixB;
  a = (rotl(a, 27) + b) * 5 + 0x52dce729;
  b ^= mix2(word3);
  b = (rotl(b, 31) + a) * 5 + 0x38495ab5;
  finish(a, b, 32);
}
