import { describe, expect, test } from 'vitest';
import * as rules from '../../core/meta/decide.ts';
import { type Edit, plant } from '../sim/mutant.ts';
import { type Rules, SimRegion, type Troubles } from './region.ts';

const SEEDS = Array.from({ length: 24 }, (_, i) => i + 1);
/** Until a planted bug is found: it may take many, and which ones depends on where the planner puts copies. */
const MANY_SEEDS = Array.from({ length: 200 }, (_, i) => i + 1);

/** Half a minute of work on a machine that does much else. */
const TIME_MS = 300_000;

function troublesOf(seed: number): Troubles {
  return { nodes: 3 + (seed % 6), copies: 1 + (seed % 2), shards: 6, outages: seed % 3 > 0 };
}

/** A region through its troubles; what broke a rule, or is not in order after all. */
function live(seed: number, by: Rules): { region: SimRegion; found: string[] } {
  const troubles = troublesOf(seed);
  const region = new SimRegion(seed, by, troubles);
  region.run(30_000);
  for (let round = 0; round < 12 && region.violations.length === 0; round++) {
    region.trouble(troubles.outages);
    if (region.random.chance(0.1)) region.lose(region.random.pick(region.nodes).name);
  }
  region.heal();
  return { region, found: region.unsettled() };
}

const mutant = (...edits: Omit<Edit, 'file'>[]): Promise<Rules> =>
  plant(
    ['core/meta/decide.ts'],
    edits.map((edit) => ({ ...edit, file: 'decide.ts' })),
  );

describe('a region in trouble', () => {
  test(
    'nothing acknowledged leaves the placement, writes are taken, and in the end all is in order',
    () => {
      let commits = 0;
      let alarms = 0;
      for (const seed of SEEDS) {
        const { region, found } = live(seed, rules);
        expect(found, `seed ${seed}`).toEqual([]);
        commits += region.commits;
        alarms += region.alarms;
      }
      // It was put to the test.
      expect(commits).toBeGreaterThan(10 * SEEDS.length);
      expect(alarms).toBeGreaterThan(0);
    },
    TIME_MS,
  );

  test(
    'nodes are drained in the middle of it: they are emptied in the end, and nothing is lost',
    () => {
      for (const seed of SEEDS) {
        const region = new SimRegion(seed, rules, { ...troublesOf(seed), nodes: 4 + (seed % 3) });
        region.run(30_000);
        region.cordon('n0', 'draining');
        for (let round = 0; round < 6 && region.violations.length === 0; round++) region.trouble(seed % 3 > 0);
        region.heal();
        expect(region.violations, `seed ${seed}`).toEqual([]);
        const left = region.placement?.shards.flat().filter(({ node }) => node === 'n0');
        expect(left, `seed ${seed}`).toEqual([]);
        region.cordon('n0', undefined);
        region.heal();
        expect(region.unsettled(), `seed ${seed}`).toEqual([]);
      }
    },
    TIME_MS,
  );

  test(
    'operators move, hold and call off copies in the middle of it: nothing is lost, and in the end all that was asked for is done',
    () => {
      let operations = 0;
      for (const seed of SEEDS) {
        const troubles = troublesOf(seed);
        const region = new SimRegion(seed, rules, troubles);
        region.run(30_000);
        for (let round = 0; round < 12 && region.violations.length === 0; round++) {
          for (let order = 0; order < 4; order++) {
            region.operate();
            region.run(region.random.pick([500, 2_000, 10_000]));
          }
          if (region.random.chance(0.5)) region.trouble(troubles.outages);
        }
        region.heal();
        region.even();
        region.heal();
        expect(region.unsettled(), `seed ${seed}`).toEqual([]);
        expect(region.placement?.asked, `seed ${seed}`).toBeUndefined();
        operations += region.operations;
      }
      expect(operations).toBeGreaterThan(5 * SEEDS.length);
    },
    TIME_MS,
  );

  test('with the store away for ten lease times nothing moves, not even when it returns', () => {
    for (const seed of SEEDS) {
      const region = new SimRegion(seed, rules, troublesOf(seed));
      region.run(30_000);
      const { placement } = region;
      region.outage(100_000);
      region.run(200_000);
      expect(region.placement, `seed ${seed}`).toBe(placement);
      expect(region.violations).toEqual([]);
    }
  });
});

describe('planted: found by the region in trouble', () => {
  test.each([
    [
      'a takeover that forgets the old tail',
      {
        replace: "this.#askAgain(shard, copy);\n        places.turn(copy, 'leaving');",
        by: 'places.remove(copy);',
      },
    ],
    [
      'a copy that goes before it is drained',
      { replace: 'this.#reportOf(shard, copy)?.drained !== true', by: 'this.#reportOf(shard, copy) === undefined' },
    ],
    [
      'a joining copy that is active before it is filled',
      {
        replace: "copy.state !== 'joining' || this.#reportOf(shard, copy)?.filled !== true",
        by: "copy.state !== 'joining'",
      },
    ],
    [
      'a move after which the old copy is gone at once',
      {
        replace: 'this.copies = this.copies.map((one) => (one === source ? next : one));',
        by: 'this.copies = this.copies.filter((one) => one !== source || next === undefined);',
      },
    ],
    ['nobody takes over', { replace: 'if (count > 0) this.#lacks.set', by: 'if (count > 99) this.#lacks.set' }],
  ])(
    '%s',
    async (_, edit) => {
      const planted = await mutant(edit);
      expect(MANY_SEEDS.some((seed) => live(seed, planted).found.length > 0)).toBe(true);
    },
    TIME_MS,
  );

  test('a placer that is not quiet after an outage moves shards', async () => {
    const hasty = await mutant(
      { replace: 'nowMs + 2 * options.leaseTtlMs', by: 'nowMs' },
      { replace: 'this.#options.leaseTtlMs / 3', by: '0' },
      { replace: "if (lately.length <= bearable(nodeCount)) return '';", by: "return '';" },
    );
    const moves = SEEDS.some((seed) => {
      const region = new SimRegion(seed, hasty, troublesOf(seed));
      region.run(30_000);
      const { placement } = region;
      region.outage(100_000);
      region.run(15_000);
      return region.placement !== placement;
    });
    expect(moves).toBe(true);
  });
});
