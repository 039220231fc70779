/**
 * What elections must do over every meta store. A machine that stalls ends leases at any time, so nothing here says who leads
 * when: an incumbent may lose the throne and take it again. What holds whatever happens is said by `Court.audit`.
 */
import { expect, test } from 'vitest';
import { nodeEnv } from '../../core/env/node.ts';
import { SilverbackError } from '../../core/errors.ts';
import { type Campaign, campaign, type Leadership } from '../../core/meta/election.ts';
import type { MetaStore } from '../../core/meta/store.ts';
import { codeOf, eventually, Recorder } from './observe.ts';
import { pausable } from './pausable.ts';
import { TcpProxy } from './proxy.ts';
import { SHORT_TTL_MS, type Subject } from './subject.ts';

const DEED = 'deed';

/** Candidates for one throne, and everything that was claimed and done. */
class Court {
  readonly #store: MetaStore;
  readonly #campaigns = new Map<string, Campaign>();
  readonly #claims: { name: string; epoch: number }[] = [];
  readonly #deeds = new Recorder();
  readonly #watcher: NodeJS.Timeout;
  #twoLeaders: string | undefined;

  constructor(store: MetaStore) {
    this.#store = store;
    store.watch(DEED, 1, this.#deeds);
    this.#watcher = setInterval(() => this.#look(), 1);
  }

  run(name: string, via: MetaStore, env = nodeEnv): Campaign {
    const running = campaign(env, via, 'throne', name, SHORT_TTL_MS, {
      elected: ({ epoch }) => {
        this.#claims.push({ name, epoch });
        this.#look();
      },
      deposed: () => this.#look(),
    });
    this.#campaigns.set(name, running);
    return running;
  }

  /** On purpose without asking whether the office is still held: the store must refuse by itself. */
  act(name: string, via: MetaStore, { epoch, condition }: Leadership): Promise<string> {
    return codeOf(via.commit([condition], [{ put: DEED, value: `${name} ${epoch}` }]));
  }

  /** Waits until a candidate leads and the store took a deed of its. @returns the office that it was done in */
  reign(name: string, via: MetaStore): Promise<Leadership> {
    return eventually(async () => {
      this.#look();
      const office = this.#campaigns.get(name)!.leadership();
      if (office === undefined) throw new Error(`${name} does not lead`);
      expect(await this.act(name, via, office)).toBe('OK');
      return office;
    });
  }

  /** Waits until the store answers to a deed of an office that is over. */
  async refused(name: string, via: MetaStore, office: Leadership): Promise<void> {
    const code = await eventually(async () => {
      const answer = await this.act(name, via, office);
      expect(answer).not.toBe('UNAVAILABLE');
      return answer;
    });
    expect(code).toBe('CONFLICT');
  }

  /** Ends all campaigns and checks what must hold whatever happened. */
  async audit(): Promise<void> {
    for (const running of this.#campaigns.values()) await running.close();
    clearInterval(this.#watcher);
    await eventually(() => this.#store.commit([], [{ put: DEED, value: 'the end' }]));
    await eventually(() => expect(this.#deeds.puts.at(-1)).toBe(`${DEED}=the end`));

    expect(this.#twoLeaders, 'two leaders at once').toBeUndefined();
    const epochs = this.#claims.map(({ epoch }) => epoch);
    expect(new Set(epochs).size, 'no epoch is claimed twice').toBe(epochs.length);
    let before = 0;
    for (const { entry, revision } of this.#deeds.seen.slice(0, -1)) {
      const [name, word] = entry!.value.split(' ');
      const epoch = Number(word);
      expect(this.#claims, `a deed of ${name}`).toContainEqual({ name, epoch });
      expect(epoch, 'epochs of deeds never go back').toBeGreaterThanOrEqual(before);
      const later = epochs.filter((one) => one > epoch && one < revision);
      expect(later, `offices taken between epoch ${epoch} and a deed of it at revision ${revision}`).toEqual([]);
      before = epoch;
    }
  }

  #look(): void {
    const leaders = [...this.#campaigns].filter(([, { leadership }]) => leadership() !== undefined);
    if (leaders.length > 1) this.#twoLeaders ??= leaders.map(([name]) => name).join(' and ');
  }
}

/** @param now the subject of the running test and a connection to it */
export function electionTests(now: () => { subject: Subject; store: MetaStore }): void {
  test('of two candidates one leads; when it leaves, the other does, with a later epoch', async () => {
    const { subject, store } = now();
    const court = new Court(store);
    const a = court.run('a', subject.connect());
    await court.reign('a', store);
    court.run('b', subject.connect());
    // Time to do wrong.
    await new Promise((resolve) => setTimeout(resolve, SHORT_TTL_MS / 2));
    await a.close();
    await court.reign('b', store);
    await court.audit();
  });

  test('a leader that was cut off cannot act, and no epoch has two leaders', async () => {
    const { subject, store } = now();
    const court = new Court(store);
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
    court.run('a', severed);
    const old = await court.reign('a', reach);
    const b = court.run('b', store);
    cut = true;
    await court.reign('b', store);
    await court.refused('a', reach, old);
    cut = false;
    await b.close();
    await court.reign('a', reach);
    await court.audit();
  });

  test('a leader that stood still cannot act when it wakes', async () => {
    const { subject, store } = now();
    const court = new Court(store);
    const process = pausable(nodeEnv, subject.connect());
    const a = court.run('a', process.store, process.env);
    const old = await court.reign('a', store);
    const b = court.run('b', store);
    process.pause();
    await court.reign('b', store);
    expect(a.leadership()).toBeUndefined();
    process.resume();
    // Nothing has reached it yet since it woke up.
    expect(a.leadership()).toBeUndefined();
    await court.refused('a', process.store, old);
    await b.close();
    await court.reign('a', process.store);
    await court.audit();
  });

  test('of two candidates and a cut network: never two leaders, and no deed of an epoch that is over', async (context) => {
    const { subject, store } = now();
    if (subject.port === undefined) return context.skip('this store is not reached over a network');
    const proxy = await TcpProxy.start(subject.port);
    const court = new Court(store);
    const behind = subject.connect(proxy.port);
    court.run('a', behind);
    const old = await court.reign('a', behind);
    const b = court.run('b', store);
    proxy.cut();
    // On its way when the network is cut: whether it was done is unknown, and it arrives late.
    const late = court.act('a', behind, old);
    await court.reign('b', store);
    expect(await late).toBe('UNAVAILABLE');
    proxy.mend();
    await court.refused('a', behind, old);
    await b.close();
    await court.reign('a', behind);
    await court.audit();
    proxy.close();
  });
}
