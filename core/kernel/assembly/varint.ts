/** LEB128: seven bits a byte, least significant first, high bit set on all but the last. */

let varintAt: usize = 0;

/** Where the last `readVarint` stopped; 0 when it ran into `end` or past ten bytes. */
@inline export function varintEnd(): usize {
  return varintAt;
}

/** Writes `value` at `at` (up to 10 bytes); returns the address behind it. */
@inline export function writeVarint(at: usize, value: u64): usize {
  while (value >= 0x80) {
    store<u8>(at++, <u8>value | 0x80);
    value >>= 7;
  }
  store<u8>(at, <u8>value);
  return at + 1;
}

/** Reads at `at`, never at or past `end`. See `varintEnd`. */
export function readVarint(at: usize, end: usize): u64 {
  let value: u64 = 0;
  let shift: u64 = 0;
  while (at < end && shift < 70) {
    const byte = <u64>load<u8>(at++);
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) {
      varintAt = at;
      return value;
    }
    shift += 7;
  }
  varintAt = 0;
  return 0;
}

/** Bytes that `value` takes. */
export function varintBytes(value: u64): u32 {
  let bytes: u32 = 1;
  while (value >= 0x80) {
    value >>= 7;
    bytes++;
  }
  return bytes;
}
