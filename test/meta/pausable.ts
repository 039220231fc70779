/** A process that can be stopped and goes on later, as by SIGSTOP and SIGCONT: its clock and the world go on without it. */
import type { Env, Timer } from '../../core/env/env.ts';
import type { MetaStore } from '../../core/meta/store.ts';

export interface Pausable {
  readonly env: Env;
  /** The process's connection to its store. */
  readonly store: MetaStore;
  pause(): void;
  resume(): void;
}

export function pausable(env: Env, store: MetaStore): Pausable {
  let paused = false;
  let waiting: (() => void)[] = [];
  /** Runs `task` now, or in order once the process goes on. */
  const run = (task: () => void): void => {
    if (paused) waiting.push(task);
    else task();
  };
  const arrived = <T>(answer: Promise<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      answer.then(
        (value) => run(() => resolve(value)),
        (error: Error) => run(() => reject(error)),
      );
    });
  const after = (delayMs: number, task: () => void): Timer => {
    let cancelled = false;
    const timer = env.timers.after(delayMs, () => run(() => cancelled || task()));
    return {
      cancel() {
        cancelled = true;
        timer.cancel();
      },
    };
  };
  return {
    env: { ...env, timers: { ...env.timers, after } },
    store: {
      commit: (conditions, changes) => arrived(store.commit(conditions, changes)),
      get: (key) => arrived(store.get(key)),
      range: (prefix) => arrived(store.range(prefix)),
      watch: (prefix, from, handler) =>
        store.watch(prefix, from, {
          events: (events, revision) => run(() => handler.events(events, revision)),
          ended: (error) => run(() => handler.ended(error)),
        }),
      grantLease: (ttlMs) => arrived(store.grantLease(ttlMs)),
      renewLease: (lease) => arrived(store.renewLease(lease)),
      revokeLease: (lease) => arrived(store.revokeLease(lease)),
      close: () => store.close(),
    },
    pause() {
      paused = true;
    },
    resume() {
      paused = false;
      const late = waiting;
      waiting = [];
      for (const task of late) task();
    },
  };
}
