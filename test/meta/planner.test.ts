import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { planOwners } from '../../core/planner.ts';

const names = fc.uniqueArray(fc.stringMatching(/^[a-z][a-z0-9]{0,4}$/), { minLength: 1, maxLength: 12 });
const shardCounts = fc.integer({ min: 0, max: 8 }).map((bits) => 2 ** bits);

function loads(nodes: readonly string[], owners: readonly string[]): number[] {
  return nodes.map((node) => owners.filter((owner) => owner === node).length);
}

/** The fewest moves there can be: each node keeps at most its share, and the larger shares go where most is. */
function fewestMoves(nodes: readonly string[], shardCount: number, current: readonly string[]): number {
  const least = Math.floor(shardCount / nodes.length);
  const larger = shardCount % nodes.length;
  const kept = loads(nodes, current)
    .sort((a, b) => b - a)
    .reduce((sum, load, rank) => sum + Math.min(load, rank < larger ? least + 1 : least), 0);
  return shardCount - kept;
}

describe('planOwners', () => {
  test('every shard has an owner, and no node has two more than another', () => {
    fc.assert(
      fc.property(
        names,
        shardCounts,
        fc.array(
          fc.option(
            names.map((list) => list[0]),
            { nil: undefined },
          ),
        ),
        (nodes, shardCount, before) => {
          const owners = planOwners(nodes, shardCount, before);
          expect(owners).toHaveLength(shardCount);
          const counts = loads(nodes, owners);
          expect(counts.reduce((a, b) => a + b, 0)).toBe(shardCount);
          expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
        },
      ),
    );
  });

  test('it moves as little as can be when nodes come and go', () => {
    fc.assert(
      fc.property(names, names, shardCounts, (before, after, shardCount) => {
        const current = planOwners(before, shardCount);
        const next = planOwners(after, shardCount, current);
        const moves = next.filter((owner, shard) => owner !== current[shard]).length;
        expect(moves).toBe(fewestMoves(after, shardCount, current));
      }),
    );
  });

  test('the same nodes keep what they have, in whatever order they are named', () => {
    fc.assert(
      fc.property(names, shardCounts, (nodes, shardCount) => {
        const owners = planOwners(nodes, shardCount);
        expect(planOwners([...nodes].reverse(), shardCount)).toEqual(owners);
        expect(planOwners(nodes, shardCount, owners)).toEqual(owners);
      }),
    );
  });

  test('neighbouring shards are spread', () => {
    expect(planOwners(['b', 'a'], 4)).toEqual(['a', 'b', 'a', 'b']);
  });

  test('no nodes, or a name twice, is refused', () => {
    expect(() => planOwners([], 4)).toThrow(/no nodes/);
    expect(() => planOwners(['a', 'b', 'a'], 4)).toThrow(/twice/);
  });
});
