import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type PlannedNode, planCopies, spreadFirsts } from '../../core/planner.ts';
import { fewestMovesTo } from './flow.ts';
import { SimRegion } from './growth.ts';

const nodeLists = fc.uniqueArray(
  fc.record({ name: fc.stringMatching(/^[a-z][a-z0-9]{0,3}$/), zone: fc.constantFrom('x', 'y', 'z', 'w') }),
  { minLength: 1, maxLength: 14, selector: ({ name }) => name },
);
const shardCounts = fc.integer({ min: 0, max: 7 }).map((bits) => 2 ** bits);
const copyCounts = fc.integer({ min: 1, max: 4 });

function loads(nodes: readonly PlannedNode[], plan: readonly (readonly string[])[]): Map<string, number> {
  const counts = new Map(nodes.map(({ name }) => [name, 0]));
  for (const name of plan.flat()) counts.set(name, counts.get(name)! + 1);
  return counts;
}

function moves(before: readonly (readonly string[])[], after: readonly (readonly string[])[]): number {
  return after.reduce((sum, names, shard) => sum + names.filter((name) => !before[shard]?.includes(name)).length, 0);
}

function checkRules(nodes: readonly PlannedNode[], shardCount: number, copies: number, plan: string[][]): void {
  const zoneOf = new Map(nodes.map(({ name, zone }) => [name, zone]));
  const sizes = new Map<string, number>();
  for (const { zone } of nodes) sizes.set(zone, (sizes.get(zone) ?? 0) + 1);
  expect(plan).toHaveLength(shardCount);
  for (const names of plan) {
    expect(names).toHaveLength(Math.min(copies, nodes.length));
    expect(new Set(names).size).toBe(names.length);
    const inZone = new Map([...sizes.keys()].map((zone) => [zone, 0]));
    for (const name of names) inZone.set(zoneOf.get(name)!, inZone.get(zoneOf.get(name)!)! + 1);
    const most = Math.max(...inZone.values());
    for (const [zone, count] of inZone) {
      // A zone that has two fewer than another has no node left that could take one.
      if (count + 1 < most) expect(count).toBe(sizes.get(zone));
    }
  }
  // Balanced within each zone, and over all nodes wherever zones do not stand in the way.
  const counts = loads(nodes, plan);
  for (const zone of sizes.keys()) {
    const own = nodes.filter((node) => node.zone === zone).map(({ name }) => counts.get(name)!);
    expect(Math.max(...own) - Math.min(...own)).toBeLessThanOrEqual(1);
  }
  if (copies === 1 || sizes.size === 1) {
    expect(Math.max(...counts.values()) - Math.min(...counts.values())).toBeLessThanOrEqual(1);
  }
}

/** The fewest moves there can be when zones do not matter: each node keeps at most its share, the larger shares where most is. */
function fewestMoves(nodes: readonly PlannedNode[], all: number, current: readonly (readonly string[])[]): number {
  const least = Math.floor(all / nodes.length);
  const larger = all % nodes.length;
  const names = new Set(nodes.map(({ name }) => name));
  const counts = loads(
    nodes,
    current.map((own) => own.filter((name) => names.has(name))),
  );
  const kept = [...counts.values()]
    .sort((a, b) => b - a)
    .reduce((sum, load, rank) => sum + Math.min(load, rank < larger ? least + 1 : least), 0);
  return all - kept;
}

/** Copies of one shard that each zone has at least, and at most. */
function boundsOf(nodes: readonly PlannedNode[], copies: number): Map<string, [least: number, most: number]> {
  const sizes = new Map<string, number>();
  for (const { zone } of nodes) sizes.set(zone, (sizes.get(zone) ?? 0) + 1);
  const bounds = new Map([...sizes.keys()].map((zone): [string, [number, number]] => [zone, [0, 0]]));
  for (let left = Math.min(copies, nodes.length); left > 0; ) {
    const open = [...bounds].filter(([zone, [, most]]) => most < sizes.get(zone)!);
    for (const [zone, [least, most]] of open) bounds.set(zone, [least + Number(left >= open.length), most + 1]);
    left -= open.length;
  }
  return bounds;
}

/** On a machine that stalls. */
const SLOW_MS = 300_000;

/** What more may move than must. */
const SLACK = 1.01;
const DRAIN_SLACK = 1.05;

