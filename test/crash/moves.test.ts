/** Copies are moved by hand while they are written to, and the processes of the move are killed in the middle of it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { History } from '../../chaos/history.ts';
import { openClient } from '../../chaos/load.ts';
import { Processes } from '../../chaos/processes.ts';
import type { MoveReport } from '../../coordinator/cluster/moves.ts';
import type { ShardReport } from '../../coordinator/cluster/report.ts';
import { eventually, silverback as runSilverback } from '../local/cluster.ts';
import { readsBackWhole, writeSpan } from './cluster.ts';

const SERIES_COUNT = 60;
const SHARD_COUNT = 4;
const LEASE = ['--lease-ttl', '3s'];
/** What is written before takes many seconds to move; and minutes. */
const RATE = '2KiB';
const CRAWL = '100B';
const TICKS = 300;
/** Much more than it takes, on a machine that stalls. */
const WAIT_MS = 300_000;

let processes: Processes;
let directory: string;
let history: History;
let isWriting = false;
let writing: Promise<void> = Promise.resolve();
afterEach(async () => {
  isWriting = false;
  await writing.catch(() => undefined);
  await processes?.kill();
  if (directory !== undefined) await rm(directory, { recursive: true, force: true });
});

const silverback = (...args: string[]) => runSilverback(processes.url, args);

async function ask<T>(path: string): Promise<T> {
  const response = await fetch(`${processes.url}/api/v1/cluster/${path}`);
  return ((await response.json()) as { data: T }).data;
}

/** `node:state` of each copy of a shard. */
async function places(shard: number): Promise<string> {
  const [report] = await ask<ShardReport[]>(`shards?shard=${shard}`);
  return (report as ShardReport).copies.map(({ node, state }) => `${node}:${state}`).join(' ');
}

/** Begins to write, and goes on; resolves when there is something to move. */
async function start(rate = RATE): Promise<void> {
  directory = await mkdtemp(join(tmpdir(), 'silverback-moves-'));
  processes = await Processes.create({
    dataDir: directory,
    nodeCount: 3,
    shardCount: SHARD_COUNT,
    nodeArgs: [...LEASE, '--move-rate', rate],
    coordinatorArgs: [...LEASE, '--takeover-grace', '2m', '--enable-admin-api'],
  });
  processes.start();
  await processes.ready();
  const originMs = Math.floor(Date.now() / 7_200_000) * 7_200_000 - 14_400_000;
  history = new History({ seed: 1, seriesCount: SERIES_COUNT, originMs, stepMs: 1_000 });
  const client = openClient(processes.grpc, 'LOCAL', WAIT_MS);
  const write = (fromTick: number, toTick: number) =>
    writeSpan(client, history, { fromSeries: 0, toSeries: SERIES_COUNT, fromTick, toTick });
  await write(0, TICKS);
  isWriting = true;
  writing = (async () => {
    try {
      for (let tick = TICKS; isWriting; tick++) {
        await write(tick, tick + 1);
        await new Promise((wake) => setTimeout(wake, 100));
      }
    } finally {
      await client.close();
    }
  })();
}

/** The node that shard 0 is on, and another one. */
async function nodes(): Promise<[source: string, target: string]> {
  const source = (await places(0)).replace(':active', '');
  return [source, processes.nodes.find((node) => node !== source) as string];
}

/** Asks for the move of shard 0, and waits until it is under way. */
async function moving(target: string): Promise<MoveReport> {
  const asked = await silverback('shards', 'move', '0', '--to', target, '--detach', '--yes', '--output', 'json');
  expect(asked.code, asked.err).toBe(0);
  const [{ moves }] = JSON.parse(asked.out);
  expect(moves).toEqual([expect.objectContaining({ shard: 0, to: target })]);
  return eventually(async () => {
    const move = (await ask<MoveReport[]>('moves')).find(({ id }) => id === moves[0].id);
    expect(move).toMatchObject({ state: 'joining', node: target });
    return move as MoveReport;
  }, WAIT_MS);
}

/** Stops writing, and waits until every acknowledged sample is in the answer, and the answer says so. */
async function everything(): Promise<void> {
  isWriting = false;
  await writing;
  await readsBackWhole(processes, history, WAIT_MS);
}

describe('a move goes on when a process of it was killed and is back', () => {
  test.each(['source', 'target', 'coordinator'])(
    'the %s',
    async (role) => {
      await start();
      const [source, target] = await nodes();
      const { id } = await moving(target);
      const victim = { source, target }[role] ?? role;
      await processes.kill([victim]);
      // Long enough for the others to notice; then nothing is called off, and nothing is brought elsewhere.
      if (role === 'source')
        await eventually(async () => expect(await places(0)).toContain(`${source}:leaving`), WAIT_MS);
      else await new Promise((wake) => setTimeout(wake, 5_000));
      processes.start([victim]);
      if (role !== 'source') {
        // The same move, unless it has ended by now.
        await eventually(async () => {
          const ids = (await ask<MoveReport[]>('moves')).map((one) => one.id);
          if ((await places(0)) !== `${target}:active`) expect(ids).toContain(id);
        }, WAIT_MS);
      }
      await eventually(async () => expect(await places(0)).toBe(`${target}:active`), WAIT_MS);
      await everything();
    },
    4 * WAIT_MS,
  );
});

