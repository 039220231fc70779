/**
 * A peer that stands still for longer than the log of the other region is kept: writes go on, the log stays within its bound and
 * lets go of what it must, loudly, and the peer becomes whole again by repair.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { Fleet, served } from '../../chaos/fleet.ts';
import { Client } from '../../client/index.ts';
import { eventually, freeHttpPort, query } from '../local/cluster.ts';
import { PoliteWriter, rowsOf, sumOf } from './support.ts';

const HOST = '127.0.0.1';
const MIB = 2 ** 20;
const RUN_SAMPLES = 50_000;
/** A run of them is written in one batch: its values do not compress, so it takes some 0.4 MiB of log. */
const MAX_RUNS = 1_000;

const closers: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** Two regions of one node each, with one shard. */
async function start(nodeArgs: readonly string[]) {
  const dataDir = await mkdtemp(join(tmpdir(), 'silverback-peer-'));
  closers.push(() => rm(dataDir, { recursive: true }));
  const port = await freeHttpPort(2);
  const grpc = `${HOST}:${port + 5}`;
  const counts = ['--nodes', '1', '--shards', '1', '--region', 'east', '--place-regions', 'east,west'];
  const fleet = new Fleet(dataDir, [
    {
      name: 'coordinator',
      kind: 'coordinator',
      args: ['--http-host', HOST, '--http-port', String(port), '--listen', grpc, ...counts],
    },
    ...['east', 'west'].map((region, i) => {
      const ports = [
        '--listen',
        `${HOST}:${port + 11 + i}`,
        '--http-host',
        HOST,
        '--http-port',
        String(port + 111 + i),
      ];
      return {
        name: `${region}-1`,
        kind: 'node' as const,
        args: ['--region', region, '--meta', grpc, ...ports, ...nodeArgs],
      };
    }),
  ]);
  closers.push(() => fleet.kill());
  fleet.start();
  const url = `http://${HOST}:${port}`;
  await served(url, fleet, 120_000);
  return { fleet, url, grpc, metrics: `http://${HOST}:${port + 111}/metrics` };
}

test('the log of a region lets go of what a frozen peer lacks, says so, and the peer heals', {
  timeout: 600_000,
}, async () => {
  const { fleet, url, grpc, metrics } = await start(['--log-budget', '16MiB', '--repair-interval', '5s']);
  const polite = new PoliteWriter(grpc, 'polite', 'east');
  closers.push(() => polite.client.close(0));
  await polite.tick();
  const bulk = new Client({ endpoints: [grpc], region: 'east', caller: 'bulk', onDrop: () => undefined });
  closers.push(() => bulk.close(0));
  fleet.freeze(['west-1']);
  polite.start();
  const lost = () => sumOf(metrics, 'silverback_replication_lost_records', { region: 'west', node: 'west-1' });
  const fromMs = Date.now() - 3_600_000;
  let runs = 0;
  while (runs < MAX_RUNS && ((await lost()) === 0 || runs < 300)) {
    const timestamps = Float64Array.from({ length: RUN_SAMPLES }, (_, i) => fromMs + i);
    const values = Float64Array.from({ length: RUN_SAMPLES }, () => Math.random());
    bulk.appendColumns(bulk.series({ __name__: 'bulk', run: String(runs++) }), timestamps, values);
    await bulk.flush();
  }
  expect(bulk.stats().droppedCount).toBe(0);
  // More was written than the log may take; it lets go of whole segments, after checkpoints, every ten seconds at most.
  await eventually(async () => {
    expect(await lost()).toBeGreaterThan(0);
    expect(await sumOf(metrics, 'silverback_shard_log_bytes')).toBeLessThan(96 * MIB);
  });
  // Metrics name the peer that lags, and the one whose records are gone; the process's log has it in words.
  const lags = await rowsOf(metrics, 'silverback_replication_lag_seconds');
  expect(lags.map(({ labels }) => labels)).toEqual([{ shard: '0', region: 'west', node: 'west-1' }]);
  expect(lags[0]?.value).toBeGreaterThan(0);
  await eventually(() => {
    expect(fleet.logOf('east-1')).toMatch(
      /the log let records \d+ up to \d+ go before west\/west-1 had them: that copy lacks them until it is repaired/,
    );
  });
  await polite.stop();
  expect(polite.failures).toEqual([]);
  expect(polite.tickCount).toBeGreaterThan(10);
  // What it says of itself while it lacks something, and what it has in the end.
  fleet.thaw(['west-1']);
  const bulkOf = (region: string) => query(url, 'sum(count_over_time(bulk[2h]))', Date.now(), region);
  await eventually(async () => {
    const answer = await fetch(
      `${url}/api/v1/query?${new URLSearchParams({ query: 'count(polite)', region: 'west' })}`,
    );
    expect(answer.headers.get('x-silverback-coverage')).toBe('complete');
    expect(await lost()).toBe(0);
    expect(Number((await bulkOf('west'))[0]?.value[1])).toBe(runs * RUN_SAMPLES);
    expect(await polite.storedCount(url, 'west')).toBe(polite.sentCount);
  }, 300_000);
});
