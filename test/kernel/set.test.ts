import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { startOfBatch } from '../../core/kernel/batch.ts';
import { WINDOW_MS } from '../../core/kernel/shard.ts';
import {
  ANY_AGE,
  anyBits,
  Bench,
  bitsOf,
  columnsOf,
  keep,
  type Sample,
  STALE,
  sorted,
  T0,
  unionOf,
  winnerOf,
} from './support.ts';

const SERIES = 3;
const T0_MS = Number(T0);

/** Few timestamps, so that they collide; mostly one window, sometimes its neighbours. */
const sample: fc.Arbitrary<Sample> = fc
  .tuple(
    fc.nat(SERIES - 1),
    fc.oneof(
      fc.nat(40).map((n) => n * 15_000),
      fc.nat(WINDOW_MS - 1),
    ),
    fc.constantFrom(0n, 0n, 0n, 1n, -1n),
    fc.oneof(fc.integer({ min: 0, max: 3 }).map(bitsOf), fc.constant(STALE), anyBits),
  )
  .map(([ref, offset, window, bits]) => ({ ref, ms: T0 + window * BigInt(WINDOW_MS) + BigInt(offset), bits }));

const samples = fc.array(sample, { minLength: 1, maxLength: 300 });
const windows = [-1, 0, 1].map((n) => T0_MS + n * WINDOW_MS);

