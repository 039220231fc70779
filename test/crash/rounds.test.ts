/** kill -9 of any processes at random moments under load, restart: every acknowledged sample is there, and nothing else. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { chaos, planRound } from '../../chaos/rounds.ts';
import { Seeded } from '../sim/random.ts';

const NAMES = ['coordinator', 'node-1', 'node-2'];

test.each([1, 2, 3])('seed %i', async (seed) => {
  const directory = await mkdtemp(join(tmpdir(), 'silverback-crash-'));
  const { killCount, acknowledgedCount } = await chaos({ seed, rounds: 2, directory, say: () => undefined });
  expect(killCount).toBeGreaterThan(2);
  expect(acknowledgedCount).toBeGreaterThan(0);
  // Only after a good end: what broke a promise is kept.
  await rm(directory, { recursive: true });
});

test('a seed plans the same rounds every time; they kill one, several and all, and end with all started', () => {
  const sizes = new Set<number>();
  for (let seed = 0; seed < 50; seed++) {
    const steps = planRound(new Seeded(seed), NAMES);
    expect(planRound(new Seeded(seed), NAMES)).toEqual(steps);
    const down = new Set<string>();
    for (const { action, names } of steps) {
      if (action === 'kill') sizes.add(names.length);
      for (const name of names) action === 'start' ? down.delete(name) : down.add(name);
    }
    expect([...down]).toEqual([]);
  }
  expect([...sizes].sort()).toEqual([1, 2, 3]);
});
