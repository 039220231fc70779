/** Repair between real nodes over real connections. */
import { afterEach, describe, expect, it } from 'vitest';
import { ExemplarList } from '../../core/exemplars.ts';
import { Channel } from '../../core/grpc.ts';
import { encodeIdentity, makeLabels } from '../../core/labels.ts';
import { encodeMetadata } from '../../core/metadata.ts';
import type { Copy, Placement } from '../../core/placement.ts';
import { shardsService } from '../../core/protocol.ts';
import { helloOf, SPOKEN } from '../../core/versions.ts';
import type { Batch } from '../../node/shard/sender.ts';
import { eventually } from '../local/cluster.ts';
import { env } from '../node/cluster.ts';
import { batchAt, digestsOf, placementOf, Region } from '../replication/regions.ts';

const START_MS = 1_700_000_000_000;
const WAIT_MS = 60_000;

const regions: Region[] = [];
afterEach(async () => {
  for (const region of regions.splice(0)) await region.remove();
});

/** Nodes that know of each other's copies for repair, but whose logs are not shipped. */
async function apart(...names: string[]): Promise<Region[]> {
  for (const name of names) regions.push(await Region.create(name));
  for (const region of regions) {
    region.repair.follow(seenBy(region));
    await region.node.assign([0, 1]);
    // No log is waited for: each is complete but for its own gaps.
    for (const id of [0, 1]) region.replication.frontiers.expect(id, []);
  }
  return regions;
}

/** The placement, in which the region's own copies are new: they are not filled unless that is asked for. */
function seenBy(region: Region): Placement {
  const placement = placementOf(regions);
  const state = (copy: Copy) => (copy.region === region.name ? 'joining' : 'active');
  return { ...placement, copies: placement.copies.map((copies) => copies.map((c) => ({ ...c, state: state(c) }))) };
}

/** A tick a minute. */
function batchOf(tick: number, count: number, from: string): Batch {
  return batchAt(START_MS + tick * 60_000, tick, count, from);
}

async function write(region: Region, ticks: readonly [number, number], count: number, from = ''): Promise<void> {
  for (const id of [0, 1]) {
    const sender = region.shard(id).attach();
    for (let tick = ticks[0]; tick < ticks[1]; tick++) {
      expect(await sender.append(batchOf(tick, count, from), 'LOCAL')).toMatchObject({ code: 'OK', message: '' });
    }
    sender.detach();
  }
}

async function expectSame(...others: Region[]): Promise<void> {
  for (const id of [0, 1]) {
    const digests = await digestsOf((others[0] as Region).shard(id));
    expect(digests.length).toBeGreaterThan(0);
    for (const other of others) expect(await digestsOf(other.shard(id))).toEqual(digests);
  }
}

