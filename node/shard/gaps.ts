/**
 * What a shard knows that it lacks: ranges whose samples were lost, or that no copy had when this one was filled, and windows
 * whose block was found unsound. The block store owns the latter, as files in quarantine.
 *
 * `gaps` in the shard's directory (jsonfile.ts, magic "SILVGAP" and version 1): the ranges. It is on disk before anything
 * depends on it: what a damaged log held is known as lost before the shard serves, what a copy inherits before it counts as
 * filled. A gap that is closed may come back by a power cut; repair closes it again.
 */

import type { Env } from '../../core/env/env.ts';
import { messageOf } from '../../core/errors.ts';
import { WINDOW_MS } from '../../core/kernel/shard.ts';
import { type BlockStore, isUnsound, type SealedBlock } from './blocks.ts';
import { DAMAGED, type JsonFile, readJson, writeJson } from './jsonfile.ts';
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

const MAGIC = 'SILVGAP\x01';
/** More become one that covers them all. */
const MAX_GAPS = 256;

export class Gaps {
  readonly #env: Pick<Env, 'clock' | 'disk'>;
  readonly #directory: string;
  readonly #settings: Pick<ShardSettings, 'maxSampleAgeMs' | 'maxFutureMs'>;
  readonly #blocks: BlockStore;
  readonly #problems: Problems;
  #lost: ShardCoverage[] = [];
  #isSaved = true;
  #saving: Promise<void> = Promise.resolve();

  constructor(
    env: Pick<Env, 'clock' | 'disk'>,
    directory: string,
    settings: Pick<ShardSettings, 'maxSampleAgeMs' | 'maxFutureMs'>,
    blocks: BlockStore,
    problems: Problems,
  ) {
    this.#env = env;
    this.#directory = directory;
    this.#settings = settings;
    this.#blocks = blocks;
    this.#problems = problems;
  }

  /** Samples are gone and it is not known from when: everything that could have been in the log has a gap. */
  lost(message: string, nowMs = this.#env.clock.nowMs()): void {
    this.#problems.report(message);
    const { maxSampleAgeMs, maxFutureMs } = this.#settings;
    const fromMs = Math.max(0, nowMs - maxSampleAgeMs);
    this.report({ fromMs, toMs: nowMs + maxFutureMs, state: 'missing', reason: message });
  }

  /** Samples of this range are gone, or may be. */
  report(gap: ShardCoverage): void {
    // Found again with every opening, as long as the log has it.
    const same = this.#lost.filter((known) => known.reason === gap.reason && touch(known, gap));
    this.#lost = [...this.#lost.filter((known) => !same.includes(known)), covering([gap, ...same])];
    const [first, ...others] = this.#lost;
    if (first !== undefined && others.length >= MAX_GAPS) this.#lost = [covering([first, ...others])];
    this.#isSaved = false;
  }

  /** Those of earlier openings. @throws VERSION, and what the disk throws. */
  async load(): Promise<void> {
    const content = await readJson(this.#env.disk, this.#file);
    if (content === undefined) return;
    if (content === DAMAGED) this.lost(`${this.#directory}/gaps is damaged: what it said to be missing is not known`);
    else this.#lost.push(...(content as ShardCoverage[]));
    this.#dropOld();
  }

  /** Resolves when what is known now survives a power cut. */
  save(): Promise<void> {
    const result = this.#saving.then(() => this.#save());
    this.#saving = result.catch(() => undefined);
    return result;
  }

  async #save(): Promise<void> {
    if (this.#isSaved) return;
    this.#dropOld();
    this.#isSaved = true;
    try {
      await writeJson(this.#env.disk, this.#file, this.#lost);
      await this.#env.disk.syncDirectory(this.#directory);
    } catch (error) {
      this.#isSaved = false;
      throw error;
    }
  }

  /** What is past retention lacks nothing. */
  #dropOld(): void {
    const keepFromMs = this.#env.clock.nowMs() - this.#settings.maxSampleAgeMs;
    this.#lost = this.#lost.filter(({ toMs }) => toMs >= keepFromMs);
  }

  get #file(): JsonFile {
    return { directory: this.#directory, name: 'gaps', magic: MAGIC };
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

  /** What was lost in the range is back, but for `others`. Both ends at windows' bounds. */
  async close({ fromMs, toMs }: TimeRange, others: readonly ShardCoverage[]): Promise<void> {
    this.#lost = this.#lost.flatMap((gap) => {
      if (gap.fromMs > toMs || gap.toMs < fromMs) return [gap];
      this.#isSaved = false;
      const left: ShardCoverage[] = [];
      if (gap.fromMs < fromMs) left.push({ ...gap, toMs: fromMs - 1 });
      if (gap.toMs > toMs) left.push({ ...gap, fromMs: toMs + 1 });
      return left;
    });
    for (const gap of others) this.report(gap);
    for (const { windowStartMs } of this.#blocks.gaps) {
      if (windowStartMs >= fromMs && windowStartMs < toMs) await this.#blocks.closeGap(windowStartMs);
    }
    await this.save();
  }

  /** Those that touch the range, in no order. */
  within(range: TimeRange): ShardCoverage[] {
    const found: ShardCoverage[] = [];
    for (const gap of this.#lost) if (gap.fromMs <= range.toMs && gap.toMs >= range.fromMs) found.push(gap);
    for (const { windowStartMs, reason } of this.#blocks.gaps) {
      const toMs = windowStartMs + WINDOW_MS - 1;
      if (windowStartMs <= range.toMs && toMs >= range.fromMs) {
        found.push({ fromMs: windowStartMs, toMs, state: 'missing', reason });
      }
    }
    return found;
  }
}

function touch(a: TimeRange, b: TimeRange): boolean {
  return a.fromMs <= b.toMs + 1 && b.fromMs <= a.toMs + 1;
}

/** One that reaches over all of them. */
function covering(gaps: readonly [ShardCoverage, ...ShardCoverage[]]): ShardCoverage {
  const fromMs = Math.min(...gaps.map((gap) => gap.fromMs));
  const toMs = Math.max(...gaps.map((gap) => gap.toMs));
  return { ...gaps[0], fromMs, toMs };
}
