/** Every format has a golden file of each version that is read; what is decoded from it is what was put in, and what is written now is the same. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readLayout, writeLayout } from '../../coordinator/local/layout.ts';
import { Page } from '../../coordinator/query/page.ts';
import type { RegionPlacement } from '../../core/meta/region.ts';
import { decodeValue, encodeValue } from '../../core/meta/values.ts';
import { readPlacement, writePlacement } from '../../core/meta/written.ts';
import { type Method, shardsService } from '../../core/protocol.ts';
import { FORMATS, type Format, helloOf, SPOKEN } from '../../core/versions.ts';
import { claimDirectory } from '../../node/directory.ts';
import { Origins } from '../../node/replication/origins.ts';
import { Budget } from '../../node/shard/budget.ts';
import { writeCheckpoint } from '../../node/shard/checkpoint.ts';
import { DAMAGED, readJson, writeJson } from '../../node/shard/jsonfile.ts';
import { type Incarnation, Log, RecordKind } from '../../node/shard/log.ts';
import { Shard } from '../../node/shard/shard.ts';
import { readTenure, type Tenure, writeTenure } from '../../node/tenure.ts';
import { batchOf, bitsOf } from '../shard/model.ts';
import { Seeded } from '../sim/random.ts';
import { Sim } from '../sim/sim.ts';
import { golden } from './golden.ts';

const START_MS = Date.UTC(2026, 0, 1);

/** Where the golden files of a format are, if they have another name. */
const NAMES: Partial<Record<Format, string>> = {
  'log segment': 'log',
  'log record': 'records',
  'list of deletions': 'deletions',
  'list of exemplars': 'exemplars',
  'list of metadata': 'metadata',
  'meta snapshot': 'meta-snapshot',
  'meta log': 'meta-log',
  'meta value': 'meta-value',
};

test('every version of every format that is read has one', () => {
  const files = readdirSync(new URL('../golden/', import.meta.url));
  for (const [format, [lowest, highest]] of Object.entries(FORMATS)) {
    const name = NAMES[format as Format] ?? format;
    for (let version = lowest; version <= highest; version++) {
      expect(
        files.filter((file) => file.startsWith(`${name}-${version}.`)),
        `${format} ${version}`,
      ).toHaveLength(1);
    }
  }
  for (const [language, [lowest, highest]] of Object.entries(SPOKEN)) {
    // Logs and blocks travel as they lie.
    if (language === 'log' || language === 'block') continue;
    for (let version = lowest; version <= highest; version++) {
      expect(
        files.filter((file) => file.startsWith(`${language}-${version}.`)),
        `${language} ${version}`,
      ).toHaveLength(1);
    }
  }
});

