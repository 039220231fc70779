/** A short, seeded part of `npm run chaos`: two regions of real processes, whose links and lives are broken while they are written to. */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { runRegions } from '../../chaos/regions.ts';
import { describe as inWords, SCENARIOS } from '../../chaos/scenarios.ts';
import { Seeded } from '../sim/random.ts';

const TOXIPROXY = process.env['SILVERBACK_TEST_TOXIPROXY'];

test.runIf(TOXIPROXY !== undefined)(
  'two regions keep their promises while copies move under a cut, and under faults of every kind',
  { timeout: 600_000 },
  async () => {
    const directory = await mkdtemp(join(tmpdir(), 'silverback-chaos-'));
    const scenarios = ['drain', 'mixed'];
    const { roundCount, acknowledgedCount, answerCount, completeCount, decisions } = await runRegions({
      ...{ seed: 1, scenarios, inOrder: true, rounds: scenarios.length, spanMs: 6_000 },
      ...{ untilMs: Number.POSITIVE_INFINITY, toxiproxy: TOXIPROXY!, directory, say: () => undefined },
    });
    expect(roundCount).toBe(scenarios.length);
    for (const count of [acknowledgedCount, answerCount, completeCount]) expect(count).toBeGreaterThan(0);
    expect(decisions['moves begun']).toBeGreaterThan(0);
    // Only after a good end: what broke a promise is kept.
    await rm(directory, { recursive: true });
  },
);

const mayUnshare = TOXIPROXY !== undefined && process.getuid?.() === 0 && process.platform === 'linux';
if (!mayUnshare)
  process.stdout.write('SKIPPED: test/chaos/regions: packets dropped between network namespaces (takes root)\n');

test.runIf(mayUnshare)(
  'they keep them while packets are lost between network namespaces',
  { timeout: 600_000 },
  async () => {
    const main = fileURLToPath(new URL('../../dist/chaos/main.js', import.meta.url));
    const flags = ['--namespaces', '--seed', '1', '--rounds', '1', '--span', '6'];
    const run = spawn(process.execPath, [main, ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [run.stdout, run.stderr]) {
      stream.on('data', (bytes: Buffer) => {
        output += bytes.toString();
      });
    }
    const code = await new Promise((resolve) => run.once('close', resolve));
    // A container may forbid it, root or not.
    if (/^ip .*not permitted/m.test(output)) {
      process.stdout.write(
        `SKIPPED: test/chaos/regions: packets dropped between network namespaces (${output.trim()})\n`,
      );
      return;
    }
    expect(output).toMatch(/packets from \w+ to \w+ are dropped/);
    expect({ code, output }).toMatchObject({ code: 0 });
  },
);

test('a seed plans the same strikes every time', () => {
  const ground = {
    shardCount: 4,
    nodes: ['east-1', 'east-2', 'west-1', 'west-2'],
    nodesOf: (region: string) => [`${region}-1`, `${region}-2`],
    hostsOf: (region: string) => [`${region}-1`, `${region}-2`, `${region}-3`],
    links: (from: readonly string[], to: readonly string[]) => from.flatMap((a) => to.map((b) => `${a}.${b}`)),
  };
  for (const [name, scenario] of Object.entries(SCENARIOS)) {
    const plans = new Set<string>();
    for (let seed = 0; seed < 20; seed++) {
      const strikes = scenario(new Seeded(seed), ground, 10_000);
      expect(scenario(new Seeded(seed), ground, 10_000)).toEqual(strikes);
      for (const { atMs, forMs, act } of strikes) {
        expect(atMs >= 0 && forMs > 0 && atMs + forMs < 15_000, `${name}, ${atMs}, ${forMs}`).toBe(true);
        if (act.kind === 'link') expect(act.links.length).toBeGreaterThan(0);
        if ('names' in act) expect(act.names.length).toBeGreaterThan(0);
      }
      plans.add(strikes.map(inWords).join('\n'));
    }
    expect(plans.size, name).toBeGreaterThan(10);
  }
});
