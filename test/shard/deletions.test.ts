import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type SeriesId, WINDOW_MS } from '../../core/kernel/shard.ts';
import { Budget } from '../../node/shard/budget.ts';
import { encodeDefinition } from '../../node/shard/definitions.ts';
import { type Deletion, Deletions, encodeDeletions, readDeletions } from '../../node/shard/deletions.ts';
import { RECORD_OVERHEAD_BYTES, RecordKind } from '../../node/shard/segment.ts';
import { Shard } from '../../node/shard/shard.ts';
import { Sim } from '../sim/sim.ts';
import { batchOf, bitsOf, contentsOf, EVERYTHING, readPage, type Sample, undeleted } from './model.ts';

const HOUR = 3_600_000;
const START_MS = Date.UTC(2026, 0, 1);

function id(number: number): SeriesId {
  return number as SeriesId;
}

const interval = fc
  .record({
    id: fc.integer({ min: 0, max: 2 }),
    fromMs: fc.integer({ min: 0, max: 60 }),
    length: fc.integer({ min: 0, max: 15 }),
  })
  .map((one): Deletion => ({ id: id(one.id), fromMs: one.fromMs, toMs: one.fromMs + one.length }));

test('the set holds exactly what was added, in one form whatever the order', () => {
  fc.assert(
    fc.property(fc.array(interval, { maxLength: 20 }), fc.integer({ min: 0, max: 80 }), (added, keepFromMs) => {
      const [set, reversed] = [new Deletions(), new Deletions()];
      for (const one of added) set.add(one);
      for (const one of [...added].reverse()) reversed.add(one);
      const sorted = (from: Deletions) => [...from].sort((a, b) => a.id - b.id || a.fromMs - b.fromMs);
      expect(sorted(set)).toEqual(sorted(reversed));
      expect(set.count).toBe([...set].length);
      const covered = (one: SeriesId, timeMs: number) =>
        added.some((deletion) => deletion.id === one && deletion.fromMs <= timeMs && timeMs <= deletion.toMs);
      const check = (from: Deletions, isKept: (timeMs: number) => boolean) => {
        for (let series = 0; series < 3; series++) {
          const offsets = from.within(id(series), 0) ?? [];
          for (let timeMs = 0; timeMs < 80; timeMs++) {
            const expected = covered(id(series), timeMs) && isKept(timeMs);
            expect(from.covers({ id: id(series), fromMs: timeMs, toMs: timeMs })).toBe(expected);
            let within = false;
            for (let i = 0; i < offsets.length; i += 2) {
              within ||= (offsets[i] as number) <= timeMs && timeMs <= (offsets[i + 1] as number);
            }
            expect(within).toBe(expected);
          }
        }
      };
      check(set, () => true);
      for (const one of added) expect(set.covers(one)).toBe(true);
      // What ends before goes as a whole; what reaches over the bound stays as a whole.
      const kept = [...set].filter(({ toMs }) => toMs >= keepFromMs);
      set.expire(keepFromMs);
      expect([...set]).toEqual(kept);
      expect(set.count).toBe(kept.length);
    }),
  );
});

test('within cuts to the window', () => {
  const set = new Deletions();
  set.add({ id: id(1), fromMs: WINDOW_MS - 5, toMs: 2 * WINDOW_MS + 7 });
  expect(set.within(id(1), 0)).toEqual(Uint32Array.of(WINDOW_MS - 5, WINDOW_MS - 1));
  expect(set.within(id(1), WINDOW_MS)).toEqual(Uint32Array.of(0, WINDOW_MS - 1));
  expect(set.within(id(1), 2 * WINDOW_MS)).toEqual(Uint32Array.of(0, 7));
  expect(set.within(id(1), 3 * WINDOW_MS)).toBeUndefined();
  expect(set.within(id(2), 0)).toBeUndefined();
});

const GOLDEN: readonly Deletion[] = [
  { id: id(0), fromMs: 0, toMs: 0 },
  { id: id(7), fromMs: START_MS, toMs: START_MS + HOUR },
  { id: id(16_777_215), fromMs: 1, toMs: Number.MAX_SAFE_INTEGER },
];

test('a list of deletions as the first version wrote it', () => {
  const bytes = readFileSync(new URL('../golden/deletions-1.bin', import.meta.url));
  const found: Deletion[] = [];
  readDeletions(bytes, (number, fromMs, toMs) => found.push({ id: id(number), fromMs, toMs }));
  expect(found).toEqual(GOLDEN);
  expect(Buffer.compare(encodeDeletions(GOLDEN), bytes)).toBe(0);
});

