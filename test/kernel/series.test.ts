import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type SeriesId, ShardKernel } from '../../core/kernel/shard.ts';
import { Bench, bitsOf, identityOf, T0 } from './support.ts';

const MiB = 2 ** 20;

describe('the series table', () => {
  it('is a map from identities to slots, whatever comes and goes', () => {
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ do: fc.constant('intern' as const), n: fc.nat(60) }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('release' as const), n: fc.nat(60) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('find' as const), n: fc.nat(60) }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const kernel = ShardKernel.create({ maxSeriesCount: 40, maxMemoryBytes: 8 * MiB });
        const model = new Map<number, SeriesId>();
        for (const { do: what, n } of steps) {
          const identity = identityOf(n);
          if (what === 'intern' && (model.has(n) || model.size < 40)) {
            const { id, created } = kernel.intern(identity);
            expect(created).toBe(!model.has(n));
            if (created) expect([...model.values()]).not.toContain(id);
            else expect(id).toBe(model.get(n));
            model.set(n, id);
          } else if (what === 'intern') {
            expect(() => kernel.intern(identity)).toThrow(/holds 40 series.*maxSeriesCount 40/);
          } else if (what === 'release' && model.has(n)) {
            kernel.release(model.get(n) as SeriesId);
            model.delete(n);
          }
          expect(kernel.find(identity)).toBe(model.get(n));
          expect(kernel.seriesCount).toBe(model.size);
        }
        for (const [n, id] of model) expect([...kernel.identity(id)]).toEqual([...identityOf(n)]);
      }),
    );
  });

  it('keeps every series while its index grows and series leave', () => {
    const kernel = ShardKernel.create({ maxSeriesCount: 100_000, maxMemoryBytes: 256 * MiB });
    const living = new Map<number, SeriesId>();
    for (let n = 0; n < 60_000; n++) {
      living.set(n, kernel.intern(identityOf(n)).id);
      const leaving = (n * 7919) % 60_000;
      if (n % 3 === 0 && living.has(leaving)) {
        kernel.release(living.get(leaving) as SeriesId);
        living.delete(leaving);
      }
    }
    expect(kernel.seriesCount).toBe(living.size);
    for (let n = 0; n < 60_000; n++) expect(kernel.find(identityOf(n))).toBe(living.get(n));
  });

  it('uses the same memory when all series are replaced again and again', () => {
    const kernel = ShardKernel.create({ maxSeriesCount: 5_000, maxMemoryBytes: 64 * MiB });
    const used: number[] = [];
    for (let generation = 0; generation < 20; generation++) {
      const ids = Array.from(
        { length: 5_000 },
        (_, n) => kernel.intern(identityOf(100_000 + generation * 5_000 + n)).id,
      );
      used.push(kernel.usedBytes);
      for (const id of ids) kernel.release(id);
    }
    expect(new Set(used.slice(1)).size).toBe(1);
    expect(kernel.seriesCount).toBe(0);
  });

  it('tells identities apart that only differ in length', () => {
    const kernel = ShardKernel.create({ maxSeriesCount: 1000, maxMemoryBytes: 8 * MiB });
    const ids = Array.from({ length: 300 }, (_, length) => kernel.intern(new Uint8Array(length)).id);
    expect(new Set(ids).size).toBe(300);
    for (let length = 0; length < 300; length++) {
      expect(kernel.find(new Uint8Array(length))).toBe(ids[length]);
      expect(kernel.identity(ids[length] as SeriesId).length).toBe(length);
    }
  });

  it('takes identities up to 65,535 bytes', () => {
    const kernel = ShardKernel.create({ maxSeriesCount: 10, maxMemoryBytes: 8 * MiB });
    const longest = new Uint8Array(65_535).fill(7);
    const { id } = kernel.intern(longest);
    expect([...kernel.identity(id)]).toEqual([...longest]);
    expect(() => kernel.intern(new Uint8Array(65_536))).toThrow(/65536 bytes, at most 65535/);
    expect(kernel.find(new Uint8Array(65_536))).toBeUndefined();
  });

  it('refuses to release what has open runs, and knows no slot that is free', () => {
    const bench = new Bench(1);
    bench.append([{ ref: 0, ms: T0, bits: bitsOf(1) }]);
    expect(() => bench.kernel.release(bench.id(0))).toThrow(/open runs/);
    bench.kernel.seal(bench.id(0), Number(T0), undefined);
    bench.kernel.releaseSealed(Number(T0));
    bench.kernel.release(bench.id(0));
    expect(bench.kernel.has(bench.id(0))).toBe(false);
    for (const use of ['identity', 'fingerprint', 'bucket', 'hasRuns', 'release'] as const) {
      expect(() => bench.kernel[use](bench.id(0))).toThrow(/series 0 is not in use/);
    }
    expect(() => bench.kernel.identity(99 as SeriesId)).toThrow(/series 99 is not in use/);
  });

  it('says so when memory is full, and goes on when there is room again', () => {
    const kernel = ShardKernel.create({ maxSeriesCount: 100_000, maxMemoryBytes: 4 * MiB });
    const ids: SeriesId[] = [];
    const identity = (n: number): Uint8Array =>
      new Uint8Array(500).fill(1 + (n % 200)).map((b, i) => (i < 4 ? n >> (8 * i) : b));
    expect(() => {
      for (let n = 0; ; n++) ids.push(kernel.intern(identity(n)).id);
    }).toThrow(/kernel memory is full: no room for another series/);
    expect(kernel.memoryBytes).toBeLessThanOrEqual(4 * MiB);
    expect(ids.length).toBeGreaterThan(500);
    kernel.release(ids[0] as SeriesId);
    expect(kernel.intern(identity(ids.length)).created).toBe(true);
    for (let n = 1; n < ids.length; n++) expect(kernel.find(identity(n))).toBe(ids[n]);
  });

  it.each([
    [{ maxSeriesCount: 0, maxMemoryBytes: 8 * MiB }, /maxSeriesCount is 0/],
    [{ maxSeriesCount: 10, maxMemoryBytes: 2 ** 33 }, /maxMemoryBytes is 8589934592/],
    [{ maxSeriesCount: 10, maxMemoryBytes: 8 * MiB, maxOpenWindows: 0.5 }, /maxOpenWindows is 0.5/],
    [{ maxSeriesCount: 2 ** 24, maxMemoryBytes: MiB }, /do not hold tables for 16777216 series/],
  ])('refuses %o', (options, message) => {
    expect(() => ShardKernel.create(options)).toThrow(message);
  });
});

