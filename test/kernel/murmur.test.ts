import { describe, expect, it } from 'vitest';
import { encodeIdentity, makeLabels } from '../../core/labels.ts';
import { Bench } from './support.ts';

/** Vectors published with spaolacci/murmur3 (murmur_test.go), h1 and h2 of MurmurHash3_x64_128 with seed 0. */
const VECTORS: readonly (readonly [text: string, h1: bigint, h2: bigint])[] = [
  ['hello', 0xcbd8a7b341bd9b02n, 0x5b1e906a48ae1d19n],
  ['hello, world', 0x342fac623a5ebc8en, 0x4cdcbc079642414dn],
  ['19 Jan 2038 at 3:14:07 AM', 0xb89e5988b737affcn, 0x664fc2950231b2cbn],
  ['The quick brown fox jumps over the lazy dog.', 0xcd99481f9ee902c9n, 0x695da1a38987b6e7n],
];

describe('fingerprints', () => {
  it.each(VECTORS)('of %j is the published hash', (text, h1, h2) => {
    const { kernel } = new Bench(0);
    const { id } = kernel.intern(new TextEncoder().encode(text));
    const fingerprint = kernel.fingerprint(id);
    const halves = new DataView(fingerprint.buffer, fingerprint.byteOffset, 16);
    expect(halves.getBigUint64(0, true)).toBe(h1);
    expect(halves.getBigUint64(8, true)).toBe(h2);
    expect(kernel.bucket(id)).toBe(Number(h2 >> 56n));
  });

  /** The vectors of ARCHITECTURE.md ("Series identity"). */
  it.each([
    [{ __name__: 'up' }, 0xf1401c25fcb72aadn, 0xe886df1e8dcd2c17n],
    [{ job: 'api', __name__: 'up' }, 0x75d272c5f3fa5fden, 0x994d4ddf7b2d2887n],
    [{ a: 'é' }, 0xd34bde7cff3bddf9n, 0xc30783443088c6f8n],
  ])('of the labels %j are as published', (labels, h1, h2) => {
    const { kernel } = new Bench(0);
    const { id } = kernel.intern(encodeIdentity(makeLabels(labels as Record<string, string>)));
    const fingerprint = kernel.fingerprint(id);
    const halves = new BigUint64Array(fingerprint.slice().buffer);
    expect([...halves]).toEqual([h1, h2]);
  });

  it('of no bytes at all is zero', () => {
    const { kernel } = new Bench(0);
    expect([...kernel.fingerprint(kernel.intern(new Uint8Array(0)).id)]).toEqual(new Array(16).fill(0));
  });
});
