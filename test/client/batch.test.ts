import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Collector } from '../../client/batch.ts';
import { SeriesTable } from '../../client/series.ts';
import { fingerprint, shardOf } from '../../core/fingerprint.ts';
import { ShardKernel } from '../../core/kernel/shard.ts';
import { decodeIdentity, encodeIdentity, labelValue, makeLabels } from '../../core/labels.ts';

describe('a fingerprint', () => {
  const hash = (text: string) => {
    const { h1, h2 } = fingerprint(new TextEncoder().encode(text));
    return h1.toString(16).padStart(16, '0') + h2.toString(16).padStart(16, '0');
  };

  it('is MurmurHash3 x64 128', () => {
    expect(hash('')).toBe('0'.repeat(32));
    expect(hash('hello')).toBe('cbd8a7b341bd9b025b1e906a48ae1d19');
    expect(hash('The quick brown fox jumps over the lazy dog')).toBe('e34bbc7bbc071b6c7a433ca9c49a9347');
  });

  it('is the one that the kernel takes', () => {
    const kernel = ShardKernel.create({ maxSeriesCount: 100, maxMemoryBytes: 2 ** 24 });
    for (let length = 0; length < 50; length++) {
      const identity = encodeIdentity(makeLabels({ __name__: 'm', padding: 'p'.repeat(length) }));
      const bytes = Buffer.from(kernel.fingerprint(kernel.intern(identity).id));
      expect(fingerprint(identity)).toEqual({ h1: bytes.readBigUInt64LE(0), h2: bytes.readBigUInt64LE(8) });
    }
  });

  it('gives the shard by its top bits', () => {
    expect(shardOf(0xcbd8a7b341bd9b02n, 16)).toBe(0xc);
    expect(shardOf(0xcbd8a7b341bd9b02n, 1)).toBe(0);
    expect(shardOf(0xcbd8a7b341bd9b02n, 65_536)).toBe(0xcbd8);
  });
});

describe('a series table', () => {
  it('places series where their fingerprint says, once and for all', () => {
    const table = new SeriesTable(1_000);
    for (const shardCount of [1, 2, 64]) {
      const own = new SeriesTable(1_000);
      for (let i = 0; i < 200; i++) {
        const series = own.intern({ __name__: 's', i: String(i) });
        if (i % 3 === 0) own.place(shardCount);
        expect(series.index).toBe(i);
      }
      own.place(shardCount);
      const { shardOf: shards, refOf } = own.places;
      for (let i = 0; i < 200; i++) {
        const [shard, ref] = [shards[i] as number, refOf[i] as number];
        const identity = own.identity(shard, ref);
        expect(shard).toBe(shardOf(fingerprint(identity).h1, shardCount));
        expect(labelValue(decodeIdentity(identity), 'i')).toBe(String(i));
        expect(own.indexOf(shard, ref)).toBe(i);
      }
    }
    table.place(4);
    expect(() => table.place(8)).toThrow('another cluster');
  });
});

describe('a collector', () => {
  it('gives back every sample, in order, in its shard', () => {
    const samples = fc.array(fc.tuple(fc.nat(9), fc.maxSafeNat(), fc.double()), { minLength: 1, maxLength: 200 });
    fc.assert(
      fc.property(samples, fc.constantFrom(1, 4, 16), (own, shardCount) => {
        const table = new SeriesTable(10);
        for (let i = 0; i < 10; i++) table.intern({ i: String(i) });
        table.place(shardCount);
        const collector = new Collector(200);
        const expected = new Map<number, [number, number][]>();
        // Twice: what is left over from the first must not show.
        for (let pass = 0; pass < 2; pass++) {
          expected.clear();
          for (const [series, timestampMs, value] of own) {
            collector.push(series, timestampMs, value);
            expected.set(series, [...(expected.get(series) ?? []), [timestampMs, value]]);
          }
          const found = new Map<number, [number, number][]>();
          for (const batch of collector.take(table)) {
            const timestamps = new DataView(
              batch.timestamps.buffer,
              batch.timestamps.byteOffset,
              batch.timestamps.length,
            );
            const values = new DataView(batch.values.buffer, batch.values.byteOffset, batch.values.length);
            let at = 0;
            for (const [run, ref] of batch.refs.entries()) {
              const series = table.indexOf(batch.shard, ref);
              const points = found.get(series) ?? [];
              for (let i = batch.counts?.[run] ?? 1; i > 0; i--, at += 8) {
                points.push([Number(timestamps.getBigInt64(at, true)), values.getFloat64(at, true)]);
              }
              found.set(series, points);
            }
            expect(at).toBe(batch.values.length);
          }
          expect(found).toEqual(expected);
          expect(collector.sampleCount).toBe(0);
        }
      }),
    );
  });
});