describe("a sender's references", () => {
  it('are its own, and can be bound anew', () => {
    const { kernel, refs, ids } = new Bench(2);
    const other = kernel.createRefs();
    expect(kernel.resolveRef(other, 0)).toBeUndefined();
    kernel.defineRef(other, 0, ids[1] as SeriesId);
    kernel.defineRef(other, 70_000, ids[0] as SeriesId);
    expect([kernel.resolveRef(refs, 0), kernel.resolveRef(other, 0), kernel.resolveRef(other, 70_000)]).toEqual([
      0, 1, 0,
    ]);
    kernel.defineRef(other, 0, ids[0] as SeriesId);
    expect(kernel.resolveRef(other, 0)).toBe(0);
    expect(kernel.resolveRef(other, 4_000_000)).toBeUndefined();
  });

  it('become unknown when the series goes, also when its slot is used again', () => {
    const { kernel, refs, ids } = new Bench(1);
    kernel.release(ids[0] as SeriesId);
    expect(kernel.resolveRef(refs, 0)).toBeUndefined();
    const { id } = kernel.intern(identityOf(77));
    expect(id).toBe(ids[0]);
    expect(kernel.resolveRef(refs, 0)).toBeUndefined();
    kernel.defineRef(refs, 0, id);
    expect(kernel.resolveRef(refs, 0)).toBe(id);
  });

  it('are bounded, and give their memory back', () => {
    const { kernel, ids } = new Bench(1, { maxRefCount: 1_000_000 });
    const before = kernel.usedBytes;
    const refs = kernel.createRefs();
    expect(() => kernel.defineRef(refs, 1_000_000, ids[0] as SeriesId)).toThrow(
      /reference 1000000 .* lie below 1000000/,
    );
    for (let ref = 0; ref < 1_000_000; ref += 500) kernel.defineRef(refs, ref, ids[0] as SeriesId);
    expect(kernel.usedBytes).toBeGreaterThan(before + 8_000_000 / 2);
    kernel.dropRefs(refs);
    expect(kernel.usedBytes).toBe(before);
    expect(() => kernel.defineRef(refs, 0, ids[0] as SeriesId)).toThrow(/was dropped/);
    expect(() => kernel.dropRefs(refs)).toThrow(/was dropped/);
  });
});
