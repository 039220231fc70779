/**
 * Simulated machines: seeded randomness, one virtual clock, and per machine a disk that loses what was not synced. One
 * process runs on a machine at a time (`boot`); `crash` and `kill` end it: its operations and timers then never come back,
 * like those of a dead process. `pause` holds it, as SIGSTOP does.
 *
 *     const sim = new Sim(seed);
 *     let env = sim.boot();
 *     await sim.settle(work(env));
 *     sim.crash();
 *     env = sim.boot();
 *
 * A `Sim` is its own first machine; `machine()` adds others to its world. Nothing here waits for real time, and nothing that
 * runs on it may (no native asynchronous calls).
 */
import type { Env } from '../../core/env/env.ts';
import { SimDisk } from './disk.ts';
import { Seeded } from './random.ts';

interface Event {
  at: number;
  readonly order: number;
  /** Undefined: the world's own, which no machine's end takes away. */
  readonly machine: Machine | undefined;
  readonly run: () => void;
}

/** Lets every promise reaction that is ready run. */
function drain(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** What machines share: time, and what happens next. */
class World {
  readonly random: Seeded;
  clockMs = 0;
  private order = 0;
  private events: Event[] = [];

  constructor(
    readonly seed: number,
    readonly startMs: number,
  ) {
    this.random = new Seeded(seed);
  }

  schedule(machine: Machine | undefined, delayMs: number, run: () => void): Event {
    const event = { at: this.clockMs + delayMs, order: this.order++, machine, run };
    this.events.push(event);
    return event;
  }

  cancel(event: Event): void {
    const index = this.events.indexOf(event);
    if (index >= 0) this.events.splice(index, 1);
  }

  /** Drops all that a machine's process had under way. */
  forget(machine: Machine): void {
    this.events = this.events.filter((event) => event.machine !== machine);
  }

  step(untilMs: number): boolean {
    let next = -1;
    for (let i = 0; i < this.events.length; i++) {
      const event = this.events[i]!;
      if (event.machine?.isPaused) continue;
      if (next < 0 || before(event, this.events[next]!)) next = i;
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

export class Machine {
  readonly random: Seeded;
  disk: SimDisk;
  /** How long a disk operation takes: uniform from 0 to this. */
  diskMs = 2;
  /** How far its wall clock is off. */
  skewMs = 0;
  /** Its process makes no step. */
  isPaused = false;
  private process = 0;

  constructor(protected readonly world: World) {
    this.random = world.random;
    this.disk = new SimDisk(this.random);
  }

  /** Starts a process, and ends the one before as `kill` would. */
  boot(): Env {
    this.kill();
    const { world, random } = this;
    const process = this.process;
    // A dead process's operations go nowhere.
    const schedule = (delayMs: number, run: () => void): Event =>
      process === this.process
        ? world.schedule(this, delayMs, run)
        : { at: Number.POSITIVE_INFINITY, order: 0, machine: this, run };
    return {
      clock: {
        nowMs: () => world.startMs + this.skewMs + Math.floor(world.clockMs),
        monotonicMs: () => world.clockMs,
      },
      timers: {
        after: (delayMs, task) => {
          const event = schedule(delayMs, task);
          return { cancel: () => world.cancel(event) };
        },
        every: (periodMs, task) => {
          let event: Event;
          const again = () => {
            event = schedule(periodMs, again);
            task();
          };
          event = schedule(periodMs, again);
          return { cancel: () => world.cancel(event) };
        },
        yield: () => new Promise((resolve) => schedule(0, resolve)),
      },
      disk: this.disk.view(
        (operation) =>
          new Promise((resolve, reject) => {
            schedule(random.next() * this.diskMs, () => {
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

  /** Its process is gone, and it has a new, empty disk. */
  wipe(): void {
    this.kill();
    this.disk = new SimDisk(this.random);
  }

  private end(): void {
    this.process++;
    this.isPaused = false;
    this.world.forget(this);
  }
}

export class Sim extends Machine {
  constructor(
    readonly seed: number,
    startMs = Date.UTC(2026, 0, 1),
  ) {
    super(new World(seed, startMs));
  }

  /** Another machine of this world. */
  machine(): Machine {
    return new Machine(this.world);
  }

  /** Virtual milliseconds since the start. */
  get nowMs(): number {
    return this.world.clockMs;
  }

  /** Something that happens outside of the machines: on the network, say. */
  later(delayMs: number, run: () => void): void {
    this.world.schedule(undefined, delayMs, run);
  }

  /** Runs the machines until `promise` settles. Throws when nothing is left that could settle it. */
  async settle<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const mark = () => {
      settled = true;
    };
    promise.then(mark, mark);
    await drain();
    while (!settled) {
      if (!this.world.step(Number.POSITIVE_INFINITY))
        throw new Error(`seed ${this.seed}: nothing left to run, still waiting`);
      await drain();
    }
    return promise;
  }

  /** Lets `durationMs` pass. */
  async advance(durationMs: number): Promise<void> {
    const until = this.world.clockMs + durationMs;
    await drain();
    while (this.world.step(until)) await drain();
    this.world.clockMs = until;
  }

  /** Runs `count` events, as far as there are any: to stop in the middle of things. */
  async steps(count: number): Promise<void> {
    await drain();
    for (let i = 0; i < count && this.world.step(Number.POSITIVE_INFINITY); i++) await drain();
  }
}

function before(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
