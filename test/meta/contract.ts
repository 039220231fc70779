/** What every meta store must do, written once. A store's own test file says how to start, reach, kill and restart it. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { nodeEnv } from '../../core/env/node.ts';
import { SilverbackError } from '../../core/errors.ts';
import { campaign, type Leadership, type Office } from '../../core/meta/election.ts';
import { follow } from '../../core/meta/follow.ts';
import { holdLease } from '../../core/meta/lease.ts';
import type { Event, LeaseId, MetaStore, WatchHandler } from '../../core/meta/store.ts';
import { pausable } from './pausable.ts';
import { TcpProxy } from './proxy.ts';

export interface Subject {
  /** A connection of its own, as another process would have; through `port` where something stands between. */
  connect(port?: number): MetaStore;
  /** Where the store listens on the loopback interface; undefined when it is not reached over a network. */
  readonly port: number | undefined;
  /** All that happened so far is no longer kept for watches. */
  forget(): Promise<void>;
  /** The store's process dies at once. */
  kill(): Promise<void>;
  /** And comes back with what it had made durable. */
  restart(): Promise<void>;
  /** Until `stop` ends everything. */
  stop(): Promise<void>;
}

const TTL_MS = 400;

/** Waits until `check` no longer throws; fails with its last error. */
export async function eventually(check: () => void | Promise<void>): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await check();
      return;
    } catch (error) {
      if (tries >= 1_000) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'OK';
  } catch (error) {
    return error instanceof SilverbackError ? error.code : `not coded: ${String(error)}`;
  }
}

class Recorder implements WatchHandler {
  readonly seen: Event[] = [];
  readonly revisions: number[] = [];
  error: Error | undefined;
  events(events: readonly Event[], revision: number): void {
    this.seen.push(...events);
    this.revisions.push(revision);
  }
  ended(error: Error): void {
    this.error = error;
  }
  get code(): string | undefined {
    return (this.error as SilverbackError | undefined)?.code;
  }
  get puts(): string[] {
    return this.seen.map(({ key, entry }) => (entry === undefined ? `-${key}` : `${key}=${entry.value}`));
  }
}

/** Offices that note who was elected, in order. */
function claimed(): [{ name: string; epoch: number }[], (name: string) => Office] {
  const claims: { name: string; epoch: number }[] = [];
  const office = (name: string): Office => ({
    elected: ({ epoch }) => claims.push({ name, epoch }),
    deposed: () => undefined,
  });
  return [claims, office];
}

