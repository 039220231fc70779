import type { Env } from '../../core/env/env.ts';

/** Long work on the shared loop, cut into slices: `if (slicer.due()) await slicer.pause()` between small steps. */
export class Slicer {
  readonly #env: Env;
  readonly #sliceMs: number;
  readonly #signal: AbortSignal | undefined;
  #credit = STEPS_PER_LOOK;
  #startedMs: number;

  /** `pause` rejects with the reason of `signal` once that is aborted. */
  constructor(env: Env, signal?: AbortSignal, sliceMs = 1) {
    this.#env = env;
    this.#sliceMs = sliceMs;
    this.#signal = signal;
    this.#startedMs = env.clock.monotonicMs();
  }

  /** Counts one step; true when the slice is used up. The clock is read every few dozen steps. */
  due(): boolean {
    if (--this.#credit > 0) return false;
    this.#credit = STEPS_PER_LOOK;
    return this.#env.clock.monotonicMs() - this.#startedMs >= this.#sliceMs;
  }

  /** Counts a step that costs as much as `steps` (about 20 ns each). */
  spend(steps: number): void {
    this.#credit -= steps;
  }

  /** Gives other work its turn. */
  async pause(): Promise<void> {
    this.#signal?.throwIfAborted();
    await this.#env.timers.yield();
    this.#signal?.throwIfAborted();
    this.#startedMs = this.#env.clock.monotonicMs();
    this.#credit = STEPS_PER_LOOK;
  }
}

const STEPS_PER_LOOK = 64;
