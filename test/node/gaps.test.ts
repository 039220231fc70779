/** What a read says it may lack. */
import { expect, test } from 'vitest';
import { Reader } from '../../client/reader.ts';
import type { NodeOptions } from '../../node/node.ts';
import { allOn, env, removeDirectory, serve, temporaryDirectory } from './cluster.ts';

type Watcher = NonNullable<NodeOptions['watcher']>;

/** Asks a node whose watcher says this; there is another copy that is never there. */
async function asking(
  watcher: Pick<Watcher, 'unconfirmed' | 'heard'>,
  run: (ask: () => Promise<unknown[]>) => Promise<void>,
): Promise<void> {
  const directory = await temporaryDirectory();
  const nothing = () => undefined;
  const served = await serve(directory, {
    shardCount: 1,
    watcher: { opened: nothing, closing: nothing, committed: nothing, ...watcher },
  });
  const placement = allOn(served.address, 1);
  const [copies = []] = placement.current().copies;
  const away = copies.map((copy) => ({ ...copy, node: 'n2', address: '127.0.0.1:1' }));
  await served.node.follow(placement.current());
  placement.set({ ...placement.current(), revision: 2, copies: [[...copies, ...away]] });
  const reader = new Reader({ env, placement, caller: 'test' });
  try {
    await run(async () => {
      const context = { signal: new AbortController().signal };
      const { coverage } = await reader.select({ matchers: [], fromMs: 1, toMs: 9 }, () => undefined, context);
      return coverage.map(({ state, reason, copy }) => [state, reason, copy]);
    });
  } finally {
    reader.close();
    await served.close();
    await removeDirectory(directory);
  }
}

test('a copy that is not complete answers where no other one can', async () => {
  const silent: Watcher['unconfirmed'] = (_, range) => [{ ...range, state: 'unconfirmed', reason: 'silent' }];
  await asking({ unconfirmed: silent, heard: () => undefined }, async (ask) => {
    expect(await ask()).toEqual([['unconfirmed', 'silent', 'r/n1']]);
  });
});

test('it waits for what is on its way', async () => {
  let isHeard = false;
  const watcher: Pick<Watcher, 'unconfirmed' | 'heard'> = {
    unconfirmed: (_, range) => (isHeard ? [] : [{ ...range, state: 'unconfirmed', reason: 'silent' }]),
    heard: async () => {
      await new Promise((wake) => setTimeout(wake, 10));
      isHeard = true;
    },
  };
  await asking(watcher, async (ask) => expect(await ask()).toEqual([['complete', '', 'r/n1']]));
});

test('what was unconfirmed when a read began stays so, whatever came while it read', async () => {
  const directory = await temporaryDirectory();
  let asked = 0;
  const served = await serve(directory, {
    shardCount: 1,
    watcher: {
      opened: () => undefined,
      closing: () => undefined,
      committed: () => undefined,
      heard: () => undefined,
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
