import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_CHUNK_BYTES, MAX_CHUNK_SAMPLES, XorEncoder } from '../../coordinator/remote/xor.ts';
import { readXor } from './wire.ts';

/** A stale marker's words. */
const STALE = [2, 0x7ff00000] as const;

function encode(timestamps: readonly number[], values: Float64Array): Uint8Array {
  const out = new Uint8Array(MAX_CHUNK_BYTES + 7).fill(0xaa);
  const columns = { timestamps: Float64Array.from(timestamps), values };
  const end = new XorEncoder().encode(columns, 0, timestamps.length, out, 5);
  return out.slice(5, end);
}

const hexOf = (values: Float64Array, i: number) =>
  Buffer.from(values.buffer, values.byteOffset + 8 * i, 8)
    .reverse()
    .toString('hex');

describe("Prometheus's XOR chunks", () => {
  it('has the bytes that Prometheus has', () => {
    const base = 1_600_000_000_000;
    const timestamps = [0, 15, 30, 45.001, 54.193, 200, 1_000, 9_000, 9_000.001].map(
      (s) => base + Math.round(s * 1000),
    );
    const values = Float64Array.of(1, 1, 2, Number.NaN, -0.1, 12.5, 12.25, 1e300, 0);
    new Uint32Array(values.buffer).set(STALE, 6);
    // Made by XORAppender of prometheus/tsdb/chunkenc, version 0.54.1.
    expect(Buffer.from(encode(timestamps, values)).toString('hex')).toBe(
      '00098080f4f6905d3ff000000000000098753097ffe000717bff8000000000001a94fc1ee024cccccccccccf88569f07fff21333333333337c' +
        '000000000027edc60001800000000001e0000000000dbba011f0fb21e44003acefffffffffff85ee019f8df90f22001d6700',
    );
  });

  it('keeps every bit of any times and values', () => {
    const step = fc.oneof(
      fc.constant(15_000),
      fc.integer({ min: 1, max: 40_000 }),
      fc.integer({ min: 1, max: 3_000_000 }),
      // Where the widths of a change end.
      fc.constantFrom(8_192, 8_193, 16_384, 65_536, 65_537, 131_072, 524_288, 524_289, 1_048_576),
      fc.integer({ min: 1, max: 7_200_000 }),
    );
    const value = fc.oneof(
      fc.integer({ min: -1000, max: 1000 }),
      fc.double(),
      fc.constantFrom(0, -0, Number.POSITIVE_INFINITY, Number.MIN_VALUE),
    );
    fc.assert(
      fc.property(
        fc.array(fc.tuple(step, value), { minLength: 1, maxLength: MAX_CHUNK_SAMPLES }),
        fc.integer({ min: 0, max: 2 ** 45 }),
        fc.nat(),
        (samples, startMs, marked) => {
          let time = startMs;
          const timestamps = samples.map(([width]) => (time += width));
          const values = Float64Array.from(samples, ([, v]) => v);
          // A stale marker among them, bit for bit.
          const stale = marked % samples.length;
          new Uint32Array(values.buffer).set(STALE, 2 * stale);
          expect(readXor(encode(timestamps, values))).toEqual(timestamps.map((t, i) => [t, hexOf(values, i)]));
        },
      ),
    );
  });

  it('stays within its bound', () => {
    const random = Float64Array.from({ length: MAX_CHUNK_SAMPLES }, (_, i) => (i % 2 ? -1 : 1) * Math.exp(i * 1.7));
    const times = Array.from({ length: MAX_CHUNK_SAMPLES }, (_, i) => i * 9_000_000 + (i % 2) * 8_000_000);
    expect(encode(times, random).length).toBeLessThanOrEqual(MAX_CHUNK_BYTES);
  });
});
