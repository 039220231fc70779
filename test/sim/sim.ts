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

class Event {
  isCancelled = false;

  /** `machine` undefined: the world's own, which no machine's end takes away. `process`: of the machine, that it belongs to. */
  constructor(
    readonly at: number,
    readonly order: number,
    readonly machine: Machine | undefined,
    readonly process: number,
    readonly run: () => void,
  ) {}

  cancel(): void {
    this.isCancelled = true;
  }
}

/** Runs all that promises have ready, synchronously; only outside of them. Not public, and as old as Node. */
const settlePromises = (process as unknown as { _tickCallback(): void })._tickCallback;

/** Calls `run` outside of all promises. */
function outside<T>(run: () => T): Promise<T> {
  return new Promise((resolve, reject) => {
    setImmediate(() => {
      try {
        settlePromises();
        resolve(run());
      } catch (error) {
        reject(error as Error);
      }
    });
  });
}

/** What machines share: time, and what happens next. */
class World {
  readonly random: Seeded;
  clockMs = 0;
  private order = 0;
  /** A heap: each event is before the two at twice its index. The first place is empty. */
  private readonly events: (Event | undefined)[] = [undefined];

  constructor(
    readonly seed: number,
    readonly startMs: number,
  ) {
    this.random = new Seeded(seed);
  }

  schedule(machine: Machine | undefined, delayMs: number, run: () => void): Event {
    const event = new Event(this.clockMs + delayMs, this.order++, machine, machine?.process ?? 0, run);
    this.put(event);
    return event;
  }

  put(event: Event): void {
    const { events } = this;
    let at = events.length;
    for (let above = at >> 1; above > 0 && before(event, events[above]!); at = above, above >>= 1) {
      events[at] = events[above];
    }
    events[at] = event;
  }

  /** Runs the next event, if it is due until then, and all that promises make of it. */
  step(untilMs: number): boolean {
    for (let event = this.events[1]; event !== undefined; event = this.events[1]) {
      const { machine } = event;
      const isOver = event.isCancelled || (machine !== undefined && event.process !== machine.process);
      if (!isOver && machine?.isPaused) machine.hold(event);
      else if (!isOver && event.at > untilMs) return false;
      this.takeFirst();
      if (isOver || machine?.isPaused) continue;
      this.clockMs = Math.max(this.clockMs, event.at);
      event.run();
      settlePromises();
      return true;
    }
    return false;
  }

  private takeFirst(): void {
    const { events } = this;
    const last = events.pop()!;
    const end = events.length;
    if (end === 1) return;
    let at = 1;
    for (let below = 2; below < end; below = at << 1) {
      if (below + 1 < end && before(events[below + 1]!, events[below]!)) below++;
      if (!before(events[below]!, last)) break;
      events[at] = events[below];
      at = below;
    }
    events[at] = last;
  }
}

export class Machine {
  readonly random: Seeded;
  disk: SimDisk;
  /** How long a disk operation takes: uniform from 0 to this. */
  diskMs = 2;
  /** How far its wall clock is off. */
  skewMs = 0;
  /** Counts its processes. */
  process = 0;
  private paused = false;
  /** What its process would have done meanwhile. */
  private held: Event[] = [];

  constructor(protected readonly world: World) {
    this.random = world.random;
    this.disk = new SimDisk(this.random);
  }

  /** Its process makes no step. */
  get isPaused(): boolean {
    return this.paused;
  }

  set isPaused(isPaused: boolean) {
    this.paused = isPaused;
    if (!isPaused) for (const event of this.held.splice(0)) this.world.put(event);
  }

  /** For `World` only. */
  hold(event: Event): void {
    this.held.push(event);
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
        : new Event(Number.POSITIVE_INFINITY, 0, this, process, run);
    return {
      clock: {
        nowMs: () => world.startMs + this.skewMs + Math.floor(world.clockMs),
        monotonicMs: () => world.clockMs,
      },
      timers: {
        after: (delayMs, task) => {
          const event = schedule(delayMs, task);
          return { cancel: () => event.cancel() };
        },
        every: (periodMs, task) => {
          let event: Event;
          const again = () => {
            event = schedule(periodMs, again);
            task();
          };
          event = schedule(periodMs, again);
          return { cancel: () => event.cancel() };
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
    this.held = [];
    this.isPaused = false;
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
    await outside(() => {
      while (!settled) {
        if (!this.world.step(Number.POSITIVE_INFINITY))
          throw new Error(`seed ${this.seed}: nothing left to run, still waiting`);
      }
    });
    return promise;
  }

  /** Lets `durationMs` pass. */
  async advance(durationMs: number): Promise<void> {
    const until = this.world.clockMs + durationMs;
    await outside(() => {
      while (this.world.step(until));
    });
    this.world.clockMs = until;
  }

  /** Runs `count` events, as far as there are any: to stop in the middle of things. */
  async steps(count: number): Promise<void> {
    await outside(() => {
      for (let i = 0; i < count && this.world.step(Number.POSITIVE_INFINITY); i++);
    });
  }
}

function before(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
