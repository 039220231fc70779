/** Processes of two releases speak to each other in what both speak, and refuse each other by name and version otherwise. */
import { afterEach, describe, expect, test } from 'vitest';
import { StaticPlacement } from '../../client/placement.ts';
import { Reader } from '../../client/reader.ts';
import { type ColumnBatch, Writer } from '../../client/writer.ts';
import { Channel } from '../../core/grpc.ts';
import { encodeIdentity, makeLabels } from '../../core/labels.ts';
import type { Copy } from '../../core/placement.ts';
import { shardsService } from '../../core/protocol.ts';
import { agree, SPOKEN, type Spoken, toWire } from '../../core/versions.ts';
import { eventually } from '../local/cluster.ts';
import { env, removeDirectory, type Served, serve, temporaryDirectory } from '../node/cluster.ts';
import { batchAt, digestsOf, placementOf, Region } from '../replication/regions.ts';

/** Of the release after this one, which speaks this one's too; and of the one after that, which does not. */
const NEXT = speaking(1, 2);
const LATER = speaking(2, 3);

function speaking(lowest: number, highest: number): Spoken {
  const all = Object.keys(SPOKEN).map((format) => [format, [lowest, highest]]);
  return Object.fromEntries(all) as Spoken;
}

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const START_MS = 1_700_000_000_000;
const never = new AbortController().signal;

async function nodeOf(name: string, spoken: Spoken): Promise<Served> {
  const directory = await temporaryDirectory();
  closers.push(() => removeDirectory(directory));
  const served = await serve(directory, { name, spoken, shardCount: 1 });
  closers.push(() => served.close());
  await served.node.assign([0]);
  return served;
}

/** A cluster of one shard with a copy on each of the nodes. */
function clientsOf(nodes: readonly Served[], spoken?: Spoken) {
  const copies = nodes.map(({ node, address }): Copy => {
    return { region: 'r', zone: node.name, node: node.name, address, state: 'active', epoch: 1 };
  });
  const placement = new StaticPlacement({ clusterId: 'c', shardCount: 1, revision: 1, copies: [copies] });
  const shared = { env, placement, caller: 'app', ...(spoken && { spoken }) };
  const source = {
    identity: (_: number, ref: number) => encodeIdentity(makeLabels({ __name__: 'm', r: String(ref) })),
  };
  const writer = new Writer({ ...shared, source });
  const reader = new Reader(shared);
  closers.push(() => {
    writer.close();
    reader.close();
  });
  const batch: ColumnBatch = {
    shard: 0,
    refs: Uint32Array.of(1),
    counts: undefined,
    timestamps: new Uint8Array(BigInt64Array.of(BigInt(START_MS)).buffer),
    values: new Uint8Array(Float64Array.of(1).buffer),
  };
  const range = { fromMs: START_MS, toMs: START_MS };
  return {
    write: async (timeoutMs = 60_000) => (await writer.write([batch], { timeoutMs })).results[0]!,
    read: () => reader.labelValues('r', { ...range, selectors: [] }, { signal: never }),
  };
}

async function statusOf(address: string) {
  const channel = new Channel(address, { clock: env.clock, caller: 'operator' });
  closers.push(() => channel.close());
  return channel.unary(shardsService.Status, {}, { timeoutMs: 60_000 });
}