test('a list that is cut, too long, or of another format is refused before anything is taken', () => {
  const bytes = encodeDeletions(GOLDEN);
  const taken = () => expect.unreachable();
  for (let length = 0; length < bytes.length; length++) {
    expect(() => readDeletions(bytes.subarray(0, length), taken)).toThrow(/are no list/);
  }
  expect(() => readDeletions(Buffer.concat([bytes, bytes]), taken)).toThrow(/are no list/);
  expect(() => readDeletions(Buffer.from(bytes).fill(2, 0, 1), taken)).toThrow(
    /list of deletions of version 2, this program reads version 1/,
  );
  expect(() => readDeletions(encodeDeletions([{ id: id(1), fromMs: 5, toMs: 4 }]), taken)).toThrow(/from 5 to 4/);
});

const refs = (series: string) => Number(series.slice(1));

function minutely(series: string, fromMs: number, count: number): Sample[] {
  return Array.from({ length: count }, (_, i) => ({ series, timestampMs: fromMs + i * 60_000, bits: bitsOf(i) }));
}

async function opened(sim: Sim, limits = {}, more = {}) {
  const options = { shard: 1, budget: new Budget(1 << 30), sealDelayMs: 0, sealIdleMs: 0, limits, ...more };
  return sim.settle(Shard.open(sim.boot(), '/d', options));
}

async function append(sim: Sim, shard: Shard, samples: Sample[]) {
  const names = new Set(samples.map(({ series }) => series));
  const outcome = await sim.settle(shard.attach().append(batchOf(samples, refs, names), 'FSYNC'));
  expect(outcome).toMatchObject({ code: 'OK', rejections: [] });
}

test('only a part of the past can be deleted; the refusal names value and rule', async () => {
  const sim = new Sim(1);
  const shard = await opened(sim);
  const nowMs = START_MS + Math.floor(sim.nowMs);
  await expect(shard.delete([], 0, nowMs + HOUR)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringMatching(/^deletion up to 2026-01-01T01:00:00.*only what is past can be deleted/),
  });
  await expect(shard.delete([], 5, 4)).rejects.toThrow('deletion from 5 to 4');
  await expect(shard.delete([], -1, 4)).rejects.toThrow('deletion from -1 to 4');
  await expect(shard.delete([], 0.5, 4)).rejects.toThrow('deletion from 0.5 to 4');
});

test('a shard refuses more deletions than it may keep, and takes one again that it has', async () => {
  const sim = new Sim(2);
  const shard = await opened(sim, { maxDeletionCount: 2 });
  await append(sim, shard, [...minutely('s0', START_MS - HOUR, 2), ...minutely('s1', START_MS - HOUR, 2)]);
  expect(await sim.settle(shard.delete([], START_MS - HOUR, START_MS))).toBe(2);
  await expect(sim.settle(shard.delete([], START_MS - 3 * HOUR, START_MS - 2 * HOUR))).rejects.toMatchObject({
    code: 'RESOURCE_EXHAUSTED',
    message: 'shard 1 keeps 2 deletions, 2 more would exceed the 2 that are accepted',
  });
  expect(await sim.settle(shard.delete([], START_MS - HOUR, START_MS))).toBe(2);
  expect(shard.stats().deletionCount).toBe(2);
});

test('blocks that a deletion does not touch are handed out as they are', async () => {
  const sim = new Sim(3);
  const shard = await opened(sim);
  await append(sim, shard, [...minutely('s0', START_MS - 4 * HOUR, 60), ...minutely('s1', START_MS - 4 * HOUR, 60)]);
  await sim.settle(shard.tick());
  await sim.settle(shard.tick());
  const chunksOf = async (series: string) => {
    const pages = async () => {
      const chunks: string[] = [];
      const matchers = [{ name: 's', op: '=' as const, value: series }];
      for await (const page of shard.select({ ...EVERYTHING, matchers })) {
        for (const one of readPage(page)) chunks.push(...one.chunks.map((chunk) => Buffer.from(chunk).toString('hex')));
      }
      return chunks;
    };
    return sim.settle(pages());
  };
  const before = [await chunksOf('s0'), await chunksOf('s1')];
  expect(before[0]).toHaveLength(1);
  const versions = shard.windowVersions(EVERYTHING);
  await sim.settle(shard.delete([{ name: 's', op: '=', value: 's1' }], START_MS - 4 * HOUR, START_MS - 3.5 * HOUR));
  expect(shard.windowVersions(EVERYTHING)).not.toEqual(versions);
  // Beside the samples of s0, in the same window.
  await sim.settle(shard.delete([{ name: 's', op: '=', value: 's0' }], START_MS - 3 * HOUR, START_MS - 2.5 * HOUR));
  expect(await chunksOf('s0')).toEqual(before[0]);
  expect(await chunksOf('s1')).not.toEqual(before[1]);
  const sealed = () => shard.stats().sealedSampleCount;
  expect(sealed()).toBe(120);
  await sim.settle(shard.clean());
  expect(sealed()).toBe(120 - 31);
  expect((await sim.settle(contentsOf(shard))).lines()).toHaveLength(120 - 31);
});

