/** Placements in the meta store: what is written is read, small ones by people too, and the largest clusters fit. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { RegionCopy, RegionPlacement } from '../../core/meta/region.ts';
import { readPlacement, writePlacement } from '../../core/meta/written.ts';

const entry = (value: string) => ({ key: 'placement/r', value, revision: 1, lease: undefined });

/** Copies here and there, as after the `rounds`th takeover. */
function placementOf(shardCount: number, copies: number, nodeCount: number, rounds = 1): RegionPlacement {
  const name = (i: number) => `node-${String(i % nodeCount).padStart(4, '0')}`;
  const shards = Array.from({ length: shardCount }, (_, shard): RegionCopy[] =>
    Array.from({ length: copies }, (_, i) => ({
      node: name(shard * 7919 + i * 104_729 + ((shard * i) % 31)),
      state: 'active',
      epoch: 1 + ((shard * 31) % rounds),
    })),
  );
  const nodes = Object.fromEntries(
    Array.from({ length: nodeCount }, (_, i) => [
      name(i),
      { zone: `zone-${i % 10}`, address: `10.${i >> 8}.${i & 255}.17:9191` },
    ]),
  );
  return { clusterId: 'c'.repeat(32), shardCount, region: 'r', copies, moves: 'on', nodes, shards };
}

describe('a placement', () => {
  const name = fc.constantFrom('a', 'b', '__proto__', 'näme', 'c-3', '0');
  const copy: fc.Arbitrary<RegionCopy> = fc
    .record({
      node: name,
      state: fc.constantFrom('active' as const, 'joining' as const, 'leaving' as const),
      epoch: fc.nat(),
      fill: fc.boolean(),
      from: fc.option(name, { nil: undefined }),
      rest: fc.record(
        {
          move: fc.nat(),
          cause: fc.constantFrom('order' as const, 'rebalance' as const, 'balance' as const, 'drain' as const),
          held: fc.constant(true as const),
          pinned: fc.constant(true as const),
        },
        { requiredKeys: [] },
      ),
    })
    .map(({ node, state, epoch, fill, from, rest }) => ({
      ...rest,
      node,
      state,
      epoch,
      ...(state === 'joining' && fill ? { fill: true as const } : {}),
      ...(from === undefined ? {} : { from }),
    }));
  const nodes = fc.dictionary(
    name.filter((one) => one !== '__proto__'),
    fc.record({ zone: fc.string(), address: fc.string() }),
  );
  const placements = fc.record({
    clusterId: fc.string(),
    shardCount: fc.nat(),
    region: fc.string(),
    copies: fc.integer({ min: 1, max: 9 }),
    moves: fc.constantFrom('on' as const, 'paused' as const, 'off' as const),
    nodes,
    shards: fc.array(fc.array(copy, { maxLength: 4 }), { maxLength: 8 }),
  });
  const asked = [{ move: 7, shard: 0, from: 'a', to: 'b', cause: 'order' as const, held: true as const }];

  test('is read as it was written, packed or not', () => {
    fc.assert(
      fc.property(placements, fc.boolean(), (placement, isLarge) => {
        const filler: RegionCopy = { node: 'a', state: 'active', epoch: 3 };
        const shards = isLarge ? [...placement.shards, Array.from({ length: 2_100 }, () => filler)] : placement.shards;
        const whole = { ...placement, shards, cordons: { a: 'draining' as const }, asked };
        const value = writePlacement(whole);
        expect(value.includes('"packed"')).toBe(isLarge);
        expect(readPlacement(entry(value))).toEqual(whole);
      }),
      { numRuns: 100 },
    );
  });

  test('of 16,384 shards, three copies each, on 1,000 nodes takes a quarter of what is kept; one of 65,536 fits', () => {
    const placement = placementOf(16_384, 3, 1_000, 50);
    const value = writePlacement(placement);
    expect(JSON.stringify(placement).length).toBeGreaterThan(1 << 20);
    expect(value.length).toBeLessThan(1 << 18);
    expect(readPlacement(entry(value))).toEqual(placement);
    expect(writePlacement(placementOf(65_536, 3, 5_000, 50)).length).toBeLessThan(1 << 20);
  });

  test('that would not fit is refused by name', () => {
    const placement = placementOf(65_536, 12, 5_000, 100_000);
    expect(() => writePlacement(placement)).toThrow(
      /^region r: 786432 copies of 65536 shards on 5000 nodes take \d+ bytes in the meta store, at most 1048576 are kept/,
    );
  });
});
