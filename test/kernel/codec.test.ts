import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ChunkCodec, chunkInfo } from '../../core/kernel/codec.ts';
import { WINDOW_MS } from '../../core/kernel/shard.ts';
import {
  anyBits,
  Bench,
  bitsOf,
  courseOfBits,
  pairs,
  risingOffsets,
  type Sample,
  STALE,
  sorted,
  T0,
  unionOf,
} from './support.ts';

const codec = ChunkCodec.create();

const course = fc
  .integer({ min: 1, max: 150 })
  .chain((length) => fc.tuple(risingOffsets(length), courseOfBits(length)))
  .map(([offsets, bits]) => offsets.map((offset, i) => [offset, bits[i] as bigint] as const));

const window = fc.oneof(
  fc.constant(T0),
  fc.constant(0n),
  fc.bigInt({ min: 0n, max: 2n ** 53n / 7_200_000n - 1n }).map((n) => n * 7_200_000n),
);

function encode(samples: readonly (readonly [number, bigint])[], originMs: number): Uint8Array {
  const values = new Float64Array(samples.length);
  new BigUint64Array(values.buffer).set(samples.map(([, bits]) => bits));
  return codec
    .encode(
      Float64Array.from(samples, ([offset]) => originMs + offset),
      values,
    )
    .slice();
}

describe('both encodings', () => {
  it('give back every timestamp and every bit', () => {
    fc.assert(
      fc.property(course, window, (samples, start) => {
        const bench = new Bench(1);
        bench.append(samples.map(([offset, bits]) => ({ ref: 0, ms: start + BigInt(offset), bits })));
        const expected = samples.map(([offset, bits]) => [start + BigInt(offset), bits]);
        const startMs = Number(start);
        expect(bench.read(0, startMs)).toEqual(expected);
        const open = bench.kernel
          .chunk(bench.id(0), startMs, undefined, 0, Number.POSITIVE_INFINITY)
          ?.slice() as Uint8Array;
        expect(chunkInfo(open)).toEqual({
          encoding: 'xor',
          sampleCount: samples.length,
          minMs: Number(expected[0]?.[0]),
          maxMs: Number(expected.at(-1)?.[0]),
        });
        const sealed = bench.kernel.seal(bench.id(0), startMs, undefined)?.slice() as Uint8Array;
        expect(pairs(codec.decode([sealed]))).toEqual(expected);
        expect({ ...chunkInfo(sealed), encoding: 'xor' }).toEqual(chunkInfo(open));
        expect(sealed.length).toBeLessThanOrEqual(open.length);
      }),
      { numRuns: 400 },
    );
  });

  it('hold steps that change by as much as each of the bit widths can say, and one more or less', () => {
    const changes = [0, 6, 8, 11, 20].flatMap((width) =>
      [-1, 0, 1].flatMap((by) => [2 ** width + by, -(2 ** width) - by]),
    );
    let step = 2 ** 21;
    let offset = 0;
    const samples = changes.flatMap((change) =>
      [change, -change].map((by) => {
        step += by;
        offset += step;
        return [offset, bitsOf(1)] as const;
      }),
    );
    const chunk = encode(
      samples.map(([at]) => [at, STALE] as const),
      0,
    );
    expect(chunkInfo(chunk).encoding).toBe('xor');
    expect(pairs(codec.decode([chunk])).map(([ms]) => Number(ms))).toEqual(samples.map(([at]) => at));
  });

  it('decode a range as decoding all and cutting does', () => {
    fc.assert(
      fc.property(
        course,
        fc.integer({ min: -10, max: WINDOW_MS }),
        fc.integer({ min: -10, max: WINDOW_MS }),
        (samples, a, b) => {
          const [from, to] = [Math.min(a, b), Math.max(a, b)];
          const chunk = encode(samples, 0);
          const expected = samples.filter(([offset]) => offset >= from && offset <= to);
          expect(pairs(codec.decode([chunk], from, to))).toEqual(
            expected.map(([offset, bits]) => [BigInt(offset), bits]),
          );
        },
      ),
    );
  });

  it('decode overlapping copies into their union', () => {
    fc.assert(
      fc.property(fc.array(course, { minLength: 1, maxLength: 4 }), (copies) => {
        const all: Sample[] = copies.flatMap((copy) =>
          copy.map(([offset, bits]) => ({ ref: 0, ms: BigInt(offset), bits })),
        );
        const decoded = pairs(codec.decode(copies.map((copy) => encode(copy, 0))));
        expect(decoded).toEqual(sorted(unionOf(all).get(0) as Map<bigint, bigint>));
      }),
    );
  });
});