describe('planCopies', () => {
  test('rules of nodes, zones and balance hold, whatever there was before', () => {
    fc.assert(
      fc.property(
        nodeLists,
        nodeLists,
        shardCounts,
        copyCounts,
        copyCounts,
        (before, after, shardCount, had, copies) => {
          const current = planCopies(before, shardCount, had);
          checkRules(before, shardCount, had, current);
          checkRules(after, shardCount, copies, planCopies(after, shardCount, copies, current));
        },
      ),
      { numRuns: 400 },
    );
  });

  test('of one copy it moves as few as can be when nodes come and go', () => {
    fc.assert(
      fc.property(nodeLists, nodeLists, shardCounts, (before, after, shardCount) => {
        const current = planCopies(before, shardCount, 1);
        const next = planCopies(after, shardCount, 1, current);
        expect(moves(current, next)).toBe(fewestMoves(after, shardCount, current));
      }),
    );
  });

  test('of several copies it moves as few as zones and loads allow, when nodes come and go', () => {
    const totals = { moved: 0, fewest: 0 };
    const zones = fc.integer({ min: 1, max: 4 });
    const sizes = fc.integer({ min: 2, max: 5 }).map((bits) => 2 ** bits);
    const steps = fc.array(
      fc.oneof(
        fc.integer({ min: 1, max: 3 }),
        fc.nat(20).map((gone) => -gone),
      ),
      { minLength: 1, maxLength: 4 },
    );
    fc.assert(
      fc.property(zones, sizes, copyCounts, steps, (zoneCount, shardCount, copies, changes) => {
        const nodeOf = (i: number) => ({ name: `n${i}`, zone: `z${i % zoneCount}` });
        let count = 2 * zoneCount;
        let nodes = Array.from({ length: count }, (_, i) => nodeOf(i));
        let plan = planCopies(nodes, shardCount, copies);
        for (const change of changes) {
          if (change > 0) nodes = [...nodes, ...Array.from({ length: change }, () => nodeOf(count++))];
          else if (nodes.length > copies) nodes = nodes.filter((_, i) => i !== -change % nodes.length);
          const next = planCopies(nodes, shardCount, copies, plan);
          checkRules(nodes, shardCount, copies, next);
          totals.moved += moves(plan, next);
          totals.fewest += fewestMovesTo(nodes, plan, next, boundsOf(nodes, copies));
          plan = next;
        }
      }),
      { numRuns: 40, seed: 1 },
    );
    expect(totals.moved).toBeLessThanOrEqual(SLACK * totals.fewest);
  });

  test.each([1, 2, 3])(
    'of %i copies, what joins and what is drained moves once, step by step',
    (copies) => {
      for (const [nodeCount, shardCount] of [
        [6, 64],
        [10, 1_024],
        [12, 256],
      ] as const) {
        const region = new SimRegion(nodeCount, new Array<number>(shardCount).fill(1), copies);
        const held = (names: readonly string[]) => names.flatMap((name) => region.shardsOf(name)).length;
        for (const names of [['new'], ['e-1', 'e-2', 'e-3', 'e-4']]) {
          expect(region.join(...names).moves).toBe(held(names));
        }
        const least = held(['new']);
        expect(region.drain('new').moves).toBeLessThanOrEqual(DRAIN_SLACK * least);
      }
    },
    SLOW_MS,
  );

  test('what is pinned stays, whatever else has to go for it', () => {
    const nodes = ['a', 'b', 'c'].map((name) => ({ name, zone: name }));
    const before = [['a'], ['a'], ['a'], ['a'], ['b'], ['b']];
    const pins = [['a'], ['a'], [], [], [], []];
    const plan = planCopies(nodes, 6, 1, before, pins);
    expect(plan.slice(0, 2)).toEqual([['a'], ['a']]);
    expect(moves(before, plan)).toBe(2);
  });

  test('the same nodes keep what they have, in whatever order they are named', () => {
    fc.assert(
      fc.property(nodeLists, shardCounts, copyCounts, (nodes, shardCount, copies) => {
        const plan = planCopies(nodes, shardCount, copies);
        expect(planCopies([...nodes].reverse(), shardCount, copies)).toEqual(plan);
        expect(planCopies(nodes, shardCount, copies, plan)).toEqual(plan);
      }),
    );
  });

  test('more nodes than shards, a zone of one node, and a zone too many', () => {
    const one = { name: 'alone', zone: 'x' };
    const many = Array.from({ length: 9 }, (_, i) => ({ name: `n${i}`, zone: 'y' }));
    const plan = planCopies([one, ...many], 8, 2);
    expect(plan.every((names) => names.includes('alone'))).toBe(true);
    checkRules([one, ...many], 8, 2, plan);
  });

  test('neighbouring shards are spread', () => {
    const nodes = ['b', 'a'].map((name) => ({ name, zone: 'x' }));
    expect(planCopies(nodes, 4, 1).flat()).toEqual(['a', 'b', 'a', 'b']);
  });

  test('each of two nodes comes first for half of the shards', () => {
    const nodes = ['b', 'a'].map((name) => ({ name, zone: name }));
    const plan = spreadFirsts(planCopies(nodes, 8, 2));
    checkRules(nodes, 8, 2, plan);
    expect(plan.map(([first]) => first)).toEqual(['a', 'b', 'a', 'b', 'a', 'b', 'a', 'b']);
  });

  test(
    'a thousand nodes in ten zones, 16,384 shards, three copies; a node comes and one goes',
    () => {
      const nodes = Array.from({ length: 1_000 }, (_, i) => ({ name: `node-${i}`, zone: `zone-${i % 10}` }));
      const plan = planCopies(nodes, 16_384, 3);
      checkRules(nodes, 16_384, 3, plan);
      const counts = [...loads(nodes, plan).values()];
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);

      const left = nodes.filter(({ name }) => name !== 'node-500');
      const without = planCopies(left, 16_384, 3, plan);
      checkRules(left, 16_384, 3, without);
      expect(moves(plan, without)).toBeLessThanOrEqual(1.05 * 50);

      const joined = [...nodes, { name: 'new', zone: 'zone-3' }];
      const more = planCopies(joined, 16_384, 3, plan);
      checkRules(joined, 16_384, 3, more);
      expect(moves(plan, more)).toBeLessThanOrEqual(50);
    },
    SLOW_MS,
  );

  test('no nodes, no copies, or a name twice, is refused', () => {
    expect(() => planCopies([], 4, 1)).toThrow(/no nodes/);
    expect(() => planCopies([{ name: 'a', zone: 'x' }], 4, 0)).toThrow(/0 copies/);
    const twice = ['a', 'b', 'a'].map((name) => ({ name, zone: 'x' }));
    expect(() => planCopies(twice, 4, 1)).toThrow(/twice/);
  });
});
