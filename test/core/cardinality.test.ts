import { describe, expect, it } from 'vitest';
import { Cardinality, KEPT_COUNT, ShardCardinality } from '../../core/cardinality.ts';

/** Series over shards as their fingerprints spread them: evenly. */
function merged(shardCount: number, perShard: (shard: number, of: ShardCardinality) => void): Cardinality {
  const texts: string[] = [];
  for (let shard = 0; shard < shardCount; shard++) {
    const one = new ShardCardinality();
    perShard(shard, one);
    texts.push(...one.texts(shard, 10, shard * 100, shard * 100 + 99));
  }
  return new Cardinality(texts);
}

describe('cardinality', () => {
  it('adds up series, and knows values that several shards have', () => {
    const found = merged(16, (shard, of) => {
      of.add('__name__', 'up', 3);
      of.add('__name__', 'down', 1);
      of.add('job', 'everywhere', 4);
      of.add('instance', `only ${shard}`, 1);
    });
    expect(found.seriesCount).toBe(160);
    expect([found.firstMs, found.lastMs]).toEqual([0, 1599]);
    expect(found.seriesByMetric(10)).toEqual([
      { name: 'up', value: 48 },
      { name: 'down', value: 16 },
    ]);
    expect(found.seriesByPair(2)).toEqual([
      { name: 'job=everywhere', value: 64 },
      { name: '__name__=up', value: 48 },
    ]);
    expect(found.valuesByLabel(10)).toEqual([
      { name: 'instance', value: 16 },
      { name: '__name__', value: 2 },
      { name: 'job', value: 1 },
    ]);
    expect(found.bytesByLabel(1)).toEqual([{ name: 'job', value: 640 }]);
    expect(found.labelPairCount).toBe(19);
  });

  it('estimates many values of a label, whether shards share them or not', () => {
    const found = merged(8, (shard, of) => {
      for (let i = 0; i < 20_000; i++) {
        of.add('shared', `pod-${i}`, 1);
        of.add('own', `10.${shard}.${i >> 8}.${i & 255}:9100`, 1);
      }
    });
    const values = Object.fromEntries(found.valuesByLabel(10).map(({ name, value }) => [name, value]));
    expect(Math.abs((values['shared'] as number) / 20_000 - 1)).toBeLessThan(0.25);
    expect(Math.abs((values['own'] as number) / 160_000 - 1)).toBeLessThan(0.25);
  });

  it('is bounded, and too low by no more than what the shards left out', () => {
    const of = new ShardCardinality();
    for (let i = 0; i < 20_000; i++) of.add(`label ${i % 1_000}`, `value ${i}`, i);
    const texts = of.texts(0, 20_000, 0, 0);
    expect(texts.length).toBeLessThanOrEqual(1 + 3 * KEPT_COUNT);
    const found = new Cardinality(texts);
    const pairs = found.seriesByPair(KEPT_COUNT);
    expect(pairs[0]).toEqual({ name: 'label 999=value 19999', value: 19_999 });
    expect(pairs.at(-1)?.value).toBe(20_000 - KEPT_COUNT);
  });

  it('of nothing is nothing', () => {
    const found = new Cardinality(
      new ShardCardinality().texts(0, 0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
    );
    expect([found.seriesCount, found.labelPairCount, found.seriesByMetric(5)]).toEqual([0, 0, []]);
    expect(found.firstMs).toBe(Number.POSITIVE_INFINITY);
  });
});