describe('files of a node', () => {
  test('identity', async () => {
    const sim = new Sim(1);
    const identity = { clusterId: '00112233445566778899aabbccddeeff', shardCount: 16 };
    const claim = await sim.settle(claimDirectory(sim.boot(), '/n'));
    await sim.settle(claim.record(identity));
    const bytes = golden('identity-1.bin', sim.disk.bytes('/n/identity'));
    sim.disk.replace('/m/identity', bytes);
    expect((await sim.settle(claimDirectory(sim.boot(), '/m'))).identity).toEqual(identity);
  });

  test('origins', async () => {
    const sim = new Sim(2);
    const origins = await sim.settle(Origins.load(sim.boot(), '/n'));
    await sim.settle(origins.index('west/west-1'));
    await sim.settle(origins.index('west/west-2'));
    sim.disk.replace('/m/origins', golden('origins-1.bin', sim.disk.bytes('/n/origins')));
    const read = await sim.settle(Origins.load(sim.boot(), '/m'));
    expect(await sim.settle(read.index('west/west-2'))).toBe(2);
  });

  test('tenure', async () => {
    const sim = new Sim(3);
    const tenure: Tenure = { state: 'joining', epoch: 7, isFilled: false, sinceMs: START_MS };
    await sim.settle(writeTenure(sim.boot().disk, '/n', tenure));
    sim.disk.replace('/m/tenure', golden('tenure-1.bin', sim.disk.bytes('/n/tenure')));
    expect(await sim.settle(readTenure(sim.boot().disk, '/m'))).toEqual(tenure);
  });

  test.each([
    [
      'cursors',
      'SILVCUR\x01',
      [{ region: 'west', node: 'west-1', incarnation: 5, sequence: 9, lostRecordCount: 1, caughtUpMs: START_MS }],
    ],
    ['gaps', 'SILVGAP\x01', [{ fromMs: 1, toMs: 2, state: 'missing', reason: 'a disk was lost' }]],
  ] as const)('%s', async (name, magic, content) => {
    const sim = new Sim(4);
    const file = { directory: '/n', name, magic };
    const { disk } = sim.boot();
    await sim.settle(disk.makeDirectory('/n'));
    await sim.settle(writeJson(disk, file, content));
    sim.disk.replace(`/n/${name}`, golden(`${name}-1.bin`, sim.disk.bytes(`/n/${name}`)));
    const read = await sim.settle(readJson(sim.boot().disk, file));
    expect(read).not.toBe(DAMAGED);
    expect(read).toEqual(content);
  });

  test('a log is written as it was', async () => {
    const sim = new Sim(13);
    const env = sim.boot();
    const bytes = golden('log-1.bin', undefined);
    // The incarnation is drawn.
    const drawn = Uint8Array.from(bytes.subarray(24, 30)).reverse();
    const random = { ...env.random, next: () => env.random.next(), bytes: () => drawn };
    const { log } = await sim.settle(Log.open({ ...env, random }, '/l', { shard: bytes.readUInt32LE(8) }));
    const text = (value: string) => new TextEncoder().encode(value);
    log.append(RecordKind.DEFINITION, 0, text('series one'));
    log.append(RecordKind.SAMPLES, 0, text('samples of series one, '.repeat(20)));
    // In a frame of its own.
    await sim.settle(log.written(2));
    log.append(RecordKind.DELETION, 3, text('gone'));
    await sim.settle(log.close());
    golden('log-1.bin', sim.disk.bytes('/l/0000000000000001.log'));
  });

  test('a checkpoint is written as it was', async () => {
    const sim = new Sim(5);
    const position = { incarnation: 77 as Incarnation, sequence: 9 };
    const writer = await sim.settle(writeCheckpoint(sim.boot(), '/c', { shard: 4, position }));
    const random = new Seeded(9);
    // As test/checkpoint makes them, and reads them.
    for (let i = 0, count = random.int(0, 12); i < count; i++) {
      const length = random.chance(0.1) ? 20_000 : random.int(0, 500);
      const page = random.chance(0.5) ? random.bytes(length) : new Uint8Array(length).fill(i);
      await sim.settle(writer.page((i * 37) % 256, page));
    }
    await sim.settle(writer.commit());
    golden('checkpoint-1.bin', sim.disk.bytes('/c/0000000000000001.ckpt'));
  });
});

test('layout', () => {
  const directory = mkdtempSync(join(tmpdir(), 'silverback-layout-'));
  const layout = { regions: ['east', 'west'], nodeCount: 2 };
  writeLayout(directory, layout);
  writeFileSync(join(directory, 'layout.json'), golden('layout-1.json', readFileSync(join(directory, 'layout.json'))));
  expect(readLayout(directory)).toEqual(layout);
  rmSync(directory, { recursive: true });
});

