/** What a query may use: time, samples in memory, and the patience of whoever asked. */
import type { Env } from '../../core/env/env.ts';
import { QueryError } from './error.ts';

/** Slices of work between two turns of the event loop. */
const SLICE_MS = 1;
/** Looking at the clock costs as much as a short series. */
const CALLS_PER_LOOK = 8;
/** Samples that cost about as much as a short series: 128. */
const SAMPLES_PER_CALL_LOG2 = 7;

export class Budget {
  readonly #env: Pick<Env, 'clock' | 'timers'>;
  readonly #signal: AbortSignal;
  readonly #deadlineMs: number;
  readonly #maxSamples: number;
  #sliceEndMs: number;
  #calls = 0;
  #held = 0;
  peakSamples = 0;

  /** `signal` is the caller's; `deadlineMs` is on the monotonic clock. */
  constructor(
    env: Pick<Env, 'clock' | 'timers'>,
    options: { signal: AbortSignal; deadlineMs: number; maxSamples: number },
  ) {
    this.#env = env;
    this.#signal = options.signal;
    this.#deadlineMs = options.deadlineMs;
    this.#maxSamples = options.maxSamples;
    this.#sliceEndMs = env.clock.monotonicMs() + SLICE_MS;
  }

  /** Whether it is somebody else's turn. Cheap enough to ask for every series. */
  due(): boolean {
    if (++this.#calls < CALLS_PER_LOOK) return false;
    this.#calls = 0;
    return this.#env.clock.monotonicMs() >= this.#sliceEndMs;
  }

  /** Counts work on so many samples, without which `due` would look at the clock too late. */
  spend(samples: number): void {
    this.#calls += samples >>> SAMPLES_PER_CALL_LOG2;
  }

  /** Gives way to other work. Rejects once the query is cancelled or out of time. */
  async pause(): Promise<void> {
    await this.#env.timers.yield();
    this.check('expression evaluation');
    this.#sliceEndMs = this.#env.clock.monotonicMs() + SLICE_MS;
  }

  /** Throws once the query is cancelled or out of time; `where` goes into the message. */
  check(where: string): void {
    if (this.#signal.aborted || this.#env.clock.monotonicMs() >= this.#deadlineMs) throw this.stopped(where);
  }

  /** Why a query that was told to stop was: cancelled, or else out of time, even if the timer was a moment early by the clock. */
  stopped(where: string): QueryError {
    const isLate = this.#env.clock.monotonicMs() >= this.#deadlineMs;
    return this.#signal.aborted && !isLate
      ? new QueryError('canceled', `query was canceled in ${where}`)
      : new QueryError('timeout', `query timed out in ${where}`);
  }

  /** Counts samples that stay in memory until `release`. Throws when there are too many. */
  hold(samples: number): void {
    this.#held += samples;
    if (this.#held > this.peakSamples) this.peakSamples = this.#held;
    if (this.#held > this.#maxSamples) {
      throw new QueryError('execution', 'query processing would load too many samples into memory in query execution');
    }
  }

  release(samples: number): void {
    this.#held -= samples;
  }
}
