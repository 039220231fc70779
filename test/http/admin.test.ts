import { afterEach, expect, test } from 'vitest';
import type { AdminOptions } from '../../coordinator/http/admin.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { SilverbackError } from '../../core/errors.ts';
import { type Fixture, serve } from './fixture.ts';

let fixture: Fixture | undefined;
afterEach(async () => {
  await fixture?.close();
  fixture = undefined;
});

const removed: string[] = [];
const removeLostNode = async (region: string, name: string): Promise<void> => {
  if (name === 'living') throw new SilverbackError('CONFLICT', 'node living is registered');
  removed.push(`${region}/${name}`);
};

const switched: string[] = [];
const switchMoves = async (region: string, moves: string): Promise<void> => void switched.push(`${region} ${moves}`);

const cordons: string[] = [];
const setCordon = async (region: string, name: string, cordon: string | undefined): Promise<void> =>
  void cordons.push(`${region}/${name} ${cordon}`);

const orders: string[] = [];
/** What becomes of placements. */
const OPERATIONS: Omit<AdminOptions, 'env' | 'eraser'> = {
  removeLostNode,
  switchMoves,
  setCordon,
  removeNode: async (region, name) => void orders.push(`remove ${region}/${name}`),
  switchMove: async (region, id, mode) => void orders.push(`${mode} ${id} in ${region}`),
  orderMoves: async (region, { shards, to, from }) => {
    orders.push(`move ${shards} of ${region} from ${from} to ${to}`);
    return shards.map((shard) => ({ id: `${region}/${shard + 1}`, shard, from: from ?? 'x', to, cause: 'order' }));
  },
  rebalance: async (region) => {
    orders.push(`rebalance ${region}`);
    return [];
  },
};

type Call = readonly [matchers: unknown, fromMs: number, toMs: number];

class FakeEraser implements Pick<AdminOptions['eraser'], 'delete' | 'clean'> {
  readonly calls: Call[] = [];
  cleanings = 0;
  error: SilverbackError | undefined;

  async delete(matchers: unknown, fromMs: number, toMs: number): Promise<void> {
    if (this.error !== undefined) throw this.error;
    this.calls.push([matchers, fromMs, toMs]);
  }

  async clean(): Promise<void> {
    this.cleanings++;
  }
}

async function ask(path: string, method = 'POST', body?: URLSearchParams) {
  const response = await fetch(`${fixture?.url}/api/v1/admin/tsdb/${path}`, { method, ...(body && { body }) });
  const text = await response.text();
  return { status: response.status, body: text === '' ? undefined : JSON.parse(text) };
}

test('switched off: 403, in the words of Prometheus', async () => {
  fixture = await serve();
  for (const path of ['delete_series?match[]=up', 'clean_tombstones']) {
    expect(await ask(path)).toEqual({
      status: 403,
      body: { status: 'error', errorType: 'unavailable', error: 'admin APIs disabled' },
    });
  }
});

test('deletes each selector; what lies ahead means now', async () => {
  const eraser = new FakeEraser();
  fixture = await serve({ admin: { env: nodeEnv, eraser, ...OPERATIONS } });
  expect(await ask('delete_series?match[]=up&match[]={job="a"}&start=10&end=20.5')).toEqual({
    status: 204,
    body: undefined,
  });
  expect(eraser.calls).toEqual([
    [[{ name: '__name__', op: '=', value: 'up' }], 10_000, 20_500],
    [[{ name: 'job', op: '=', value: 'a' }], 10_000, 20_500],
  ]);
  const beforeMs = Date.now();
  const form = new URLSearchParams([['match[]', 'up']]);
  expect((await ask('delete_series', 'PUT', form)).status).toBe(204);
  const [, fromMs, toMs] = eraser.calls[2] as Call;
  expect(fromMs).toBe(0);
  expect(toMs).toBeGreaterThanOrEqual(beforeMs);
  expect(toMs).toBeLessThanOrEqual(Date.now());
  expect((await ask('clean_tombstones')).status).toBe(204);
  expect(eraser.cleanings).toBe(1);
});

test('says what is wrong, and which copy did not take it', async () => {
  const eraser = new FakeEraser();
  fixture = await serve({ admin: { env: nodeEnv, eraser, ...OPERATIONS } });
  expect(await ask('delete_series')).toMatchObject({ status: 400, body: { error: 'no match[] parameter provided' } });
  expect(await ask('delete_series?match[]={')).toMatchObject({ status: 400, body: { errorType: 'bad_data' } });
  expect(await ask(`delete_series?match[]=up&start=${Date.now() / 1000 + 1000}`)).toMatchObject({
    status: 400,
    body: { error: expect.stringMatching(/only what is past/) },
  });
  eraser.error = new SilverbackError('UNAVAILABLE', 'not deleted in 1 copies: shard 3 at a:1: gone');
  expect(await ask('delete_series?match[]=up')).toMatchObject({
    status: 503,
    body: { errorType: 'unavailable', error: 'not deleted in 1 copies: shard 3 at a:1: gone' },
  });
  const get = await fetch(`${fixture.url}/api/v1/admin/tsdb/delete_series?match[]=up`);
  expect(get.status).toBe(404);
});