/** Gives an order as the command line does, which takes longer to start than a small move. */
async function order(path: string, parameters: Record<string, string>): Promise<Response> {
  const body = new URLSearchParams({ region: 'local', ...parameters });
  return fetch(`${processes.url}/api/v1/admin/${path}`, { method: 'POST', body });
}

/**
 * Moves shard 0, and holds that while it is under way. What the log still has reaches the target at any rate of moves, so
 * that on a machine that stalls a move may be over before: then it is the next one that is held.
 */
async function held(): Promise<{ source: string; id: string }> {
  for (;;) {
    const [source, target] = await nodes();
    const asked = await order('shards/move', { shards: '0', to: target });
    const { data, error } = (await asked.json()) as { data: { moves: { id: string }[] }; error?: string };
    expect(asked.status, error).toBe(200);
    const [{ id }] = data.moves as [{ id: string }];
    await eventually(async () => {
      const move = (await ask<MoveReport[]>('moves')).find((one) => one.id === id);
      if (move?.state !== 'joining') expect(await places(0)).toBe(`${target}:active`);
    }, WAIT_MS);
    await order('moves', { id, mode: 'paused' });
    let isHeld = false;
    await eventually(async () => {
      isHeld = new RegExp(`${id} .*joining, held`).test((await silverback('moves', 'list')).out);
      if (!isHeld) expect(await places(0)).toBe(`${target}:active`);
    }, WAIT_MS);
    if (isHeld) return { source, id };
  }
}

test(
  'a move is held, and called off: nothing is lost, and the copy stays where it is',
  async () => {
    await start(CRAWL);
    const { source, id } = await held();
    expect(await silverback('moves', 'pause', id, '--yes')).toMatchObject({ code: 0 });
    const aborted = await silverback('moves', 'abort', id, '--yes');
    expect(aborted).toMatchObject({ code: 0, out: `move ${id} is called off\n` });
    await eventually(async () => expect(await places(0)).toBe(`${source}:active`), WAIT_MS);
    await eventually(async () => expect(await ask<MoveReport[]>('moves')).toEqual([]), WAIT_MS);
    const late = await silverback('moves', 'abort', id, '--yes');
    expect(late).toMatchObject({ code: 1, err: `there is no move ${id}; there are none\n` });
    await everything();
  },
  4 * WAIT_MS,
);

test(
  'a drained node is removed, and comes back as a new one',
  async () => {
    await start();
    const [source] = await nodes();
    const early = await silverback('nodes', 'remove', source, '--yes');
    expect(early.code).toBe(1);
    expect(early.err).toMatch(new RegExp(`^local/${source} has .*: silverback nodes drain ${source} moves them`));
    expect(await silverback('moves', 'pause', '--yes')).toMatchObject({ code: 0 });
    const refused = await silverback('nodes', 'drain', source, '--yes');
    expect(refused.err).toContain('moves are paused (silverback moves resume)');
    expect(await silverback('moves', 'resume', '--yes')).toMatchObject({ code: 0 });
    const draining = silverback('nodes', 'drain', source, '--yes');
    await eventually(async () => expect((await silverback('status')).out).toContain(`${source} is draining`), WAIT_MS);
    expect(await silverback('moves', 'pause', '--yes')).toMatchObject({ code: 0 });
    await eventually(async () => {
      const { out } = await silverback('status');
      expect(out.replaceAll(/\s+/g, ' ')).toContain('waiting: moves are paused (silverback moves resume)');
    }, WAIT_MS);
    expect(await silverback('moves', 'resume', '--yes')).toMatchObject({ code: 0 });
    const drained = await draining;
    expect(drained.err).toContain('waiting: moves are paused');
    expect(drained.out).toContain(`local/${source} is safe to power off`);
    const removed = await silverback('nodes', 'remove', source, '--yes');
    expect(removed).toMatchObject({ code: 0, out: `local/${source} is removed: stop it, and it is forgotten\n` });
    expect((await silverback('nodes')).out).toContain('up removed');
    await processes.kill([source]);
    await everything();
    expect(await silverback('nodes', 'uncordon', source, '--yes')).toMatchObject({ code: 0 });
    expect((await silverback('status')).out).not.toContain('removed');
  },
  4 * WAIT_MS,
);
