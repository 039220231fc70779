/** What a read says it may lack. */
import { expect, test } from 'vitest';
import { Reader } from '../../client/reader.ts';
import { allOn, env, removeDirectory, serve, temporaryDirectory } from './cluster.ts';

test('what was unconfirmed when a read began stays so, whatever came while it read', async () => {
  const directory = await temporaryDirectory();
  let asked = 0;
  const served = await serve(directory, {
    shardCount: 1,
    watcher: {
      opened: () => undefined,
      closing: () => undefined,
      committed: () => undefined,
      // The other copy is heard of just when the samples were read.
      unconfirmed: (_, range) => (asked++ === 0 ? [{ ...range, state: 'unconfirmed', reason: 'silent' }] : []),
    },
  });
  const placement = allOn(served.address, 1);
  await served.node.follow(placement.current());
  const reader = new Reader({ env, placement, caller: 'test' });
  try {
    const ask = async () => {
      const context = { signal: new AbortController().signal };
      const { coverage } = await reader.select({ matchers: [], fromMs: 1, toMs: 9 }, () => undefined, context);
      return coverage.map(({ fromMs, toMs, state, reason }) => ({ fromMs, toMs, state, reason }));
    };
    expect(await ask()).toEqual([{ fromMs: 1, toMs: 9, state: 'unconfirmed', reason: 'silent' }]);
    expect(await ask()).toEqual([{ fromMs: 1, toMs: 9, state: 'complete', reason: '' }]);
  } finally {
    reader.close();
    await served.close();
    await removeDirectory(directory);
  }
});