/** The samples in another order, some of them several times. Drawn outside of fast-check, from a seed, for speed. */
function rearranged(all: readonly Sample[], seed: number): Sample[] {
  let state = seed >>> 0;
  const next = (bound: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
  const out = [...all];
  for (let i = next(2) * all.length; i > 0; i--) out.push(all[next(all.length)] as Sample);
  for (let i = out.length - 1; i > 0; i--) {
    const j = next(i + 1);
    [out[i], out[j]] = [out[j] as Sample, out[i] as Sample];
  }
  return out;
}

function inWindow(set: ReadonlyMap<bigint, bigint> | undefined, startMs: number): [bigint, bigint][] {
  return sorted(set ?? new Map()).filter(([ms]) => ms >= BigInt(startMs) && ms < BigInt(startMs + WINDOW_MS));
}

/** Blocks by window and series, as a shard would keep them. */
type Blocks = Map<string, Uint8Array>;

/** Seals every open run of a window into the blocks and frees what was sealed. */
function sealWindow(bench: Bench, blocks: Blocks, startMs: number): void {
  const sealed: [string, Uint8Array][] = [];
  for (const { series, next } of [bench.kernel.seriesIn(startMs)]) {
    expect(next).toBeUndefined();
    for (const id of [...series]) {
      const ref = bench.ids.indexOf(id as never);
      const key = `${startMs}/${ref}`;
      sealed.push([key, bench.kernel.seal(bench.id(ref), startMs, blocks.get(key))?.slice() as Uint8Array]);
    }
  }
  for (const [key, chunk] of sealed) blocks.set(key, chunk);
  while (!bench.kernel.releaseSealed(startMs).done);
}

function digestOf(bench: Bench, blocks: Blocks, startMs: number): string {
  bench.kernel.clearDigest();
  for (const [ref, id] of bench.ids.entries()) bench.kernel.addDigest(id, startMs, blocks.get(`${startMs}/${ref}`));
  return Buffer.from(bench.kernel.digest()).toString('hex');
}

describe('samples form a set', () => {
  it('whatever their order, repetition, batches, and seals in between', () => {
    fc.assert(
      fc.property(
        samples,
        fc.array(fc.tuple(fc.nat(), fc.nat(400)), { maxLength: 3 }),
        fc.boolean(),
        (all, seals, counted) => {
          const union = unionOf(all);
          const outcomes = [0, 1].map((round) => {
            const bench = new Bench(SERIES);
            const blocks: Blocks = new Map();
            const arriving = round === 0 ? all : rearranged(all, all.length + seals.length * 77);
            const cuts = round === 0 ? [] : seals.map(([, at]) => at).sort((a, b) => a - b);
            let from = 0;
            for (const to of [...cuts, arriving.length]) {
              const part = arriving.slice(from, to);
              from = Math.max(from, to);
              if (part.length > 0) {
                const slices = bench.append(part, counted);
                expect(slices.reduce((sum, s) => sum + s.acceptedCount, 0)).toBe(part.length);
              }
              if (to < arriving.length) for (const startMs of windows) sealWindow(bench, blocks, startMs);
            }
            const read = windows.map((startMs) =>
              bench.ids.map((_, ref) => {
                const block = blocks.get(`${startMs}/${ref}`);
                const merged = bench.read(ref, startMs, block);
                return merged.length > 0 || block === undefined ? merged : decodeBlock(bench, block);
              }),
            );
            const digests = windows.map((startMs) => digestOf(bench, blocks, startMs));
            for (const startMs of windows) sealWindow(bench, blocks, startMs);
            const digestsSealed = windows.map((startMs) => digestOf(bench, blocks, startMs));
            expect(digestsSealed).toEqual(digests);
            expect(bench.kernel.runCount).toBe(0);
            expect(bench.kernel.sampleCount).toBe(0);
            return {
              read,
              digests,
              bytes: [...blocks].sort().map(([key, b]) => `${key} ${Buffer.from(b).toString('hex')}`),
            };
          });
          expect(outcomes[0]?.read).toEqual(
            windows.map((startMs) => Array.from({ length: SERIES }, (_, ref) => inWindow(union.get(ref), startMs))),
          );
          expect(outcomes[1]).toEqual(outcomes[0]);
        },
      ),
      { numRuns: 300 },
    );
  });

  function decodeBlock(bench: Bench, block: Uint8Array): [bigint, bigint][] {
    const { timestamps, values } = bench.kernel.chunks.decode([block]);
    const bits = new BigUint64Array(values.buffer, values.byteOffset, values.length);
    return Array.from(timestamps, (ms, i) => [BigInt(ms), bits[i] as bigint]);
  }

  it('when thousands come in any order and often, and memory stays in proportion', () => {
    const bench = new Bench(1);
    const all: Sample[] = Array.from({ length: 5000 }, (_, i) => ({
      ref: 0,
      ms: T0 + BigInt(i * 1000),
      bits: bitsOf(i % 7),
    }));
    const used: number[] = [];
    for (let round = 0; round < 8; round++) {
      bench.append(rearranged(all, round + 1));
      used.push(bench.kernel.usedBytes);
    }
    expect(bench.read(0, T0_MS)).toEqual(all.map(({ ms, bits }) => [ms, bits]));
    // The set in the stream, and a part of it once more in the backlog (12.8 bytes an entry): no more with every round.
    expect(bench.kernel.sampleCount).toBeLessThanOrEqual(2 * 5000 + 64);
    expect(Math.max(...used.slice(2)) - Math.min(...used.slice(2))).toBeLessThan(5000 * 13);
  });

  it('a repetition of the last sample changes nothing', () => {
    const bench = new Bench(1);
    bench.append([{ ref: 0, ms: T0, bits: bitsOf(1) }]);
    const used = bench.kernel.usedBytes;
    for (let i = 0; i < 1000; i++) bench.append([{ ref: 0, ms: T0, bits: bitsOf(1) }]);
    expect(bench.kernel.usedBytes).toBe(used);
    expect(bench.kernel.sampleCount).toBe(1);
  });

  it('one sample more or less changes the digest of its bucket only', () => {
    const [a, b] = [new Bench(SERIES), new Bench(SERIES)];
    const all = Array.from({ length: 50 }, (_, i) => ({ ref: i % SERIES, ms: T0 + BigInt(i), bits: bitsOf(i) }));
    a.append(all);
    b.append(all.slice(1));
    for (const bench of [a, b]) for (const id of bench.ids) bench.kernel.addDigest(id, T0_MS, undefined);
    const differing = new Set<number>();
    const other = b.kernel.digest();
    a.kernel.digest().forEach((byte, i) => {
      if (byte !== other[i]) differing.add(i >> 4);
    });
    expect([...differing]).toEqual([a.kernel.bucket(a.id(0))]);
  });
});

describe('the merge rule', () => {
  const merged = (values: readonly bigint[], seed: number): bigint => {
    const bench = new Bench(1);
    for (const s of rearranged(
      values.map((bits) => ({ ref: 0, ms: T0, bits })),
      seed,
    ))
      bench.append([s]);
    return bench.read(0, T0_MS)[0]?.[1] as bigint;
  };

  it('picks the same winner whatever the order, grouping and repetition', () => {
    fc.assert(
      fc.property(fc.array(anyBits, { minLength: 1, maxLength: 5 }), fc.nat(), (values, seed) => {
        expect(merged(values, seed)).toBe(values.reduce(winnerOf));
      }),
      { numRuns: 300 },
    );
  });

  it.each([
    ['a number over a stale marker', 0xfff0_0000_0000_0000n, STALE, 0xfff0_0000_0000_0000n],
    ['any NaN over a stale marker', STALE, 0xffff_ffff_ffff_ffffn, 0xffff_ffff_ffff_ffffn],
    ['the larger number', bitsOf(1), bitsOf(2), bitsOf(2)],
    ['the negative number nearer to zero', bitsOf(-1), bitsOf(-2), bitsOf(-1)],
    ['0 over -0', bitsOf(-0), bitsOf(0), bitsOf(0)],
    ['a positive NaN over infinity', bitsOf(Number.POSITIVE_INFINITY), 0x7ff8_0000_0000_0000n, 0x7ff8_0000_0000_0000n],
    [
      '-infinity over a negative NaN',
      0xfff8_0000_0000_0000n,
      bitsOf(Number.NEGATIVE_INFINITY),
      bitsOf(Number.NEGATIVE_INFINITY),
    ],
  ])('prefers %s', (_name, a, b, wins) => {
    expect(merged([a, b], 1)).toBe(wins);
    expect(merged([b, a], 1)).toBe(wins);
  });
});

describe('timestamps', () => {
  it('may be any int64 from 0 on: digests of far windows tell neighbours apart', () => {
    const digests = [0n, 1n].map((late) => {
      const bench = new Bench(1);
      const ms = 2n ** 63n - 3n + late;
      expect(
        bench.append([
          { ref: 0, ms, bits: bitsOf(1) },
          { ref: 0, ms: late, bits: bitsOf(2) },
        ])[0]?.acceptedCount,
      ).toBe(2);
      const [near, far] = bench.kernel.windows();
      expect(near?.startMs).toBe(0);
      const chunk = bench.kernel.chunk(
        bench.id(0),
        far?.startMs as number,
        undefined,
        0,
        Number.POSITIVE_INFINITY,
      ) as Uint8Array;
      expect(new DataView(chunk.buffer, chunk.byteOffset).getBigInt64(8, true)).toBe(ms);
      bench.kernel.addDigest(bench.id(0), far?.startMs as number, undefined);
      return Buffer.from(bench.kernel.digest()).toString('hex');
    });
    expect(digests[0]).not.toBe(digests[1]);
  });
});

describe('windows', () => {
  it('are bounded in number, and say so', () => {
    const bench = new Bench(1, { maxOpenWindows: 2 });
    const at = (n: bigint): Sample => ({ ref: 0, ms: T0 + n * BigInt(WINDOW_MS), bits: bitsOf(Number(n)) });
    const [slice] = bench.append([at(0n), at(1n), at(2n), at(3n), at(0n)]);
    expect(slice?.acceptedCount).toBe(3);
    expect(slice?.rejections).toEqual([
      { ref: 0, seriesId: bench.id(0), reason: 'windows', sampleCount: 2, timestampMs: Number(at(2n).ms) },
    ]);
    const blocks: Blocks = new Map();
    sealWindow(bench, blocks, T0_MS);
    expect(bench.append([at(3n)])[0]?.acceptedCount).toBe(1);
    expect(bench.kernel.windows()).toEqual([
      { startMs: T0_MS + WINDOW_MS, runCount: 1, appendCount: 1 },
      // Counts of a window that opens go on above those of all that went.
      { startMs: T0_MS + 3 * WINDOW_MS, runCount: 1, appendCount: 4 },
    ]);
  });

  it('keep runs that changed after they were sealed', () => {
    const bench = new Bench(2);
    bench.append([
      { ref: 0, ms: T0 + 5n, bits: bitsOf(1) },
      { ref: 1, ms: T0, bits: bitsOf(1) },
    ]);
    const sealed = bench.ids.map((id) => bench.kernel.seal(id, T0_MS, undefined)?.slice());
    for (const change of [{ ref: 0, ms: T0 + 1n, bits: bitsOf(2) }]) bench.append([change]);
    expect([...bench.kernel.releaseSealed(T0_MS).freed]).toEqual([bench.id(1)]);
    expect(bench.kernel.hasRuns(bench.id(0))).toBe(true);
    expect(bench.read(0, T0_MS, sealed[0])).toEqual([
      [T0 + 1n, bitsOf(2)],
      [T0 + 5n, bitsOf(1)],
    ]);
  });

  it('list their series page by page, and release in slices', () => {
    const count = 9000;
    const bench = new Bench(count);
    bench.append(bench.ids.map((_, ref) => ({ ref, ms: T0, bits: bitsOf(ref) })));
    const listed: number[] = [];
    for (let cursor: number | undefined = 0; cursor !== undefined; ) {
      const page = bench.kernel.seriesIn(T0_MS, cursor);
      listed.push(...page.series);
      cursor = page.next;
    }
    expect(listed.sort((a, b) => a - b)).toEqual([...bench.ids].sort((a, b) => a - b));
    for (const id of bench.ids) bench.kernel.seal(id, T0_MS, undefined);
    const freed: number[] = [];
    let calls = 0;
    for (let done = false; !done; calls++) {
      const progress = bench.kernel.releaseSealed(T0_MS);
      freed.push(...progress.freed);
      done = progress.done;
    }
    expect(calls).toBeGreaterThan(1);
    expect(freed.sort((a, b) => a - b)).toEqual(listed);
    expect(bench.kernel.windows()).toEqual([]);
  });
});

describe('reading', () => {
  it('finds nothing outside of the samples, and nothing where no run is', () => {
    const bench = new Bench(2);
    bench.append([
      { ref: 0, ms: T0 + 1000n, bits: bitsOf(1) },
      { ref: 0, ms: T0 + 2000n, bits: bitsOf(2) },
    ]);
    const read = (from: number, to: number) =>
      bench.kernel.chunk(bench.id(0), T0_MS, undefined, T0_MS + from, T0_MS + to);
    expect(read(0, 999)).toBeUndefined();
    expect(read(2001, 5000)).toBeUndefined();
    expect(read(2000, 5000)).toBeDefined();
    expect(bench.kernel.chunk(bench.id(1), T0_MS, undefined, 0, Number.POSITIVE_INFINITY)).toBeUndefined();
  });

  it('refuses a block that is none, or of another window', () => {
    const bench = new Bench(1);
    bench.append([{ ref: 0, ms: T0, bits: bitsOf(1) }]);
    const chunk = bench.kernel.seal(bench.id(0), T0_MS, undefined)?.slice() as Uint8Array;
    bench.append([{ ref: 0, ms: T0 + BigInt(WINDOW_MS), bits: bitsOf(1) }]);
    const read = (block: Uint8Array) => () =>
      bench.kernel.chunk(bench.id(0), T0_MS + WINDOW_MS, block, 0, Number.POSITIVE_INFINITY);
    expect(read(chunk)).toThrow(/block's chunk of series 0 .* is broken/);
    expect(read(new Uint8Array(30))).toThrow(/is broken/);
    expect(read(new Uint8Array(0))).toThrow(/empty/);
  });
});

it('a batch is one set however it is cut into slices', () => {
  const bench = new Bench(2);
  const long: Sample[] = Array.from({ length: 20_000 }, (_, i) => ({
    ref: i < 19_000 ? 0 : 1,
    ms: T0 + BigInt(i),
    bits: bitsOf(i),
  }));
  const cursor = startOfBatch();
  const slices = [];
  const columns = columnsOf(long, true);
  while (!cursor.done) slices.push(keep(bench.kernel.append(bench.refs, columns, ANY_AGE, cursor)));
  expect(slices.map((s) => s.acceptedCount)).toEqual([8192, 8192, 3616]);
  expect(bench.read(0, T0_MS).length).toBe(19_000);
  expect(bench.read(1, T0_MS).length).toBe(1000);
});
