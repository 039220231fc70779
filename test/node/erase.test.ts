import { afterEach, beforeEach, expect, test } from 'vitest';
import { Client } from '../../client/client.ts';
import { Eraser } from '../../client/eraser.ts';
import { Reader } from '../../client/reader.ts';
import { allOn, env, removeDirectory, type Served, serve, temporaryDirectory } from './cluster.ts';

let directory: string;
let served: Served;
const closers: (() => unknown)[] = [];
const never = new AbortController().signal;
const MATCHERS = [{ name: 'i', op: '=~' as const, value: '1.*' }];

beforeEach(async () => {
  directory = await temporaryDirectory();
  served = await serve(directory);
  closers.push(() => removeDirectory(directory));
  closers.push(() => served.close());
});

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function eraser(): Eraser {
  const one = new Eraser({ env, placement: allOn(served.address), caller: 'test' });
  closers.push(() => one.close());
  return one;
}

test('deletes in every shard, and what is deleted does not come back', async () => {
  await served.node.assign([0, 1, 2, 3]);
  const client = new Client({
    endpoints: [],
    placement: allOn(served.address),
    retryMs: 5_000,
    onDrop: () => undefined,
  });
  closers.push(() => client.close(100));
  const samples = Array.from({ length: 100 }, (_, i) => ({
    labels: { __name__: 'm', i: String(i % 20) },
    timestampMs: 1_000 * i,
    value: i,
  }));
  await client.write(samples);
  const one = eraser();
  // Until now, by a clock that is a little ahead.
  await one.delete(MATCHERS, 0, env.clock.nowMs() + 1_000, { signal: never });
  await client.write(samples);
  await one.clean({ signal: never });
  const reader = new Reader({ env, placement: allOn(served.address), caller: 'test' });
  closers.push(() => reader.close());
  const { values } = await reader.labelValues('i', { fromMs: 0, toMs: 10 ** 9, selectors: [] }, { signal: never });
  expect(values).toEqual(['0', '2', '3', '4', '5', '6', '7', '8', '9']);
});

test('names the copies that did not take it, and refuses what is wrong with the request', async () => {
  await served.node.assign([0, 1, 2]);
  const one = eraser();
  await expect(one.delete(MATCHERS, 0, 1, { signal: never })).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: `not deleted in 1 copies (asking again is harmless): shard 3 at ${served.address}: shard 3 is not served by node n1`,
  });
  const bad = [{ name: 'i', op: '=~' as const, value: '(' }];
  await expect(one.delete(bad, 0, 1, { signal: never })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  const hourAheadMs = env.clock.nowMs() + 3_600_000;
  await expect(one.delete(MATCHERS, 0, hourAheadMs, { signal: never })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringMatching(/only what is past can be deleted/),
  });
});
