import { expect, test } from 'vitest';
import { chunkInfo } from '../../core/kernel/codec.ts';
import { encodeIdentity, makeLabels } from '../../core/labels.ts';
import { Budget } from '../../node/shard/budget.ts';
import { Shard } from '../../node/shard/shard.ts';
import type { ShardStats } from '../../node/shard/stats.ts';
import { Sim } from '../sim/sim.ts';
import { EVERYTHING, readPage } from './model.ts';

const HOUR = 3_600_000;
const WINDOW = 2 * HOUR;
const NO_BYTES = new Uint8Array(0);

/** What stays resident, by the shard's own account. */
const residentBytes = (stats: ShardStats) =>
  stats.kernelPeakBytes + stats.indexBytes + stats.blockIndexBytes + stats.residentBlockBytes;

test('100,000 live series, all replaced every hour, for 60 hours: memory flat after 26, none refused', async () => {
  const LIVE = 100_000;
  const PART = 20_000;
  const sim = new Sim(1);
  const env = sim.boot();
  const shard = await sim.settle(
    Shard.open(env, '/d', { shard: 0, budget: new Budget(8e9), limits: { maxSeriesCount: 28 * LIVE } }),
  );
  const sender = shard.attach();
  const bytes: number[] = [];
  const seriesCounts: number[] = [];
  for (let hour = 0; hour < 60; hour++) {
    for (let first = 0; first < LIVE; first += PART) {
      const definitions: Uint8Array[] = [];
      const refs = new Uint32Array(PART);
      const timestamps = new BigInt64Array(PART).fill(BigInt(env.clock.nowMs()));
      const values = new Float64Array(PART);
      for (let i = 0; i < PART; i++) {
        const ref = first + i;
        // encodeIdentity of { __name__: 'churn', job: 'j', pod }, six million times.
        const pod = `pod-${hour}-${ref}`;
        const text = `\x08__name__\x05churn\x03job\x01j\x03pod${String.fromCharCode(pod.length)}${pod}`;
        const entry = Buffer.allocUnsafe(8 + text.length);
        entry.writeUInt32LE(ref, 0);
        entry.writeUInt32LE(text.length, 4);
        entry.write(text, 8, 'latin1');
        definitions.push(entry);
        refs[i] = ref;
        values[i] = i;
      }
      const batch = {
        definitions: Buffer.concat(definitions),
        refs: new Uint8Array(refs.buffer),
        counts: NO_BYTES,
        timestamps: new Uint8Array(timestamps.buffer),
        values: new Uint8Array(values.buffer),
      };
      const outcome = await sim.settle(sender.append(batch, 'LOCAL'));
      expect(outcome).toMatchObject({ code: 'OK', rejections: [], unknownRefs: new Uint32Array(0) });
    }
    for (let quarter = 0; quarter < 4; quarter++) {
      await sim.advance(HOUR / 4);
      await sim.settle(shard.tick());
    }
    const stats = shard.stats();
    expect(stats.problems).toEqual([]);
    bytes.push(residentBytes(stats));
    seriesCounts.push(stats.seriesCount);
  }
  // 26 h, and what is in the windows that reach beyond them.
  expect(Math.max(...seriesCounts)).toBeLessThanOrEqual(30 * LIVE);
  const settled = Math.max(...bytes.slice(28, 34));
  expect(Math.max(...bytes.slice(34))).toBeLessThan(settled * 1.05);
  await sim.settle(shard.close());
}, 600_000);

test('after twice the budget was written, memory falls back under it and everything can be read', async () => {
  const LIMIT = 24 << 20;
  const sim = new Sim(1);
  let env = sim.boot();
  const budget = new Budget(LIMIT);
  const options = { shard: 0, budget, limits: { maxSeriesCount: 1000 } };
  let shard = await sim.settle(Shard.open(env, '/d', options));
  const sender = shard.attach();
  const SERIES = 100;
  const definitions = Buffer.concat(
    [...Array(SERIES).keys()].flatMap((ref) => {
      const identity = encodeIdentity(makeLabels({ __name__: 'm', n: `${ref}` }));
      const head = Buffer.alloc(8);
      head.writeUInt32LE(ref, 0);
      head.writeUInt32LE(identity.length, 4);
      return [head, identity];
    }),
  );
  // Full entropy, 8 bytes a sample at least: 12 windows of 4 MB.
  const PER_WINDOW = 5000;
  let state = 1;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state;
  };
  let written = 0;
  let peak = 0;
  for (let window = 0; window < 12; window++) {
    const startMs = env.clock.nowMs();
    for (let part = 0; part < 5; part++) {
      const count = (PER_WINDOW / 5) * SERIES;
      const refs = new Uint32Array(SERIES).map((_, i) => i);
      const counts = new Uint32Array(SERIES).fill(PER_WINDOW / 5);
      const timestamps = new BigInt64Array(count);
      const values = new Uint32Array(count * 2);
      for (let i = 0; i < count; i++) {
        timestamps[i] = BigInt(startMs - (PER_WINDOW - part * (PER_WINDOW / 5) - (i % (PER_WINDOW / 5))) * 1000);
        values[2 * i] = random();
        values[2 * i + 1] = random() & 0x3fffffff;
      }
      const batch = {
        definitions: part === 0 ? definitions : NO_BYTES,
        refs: new Uint8Array(refs.buffer),
        counts: new Uint8Array(counts.buffer),
        timestamps: new Uint8Array(timestamps.buffer),
        values: new Uint8Array(values.buffer),
      };
      expect(await sim.settle(sender.append(batch, 'LOCAL'))).toMatchObject({ code: 'OK', rejections: [] });
      written += count;
    }
    for (let i = 0; i < 8; i++) {
      await sim.advance(WINDOW / 8);
      await sim.settle(shard.tick());
    }
    peak = Math.max(peak, budget.usedBytes);
  }
  const fileBytes = shard.stats().blockFileBytes;
  expect(fileBytes).toBeGreaterThan(2 * LIMIT * 0.9);
  expect(budget.usedBytes).toBeLessThanOrEqual(LIMIT);
  expect(residentBytes(shard.stats())).toBeLessThanOrEqual(LIMIT);
  expect(shard.stats().residentBlockCount).toBeGreaterThan(0);
  // The newest stay.
  const count = async () => {
    let samples = 0;
    for await (const page of shard.select(EVERYTHING)) {
      for (const { chunks } of readPage(page)) for (const chunk of chunks) samples += chunkInfo(chunk).sampleCount;
    }
    return samples;
  };
  expect(await sim.settle(count())).toBe(written);
  await sim.settle(shard.close());
  expect(budget.usedBytes).toBe(0);
  env = sim.boot();
  shard = await sim.settle(Shard.open(env, '/d', options));
  expect(budget.usedBytes).toBeLessThanOrEqual(LIMIT);
  expect(await sim.settle(count())).toBe(written);
}, 120_000);
