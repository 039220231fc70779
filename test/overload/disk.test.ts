/** A node whose disk is slow: what waits for it is bounded and refused past that, nothing acknowledged is lost, metrics name it. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { Fleet, served } from '../../chaos/fleet.ts';
import { eventually, freeHttpPort } from '../local/cluster.ts';
import { flood } from './flood.ts';
import { addressOf, PoliteWriter, residentBytes, sumOf } from './support.ts';

const HOST = '127.0.0.1';
const MIB = 2 ** 20;
const SLOW_DISK = resolve(import.meta.dirname, 'slow-disk.cjs');

const closers: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** A node of one shard, whose disk `slow` makes slow from now on. */
async function start() {
  const dataDir = await mkdtemp(join(tmpdir(), 'silverback-slow-'));
  closers.push(() => rm(dataDir, { recursive: true }));
  const slowFile = join(dataDir, 'slow.json');
  const port = await freeHttpPort(1);
  const grpc = `${HOST}:${port + 5}`;
  const shared = ['--region', 'local', '--http-host', HOST];
  const fleet = new Fleet(dataDir, [
    {
      name: 'coordinator',
      kind: 'coordinator',
      args: [...shared, '--http-port', String(port), '--listen', grpc, '--nodes', '1', '--shards', '1'],
    },
    {
      name: 'node-1',
      kind: 'node',
      args: [...shared, '--http-port', String(port + 111), '--listen', `${HOST}:${port + 11}`, '--meta', grpc],
      environment: { NODE_OPTIONS: `--require ${SLOW_DISK}`, SLOW_DISK: slowFile },
    },
  ]);
  closers.push(() => fleet.kill());
  fleet.start();
  const url = `http://${HOST}:${port}`;
  await served(url, fleet, 120_000);
  const slow = (delays: { writeMs?: number; syncMs?: number }) => writeFile(slowFile, JSON.stringify(delays));
  return { fleet, url, grpc, slow, metrics: `http://${HOST}:${port + 111}/metrics` };
}

// Of the 8 MiB that may wait for a write the flood has half, less the request that finds no more room.
test.each([
  ['writes', { writeMs: 400 }, 'log_pending_bytes', 2 * MIB, 'disk_write'],
  ['fsyncs', { syncMs: 2_000 }, 'log_unsynced_bytes', 2 * MIB, 'disk_sync'],
] as const)('slow %s', { timeout: 400_000 }, async (_, delays, waiting, enough, operation) => {
  const { fleet, url, grpc, slow, metrics } = await start();
  const polite = new PoliteWriter(grpc);
  closers.push(() => polite.client.close(0));
  await polite.tick();
  const emptyBytes = residentBytes(fleet.pidOf('node-1'));
  await slow(delays);
  polite.start();
  const { stop, kill } = flood(addressOf(metrics), 4, 60_000);
  closers.push(kill);
  let mostWaiting = 0;
  let mostResident = 0;
  await eventually(async () => {
    mostWaiting = Math.max(mostWaiting, await sumOf(metrics, `silverback_shard_${waiting}`));
    mostResident = Math.max(mostResident, residentBytes(fleet.pidOf('node-1')));
    const refused = await sumOf(metrics, 'silverback_node_caller_refused_samples_total', {
      caller: 'flooder',
      code: 'RESOURCE_EXHAUSTED',
    });
    expect(refused).toBeGreaterThan(100_000);
    expect(mostWaiting).toBeGreaterThan(enough);
    expect(polite.tickCount).toBeGreaterThan(5);
  }, 300_000);
  const told = await stop();
  expect(told.messages.join('\n')).toContain("N bytes wait for the log's disk");
  expect(told.retryAfterMs).toBeGreaterThan(0);
  // A request that was admitted below the bound may pass it.
  expect(mostWaiting).toBeLessThan(80 * MIB);
  expect(mostResident - emptyBytes).toBeLessThan(512 * MIB);
  // It is the disk: what it took on average, at least.
  const took = `silverback_node_${operation}_seconds`;
  const slowMs = Object.values(delays)[0] as number;
  await eventually(async () => {
    const meanMs = ((await sumOf(metrics, `${took}_sum`)) / (await sumOf(metrics, `${took}_count`))) * 1_000;
    expect(meanMs).toBeGreaterThan(slowMs / 20);
  });
  await slow({});
  await polite.stop();
  expect(polite.failures).toEqual([]);
  expect(await polite.storedCount(url)).toBe(polite.sentCount);
  await eventually(async () => expect(await sumOf(metrics, `silverback_shard_${waiting}`)).toBe(0));
});
