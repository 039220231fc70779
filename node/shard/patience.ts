/** How what another copy sends waits for room: nothing of it is refused for the want of that. */
import type { Env } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import type { Log } from './log.ts';
import type { Slicer } from './slicer.ts';

export interface PatienceParts {
  readonly env: Env;
  readonly log: Log;
  /** Told that room is wanted: a window is to be sealed. */
  readonly press: () => void;
}

const WAIT_MS = 250;

/**
 * Does a step that may be repeated, as soon as there is room for it: until it neither returns undefined nor throws
 * RESOURCE_EXHAUSTED. Rejects with UNAVAILABLE once `isDetached`, and with what failed the log.
 */
export async function patiently(
  { env, log, press }: PatienceParts,
  isDetached: () => boolean,
  step: () => number | undefined,
  slicer: Slicer,
): Promise<number> {
  for (;;) {
    let waitMs = WAIT_MS;
    try {
      if (isDetached()) throw new SilverbackError('UNAVAILABLE', 'the replica is detached');
      if (log.failure !== undefined) throw log.failure;
      const result = step();
      if (result !== undefined) return result;
    } catch (error) {
      if (!(error instanceof SilverbackError) || error.code !== 'RESOURCE_EXHAUSTED') throw error;
      waitMs = error.retryAfterMs ?? WAIT_MS;
    }
    press();
    await new Promise<void>((resolve) => void env.timers.after(waitMs, resolve));
    await slicer.pause();
  }
}
