/** A node is drained while writers that look at old placements write: then it is safe to power off, and nothing is lost with it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { History } from '../../chaos/history.ts';
import { Processes } from '../../chaos/processes.ts';
import { FollowedPlacement } from '../../client/placement.ts';
import type { NodeReport } from '../../coordinator/cluster/report.ts';
import type { Placement } from '../../core/placement.ts';
import { eventually, silverback as runSilverback } from '../local/cluster.ts';
import { FRONTIER_BOUND_SECONDS, Witness } from './witness.ts';

const SERIES_COUNT = 60;
const SHARD_COUNT = 4;
/** Longer than a machine stalls: what is gone for a while is taken over, and its past is missing. */
const LEASE = ['--lease-ttl', '15s'];
/** Much more than it takes, on a machine that stalls. */
const WAIT_MS = 300_000;

let processes: Processes;
let directory: string;
let history: History;
let witness: Witness;
afterEach(async () => {
  vi.restoreAllMocks();
  witness?.close();
  await processes?.kill();
  if (directory !== undefined) await rm(directory, { recursive: true, force: true });
});

async function start(nodeCount: number): Promise<void> {
  directory = await mkdtemp(join(tmpdir(), 'silverback-drain-'));
  processes = await Processes.create({
    dataDir: directory,
    nodeCount,
    shardCount: SHARD_COUNT,
    nodeArgs: [...LEASE, '--frontier-bound', `${FRONTIER_BOUND_SECONDS}s`],
    coordinatorArgs: [...LEASE, '--takeover-grace', '5s', '--enable-admin-api', '--copies', '2'],
  });
  processes.start();
  await processes.ready();
  // At the present: windows that are over are left alone, as they are in life, or their copies always differ a little.
  history = new History({ seed: 1, seriesCount: SERIES_COUNT, originMs: Date.now() - 60_000, stepMs: 1 });
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

async function nodeOf(name: string): Promise<NodeReport> {
  const response = await fetch(`${processes.url}/api/v1/cluster/nodes`);
  const { data } = (await response.json()) as { data: NodeReport[] };
  return data.find(({ node }) => node === name) as NodeReport;
}

test(
  'a node that is drained under writes is safe to power off, and answers stay complete without it',
  async () => {
    await start(3);
    keepStale();
    witness = new Witness({ processes, history, shardCount: SHARD_COUNT });
    witness.start();
    const goesOn = async () => {
      const [ticks, { bits, counts }] = [Math.min(...witness.ticks), { ...witness.answered }];
      await eventually(() => {
        expect(Math.min(...witness.ticks)).toBeGreaterThan(ticks + 10);
        expect(witness.answered.bits).toBeGreaterThan(bits + 2);
        expect(witness.answered.counts).toBeGreaterThan(counts + 2);
      }, WAIT_MS);
    };
    await goesOn();
    const planned = await silverback('nodes', 'drain', 'node-1', '--dry-run', '--output', 'json');
    expect(planned.code, planned.err).toBe(0);
    const { plan } = JSON.parse(planned.out);
    expect(plan.copies.length).toBeGreaterThan(0);
    expect(plan.moves.length).toBe(plan.copies.length);
    expect(await nodeOf('node-1')).toMatchObject({ cordon: null, copies: plan.copies.length });

    // A window that ends meanwhile is not the same everywhere at once, and then that is said: it is asked for again.
    await eventually(async () => {
      const { code, out, err } = await silverback('nodes', 'drain', 'node-1', '--yes');
      expect(out).toBe('local/node-1 is safe to power off\n');
      expect(code, err).toBe(0);
    }, WAIT_MS);
    expect(await nodeOf('node-1')).toMatchObject({ copies: 0, serving: 0 });
    expect((await silverback('nodes')).out).toContain('up draining');

    await processes.kill(['node-1']);
    await rm(processes.directoryOf('node-1'), { recursive: true });
    await goesOn();
    await witness.stop();
    expect(await witness.verdict()).toEqual([]);

    const refused = await silverback('nodes', 'drain', 'node-2', '--yes');
    expect(refused.code).toBe(1);
    expect(refused.err).toMatch(
      /^local\/node-2 cannot be drained: its copies need 2 other nodes without a cordon, and there is 1\n$/,
    );
  },
  4 * WAIT_MS,
);
