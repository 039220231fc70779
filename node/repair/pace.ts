/**
 * How fast a node gives to copies that are filled or repaired: so many bytes a second over all that ask, in turns. Live writes
 * come first: what is given while some are under way counts four times.
 */
import type { Env } from '../../core/env/env.ts';

export interface PaceOptions {
  readonly env: Pick<Env, 'clock' | 'timers'>;
  readonly bytesPerSecond: number;
  /** Writes are under way. */
  readonly isBusy: () => boolean;
}

const BUSY_WEIGHT = 4;
/** A wait that is shorter is not worth a timer. */
const LEAST_WAIT_MS = 2;

export class Pace {
  readonly #options: PaceOptions;
  /** Monotonic: when all that was given is paid for. */
  #paidMs = 0;

  constructor(options: PaceOptions) {
    this.#options = options;
  }

  get bytesPerSecond(): number {
    return this.#options.bytesPerSecond;
  }

  /** Resolves when more may be given after so many bytes; rejects with the signal's reason. */
  async spend(byteCount: number, signal: AbortSignal): Promise<void> {
    const { env, bytesPerSecond, isBusy } = this.#options;
    const nowMs = env.clock.monotonicMs();
    const costMs = ((isBusy() ? BUSY_WEIGHT : 1) * byteCount * 1_000) / bytesPerSecond;
    // What was not used is no credit.
    this.#paidMs = Math.max(this.#paidMs, nowMs) + costMs;
    const waitMs = this.#paidMs - nowMs;
    if (waitMs < LEAST_WAIT_MS) return;
    await new Promise<void>((resolve) => {
      const end = () => {
        timer.cancel();
        signal.removeEventListener('abort', end);
        resolve();
      };
      const timer = env.timers.after(waitMs, end);
      signal.addEventListener('abort', end);
    });
    signal.throwIfAborted();
  }
}