describe('values of the meta store', () => {
  const placementOf = (shardCount: number): RegionPlacement => ({
    ...{ clusterId: 'c', shardCount, region: 'east', copies: 1, moves: 'on', cordons: { b: 'draining' } },
    nodes: { a: { zone: 'z', address: '127.0.0.1:1' }, b: { zone: 'y', address: '127.0.0.1:2' } },
    shards: Array.from({ length: shardCount }, (_, i) => [
      { node: i % 2 === 0 ? 'a' : 'b', state: i === 0 ? 'leaving' : 'active', epoch: 1 + (i % 3) },
      ...(i === 0 ? [{ node: 'b', state: 'joining', epoch: 4, fill: true } as const] : []),
    ]),
  });

  test('version 1', () => {
    const values = {
      cluster: encodeValue({ clusterId: 'c', shardCount: 2 }),
      'nodes/east/a': encodeValue({ name: 'a', region: 'east', zone: 'z', address: '127.0.0.1:1' }),
      'placement/east': writePlacement(placementOf(2)),
    };
    const read = JSON.parse(
      golden('meta-value-1.json', `${JSON.stringify(values, null, 2)}\n`).toString(),
    ) as typeof values;
    expect(decodeValue({ key: 'cluster', value: read.cluster })).toEqual({ clusterId: 'c', shardCount: 2 });
    expect(decodeValue({ key: 'n', value: read['nodes/east/a'] })).toMatchObject({ name: 'a', zone: 'z' });
    const entry = { key: 'placement/east', value: read['placement/east'], revision: 1, lease: undefined };
    expect(readPlacement(entry)).toEqual(placementOf(2));
  });

  test('version 2, packed', () => {
    // What deflate makes of it may differ from one build of zlib to another; what comes out of it does not.
    const made = writePlacement(placementOf(3_000));
    const value = golden(
      'meta-value-2.json',
      process.env['SILVERBACK_WRITE_GOLDEN'] === '1' ? made : undefined,
    ).toString();
    for (const one of [value, made]) {
      expect(JSON.parse(one)).toMatchObject({ format: 2 });
      const entry = { key: 'placement/east', value: one, revision: 1, lease: undefined };
      expect(readPlacement(entry)).toEqual(placementOf(3_000));
    }
  });

  test('those of a later version are refused', () => {
    const value = encodeValue({ shards: [] }, 3);
    expect(() => readPlacement({ key: 'placement/east', value, revision: 1, lease: undefined })).toThrow(
      'placement/east in the meta store: meta value of version 3, this program reads versions 1 to 2',
    );
  });
});

describe('on the wire', () => {
  const hello = helloOf({ ...SPOKEN, block: [1, 2] }, 'c', 'app');
  const bytes = (...values: number[]) => Buffer.from(values);
  const batch = {
    ...{ shard: 3, epoch: 7, definitions: bytes(1, 0, 0, 0, 2, 0, 0, 0, 0x01, 0x61), refs: bytes(1, 0, 0, 0) },
    ...{ counts: bytes(), timestamps: bytes(1, 2, 3, 4, 5, 6, 0, 0), values: bytes(8, 7, 6, 5, 4, 3, 2, 1) },
    ...{ exemplars: bytes(9), metadata: bytes(10) },
  };

  /** Holds a message against its golden bytes, and what these decode to against the message. */
  function hold<T>(
    name: string,
    method: Pick<Method<T, unknown>, 'requestSerialize' | 'requestDeserialize'>,
    message: T,
  ) {
    const read = golden(name, method.requestSerialize(message).toString('hex')).toString();
    expect(method.requestDeserialize(Buffer.from(read, 'hex'))).toEqual(message);
  }

  test('protocol: the greeting', () => {
    const greeting = { hello, batchId: 0, ack: 'LOCAL', peerWaitMs: 0, shards: [] } as const;
    hold('protocol-1.hex', shardsService.Write, greeting);
  });

  test('batch', () => {
    const write = { hello: null, batchId: 2 ** 40, ack: 'PEER', peerWaitMs: 500, shards: [batch] } as const;
    hold('batch-1.hex', shardsService.Write, write);
  });

  test('page: series, and the chunks of their samples', async () => {
    const sim = new Sim(6);
    const shard = await sim.settle(Shard.open(sim.boot(), '/s', { shard: 1, budget: new Budget(1 << 30) }));
    const samples = [0, 1, 2].map((i) => ({
      series: 's1',
      timestampMs: START_MS - 60_000 + i * 15_000,
      bits: bitsOf(i / 4),
    }));
    const outcome = await sim.settle(
      shard.attach().append(
        batchOf(samples, () => 1, new Set(['s1'])),
        'FSYNC',
      ),
    );
    expect(outcome).toMatchObject({ code: 'OK', rejections: [] });
    const collect = async () => {
      const pages: Uint8Array[] = [];
      const query = { fromMs: 0, toMs: START_MS, matchers: [], maxSeriesCount: 10, maxSampleCount: 100 };
      for await (const page of shard.select(query)) pages.push(page.slice());
      return Buffer.concat(pages);
    };
    const made = await sim.settle(collect());
    const page = new Page(Buffer.from(golden('page-1.hex', made.toString('hex')).toString(), 'hex'));
    expect(page.count).toBe(1);
    expect(page.labels(0)).toContain('s1');
    expect(page.sampleCount).toBe(3);
    await sim.settle(shard.close());
  });
});
