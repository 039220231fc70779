/** A short, seeded part of `npm run chaos`: two regions of real processes, whose links and lives are broken while they are written to. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runRegions } from '../../chaos/regions.ts';
import { describe as inWords, SCENARIOS } from '../../chaos/scenarios.ts';
import { Seeded } from '../sim/random.ts';

const TOXIPROXY = process.env['SILVERBACK_TEST_TOXIPROXY'];

test.runIf(TOXIPROXY !== undefined)(
  'two regions keep their promises under network and process faults',
  { timeout: 600_000 },
  async () => {
    const directory = await mkdtemp(join(tmpdir(), 'silverback-chaos-'));
    const scenarios = ['partition', 'one-way', 'mixed'];
    const { roundCount, acknowledgedCount, answerCount, completeCount } = await runRegions({
      ...{ seed: 1, scenarios, inOrder: true, rounds: scenarios.length, spanMs: 6_000 },
      ...{ untilMs: Number.POSITIVE_INFINITY, toxiproxy: TOXIPROXY!, directory, say: () => undefined },
    });
    expect(roundCount).toBe(scenarios.length);
    for (const count of [acknowledgedCount, answerCount, completeCount]) expect(count).toBeGreaterThan(0);
    // Only after a good end: what broke a promise is kept.
    await rm(directory, { recursive: true });
  },
);

test('a seed plans the same strikes every time', () => {
  const ground = {
    nodes: ['east-1', 'east-2', 'west-1', 'west-2'],
    nodesOf: (region: string) => [`${region}-1`, `${region}-2`],
    links: (from: readonly string[], to: readonly string[]) => from.flatMap((a) => to.map((b) => `${a}.${b}`)),
  };
  for (const [name, scenario] of Object.entries(SCENARIOS)) {
    const plans = new Set<string>();
    for (let seed = 0; seed < 20; seed++) {
      const strikes = scenario(new Seeded(seed), ground, 10_000);
      expect(scenario(new Seeded(seed), ground, 10_000)).toEqual(strikes);
      for (const { atMs, forMs, act } of strikes) {
        expect(atMs >= 0 && forMs > 0 && atMs + forMs < 15_000, `${name}, ${atMs}, ${forMs}`).toBe(true);
        expect((act.kind === 'link' ? act.links : act.names).length).toBeGreaterThan(0);
      }
      plans.add(strikes.map(inWords).join('\n'));
    }
    expect(plans.size, name).toBeGreaterThan(10);
  }
});
