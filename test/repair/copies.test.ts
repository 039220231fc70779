/** Repair between real shards on a simulated machine. */
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { WINDOW_MS } from '../../core/kernel/shard.ts';
import type { Shard } from '../../node/shard/shard.ts';
import { bitsOf, contentsOf, type Deleted, Model, type Sample, STALE, undeleted } from '../shard/model.ts';
import { plant } from '../sim/mutant.ts';
import { Sim } from '../sim/sim.ts';
import { Copies, SHARD } from './copies.ts';

const MINUTE = 60_000;
const FIRST_MS = Date.UTC(2025, 11, 31, 12);
const TIMEOUT = { timeout: 300_000 };

const sample: fc.Arbitrary<Sample> = fc.record({
  series: fc.integer({ min: 0, max: 9 }).map((n) => `s${n}`),
  timestampMs: fc.integer({ min: 0, max: 300 }).map((n) => FIRST_MS + n * MINUTE),
  bits: fc.oneof(
    fc.double().map(bitsOf),
    fc.constantFrom(0x7ff8000000000001n, 0xfff8000000000001n, STALE, 0x7ff0000000000001n, 1n, 1n << 63n),
  ),
});

const deleted: fc.Arbitrary<Deleted> = fc
  .record({
    series: fc.integer({ min: 0, max: 9 }).map((n) => `s${n}`),
    from: fc.integer({ min: -10, max: 300 }),
    length: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 20 }), fc.integer({ min: 120, max: 310 })),
  })
  .map(({ series, from, length }) => ({
    series,
    fromMs: FIRST_MS + from * MINUTE,
    toMs: FIRST_MS + (from + length) * MINUTE,
  }));

type Step =
  | { readonly copy: number; readonly take: readonly Sample[] }
  | { readonly copy: number; readonly erase: Deleted }
  | { readonly copy: number; readonly what: 'tick' | 'seal' | 'run' }
  | 'crash';

const copy = fc.nat(2);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ copy, take: fc.array(sample, { maxLength: 40 }) }) },
  { weight: 2, arbitrary: fc.record({ copy, erase: deleted }) },
  { weight: 4, arbitrary: fc.record({ copy, what: fc.constantFrom('tick', 'seal', 'run') }) },
  { weight: 1, arbitrary: fc.constant<Step>('crash') },
);

/** Of the windows that living samples of `union` lie in: what is deleted where no copy has samples is not exchanged. */
async function digestsOf(sim: Sim, shard: Shard, union?: Model): Promise<Map<number, string>> {
  const startOf = ({ timestampMs }: Sample) => timestampMs - (timestampMs % WINDOW_MS);
  const starts = union === undefined ? shard.windows() : [...new Set([...union].map(startOf))].sort();
  const digests = new Map<number, string>();
  for (const startMs of starts) {
    digests.set(startMs, Buffer.from(await sim.settle(shard.digest(startMs))).toString('base64'));
  }
  return digests;
}

test('copies with any samples, deletions, seals and crashes come to the union, and keep it', TIMEOUT, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.nat(),
      fc.integer({ min: 2, max: 3 }),
      fc.array(step, { minLength: 1, maxLength: 25 }),
      async (seed, count, steps) => {
        const sim = new Sim(seed);
        const copies = await Copies.open(sim, count, {}, undefined);
        const union = new Model();
        for (const one of steps) {
          if (one === 'crash') {
            sim.crash();
            await copies.boot();
            continue;
          }
          const at = one.copy % count;
          if ('take' in one) {
            await copies.append(at, one.take);
            union.addAll(one.take);
          } else if ('erase' in one) {
            await copies.delete(at, one.erase.series, one.erase.fromMs, one.erase.toMs);
            union.delete(one.erase);
          } else if (one.what === 'run') await copies.run(at);
          else if (one.what === 'seal') await copies.seal(at);
          else await copies.tick(at);
        }
        const round = async () => {
          for (let i = 0; i < count; i++) await copies.run(i);
        };
        await round();
        await round();
        const check = async () => {
          const digests = await digestsOf(sim, copies.shard(0), union);
          for (let i = 0; i < count; i++) {
            const held = await sim.settle(contentsOf(copies.shard(i)));
            expect(held.lines()).toEqual(union.lines());
            expect(await digestsOf(sim, copies.shard(i), union)).toEqual(digests);
            expect(
              copies
                .shard(i)
                .stats()
                .problems.filter(({ message }) => !/unfinished tail/.test(message)),
            ).toEqual([]);
          }
        };
        await check();
        const fetched = () => Array.from({ length: count }, (_, i) => copies.repair(i).status()[0]?.samples);
        const before = fetched();
        await round();
        expect(fetched()).toEqual(before);
        // What was brought survives a power cut.
        sim.crash();
        await copies.boot();
        await check();
        for (let i = 0; i < count; i++) await copies.seal(i);
        await check();
      },
    ),
    { numRuns: 80 },
  );
});

