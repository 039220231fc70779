import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodeEnv } from '../../core/env/node.ts';
import { SilverbackError } from '../../core/errors.ts';
import { openEmbeddedMeta } from '../../core/meta/embedded.ts';
import type { MetaStore, Watch, WatchHandler } from '../../core/meta/store.ts';
import { describeStore } from './contract.ts';
import { mortal } from './mortal.ts';
import type { Subject } from './subject.ts';

const HISTORY_MOST = 100;

describeStore('embedded', async (): Promise<Subject> => {
  const directory = await mkdtemp(join(tmpdir(), 'silverback-meta-'));
  let life = mortal(nodeEnv);
  let store = await openEmbeddedMeta(life.env, directory, { historyMost: HISTORY_MOST, snapshotLeastBytes: 2_000 });
  let down = false;
  const handlers = new Set<WatchHandler>();

  /** As a connection sees it: calls fail while the store is down, and reach the new one after the restart. */
  const reach = <T>(call: (store: MetaStore) => Promise<T>): Promise<T> =>
    down ? Promise.reject(new SilverbackError('UNAVAILABLE', 'the store is down')) : call(store);
  const connection: MetaStore = {
    commit: (conditions, changes) => reach((to) => to.commit(conditions, changes)),
    get: (key) => reach((to) => to.get(key)),
    range: (prefix) => reach((to) => to.range(prefix)),
    grantLease: (ttlMs) => reach((to) => to.grantLease(ttlMs)),
    renewLease: (lease) => reach((to) => to.renewLease(lease)),
    revokeLease: (lease) => reach((to) => to.revokeLease(lease)),
    watch(prefix, from, handler): Watch {
      const watch = store.watch(prefix, from, handler);
      handlers.add(handler);
      return {
        close() {
          handlers.delete(handler);
          watch.close();
        },
      };
    },
    close: () => store.close(),
  };
  return {
    port: undefined,
    async forget() {
      for (let i = 0; i <= HISTORY_MOST; i++) await store.commit([], [{ put: 'filler', value: String(i) }]);
    },
    connect: () => connection,
    async kill() {
      down = true;
      life.kill();
      const over = [...handlers];
      handlers.clear();
      for (const handler of over) handler.ended(new SilverbackError('UNAVAILABLE', 'the store was killed'));
    },
    async restart() {
      life = mortal(nodeEnv);
      store = await openEmbeddedMeta(life.env, directory, { historyMost: HISTORY_MOST, snapshotLeastBytes: 2_000 });
      down = false;
    },
    async stop() {
      await store.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
});