describe('a node and its clients', () => {
  test.each([
    ['older', SPOKEN, NEXT],
    ['newer', NEXT, SPOKEN],
    ['of the next release but one', NEXT, LATER],
  ])('that are %s than it have a version in common', async (_, client, spoken) => {
    const served = await nodeOf('n1', spoken);
    const { write, read } = clientsOf([served], client);
    expect(await write()).toMatchObject({ code: 'OK', acknowledgedCount: 1 });
    const { values, coverage } = await read();
    expect(values).toEqual(['1']);
    expect(coverage).toMatchObject([{ state: 'complete' }]);
    const status = await statusOf(served.address);
    expect(status.speaks).toEqual(toWire(spoken));
    expect(status.refused).toEqual([]);
  });

  test('that have none are refused by name and version, and that can be seen', async () => {
    const served = await nodeOf('n1', LATER);
    const { write, read } = clientsOf([served]);
    const words = /no version in common of protocol: app speaks version 1, node n1 versions 2 to 3; batch: /;
    // Long enough for a stall: it is tried as long as the time allows.
    const result = await write(3_000);
    expect(result.code).toBe('VERSION');
    expect(result.message).toMatch(words);
    const { coverage } = await read();
    expect(coverage).toMatchObject([{ state: 'missing', reason: expect.stringContaining('no version in common of') }]);
    const status = await statusOf(served.address);
    expect(status.refused).toEqual([expect.stringContaining('app speaks version 1, node n1 versions 2 to 3')]);
    const metrics = await served.metrics.registry.metrics();
    expect(metrics).toMatch(/^silverback_node_refused_versions_total [1-9]/m);
    expect(metrics).toContain('silverback_node_highest_version{format="protocol"} 3');
  });

  test('are served by the copy that understands them', async () => {
    const [later, same] = [await nodeOf('n1', LATER), await nodeOf('n2', SPOKEN)];
    const { write, read } = clientsOf([later, same]);
    expect(await write()).toMatchObject({ code: 'OK', acknowledgedCount: 1 });
    const { values, coverage } = await read();
    expect(values).toEqual(['1']);
    expect(coverage).toMatchObject([{ state: 'complete', copy: 'r/n2' }]);
  });
});

test('a log goes to a node of another release in a version of both, and waits for one that has none', async () => {
  const [east, west] = [await Region.create('east'), await Region.create('west')];
  closers.push(() => Promise.all([east.remove(), west.remove()]));
  const again = async (spoken: Spoken) => {
    await west.stop();
    west.spoken = spoken;
    await west.start();
    const placement = placementOf([east, west]);
    for (const region of [east, west]) await region.follow(placement);
  };
  const write = async (tick: number) => {
    const sender = east.shard(0).attach();
    expect(await sender.append(batchAt(START_MS + tick, tick, 10, 'east'), 'FSYNC')).toMatchObject({ code: 'OK' });
    sender.detach();
  };
  const isEqual = () =>
    eventually(async () => expect(await digestsOf(west.shard(0))).toEqual(await digestsOf(east.shard(0))));
  await again(NEXT);
  await write(1);
  await isEqual();
  expect(east.replication.peers()).toMatchObject([{ node: 'n', isConnected: true, logVersion: 1 }]);

  await again({ ...SPOKEN, log: [2, 2] });
  await write(2);
  await eventually(() => expect(east.messages.join('\n')).toContain('log: east/n speaks version 1, node n version 2'));
  expect(west.node.refused.words).toHaveLength(1);
  expect(east.replication.peers()).toMatchObject([{ isConnected: false, logVersion: 0 }]);
  expect(east.shard(0).stats().openSampleCount).toBe(20);
  expect(west.shard(0).stats().openSampleCount).toBe(10);

  await again({ ...SPOKEN, log: [1, 2] });
  await isEqual();
  expect(west.shard(0).stats().openSampleCount).toBe(20);
});

test('the highest common version is agreed on, of every format for itself', () => {
  const who = { us: 'a', them: 'b' };
  const wire = (lowest: number, highest: number) => [{ format: 'log', lowest, highest }];
  for (const [ours, theirs, agreed] of [
    [[1, 1], [1, 1], 1],
    [[1, 2], [1, 1], 1],
    [[1, 3], [2, 5], 3],
    [[2, 2], [1, 4], 2],
  ] as const) {
    const spoken = { ...SPOKEN, log: ours };
    expect(agree(spoken, wire(theirs[0], theirs[1]), ['log'], who)).toEqual({ log: agreed });
  }
  expect(agree({ ...SPOKEN, log: [1, 2] }, [], ['log'], who)).toEqual({ log: 1 });
  expect(() => agree({ ...SPOKEN, log: [3, 4] }, wire(1, 2), ['protocol', 'log'], who)).toThrow(
    'no version in common of log: b speaks versions 1 to 2, a versions 3 to 4',
  );
});
