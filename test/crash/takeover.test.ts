/** A node of a region is killed: the other takes its shards' writes, says what it lacks, and gives everything back. */
import { existsSync, readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { History } from '../../chaos/history.ts';
import { openClient } from '../../chaos/load.ts';
import { Processes } from '../../chaos/processes.ts';
import { readBack } from '../../chaos/readback.ts';
import { FollowedPlacement } from '../../client/placement.ts';
import { nodeEnv } from '../../core/env/node.ts';
import type { AckLevel } from '../../core/protocol.ts';
import { eventually } from '../local/cluster.ts';
import { readsBackWhole, writeSpan } from './cluster.ts';

const SERIES_COUNT = 60;
const SHARD_COUNT = 4;
const LEASE = ['--lease-ttl', '3s'];
/** Much more than it takes, on a machine that stalls. */
const WAIT_MS = 150_000;

let processes: Processes;
let directory: string;
let placement: FollowedPlacement;
let history: History;
afterEach(async () => {
  placement?.close();
  await processes?.kill();
  if (directory !== undefined) await rm(directory, { recursive: true, force: true });
});

/** With `--nodes` fewer than there are, the others are to be started later. */
async function start(nodeCount: number, ...coordinatorArgs: string[]): Promise<void> {
  directory = await mkdtemp(join(tmpdir(), 'silverback-takeover-'));
  processes = await Processes.create({
    dataDir: directory,
    nodeCount,
    shardCount: SHARD_COUNT,
    nodeArgs: LEASE,
    coordinatorArgs: [...LEASE, '--takeover-grace', '6s', '--enable-admin-api', ...coordinatorArgs],
  });
  const first = coordinatorArgs[0] === '--nodes' ? Number(coordinatorArgs[1]) : nodeCount;
  processes.start(processes.names.slice(0, 1 + first));
  await processes.ready();
  placement = new FollowedPlacement({ env: nodeEnv, endpoints: [processes.grpc], caller: 'test' });
  const originMs = Math.floor(Date.now() / 7_200_000) * 7_200_000 - 7_200_000;
  history = new History({ seed: 1, seriesCount: SERIES_COUNT, originMs, stepMs: 1_000 });
}

/** Resolves when every sample is acknowledged. */
async function write(fromTick: number, toTick: number, ack: AckLevel = 'LOCAL'): Promise<void> {
  const client = openClient(processes.grpc, ack, WAIT_MS);
  await writeSpan(client, history, { fromSeries: 0, toSeries: SERIES_COUNT, fromTick, toTick });
  await client.close();
}

/** `node:state` of each copy of each shard. */
async function places(): Promise<string[]> {
  const { copies } = await placement.refresh();
  return copies.map((own) => own.map(({ node, state }) => `${node}:${state}`).join(' '));
}

/** The same, once every copy is active. */
function settled(): Promise<string[]> {
  return eventually(async () => {
    const found = await places();
    for (const text of found) expect(text).not.toMatch(/joining|leaving/);
    return found;
  }, WAIT_MS);
}

const everything = () => readsBackWhole(processes, history, WAIT_MS);

describe('with one copy of every shard', () => {
  test('a node that is killed is stood in for, and gets everything when it returns', async () => {
    await start(2);
    const before = await settled();
    await write(0, 50);
    await processes.kill(['node-1']);
    // Acknowledged: the other node has taken the shards over.
    await write(50, 100);
    const stoodIn = before.map((text) => text.replace('node-1:active', 'node-1:leaving node-2:joining'));
    await eventually(async () => expect(await places()).toEqual(stoodIn), WAIT_MS);
    const answer = await readBack(processes, history);
    expect(answer.verdict.wrong).toEqual([]);
    expect(answer.state).toBe('missing');
    const reasons = answer.gaps.map(({ shard, state, reason }) => `${shard} ${state}: ${reason}`);
    for (const [shard, text] of stoodIn.entries()) {
      if (!text.includes('joining')) continue;
      expect(reasons).toContain(
        `${shard} missing: node node-2 took shard ${shard} over and does not hold its past yet`,
      );
    }

    processes.start(['node-1']);
    await eventually(async () => expect(await places()).toEqual(before), WAIT_MS);
    await everything();
    // What stood in is gone from the other node's disk.
    for (const [shard, text] of before.entries()) {
      await eventually(() => {
        const own = join(processes.directoryOf('node-2'), 'shards', String(shard));
        expect(existsSync(own)).toBe(text.includes('node-2'));
      });
    }
    await write(100, 110);
    await everything();
  });
});

test('copies move to a node that joins', async () => {
  await start(3, '--nodes', '2');
  const sources = await settled();
  for (const text of sources) expect(text).not.toContain('node-3');
  await write(0, 50);
  processes.start();
  const moved = await eventually(async () => {
    const found = await settled();
    expect(found.filter((text) => text === 'node-3:active')).toHaveLength(1);
    return found;
  }, WAIT_MS);
  await everything();
  await write(50, 60);
  await everything();
  // A node's directory holds its own shards, and no others.
  for (const node of ['node-1', 'node-2', 'node-3']) {
    const own = [...moved.keys()].filter((shard) => moved[shard]?.includes(node)).map(String);
    await eventually(() => expect(readdirSync(join(processes.directoryOf(node), 'shards')).sort()).toEqual(own));
  }
});

describe('with two copies of every shard', () => {
  /** Waits until there are two active copies of every shard besides what the node may still owe. */
  const replaced = (node: string) =>
    eventually(async () => {
      for (const text of await places()) {
        expect(text.replace(`${node}:leaving`, '').trim()).toMatch(/^\S+:active\s+\S+:active$/);
        expect(text).not.toContain(`${node}:active`);
      }
    }, WAIT_MS);

  test('a third node is filled in place of one that is gone; that one delivers when it returns, and is released', async () => {
    await start(3, '--copies', '2');
    await settled();
    await write(0, 50);
    await processes.kill(['node-1']);
    // What it did not deliver is missed until it returns, and nobody forgets that.
    await write(50, 100);
    await replaced('node-1');
    expect((await places()).join()).toContain('node-1:leaving');
    await write(100, 110);
    // Others trust what it said last for half a minute.
    await eventually(async () => {
      const answer = await readBack(processes, history);
      expect(answer.verdict.wrong).toEqual([]);
      expect(answer.state).not.toBe('complete');
    }, WAIT_MS);

    processes.start(['node-1']);
    // Released for good; then copies move to it, as to any node that joins.
    const released = /"shard":\d+,"msg":"shard let go: other nodes hold all of it"/;
    await eventually(() => expect(processes.logOf('node-1')).toMatch(released), WAIT_MS);
    await everything();
    await eventually(async () => expect((await settled()).join()).toContain('node-1:active'), WAIT_MS);
    await everything();
  });

  test('a node that will not come back is declared lost', async () => {
    await start(3, '--copies', '2');
    await settled();
    await write(0, 50, 'PEER');
    const remove = async (name: string) => {
      const parameters = `region=local&name=${name}&lost=true`;
      const response = await fetch(`${processes.url}/api/v1/admin/nodes/remove?${parameters}`, { method: 'POST' });
      return `${response.status} ${await response.text()}`;
    };
    expect(await remove('node-1')).toContain('node node-1 of region local is registered');
    expect(await remove('node-7')).toContain('region local has no copies on a node node-7');
    await processes.kill(['node-1']);
    await eventually(async () => expect(await remove('node-1')).toBe('204 '), WAIT_MS);
    expect((await places()).join()).not.toContain('node-1');
    await replaced('node-1');
    // Nobody waits for it.
    await everything();
    await write(50, 60);
    await everything();
  });
});