/** `count` series with a sample every 15 s for one window; every few values unlike the one before. */
function windowOf(count: number, startMs: number): Sample[] {
  const samples: Sample[] = [];
  for (let series = 0; series < count; series++) {
    for (let i = 0; i < WINDOW_MS / 15_000; i++) {
      const value = ((series * 7919 + i * 104_729) % 1000) / 10;
      samples.push({ series: `s${series}`, timestampMs: startMs + i * 15_000, bits: bitsOf(value) });
    }
  }
  return samples;
}

describe('repair', () => {
  it('heals one lost sample among many with less than a hundredth of the window', TIMEOUT, async () => {
    const sim = new Sim(1);
    const copies = await Copies.open(sim, 2, { sliceMs: 1 });
    const samples = windowOf(1000, FIRST_MS);
    const lost = samples[123_456] as Sample;
    for (let at = 0; at < samples.length; at += 120_000) {
      const part = samples.slice(at, at + 120_000);
      await copies.append(0, part);
      await copies.append(
        1,
        part.filter((one) => one !== lost),
      );
    }
    for (const at of [0, 1]) await copies.seal(at);
    const windowBytes = copies.shard(0).blockBytes().get(FIRST_MS) as number;
    await copies.run(1);
    const [status] = copies.repair(1).status();
    expect(status).toMatchObject({ compared: 1, differing: 1, healed: 1, samples: 1 });
    expect(status?.bytes).toBeGreaterThan(0);
    expect(status?.bytes).toBeLessThan(windowBytes / 100);
    expect(await digestsOf(sim, copies.shard(1))).toEqual(await digestsOf(sim, copies.shard(0)));
  });

  it('takes a window that is not here as the block it is', async () => {
    const sim = new Sim(2);
    const copies = await Copies.open(sim, 2);
    const samples = [0, 1, 2].flatMap((window) => windowOf(8, FIRST_MS + window * WINDOW_MS));
    await copies.append(0, samples);
    await copies.seal(0);
    await copies.delete(0, 's3', FIRST_MS, FIRST_MS + 90 * MINUTE);
    const filled = copies.repair(1).fill(SHARD, new AbortController().signal);
    await sim.settle(filled);
    expect(copies.shard(1).stats()).toMatchObject({ blockCount: 3, openSampleCount: 0 });
    const bytesOf = (at: number) =>
      [...sim.disk.paths()].filter((path) => path.startsWith(`/${at}/blocks/`)).map((path) => sim.disk.bytes(path));
    expect(bytesOf(1).map((bytes) => Buffer.from(bytes).toString('hex'))).toEqual(
      bytesOf(0).map((bytes) => Buffer.from(bytes).toString('hex')),
    );
    const [own, theirs] = [
      await sim.settle(contentsOf(copies.shard(1))),
      await sim.settle(contentsOf(copies.shard(0))),
    ];
    expect(own.lines()).toEqual(theirs.lines());
    expect(undeleted(own, theirs.deletions)).toEqual([]);
  });

  it('is whole again after a power cut or a kill at any moment of taking a block', TIMEOUT, async () => {
    for (let seed = 0; seed < 60; seed++) {
      const sim = new Sim(seed);
      const copies = await Copies.open(sim, 2);
      const samples = [0, 1].flatMap((window) => windowOf(4, FIRST_MS + window * WINDOW_MS));
      await copies.append(0, samples);
      await copies.seal(0);
      copies
        .repair(1)
        .fill(SHARD, new AbortController().signal)
        .catch(() => undefined);
      await sim.steps(seed * 2);
      if (seed % 2 === 0) sim.crash();
      else sim.kill();
      await copies.boot();
      await sim.settle(copies.repair(1).fill(SHARD, new AbortController().signal));
      const held = await sim.settle(contentsOf(copies.shard(1)));
      expect(held.lines()).toEqual((await sim.settle(contentsOf(copies.shard(0)))).lines());
      expect(copies.shard(1).stats().problems).toEqual([]);
      expect([...sim.disk.paths()].filter((path) => path.includes('.part'))).toEqual([]);
    }
  });

  it('refuses a block whose bytes or samples are not what they should be', async () => {
    const sim = new Sim(4);
    const copies = await Copies.open(sim, 2);
    await copies.append(0, windowOf(4, FIRST_MS));
    await copies.seal(0);
    const path = [...sim.disk.paths()].find((one) => one.startsWith('/0/blocks/')) as string;
    const sound = Buffer.from(sim.disk.bytes(path));
    for (const [at, byte] of [
      [60, 1],
      [sound.length - 200, 1],
      [20, 7],
    ] as const) {
      const damaged = Buffer.from(sound);
      damaged[at] = (damaged[at] as number) ^ byte;
      const taken = async () => {
        const incoming = await copies.shard(1).receiveBlock(FIRST_MS);
        await incoming.write(damaged);
        await copies.shard(1).adopt(incoming);
      };
      await expect(sim.settle(taken())).rejects.toMatchObject({ code: 'CORRUPT' });
    }
    expect([...sim.disk.paths()].filter((one) => one.startsWith('/1/blocks/'))).toEqual([]);
    await copies.run(1);
    expect(copies.shard(1).stats().sealedSampleCount).toBe(4 * 480);
  });

  it('brings back the window of a damaged block, and closes its gap for good', async () => {
    const sim = new Sim(5);
    const copies = await Copies.open(sim, 2);
    await copies.append(0, windowOf(4, FIRST_MS));
    await copies.seal(0);
    await copies.run(1);
    const path = [...sim.disk.paths()].find((one) => one.startsWith('/1/blocks/')) as string;
    sim.disk.flip(path, 100);
    await copies.boot();
    const range = { fromMs: FIRST_MS, toMs: FIRST_MS + WINDOW_MS - 1 };
    expect(copies.shard(1).gaps(range)).toMatchObject([{ state: 'missing' }]);
    await copies.run(1);
    expect(copies.shard(1).gaps(range)).toEqual([]);
    expect(copies.shard(1).stats().sealedSampleCount).toBe(4 * 480);
    await copies.boot();
    expect(copies.shard(1).gaps(range)).toEqual([]);
  });

  it('does not close a gap by a copy that has one there, too', async () => {
    const sim = new Sim(6);
    const copies = await Copies.open(sim, 2);
    for (const at of [0, 1]) {
      await copies.append(at, windowOf(2, FIRST_MS));
      await copies.seal(at);
      sim.disk.flip([...sim.disk.paths()].find((one) => one.startsWith(`/${at}/blocks/`)) as string, 100);
    }
    await copies.boot();
    await copies.run(1);
    expect(copies.shard(1).gaps({ fromMs: FIRST_MS, toMs: FIRST_MS })).toHaveLength(1);
  });
});

