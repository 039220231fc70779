/**
 * What keeps the log short: checkpoints, which recovery then starts from, and the cursors of the other copies. A segment goes
 * when neither a kept checkpoint nor a cursor needs it; one that only cursors need goes, too, once the log is larger than it
 * may be.
 */

import type { Env } from '../../core/env/env.ts';
import { messageOf } from '../../core/errors.ts';
import type { ShardKernel } from '../../core/kernel/shard.ts';
import type { Annex } from './annex.ts';
import { type CheckpointInfo, writeCheckpoint } from './checkpoint.ts';
import type { Cursors } from './cursors.ts';
import type { Deletions } from './deletions.ts';
import type { Log } from './log.ts';
import type { ShardSettings } from './options.ts';
import { writePages } from './pages.ts';
import type { Problems } from './problems.ts';
import type { Slicer } from './slicer.ts';

export interface KeeperParts {
  readonly env: Env;
  /** The shard's. */
  readonly directory: string;
  readonly settings: ShardSettings;
  readonly kernel: ShardKernel;
  readonly deletions: Deletions;
  readonly annex: Annex;
  readonly log: Log;
  readonly cursors: Cursors;
  readonly problems: Problems;
  /** Aborted: the shard is closing, so that what fails has no news. */
  readonly closed: AbortSignal;
}

/** At close, a log with more to replay than this is worth a checkpoint. */
const CLOSING_LOG_BYTES = 4 * 1024 * 1024;
/** A checkpoint that is made early, because the log is larger than it may be, takes in at least so much of it. */
const EARLY_LOG_BYTES = 16 * 1024 * 1024;
/** Between the beginnings of two of them. */
const EARLY_MS = 10_000;

export class Keeper {
  readonly #parts: KeeperParts;
  readonly #log: Log;
  readonly #cursors: Cursors;
  #nextAtMs: number;
  #earlyAtMs = 0;
  /** `log.tail().sequence` at the last checkpoint. */
  #checkpointedSequence = 0;
  /** What the last checkpoint takes. */
  #checkpointBytes = 0;
  /** No recovery needs what the log holds before this. */
  #releasableSequence = 0;
  #checkpointedAtMs: number | undefined;

  /** `checkpoint`: that the shard was opened from, if there was one. */
  constructor(parts: KeeperParts, checkpoint: CheckpointInfo | undefined) {
    this.#parts = parts;
    this.#log = parts.log;
    this.#cursors = parts.cursors;
    const { env, settings } = parts;
    const monotonicMs = env.clock.monotonicMs();
    if (checkpoint !== undefined) {
      this.#checkpointedSequence = checkpoint.position.sequence;
      this.#checkpointBytes = checkpoint.byteCount;
      this.#checkpointedAtMs = monotonicMs;
    }
    // Shards opened together do not checkpoint together.
    this.#nextAtMs = monotonicMs + settings.checkpointIntervalMs * env.random.next();
  }

  /** Since the last checkpoint, or since the shard was opened from one. */
  get checkpointAgeMs(): number | undefined {
    const sinceMs = this.#checkpointedAtMs;
    return sinceMs === undefined ? undefined : this.#parts.env.clock.monotonicMs() - sinceMs;
  }

  get checkpointDue(): boolean {
    if (!this.#hasNews || this.#log.failure !== undefined) return false;
    return this.#parts.env.clock.monotonicMs() >= this.#nextAtMs || this.#isEarlyDue;
  }

  /**
   * Recovery would have to replay more than it should, or the log is larger than it may be and a checkpoint can let go of part
   * of that. Never for less than the checkpoint itself writes, so that a log of many series is not written twice.
   */
  get #isEarlyDue(): boolean {
    const { logAllowanceBytes, replayAllowanceBytes } = this.#parts.settings;
    if (this.#parts.env.clock.monotonicMs() < this.#earlyAtMs) return false;
    const [logBytes, allowance] = [this.#log.byteCount, logAllowanceBytes()];
    const replayed = Math.max(replayAllowanceBytes(), this.#checkpointBytes);
    if (logBytes <= Math.min(replayed, allowance)) return false;
    let newBytes = 0;
    for (const { endSequence, byteCount } of this.#log.segments()) {
      if (endSequence > this.#checkpointedSequence) newBytes += byteCount;
    }
    if (newBytes > replayed) return true;
    return logBytes > allowance && newBytes > Math.max(allowance / 4, EARLY_LOG_BYTES);
  }

  /** Would the next opening be much faster for a checkpoint at close? */
  get closingCheckpointDue(): boolean {
    return this.#log.failure === undefined && this.#log.byteCount > CLOSING_LOG_BYTES && this.#hasNews;
  }

  get #hasNews(): boolean {
    return this.#log.tail().sequence > this.#checkpointedSequence;
  }

  /** Never rejects: a failure is reported, and tried again when the next one is due. Not while a window is being sealed. */
  async checkpoint(slicer: Slicer): Promise<void> {
    const { env, directory, settings, kernel, deletions, annex, problems, closed } = this.#parts;
    this.#nextAtMs = env.clock.monotonicMs() + settings.checkpointIntervalMs;
    this.#earlyAtMs = env.clock.monotonicMs() + EARLY_MS;
    // All that was appended before this position is in open runs or blocks now, and will be in the pages or blocks.
    const position = this.#log.tail();
    try {
      const writer = await writeCheckpoint(env, `${directory}/checkpoints`, { shard: settings.shard, position });
      try {
        await writePages(kernel, deletions, annex, writer, slicer);
        // A power cut must not leave a checkpoint of records that the log lost: other copies get them from the log.
        if (this.#log.syncedSequence < position.sequence) await this.#log.synced(position.sequence - 1);
        const { release, byteCount } = await writer.commit();
        this.#checkpointedSequence = position.sequence;
        this.#checkpointBytes = byteCount;
        this.#checkpointedAtMs = env.clock.monotonicMs();
        if (release !== undefined) {
          this.#releasableSequence = release;
          await this.#log.release(Math.min(release, await this.#cursors.keptFloor()));
        }
      } catch (error) {
        await writer.abort();
        throw error;
      }
    } catch (error) {
      if (closed.aborted) return;
      problems.report(`checkpoint failed: ${messageOf(error)}`);
    }
  }

  /** Writes cursors down, and lets the log's oldest segments go when copies that lag made it too large. Never rejects. */
  async keepCursors(): Promise<void> {
    try {
      await this.#cursors.saveSometimes();
      let excess = this.#log.byteCount - this.#parts.settings.logAllowanceBytes();
      if (excess <= 0 || this.#cursors.floor() >= this.#releasableSequence) return;
      let sequence = 0;
      for (const { endSequence, byteCount } of this.#log.segments()) {
        if (excess <= 0 || endSequence > this.#releasableSequence) break;
        sequence = endSequence;
        excess -= byteCount;
      }
      if (sequence === 0) return;
      await this.#log.release(sequence);
      this.#cursors.released();
    } catch (error) {
      this.#failed(error);
    }
  }

  /** At close: what `keepCursors` would have written later. Never rejects. */
  async saveCursors(): Promise<void> {
    await this.#cursors.save().catch((error: unknown) => this.#failed(error));
  }

  #failed(error: unknown): void {
    this.#parts.problems.report(`keeping cursors failed: ${messageOf(error)}`);
  }
}