/** A log record as `Replica.apply` takes it. */
function record(kind: RecordKind, payload: Uint8Array): Uint8Array {
  const header = Buffer.alloc(RECORD_OVERHEAD_BYTES);
  header[0] = kind;
  header.writeUInt32LE(payload.length, 2);
  return Buffer.concat([header, payload]);
}

test.each(['made here', 'from another copy'])(
  'no power cut leaves a block without what a deletion %s took, and no deletion',
  async (from) => {
    const [fromMs, toMs] = [START_MS - 4 * HOUR, START_MS - 3.5 * HOUR];
    const ofS0 = [{ name: 's', op: '=' as const, value: 's0' }];
    let goneCount = 0;
    for (let seed = 0; seed < 80; seed++) {
      const sim = new Sim(seed);
      const shard = await opened(sim, {}, { checkpointIntervalMs: 1, log: { segmentBytes: 4096 } });
      await append(sim, shard, minutely('s0', fromMs, 60));
      // Until the block is all that holds them: the log's segments go with the checkpoints.
      for (let i = 0; i < 8; i++) {
        for (let k = 0; k < 10; k++) await append(sim, shard, minutely('s1', START_MS + (i * 10 + k) * 1_000, 1));
        await sim.advance(10);
        await sim.settle(shard.tick());
      }
      expect(shard.stats().blockCount).toBe(1);
      expect(shard.stats().problems).toEqual([]);
      if (from === 'made here') shard.delete(ofS0, fromMs, toMs).catch(() => undefined);
      else {
        const { value: page } = await sim.settle(shard.select({ ...EVERYTHING, matchers: ofS0 }).next());
        const [{ identity } = { identity: new Uint8Array(0) }] = readPage(page as Uint8Array);
        const definition = record(RecordKind.DEFINITION, encodeDefinition(7, identity.slice()));
        const deletion = record(RecordKind.DELETION, encodeDeletions([{ id: id(7), fromMs, toMs }]));
        await sim.settle(shard.replica(1).apply(Buffer.concat([definition, deletion])));
      }
      shard.clean().catch(() => undefined);
      await sim.steps(1 + seed);
      sim.crash();
      const again = await opened(sim);
      const left = await sim.settle(contentsOf(again));
      const isDeleted = undeleted(left, [{ series: 's0', fromMs, toMs }]).length === 0;
      const kept = left.lines().filter((one) => one.startsWith('s0'));
      expect(kept, `seed ${seed}`).toHaveLength(isDeleted ? 29 : 60);
      if (isDeleted) goneCount++;
    }
    expect(goneCount).toBeGreaterThan(0);
    expect(goneCount).toBeLessThan(80);
  },
);

test('a window of which nothing is left has no block, and a later sample of it is found', async () => {
  const sim = new Sim(4);
  const shard = await opened(sim);
  await append(sim, shard, minutely('s0', START_MS - 4 * HOUR, 60));
  await sim.settle(shard.tick());
  expect(shard.stats().blockCount).toBe(1);
  await sim.settle(shard.delete([], START_MS - 4 * HOUR, START_MS - 3 * HOUR));
  await sim.settle(shard.clean());
  expect(shard.stats().blockCount).toBe(0);
  const late = minutely('s0', START_MS - 3 * HOUR + 60_000, 3);
  await append(sim, shard, late);
  await sim.settle(shard.tick());
  await sim.settle(shard.tick());
  expect(shard.stats().blockCount).toBe(1);
  sim.crash();
  const again = await opened(sim);
  expect((await sim.settle(contentsOf(again))).lines()).toHaveLength(3);
});

test('deletions and the series they keep go when retention has passed them', async () => {
  const sim = new Sim(5);
  const shard = await opened(sim);
  await append(sim, shard, minutely('s0', START_MS - 4 * HOUR, 60));
  await sim.settle(shard.delete([], START_MS - 4 * HOUR, START_MS));
  await sim.settle(shard.tick());
  expect(shard.stats()).toMatchObject({ deletionCount: 1, seriesCount: 1 });
  await sim.advance(7 * 24 * HOUR + 5 * HOUR);
  await sim.settle(shard.tick());
  expect(shard.stats()).toMatchObject({ deletionCount: 0, seriesCount: 0 });
});
