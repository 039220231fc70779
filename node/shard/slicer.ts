import type { Env } from '../../core/env/env.ts';

/** Says whether work is still wanted: an AbortSignal, or what is cheaper to make. */
export type Interrupt = Pick<AbortSignal, 'throwIfAborted'>;

/** Long work on the shared loop, cut into slices: `if (slicer.due()) await slicer.pause()` between small steps. */
export class Slicer {
  readonly #env: Env;
  readonly #sliceMs: number;
  readonly #signals: readonly Interrupt[];
  #credit: number;
  #startedMs: number;

  /** `pause` rejects with the reason of any of `signals` that is aborted. `sliceMs` 0: every step is a slice. */
  constructor(env: Env, signals: readonly Interrupt[] = [], sliceMs = 1) {
    this.#env = env;
    this.#sliceMs = sliceMs;
    this.#signals = signals;
    this.#credit = sliceMs === 0 ? 1 : STEPS_PER_LOOK;
    this.#startedMs = env.clock.monotonicMs();
  }

  /** Counts one step; true when the slice is used up. The clock is read every few dozen steps. */
  due(): boolean {
    if (--this.#credit > 0) return false;
    this.#credit = this.#sliceMs === 0 ? 1 : STEPS_PER_LOOK;
    return this.#env.clock.monotonicMs() - this.#startedMs >= this.#sliceMs;
  }

  /** Counts a step that costs as much as `steps` (about 20 ns each). */
  spend(steps: number): void {
    this.#credit -= steps;
  }

  /** Gives other work its turn. */
  async pause(): Promise<void> {
    for (const signal of this.#signals) signal.throwIfAborted();
    await this.#env.timers.yield();
    for (const signal of this.#signals) signal.throwIfAborted();
    this.#startedMs = this.#env.clock.monotonicMs();
    this.#credit = this.#sliceMs === 0 ? 1 : STEPS_PER_LOOK;
  }
}

const STEPS_PER_LOOK = 64;
