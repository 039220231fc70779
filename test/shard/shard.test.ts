import { expect, test } from 'vitest';
import { Budget } from '../../node/shard/budget.ts';
import { Shard } from '../../node/shard/shard.ts';
import { Sim } from '../sim/sim.ts';
import { batchOf, bitsOf, contentsOf, Model, type Sample } from './model.ts';

const HOUR = 3_600_000;

test('what was appended comes back, through sealing and restarts', async () => {
  const sim = new Sim(1);
  let env = sim.boot();
  const options = { shard: 7, budget: new Budget(1 << 30) };
  let shard = await sim.settle(Shard.open(env, '/d', options));
  const now = env.clock.nowMs();
  const samples: Sample[] = [];
  for (let i = 0; i < 400; i++) {
    samples.push({ series: `s${i % 5}`, timestampMs: now - 3 * HOUR + i * 20_000, bits: bitsOf(i / 3) });
  }
  const refs = (series: string) => Number(series.slice(1));
  const sender = shard.attach();
  const outcome = await sim.settle(sender.append(batchOf(samples, refs, ['s0', 's1', 's2', 's3', 's4']), 'FSYNC'));
  expect(outcome).toEqual({
    code: 'OK',
    message: '',
    retryAfterMs: 0,
    unknownRefs: new Uint32Array(0),
    rejections: [],
  });
  const model = new Model();
  model.addAll(samples);
  expect((await sim.settle(contentsOf(shard))).lines()).toEqual(model.lines());
  await sim.settle(shard.tick());
  await sim.advance(3 * 60_000);
  await sim.settle(shard.tick());
  await sim.settle(shard.tick());
  expect(shard.stats()).toMatchObject({ blockCount: 1, problems: [] });
  expect((await sim.settle(contentsOf(shard))).lines()).toEqual(model.lines());
  sim.crash();
  env = sim.boot();
  shard = await sim.settle(Shard.open(env, '/d', options));
  expect((await sim.settle(contentsOf(shard))).lines()).toEqual(model.lines());
});
