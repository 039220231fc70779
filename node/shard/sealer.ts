/**
 * Which window is sealed when: one whose time is over and that nothing is written to any more; before that, the one that was
 * written to least lately, as soon as the kernel has little room left or the process none. One at a time.
 */

import type { Env } from '../../core/env/env.ts';
import { messageOf } from '../../core/errors.ts';
import { WINDOW_MS } from '../../core/kernel/shard.ts';
import { isUnsound } from './blocks.ts';
import type { Gaps } from './gaps.ts';
import type { ShardSettings } from './options.ts';
import type { Problems } from './problems.ts';
import type { Retention } from './retention.ts';
import { sealWindow, type Windows } from './seal.ts';
import type { Intake } from './sender.ts';
import type { Slicer } from './slicer.ts';

export interface SealerParts {
  readonly env: Env;
  readonly settings: ShardSettings;
  readonly windows: Windows;
  readonly gaps: Gaps;
  readonly problems: Problems;
  readonly intake: Pick<Intake, 'takePressure'>;
  readonly retention: Pick<Retention, 'overBudget' | 'isTight'>;
  /** Aborted: the shard is closing, so that what fails has no news. */
  readonly closed: AbortSignal;
}

/** How long sealing that failed waits before the next try. */
const RETRY_MS = 30_000;
/** Between two seals because little is left of the process's budget. */
const TIGHT_MS = 30_000;

interface Idleness {
  appendCount: number;
  sinceMs: number;
}

export class Sealer {
  readonly #parts: SealerParts;
  readonly #idleness = new Map<number, Idleness>();
  #retryAtMs = 0;
  #tightAtMs = 0;
  #count = 0;
  #lastMs = 0;

  constructor(parts: SealerParts) {
    this.#parts = parts;
  }

  /** Windows sealed since the shard was opened. */
  get count(): number {
    return this.#count;
  }

  /** How long the last one took. */
  get lastMs(): number {
    return this.#lastMs;
  }

  /** The window to seal now, if one is due. To be asked every second or so: it sees how long windows are idle. */
  due(): number | undefined {
    const { env, settings, windows, intake, retention } = this.#parts;
    const { kernel } = windows;
    const open = kernel.windows();
    const monotonicMs = env.clock.monotonicMs();
    const sealableMs = env.clock.nowMs() - settings.sealDelayMs - WINDOW_MS;
    let idlest: number | undefined;
    let idlestSinceMs = Number.POSITIVE_INFINITY;
    let due: number | undefined;
    for (const { startMs, appendCount } of open) {
      let idleness = this.#idleness.get(startMs);
      if (idleness === undefined || idleness.appendCount !== appendCount) {
        idleness = { appendCount, sinceMs: monotonicMs };
        this.#idleness.set(startMs, idleness);
      }
      if (idleness.sinceMs < idlestSinceMs) {
        idlest = startMs;
        idlestSinceMs = idleness.sinceMs;
      }
      if (startMs <= sealableMs && monotonicMs - idleness.sinceMs >= settings.sealIdleMs) due ??= startMs;
    }
    if (this.#idleness.size > open.length) {
      const starts = new Set(open.map((window) => window.startMs));
      for (const startMs of this.#idleness.keys()) if (!starts.has(startMs)) this.#idleness.delete(startMs);
    }
    if (monotonicMs < this.#retryAtMs) return undefined;
    if (due !== undefined) return due;
    const crowded = open.length * 4 > settings.limits.maxOpenWindowCount * 3;
    const full = kernel.usedBytes * 4 > settings.limits.maxKernelBytes * 3;
    if (intake.takePressure() || crowded || full) return idlest;
    // Nothing is left to evict: closed windows leave the kernel early, whose memory the next ones then reuse.
    if (retention.overBudget && open.length > 1) return idlest;
    // Even the one that is being written to, though not all the time: each time its block is made anew.
    if (retention.isTight && monotonicMs >= this.#tightAtMs) {
      this.#tightAtMs = monotonicMs + TIGHT_MS;
      return idlest;
    }
    return undefined;
  }

  /** `rejects`: failures are the caller's, too. Not while another is under way, nor a digest or a checkpoint. */
  async seal(windowStartMs: number, slicer: Slicer, rejects = false): Promise<void> {
    const { env, windows, gaps, problems, closed } = this.#parts;
    const startedMs = env.clock.monotonicMs();
    try {
      await sealWindow(windows, windowStartMs, slicer);
      this.#count++;
      this.#lastMs = env.clock.monotonicMs() - startedMs;
    } catch (error) {
      if (closed.aborted && !rejects) return;
      const old = windows.blocks.get(windowStartMs);
      if (isUnsound(error) && old !== undefined) await gaps.unsound(old, error);
      else {
        this.#retryAtMs = env.clock.monotonicMs() + RETRY_MS;
        problems.report(`sealing window ${new Date(windowStartMs).toISOString()} failed: ${messageOf(error)}`);
      }
      if (rejects) throw error;
    }
  }
}
