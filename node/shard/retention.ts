/** What leaves a shard with time (samples, deletions, series that have neither), and what it holds of the process's memory. */

import type { Env } from '../../core/env/env.ts';
import { messageOf, SilverbackError } from '../../core/errors.ts';
import { type ShardKernel, WINDOW_MS } from '../../core/kernel/shard.ts';
import type { Annex } from './annex.ts';
import type { BlockStore } from './blocks.ts';
import type { Catalogue } from './catalogue.ts';
import type { Deletions } from './deletions.ts';
import type { ShardSettings } from './options.ts';
import { IdSet } from './postings.ts';
import type { Problems } from './problems.ts';
import type { Slicer } from './slicer.ts';

export interface RetentionParts {
  readonly env: Env;
  readonly settings: ShardSettings;
  readonly kernel: ShardKernel;
  readonly catalogue: Catalogue;
  readonly blocks: BlockStore;
  readonly deletions: Deletions;
  readonly annex: Annex;
  readonly problems: Problems;
  /** Aborted: the shard is closing, so that what fails has no news. */
  readonly closed: AbortSignal;
}

/** A window under way is sealed at the next tick. */
const PRESSED_RETRY_MS = 1_000;
/** A kernel that uses less is not sealed early: it would give back next to nothing. */
const SEALED_BYTES = 4 << 20;

export class Retention {
  readonly #parts: RetentionParts;
  /** Blocks left, or series were defined that may never have got a sample (by recovery, too): look for series to release. */
  #collectDue = true;
  #collectSeriesCount = Number.POSITIVE_INFINITY;
  #kernelPeakBytes = 0;
  /** Held for good beside kernel and series index, when last counted. */
  #otherBytes = 0;
  #overBudget = false;

  constructor(parts: RetentionParts) {
    this.#parts = parts;
  }

  /** The most the kernel used so far: what was once touched stays resident. */
  get kernelPeakBytes(): number {
    return this.#kernelPeakBytes;
  }

  /** The process held more than its budget when that was last looked at, and had nothing left to evict. */
  get overBudget(): boolean {
    return this.#overBudget;
  }

  /** Series may have been left without samples: the next `retain` looks for them. */
  collectSoon(): void {
    this.#collectDue = true;
  }

  /** Lets old blocks, deletions and series go. Never rejects. Not while a checkpoint or a block is being made of them. */
  async retain(slicer: Slicer): Promise<void> {
    const { env, settings, blocks, deletions, catalogue, problems, closed } = this.#parts;
    const { maxSampleAgeMs, diskRetentionMs } = settings;
    try {
      if (maxSampleAgeMs !== Number.POSITIVE_INFINITY) {
        const nowMs = env.clock.nowMs();
        if (blocks.retire(nowMs - maxSampleAgeMs) > 0) this.#collectDue = true;
        const keepFromMs = nowMs - Math.max(maxSampleAgeMs, diskRetentionMs);
        await blocks.expire(keepFromMs);
        if (deletions.expire(keepFromMs - WINDOW_MS) > 0) this.#collectDue = true;
      }
      // Series can be defined and never get a sample: the table growing by half is reason to look, too.
      if (this.#collectDue || catalogue.seriesCount > this.#collectSeriesCount) {
        this.#collectDue = false;
        await this.#collect(slicer);
        this.#collectSeriesCount = Math.max(1000, catalogue.seriesCount * 1.5);
      }
    } catch (error) {
      if (!closed.aborted) problems.report(`retention failed: ${messageOf(error)}`);
    }
  }

  async #collect(slicer: Slicer): Promise<void> {
    const { blocks, deletions, catalogue } = this.#parts;
    const resident = new IdSet();
    for (const block of blocks.all) {
      for (let at = 0; at < block.ids.length; at += 8192) {
        resident.addAll(block.ids.subarray(at, at + 8192));
        slicer.spend(1024);
        if (slicer.due()) await slicer.pause();
      }
    }
    await catalogue.collect(resident, (id) => deletions.has(id), slicer);
  }

  /** States what the shard holds for good; blocks in memory state themselves. */
  account(): void {
    const { blocks, deletions, annex } = this.#parts;
    this.#otherBytes = deletions.byteCount + annex.byteCount;
    for (const block of blocks.all) this.#otherBytes += block.indexBytes;
    this.grown();
  }

  /** The same for what every batch may make larger. */
  grown(): void {
    const { settings, kernel, catalogue } = this.#parts;
    this.#kernelPeakBytes = Math.max(this.#kernelPeakBytes, kernel.usedBytes);
    settings.budget.hold(this, this.#kernelPeakBytes + catalogue.indexBytes + this.#otherBytes);
  }

  /** Sealing would help: little is left of the budget, and of what the kernel has touched, and that is worth it. */
  get isTight(): boolean {
    const { settings, kernel } = this.#parts;
    if (!settings.budget.isTight || kernel.usedBytes < SEALED_BYTES) return false;
    return kernel.usedBytes * 4 > this.#kernelPeakBytes * 3;
  }

  /**
   * Throws RESOURCE_EXHAUSTED when the budget is used up by what cannot leave memory, and the kernel has no room for `bytes`
   * more in what it has touched already.
   */
  admit(bytes: number): void {
    const { settings, kernel } = this.#parts;
    const { budget, shard } = settings;
    if (!budget.isFull || kernel.usedBytes + bytes <= this.#kernelPeakBytes) return;
    const message = `shard ${shard}: the node holds ${budget.fixedBytes} bytes of series and open windows of its memory budget of ${budget.limitBytes}, a batch of about ${bytes} more waits until a window is sealed`;
    throw new SilverbackError('RESOURCE_EXHAUSTED', message, { retryAfterMs: PRESSED_RETRY_MS });
  }

  /** Evicts blocks, whichever shard's, until the process's budget holds. */
  enforce(): void {
    this.#overBudget = !this.#parts.settings.budget.enforce();
  }

  /** The shard holds nothing any more. */
  release(): void {
    this.#parts.settings.budget.hold(this, 0);
  }
}
