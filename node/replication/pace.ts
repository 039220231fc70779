/**
 * How fast a node works for copies that lag: what it ships to them, what it takes in while it lags itself, and what repair
 * fetches, on one account, since one event loop does it all. Live writes come first: while they wait longer for their log than
 * they did when nothing was caught up, the rate falls; while they do not, or there are none, it rises again to what is allowed.
 *
 * Decided in periods, and only when something happens: a node with nothing to catch up has no timer for it.
 */
import type { Clock } from '../../core/env/env.ts';

const PERIOD_MS = 250;
/** After a silence of so long, what was counted before it says nothing. */
const STALE_MS = 4 * PERIOD_MS;
/** The rate never falls below this part of what is allowed: a copy that is not caught up is a danger, too. */
const LEAST_SHARE = 1 / 32;
/** It begins in between. */
const FIRST_SHARE = 1 / 8;
const FALL = 0.6;
const RISE = 1.25;
/** Waits below this are no reason for anything. */
const SHORT_WAIT_MS = 5;
/** Nor are those of up to this many times the calm ones. */
const PATIENCE = 2;
/** How fast the calm ones are learned anew, per period. */
const LEARNING = 0.1;
/** What was not used for so long is gone. */
const BURST_MS = 20;

export class Pace {
  /** At the most. */
  readonly allowedBytesPerSecond: number;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  #bytesPerSecond: number;
  /** What was spent so far is paid for at this time; monotonic. */
  #paidMs = Number.NEGATIVE_INFINITY;
  #waitedMs = 0;
  /** Of live writes, while nothing is caught up: what they wait for their log, on average. */
  #calmMs = SHORT_WAIT_MS;
  #startedMs = Number.NEGATIVE_INFINITY;
  #writeCount = 0;
  #writeMs = 0;
  #spentBytes = 0;

  constructor(clock: Pick<Clock, 'monotonicMs'>, allowedBytesPerSecond: number) {
    this.#clock = clock;
    this.allowedBytesPerSecond = allowedBytesPerSecond;
    this.#bytesPerSecond = allowedBytesPerSecond * FIRST_SHARE;
  }

  /** What is spent in a second now, at the most. */
  get bytesPerSecond(): number {
    return this.#bytesPerSecond;
  }

  /** Somebody who catches up is made to wait. */
  get isThrottling(): boolean {
    return this.#paidMs > this.#clock.monotonicMs();
  }

  /** Of all who were made to wait, added up. */
  get waitedMs(): number {
    return this.#waitedMs;
  }

  /** A live write was in its log so long after it came. */
  committed(durationMs: number): void {
    this.#roll(this.#clock.monotonicMs());
    this.#writeCount++;
    this.#writeMs += durationMs;
  }

  /** So much is being done for a copy that lags. Returns how long it has to wait before it goes on, in milliseconds. */
  spend(byteCount: number): number {
    const nowMs = this.#clock.monotonicMs();
    this.#roll(nowMs);
    this.#spentBytes += byteCount;
    const costMs = (byteCount / this.#bytesPerSecond) * 1_000;
    this.#paidMs = Math.max(this.#paidMs, nowMs - BURST_MS) + costMs;
    const waitMs = Math.max(0, this.#paidMs - nowMs);
    // Who comes later waits for those before, too: each counts for itself.
    this.#waitedMs += Math.min(waitMs, costMs);
    return waitMs;
  }

  #roll(nowMs: number): void {
    const sinceMs = nowMs - this.#startedMs;
    if (sinceMs < PERIOD_MS) return;
    if (sinceMs < STALE_MS) this.#decide();
    this.#startedMs = nowMs;
    this.#writeCount = 0;
    this.#writeMs = 0;
    this.#spentBytes = 0;
  }

  #decide(): void {
    const meanMs = this.#writeMs / this.#writeCount;
    if (this.#spentBytes === 0) {
      if (this.#writeCount > 0) this.#calmMs += (meanMs - this.#calmMs) * LEARNING;
      return;
    }
    const isSlow = this.#writeCount > 0 && meanMs > Math.max(SHORT_WAIT_MS, PATIENCE * this.#calmMs);
    const rate = this.#bytesPerSecond * (isSlow ? FALL : RISE);
    const allowed = this.allowedBytesPerSecond;
    this.#bytesPerSecond = Math.min(allowed, Math.max(allowed * LEAST_SHARE, rate));
  }
}
