/**
 * What a copy that was filled knows of a dead node: what the copy knew that it was filled from, and never more than is true.
 */
import { describe, expect, it, test } from 'vitest';
import { jointly } from '../../node/repair/plan.ts';
import { bitsOf, contentsOf, Model, type Sample } from '../shard/model.ts';
import { type Edit, plant } from '../sim/mutant.ts';
import { Sim } from '../sim/sim.ts';
import { Copies, SHARD } from './copies.ts';
import { engine } from './engine.ts';

const MINUTE = 60_000;
const FIRST_MS = Date.UTC(2025, 11, 31, 12);
const SEEDS = 40;
const TIMEOUT = { timeout: 300_000 };
const ORIGIN = 'r/n2';
const SOURCE = 0;
const FILLED = 1;
const ALL = { fromMs: 0, toMs: Number.MAX_SAFE_INTEGER };

/**
 * Node 2 acknowledges and ships to copy 0, in order, while copy 1 is filled from copy 0, and dies. Throws where copy 1 lacks what
 * was acknowledged before the frontier that it believes in.
 */
async function history(seed: number, parts: typeof engine): Promise<void> {
  const sim = new Sim(seed);
  const { random } = sim;
  const copies = await Copies.open(sim, 3, {}, undefined, parts);
  for (const copy of [SOURCE, FILLED]) copies.frontiers(copy).expect(SHARD, [ORIGIN]);
  const acknowledged: { readonly sample: Sample; readonly atMs: number }[] = [];
  let shippedCount = 0;

  const acknowledge = (): void => {
    const sample = {
      series: `s${random.int(0, 8)}`,
      timestampMs: FIRST_MS + random.int(0, 600) * MINUTE,
      bits: bitsOf(acknowledged.length),
    };
    acknowledged.push({ sample, atMs: sim.nowMs });
  };
  const ship = async (): Promise<void> => {
    const endCount = random.int(shippedCount, acknowledged.length + 1);
    const samples = acknowledged.slice(shippedCount, endCount).map(({ sample }) => sample);
    shippedCount = endCount;
    await copies.append(SOURCE, samples);
    const frontierMs = acknowledged[endCount]?.atMs ?? sim.nowMs;
    copies.frontiers(SOURCE).take(SHARD, ORIGIN, frontierMs, 0, Date.UTC(2026, 0, 1) + frontierMs);
  };
  const check = async (): Promise<void> => {
    const ageMs = copies.frontiers(FILLED).ages(SHARD)[0]?.ageMs;
    if (ageMs === undefined) return;
    const frontierMs = sim.nowMs - ageMs;
    const required = new Model();
    for (const { sample, atMs } of acknowledged) if (atMs < frontierMs) required.addAll([sample]);
    const held = await sim.settle(contentsOf(copies.shard(FILLED)));
    const missing = held.missing(required);
    if (missing.length > 0)
      throw new Error(`seed ${seed}: lacks what was acknowledged before its frontier: ${missing[0]}`);
  };

  for (let count = random.int(1, 60); count > 0; count--) {
    acknowledge();
    await sim.advance(random.pick([0, 1, 100]));
    if (random.chance(0.2)) await ship();
  }
  const known = copies.frontiers(SOURCE).ages(SHARD)[0]?.ageMs;
  let filling = true;
  const filled = copies
    .repair(FILLED)
    .fill(SHARD, new AbortController().signal)
    .then(() => {
      filling = false;
    });
  while (filling) {
    if (random.chance(0.3)) acknowledge();
    if (random.chance(0.3)) await ship();
    if (random.chance(0.2)) await check();
    await sim.steps(random.int(1, 6));
  }
  await filled;
  await check();
  // Dead by now, for a long time.
  await sim.advance(10 * MINUTE);
  await check();
  const gaps = copies.frontiers(FILLED).unconfirmed(SHARD, ALL);
  expect(gaps).toMatchObject([{ state: 'unconfirmed' }]);
  // Not the whole past, if the source knew better.
  if (known !== undefined) expect(gaps[0]?.fromMs).toBeGreaterThan(0);
}

test(`${SEEDS} histories: a frontier that was relayed holds`, TIMEOUT, async () => {
  for (let seed = 0; seed < SEEDS; seed++) await history(seed, engine);
});

const FILES = [
  'test/repair/engine.ts',
  ...['repair', 'heal', 'serve', 'plan', 'peer'].map((name) => `node/repair/${name}.ts`),
];
const BUGS: Record<string, Edit> = {
  'it counts from when it came': {
    file: 'heal.ts',
    replace: 'atMs: askedMs - ageMs',
    by: 'atMs: env.clock.monotonicMs()',
  },
  'it counts though nothing was taken yet': {
    file: 'repair.ts',
    replace: 'const healing = await this.#healFrom(',
    by: `
      const { env, node, frontiers } = this.#options;
      const peer = this.#peer(copy);
      await peer.compare({ shard: id, recoveredRecords: 0, fromMs: 0, windows: [], buckets: false }, signal, (reply) => {
        for (const known of reply.frontiers) frontiers.relay(id, known, env.clock.monotonicMs() - known.ageMs);
      });
      const healing = await this.#healFrom(
    `,
  },
};

describe('noticed:', () => {
  for (const [name, edit] of Object.entries(BUGS)) {
    test(name, TIMEOUT, async () => {
      const { engine: mutant } = await plant<{ engine: typeof engine }>(FILES, [edit]);
      const all = async () => {
        for (let seed = 0; seed < SEEDS; seed++) await history(seed, mutant);
      };
      await expect(all()).rejects.toThrow(/before its frontier/);
    });
  }
});

describe('what copies vouch for together', () => {
  const vouched = (origin: string, atMs: number, lostRecords = 0) => ({ origin, atMs, lostRecords, wallMs: atMs });

  it('is the least of what each does, of origins that all know', () => {
    expect(jointly([[vouched('r/a', 5, 1), vouched('r/b', 7)], [vouched('r/a', 3)]])).toEqual([vouched('r/a', 3, 1)]);
    expect(jointly([[vouched('r/a', 3)], [vouched('r/a', 5, 2)]])).toEqual([vouched('r/a', 3, 2)]);
    expect(jointly([[vouched('r/a', 5)]])).toEqual([vouched('r/a', 5)]);
    expect(jointly([])).toEqual([]);
  });
});
