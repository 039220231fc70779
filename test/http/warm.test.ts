import { expect, it } from 'vitest';
import { WarmUp } from '../../coordinator/warm.ts';
import { nodeEnv as env } from '../../core/env/node.ts';

it('a warm-up answers every kind of query, as long as it is wanted', async () => {
  const warmUp = await WarmUp.open(env);
  try {
    expect(await warmUp.round(() => true)).toBe(10);
    let wanted = 3;
    expect(await warmUp.round(() => wanted-- > 0)).toBe(3);
    expect(await warmUp.round(() => false)).toBe(0);
  } finally {
    await warmUp.close();
  }
});
