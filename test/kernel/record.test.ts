import fc from 'fast-check';
import { compressSync } from 'lz4-napi';
import { describe, expect, it } from 'vitest';
import { Mix } from '../../bench/mix.ts';
import { WINDOW_MS } from '../../core/kernel/shard.ts';
import { anyBits, Bench, bitsOf, keep, type Sample, sorted, T0, unionOf } from './support.ts';

const SERIES = 5;
const T0_MS = Number(T0);

const sample: fc.Arbitrary<Sample> = fc
  .tuple(
    fc.nat(SERIES - 1),
    fc.oneof(
      fc.nat(20).map((n) => n * 15_000),
      fc.nat(WINDOW_MS - 1),
    ),
    fc.nat(2),
    anyBits,
  )
  .map(([ref, offset, window, bits]) => ({ ref, ms: T0 + BigInt(window * WINDOW_MS + offset), bits }));

/** A kernel whose slots are other ones, and a table from the first kernel's ids to them. */
function follower(seriesCount: number): Bench {
  const bench = new Bench(0);
  // Series that the leader does not have shift the slots.
  for (let n = 0; n < 7; n++) bench.kernel.intern(new Uint8Array([200, n]));
  for (let ref = seriesCount - 1; ref >= 0; ref--) {
    const { id } = bench.kernel.intern(new Uint8Array([1, ref]));
    bench.kernel.defineRef(bench.refs, ref, id);
    bench.ids[ref] = id;
  }
  return bench;
}

describe('log records', () => {
  it('carry exactly what was accepted, to any other kernel, once or often', () => {
    fc.assert(
      fc.property(
        fc.array(sample, { minLength: 1, maxLength: 200 }),
        fc.boolean(),
        fc.boolean(),
        (all, counted, again) => {
          const leader = new Bench(SERIES);
          const minMs = T0_MS + 60_000;
          const slices = leader.append(all, counted, { minMs, maxMs: Number.POSITIVE_INFINITY });
          const records = slices.map((s) => s.record).filter((record) => record.length > 0);
          const second = follower(SERIES);
          const third = new Bench(SERIES);
          let carried = 0;
          for (const record of again ? [...records, ...records] : records) {
            const slice = keep(second.kernel.appendRecord(second.refs, record, true));
            carried += slice.acceptedCount;
            expect(slice.rejections).toEqual([]);
            // The follower's own record, in its own ids, says the same to whoever follows it.
            for (const [ref, id] of second.ids.entries()) third.kernel.defineRef(third.refs, id, third.id(ref));
            expect(third.kernel.appendRecord(third.refs, slice.record, false).record.length).toBe(0);
          }
          const accepted = all.filter(({ ms }) => ms >= BigInt(minMs));
          expect(carried).toBe(accepted.length * (again ? 2 : 1));
          const union = unionOf(accepted);
          for (let ref = 0; ref < SERIES; ref++) {
            const expected = sorted(union.get(ref) ?? new Map());
            for (const bench of [second, third]) {
              expect([0, 1, 2].flatMap((n) => bench.read(ref, T0_MS + n * WINDOW_MS))).toEqual(expected);
            }
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  it('of unknown ids are named, the rest is stored', () => {
    const leader = new Bench(3);
    const [slice] = leader.append([0, 1, 2].map((ref) => ({ ref, ms: T0, bits: bitsOf(ref) })));
    const other = new Bench(1);
    const outcome = keep(other.kernel.appendRecord(other.refs, slice?.record as Uint8Array, false));
    expect([...outcome.unknownRefs]).toEqual([1, 2]);
    expect(outcome.acceptedCount).toBe(1);
  });

  it('that are broken are refused before anything is stored, or store something; nothing else', () => {
    const leader = new Bench(SERIES);
    const samples = Array.from({ length: 60 }, (_, i) => ({
      ref: i % SERIES,
      ms: T0 + BigInt(i * 1000),
      bits: bitsOf(i / 3),
    }));
    const records = [true, false].map((counted) => leader.append(samples, counted)[0]?.record as Uint8Array);
    fc.assert(
      fc.property(
        fc.constantFrom(...records),
        fc.array(fc.tuple(fc.nat(2000), fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 4 }),
        fc.option(fc.nat(2000)),
        (record, flips, cut) => {
          const broken = record.slice(0, cut === null ? record.length : cut % record.length);
          for (const [at, bits] of flips)
            if (broken.length > 0) broken[at % broken.length] = (broken[at % broken.length] as number) ^ bits;
          const bench = new Bench(SERIES, { maxOpenWindows: 8 });
          try {
            bench.kernel.appendRecord(bench.refs, broken, true);
          } catch (error) {
            expect(error).toMatchObject({ code: 'CORRUPT', message: expect.stringMatching(/bytes are no log record/) });
            expect(bench.kernel.sampleCount).toBe(0);
          }
          expect(bench.append([{ ref: 0, ms: T0, bits: bitsOf(1) }])[0]?.acceptedCount).toBe(1);
        },
      ),
      { numRuns: 500 },
    );
    expect(() => leader.kernel.appendRecord(leader.refs, new Uint8Array(0), true)).toThrow(/0 bytes are no log record/);
  });

  it('take at most 6 bytes a sample after LZ4 on the mix, with one sample a series or twenty', () => {
    const seriesCount = 5_000;
    for (const perSeries of [1, 20]) {
      for (const jitterMs of [0, 5]) {
        const mix = new Mix({ ticks: 40, jitterMs });
        const bench = new Bench(seriesCount);
        let bytes = 0;
        let count = 0;
        let group: Uint8Array[] = [];
        for (let tick = 0; tick < 40; tick += perSeries) {
          const samples: Sample[] = [];
          for (let ref = 0; ref < seriesCount; ref++) {
            for (let t = tick; t < tick + perSeries; t++) {
              samples.push({ ref, ms: T0 + BigInt(mix.offsetMs(ref, t)), bits: bitsOf(mix.value(ref, t)) });
            }
          }
          for (const { record, acceptedCount } of bench.append(samples, perSeries > 1)) {
            group.push(record);
            count += acceptedCount;
            if (group.length === 4) {
              bytes += compressSync(Buffer.concat(group)).length;
              group = [];
            }
          }
        }
        bytes += group.length === 0 ? 0 : compressSync(Buffer.concat(group)).length;
        expect(bytes / count).toBeLessThan(6);
      }
    }
  });
});
