/** A node's disk fills up: writes stop with an error that names it, reads go on, nothing acknowledged is lost, space mends it. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { type History, violations } from '../../chaos/history.ts';
import { openClient, remoteSeries } from '../../chaos/load.ts';
import { eventually, remoteWrite } from '../local/cluster.ts';
import { CrashCluster } from './cluster.ts';

const DISK_BYTES = 4 << 20;
const BALLAST_BYTES = 3 << 20;
/** Series written at a time, and samples of each. */
const PIECE = { series: 64, ticks: 100 };

const mayMount = process.getuid?.() === 0 && process.platform === 'linux';
if (!mayMount) {
  process.stdout.write('SKIPPED: test/crash/disk: a full disk under a real cluster (mounting a tmpfs takes root)\n');
}

describe.runIf(mayMount)('a full disk', () => {
  let mounted = '';
  let cluster: CrashCluster | undefined;

  afterAll(async () => {
    await cluster?.processes.kill();
    if (mounted !== '') spawnSync('umount', ['-l', mounted]);
    await cluster?.close();
  });

  async function send(history: History, fromTick: number): Promise<Response> {
    const span = { fromSeries: 0, toSeries: PIECE.series, fromTick, toTick: fromTick + PIECE.ticks };
    history.send(span);
    const response = await remoteWrite(cluster!.processes.url, remoteSeries(history, span));
    if (response.ok) history.acknowledge(span);
    return response;
  }

  async function expectAll(): Promise<void> {
    const { verdict, gaps, state } = await cluster!.read();
    expect(violations(verdict)).toEqual([]);
    expect({ gaps, state }).toEqual({ gaps: [], state: 'complete' });
  }

  test('stops writes, not reads; after a restart too; and writes go on once there is space', async () => {
    let ballast = '';
    cluster = await CrashCluster.start({
      prepare(directory) {
        const disk = join(directory, 'node-1');
        mkdirSync(disk);
        const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'tmpfs', disk]);
        expect(mount.status, String(mount.stderr)).toBe(0);
        mounted = disk;
        ballast = join(disk, 'ballast');
        writeFileSync(ballast, Buffer.alloc(BALLAST_BYTES));
      },
    });
    const { processes, history } = cluster;
    const pid = processes.pidOf('node-1');
    const words = new RegExp(
      `no space for the log in ${mounted}/shards/\\d+/log: ENOSPC.*; writes go on when there is`,
    );

    // Remote write fills it, and is told to come again.
    let tick = 0;
    let refused: Response | undefined;
    for (; refused === undefined && tick < 14_000; tick += PIECE.ticks) {
      const response = await send(history, tick);
      if (!response.ok) refused = response;
    }
    expect(statfsSync(mounted).bavail * statfsSync(mounted).bsize).toBeLessThan(64 << 10);
    expect([429, 503]).toContain(refused?.status);
    expect(Number(refused?.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await refused?.text()).toMatch(words);

    // The SDK says the same of what it cannot get rid of.
    const impatient = openClient(processes.grpc, 'LOCAL', 2_000);
    const samples = Array.from({ length: PIECE.series }, (_, series) => ({
      labels: { __name__: 'other', series: String(series) },
      timestampMs: Date.now(),
      value: 1,
    }));
    await expect(impatient.write(samples)).rejects.toMatchObject({ message: expect.stringMatching(words) });
    await expectAll();
    expect(processes.pidOf('node-1')).toBe(pid);

    // It comes back from kill -9 with a full disk: reads go on, writes do not.
    await processes.kill(['node-1']);
    await cluster.restart();
    await expectAll();
    await expect(impatient.write(samples)).rejects.toMatchObject({ message: expect.stringMatching(words) });
    await impatient.close(0);

    // Space, and no restart.
    const restarted = processes.pidOf('node-1');
    rmSync(ballast);
    await eventually(async () => expect((await send(history, tick)).status).toBe(204), 60_000);
    expect(processes.pidOf('node-1')).toBe(restarted);
    await cluster.ticks(tick + PIECE.ticks, tick + 2 * PIECE.ticks);
    await expectAll();
    await processes.kill();
    await cluster.restart();
    await expectAll();
  });
});
