/** LZ4, as every file of ours holds it: `u32 raw length`, then one LZ4 block (lz4_Block_format.md). */
import { compressSync, uncompressSync } from 'lz4-napi';
import { SilverbackError } from './errors.ts';

/** Packs `bytes`; undefined when that saves nothing and the bytes are better stored as they are. Copies. */
export function pack(bytes: Uint8Array): Uint8Array | undefined {
  const packed = compressSync(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  return packed.length < bytes.length ? packed : undefined;
}

/**
 * The inverse of `pack`. The caller knows the raw length; the packed bytes must agree before memory is taken for it.
 * @throws CORRUPT
 */
export function unpack(packed: Uint8Array, rawLength: number): Uint8Array {
  const stated =
    packed.length < 4 ? -1 : packed[0]! + packed[1]! * 0x100 + packed[2]! * 0x1_0000 + packed[3]! * 0x100_0000;
  if (stated !== rawLength) {
    throw new SilverbackError('CORRUPT', `LZ4 block states ${stated} raw bytes, ${rawLength} expected`);
  }
  let raw: Uint8Array;
  try {
    raw = uncompressSync(packed);
  } catch (cause) {
    throw new SilverbackError('CORRUPT', `LZ4 block of ${packed.length} bytes does not decompress`, { cause });
  }
  if (raw.length !== rawLength) {
    throw new SilverbackError('CORRUPT', `LZ4 block gave ${raw.length} raw bytes, ${rawLength} expected`);
  }
  return raw;
}
