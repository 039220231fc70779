/** What replication meets seldom: damaged cursors, deletions, lists of definitions that no message holds. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { encodeIdentity, makeLabels } from '../../core/labels.ts';
import { encodeDefinition } from '../../node/shard/definitions.ts';
import { eventually } from '../local/cluster.ts';
import { digestsOf, placementOf, Region } from './regions.ts';

const START_MS = 1_700_000_000_000;
const WAIT_MS = 60_000;

let east: Region;
let west: Region;
beforeEach(async () => {
  [east, west] = [await Region.create('east'), await Region.create('west')];
  for (const region of [east, west]) await region.follow(placementOf([east, west]));
});
afterEach(async () => {
  for (const region of [east, west]) await region.remove();
});

/** A sample of each of `count` series in shard 0; `text` is a label of all of them. */
async function write(region: Region, tick: number, count: number, text = ''): Promise<void> {
  const sender = region.shard(0).attach();
  const numbers = Array.from({ length: count }, (_, i) => i);
  const outcome = await sender.append(
    {
      definitions: Buffer.concat(
        numbers.map((i) => encodeDefinition(i, encodeIdentity(makeLabels({ __name__: 'm', i: String(i), text })))),
      ),
      refs: new Uint8Array(Uint32Array.from(numbers).buffer),
      counts: new Uint8Array(0),
      timestamps: new Uint8Array(new BigInt64Array(count).fill(BigInt(START_MS + tick * 1_000)).buffer),
      values: new Uint8Array(Float64Array.from(numbers, (i) => tick + i).buffer),
    },
    'LOCAL',
  );
  expect(outcome).toMatchObject({ code: 'OK', message: '' });
  sender.detach();
}

async function same(): Promise<void> {
  await eventually(async () => {
    const digests = await digestsOf(east.shard(0));
    expect(digests.length).toBeGreaterThan(0);
    expect(await digestsOf(west.shard(0))).toEqual(digests);
  }, WAIT_MS);
}

it('a damaged file of cursors is told of, and the log is sent again from its beginning', async () => {
  for (let tick = 0; tick < 20; tick++) await write(east, tick, 10);
  await same();
  await east.stop();
  const path = join(east.directory, 'shards', '0', 'cursors');
  const bytes = await readFile(path);
  bytes[bytes.length - 2] = (bytes[bytes.length - 2] as number) ^ 1;
  await writeFile(path, bytes);
  await east.start();
  await east.follow(placementOf([east, west]));
  const told = east
    .shard(0)
    .stats()
    .problems.map(({ message }) => message);
  expect(told).toEqual([expect.stringMatching(/cursors is damaged: .* the log again from its oldest record on$/)]);
  await write(east, 20, 10);
  await same();
  await eventually(() => {
    const lag = east.replication.lags().find(({ shard }) => shard === 0);
    expect(lag).toMatchObject({ recordCount: 0, lostRecordCount: 0 });
  }, WAIT_MS);
});

it('what is deleted in one region is dead in the other, and so is what comes late', async () => {
  for (let tick = 0; tick < 20; tick++) await write(east, tick, 10);
  await same();
  const matchers = [{ name: 'i', op: '=', value: '3' }] as const;
  expect(await west.shard(0).delete(matchers, START_MS, START_MS + 100_000)).toBe(1);
  await same();
  await eventually(() => expect([...east.shard(0).deletions()]).toEqual([...west.shard(0).deletions()]), WAIT_MS);
  expect([...east.shard(0).deletions()]).toHaveLength(1);
  // In the interval, through the region that did not delete.
  await write(east, 50, 10);
  await write(east, 150, 10);
  await same();
  for (const region of [east, west]) {
    let pageCount = 0;
    const query = { fromMs: 0, toMs: START_MS + 100_000, maxSeriesCount: 100, maxSampleCount: 1e6 };
    for await (const _ of region.shard(0).select({ matchers, ...query })) pageCount++;
    expect(pageCount).toBe(0);
    for await (const _ of region.shard(0).select({ matchers, ...query, toMs: START_MS + 1e6 })) pageCount++;
    expect(pageCount).toBe(1);
  }
});

it('a list of definitions larger than a part goes over in parts', async () => {
  // Of 4 MB, in one record.
  await write(east, 0, 4_000, 'x'.repeat(1_000));
  await same();
  // What is not known to be durable there is sent again.
  await eventually(() => {
    const { all, log } = east.shard(0).cursors;
    expect(all.map(({ position }) => position.sequence)).toEqual([log.tail().sequence]);
  }, WAIT_MS);
  await west.stop();
  await write(east, 1, 4_000, 'x'.repeat(1_000));
  await write(east, 2, 4_000, 'y'.repeat(1_000));
  await west.start();
  await west.follow(placementOf([east, west]));
  await same();
  expect(west.shard(0).stats().openSampleCount).toBe(3 * 4_000);
});