test('gives a lost node up, and only one that is called lost', async () => {
  fixture = await serve({ admin: { env: nodeEnv, eraser: new FakeEraser(), ...OPERATIONS } });
  const remove = async (query: string) => {
    const response = await fetch(`${fixture?.url}/api/v1/admin/nodes/remove?${query}`, { method: 'POST' });
    return { status: response.status, text: await response.text() };
  };
  expect(await remove('region=r&name=gone&lost=true')).toEqual({ status: 204, text: '' });
  expect(removed).toEqual(['r/gone']);
  expect(await remove('region=r&name=living&lost=true')).toMatchObject({
    status: 409,
    text: expect.stringContaining('node living is registered'),
  });
  expect(await remove('region=r&name=gone&lost=maybe')).toMatchObject({
    status: 400,
    text: expect.stringContaining('expected true or false, got \\"maybe\\"'),
  });
  expect(await remove('region=r&name=empty')).toEqual({ status: 204, text: '' });
  expect(orders.splice(0)).toEqual(['remove r/empty']);
  expect(await remove('name=gone&lost=true')).toMatchObject({
    status: 400,
    text: expect.stringContaining('no region'),
  });
  expect(removed).toHaveLength(1);
});

test('holds moves', async () => {
  fixture = await serve({ admin: { env: nodeEnv, eraser: new FakeEraser(), ...OPERATIONS } });
  const url = `${fixture.url}/api/v1/admin/moves`;
  expect((await fetch(`${url}?region=r&mode=paused`, { method: 'POST' })).status).toBe(204);
  expect(switched).toEqual(['r paused']);
  const refused = await fetch(`${url}?region=r&mode=never`, { method: 'POST' });
  expect(refused.status).toBe(400);
  expect(await refused.text()).toContain('expected on, paused, off, got \\"never\\"');
});

test('keeps copies away from a node', async () => {
  fixture = await serve({ admin: { env: nodeEnv, eraser: new FakeEraser(), ...OPERATIONS } });
  const url = `${fixture.url}/api/v1/admin/nodes/cordon`;
  for (const mode of ['on', 'drain', 'off']) {
    expect((await fetch(`${url}?region=r&name=n&mode=${mode}`, { method: 'POST' })).status).toBe(204);
  }
  expect(cordons).toEqual(['r/n cordoned', 'r/n draining', 'r/n undefined']);
  const refused = await fetch(`${url}?region=r&name=n&mode=never`, { method: 'POST' });
  expect(refused.status).toBe(400);
  expect(await refused.text()).toContain('expected on, drain, off, got \\"never\\"');
  expect((await fetch(`${url}?region=r&name=n&mode=toString`, { method: 'POST' })).status).toBe(400);
});

test('moves shards', async () => {
  fixture = await serve({ admin: { env: nodeEnv, eraser: new FakeEraser(), ...OPERATIONS } });
  const post = async (path: string) => {
    const response = await fetch(`${fixture?.url}/api/v1/admin/${path}`, { method: 'POST' });
    return { status: response.status, text: await response.text() };
  };
  const moved = await post('shards/move?region=r&shards=0-1,3&to=b&from=a');
  expect(moved.status).toBe(200);
  expect(JSON.parse(moved.text).data.moves).toHaveLength(3);
  expect(JSON.parse(moved.text).data.moves[2]).toEqual({ id: 'r/4', shard: 3, from: 'a', to: 'b', cause: 'order' });
  expect(JSON.parse((await post('rebalance?region=r')).text)).toEqual({ status: 'success', data: { moves: [] } });
  expect((await post('moves?region=r&mode=off&id=r/4')).status).toBe(204);
  expect(orders.splice(0)).toEqual(['move 0,1,3 of r from a to b', 'rebalance r', 'off r/4 in r']);
  for (const shards of ['x', '3-1', '0-99999', '1,', '-1', '1-']) {
    const refused = await post(`shards/move?region=r&to=b&shards=${shards}`);
    expect(refused.status).toBe(400);
    expect(refused.text).toContain('is not a list of shards such as 3 or 0-3,7');
  }
  expect((await post('shards/move?region=r&shards=1')).text).toContain('no to parameter');
  expect((await post('rebalance')).text).toContain('no region parameter');
  expect(orders).toEqual([]);
});
