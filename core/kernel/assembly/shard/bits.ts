/** Bits: widths, zigzag, and a packer that writes fields least significant bit first. */

/** Bits needed to write `x`; 0 for 0. */
@inline export function bitWidth(x: u64): u32 {
  return <u32>(64 - clz(x));
}

/** Small magnitudes of either sign to small naturals. */
@inline export function zigzag(x: i64): u64 {
  return <u64>((x << 1) ^ (x >> 63));
}

@inline export function unzigzag(z: u64): i64 {
  return <i64>((z >> 1) ^ (0 - (z & 1)));
}

/** All ones below bit `width`, 0..63. */
@inline export function maskOf(width: u32): u64 {
  return (<u64>1 << width) - 1;
}

let packAt: usize = 0;
let packWord: u64 = 0;
let packBits: u32 = 0;

/** Starts packing at `at`. The packer writes whole words: 8 bytes of slack behind the last field. */
export function packInto(at: usize): void {
  packAt = at;
  packWord = 0;
  packBits = 0;
}

/** Appends the low `width` (0..64) bits of `value`, whose other bits are 0. */
@inline export function pack(value: u64, width: u32): void {
  packWord |= value << packBits;
  const filled = packBits + width;
  if (filled >= 64) {
    store<u64>(packAt, packWord);
    packAt += 8;
    packWord = packBits != 0 ? value >> (64 - packBits) : 0;
    packBits = filled - 64;
  } else {
    packBits = filled;
  }
}

/** Ends packing, padded with zero bits to a byte; returns the address behind it. */
export function packEnd(): usize {
  store<u64>(packAt, packWord);
  return packAt + ((packBits + 7) >> 3);
}
