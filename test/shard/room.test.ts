import { expect, test } from 'vitest';
import type { Share } from '../../core/pool.ts';
import { Log, RecordKind } from '../../node/shard/log.ts';
import { Room } from '../../node/shard/room.ts';
import { Sim } from '../sim/sim.ts';

const MIB = 2 ** 20;

async function open(maxPendingBytes: number) {
  const sim = new Sim(1);
  const { log } = await sim.settle(Log.open(sim.boot(), '/data/7/log', { shard: 7, maxPendingBytes }));
  const room = new Room(log, 7);
  const put = (share: Share, byteCount: number) =>
    room.take(share, byteCount, () => log.append(RecordKind.DEFINITION, 0, new Uint8Array(byteCount)));
  const fill = (share: Share, byteCount: number) => {
    let count = 0;
    try {
      for (;;) {
        put(share, byteCount);
        count++;
      }
    } catch (error) {
      return { count, error: error as Error };
    }
  };
  return { sim, log, room, put, fill };
}

test('who floods leaves as much room before the disk to others as it takes; one that sends little always finds some', async () => {
  const { sim, log, room, put, fill } = await open(MIB);
  const flooder = room.open('flooder');
  const first = fill(flooder, 10_000);
  expect(first.error).toMatchObject({ code: 'RESOURCE_EXHAUSTED', retryAfterMs: 100 });
  expect(first.error.message).toMatch(
    /^shard 7: \d+ bytes wait for the log's disk, \d+ of them of flooder: nobody may have more of 1048576 than is left to others, 10000 more/,
  );
  expect(Math.abs(flooder.bytes - MIB / 2)).toBeLessThan(20_000);
  const polite = room.open('polite');
  put(polite, 1_000);
  // However many flood, in steps of whatever size.
  for (let i = 1; i <= 3; i++) fill(room.open(`another ${i}`), 10 ** i);
  put(polite, 100);
  expect(log.pendingBytes).toBeLessThan(MIB);
  // A second stream of the same holder has no room of its own.
  expect(room.open('flooder')).toBe(flooder);
  const last = log.tail().sequence - 1;
  await sim.settle(log.written(last));
  await sim.steps(1);
  expect([flooder.bytes, polite.bytes]).toEqual([0, 0]);
  expect(fill(flooder, 10_000).count).toBe(first.count);
});

test('what comes from other copies leaves room to callers, and they to it', async () => {
  const { room, put, fill } = await open(MIB);
  fill(room.copies, 60_000);
  put(room.open('caller'), 60_000);
  fill(room.open('caller'), 60_000);
  expect(fill(room.copies, 60_000).count).toBe(0);
  put(room.open('another'), 60_000);
});

test('the slower the disk, the less may wait for it, down to a bound', () => {
  const log = {
    admit: () => undefined,
    written: () => new Promise<void>(() => undefined),
    tail: () => ({ sequence: 1 }) as never,
    maxPendingBytes: 8 * MIB,
    pendingBytes: 0,
    lastWrite: { bytes: 0, durationMs: 1 },
  };
  const most = (bytes: number, durationMs: number) => {
    const room = new Room(log, 1);
    const share = room.open('flooder');
    log.pendingBytes = 0;
    log.lastWrite = { bytes, durationMs };
    const take = () =>
      room.take(share, 10_000, () => {
        log.pendingBytes += 10_000;
      });
    for (;;) {
      try {
        take();
      } catch {
        return share.bytes / MIB;
      }
    }
  };
  expect(most(Number.POSITIVE_INFINITY, 1)).toBeCloseTo(4, 1);
  expect(most(100, 0)).toBeCloseTo(4, 1);
  // 3 MiB a second: what it takes in two, half of it for one.
  expect(most(3 * MIB, 1_000)).toBeCloseTo(3, 1);
  expect(most(1_000, 400)).toBeCloseTo(1, 1);
});
