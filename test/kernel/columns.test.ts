import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SeriesId } from '../../core/kernel/shard.ts';
import { WINDOW_MS } from '../../core/kernel/shard.ts';
import { anyBits, Bench, bitsOf, type Sample, STALE, T0, unionOf } from './support.ts';

const FIRST_MS = Number(T0) - WINDOW_MS;
const windows = [0, 1, 2].map((n) => FIRST_MS + n * WINDOW_MS);
const anyOffset = fc.oneof(
  fc.nat(3 * 480 - 1).map((n) => n * 15_000),
  fc.nat(3 * WINDOW_MS - 1),
);
const sample: fc.Arbitrary<Sample> = fc
  .tuple(anyOffset, fc.oneof(fc.integer({ min: 0, max: 3 }).map(bitsOf), fc.constant(STALE), anyBits))
  .map(([offset, bits]) => ({ ref: 0, ms: BigInt(FIRST_MS + offset), bits }));
const samples = fc.array(sample, { maxLength: 200 });
const inOrder = samples.map((all) => [...all].sort((a, b) => Number(a.ms - b.ms)));

/** Intervals in order, apart from one another, as offsets in a window. */
const dead = fc
  .uniqueArray(fc.nat(WINDOW_MS - 1), { minLength: 2, maxLength: 6 })
  .map((ends) => ends.sort((a, b) => a - b).slice(0, ends.length & ~1))
  .map((ends) => Uint32Array.from(ends));

function bitsIn(bench: Bench): [bigint, bigint][] {
  const { count, timestamps, values } = bench.kernel.columns;
  const bits = new BigUint64Array(values.buffer, values.byteOffset, count);
  return Array.from(bits, (value, i) => [BigInt(timestamps[i] as number), value]);
}

describe("a series' columns", () => {
  it('hold what block and open run know in the range, but for what is deleted', () => {
    fc.assert(
      fc.property(
        fc.oneof(samples, inOrder),
        fc.oneof(samples, inOrder, fc.constant([])),
        fc.array(fc.option(dead, { nil: undefined }), { minLength: 3, maxLength: 3 }),
        fc.oneof(
          fc.tuple(anyOffset, anyOffset).map(([a, b]) => [FIRST_MS + Math.min(a, b), FIRST_MS + Math.max(a, b)]),
          fc.constant([0, Number.POSITIVE_INFINITY]),
        ),
        (sealed, open, deletions, [fromMs, toMs]) => {
          const bench = new Bench(1);
          const blocks = new Map<number, Uint8Array>();
          if (sealed.length > 0) bench.append(sealed);
          for (const startMs of windows) {
            const chunk = bench.kernel.seal(bench.id(0), startMs, undefined)?.slice();
            if (chunk !== undefined) blocks.set(startMs, chunk);
            while (!bench.kernel.releaseSealed(startMs).done);
          }
          if (open.length > 0) bench.append(open);
          const union = [...(unionOf([...sealed, ...open]).get(0) ?? [])].sort(([a], [b]) => Number(a - b));
          const isDead = (ms: number) => {
            const w = Math.floor((ms - FIRST_MS) / WINDOW_MS);
            const offset = (ms - FIRST_MS) % WINDOW_MS;
            const pairs = deletions[w] ?? [];
            for (let i = 0; i < pairs.length; i += 2) {
              if (offset >= (pairs[i] as number) && offset <= (pairs[i + 1] as number)) return true;
            }
            return false;
          };
          // Twice: what the first left in the kernel's memory is of no consequence.
          for (let round = 0; round < 2; round++) {
            bench.kernel.columns.begin();
            for (const [i, startMs] of windows.entries()) {
              const before = bench.kernel.columns.count;
              const looked = bench.kernel.columns.add(
                bench.id(0),
                startMs,
                blocks.get(startMs),
                fromMs as number,
                toMs as number,
                deletions[i],
              );
              expect(looked > 0).toBe(bench.kernel.columns.count > before);
            }
            expect(bitsIn(bench)).toEqual(
              union.filter(
                ([ms]) => Number(ms) >= (fromMs as number) && Number(ms) <= (toMs as number) && !isDead(Number(ms)),
              ),
            );
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  it('grow from window to window and keep what they have', () => {
    const bench = new Bench(1);
    const all = Array.from({ length: 3 * 7200 }, (_, i) => ({
      ref: 0,
      ms: BigInt(FIRST_MS + i * 1000),
      bits: bitsOf(i % 11),
    }));
    bench.append(all);
    bench.kernel.columns.begin();
    for (const startMs of windows) {
      expect(bench.kernel.columns.add(bench.id(0), startMs, undefined, 0, Number.POSITIVE_INFINITY)).toBe(7200);
    }
    expect(bitsIn(bench)).toEqual(all.map(({ ms, bits }) => [ms, bits]));
  });

  it('refuse bytes that are no chunk, and a series that is not there', () => {
    const bench = new Bench(1);
    const { columns } = bench.kernel;
    columns.begin();
    for (const block of [new Uint8Array(0), new Uint8Array(30).fill(7)]) {
      expect(() => columns.add(bench.id(0), FIRST_MS, block, 0, 1)).toThrow(/block's chunk of series 0 .* is broken/);
    }
    expect(() => columns.add(77 as SeriesId, FIRST_MS, undefined, 0, 1)).toThrow(/series 77 is not in use/);
  });
});
