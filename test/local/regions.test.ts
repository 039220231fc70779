/** `npm start` with several regions, end to end, on real processes. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { Client } from '../../client/index.ts';
import { eventually, freeHttpPort, query, remoteWrite, Sandbox } from './cluster.ts';

const sandbox = new Sandbox();
afterEach(() => sandbox.close());

const SERIES = 32;
const REGIONS = ['east', 'west', 'north'];

function body(name: string, timeMs: number) {
  return Array.from({ length: SERIES }, (_, i) => ({
    labels: [
      ['__name__', name],
      ['i', String(i)],
    ] as const,
    samples: [[timeMs, i]] as const,
  }));
}

test('three regions have the same, whichever was written to and whichever was away', async () => {
  const dataDir = await sandbox.directory();
  const { run, url, httpPort } = await sandbox.cluster(
    dataDir,
    ...['--regions', '3', '--nodes', '1', '--shards', '4', '--no-self-monitoring'],
  );
  expect(run.output).toContain('3 regions (east, west, north), each with all data');
  const nowMs = Date.now();
  expect((await remoteWrite(url, body('pushed', nowMs))).status).toBe(204);
  for (const region of REGIONS) {
    const client = new Client({ endpoints: [`127.0.0.1:${httpPort + 5}`], region });
    await client.write(
      Array.from({ length: SERIES }, (_, i) => ({
        labels: { __name__: `from_${region}`, i: String(i) },
        timestampMs: nowMs,
        value: i,
      })),
    );
    await client.close();
  }
  const names = ['pushed', ...REGIONS.map((region) => `from_${region}`)];
  const counts = (from: string, region: string, wanted: readonly string[]) =>
    Promise.all(wanted.map(async (name) => (await query(from, `count(${name})`, nowMs, region))[0]?.value[1]));
  for (const region of REGIONS) {
    await eventually(async () => expect(await counts(url, region, names)).toEqual(names.map(() => String(SERIES))));
  }

  // What is written while a region is away is there once it is back.
  process.kill(run.pidOf('west-1'), 'SIGSTOP');
  expect((await remoteWrite(url, body('meanwhile', nowMs))).status).toBe(204);
  await eventually(async () => expect(await counts(url, 'north', ['meanwhile'])).toEqual([String(SERIES)]));
  process.kill(run.pidOf('west-1'), 'SIGKILL');
  await run.said(/west-1 runs again/);
  for (const region of REGIONS) {
    await eventually(async () => {
      expect(await counts(url, region, ['meanwhile', ...names])).toEqual([...names, ''].map(() => String(SERIES)));
    });
  }
  await run.interrupt();

  // The directory knows its regions.
  const again = await sandbox.cluster(dataDir, '--no-self-monitoring');
  expect(again.run.output).toContain('3 regions (east, west, north), each with all data');
  expect(await counts(again.url, 'north', ['meanwhile'])).toEqual([String(SERIES)]);
  await again.run.interrupt();
  const other = sandbox.start('--data-dir', dataDir, '--http-port', String(await freeHttpPort()), '--regions', '2');
  expect(await other.exited).toBe(1);
  expect(other.lines).toEqual([
    `--regions 2: ${dataDir} holds a cluster of 3 regions (east, west, north), which cannot change: leave --regions out, or give another --data-dir`,
  ]);
});

test('a directory of one region goes on as one', async () => {
  const dataDir = await sandbox.directory();
  mkdirSync(join(dataDir, 'node-1'));
  const { run, url } = await sandbox.cluster(dataDir, '--no-self-monitoring');
  expect(run.output).toMatch(/is ready \(.* s\): one region\./);
  expect(run.pidOf('node-1')).toBeGreaterThan(0);
  expect((await remoteWrite(url, body('m', Date.now()))).status).toBe(204);
  expect(run.output).not.toContain('east');
  const other = sandbox.start('--data-dir', dataDir, '--http-port', String(await freeHttpPort()), '--regions', '2');
  expect(await other.exited).toBe(1);
  expect(other.lines).toEqual([expect.stringContaining('holds a cluster of one region, which cannot change')]);
});
