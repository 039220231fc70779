import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Budget } from '../../node/shard/budget.ts';
import { Shard } from '../../node/shard/shard.ts';
import { Sim } from '../sim/sim.ts';
import { batchOf, bitsOf, contentsOf, Model, type Sample, STALE } from './model.ts';

const MINUTE = 60_000;
const OPTIONS = {
  shard: 3,
  maxSampleAgeMs: Number.POSITIVE_INFINITY,
  checkpointIntervalMs: 1,
  sealDelayMs: 0,
  sealIdleMs: 0,
  sliceMs: 0,
  limits: { maxSeriesCount: 256, maxKernelBytes: 1 << 24 },
};

const sample: fc.Arbitrary<Sample> = fc.record({
  series: fc.integer({ min: 0, max: 5 }).map((n) => `s${n}`),
  timestampMs: fc.integer({ min: 0, max: 300 }).map((n) => Date.UTC(2025, 11, 31, 18) + n * MINUTE),
  bits: fc.oneof(
    fc.double().map(bitsOf),
    fc.constantFrom(0x7ff8000000000001n, 0xfff8000000000001n, STALE, 0x7ff0000000000001n, 1n, 1n << 63n),
  ),
});

type Step = { readonly take: number } | 'tick' | 'kill' | 'crash' | 'close';

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ take: fc.integer({ min: 1, max: 40 }) }) },
  { weight: 3, arbitrary: fc.constant<Step>('tick') },
  { weight: 1, arbitrary: fc.constantFrom<Step>('kill', 'crash', 'close') },
);

/** Feeds a new shard, all samples acknowledged FSYNC, with `steps` in between; ends with every window sealed. */
async function fed(sim: Sim, samples: readonly Sample[], steps: readonly Step[]) {
  const refs = (series: string) => Number(series.slice(1));
  let env = sim.boot();
  let shard = await sim.settle(Shard.open(env, '/d', { ...OPTIONS, budget: new Budget(1 << 30) }));
  let sender = shard.attach();
  let at = 0;
  const feed = async (count: number) => {
    const part = samples.slice(at, at + count);
    at += part.length;
    if (part.length === 0) return;
    const outcome = await sim.settle(
      sender.append(batchOf(part, refs, new Set(part.map((one) => one.series))), 'FSYNC'),
    );
    expect(outcome).toMatchObject({ code: 'OK', rejections: [] });
  };
  for (const one of steps) {
    if (typeof one === 'object') await feed(one.take);
    else if (one === 'tick') await sim.settle(shard.tick());
    else {
      if (one === 'close') await sim.settle(shard.close());
      if (one === 'kill') sim.kill();
      else sim.crash();
      env = sim.boot();
      shard = await sim.settle(Shard.open(env, '/d', { ...OPTIONS, budget: new Budget(1 << 30) }));
      sender = shard.attach();
    }
  }
  await feed(samples.length);
  const digests = new Map<number, string>();
  for (const startMs of shard.windows()) {
    digests.set(startMs, Buffer.from(await sim.settle(shard.digest(startMs))).toString('hex'));
  }
  const open = await sim.settle(contentsOf(shard));
  while (shard.stats().openWindowCount > 0) {
    await sim.advance(MINUTE);
    await sim.settle(shard.tick());
  }
  const sealed = await sim.settle(contentsOf(shard));
  expect(sealed.lines()).toEqual(open.lines());
  for (const startMs of shard.windows()) {
    expect(Buffer.from(await sim.settle(shard.digest(startMs))).toString('hex')).toBe(digests.get(startMs));
  }
  const blocks = new Map<string | undefined, string>();
  for (const path of sim.disk.paths()) {
    const match = /^\/d\/blocks\/(\d+)-\d+\.block$/.exec(path);
    if (match !== null) blocks.set(match[1], Buffer.from(sim.disk.bytes(path)).toString('hex'));
  }
  expect(shard.stats().problems.filter((problem) => !problem.message.startsWith('an unfinished tail'))).toEqual([]);
  return { lines: sealed.lines(), digests, blocks };
}

test('the same samples in any order, with repeats, restarts, checkpoints and seals: same answers, digests, blocks', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(sample, { minLength: 1, maxLength: 120 }).chain((samples) =>
        fc.record({
          samples: fc.constant(samples),
          // Every sample once in another order, and some again.
          shuffled: fc.shuffledSubarray(samples, { minLength: samples.length }),
          again: fc.array(fc.constantFrom(...samples), { maxLength: 60 }),
        }),
      ),
      fc.array(step, { maxLength: 25 }),
      fc.array(step, { maxLength: 25 }),
      fc.integer(),
      async ({ samples, shuffled, again }, steps, others, seed) => {
        const first = await fed(new Sim(seed), samples, steps);
        const second = await fed(new Sim(seed + 1), [...again, ...shuffled, ...again], others);
        const model = new Model();
        model.addAll(samples);
        expect(first.lines).toEqual(model.lines());
        expect(second).toEqual(first);
      },
    ),
    { numRuns: 100 },
  );
}, 300_000);
