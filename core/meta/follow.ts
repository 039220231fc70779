/** A prefix of the meta store, kept current whatever happens to the store: read the range, watch on, start over when the watch ends. */
import type { Env, Timer } from '../env/env.ts';
import { SilverbackError } from '../errors.ts';
import { Backoff } from './backoff.ts';
import type { Entry, Event, MetaStore, Snapshot, Watch } from './store.ts';

export interface Follower {
  /** Every entry under the prefix, by key; undefined until the store answered for the first time. */
  entries(): ReadonlyMap<string, Entry> | undefined;
  /** How often the range was read anew because the store had been away. */
  readonly returnCount: number;
  /** Reads the range now. Rejects when the store does not answer; following goes on. */
  refresh(): Promise<void>;
  close(): void;
}

/**
 * @param changed is called after each change, with the revision the entries show; first when the store has answered, and
 * again, even without a change, whenever the store answers after it had gone away
 */
export function follow(
  env: Env,
  store: MetaStore,
  prefix: string,
  changed: (entries: ReadonlyMap<string, Entry>, revision: number) => void,
): Follower {
  const backoff = new Backoff(env, { firstMs: 100, mostMs: 5_000 });
  let entries: Map<string, Entry> | undefined;
  let revision = 0;
  let watch: Watch | undefined;
  let retry: Timer | undefined;
  let closed = false;
  let startCount = 0;

  const adopt = (snapshot: Snapshot): void => {
    revision = snapshot.revision;
    entries = new Map(snapshot.entries.map((entry) => [entry.key, entry]));
    changed(entries, revision);
  };

  const apply = (events: readonly Event[], upTo: number): void => {
    if (closed || entries === undefined || upTo <= revision) return;
    for (const event of events) {
      if (event.revision <= revision) continue;
      if (event.entry === undefined) entries.delete(event.key);
      else entries.set(event.key, event.entry);
    }
    revision = upTo;
    changed(entries, revision);
  };

  const start = (): void => {
    retry = undefined;
    store.range(prefix).then(
      (snapshot) => {
        if (closed) return;
        startCount++;
        // Even when its revision is lower: a store put back from a copy is the truth all the same.
        adopt(snapshot);
        backoff.reset();
        watch = store.watch(prefix, snapshot.revision + 1, { events: apply, ended: again });
      },
      () => again(),
    );
  };

  const again = (): void => {
    if (!closed) retry = env.timers.after(backoff.nextMs(), start);
  };

  start();
  return {
    entries: () => entries,
    get returnCount() {
      return Math.max(0, startCount - 1);
    },
    async refresh() {
      if (closed) throw new SilverbackError('CANCELLED', `meta store: following ${prefix} was ended`);
      const snapshot = await store.range(prefix);
      // Events of the running watch may have overtaken the answer: only what is newer counts.
      if (!closed && (entries === undefined || snapshot.revision > revision)) adopt(snapshot);
    },
    close() {
      closed = true;
      watch?.close();
      retry?.cancel();
    },
  };
}
