import { describe, expect, it } from 'vitest';
import { startOfBatch } from '../../core/kernel/batch.ts';
import { type SeriesId, WINDOW_MS } from '../../core/kernel/shard.ts';
import { ANY_AGE, Bench, bitsOf, columnsOf, identityOf, type Sample, T0 } from './support.ts';

const at = (ref: number, offset: number, value = 1): Sample => ({ ref, ms: T0 + BigInt(offset), bits: bitsOf(value) });
const T0_MS = Number(T0);

describe('append', () => {
  it('refuses by age, names the first of each run and reason, and stores the rest', () => {
    const bench = new Bench(2);
    const negative = { ref: 0, ms: -5n, bits: bitsOf(1) };
    const [slice] = bench.append(
      [at(0, 99), at(0, 100), at(0, 150), negative, at(0, 98), at(0, 201), at(1, 200)],
      true,
      { minMs: T0_MS + 100, maxMs: T0_MS + 200 },
    );
    expect(slice?.acceptedCount).toBe(3);
    expect(slice?.rejections).toEqual([
      { ref: 0, seriesId: 0, reason: 'old', sampleCount: 2, timestampMs: T0_MS + 99 },
      { ref: 0, seriesId: 0, reason: 'negative', sampleCount: 1, timestampMs: -5 },
      { ref: 0, seriesId: 0, reason: 'ahead', sampleCount: 1, timestampMs: T0_MS + 201 },
    ]);
    expect(bench.read(0, T0_MS).map(([ms]) => ms - T0)).toEqual([100n, 150n]);
    expect(bench.read(1, T0_MS).map(([ms]) => ms - T0)).toEqual([200n]);
  });

  it('names unknown references and stores nothing of their runs', () => {
    const bench = new Bench(2);
    const [slice] = bench.append([at(7, 0), at(0, 0), at(9, 0), at(9, 1), at(1, 0)]);
    expect([...(slice?.unknownRefs ?? [])]).toEqual([7, 9]);
    expect(slice?.acceptedCount).toBe(2);
    expect(bench.read(1, T0_MS)).toEqual([[T0, bitsOf(1)]]);
  });

  it('tells the log which series a segment has not defined yet', () => {
    const bench = new Bench(3);
    const undefinedOf = (samples: Sample[]): number[] => bench.append(samples).flatMap((s) => [...s.undefinedSeries]);
    expect(undefinedOf([at(0, 0), at(2, 0), at(0, 1)])).toEqual([0, 2]);
    expect(undefinedOf([at(0, 2), at(1, 2), at(2, 2)])).toEqual([1]);
    bench.kernel.startSegment();
    expect(undefinedOf([at(2, 3)])).toEqual([2]);
    // A slot that was used again stands for another series.
    bench.kernel.seal(bench.id(1), T0_MS, undefined);
    bench.kernel.releaseSealed(T0_MS);
    bench.kernel.release(bench.id(1));
    const { id } = bench.kernel.intern(identityOf(50));
    expect(id).toBe(bench.id(1));
    bench.kernel.defineRef(bench.refs, 1, id);
    expect(undefinedOf([at(1, 4), at(2, 4)])).toEqual([1]);
  });

  it('stops at the end of a window that closes while it is released', () => {
    // Memory that is used again holds anything.
    const bench = new Bench(200, {}, (kernel) => {
      for (const bytes of [(4 << 20) - 64, 8 << 20]) kernel.loadDigest(new Uint8Array(bytes).fill(0xff));
    });
    const { kernel } = bench;
    const inWindow = (number: number) => bench.ids.map((_, ref) => at(ref, number * WINDOW_MS));
    for (const number of [0, 1]) bench.append(inWindow(number));
    const release = (number: number): number => {
      for (const id of bench.ids) kernel.seal(id, T0_MS + number * WINDOW_MS, undefined);
      return kernel.releaseSealed(T0_MS + number * WINDOW_MS).freed.length;
    };
    expect(release(1)).toBe(200);
    for (const id of bench.ids.slice(1)) kernel.seal(id, T0_MS, undefined);
    expect(kernel.releaseSealed(T0_MS).freed.length).toBe(199);
    // Its first run is the last one now, with the places of all others behind it.
    expect(release(0)).toBe(1);
    expect(kernel.windows()).toEqual([]);
  });

  it('takes no number of a free slot for a segment', () => {
    const bench = new Bench(2);
    bench.append([at(0, 0), at(1, 0)]);
    for (const id of bench.ids) bench.kernel.seal(id, T0_MS, undefined);
    bench.kernel.releaseSealed(T0_MS);
    for (const id of bench.ids) bench.kernel.release(id);
    for (const ref of [0, 1]) bench.kernel.defineRef(bench.refs, ref, bench.kernel.intern(identityOf(60 + ref)).id);
    expect([...(bench.append([at(0, 1), at(1, 1)])[0]?.undefinedSeries ?? [])].sort()).toEqual([0, 1]);
  });

  it('does not tell of series whose samples were all refused', () => {
    const bench = new Bench(1);
    const old = { minMs: T0_MS + 1, maxMs: Number.POSITIVE_INFINITY };
    expect([...(bench.append([at(0, 0)], true, old)[0]?.undefinedSeries ?? [])]).toEqual([]);
    expect([...(bench.append([at(0, 1)], true, old)[0]?.undefinedSeries ?? [])]).toEqual([0]);
  });

  it('takes columns at any alignment', () => {
    const bench = new Bench(2);
    const columns = columnsOf([at(0, 0), at(0, 1), at(1, 5, 7)], true);
    const shifted = (bytes: Uint8Array): Uint8Array => {
      const wide = new Uint8Array(bytes.length + 3);
      wide.set(bytes, 3);
      return wide.subarray(3);
    };
    const { refs, counts, timestamps, values } = columns;
    const batch = {
      refs: shifted(refs),
      counts: shifted(counts),
      timestamps: shifted(timestamps),
      values: shifted(values),
    };
    expect(bench.kernel.append(bench.refs, batch, ANY_AGE, startOfBatch()).acceptedCount).toBe(3);
    expect(bench.read(1, T0_MS)).toEqual([[T0 + 5n, bitsOf(7)]]);
  });

  it('takes an empty batch, and runs of no samples', () => {
    const bench = new Bench(2);
    const cursor = startOfBatch();
    const nothing = bench.kernel.append(bench.refs, columnsOf([], true), ANY_AGE, cursor);
    expect([nothing.acceptedCount, nothing.record.length, cursor.done]).toEqual([0, 0, true]);
    const columns = {
      ...columnsOf([at(0, 0), at(1, 0)], true),
      counts: new Uint8Array(new Uint32Array([0, 2]).buffer),
    };
    expect(bench.kernel.append(bench.refs, columns, ANY_AGE, startOfBatch()).acceptedCount).toBe(2);
    expect(bench.kernel.runCount).toBe(1);
  });

  it('refuses columns that do not fit together before it stores anything', () => {
    const bench = new Bench(2);
    const good = columnsOf([at(0, 0), at(1, 0)], true);
    const bad = [
      { ...good, refs: good.refs.subarray(0, 7) },
      { ...good, refs: good.refs.subarray(0, 4) },
      { ...good, counts: good.counts.subarray(0, 4) },
      { ...good, counts: new Uint8Array(new Uint32Array([1, 2]).buffer) },
      { ...good, timestamps: good.timestamps.subarray(0, 15) },
      { ...good, values: good.values.subarray(0, 8) },
    ];
    for (const columns of bad) {
      expect(() => bench.kernel.append(bench.refs, columns, ANY_AGE, startOfBatch())).toThrow(
        /columns do not fit together/,
      );
    }
    expect(bench.kernel.sampleCount).toBe(0);
  });

  it('rejects samples when memory is full, keeps what it has, and goes on after a release', () => {
    const bench = new Bench(2000, { maxMemoryBytes: 10 * 2 ** 20 });
    const batch = (n: number): Sample[] => bench.ids.map((_, ref) => at(ref, n * 1000, Math.sin(n * 2000 + ref)));
    let accepted = 0;
    let round = 0;
    for (; round < 1000; round++) {
      const slices = bench.append(batch(round), false);
      accepted += slices.reduce((sum, s) => sum + s.acceptedCount, 0);
      if (slices.some((s) => s.rejections.some((r) => r.reason === 'memory'))) break;
    }
    expect(round).toBeGreaterThan(5);
    expect(round).toBeLessThan(1000);
    expect(bench.kernel.memoryBytes).toBeLessThanOrEqual(10 * 2 ** 20);
    expect(bench.kernel.sampleCount).toBe(accepted);
    for (const ref of [0, 999, 1999]) expect(bench.read(ref, T0_MS).length).toBeGreaterThanOrEqual(round);
    for (const id of bench.ids) bench.kernel.seal(id, T0_MS, undefined);
    while (!bench.kernel.releaseSealed(T0_MS).done);
    expect(bench.append(batch(round), false).every((s) => s.rejections.length === 0)).toBe(true);
  });

  it('keeps series apart that share a batch with gaps between their slots', () => {
    const bench = new Bench(3000);
    const sparse = bench.ids.filter((id) => id % 37 === 5);
    bench.append(
      sparse.map((ref) => at(ref, 1, ref)),
      false,
    );
    for (const id of sparse as SeriesId[]) expect(bench.read(id, T0_MS)).toEqual([[T0 + 1n, bitsOf(id)]]);
    expect(bench.kernel.runCount).toBe(sparse.length);
  });
});

it('admits nothing where the bounds leave nothing', () => {
  const bench = new Bench(1);
  const [slice] = bench.append([at(0, 0), at(0, 50)], true, { minMs: T0_MS + 10, maxMs: T0_MS + 5 });
  expect(slice?.rejections.map(({ reason, sampleCount }) => [reason, sampleCount])).toEqual([
    ['old', 1],
    ['ahead', 1],
  ]);
  expect(bench.append([at(0, 0)], true, { minMs: 0, maxMs: -1 })[0]?.acceptedCount).toBe(0);
});
