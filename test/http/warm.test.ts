import { expect, it } from 'vitest';
import { Api } from '../../coordinator/http/api.ts';
import { Engine } from '../../coordinator/promql/engine.ts';
import { askReal, WarmUp } from '../../coordinator/warm.ts';
import { nodeEnv as env } from '../../core/env/node.ts';
import { ChunkCodec } from '../../core/kernel/codec.ts';
import { FakeStore } from './fixture.ts';

it('a warm-up answers every kind of query, as long as it is wanted', async () => {
  const warmUp = await WarmUp.open(env, ChunkCodec.create());
  try {
    expect(await warmUp.round(() => true)).toBe(10);
    let wanted = 3;
    expect(await warmUp.round(() => wanted-- > 0)).toBe(3);
    expect(await warmUp.round(() => false)).toBe(0);
  } finally {
    await warmUp.close();
  }
});

it('every kind of query is asked of the cluster itself, too', async () => {
  const queryable = new FakeStore();
  const api = new Api({ env, engine: new Engine(env), queryable, timeoutMs: 60_000, version: '' });
  expect(await askReal(api, new AbortController().signal)).toBe(20);
  expect(await askReal(api, AbortSignal.abort())).toBe(0);
});
