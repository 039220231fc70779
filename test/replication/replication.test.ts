import { afterEach, describe, expect, it } from 'vitest';
import { ExemplarList, readExemplars } from '../../core/exemplars.ts';
import { encodeIdentity, makeLabels } from '../../core/labels.ts';
import { encodeMetadata, parseMetadataText } from '../../core/metadata.ts';
import type { AckLevel } from '../../core/protocol.ts';
import { Callers } from '../../node/callers.ts';
import { Metrics } from '../../node/metrics.ts';
import type { Batch } from '../../node/shard/sender.ts';
import { InFlight } from '../../node/write.ts';
import { eventually } from '../local/cluster.ts';
import { batchAt, digestsOf, placementOf, Region } from './regions.ts';

const START_MS = 1_700_000_000_000;
const WAIT_MS = 20_000;

const regions: Region[] = [];
afterEach(async () => {
  for (const region of regions.splice(0)) await region.remove();
});

async function twoRegions(logBudgetBytes?: number): Promise<[Region, Region]> {
  const east = await Region.create('east', logBudgetBytes);
  const west = await Region.create('west', logBudgetBytes);
  regions.push(east, west);
  const placement = placementOf([east, west]);
  await east.follow(placement);
  await west.follow(placement);
  return [east, west];
}

/** A tick a second. */
function batchOf(tick: number, count: number, from = ''): Batch {
  return batchAt(START_MS + tick * 1_000, tick, count, from);
}

async function write(
  region: Region,
  ticks: readonly [number, number],
  count: number,
  ack: AckLevel = 'LOCAL',
  from = '',
) {
  for (let id = 0; id < 2; id++) {
    const sender = region.shard(id).attach();
    for (let tick = ticks[0]; tick < ticks[1]; tick++) {
      const outcome = await sender.append(batchOf(tick, count, from), ack);
      expect(outcome.message).toBe('');
      expect(outcome.code).toBe('OK');
    }
    sender.detach();
  }
}

function samplesIn(region: Region): number {
  return region.shard(0).stats().openSampleCount + region.shard(1).stats().openSampleCount;
}

async function same(one: Region, other: Region): Promise<void> {
  await eventually(async () => {
    for (let id = 0; id < 2; id++) {
      const digests = await digestsOf(one.shard(id));
      expect(digests.length).toBeGreaterThan(0);
      expect(await digestsOf(other.shard(id))).toEqual(digests);
    }
  }, WAIT_MS);
}

