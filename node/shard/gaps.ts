/**
 * What a shard knows that it lacks: ranges whose samples were lost before it was opened, and windows whose block was found
 * unsound. The block store owns the latter, since they stay over a restart; the former are found again, if they still are
 * there, whenever the shard is opened.
 */

import type { Clock } from '../../core/env/env.ts';
import { messageOf } from '../../core/errors.ts';
import { WINDOW_MS } from '../../core/kernel/shard.ts';
import { type BlockStore, isUnsound, type SealedBlock } from './blocks.ts';
import type { ShardSettings } from './options.ts';
import type { Problems } from './problems.ts';

/** Milliseconds, both ends inclusive. */
export interface TimeRange {
  readonly fromMs: number;
  readonly toMs: number;
}

/** What is known to be in an answer for a time range. */
export interface ShardCoverage extends TimeRange {
  readonly state: 'complete' | 'unconfirmed' | 'missing';
  readonly reason: string;
}

export class Gaps {
  readonly #clock: Clock;
  readonly #settings: Pick<ShardSettings, 'maxSampleAgeMs' | 'maxFutureMs'>;
  readonly #blocks: BlockStore;
  readonly #problems: Problems;
  #lost: ShardCoverage[] = [];

  constructor(
    clock: Clock,
    settings: Pick<ShardSettings, 'maxSampleAgeMs' | 'maxFutureMs'>,
    blocks: BlockStore,
    problems: Problems,
  ) {
    this.#clock = clock;
    this.#settings = settings;
    this.#blocks = blocks;
    this.#problems = problems;
  }

  /** Samples are gone and it is not known from when: everything that could have been in the log has a gap. */
  lost(message: string, nowMs = this.#clock.nowMs()): void {
    this.#problems.report(message);
    const { maxSampleAgeMs, maxFutureMs } = this.#settings;
    const fromMs = Math.max(0, nowMs - maxSampleAgeMs);
    this.#lost.push({ fromMs, toMs: nowMs + maxFutureMs, state: 'missing', reason: message });
  }

  /** Samples of this range are gone, or may be. */
  report(gap: ShardCoverage): void {
    this.#lost.push(gap);
  }

  /** A block could not be read. If it is unsound it leaves, and its window has a gap from now on. */
  async unsound(block: SealedBlock, error: unknown): Promise<void> {
    try {
      const message = isUnsound(error) ? await this.#blocks.quarantine(block, error) : undefined;
      this.#problems.report(message ?? `reading block ${block.path} failed: ${messageOf(error)}`);
    } catch (failure) {
      this.#problems.report(`setting block ${block.path} aside failed: ${messageOf(failure)}`);
    }
  }

  /** What was lost in the range is back. Both ends at windows' bounds. */
  async close({ fromMs, toMs }: TimeRange): Promise<void> {
    this.#lost = this.#lost.flatMap((gap) => {
      if (gap.fromMs > toMs || gap.toMs < fromMs) return [gap];
      const left: ShardCoverage[] = [];
      if (gap.fromMs < fromMs) left.push({ ...gap, toMs: fromMs - 1 });
      if (gap.toMs > toMs) left.push({ ...gap, fromMs: toMs + 1 });
      return left;
    });
    for (const { windowStartMs } of this.#blocks.gaps) {
      if (windowStartMs >= fromMs && windowStartMs < toMs) await this.#blocks.closeGap(windowStartMs);
    }
  }

  /** Those that touch the range, in no order. */
  within(range: TimeRange): ShardCoverage[] {
    const found: ShardCoverage[] = this.#lost.filter((gap) => gap.fromMs <= range.toMs && gap.toMs >= range.fromMs);
    for (const { windowStartMs, reason } of this.#blocks.gaps) {
      const toMs = windowStartMs + WINDOW_MS - 1;
      if (windowStartMs <= range.toMs && toMs >= range.fromMs) {
        found.push({ fromMs: windowStartMs, toMs, state: 'missing', reason });
      }
    }
    return found;
  }
}
