/** What every meta store must do, written once. A store's own test file says how to start, reach, kill and restart it. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { nodeEnv } from '../../core/env/node.ts';
import { follow } from '../../core/meta/follow.ts';
import { holdLease } from '../../core/meta/lease.ts';
import type { LeaseId, MetaStore } from '../../core/meta/store.ts';
import { electionTests } from './elections.ts';
import { codeOf, eventually, Recorder } from './observe.ts';
import { pausable } from './pausable.ts';
import { SHORT_TTL_MS, type Subject } from './subject.ts';

/** The machine stood still for so long that a test showed nothing. */
class Stalled extends Error {}

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
      /** Fails unless the lease it renews was renewed in time: then it is not known to have lived, and nothing was shown. */
      const attempt = async (prefix: string): Promise<void> => {
        let livesUntilMs = performance.now() + SHORT_TTL_MS;
        try {
          const lives = await store.grantLease(SHORT_TTL_MS);
          const dies = await store.grantLease(SHORT_TTL_MS);
          const renew = async (): Promise<void> => {
            const sentMs = performance.now();
            await store.renewLease(lives);
            livesUntilMs = sentMs + SHORT_TTL_MS;
          };
          const put = (key: string, value: string, lease?: LeaseId) => ({
            put: `${prefix}/${key}`,
            value,
            ...(lease && { lease }),
          });
          await store.commit([], [put('dies', '1', dies), put('saved', '1', dies), put('free', '1')]);
          // Written again under another lease: it no longer goes with the first.
          await store.commit([], [put('lives', '1', lives), put('saved', '2', lives)]);
          for (let tries = 0; (await store.get(`${prefix}/dies`)) !== undefined; tries++) {
            expect(tries, 'looks at what should be gone').toBeLessThan(1_000);
            await renew();
            await new Promise((resolve) => setTimeout(resolve, 10));
          }
          await renew();
          const { entries } = await store.range(`${prefix}/`);
          expect(entries.map(({ key }) => key)).toEqual(['free', 'lives', 'saved'].map((key) => `${prefix}/${key}`));
          expect(await codeOf(store.renewLease(dies))).toBe('NOT_FOUND');
          expect(await codeOf(store.commit([], [put('x', '', dies)]))).toBe('NOT_FOUND');
        } catch (error) {
          if (performance.now() < livesUntilMs) throw error;
          throw new Stalled('a renewal came too late', { cause: error });
        }
      };
      for (let tries = 1; ; tries++) {
        try {
          return await attempt(String(tries));
        } catch (error) {
          if (!(error instanceof Stalled) || tries >= 20) throw error;
        }
      }
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

    test('a holder that stood still knows on waking that its lease may be gone, and takes a new one', async () => {
      const process = pausable(nodeEnv, subject.connect());
      const granted: LeaseId[] = [];
      let lost = 0;
      const held = holdLease(process.env, process.store, SHORT_TTL_MS, {
        async granted(lease) {
          await process.store.commit([], [{ put: 'member', value: lease, lease }]);
          granted.push(lease);
        },
        lost: () => lost++,
      });
      await eventually(() => expect(held.held()).toBe(true));
      await eventually(async () => expect((await store.get('member'))?.value).toBe(granted.at(-1)));
      process.pause();
      const [lostBefore, grantedBefore] = [lost, [...granted]];
      await eventually(async () => expect(await store.get('member')).toBeUndefined());
      // Before anything of it has run again.
      expect(held.held()).toBe(false);
      expect(lost).toBe(lostBefore);
      process.resume();
      await eventually(async () =>
        expect(grantedBefore).not.toContain((await store.get('member'))?.value ?? grantedBefore[0]),
      );
      expect(lost).toBeGreaterThan(lostBefore);
      await held.close();
    });

    electionTests(() => ({ subject, store }));

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
