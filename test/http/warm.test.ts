import { expect, it } from 'vitest';
import { warmUp } from '../../coordinator/warm.ts';
import { nodeEnv as env } from '../../core/env/node.ts';

it('a warm-up answers every kind of query, and stops at its bounds', async () => {
  expect(await warmUp({ env, maxCpuMs: Number.POSITIVE_INFINITY, maxRounds: 2 })).toBe(16);
  expect(await warmUp({ env, maxCpuMs: 0, maxRounds: 2 })).toBe(0);
});