describe('the columnar encoding', () => {
  const grid = (value: (i: number) => number): [number, bigint][] =>
    Array.from({ length: 480 }, (_, i) => [i * 15_000, bitsOf(value(i))]);

  it.each([
    ['a constant', grid(() => 42), 32],
    ['a line', grid((i) => 7 * i), 32],
    ['two decimals', grid((i) => ((i * 7919) % 200) / 100), 520],
    ['a counter', grid((i) => 1e6 + i * 100 + ((i * 31) % 64)), 500],
  ])('writes %s briefly', (_name, samples, atMost) => {
    const chunk = encode(samples, 0);
    expect(chunkInfo(chunk).encoding).toBe('columnar');
    expect(chunk.length).toBeLessThanOrEqual(atMost);
  });

  it('does not mind a missed scrape', () => {
    const samples = grid((i) => i % 16).filter((_, i) => i !== 100);
    const chunk = encode(samples, 0);
    expect(pairs(codec.decode([chunk]))).toEqual(samples.map(([offset, bits]) => [BigInt(offset), bits]));
    expect(chunk.length).toBeLessThanOrEqual(480);
  });

  it.each([
    ['-0', bitsOf(-0)],
    ['a stale marker', STALE],
    ['a denormal', 1n],
  ])('steps aside for %s', (_name, bits) => {
    const samples = grid(() => 1);
    samples[77] = [77 * 15_000, bits];
    const chunk = encode(samples, 0);
    expect(chunkInfo(chunk).encoding).toBe('xor');
    expect(pairs(codec.decode([chunk]))[77]).toEqual([77n * 15_000n, bits]);
  });
});

describe('aggregates', () => {
  it('are what a loop over the samples finds', () => {
    fc.assert(
      fc.property(
        course,
        fc.integer({ min: 0, max: WINDOW_MS }),
        fc.integer({ min: 0, max: WINDOW_MS }),
        (samples, a, b) => {
          const [from, to] = [Math.min(a, b), Math.max(a, b)];
          const result = codec.aggregate(encode(samples, 0), from, to);
          const kept = samples.filter(([offset, bits]) => offset >= from && offset <= to && bits !== STALE);
          const values = kept.map(([, bits]) => new Float64Array(new BigUint64Array([bits]).buffer)[0] as number);
          const numbers = values.filter((v) => !Number.isNaN(v));
          expect(result.count).toBe(kept.length);
          if (kept.length === 0) return;
          expect(result.firstMs).toBe(kept[0]?.[0]);
          expect(result.lastMs).toBe(kept.at(-1)?.[0]);
          expect(result.first).toBe(values[0]);
          expect(result.last).toBe(values.at(-1));
          // -0 and 0 are one number to a comparison.
          expect(result.min + 0).toBe(numbers.length === 0 ? Number.NaN : Math.min(...numbers) + 0);
          expect(result.max + 0).toBe(numbers.length === 0 ? Number.NaN : Math.max(...numbers) + 0);
          const size = values.reduce((sum, v) => sum + Math.abs(v), 0);
          if (!Number.isFinite(size)) return;
          const sum = values.reduce((total, v) => total + v, 0);
          expect(Math.abs(result.sum - sum)).toBeLessThanOrEqual(size * 1e-12);
          let increase = 0;
          for (let i = 1; i < values.length; i++) {
            const [before, v] = [values[i - 1] as number, values[i] as number];
            increase += v >= before ? v - before : v;
          }
          expect(Math.abs(result.increase - increase)).toBeLessThanOrEqual(size * 1e-12);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('bytes that are no chunk', () => {
  it('are refused or decoded, but never break the codec', () => {
    const good = encode(
      [
        [0, bitsOf(1.5)],
        [15_000, bitsOf(2.5)],
        [31_000, bitsOf(0.1 + 0.2)],
      ],
      1_000_000,
    );
    fc.assert(
      fc.property(
        course,
        fc.array(fc.tuple(fc.nat(10_000), fc.nat(255)), { maxLength: 5 }),
        fc.nat(10_000),
        (samples, flips, cut) => {
          const chunk = encode(samples, 0);
          for (const [at, bits] of flips) chunk[at % chunk.length] = (chunk[at % chunk.length] as number) ^ bits;
          const broken = chunk.subarray(0, cut % 3 === 0 ? cut % chunk.length : chunk.length);
          try {
            codec.decode([broken]);
          } catch (error) {
            expect(error).toMatchObject({ code: expect.stringMatching(/CORRUPT|TOO_LARGE/) });
          }
          expect(codec.decode([good]).timestamps.length).toBe(3);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('are named by their first bytes', () => {
    expect(() => codec.decode([new Uint8Array(40)])).toThrow(/40 bytes that begin with 0000.* are no chunk/);
    expect(() => chunkInfo(new Uint8Array([9, 9]))).toThrow(/2 bytes that begin with 0909/);
  });

  it('are not made of timestamps out of order', () => {
    expect(() => codec.encode(Float64Array.of(5, 5), Float64Array.of(1, 2))).toThrow(/rise strictly/);
    expect(() => codec.encode(new Float64Array(0), new Float64Array(0))).toThrow(/make no chunk/);
  });
});

it('a codec keeps its figures apart from arbitrary bits', () => {
  fc.assert(
    fc.property(fc.array(anyBits, { minLength: 1, maxLength: 40 }), (bits) => {
      const samples = bits.map((b, i) => [i, b] as const);
      expect(pairs(codec.decode([encode(samples, 0)])).map(([, b]) => b)).toEqual(bits);
    }),
  );
});