export function describeStore(name: string, start: () => Promise<Subject>): void {
  describe(`meta store: ${name}`, () => {
    let subject: Subject;
    let store: MetaStore;
    beforeEach(async () => {
      subject = await start();
      store = subject.connect();
    });
    afterEach(() => subject.stop());

    test('a put is read back, with the revision of its commit', async () => {
      const first = await store.commit([], [{ put: 'a', value: '1' }]);
      const second = await store.commit([], [{ put: 'b', value: 'ü\u{1F98D}' }]);
      expect(second).toBeGreaterThan(first);
      expect(await store.get('a')).toEqual({ key: 'a', value: '1', revision: first, lease: undefined });
      expect(await store.get('b')).toEqual({ key: 'b', value: 'ü\u{1F98D}', revision: second, lease: undefined });
      expect(await store.get('c')).toBeUndefined();
    });

    test('a range holds the keys of a prefix in order, as of one revision', async () => {
      const revision = await store.commit(
        [],
        ['p/b', 'p/a', 'q/a', 'p', 'p/ü', 'p/z'].map((key) => ({ put: key, value: key })),
      );
      const range = await store.range('p/');
      expect(range.entries.map(({ key }) => key)).toEqual(['p/a', 'p/b', 'p/z', 'p/ü']);
      expect(range.revision).toBe(revision);
    });

    test('a commit happens in whole or not at all', async () => {
      const revision = await store.commit([], [{ put: 'a', value: '1' }]);
      const changes = [{ put: 'a', value: '2' }, { put: 'b', value: '2' }, { remove: 'c' }];
      expect(await codeOf(store.commit([{ key: 'a', revision: revision + 7 }], changes))).toBe('CONFLICT');
      expect(await codeOf(store.commit([{ key: 'a', revision: 0 }], changes))).toBe('CONFLICT');
      expect(
        await codeOf(
          store.commit(
            [
              { key: 'a', revision },
              { key: 'b', revision: 1 },
            ],
            changes,
          ),
        ),
      ).toBe('CONFLICT');
      expect((await store.range('')).entries.map(({ value }) => value)).toEqual(['1']);
      const both = await store.commit(
        [
          { key: 'a', revision },
          { key: 'b', revision: 0 },
        ],
        changes,
      );
      expect((await store.range('')).entries.map((entry) => [entry.value, entry.revision])).toEqual([
        ['2', both],
        ['2', both],
      ]);
    });

    test('of many writers that expect the same revision, one wins each time', async () => {
      const writers = Array.from({ length: 4 }, () => subject.connect());
      const increment = async (writer: MetaStore): Promise<void> => {
        for (let done = 0; done < 10; ) {
          const entry = await writer.get('counter');
          const value = String(Number(entry?.value ?? 0) + 1);
          const revision = entry?.revision ?? 0;
          const code = await codeOf(writer.commit([{ key: 'counter', revision }], [{ put: 'counter', value }]));
          if (code === 'OK') done++;
          else expect(code).toBe('CONFLICT');
        }
      };
      await Promise.all(writers.map(increment));
      expect((await store.get('counter'))?.value).toBe('40');
    });

    test('keys and values have bounds, each with a clear error', async () => {
      expect(await codeOf(store.commit([], [{ put: '', value: 'x' }]))).toBe('TOO_LARGE');
      expect(await codeOf(store.commit([], [{ put: 'k'.repeat(2_000), value: 'x' }]))).toBe('TOO_LARGE');
      await expect(store.commit([], [{ put: 'big', value: 'x'.repeat(2 << 20) }])).rejects.toThrow(
        /big: 2097152 bytes/,
      );
    });

    test('removing what is not there changes nothing', async () => {
      const revision = await store.commit([], [{ put: 'a', value: '1' }]);
      expect(await store.commit([], [{ remove: 'b' }])).toBe(revision);
      expect(await store.commit([{ key: 'a', revision }], [])).toBe(revision);
    });

    test('a lease that is not renewed takes its keys along; one that is renewed lives on', async () => {
      const dies = await store.grantLease(TTL_MS);
      const lives = await store.grantLease(TTL_MS);
      await store.commit(
        [],
        [
          { put: 'dies', value: '1', lease: dies },
          { put: 'lives', value: '1', lease: lives },
          { put: 'saved', value: '1', lease: dies },
          { put: 'free', value: '1' },
        ],
      );
      // Written again under another lease: it no longer goes with the first.
      await store.commit([], [{ put: 'saved', value: '2', lease: lives }]);
      await eventually(async () => {
        await store.renewLease(lives);
        expect(await store.get('dies')).toBeUndefined();
      });
      expect((await store.range('')).entries.map(({ key }) => key)).toEqual(['free', 'lives', 'saved']);
      expect(await codeOf(store.renewLease(dies))).toBe('NOT_FOUND');
      expect(await codeOf(store.commit([], [{ put: 'x', value: '', lease: dies }]))).toBe('NOT_FOUND');
    });

    test('a lease given back takes its keys along at once, in one commit', async () => {
      const lease = await store.grantLease(60_000);
      const revision = await store.commit(
        [],
        [
          { put: 'a', value: '1', lease },
          { put: 'b', value: '1', lease },
        ],
      );
      const recorder = new Recorder();
      const watch = store.watch('', revision + 1, recorder);
      await store.revokeLease(lease);
      await store.revokeLease(lease);
      await store.revokeLease('0123456789abcdef' as LeaseId);
      await eventually(() => expect(recorder.puts.sort()).toEqual(['-a', '-b']));
      expect(new Set(recorder.seen.map((event) => event.revision)).size).toBe(1);
      watch.close();
    });

    test('a watch tells the past from its revision on, then the present, once and in order', async () => {
      const first = await store.commit([], [{ put: 'w/a', value: '1' }]);
      await store.commit([], [{ put: 'other', value: '1' }]);
      const from = await store.commit([], [{ put: 'w/a', value: '2' }]);
      const recorder = new Recorder();
      const watch = store.watch('w/', from, recorder);
      await store.commit([], [{ put: 'w/b', value: '3' }, { remove: 'w/a' }]);
      const last = await store.commit([], [{ put: 'w/c', value: '4' }]);
      await eventually(() => expect(recorder.revisions.at(-1)).toBe(last));
      expect(recorder.puts).toEqual(['w/a=2', 'w/b=3', '-w/a', 'w/c=4']);
      watch.close();
      await store.commit([], [{ put: 'w/d', value: '5' }]);
      const again = new Recorder();
      store.watch('w/', first, again);
      await eventually(() => expect(again.puts).toEqual(['w/a=1', 'w/a=2', 'w/b=3', '-w/a', 'w/c=4', 'w/d=5']));
      expect(recorder.puts).toHaveLength(4);
      expect(recorder.error).toBeUndefined();
    });

    test('a watch from a revision that is no longer kept is told so, and following starts over', async () => {
      const first = await store.commit([], [{ put: 'c/0', value: 'old' }]);
      await store.commit([], [{ put: 'c/1', value: 'new' }]);
      await subject.forget();
      const recorder = new Recorder();
      store.watch('c/', first, recorder);
      await eventually(() => expect(recorder.code).toBe('COMPACTED'));
      expect(recorder.seen).toEqual([]);
      const follower = follow(nodeEnv, store, 'c/', () => undefined);
      await eventually(() => {
        expect(follower.entries()?.get('c/0')?.value).toBe('old');
        expect(follower.entries()?.get('c/1')?.value).toBe('new');
      });
      follower.close();
    });

    test('a watch that is resumed after a restart and a compaction is told so; one from the present goes on', async () => {
      const first = await store.commit([], [{ put: 'c/0', value: 'old' }]);
      const recorder = new Recorder();
      store.watch('c/', first, recorder);
      await eventually(() => expect(recorder.puts).toEqual(['c/0=old']));
      await subject.kill();
      await eventually(() => expect(recorder.code).toBe('UNAVAILABLE'));
      await subject.restart();
      const other = subject.connect();
      await eventually(async () =>
        expect(await codeOf(other.commit([], [{ put: 'c/1', value: 'missed' }]))).toBe('OK'),
      );
      await subject.forget();
      const resumed = new Recorder();
      other.watch('c/', first + 1, resumed);
      await eventually(() => expect(resumed.code).toBe('COMPACTED'));
      expect(resumed.seen).toEqual([]);
      const present = new Recorder();
      other.watch('c/', (await other.range('c/')).revision + 1, present);
      await other.commit([], [{ put: 'c/2', value: 'next' }]);
      await eventually(() => expect(present.puts).toEqual(['c/2=next']));
      expect(present.error).toBeUndefined();
    });

    test('killed and restarted, it has every commit it confirmed, and revisions go on', async () => {
      const lease = await store.grantLease(60_000);
      let revision = 0;
      for (let i = 0; i < 30; i++) revision = await store.commit([], [{ put: `k/${i % 7}`, value: String(i), lease }]);
      await store.commit([], [{ remove: 'k/0' }]);
      const before = await store.range('');
      await subject.kill();
      await subject.restart();
      const again = subject.connect();
      await eventually(async () => expect(await again.range('')).toEqual(before));
      await again.renewLease(lease);
      expect(await again.commit([], [{ put: 'k/9', value: 'x', lease }])).toBeGreaterThan(before.revision);
      const recorder = new Recorder();
      again.watch('k/', revision, recorder);
      await eventually(() => expect(recorder.puts).toEqual(['k/1=29', '-k/0', 'k/9=x']));
    });

    test('a follower misses nothing over a restart of the store', async () => {
      const follower = follow(nodeEnv, store, 'f/', () => undefined);
      await store.commit(
        [],
        [
          { put: 'f/a', value: '1' },
          { put: 'f/b', value: '1' },
        ],
      );
      await eventually(() => expect(follower.entries()?.size).toBe(2));
      await subject.kill();
      await subject.restart();
      const other = subject.connect();
      await eventually(async () => {
        await other.commit([], [{ remove: 'f/a' }, { put: 'f/c', value: '2' }]);
      });
      await eventually(() => expect([...(follower.entries()?.keys() ?? [])].sort()).toEqual(['f/b', 'f/c']));
      follower.close();
    });

    test('a held lease outlives restarts of the store', async () => {
      const granted: LeaseId[] = [];
      const held = holdLease(nodeEnv, store, 10_000, {
        async granted(lease) {
          await store.commit([], [{ put: 'member', value: 'here', lease }]);
          granted.push(lease);
        },
        lost: () => undefined,
      });
      await eventually(() => expect(granted).toHaveLength(1));
      await subject.kill();
      await subject.restart();
      const other = subject.connect();
      await eventually(async () => expect((await other.get('member'))?.value).toBe('here'));
      await held.close();
      await eventually(async () => expect(await other.get('member')).toBeUndefined());
    });

    test('of two candidates one leads; when it leaves, the other does, with a later epoch', async () => {
      const reign: { name: string; epoch: number }[] = [];
      const run = (name: string) =>
        campaign(nodeEnv, subject.connect(), 'throne', name, TTL_MS, {
          elected: ({ epoch }) => reign.push({ name, epoch }),
          deposed: () => undefined,
        });
      const a = run('a');
      await eventually(() => expect(reign).toHaveLength(1));
      const b = run('b');
      await eventually(() => expect(a.leadership()?.epoch).toBe(reign[0]?.epoch));
      expect(b.leadership()).toBeUndefined();
      await a.close();
      await eventually(() => expect(reign.map(({ name }) => name)).toEqual(['a', 'b']));
      expect(reign[1]!.epoch).toBeGreaterThan(reign[0]!.epoch);
      await b.close();
    });

    test('a leader that was cut off cannot act, and no epoch has two leaders', async () => {
      const claims: { name: string; epoch: number }[] = [];
      const acts: { name: string; epoch: number; code: string }[] = [];
      // Cut off: calls of this candidate fail, while the store and the others go on.
      let cut = false;
      const reach = subject.connect();
      const guard = async <T>(call: () => Promise<T>): Promise<T> => {
        if (cut) throw new SilverbackError('UNAVAILABLE', 'cut off');
        return call();
      };
      const severed: MetaStore = {
        commit: (conditions, changes) => guard(() => reach.commit(conditions, changes)),
        get: (key) => guard(() => reach.get(key)),
        range: (prefix) => guard(() => reach.range(prefix)),
        watch: (prefix, from, handler) =>
          reach.watch(prefix, from, {
            events: (events, revision) => cut || handler.events(events, revision),
            ended: (error) => handler.ended(error),
          }),
        grantLease: (ttlMs) => guard(() => reach.grantLease(ttlMs)),
        renewLease: (lease) => guard(() => reach.renewLease(lease)),
        revokeLease: (lease) => guard(() => reach.revokeLease(lease)),
        close: () => reach.close(),
      };
      const offices = new Map<string, Leadership>();
      const run = (name: string, via: MetaStore) =>
        campaign(nodeEnv, via, 'throne', name, TTL_MS, {
          elected(leadership) {
            claims.push({ name, epoch: leadership.epoch });
            offices.set(name, leadership);
          },
          deposed: () => undefined,
        });
      const act = async (name: string, via: MetaStore): Promise<void> => {
        // On purpose without asking whether the office is still held: the store must refuse by itself.
        const office = offices.get(name)!;
        const code = await codeOf(via.commit([office.condition], [{ put: 'deed', value: name }]));
        acts.push({ name, epoch: office.epoch, code });
      };
      const a = run('a', severed);
      await eventually(() => expect(claims).toHaveLength(1));
      await act('a', reach);
      const b = run('b', store);
      cut = true;
      await eventually(() => expect(claims.map(({ name }) => name)).toEqual(['a', 'b']));
      expect(a.leadership()).toBeUndefined();
      await act('a', reach);
      await act('b', store);
      cut = false;
      await b.close();
      await eventually(() => expect(claims.map(({ name }) => name)).toEqual(['a', 'b', 'a']));
      expect(acts.map(({ name, code }) => [name, code])).toEqual([
        ['a', 'OK'],
        ['a', 'CONFLICT'],
        ['b', 'OK'],
      ]);
      expect(new Set(claims.map(({ epoch }) => epoch)).size).toBe(3);
      await a.close();
    });

    test('a holder that stood still knows on waking that its lease may be gone, and takes a new one', async () => {
      const process = pausable(nodeEnv, subject.connect());
      const granted: LeaseId[] = [];
      let lost = 0;
      const held = holdLease(process.env, process.store, TTL_MS, {
        async granted(lease) {
          await process.store.commit([], [{ put: 'member', value: String(granted.length), lease }]);
          granted.push(lease);
        },
        lost: () => lost++,
      });
      await eventually(() => expect(granted).toHaveLength(1));
      expect(held.held()).toBe(true);
      process.pause();
      await eventually(async () => expect(await store.get('member')).toBeUndefined());
      // Before anything of it has run again.
      expect(held.held()).toBe(false);
      expect(lost).toBe(0);
      process.resume();
      await eventually(async () => expect((await store.get('member'))?.value).toBe('1'));
      expect(lost).toBe(1);
      expect(granted[1]).not.toBe(granted[0]);
      await held.close();
    });

    test('a leader that stood still cannot act when it wakes', async () => {
      const process = pausable(nodeEnv, subject.connect());
      const [claims, office] = claimed();
      const a = campaign(process.env, process.store, 'throne', 'a', TTL_MS, office('a'));
      await eventually(() => expect(claims).toHaveLength(1));
      const old = a.leadership()!;
      const b = campaign(nodeEnv, store, 'throne', 'b', TTL_MS, office('b'));
      process.pause();
      await eventually(() => expect(claims.map(({ name }) => name)).toEqual(['a', 'b']));
      expect(a.leadership()).toBeUndefined();
      process.resume();
      expect(a.leadership()).toBeUndefined();
      expect(await codeOf(process.store.commit([old.condition], [{ put: 'deed', value: 'a' }]))).toBe('CONFLICT');
      await b.close();
      await eventually(() => expect(claims.map(({ name }) => name)).toEqual(['a', 'b', 'a']));
      expect(new Set(claims.map(({ epoch }) => epoch)).size).toBe(3);
      await a.close();
    });

    test('of two candidates and a cut network: never two leaders, and no deed of an epoch that is over', async (context) => {
      if (subject.port === undefined) return context.skip('this store is not reached over a network');
      const proxy = await TcpProxy.start(subject.port);
      const [claims, office] = claimed();
      const deeds = new Recorder();
      store.watch('deed', 1, deeds);
      const behind = subject.connect(proxy.port);
      const act = (via: MetaStore, { epoch, condition }: Leadership) =>
        codeOf(via.commit([condition], [{ put: 'deed', value: String(epoch) }]));
      const a = campaign(nodeEnv, behind, 'throne', 'a', TTL_MS, office('a'));
      await eventually(() => expect(a.leadership()).toBeDefined());
      const old = a.leadership()!;
      expect(await act(behind, old)).toBe('OK');
      const b = campaign(nodeEnv, store, 'throne', 'b', TTL_MS, office('b'));
      proxy.cut();
      // On its way when the network is cut: whether it was done is unknown, and it arrives late.
      const late = act(behind, old);
      await eventually(() => {
        const [one, other] = [a.leadership(), b.leadership()];
        if (one !== undefined && other !== undefined) throw new Error(`two leaders: ${one.epoch}, ${other.epoch}`);
        expect(other).toBeDefined();
      });
      expect(await act(store, b.leadership()!)).toBe('OK');
      expect(await late).toBe('UNAVAILABLE');
      proxy.mend();
      await eventually(async () => expect(await codeOf(behind.get('deed'))).toBe('OK'));
      expect(await act(behind, old)).toBe('CONFLICT');
      expect(a.leadership()).toBeUndefined();
      await b.close();
      await eventually(() => expect(a.leadership()).toBeDefined());
      expect(await act(behind, a.leadership()!)).toBe('OK');
      await eventually(() => expect(deeds.puts).toEqual(claims.map(({ epoch }) => `deed=${epoch}`)));
      expect(claims.map(({ name }) => name)).toEqual(['a', 'b', 'a']);
      expect(new Set(claims.map(({ epoch }) => epoch)).size).toBe(3);
      await a.close();
      proxy.close();
    });

    test('a closed store refuses calls and ends watches', async () => {
      const recorder = new Recorder();
      store.watch('', 1, recorder);
      await store.get('a');
      await store.close();
      expect(await codeOf(store.get('a'))).toBe('UNAVAILABLE');
      await eventually(() => expect(recorder.code).toBe('UNAVAILABLE'));
    });
  });
}
