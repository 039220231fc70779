/** What a later program wrote is refused by file, name and version, and stays as it lies. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readLayout } from '../../coordinator/local/layout.ts';
import { openEmbeddedMeta } from '../../core/meta/embedded.ts';
import { readIdentity } from '../../node/directory.ts';
import { Origins } from '../../node/replication/origins.ts';
import { Budget } from '../../node/shard/budget.ts';
import { Log } from '../../node/shard/log.ts';
import { Shard } from '../../node/shard/shard.ts';
import { readTenure } from '../../node/tenure.ts';
import { batchOf, bitsOf } from '../shard/model.ts';
import { Sim } from '../sim/sim.ts';

const START_MS = Date.UTC(2026, 0, 1);
const HOUR = 3_600_000;
const OPTIONS = { shard: 1, sealDelayMs: 0, sealIdleMs: 0, checkpointIntervalMs: 1 };

function open(sim: Sim): Promise<Shard> {
  return sim.settle(Shard.open(sim.boot(), '/d', { ...OPTIONS, budget: new Budget(1 << 30) }));
}

/** A shard with every kind of file, closed in order. */
async function filled(): Promise<Sim> {
  const sim = new Sim(1);
  const shard = await open(sim);
  const sample = (series: string, timestampMs: number) => ({ series, timestampMs, bits: bitsOf(1) });
  const samples = [sample('s0', START_MS - 4 * HOUR), sample('s1', START_MS)];
  const refs = (series: string) => Number(series.slice(1));
  const outcome = await sim.settle(shard.attach().append(batchOf(samples, refs, new Set(['s0', 's1'])), 'FSYNC'));
  expect(outcome).toMatchObject({ code: 'OK' });
  shard.cursors.open({ region: 'r', node: 'n' }, true);
  for (let i = 0; i < 4; i++) await sim.settle(shard.tick());
  await sim.settle(shard.close());
  return sim;
}

function everything(sim: Sim): Map<string, string> {
  return new Map(sim.disk.paths().map((path) => [path, Buffer.from(sim.disk.bytes(path)).toString('hex')]));
}

describe('a shard does not open', () => {
  test.each([
    ['log segment', /\/log\/\w+\.log$/, 316],
    ['checkpoint', /\.ckpt$/, 60],
    ['block', /\.block$/, 44],
    ['cursors', /\/cursors$/, undefined],
  ])('on a %s of the next version, and leaves all as it is', async (format, pattern, crcAt) => {
    const sim = await filled();
    const path = sim.disk.paths().findLast((one) => pattern.test(one));
    if (path === undefined) throw new Error(`no ${format} among ${sim.disk.paths().join(', ')}`);
    const bytes = Buffer.from(sim.disk.bytes(path));
    bytes[7] = 2;
    // Of another layout altogether: its checksum lies elsewhere.
    if (crcAt !== undefined) bytes.fill(0xee, 8, crcAt + 4);
    sim.disk.replace(path, bytes);
    const before = everything(sim);
    await expect(open(sim)).rejects.toMatchObject({
      code: 'VERSION',
      message: `${path}: ${format} of version 2, this program reads version 1`,
    });
    // A log that was opened before may have begun a new segment.
    const after = everything(sim);
    for (const [file, hex] of before) expect(after.get(file), file).toBe(hex);
  });

  test.each([
    ['a record of kind 9', 9, Buffer.from('x')],
    ['log record of version 2', 2, Buffer.from([2, 0, 0, 0])],
    ['list of metadata of version 2', 4, Buffer.from([2, 0, 0, 0, 0, 0, 0, 0])],
    ['list of exemplars of version 2', 5, Buffer.from([2, 0, 0, 0, 0, 0, 0, 0])],
    ['list of deletions of version 2', 3, Buffer.from([2, 0, 0, 0, 0, 0, 0, 0])],
  ])('on %s in its log', async (what, kind, payload) => {
    const sim = await filled();
    const { log } = await sim.settle(Log.open(sim.boot(), '/d/log', { shard: 1 }));
    log.append(kind as never, 0, payload);
    await sim.settle(log.close());
    const logs = () =>
      [...everything(sim)].filter(([path]) => path.endsWith('.log')).map(([path, hex]) => [path, hex.length]);
    const before = logs();
    await expect(open(sim)).rejects.toMatchObject({
      code: 'VERSION',
      message: expect.stringMatching(new RegExp(`^/d/log/\\w+\\.log: record \\d+: ${what}`)),
    });
    // Nothing of it was let go; that the log was opened may leave a mark at its end.
    for (const [path, length] of before) {
      expect(new Map(logs() as [string, number][]).get(path as string)).toBeGreaterThanOrEqual(length as number);
    }
  });

  test('but a version that is wrong for damage only is damage', async () => {
    const sim = await filled();
    const path = sim.disk.paths().find((one) => one.endsWith('.block'))!;
    const bytes = Buffer.from(sim.disk.bytes(path));
    bytes[7] = 0x11;
    sim.disk.replace(path, bytes);
    const shard = await open(sim);
    expect(shard.gaps({ fromMs: 0, toMs: START_MS })).not.toEqual([]);
  });
});

test('files beside the shards, and those of the meta store', async () => {
  const sim = new Sim(2);
  const env = sim.boot();
  const put = (path: string, magic: string, rest = '{}') =>
    sim.disk.replace(path, Buffer.from(`${magic}\x02${rest}`, 'latin1'));
  const said = (path: string, format: string) => ({
    code: 'VERSION',
    message: `${path}: ${format} of version 2, this program reads version 1`,
  });
  put('/n/identity', 'SBIDENT');
  await expect(sim.settle(readIdentity(env.disk, '/n'))).rejects.toMatchObject(said('/n/identity', 'identity'));
  put('/n/origins', 'SBORIGN');
  await expect(sim.settle(Origins.load(env, '/n'))).rejects.toMatchObject(said('/n/origins', 'origins'));
  put('/n/tenure', 'SILVTEN');
  await expect(sim.settle(readTenure(env.disk, '/n'))).rejects.toMatchObject(said('/n/tenure', 'tenure'));
  put('/m/log-0', 'SILVMLG');
  await expect(sim.settle(openEmbeddedMeta(env, '/m'))).rejects.toMatchObject(said('/m/log-0', 'meta log'));
  put('/o/snapshot-1', 'SILVMSN');
  await expect(sim.settle(openEmbeddedMeta(env, '/o'))).rejects.toMatchObject(said('/o/snapshot-1', 'meta snapshot'));

  const directory = mkdtempSync(join(tmpdir(), 'silverback-layout-'));
  const path = join(directory, 'layout.json');
  writeFileSync(path, '{"version":2,"places":{}}');
  expect(() => readLayout(directory)).toThrow(`${path}: layout of version 2, this program reads version 1`);
  rmSync(directory, { recursive: true });
});
