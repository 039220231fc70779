/** A node is drained while writers that look at old placements write: then it is safe to power off, and nothing is lost with it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { History, violations } from '../../chaos/history.ts';
import { METRIC, openClient } from '../../chaos/load.ts';
import { Processes } from '../../chaos/processes.ts';
import { readBack } from '../../chaos/readback.ts';
import type { Client } from '../../client/index.ts';
import { FollowedPlacement } from '../../client/placement.ts';
import type { NodeReport } from '../../coordinator/cluster/report.ts';
import type { Placement } from '../../core/placement.ts';
import { eventually, silverback as runSilverback } from '../local/cluster.ts';
import { writeSpan } from './cluster.ts';

const SERIES_COUNT = 60;
const LEASE = ['--lease-ttl', '3s'];
/** Much more than it takes, on a machine that stalls. */
const WAIT_MS = 300_000;

let processes: Processes;
let directory: string;
let history: History;
afterEach(async () => {
  vi.restoreAllMocks();
  await processes?.kill();
  if (directory !== undefined) await rm(directory, { recursive: true, force: true });
});

async function start(nodeCount: number): Promise<void> {
  directory = await mkdtemp(join(tmpdir(), 'silverback-drain-'));
  processes = await Processes.create({
    dataDir: directory,
    nodeCount,
    shardCount: 4,
    nodeArgs: LEASE,
    coordinatorArgs: [...LEASE, '--takeover-grace', '6s', '--enable-admin-api', '--copies', '2'],
  });
  processes.start();
  await processes.ready();
  const originMs = Math.floor(Date.now() / 7_200_000) * 7_200_000 - 14_400_000;
  history = new History({ seed: 1, seriesCount: SERIES_COUNT, originMs, stepMs: 1_000 });
}

const silverback = (...args: string[]) => runSilverback(processes.url, args);

/** From here on clients keep the placement that they have until a node refuses them. */
function keepStale(): void {
  const { current, refresh } = FollowedPlacement.prototype;
  const seen = new WeakMap<FollowedPlacement, Placement>();
  vi.spyOn(FollowedPlacement.prototype, 'current').mockImplementation(function (this: FollowedPlacement) {
    const placement = seen.get(this) ?? current.call(this);
    if (placement !== undefined) seen.set(this, placement);
    return placement;
  });
  vi.spyOn(FollowedPlacement.prototype, 'refresh').mockImplementation(async function (this: FollowedPlacement) {
    const placement = await refresh.call(this);
    seen.set(this, placement);
    return placement;
  });
}

/** Resolves when every sample is acknowledged. */
async function write(client: Client, fromTick: number, toTick: number): Promise<void> {
  await writeSpan(client, history, { fromSeries: 0, toSeries: SERIES_COUNT, fromTick, toTick });
}

async function nodeOf(name: string): Promise<NodeReport> {
  const response = await fetch(`${processes.url}/api/v1/cluster/nodes`);
  const { data } = (await response.json()) as { data: NodeReport[] };
  return data.find(({ node }) => node === name) as NodeReport;
}

test(
  'a node that is drained under writes is safe to power off',
  async () => {
    await start(3);
    keepStale();
    const client = openClient(processes.grpc, 'LOCAL', WAIT_MS);
    let isWriting = true;
    let ticks = 0;
    const writer = (async () => {
      for (; isWriting; ticks += 2) {
        await write(client, ticks, ticks + 2);
        await new Promise((wake) => setTimeout(wake, 50));
      }
    })();
    try {
      await eventually(() => expect(ticks).toBeGreaterThan(20), WAIT_MS);
      const planned = await silverback('nodes', 'drain', 'node-1', '--dry-run', '--output', 'json');
      expect(planned.code, planned.err).toBe(0);
      const { plan } = JSON.parse(planned.out);
      expect(plan.copies.length).toBeGreaterThan(0);
      expect(plan.moves.length).toBe(plan.copies.length);
      expect(await nodeOf('node-1')).toMatchObject({ cordon: null, copies: plan.copies.length });

      // Windows that are over are still written to, so the first proof may be that copies differ: it is asked for again.
      const drained = silverback('nodes', 'drain', 'node-1', '--yes');
      await eventually(async () => expect((await nodeOf('node-1')).copies).toBe(0), WAIT_MS);
      const before = ticks;
      await eventually(() => expect(ticks).toBeGreaterThan(before + 10), WAIT_MS);
      await drained;
    } finally {
      isWriting = false;
      await writer;
    }
    await eventually(async () => {
      const { code, out, err } = await silverback('nodes', 'drain', 'node-1', '--yes');
      expect(out).toBe('local/node-1 is safe to power off\n');
      expect(code, err).toBe(0);
    }, WAIT_MS);
    expect((await silverback('nodes')).out).toContain('up draining');

    await processes.kill(['node-1']);
    await rm(processes.directoryOf('node-1'), { recursive: true });
    await write(client, ticks, ticks + 10);
    await client.close();
    await eventually(async () => {
      const answer = await readBack(processes, history);
      expect(violations(answer.verdict)).toEqual([]);
      expect(answer.gaps).toEqual([]);
      expect(answer.counted).toBe(history.acknowledgedCount);
      expect(answer.state).toBe('complete');
    }, WAIT_MS);
    const parameters = { region: 'local', query: `count(${METRIC})`, time: String(history.timeMs(ticks) / 1_000) };
    const response = await fetch(`${processes.url}/api/v1/query?${new URLSearchParams(parameters)}`);
    const { data } = (await response.json()) as { data: { result: { value: [number, string] }[] } };
    expect(data.result.map(({ value }) => value[1])).toEqual([String(SERIES_COUNT)]);

    const refused = await silverback('nodes', 'drain', 'node-2', '--yes');
    expect(refused.code).toBe(1);
    expect(refused.err).toMatch(
      /^local\/node-2 cannot be drained: its copies need 2 other nodes without a cordon, and there is 1\n$/,
    );
  },
  4 * WAIT_MS,
);
