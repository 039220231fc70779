/** How long to wait before another try. */

import type { Random } from '../core/env/env.ts';

const FIRST_MS = 50;
const LONGEST_MS = 5_000;

/**
 * Exponential with full jitter (Brooker, "Exponential Backoff And Jitter", 2015), but never below half the step,
 * so that a try right after a failure does not happen. `failures` in a row so far; 0 waits as 1 does.
 */
export function backoffMs(random: Random, failures: number): number {
  const step = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 16));
  return Math.max(FIRST_MS, step) * (0.5 + random.next() / 2);
}