describe('replication', () => {
  it('brings what one region takes to the other, both ways, and sends nothing back', async () => {
    const [east, west] = await twoRegions();
    await write(east, [0, 50], 100, 'LOCAL', 'east');
    await write(west, [0, 50], 100, 'LOCAL', 'west');
    await same(east, west);
    await eventually(async () => {
      for (const region of [east, west]) for (const lag of region.replication.lags()) expect(lag.recordCount).toBe(0);
    }, WAIT_MS);
    // Every sample was stored once here and came once from there: nothing went round.
    // What repair fetched because a copy began empty may have come by the log, too.
    const fetched = east.messages.map((one) => Number(/was filled .*"samples":(\d+)/.exec(one)?.[1] ?? 0));
    const stored = samplesIn(east) - 2 * 2 * 50 * 100;
    expect(stored).toBeGreaterThanOrEqual(0);
    expect(stored).toBeLessThanOrEqual(fetched.reduce((sum, count) => sum + count, 0));
    const before = east.shard(0).cursors.log.tail().sequence;
    await new Promise((wake) => setTimeout(wake, 1_500));
    expect(east.shard(0).cursors.log.tail().sequence).toBe(before);
  });

  it('goes on with a shard that was refused, taken away and placed there again', async () => {
    const [east, west] = await twoRegions();
    const both = placementOf([east, west]);
    const without = { ...both, copies: [both.copies[0] ?? [], [east.copy]] };
    await west.follow({ ...without, copies: [both.copies[0] ?? [], []] });
    await write(east, [0, 5], 10);
    await eventually(() => expect(east.messages.join('\n')).toMatch(/shard 1 is not served by node n /), WAIT_MS);
    // The stream stays: it has the other shard.
    await east.follow(without);
    await west.follow(both);
    await east.follow(both);
    await write(east, [5, 10], 10);
    await eventually(() => {
      for (const lag of east.replication.lags()) expect(lag.recordCount).toBe(0);
    }, WAIT_MS);
    await same(east, west);
  });

  it('knows of no other copy any more in a shard that was closed, and may have been let go', async () => {
    const [east, west] = await twoRegions();
    const both = placementOf([east, west]);
    await write(east, [0, 5], 10);
    await same(east, west);
    const unconfirmed = () => east.replication.unconfirmed(1, { fromMs: 0, toMs: 2 ** 45 }).map(({ reason }) => reason);
    await eventually(() => expect(unconfirmed()).toEqual([]), WAIT_MS);
    await west.stop();
    await east.follow({ ...both, copies: [both.copies[0] ?? [], [west.copy]] });
    await east.follow(both);
    expect(unconfirmed()).toEqual(['the copy in west/n may have more: nothing was heard of it']);
  });

  it('brings exemplars and metadata too, also to a region that was away, and sends nothing back', async () => {
    const [east, west] = await twoRegions();
    const identity = encodeIdentity(makeLabels({ __name__: 'm' }));
    const labels = encodeIdentity(makeLabels({ trace: 'a' }));
    const append = async (region: Region, value: number): Promise<void> => {
      const list = new ExemplarList();
      for (const timestampMs of [START_MS, START_MS + value]) list.add(identity, { labels, timestampMs, value });
      const sender = region.shard(0).attach();
      const { code, exemplarCount } = await sender.append(
        {
          ...batchOf(0, 0),
          exemplars: list.take(),
          metadata: encodeMetadata([{ name: 'm', type: 1, unit: '', help: region.name }]),
        },
        'LOCAL',
      );
      expect([code, exemplarCount]).toEqual(['OK', 2]);
    };
    const found = async (region: Region): Promise<string[]> => {
      const out: string[] = [];
      const matchers = [{ name: '__name__', op: '=' as const, value: 'm' }];
      for await (const page of region.shard(0).exemplars({ fromMs: 0, toMs: 2 ** 45 }, [matchers])) {
        readExemplars(page, 'CORRUPT', (_, { timestampMs, value }) => out.push(`${timestampMs}=${value}`));
      }
      const told = region.shard(0).metadata('m').flatMap(parseMetadataText);
      return [...out, ...told.map(({ help }) => help).sort()];
    };
    await append(east, 1);
    await append(west, 2);
    const both = [START_MS, START_MS].map((timeMs, i) => `${timeMs}=${i + 1}`);
    const all = [...both, `${START_MS + 1}=1`, `${START_MS + 2}=2`, 'east', 'west'];
    await eventually(async () => {
      for (const region of [east, west]) expect(await found(region)).toEqual(all);
    }, WAIT_MS);
    await west.stop();
    await append(east, 3);
    await west.start();
    await west.follow(placementOf([east, west]));
    await eventually(async () => expect(await found(west)).toEqual(await found(east)), WAIT_MS);
    expect(await found(west)).toContain(`${START_MS + 3}=3`);
    await eventually(async () => {
      for (const region of [east, west]) for (const lag of region.replication.lags()) expect(lag.recordCount).toBe(0);
    }, WAIT_MS);
    expect(west.shard(0).stats().acceptedExemplarCount).toBe(0);
  });

  it('catches up from the log with a region that was away', async () => {
    const [east, west] = await twoRegions();
    await write(east, [0, 10], 50);
    await same(east, west);
    await west.stop();
    await write(east, [10, 200], 50);
    await west.start();
    await west.follow(placementOf([east, west]));
    await same(east, west);
  });

  it('goes on where it was when the source comes back', async () => {
    const [east, west] = await twoRegions();
    await write(east, [0, 10], 50);
    await same(east, west);
    await west.stop();
    await write(east, [10, 100], 50);
    await east.stop();
    await east.start();
    await east.follow(placementOf([east, west]));
    await west.start();
    await west.follow(placementOf([east, west]));
    await same(east, west);
    await write(east, [100, 110], 60);
    await same(east, west);
    expect(east.replication.lags().map(({ lostRecordCount }) => lostRecordCount)).toEqual([0, 0]);
  });

  it('acknowledges PEER once the other region has it', async () => {
    const [east, west] = await twoRegions();
    await write(east, [0, 3], 10, 'PEER');
    expect(samplesIn(west)).toBe(2 * 3 * 10);
  });

  it('answers PEER with UNCONFIRMED while the other region is away', async () => {
    const [east, west] = await twoRegions();
    await west.stop();
    const sender = east.shard(0).attach();
    const { code, message } = await sender.append(batchOf(0, 5), 'PEER');
    expect(code).toBe('UNCONFIRMED');
    expect(message).toContain('west/n');
  });

  it('counts what a copy lacks, and how long it was not heard', async () => {
    const [east, west] = await twoRegions();
    await write(east, [0, 10], 50);
    await same(east, west);
    const { node, replication } = east;
    const callers = new Callers(() => 0);
    const metrics = new Metrics({ node, inFlight: new InFlight({ maxBytes: 1, maxCount: 1 }), callers, replication });
    const metric = async (name: string): Promise<number[]> => {
      const rows = (await metrics.registry.metrics()).split('\n');
      return rows.filter((row) => row.startsWith(`silverback_${name}{`)).map((row) => Number(row.split(' ').at(-1)));
    };
    for (const name of ['lag_records', 'lag_bytes', 'lag_seconds', 'lost_records']) {
      await eventually(async () => expect(await metric(`replication_${name}`)).toEqual([0, 0]), WAIT_MS);
    }
    expect(await metric('replication_connected')).toEqual([1]);
    await eventually(async () => expect(await metric('replication_silent_shards')).toEqual([0]), WAIT_MS);
    await west.stop();
    await write(east, [10, 30], 50);
    await eventually(async () => {
      expect(await metric('replication_connected')).toEqual([0]);
      for (const records of await metric('replication_lag_records')) expect(records).toBeGreaterThanOrEqual(20);
      for (const age of await metric('replication_lag_seconds')) expect(age).toBeGreaterThan(1.5);
      expect((await metric('replication_frontier_age_seconds'))[0]).toBeGreaterThan(1.5);
    }, WAIT_MS);
    const bytes = await metric('replication_lag_bytes');
    const logs = [0, 1].map((id) => east.shard(id).stats().logBytes);
    for (const [i, lag] of bytes.entries()) {
      expect(lag).toBeGreaterThan(0.5 * (logs[i] as number));
      expect(lag).toBeLessThanOrEqual(logs[i] as number);
    }
    // A source that comes back knows since when.
    await east.stop();
    await east.start();
    await east.follow(placementOf([east, west]));
    for (const lag of east.replication.lags()) expect(lag.ageMs).toBeGreaterThan(1_500);
  });

  it('confirms a copy by the frontiers of the others', async () => {
    const [east, west] = await twoRegions();
    const range = { fromMs: 0, toMs: START_MS };
    expect(new Set(west.node.gaps(0, range).map(({ state }) => state))).not.toContain('missing');
    await write(east, [0, 5], 10);
    await eventually(async () => expect(west.node.gaps(0, range)).toEqual([]), WAIT_MS);
  });
});
