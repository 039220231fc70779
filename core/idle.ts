/** Work that is done while a process has nothing else to do. */
import type { Env } from './env/env.ts';

export interface IdleOptions {
  readonly env: Pick<Env, 'clock' | 'timers'>;
  /** A small part of the work. `isWanted`: ask it between parts of a part; false: somebody came, or it is enough. */
  readonly work: (isWanted: () => boolean) => Promise<void>;
  /** CPU time of this process, milliseconds. */
  readonly cpuMs: () => number;
  /** The work stops for good after so much of it. */
  readonly maxCpuMs: number;
  /** Changes with everything that somebody asks of the process. */
  readonly activity: () => number;
  readonly signal: AbortSignal;
}

/** It is quiet when nobody asked for so long. */
const QUIET_MS = 2_000;
/** Between two parts, and two looks: while it works, at most about a third of a core is taken. */
const LOOK_MS = 30;
/** Of the time between two looks, what housekeeping may take. */
const BUSY_SHARE = 0.2;

/** Resolves when the work has had its CPU time, or the signal is aborted. Rejects with what a part rejects with. */
export async function whileIdle(options: IdleOptions): Promise<void> {
  const { env, work, cpuMs, maxCpuMs, activity, signal } = options;
  const { clock, timers } = env;
  let spentMs = 0;
  let seen = activity();
  let lookedMs = clock.monotonicMs();
  let quietSinceMs = lookedMs;
  let usedMs = cpuMs();
  while (!signal.aborted && spentMs < maxCpuMs) {
    await new Promise<void>((resolve) => void timers.after(LOOK_MS, resolve));
    const nowMs = clock.monotonicMs();
    const nowUsedMs = cpuMs();
    const isBusy = activity() !== seen || nowUsedMs - usedMs > BUSY_SHARE * (nowMs - lookedMs);
    seen = activity();
    lookedMs = nowMs;
    usedMs = nowUsedMs;
    if (isBusy) quietSinceMs = nowMs;
    if (nowMs - quietSinceMs < QUIET_MS || signal.aborted) continue;
    await work(() => activity() === seen && !signal.aborted && spentMs + cpuMs() - usedMs < maxCpuMs);
    const endedMs = cpuMs();
    spentMs += endedMs - usedMs;
    usedMs = endedMs;
    lookedMs = clock.monotonicMs();
  }
}