/** A delete in one copy while the other cannot be reached, then repair both ways. What is shown afterwards, of what should be. */
async function deletedApart(open?: typeof Shard.open): Promise<{ shown: string[][]; expected: string[] }> {
  const sim = new Sim(7);
  const copies = await Copies.open(sim, 2, {}, open);
  const samples = windowOf(6, FIRST_MS);
  await copies.append(0, samples);
  await copies.append(
    1,
    samples.filter((_, i) => i % 3 === 0),
  );
  await copies.seal(0);
  const union = new Model();
  union.addAll(samples);
  union.delete({ series: 's2', fromMs: FIRST_MS + 10 * MINUTE, toMs: FIRST_MS + 50 * MINUTE });
  await copies.delete(1, 's2', FIRST_MS + 10 * MINUTE, FIRST_MS + 50 * MINUTE);
  for (const at of [0, 1, 0, 1]) await copies.run(at);
  const shown: string[][] = [];
  for (const at of [0, 1]) shown.push((await sim.settle(contentsOf(copies.shard(at)))).lines());
  return { shown, expected: union.lines() };
}

describe('what was deleted in a copy that was cut off', () => {
  it('stays deleted', async () => {
    const { shown, expected } = await deletedApart();
    expect(shown).toEqual([expected, expected]);
  });

  it('would be seen to come back', async () => {
    const FILES = ['shard', 'window', 'graft', 'replica'].map((name) => `node/shard/${name}.ts`);
    const edits = [{ file: 'window.ts', replace: 'if (dead !== undefined) {', by: 'if (dead === null) {' }];
    const { Shard: Broken } = await plant<{ Shard: typeof Shard }>(FILES, edits);
    const { shown, expected } = await deletedApart(Broken.open.bind(Broken));
    expect(shown).not.toEqual([expected, expected]);
  });
});
