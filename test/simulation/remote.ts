/** What lies on another machine, as a process of the simulated cluster reaches it: the meta store, and copies to repair from. */
import type { MetaStore, Watch } from '../../core/meta/store.ts';
import type { Copy } from '../../core/placement.ts';
import { helloOf, SPOKEN } from '../../core/versions.ts';
import type { Peer } from '../../node/repair/peer.ts';
import type { ServeContext } from '../../node/repair/serve.ts';
import type { Calls, Life } from '../sim/calls.ts';
import type { engine } from './engine.ts';

export function reachStore(calls: Calls, life: Life, to: string, storeOf: () => MetaStore): MetaStore {
  const ask = <T>(run: (store: MetaStore) => Promise<T>): Promise<T> => calls.call(life, to, () => run(storeOf()));
  return {
    commit: (conditions, changes) => ask((store) => store.commit(conditions, changes)),
    get: (key) => ask((store) => store.get(key)),
    range: (prefix) => ask((store) => store.range(prefix)),
    grantLease: (ttlMs) => ask((store) => store.grantLease(ttlMs)),
    renewLease: (lease) => ask((store) => store.renewLease(lease)),
    revokeLease: (lease) => ask((store) => store.revokeLease(lease)),
    watch(prefix, fromRevision, handler): Watch {
      let isOver = false;
      let inner: Watch | undefined;
      // One message after the other.
      let way = Promise.resolve();
      const close = (): void => {
        isOver = true;
        forget();
        inner?.close();
      };
      const end = (error: Error): void => {
        if (isOver || life.isOver) return;
        close();
        handler.ended(error);
      };
      const tell = (run: () => void): void => {
        if (life.isOver) close();
        way = way.then(() => calls.pass(to, life.host)).then(() => void (isOver || life.isOver || run()), end);
      };
      const forget = calls.during(life, to, end);
      const open = async (): Promise<void> => {
        if (isOver) return;
        inner = storeOf().watch(prefix, fromRevision, {
          events: (events, revision) => tell(() => handler.events(events, revision)),
          ended: (error) => tell(() => end(error)),
        });
      };
      calls.call(life, to, open).catch(end);
      return { close };
    },
    close: async () => undefined,
  };
}

export function reachCopy(
  calls: Calls,
  life: Life,
  { serveCompare, serveFetch }: Pick<typeof engine, 'serveCompare' | 'serveFetch'>,
  copy: Copy,
  contextOf: () => ServeContext,
): Peer {
  const hello = helloOf(SPOKEN, 'c', life.host);
  const [region, node] = life.host.split('/') as [string, string];
  const to = copy.address;
  const { signal: never } = new AbortController();
  const until = <T>(signal: AbortSignal, answer: Promise<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      const stop = (): void => reject(signal.reason as Error);
      if (signal.aborted) stop();
      signal.addEventListener('abort', stop);
      const over = (): void => signal.removeEventListener('abort', stop);
      answer.finally(over).then(resolve, reject);
    });
  const send =
    <Reply>(signal: AbortSignal, receive: (reply: Reply) => void | Promise<void>) =>
    async (reply: Reply): Promise<void> => {
      await calls.pass(to, life.host);
      if (!life.isOver && !signal.aborted) await receive(reply);
    };
  return {
    name: `${copy.region}/${copy.node}`,
    compare: (question, signal, receive) => {
      const call = { signal: never, send: send(signal, receive) };
      const request = { ...question, hello, region, node };
      return until(
        signal,
        calls.call(life, to, () => serveCompare(request, call, contextOf())),
      );
    },
    fetch: (wish, signal, receive) => {
      const call = { signal: never, send: send(signal, receive) };
      return until(
        signal,
        calls.call(life, to, () => serveFetch({ ...wish, hello }, call, contextOf())),
      );
    },
    close: () => undefined,
  };
}
