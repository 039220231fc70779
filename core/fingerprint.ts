/**
 * The fingerprint of a series in plain TypeScript: for clients, who hash a series once. The kernel has
 * its own for the hot paths.
 */

const MASK = (1n << 64n) - 1n;
const C1 = 0x87c37b91114253d5n;
const C2 = 0x4cf5ad432745937fn;

/** MurmurHash3 x64 128 (Austin Appleby, public domain, `MurmurHash3.cpp`), seed 0, as its two halves. */
export function fingerprint(bytes: Uint8Array): { readonly h1: bigint; readonly h2: bigint } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const tailStart = bytes.length & ~15;
  let h1 = 0n;
  let h2 = 0n;
  for (let at = 0; at < tailStart; at += 16) {
    h1 = rotate(h1 ^ mix1(view.getBigUint64(at, true)), 27n);
    h1 = ((h1 + h2) * 5n + 0x52dce729n) & MASK;
    h2 = rotate(h2 ^ mix2(view.getBigUint64(at + 8, true)), 31n);
    h2 = ((h2 + h1) * 5n + 0x38495ab5n) & MASK;
  }
  const tail = new DataView(new ArrayBuffer(16));
  for (let i = tailStart; i < bytes.length; i++) tail.setUint8(i - tailStart, bytes[i] as number);
  h2 ^= mix2(tail.getBigUint64(8, true));
  h1 ^= mix1(tail.getBigUint64(0, true));
  const length = BigInt(bytes.length);
  h1 ^= length;
  h2 ^= length;
  h1 = (h1 + h2) & MASK;
  h2 = (h2 + h1) & MASK;
  h1 = finish(h1);
  h2 = finish(h2);
  h1 = (h1 + h2) & MASK;
  h2 = (h2 + h1) & MASK;
  return { h1, h2 };
}

/** The shard of a series: the top bits of `h1`. `shardCount` is a power of two. */
export function shardOf(h1: bigint, shardCount: number): number {
  return Number((h1 * BigInt(shardCount)) >> 64n);
}

function mix1(block: bigint): bigint {
  return (rotate((block * C1) & MASK, 31n) * C2) & MASK;
}

function mix2(block: bigint): bigint {
  return (rotate((block * C2) & MASK, 33n) * C1) & MASK;
}

function rotate(word: bigint, by: bigint): bigint {
  return ((word << by) | (word >> (64n - by))) & MASK;
}

function finish(word: bigint): bigint {
  word = ((word ^ (word >> 33n)) * 0xff51afd7ed558ccdn) & MASK;
  word = ((word ^ (word >> 33n)) * 0xc4ceb9fe1a85ec53n) & MASK;
  return word ^ (word >> 33n);
}
