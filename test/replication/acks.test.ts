/** What a client is told at each level of acknowledgement while the other region is away. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StaticPlacement } from '../../client/placement.ts';
import { type ColumnBatch, type WriteOptions, Writer } from '../../client/writer.ts';
import { encodeIdentity, makeLabels } from '../../core/labels.ts';
import { env } from '../node/cluster.ts';
import { placementOf, Region } from './regions.ts';

const START_MS = 1_700_000_000_000;
const LONG_MS = 60_000;

let east: Region;
let west: Region;
let writer: Writer;
beforeEach(async () => {
  [east, west] = [await Region.create('east'), await Region.create('west')];
  const placement = placementOf([east, west]);
  for (const region of [east, west]) await region.follow(placement);
  writer = new Writer({
    ...{ env, caller: 'test', region: 'east', placement: new StaticPlacement(placement) },
    source: { identity: (shard, ref) => encodeIdentity(makeLabels({ __name__: `s${shard}`, r: String(ref) })) },
  });
});
afterEach(async () => {
  writer.close();
  for (const region of [east, west]) await region.remove();
});

/** A sample in each of the two shards. */
async function write(tick: number, options: WriteOptions): Promise<{ code: string; message: string }> {
  const batches = [0, 1].map(
    (shard): ColumnBatch => ({
      shard,
      refs: Uint32Array.of(1),
      counts: undefined,
      timestamps: new Uint8Array(BigInt64Array.of(BigInt(START_MS + tick)).buffer),
      values: new Uint8Array(Float64Array.of(tick).buffer),
    }),
  );
  const { results, acknowledgedCount } = await writer.write(batches, options);
  const [one, two] = results;
  expect(two?.code).toBe(one?.code);
  expect(acknowledgedCount).toBe(one?.code === 'OK' ? 2 : 0);
  return { code: one?.code ?? '', message: one?.message ?? '' };
}

const samplesIn = (region: Region) => region.shard(0).stats().openSampleCount + region.shard(1).stats().openSampleCount;

describe('while the other region is away', () => {
  it('LOCAL and FSYNC are acknowledged, PEER is not, at once as the client wants it', async () => {
    expect(await write(1, { ack: 'PEER', timeoutMs: LONG_MS })).toMatchObject({ code: 'OK' });
    expect(samplesIn(west)).toBe(2);
    await west.stop();
    expect(await write(2, { timeoutMs: LONG_MS })).toMatchObject({ code: 'OK' });
    expect(await write(3, { ack: 'FSYNC', timeoutMs: LONG_MS })).toMatchObject({ code: 'OK' });
    const settled = await write(4, { ack: 'PEER', unconfirmed: 'settle', timeoutMs: LONG_MS });
    expect(settled.code).toBe('UNCONFIRMED');
    expect(settled.message).toContain(
      'stored in this node only: after 5 s no copy in a second failure zone has it (west/n)',
    );
    // It is stored all the same.
    expect(samplesIn(east)).toBe(2 * 4);
  });

  it('a client that waits is answered when its time is up, and told what was waited for', async () => {
    await west.stop();
    const { code, message } = await write(1, { ack: 'PEER', timeoutMs: 1_500 });
    expect(code).toBe('UNCONFIRMED');
    expect(message).toMatch(/^not confirmed after 1500 ms: /);
    expect(samplesIn(east)).toBe(2);
  });

  it('a client that waits is acknowledged once the region is back', async () => {
    await west.stop();
    const waiting = write(1, { ack: 'PEER', timeoutMs: LONG_MS });
    await new Promise((wake) => setTimeout(wake, 300));
    await west.start();
    await west.follow(placementOf([east, west]));
    expect(await waiting).toMatchObject({ code: 'OK' });
    expect(samplesIn(west)).toBe(2);
  });
});
