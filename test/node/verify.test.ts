/** A data directory that a simulated day made: sound as it is, and no byte of it can change unnoticed. */
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { nodeEnv } from '../../core/env/node.ts';
import { lockDirectory } from '../../core/lock.ts';
import { claimDirectory } from '../../node/directory.ts';
import { Budget } from '../../node/shard/budget.ts';
import { Shard } from '../../node/shard/shard.ts';
import { type Finding, type Totals, verifyDirectory } from '../../node/verify/verify.ts';
import { batchOf, bitsOf, type Sample } from '../shard/model.ts';
import { Sim } from '../sim/sim.ts';

const MINUTE = 60_000;
const WINDOW = 120 * MINUTE;
const START = Date.UTC(2026, 0, 1);
const NODE = '/node-1';
const SHARD = `${NODE}/shards/7`;

const directories: string[] = [];
afterEach(async () => {
  for (const directory of directories.splice(0)) await rm(directory, { recursive: true });
});

/** The data of a node with one shard, with a block, checkpoints and a log. */
async function dataDirectory(): Promise<string> {
  const sim = new Sim(1);
  const env = sim.boot();
  const claim = await sim.settle(claimDirectory(env, NODE));
  await sim.settle(claim.record({ clusterId: 'c', shardCount: 8 }));
  const options = { shard: 7, budget: new Budget(1 << 30), maxSampleAgeMs: Number.POSITIVE_INFINITY };
  const shard = await sim.settle(Shard.open(env, SHARD, options));
  const sender = shard.attach();
  const names = Array.from({ length: 30 }, (_, i) => `s${i}`);
  const append = async (): Promise<void> => {
    const timestampMs = START + Math.floor(sim.nowMs);
    const samples = names.map((series, i): Sample => ({ series, timestampMs, bits: bitsOf(i) }));
    const batch = batchOf(samples, (name) => Number(name.slice(1)), new Set(names));
    expect((await sim.settle(sender.append(batch, 'FSYNC'))).code).toBe('OK');
  };
  for (let i = 0; i < 20; i++) {
    await append();
    await sim.advance(15_000);
  }
  await sim.advance(WINDOW + 20 * MINUTE);
  for (let i = 0; i < 100 && shard.stats().openWindowCount > 0; i++) {
    await sim.settle(shard.tick());
    await sim.advance(3 * MINUTE);
  }
  expect(shard.stats().blockCount).toBe(1);
  await append();
  await sim.settle(shard.close());
  await sim.settle(claim.release());

  const root = await mkdtemp(join(tmpdir(), 'silverback-verify-'));
  directories.push(root);
  for (const folder of [NODE, SHARD, `${SHARD}/log`, `${SHARD}/checkpoints`, `${SHARD}/blocks`]) {
    await mkdir(root + folder, { recursive: true });
    for (const name of await sim.settle(env.disk.list(folder))) {
      await writeFile(`${root}${folder}/${name}`, await sim.settle(env.disk.readFile(`${folder}/${name}`)));
    }
  }
  return root;
}

async function verify(directory: string): Promise<{ totals: Totals; findings: Finding[] }> {
  const findings: Finding[] = [];
  const found = (finding: Finding) => void findings.push(finding);
  const totals = await verifyDirectory(nodeEnv, directory, { shard: undefined, found, progress: () => undefined });
  return { totals, findings };
}

test('what is sound, and any byte that changes', async () => {
  const root = await dataDirectory();
  const { totals, findings } = await verify(root);
  expect(findings).toEqual([]);
  expect(totals).toMatchObject({ nodes: 1, shards: 1, blocks: 1, blockSamples: 600 });
  expect(totals.records).toBeGreaterThan(0);
  for (const [folder, ending] of [
    ['log', '.log'],
    ['checkpoints', '.ckpt'],
    ['blocks', '.block'],
  ] as const) {
    const names = (await readdir(`${root}${SHARD}/${folder}`)).filter((name) => name.endsWith(ending));
    expect(names.length, folder).toBeGreaterThan(0);
    for (const name of names) {
      const path = `${root}${SHARD}/${folder}/${name}`;
      const bytes = await readFile(path);
      const step = Math.max(1, Math.floor(bytes.length / 20));
      for (let at = 0; at < bytes.length; at += step) {
        bytes[at] = (bytes[at] as number) ^ 4;
        await writeFile(path, bytes);
        bytes[at] = (bytes[at] as number) ^ 4;
        const damages = (await verify(root + NODE)).findings.filter(({ severity }) => severity === 'damage');
        expect(
          damages.map(({ file }) => file),
          `${path}: ${at}`,
        ).toContain(path);
      }
      await writeFile(path, bytes);
    }
  }
  expect((await verify(root)).findings).toEqual([]);
});

test('an unfinished write at the end of the log is none, one before its end is damage', async () => {
  const root = await dataDirectory();
  const names = (await readdir(`${root}${SHARD}/log`)).filter((name) => name.endsWith('.log')).sort();
  const last = `${root}${SHARD}/log/${names.at(-1)}`;
  const bytes = await readFile(last);
  await writeFile(last, Buffer.concat([bytes, bytes.subarray(320, 350)]));
  expect((await verify(root)).findings).toEqual([
    { severity: 'note', file: last, message: `an unfinished write at its end: 30 at offset ${bytes.length}` },
  ]);
  await writeFile(last, Buffer.concat([bytes.subarray(0, 330), bytes.subarray(350)]));
  expect((await verify(root)).findings[0]).toMatchObject({ severity: 'damage', file: last });
});

test('a block of another window, an identity that is gone', async () => {
  const root = await dataDirectory();
  const blocks = `${root}${SHARD}/blocks`;
  const name = (await readdir(blocks)).find((one) => one.endsWith('.block')) as string;
  const other = `${blocks}/${Number(name.split('-')[0]) + WINDOW}-1.block`;
  await rename(`${blocks}/${name}`, other);
  await rm(`${root}${NODE}/identity`);
  const { findings } = await verify(root);
  expect(findings).toEqual([
    { severity: 'damage', file: `${root}${NODE}/identity`, message: 'there is none' },
    { severity: 'damage', file: other, message: expect.stringContaining('not what its place says') },
  ]);
});

test('what is no data directory, and one that is in use', async () => {
  const root = await dataDirectory();
  await expect(verify(root + SHARD)).rejects.toMatchObject({
    code: 'NOT_FOUND',
    message: `${root}${SHARD} is no node's data directory, and holds none`,
  });
  await expect(verify(`${root}/nothing`)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  // This process's own lock would be taken for a stale one.
  const lock = await lockDirectory(nodeEnv, root + NODE);
  const text = await readFile(`${root}${NODE}/lock`, 'utf8');
  const parent = await readFile(`/proc/${process.ppid}/stat`, 'utf8');
  const start = parent.slice(parent.lastIndexOf(')') + 2).split(' ')[19];
  expect(text).toMatch(/^\d+ /);
  await writeFile(`${root}${NODE}/lock`, `${process.ppid} ${start}\n`);
  await expect(verify(root)).rejects.toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining(`is in use by process ${process.ppid}: stop it first`),
  });
  await lock.release();
});
