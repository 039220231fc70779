/**
 * A simulated machine: seeded randomness, a virtual clock, a disk that loses what was not synced. One process runs on it at
 * a time (`boot`); `crash` and `kill` end it: its operations and timers then never come back, like those of a dead process.
 *
 *     const sim = new Sim(seed);
 *     let env = sim.boot();
 *     await sim.settle(work(env));
 *     sim.crash();
 *     env = sim.boot();
 *
 * Nothing here waits for real time, and nothing that runs on it may (no native asynchronous calls).
 */
import type { Env } from '../../core/env/env.ts';
import { SimDisk } from './disk.ts';
import { Seeded } from './random.ts';

interface Event {
  at: number;
  readonly order: number;
  readonly process: number;
  readonly run: () => void;
}

/** Lets every promise reaction that is ready run. */
function drain(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

export class Sim {
  readonly random: Seeded;
  readonly disk: SimDisk;
  /** How long a disk operation takes: uniform from 0 to this. */
  diskMs = 2;
  private clockMs = 0;
  private order = 0;
  private process = 0;
  private events: Event[] = [];

  constructor(
    readonly seed: number,
    private readonly startMs = Date.UTC(2026, 0, 1),
  ) {
    this.random = new Seeded(seed);
    this.disk = new SimDisk(this.random);
  }

  /** Virtual milliseconds since the start. */
  get nowMs(): number {
    return this.clockMs;
  }

  /** Starts a process, and ends the one before as `kill` would. */
  boot(): Env {
    this.kill();
    const process = this.process;
    const random = this.random;
    return {
      clock: { nowMs: () => this.startMs + Math.floor(this.clockMs), monotonicMs: () => this.clockMs },
      timers: {
        after: (delayMs, task) => {
          const event = this.schedule(process, delayMs, task);
          return { cancel: () => this.cancel(event) };
        },
        every: (periodMs, task) => {
          let event: Event;
          const again = () => {
            event = this.schedule(process, periodMs, again);
            task();
          };
          event = this.schedule(process, periodMs, again);
          return { cancel: () => this.cancel(event) };
        },
        yield: () => new Promise((resolve) => this.schedule(process, 0, resolve)),
      },
      disk: this.disk.view(
        (operation) =>
          new Promise((resolve, reject) => {
            this.schedule(process, random.next() * this.diskMs, () => {
              try {
                resolve(operation());
              } catch (error) {
                reject(error);
              }
            });
          }),
      ),
      random: { next: () => random.next(), bytes: (count) => random.bytes(count) },
    };
  }

  /** Power cut: the process is gone, and so is, at random, what was not synced. */
  crash(): void {
    this.end();
    this.disk.cutPower();
  }

  /** kill -9: the process is gone; what the system took is there. */
  kill(): void {
    this.end();
    this.disk.killProcess();
  }

  private end(): void {
    this.process++;
    this.events = [];
  }

  /** Runs the machine until `promise` settles. Throws when nothing is left that could settle it. */
  async settle<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const mark = () => {
      settled = true;
    };
    promise.then(mark, mark);
    await drain();
    while (!settled) {
      if (!this.step(Number.POSITIVE_INFINITY))
        throw new Error(`seed ${this.seed}: nothing left to run, still waiting`);
      await drain();
    }
    return promise;
  }

  /** Lets `durationMs` pass. */
  async advance(durationMs: number): Promise<void> {
    const until = this.clockMs + durationMs;
    await drain();
    while (this.step(until)) await drain();
    this.clockMs = until;
  }

  /** Runs `count` events, as far as there are any: to stop in the middle of things. */
  async steps(count: number): Promise<void> {
    await drain();
    for (let i = 0; i < count && this.step(Number.POSITIVE_INFINITY); i++) await drain();
  }

  private schedule(process: number, delayMs: number, run: () => void): Event {
    const event = { at: this.clockMs + delayMs, order: this.order++, process, run };
    // A dead process's operations go nowhere.
    if (process === this.process) this.events.push(event);
    return event;
  }

  private cancel(event: Event): void {
    const index = this.events.indexOf(event);
    if (index >= 0) this.events.splice(index, 1);
  }

  private step(untilMs: number): boolean {
    let next = -1;
    for (let i = 0; i < this.events.length; i++) {
      if (next < 0 || before(this.events[i]!, this.events[next]!)) next = i;
    }
    if (next < 0 || this.events[next]!.at > untilMs) return false;
    const event = this.events[next]!;
    this.events[next] = this.events[this.events.length - 1]!;
    this.events.pop();
    this.clockMs = Math.max(this.clockMs, event.at);
    event.run();
    return true;
  }
}

function before(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
