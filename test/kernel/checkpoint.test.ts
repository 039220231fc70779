import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WINDOW_MS } from '../../core/kernel/shard.ts';
import { anyBits, Bench, bitsOf, type Sample, sorted, T0, unionOf } from './support.ts';

const SERIES = 4;
const T0_MS = Number(T0);

const sample: fc.Arbitrary<Sample> = fc
  .tuple(
    fc.nat(SERIES - 1),
    fc.oneof(
      fc.nat(60).map((n) => n * 15_000),
      fc.nat(WINDOW_MS - 1),
    ),
    fc.nat(1),
    anyBits,
  )
  .map(([ref, offset, window, bits]) => ({ ref, ms: T0 + BigInt(window * WINDOW_MS + offset), bits }));

function pagesOf(bench: Bench): Uint8Array[] {
  const pages: Uint8Array[] = [];
  for (const { startMs } of bench.kernel.windows()) {
    for (let cursor: number | undefined = 0; cursor !== undefined; ) {
      const page = bench.kernel.checkpoint(startMs, cursor);
      pages.push(page.bytes.slice());
      cursor = page.next;
    }
  }
  return pages;
}

describe('checkpoint pages', () => {
  it('bring runs back; what comes before, after and twice merges with them', () => {
    const samples = fc.array(sample, { minLength: 1, maxLength: 250 });
    fc.assert(
      fc.property(samples, samples, fc.boolean(), fc.boolean(), (saved, others, before, twice) => {
        const first = new Bench(SERIES);
        first.append(saved);
        const pages = pagesOf(first);
        const second = new Bench(SERIES);
        if (before) second.append(others);
        for (const page of twice ? [...pages, ...pages] : pages) {
          expect([...second.kernel.restoreRuns(second.refs, page)]).toEqual([]);
        }
        if (!before) second.append(others);
        const union = unionOf([...saved, ...others]);
        for (let ref = 0; ref < SERIES; ref++) {
          expect([0, 1].flatMap((n) => second.read(ref, T0_MS + n * WINDOW_MS))).toEqual(
            sorted(union.get(ref) ?? new Map()),
          );
        }
        const appends = second.kernel.windows().reduce((sum, w) => sum + w.appendCount, 0);
        expect(appends).toBeGreaterThanOrEqual(second.kernel.sampleCount);
      }),
      { numRuns: 200 },
    );
  });

  it('are many where there is much, and name their series', () => {
    const count = 6000;
    const bench = new Bench(count);
    for (let i = 0; i < 20; i++) {
      bench.append(
        bench.ids.map((_, ref) => ({ ref, ms: T0 + BigInt(i * 1000), bits: bitsOf(Math.sin(ref * i)) })),
        false,
      );
    }
    const listed: number[] = [];
    let pages = 0;
    const copy = new Bench(count);
    for (let cursor: number | undefined = 0; cursor !== undefined; pages++) {
      const page = bench.kernel.checkpoint(T0_MS, cursor);
      expect(page.bytes.length).toBeLessThan(400_000);
      listed.push(...page.series);
      copy.kernel.restoreRuns(copy.refs, page.bytes.slice());
      cursor = page.next;
    }
    expect(pages).toBeGreaterThan(3);
    expect(listed.sort((a, b) => a - b)).toEqual([...bench.ids]);
    for (let ref = 0; ref < count; ref += 99) expect(copy.read(ref, T0_MS)).toEqual(bench.read(ref, T0_MS));
    expect(copy.kernel.sampleCount).toBe(bench.kernel.sampleCount);
  });

  it('hold a run that is larger than a page', () => {
    const bench = new Bench(2);
    const long = Array.from({ length: 60_000 }, (_, i) => ({
      ref: 0,
      ms: T0 + BigInt(i * 100),
      bits: bitsOf(Math.sin(i)),
    }));
    bench.append([{ ref: 1, ms: T0, bits: bitsOf(1) }, ...long]);
    const copy = new Bench(2);
    for (const page of pagesOf(bench)) copy.kernel.restoreRuns(copy.refs, page);
    expect(copy.read(0, T0_MS)).toEqual(bench.read(0, T0_MS));
    expect(copy.read(1, T0_MS)).toEqual(bench.read(1, T0_MS));
  });

  it('name the ids that nobody knows', () => {
    const bench = new Bench(3);
    bench.append([0, 1, 2].map((ref) => ({ ref, ms: T0, bits: bitsOf(ref) })));
    const other = new Bench(1);
    expect([...other.kernel.restoreRuns(other.refs, pagesOf(bench)[0] as Uint8Array)]).toEqual([1, 2]);
    expect(other.kernel.runCount).toBe(1);
  });

  it('that are broken are refused, or harmless', () => {
    const bench = new Bench(SERIES);
    bench.append(
      Array.from({ length: 200 }, (_, i) => ({
        ref: i % SERIES,
        ms: T0 + BigInt((i * 7919) % 100_000),
        bits: bitsOf(i / 3),
      })),
    );
    const [page] = pagesOf(bench) as [Uint8Array];
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(page.length - 1), fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 4 }),
        fc.option(fc.nat(page.length - 1)),
        (flips, cut) => {
          const broken = page.slice(0, cut ?? page.length);
          for (const [at, bits] of flips) if (at < broken.length) broken[at] = (broken[at] as number) ^ bits;
          const other = new Bench(SERIES);
          try {
            other.kernel.restoreRuns(other.refs, broken);
          } catch (error) {
            expect(error).toMatchObject({ code: 'CORRUPT' });
          }
          for (const id of other.ids) {
            try {
              other.kernel.seal(id, T0_MS, undefined);
            } catch (error) {
              expect(error).toMatchObject({ code: 'CORRUPT' });
            }
          }
          expect(other.append([{ ref: 0, ms: T0 + 7_000_000n, bits: bitsOf(1) }])[0]?.acceptedCount).toBe(1);
        },
      ),
      { numRuns: 400 },
    );
  });

  it('of a window without runs are empty', () => {
    const { kernel } = new Bench(1);
    expect(kernel.checkpoint(T0_MS)).toMatchObject({ next: undefined });
    expect(kernel.checkpoint(T0_MS).bytes.length).toBe(0);
  });
});
