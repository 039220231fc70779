/**
 * Whose turn it is: the requests that a node has taken off the wire, a line for each caller. The one that has been
 * served least goes next ("start-time fair queueing", Goyal 1996), so that a small request of one waits for one request at
 * most of each other, however many these have in their lines. Between slices the loop has its turn, and with it whoever
 * comes meanwhile. What may wait in the lines is bounded by who puts it there.
 */
import type { Env } from '../core/env/env.ts';

interface Task {
  readonly bytes: number;
  readonly run: () => void;
}

class Line {
  readonly tasks: Task[] = [];
  /** In bytes served: where its next task starts. */
  start = 0;
}

const SLICE_MS = 2;
/** What a task costs beside its bytes, in bytes. */
const TASK_BYTES = 1_024;

export class Turns {
  readonly #env: Pick<Env, 'clock' | 'timers'>;
  /** Those that have something waiting. */
  readonly #lines = new Map<unknown, Line>();
  /** The start of the task that ran last. */
  #start = 0;
  #isServing = false;

  constructor(env: Pick<Env, 'clock' | 'timers'>) {
    this.#env = env;
  }

  /** Runs `run`, which must not throw, in its caller's turn: after what the same caller added before. */
  add(caller: unknown, bytes: number, run: () => void): void {
    let line = this.#lines.get(caller);
    if (line === undefined) {
      line = new Line();
      line.start = this.#start;
      this.#lines.set(caller, line);
    }
    line.tasks.push({ bytes, run });
    if (!this.#isServing) void this.#serve();
  }

  async #serve(): Promise<void> {
    const { clock, timers } = this.#env;
    this.#isServing = true;
    while (this.#lines.size > 0) {
      await timers.yield();
      const untilMs = clock.monotonicMs() + SLICE_MS;
      do this.#serveNext();
      while (this.#lines.size > 0 && clock.monotonicMs() < untilMs);
    }
    this.#isServing = false;
  }

  #serveNext(): void {
    let caller: unknown;
    let first: Line | undefined;
    for (const [key, line] of this.#lines) {
      if (first !== undefined && line.start >= first.start) continue;
      caller = key;
      first = line;
    }
    const task = first?.tasks.shift();
    if (first === undefined || task === undefined) return;
    this.#start = first.start;
    first.start += task.bytes + TASK_BYTES;
    if (first.tasks.length === 0) this.#lines.delete(caller);
    task.run();
  }
}