describe('repair', { timeout: 3 * WAIT_MS }, () => {
  it('makes three copies equal that were written apart, by rounds asked for over the wire', async () => {
    const [east, west, north] = (await apart('east', 'west', 'north')) as [Region, Region, Region];
    await write(east, [0, 200], 40, 'east');
    await write(west, [50, 300], 40, 'west');
    await write(north, [0, 10], 40, 'east');
    for (const region of [east, west, north]) {
      const channel = new Channel(region.copy.address, { clock: env.clock, caller: 'test' });
      const hello = helloOf(SPOKEN, 'c', 'test');
      const reply = await channel.unary(shardsService.Repair, { hello, shards: [], run: true }, { timeoutMs: WAIT_MS });
      channel.close();
      expect(reply.shards.map(({ shard, rounds, lastError }) => ({ shard, rounds, lastError }))).toEqual([
        { shard: 0, rounds: 1, lastError: '' },
        { shard: 1, rounds: 1, lastError: '' },
      ]);
    }
    await expectSame(east, west, north);
    // Each got exactly what it lacked.
    const brought = (region: Region) => region.repair.status().map(({ samples }) => samples);
    expect(brought(east)).toEqual([250 * 40, 250 * 40]);
    expect(brought(west)).toEqual([200 * 40, 200 * 40]);
    // What came from elsewhere is not shipped on: it carries its origin.
    expect(east.shard(0).stats().openSampleCount).toBe(450 * 40);
    for (const region of regions) await region.repair.run();
    const before = regions.map((region) => region.repair.status().map(({ samples }) => samples));
    for (const region of regions) await region.repair.run();
    expect(regions.map((region) => region.repair.status().map(({ samples }) => samples))).toEqual(before);
    for (const { differing, compared } of east.repair.status()) expect(differing).toBeLessThan(compared);
  });

  it('keeps deleted what was deleted in a region that was cut off', async () => {
    const [east, west] = (await apart('east', 'west')) as [Region, Region];
    await write(east, [0, 130], 20);
    await west.repair.run();
    await expectSame(east, west);
    const matchers = [{ name: 'i', op: '=~' as const, value: '1.' }];
    expect(await west.shard(0).delete(matchers, START_MS + 10 * 60_000, START_MS + 100 * 60_000)).toBe(10);
    await east.repair.run();
    await west.repair.run();
    await expectSame(east, west);
    for (const region of [east, west]) expect([...region.shard(0).deletions()]).not.toHaveLength(0);
  });

  it('fills a new copy, and says how far it is', async () => {
    const [east, west] = (await apart('east', 'west')) as [Region, Region];
    await write(east, [0, 700], 30);
    await west.repair.fill(0, new AbortController().signal);
    expect(await digestsOf(west.shard(0))).toEqual(await digestsOf(east.shard(0)));
    const { filledWindows, fillWindows, samples } = west.repair.status()[0] as NonNullable<
      ReturnType<Region['repair']['status']>[0]
    >;
    expect(samples).toBe(700 * 30);
    expect(filledWindows).toBe(fillWindows);
    expect(west.shard(1).windows()).toEqual([]);
  });

  it('fills it with exemplars and metadata, too', async () => {
    const [east, west] = (await apart('east', 'west')) as [Region, Region];
    const identity = encodeIdentity(makeLabels({ __name__: 'm' }));
    const list = new ExemplarList();
    for (const value of [1, 2])
      list.add(identity, { labels: encodeIdentity(makeLabels({ trace: 'a' })), timestampMs: START_MS + value, value });
    const metadata = encodeMetadata([{ name: 'm', type: 1, unit: 's', help: 'h' }]);
    const sender = east.shard(0).attach();
    expect(await sender.append({ ...batchOf(0, 3, ''), exemplars: list.take(), metadata }, 'LOCAL')).toMatchObject({
      code: 'OK',
    });
    for (let times = 0; times < 2; times++) {
      await west.repair.fill(0, new AbortController().signal);
      expect(west.shard(0).stats()).toMatchObject({ exemplarCount: 2, metadataCount: 1 });
      expect(west.shard(0).metadata('m')).toEqual(east.shard(0).metadata('m'));
    }
  });

  it('has a gap where no copy is known to have everything, until one is', async () => {
    const [east, west, north] = (await apart('east', 'west', 'north')) as [Region, Region, Region];
    await write(east, [0, 20], 5);
    await write(west, [0, 20], 5);
    const shard = north.shard(0);
    const all = { fromMs: 0, toMs: Number.MAX_SAFE_INTEGER };
    const minute = (count: number) => START_MS + count * 60_000;
    const gap = (fromMs: number, toMs: number) => ({
      fromMs,
      toMs,
      state: 'missing' as const,
      reason: 'records are lost',
    });
    await east.shard(0).reportGap(gap(minute(0), minute(400)));
    await west.shard(0).reportGap(gap(minute(300), minute(600)));
    await north.repair.fill(0, new AbortController().signal);
    expect(shard.gaps(all)).toMatchObject([{ fromMs: minute(300), toMs: minute(400), state: 'missing' }]);
    expect(shard.gaps(all)[0]?.reason).toContain('records are lost');
    await west.shard(0).closeGaps(all);
    await north.repair.fill(0, new AbortController().signal);
    expect(shard.gaps(all)).toEqual([]);
  });

  it('waits with filling until a copy can be reached, and stops when told to', async () => {
    const [east, west] = (await apart('east', 'west')) as [Region, Region];
    await write(east, [0, 20], 5);
    await east.stop();
    const given = new AbortController();
    const reason = new Error('moved elsewhere');
    const stopped = west.repair.fill(0, given.signal);
    const caught = expect(stopped).rejects.toBe(reason);
    given.abort(reason);
    await caught;
    const filled = west.repair.fill(0, new AbortController().signal);
    await east.start();
    await east.node.assign([0, 1]);
    east.repair.follow(seenBy(east));
    await filled;
    expect(await digestsOf(west.shard(0))).toEqual(await digestsOf(east.shard(0)));
  });

  it('brings what left the log before a copy had it, and closes the gap', async () => {
    const east = await Region.create('east', 0);
    const west = await Region.create('west', 0);
    regions.push(east, west);
    for (const region of regions) await region.follow(placementOf(regions));
    await west.stop();
    await write(east, [0, 300], 100);
    // The cursor of a copy that was away so long, with a log that was let go meanwhile.
    for (const id of [0, 1]) {
      const cursor = east.shard(id).cursors.all[0] as NonNullable<ReturnType<Region['shard']>['cursors']['all'][0]>;
      cursor.position = east.shard(id).cursors.log.tail();
      cursor.deliveredEnd = cursor.position.sequence;
      cursor.lostRecordCount = 300;
    }
    await west.start();
    await west.follow(placementOf(regions));
    await eventually(() => {
      const range = { fromMs: 0, toMs: START_MS };
      expect(west.node.gaps(0, range).concat(west.node.gaps(1, range))).toEqual([]);
      expect(east.replication.lags().map(({ lostRecordCount }) => lostRecordCount)).toEqual([0, 0]);
      expect(west.shard(0).stats().openSampleCount).toBe(300 * 100);
    }, WAIT_MS);
    await expectSame(east, west);
  });

  it('fills a copy that comes back with an empty disk, though the logs of the others are past it', async () => {
    for (const name of ['east', 'west']) regions.push(await Region.create(name));
    const [east, west] = regions as [Region, Region];
    for (const region of regions) await region.follow(placementOf(regions));
    await write(east, [0, 300], 50);
    await write(west, [0, 150], 50, 'west');
    await eventually(() => expectSame(east, west), WAIT_MS);
    // Durable there, so that the cursors are past it.
    await eventually(() => {
      const ends = [0, 1].map((id) => [
        east.shard(id).cursors.all[0]?.position.sequence,
        east.shard(id).cursors.log.tail().sequence,
      ]);
      for (const [position, tail] of ends) expect(position).toBe(tail);
    }, WAIT_MS);
    const isDelivered = (id: number) => east.replication.isDelivered(id, east.shard(id).cursors.log.tail().sequence);
    expect([0, 1].map(isDelivered)).toEqual([true, true]);
    await west.stop();
    // Whatever it has when it is back.
    await eventually(() => expect([0, 1].map(isDelivered)).toEqual([false, false]), WAIT_MS);
    await west.wipe();
    await west.start();
    await west.follow(placementOf(regions));
    await eventually(async () => {
      const delivered = [0, 1].map(isDelivered);
      const gaps = [0, 1].map((id) => west.node.gaps(id, { fromMs: 0, toMs: START_MS }).length);
      for (const id of [0, 1]) {
        const isClaimed = delivered[id] || gaps[id] === 0;
        if (isClaimed) expect(await digestsOf(west.shard(id))).toEqual(await digestsOf(east.shard(id)));
      }
      expect([delivered, gaps]).toEqual([
        [true, true],
        [0, 0],
      ]);
      await expectSame(east, west);
    }, WAIT_MS);
    const problems = [0, 1].flatMap((id) =>
      west
        .shard(id)
        .stats()
        .problems.map(({ message }) => message),
    );
    // Unless what comes by the log was first.
    for (const problem of problems) expect(problem).toBe('this copy began empty, and east/n has 3 windows of it');
  });
});
