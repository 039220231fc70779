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
/** Who asks for nothing for so long begins anew. */
const PAUSE_MS = 2_000;
/** Less, or in a shorter time, says nothing of how fast it goes. */
const TELLING_BYTES = 2 ** 20;
const TELLING_MS = 1_000;
/** Older measurements are of another time of the day. */
const RECENT_MS = 15 * 60_000;

export class Pace {
  readonly #options: PaceOptions;
  /** Monotonic: when all that was given is paid for. */
  #paidMs = 0;
  /** What is given without a pause, or was last. Monotonic. */
  #stretch = { fromMs: 0, untilMs: Number.NEGATIVE_INFINITY, byteCount: 0 };
  #measured: { readonly bytesPerSecond: number; readonly atMs: number } | undefined;

  constructor(options: PaceOptions) {
    this.#options = options;
  }

  get bytesPerSecond(): number {
    return this.#options.bytesPerSecond;
  }

  /** What was given in a second of late, with all that holds it up: the takers, too. Undefined: not enough to tell. */
  get measuredBytesPerSecond(): number | undefined {
    if (this.#measured === undefined) return undefined;
    const ageMs = this.#options.env.clock.monotonicMs() - this.#measured.atMs;
    return ageMs > RECENT_MS ? undefined : this.#measured.bytesPerSecond;
  }

  /** Resolves when more may be given after so many bytes; rejects with the signal's reason. */
  async spend(byteCount: number, signal: AbortSignal): Promise<void> {
    const { env, bytesPerSecond, isBusy } = this.#options;
    const nowMs = env.clock.monotonicMs();
    const costMs = ((isBusy() ? BUSY_WEIGHT : 1) * byteCount * 1_000) / bytesPerSecond;
    // What was not used is no credit.
    this.#paidMs = Math.max(this.#paidMs, nowMs) + costMs;
    const waitMs = this.#paidMs - nowMs;
    this.#measure(nowMs, byteCount);
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

  #measure(nowMs: number, byteCount: number): void {
    const stretch = this.#stretch;
    if (nowMs - stretch.untilMs > PAUSE_MS) this.#stretch = { fromMs: nowMs, untilMs: this.#paidMs, byteCount };
    else {
      stretch.byteCount += byteCount;
      stretch.untilMs = this.#paidMs;
    }
    const { fromMs, untilMs, byteCount: given } = this.#stretch;
    if (given < TELLING_BYTES || untilMs - fromMs < TELLING_MS) return;
    this.#measured = { bytesPerSecond: (given * 1_000) / (untilMs - fromMs), atMs: nowMs };
  }
}
