/** What a region that was cut off takes of the others' time, in simulated time. */
import { expect, test } from 'vitest';
import type { Copy, Placement } from '../../core/placement.ts';
import { shardsService } from '../../core/protocol.ts';
import { SPOKEN } from '../../core/versions.ts';
import { Refused } from '../../node/hello.ts';
import type { Replication } from '../../node/replication/replication.ts';
import { Budget } from '../../node/shard/budget.ts';
import type { Shard } from '../../node/shard/shard.ts';
import { batchOf, bitsOf, type Sample } from '../shard/model.ts';
import { plant } from '../sim/mutant.ts';
import { Network } from '../sim/network.ts';
import { Sim } from '../sim/sim.ts';
import { engine } from './engine.ts';

type Engine = typeof engine;

/** Cut off: this shard's log grows. The other one is at its end. */
const OLD = 0;
const LIVE = 1;
const BACKLOG = 400;
const REFS = 50;

/**
 * Two regions, two shards. West is cut off while a shard's log grows, and comes back, while the other shard is written to all
 * the time. Returns how long single writes of the latter took to west, and how long catching up did, both in milliseconds.
 */
async function history(
  parts: Engine,
  catchUpBytesPerSecond: number,
): Promise<{ liveMs: number[]; caughtUpMs: number; throttledMs: number }> {
  const sim = new Sim(7);
  const network = new Network(sim);
  network.delayMs = 2;
  const names = ['east', 'west'];
  const copies = names.map(
    (name): Copy => ({ region: name, zone: 'a', node: 'n', address: name, state: 'active', epoch: 1 }),
  );
  const placement: Placement = { clusterId: 'c', shardCount: 2, revision: 1, copies: [copies, copies] };
  const opened = new Map<string, { shards: Shard[]; replication: Replication }>();
  for (const name of names) {
    const machine = sim.machine();
    const env = machine.boot();
    network.up(name, machine);
    const say = () => undefined;
    const opening = parts.Replication.open({
      ...{ env, name: 'n', region: name, zone: 'a', clusterId: 'c', directory: '/d' },
      ...{ log: { info: say, warn: say }, frontierBoundMs: 30_000, catchUpBytesPerSecond, behindBytes: 4_000 },
      connect: (address) => network.channel(name, address),
    });
    const replication = await sim.settle(opening);
    const shards: Shard[] = [];
    for (const shard of [OLD, LIVE]) {
      const budget = new Budget(1 << 30);
      const limits = { maxKernelBytes: 1 << 24, maxSeriesCount: 256 };
      const options = { shard, budget, limits, maxSampleAgeMs: Number.POSITIVE_INFINITY, log: { segmentBytes: 4_000 } };
      shards.push(await sim.settle(parts.Shard.open(env, `/d/${shard}`, options)));
    }
    const node = {
      name: 'n',
      clusterId: 'c',
      spoken: SPOKEN,
      refused: new Refused(() => 0),
      find: (id: number) => shards[id] as Shard,
    };
    const { origins, frontiers, pace } = replication;
    const context = { env, node, origins, frontiers, pace };
    network.serve(name, shardsService.Replicate, (call) => parts.serveReplication(call, context));
    replication.follow(placement);
    for (const [id, shard] of shards.entries()) replication.opened(id, shard);
    opened.set(name, { shards, replication });
  }
  const east = opened.get('east') as { shards: Shard[]; replication: Replication };
  let tick = 0;
  const write = (id: number, count: number, ack: 'LOCAL' | 'PEER'): Promise<unknown> => {
    const samples: Sample[] = Array.from({ length: count }, (_, i) => ({
      series: `s${i % REFS}`,
      timestampMs: Date.UTC(2026, 0, 1) + tick * 10 + i,
      bits: bitsOf(tick++),
    }));
    const sender = (east.shards[id] as Shard).attach();
    const batch = batchOf(samples, (series) => Number(series.slice(1)), new Set(samples.map(({ series }) => series)));
    return sender.append(batch, ack, 10_000).then((outcome) => {
      sender.detach();
      expect(outcome.code).toBe('OK');
    });
  };
  await sim.advance(3_000);
  network.cut('east', 'west');
  for (let i = 0; i < BACKLOG; i++) {
    await sim.settle(write(OLD, 100, 'LOCAL'));
    await sim.advance(5);
  }
  network.heal();
  const healedMs = sim.nowMs;
  const liveMs: number[] = [];
  const isBehind = () => east.replication.lags().some(({ shard, recordCount }) => shard === OLD && recordCount > 0);
  await sim.advance(100);
  expect(isBehind()).toBe(true);
  while (isBehind()) {
    const startedMs = sim.nowMs;
    await sim.settle(write(LIVE, 1, 'PEER'));
    liveMs.push(sim.nowMs - startedMs);
    await sim.advance(100);
  }
  const throttledMs = [...opened.values()].reduce((sum, { replication }) => sum + replication.pace.waitedMs, 0);
  return { liveMs, caughtUpMs: sim.nowMs - healedMs, throttledMs };
}

const SLOW = 200_000;
const FILES = [
  'test/replication/engine.ts',
  ...['replication', 'link', 'lane'].map((name) => `node/replication/${name}.ts`),
];

/** Throws when a live write waited for what is old. */
async function expectLiveFirst(parts: Engine): Promise<void> {
  const { liveMs, caughtUpMs, throttledMs } = await history(parts, SLOW);
  expect(liveMs.length).toBeGreaterThan(10);
  expect(Math.max(...liveMs)).toBeLessThan(30);
  expect(caughtUpMs).toBeGreaterThan(1_000);
  expect(throttledMs).toBeGreaterThan(1_000);
}

test('a copy that is at the end of its log waits for none that catches up', () => expectLiveFirst(engine));

test('a lag that does not shrink is not slowed', async () => {
  // As slow as it would be, it would take minutes.
  const { caughtUpMs } = await history(engine, 10_000);
  expect(caughtUpMs).toBeGreaterThan(5_000);
  expect(caughtUpMs).toBeLessThan(60_000);
});

test('noticed: what is live is slowed, too', async () => {
  const edit = { file: 'lane.ts', replace: 'return this.#isBehind && !this.#isFallingBack;', by: 'return true;' };
  const { engine: mutant } = await plant<{ engine: Engine }>(FILES, [edit]);
  await expect(expectLiveFirst(mutant)).rejects.toThrow(/expected .* to be less than 30/);
});
