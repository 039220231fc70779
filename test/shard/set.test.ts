import fc from 'fast-check';
import { expect, test } from 'vitest';
import { WINDOW_MS } from '../../core/kernel/shard.ts';
import { Budget } from '../../node/shard/budget.ts';
import { Shard } from '../../node/shard/shard.ts';
import { Sim } from '../sim/sim.ts';
import { batchOf, bitsOf, contentsOf, type Deleted, identityOf, Model, type Sample, STALE } from './model.ts';

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
  timestampMs: fc.integer({ min: 0, max: 300 }).map((n) => FIRST_MS + n * MINUTE),
  bits: fc.oneof(
    fc.double().map(bitsOf),
    fc.constantFrom(0x7ff8000000000001n, 0xfff8000000000001n, STALE, 0x7ff0000000000001n, 1n, 1n << 63n),
  ),
});

const FIRST_MS = Date.UTC(2025, 11, 31, 18);

const deleted: fc.Arbitrary<Deleted> = fc
  .record({
    series: fc.integer({ min: 0, max: 5 }).map((n) => `s${n}`),
    from: fc.integer({ min: -10, max: 300 }),
    // Single milliseconds, a few samples, whole windows.
    length: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 20 }), fc.integer({ min: 120, max: 310 })),
  })
  .map(({ series, from, length }) => ({
    series,
    fromMs: FIRST_MS + from * MINUTE,
    toMs: FIRST_MS + Math.min(300, from + length) * MINUTE,
  }));

type Item = Sample | Deleted;
const isSample = (item: Item): item is Sample => 'bits' in item;

type Step = { readonly take: number } | 'tick' | 'kill' | 'crash' | 'close';

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ take: fc.integer({ min: 1, max: 40 }) }) },
  { weight: 3, arbitrary: fc.constant<Step>('tick') },
  { weight: 1, arbitrary: fc.constantFrom<Step>('kill', 'crash', 'close') },
);

/** Feeds a new shard samples and deletions, all samples acknowledged FSYNC, with `steps` in between; ends with every window sealed. */
async function fed(sim: Sim, items: readonly Item[], steps: readonly Step[]) {
  const refs = (series: string) => Number(series.slice(1));
  const names = [...new Set(items.map((item) => item.series))];
  let env = sim.boot();
  let shard = await sim.settle(Shard.open(env, '/d', { ...OPTIONS, budget: new Budget(1 << 30) }));
  // A shard deletes of the series that it knows: they are there from the beginning.
  const attach = () => {
    const sender = shard.attach();
    for (const name of names) sender.define(refs(name), identityOf(name));
    return sender;
  };
  let sender = attach();
  let at = 0;
  const take = async (part: readonly Sample[]) => {
    if (part.length === 0) return;
    const outcome = await sim.settle(
      sender.append(batchOf(part, refs, new Set(part.map((one) => one.series))), 'FSYNC'),
    );
    expect(outcome).toMatchObject({ code: 'OK', rejections: [] });
  };
  const feed = async (count: number) => {
    let samples: Sample[] = [];
    for (const item of items.slice(at, at + count)) {
      if (isSample(item)) {
        samples.push(item);
        continue;
      }
      await take(samples);
      samples = [];
      // A tick may have released a series without samples.
      sender.define(refs(item.series), identityOf(item.series));
      const matchers = [{ name: 's', op: '=' as const, value: item.series }];
      expect(await sim.settle(shard.delete(matchers, item.fromMs, item.toMs))).toBe(1);
    }
    await take(samples);
    at += count;
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
      sender = attach();
    }
  }
  await feed(items.length);
  const digests = new Map<number, string>();
  for (let startMs = FIRST_MS - 2 * WINDOW_MS; startMs < FIRST_MS + 4 * WINDOW_MS; startMs += WINDOW_MS) {
    digests.set(startMs, Buffer.from(await sim.settle(shard.digest(startMs))).toString('hex'));
  }
  const open = await sim.settle(contentsOf(shard));
  while (shard.stats().openWindowCount > 0) {
    await sim.advance(MINUTE);
    await sim.settle(shard.tick());
  }
  await sim.settle(shard.clean());
  const sealed = await sim.settle(contentsOf(shard));
  expect(sealed.lines()).toEqual(open.lines());
  for (const [startMs, digest] of digests) {
    expect(Buffer.from(await sim.settle(shard.digest(startMs))).toString('hex')).toBe(digest);
  }
  // Labels are told of the series that have living samples in the windows asked for, and of no others.
  for (const startMs of digests.keys()) {
    const range = { fromMs: startMs, toMs: startMs + WINDOW_MS - 1 };
    const expected = new Set(
      [...sealed]
        .filter(({ timestampMs }) => timestampMs >= range.fromMs && timestampMs <= range.toMs)
        .map(({ series }) => series),
    );
    const found = new Set<string>();
    await sim.settle(shard.labelValues('s', range, [], found));
    expect([...found].sort()).toEqual([...expected].sort());
  }
  const blocks = new Map<string | undefined, string>();
  for (const path of sim.disk.paths()) {
    const match = /^\/d\/blocks\/(\d+)-\d+\.block$/.exec(path);
    if (match !== null) blocks.set(match[1], Buffer.from(sim.disk.bytes(path)).toString('hex'));
  }
  expect(shard.stats().problems.filter((problem) => !problem.message.startsWith('an unfinished tail'))).toEqual([]);
  return { lines: sealed.lines(), digests, blocks };
}

test('the same samples and deletions in any order, with repeats, restarts, checkpoints and seals: same answers, digests, blocks', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc
        .tuple(fc.array(sample, { minLength: 1, maxLength: 120 }), fc.array(deleted, { maxLength: 8 }))
        .map(([samples, deletions]): Item[] => [...samples, ...deletions])
        .chain((items) =>
          fc.record({
            items: fc.constant(items),
            // Everything once in another order, and some again.
            shuffled: fc.shuffledSubarray(items, { minLength: items.length }),
            again: fc.array(fc.constantFrom(...items), { maxLength: 60 }),
          }),
        ),
      fc.array(step, { maxLength: 25 }),
      fc.array(step, { maxLength: 25 }),
      fc.integer(),
      async ({ items, shuffled, again }, steps, others, seed) => {
        const first = await fed(new Sim(seed), items, steps);
        const second = await fed(new Sim(seed + 1), [...again, ...shuffled, ...again], others);
        const model = new Model();
        for (const item of items) {
          if (isSample(item)) model.add(item);
          else model.delete(item);
        }
        expect(first.lines).toEqual(model.lines());
        expect(second).toEqual(first);
      },
    ),
    { numRuns: 100 },
  );
}, 300_000);
