/**
 * A shard: the unit of ownership, memory, recovery and digests. One thread owns it.
 *
 * A shard is a set of samples in windows of two hours. A window's samples lie in open runs (in the kernel, and in log and
 * checkpoint on disk) and in at most one sealed block (on disk, and in memory while the budget allows); reading merges them.
 * A sample's way: log and open run at once (`Sender.append`), later a block (`tick`), and after 26 hours out.
 *
 * Invariants
 * - A sample that was acknowledged is in the log, in a committed checkpoint, or in a durable block; log records go only when
 *   a committed checkpoint began after them, runs only when a durable block holds them.
 * - State changes are synchronous; what happens between two of them may be seen, half of one never.
 * - Sealing, checkpoints, retention and digests take turns (`#exclusively`): they share the kernel's digest accumulator, and
 *   series are released while no checkpoint or block is being made of them.
 *
 * In `directory`: `log/`, `checkpoints/`, `blocks/`. A crash at any point leaves a state from which `open` restores every
 * sample acknowledged as its level promises.
 */
import { ShardCardinality } from '../../core/cardinality.ts';
import type { Env } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import { type SeriesId, ShardKernel, WINDOW_MS } from '../../core/kernel/shard.ts';
import { compareUtf8 } from '../../core/labels.ts';
import { compileMatcher, type Matcher } from '../../core/matchers.ts';
import { sortSlices } from '../../core/order.ts';
import type { Aggregator } from '../../core/promql/groups.ts';
import { aggregateSeries } from './aggregate.ts';
import { Annex } from './annex.ts';
import { BlockStore, isUnsound, type SealedBlock } from './blocks.ts';
import { Catalogue } from './catalogue.ts';
import { loadCheckpoint, writeCheckpoint } from './checkpoint.ts';
import { Cursors } from './cursors.ts';
import { checkDeletion, Deletions, MAX_LISTED } from './deletions.ts';
import { Graft } from './graft.ts';
import type { Incoming } from './incoming.ts';
import { Log } from './log.ts';
import { type ShardOptions, type ShardSettings, withDefaults } from './options.ts';
import { writePages } from './pages.ts';
import { IdSet } from './postings.ts';
import { Recorder } from './recorder.ts';
import { Replica } from './replica.ts';
import { replayLog, restoreCheckpoint } from './restore.ts';
import { digestWindow, hasDead, livingMembersOf, sealWindow, verifyBlock, type Windows } from './seal.ts';
import { identityPages, type SelectLimits, type Source, selectPages } from './select.ts';
import { Intake, type Sender } from './sender.ts';
import { type Interrupt, Slicer } from './slicer.ts';
import { type Buckets, windowDeletions, windowPages } from './window.ts';

/** Milliseconds, both ends inclusive. */
export interface TimeRange {
  readonly fromMs: number;
  readonly toMs: number;
}

export interface ShardSelect extends TimeRange, SelectLimits {
  readonly matchers: readonly Matcher[];
}

/** What is known to be in an answer for a time range. */
export interface ShardCoverage extends TimeRange {
  readonly state: 'complete' | 'unconfirmed' | 'missing';
  readonly reason: string;
}

/** Something that went wrong and was lived with. */
export interface Problem {
  readonly atMs: number;
  readonly message: string;
}

export interface ShardStats {
  readonly seriesCount: number;
  /** In open runs; late ones that are not yet merged count each. */
  readonly openSampleCount: number;
  readonly sealedSampleCount: number;
  readonly openWindowCount: number;
  readonly blockCount: number;
  readonly residentBlockCount: number;
  readonly senderCount: number;
  /** Since the shard was opened. */
  readonly acceptedSampleCount: number;
  readonly refusedSampleCount: number;
  /** What the kernel uses now, and the most it used so far: what was once touched stays resident. */
  readonly kernelBytes: number;
  readonly kernelPeakBytes: number;
  readonly residentBlockBytes: number;
  readonly blockIndexBytes: number;
  /** Postings; an estimate. */
  readonly indexBytes: number;
  readonly blockFileBytes: number;
  readonly logBytes: number;
  readonly logPendingBytes: number;
  /** Undefined before the first one. */
  readonly checkpointAgeMs: number | undefined;
  /** Intervals, over all series. */
  readonly deletionCount: number;
  readonly exemplarCount: number;
  readonly exemplarSeriesCount: number;
  /** Since the shard was opened; repeated ones count. */
  readonly acceptedExemplarCount: number;
  readonly refusedExemplarCount: number;
  /** Metrics whose metadata is kept. */
  readonly metadataCount: number;
  readonly sealCount: number;
  readonly lastSealMs: number;
  readonly recoveryMs: number;
  readonly recoveredRecordCount: number;
  /** Why writes are refused. */
  readonly failure: string | undefined;
  /** The latest ones. */
  readonly problems: readonly Problem[];
  readonly problemCount: number;
}

/** Of the kernel's series table. */
const MAX_SLOT_COUNT = 16_777_216;
/** How long background work that failed waits before the next try. */
const RETRY_MS = 30_000;
const MAX_PROBLEMS = 100;
/** At close, a log with more to replay than this is worth a checkpoint. */
const CLOSING_LOG_BYTES = 4 * 1024 * 1024;

interface Idleness {
  appendCount: number;
  sinceMs: number;
}

export class Shard {
  readonly #env: Env;
  readonly #directory: string;
  readonly #settings: ShardSettings;
  readonly #kernel: ShardKernel;
  readonly #catalogue: Catalogue;
  readonly #blocks: BlockStore;
  readonly #deletions = new Deletions();
  readonly #annex: Annex;
  readonly #windows: Windows;
  // They are there once `open` has resolved.
  #log!: Log;
  #recorder!: Recorder;
  #intake!: Intake;
  #cursors!: Cursors;

  /** Sealing, checkpointing and digesting, one after the other. */
  #turn: Promise<unknown> = Promise.resolve();
  #ticking: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  readonly #closed = new AbortController();

  /** Tells this opening of the shard from every other one. */
  readonly #life: string;
  readonly #idleness = new Map<number, Idleness>();
  #retrySealAtMs = 0;
  #nextCheckpointAtMs = 0;
  /** `log.tail().sequence` at the last checkpoint. */
  #checkpointedSequence = 0;
  /** No recovery needs what the log holds before this. */
  #releasableSequence = 0;
  #checkpointedAtMs: number | undefined;
  #kernelPeakBytes = 0;
  /** Blocks left, or series were defined that may never have got a sample: look for series to release. */
  #collectSeriesCount = Number.POSITIVE_INFINITY;
  #collectDue = false;
  #overBudget = false;

  #problems: Problem[] = [];
  #problemCount = 0;
  #gaps: ShardCoverage[] = [];
  #sealCount = 0;
  #lastSealMs = 0;
  #recoveryMs = 0;
  #isNew = false;
  #recoveredRecordCount = 0;

  /**
   * Opens or creates the shard in `directory` and recovers what is there. The directory is this process's alone.
   * @throws DISK_FAILED, VERSION, INVALID_ARGUMENT (another shard's data), RESOURCE_EXHAUSTED (its open windows do not fit)
   */
  static async open(env: Env, directory: string, options: ShardOptions): Promise<Shard> {
    const shard = new Shard(env, directory, withDefaults(options));
    try {
      await shard.#recover();
    } catch (error) {
      shard.#release();
      await shard.#log?.close().catch(() => undefined);
      throw error;
    }
    return shard;
  }

  private constructor(env: Env, directory: string, settings: ShardSettings) {
    this.#env = env;
    this.#directory = directory;
    this.#settings = settings;
    this.#life = Buffer.from(env.random.bytes(8)).toString('base64url');
    const { limits } = settings;
    this.#kernel = ShardKernel.create({
      // Recovery takes more series than the limit, if there are more: somebody lowered it.
      maxSeriesCount: Math.min(MAX_SLOT_COUNT, limits.maxSeriesCount * 4),
      maxRefCount: MAX_SLOT_COUNT,
      maxMemoryBytes: limits.maxKernelBytes,
      maxOpenWindows: limits.maxOpenWindowCount,
    });
    this.#catalogue = new Catalogue(this.#kernel, limits);
    this.#blocks = new BlockStore(env, `${directory}/blocks`, settings.shard, settings.budget, (identity) =>
      this.#catalogue.restore(identity),
    );
    this.#annex = new Annex(env.clock, settings);
    this.#windows = {
      kernel: this.#kernel,
      blocks: this.#blocks,
      deletions: this.#deletions,
      shard: settings.shard,
      // What recovery finds in log and checkpoint is durable.
      deletionsDurable: () => this.#recorder?.deletionsDurable() ?? Promise.resolve(),
    };
  }

  // ---- writing ----------------------------------------------------------------------------------

  /** A way in with its own reference space. Throws UNAVAILABLE while closing, RESOURCE_EXHAUSTED past 65,535 senders. */
  attach(): Sender {
    return this.#intake.attach();
  }

  /**
   * Deletes what the series that match hold, or will ever be given, from `fromMs` up to and with `toMs`. Resolves, with the
   * number of these series, when that survives a power cut. Repeating it changes nothing. After an error part of it may hold.
   * @throws INVALID_ARGUMENT (a matcher, a time that is not past), RESOURCE_EXHAUSTED, UNAVAILABLE, DISK_FAILED
   */
  async delete(matchers: readonly Matcher[], fromMs: number, toMs: number, signal?: Interrupt): Promise<number> {
    checkDeletion(fromMs, toMs, this.#env.clock.nowMs());
    const slicer = this.#slicer(signal);
    const releaseCount = this.#catalogue.releaseCount;
    const ids = await this.#catalogue.resolve(matchers.map(compileMatcher), slicer);
    let count = 0;
    for (let at = 0; at < ids.length; at += MAX_LISTED) {
      const living = (Array.from(ids.subarray(at, at + MAX_LISTED)) as SeriesId[]).filter(
        (id) => !this.#catalogue.releasedSince(id, releaseCount),
      );
      this.#intake.delete(living, fromMs, toMs);
      count += living.length;
      await slicer.pause();
    }
    await this.#recorder.deletionsDurable();
    return count;
  }

  /** Reseals the windows whose blocks hold deleted samples, so that their bytes go. Rejects with what kept one from it. */
  async clean(): Promise<void> {
    for (const { windowStartMs } of this.#blocks.all) {
      await this.#exclusively(async () => {
        if (await hasDead(this.#windows, windowStartMs, this.#slicer())) await this.#seal(windowStartMs, true);
      });
    }
  }

  /** What is deleted, in no order: the series' identity, first and last millisecond. */
  *deletions(): Generator<TimeRange & { readonly identity: Uint8Array }> {
    for (const { id, fromMs, toMs } of this.#deletions) {
      yield { identity: this.#kernel.identity(id).slice(), fromMs, toMs };
    }
  }

  /** A way in for records of another copy's log, with its own reference space. `origin`: see `Frame.origin`; not the own. */
  replica(origin: number): Replica {
    return new Replica(
      {
        env: this.#env,
        kernel: this.#kernel,
        catalogue: this.#catalogue,
        deletions: this.#deletions,
        annex: this.#annex,
        log: this.#log,
        recorder: this.#recorder,
        press: () => this.#intake.press(),
        report: (message) => this.#report(message),
        slicer: () => this.#slicer(),
      },
      origin,
    );
  }

  /** A way in for series of another copy's windows. `origin`: as for `replica`. */
  graft(origin: number): Graft {
    return new Graft(
      {
        ...this.#source(),
        env: this.#env,
        log: this.#log,
        recorder: this.#recorder,
        press: () => this.#intake.press(),
        slicer: () => this.#slicer(),
      },
      origin,
    );
  }

  /** A file for a block that another copy sends; to be given to `adopt`, or discarded. */
  receiveBlock(windowStartMs: number): Promise<Incoming> {
    return this.#blocks.receive(windowStartMs);
  }

  /**
   * Makes a received block the window's, as it is. Returns its samples, undefined when the window has a block by now. What is
   * deleted here stays deleted.
   * @throws CORRUPT, VERSION, DISK_FAILED
   */
  async adopt(incoming: Incoming): Promise<number | undefined> {
    const slicer = this.#slicer();
    return this.#exclusively(async () => {
      const verify = (block: SealedBlock) => verifyBlock(this.#kernel, block, slicer);
      const adopted = await this.#blocks.adopt(incoming, verify, slicer);
      this.#account();
      // What a failure left without samples.
      if (adopted === undefined) this.#collectDue = true;
      return adopted?.sampleCount;
    });
  }

  /** Nothing was there when it was opened: a first start, or a lost disk. */
  get isNew(): boolean {
    return this.#isNew;
  }

  /** Other copies have what should be here. All that may be kept has a gap, until `closeGaps`. */
  reportLoss(message: string): void {
    this.#lost(message, this.#env.clock.nowMs());
  }

  /** Another copy, complete in this range, has nothing in it that is not here, too: what was lost is back. Both ends at windows' bounds. */
  async closeGaps({ fromMs, toMs }: TimeRange): Promise<void> {
    this.#gaps = this.#gaps.flatMap((gap) => {
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

  /** How far other copies have the log. */
  get cursors(): Cursors {
    return this.#cursors;
  }

  // ---- reading ----------------------------------------------------------------------------------

  /**
   * The series that match, with all their samples in the range (and perhaps more), as select pages of about 256 KiB that
   * the caller may keep. Yields to other work about every millisecond, and rejects with the signal's reason once it is aborted.
   * @throws INVALID_ARGUMENT (a matcher), TOO_LARGE (a limit), CORRUPT (a block that was found unsound just now)
   */
  async *select(request: ShardSelect, signal?: Interrupt): AsyncGenerator<Uint8Array> {
    const slicer = this.#slicer(signal);
    const releaseCount = this.#catalogue.releaseCount;
    const ids = await this.#catalogue.resolve(request.matchers.map(compileMatcher), slicer);
    yield* selectPages(this.#source(), ids, releaseCount, request, request, slicer);
  }

  /**
   * Gives the same series to an aggregator; otherwise as `select`. After an error some may have been added.
   * @throws TooFine past `maxPointCount` values of all groups and steps
   */
  async aggregate(
    request: ShardSelect,
    aggregator: Aggregator,
    maxPointCount: number,
    signal?: Interrupt,
  ): Promise<void> {
    const slicer = this.#slicer(signal);
    const releaseCount = this.#catalogue.releaseCount;
    const ids = await this.#catalogue.resolve(request.matchers.map(compileMatcher), slicer);
    const options = { ...request, maxPointCount };
    await aggregateSeries(this.#source(), ids, releaseCount, aggregator, options, slicer);
  }

  /**
   * Adds to `found` the names of the labels of the series that match any of `selectors` (all series when there are none) and
   * have samples in the windows that the range touches. Exact to the window, not to the millisecond. What is in `found` is
   * not looked for; what is added comes in order.
   */
  async labelNames(
    range: TimeRange,
    selectors: readonly (readonly Matcher[])[],
    found: Set<string>,
    signal?: Interrupt,
  ): Promise<void> {
    const slicer = this.#slicer(signal);
    const names = await this.#catalogue.labelNames(() => this.#among(range, selectors, slicer), found, slicer);
    for (const name of await sortSlices(names, compareUtf8, slicer)) found.add(name);
  }

  /** Values of a label; otherwise as `labelNames`. */
  async labelValues(
    name: string,
    range: TimeRange,
    selectors: readonly (readonly Matcher[])[],
    found: Set<string>,
    signal?: Interrupt,
  ): Promise<void> {
    const slicer = this.#slicer(signal);
    const among = () => this.#among(range, selectors, slicer);
    const values = await this.#catalogue.labelValues(name, among, found, slicer);
    for (const value of await sortSlices(values, compareUtf8, slicer)) found.add(value);
  }

  /** The series themselves, as select pages without chunks; otherwise as `labelNames`. */
  async *series(
    range: TimeRange,
    selectors: readonly (readonly Matcher[])[],
    signal?: Interrupt,
  ): AsyncGenerator<Uint8Array> {
    const slicer = this.#slicer(signal);
    const releaseCount = this.#catalogue.releaseCount;
    const among = await this.#among(range, selectors, slicer);
    const ids = among?.toArray() ?? (await this.#catalogue.resolve([], slicer));
    yield* identityPages(
      { kernel: this.#kernel, catalogue: this.#catalogue, shard: this.#settings.shard },
      ids,
      releaseCount,
      slicer,
    );
  }

  /** How many series carry which labels, as texts for the wire; times are those of the windows. */
  async cardinality(signal?: Interrupt): Promise<string[]> {
    const found = new ShardCardinality();
    await this.#catalogue.visit(
      (name, value, seriesCount) => found.add(name, value, seriesCount),
      this.#slicer(signal),
    );
    const windows = this.windows();
    const firstMs = windows[0] ?? Number.POSITIVE_INFINITY;
    const lastMs = (windows.at(-1) ?? Number.NEGATIVE_INFINITY) + WINDOW_MS - 1;
    return found.texts(this.#settings.shard, this.#catalogue.seriesCount, firstMs, lastMs);
  }

  /** The exemplars in the range of the series that match any of `selectors`, series by series, as lists. */
  exemplars(
    { fromMs, toMs }: TimeRange,
    selectors: readonly (readonly Matcher[])[],
    signal?: Interrupt,
  ): AsyncGenerator<Uint8Array> {
    const compiled = selectors.map((matchers) => matchers.map(compileMatcher));
    return this.#annex.exemplars.select(compiled, fromMs, toMs, this.#slicer(signal));
  }

  /** Metadata that is at home here, of one metric or, with an empty name, of all: as texts for the wire, one a metric. */
  metadata(name: string): string[] {
    return this.#annex.metadata.texts(name);
  }

  /** Which parts of a range are known to lack samples; whatever is not named is complete. */
  gaps(range: TimeRange): ShardCoverage[] {
    const found: ShardCoverage[] = this.#gaps.filter((gap) => gap.fromMs <= range.toMs && gap.toMs >= range.fromMs);
    for (const { windowStartMs, reason } of this.#blocks.gaps) {
      const toMs = windowStartMs + WINDOW_MS - 1;
      if (windowStartMs <= range.toMs && toMs >= range.fromMs) {
        found.push({ fromMs: windowStartMs, toMs, state: 'missing', reason });
      }
    }
    return found;
  }

  /** Windows that have samples, in order. */
  windows(): number[] {
    const starts = new Set(this.#blocks.all.map((block) => block.windowStartMs));
    for (const { startMs } of this.#kernel.windows()) starts.add(startMs);
    return [...starts].sort((a, b) => a - b);
  }

  /**
   * A text for each window of the range that has samples, by window start. As long as it stays the same, so does what
   * `select` finds in the window; a repeated sample, a seal, or a deletion in another window changes it needlessly, a restart
   * always.
   */
  windowVersions({ fromMs, toMs }: TimeRange): Map<number, string> {
    const parts = new Map<number, { generation: number; appendCount: number }>();
    for (const { windowStartMs, generation } of this.#blocks.all)
      parts.set(windowStartMs, { generation, appendCount: 0 });
    for (const { startMs, appendCount } of this.#kernel.windows()) {
      parts.set(startMs, { generation: parts.get(startMs)?.generation ?? -1, appendCount });
    }
    const versions = new Map<number, string>();
    for (const [startMs, { generation, appendCount }] of parts) {
      if (startMs > toMs || startMs + WINDOW_MS <= fromMs) continue;
      versions.set(startMs, `${this.#life}.${generation}.${appendCount}.${this.#deletions.version}`);
    }
    return versions;
  }

  /**
   * 256 sums of 16 bytes over the samples of a window, each once, and over what is deleted in it: equal in two shards exactly
   * when (but for 128-bit chance) both are. Deleted samples do not count.
   */
  digest(windowStartMs: number): Promise<Uint8Array> {
    return this.#exclusively(async () => {
      const block = this.#blocks.get(windowStartMs);
      try {
        return await digestWindow(this.#windows, windowStartMs, this.#slicer());
      } catch (error) {
        if (block !== undefined && isUnsound(error)) await this.#unsound(block, error);
        throw error;
      }
    });
  }

  // ---- for other copies -------------------------------------------------------------------------

  /** What the series of some digest buckets have in a window, as select pages: one chunk each, nothing deleted. Otherwise as `select`. */
  windowPages(windowStartMs: number, buckets: Buckets, signal?: Interrupt): AsyncGenerator<Uint8Array> {
    return windowPages(this.#source(), windowStartMs, buckets, this.#slicer(signal));
  }

  /** What is deleted of them there, as records for `Replica.apply`. */
  windowDeletions(windowStartMs: number, buckets: Buckets, signal?: Interrupt): AsyncGenerator<Uint8Array> {
    return windowDeletions(this.#source(), windowStartMs, buckets, this.#slicer(signal));
  }

  /** The window's block file, in parts. Throws NOT_FOUND where there is none. */
  blockFile(windowStartMs: number, partBytes: number): AsyncGenerator<Uint8Array> {
    return this.#blocks.file(windowStartMs, partBytes);
  }

  /** Sizes of the block files, by window start. */
  blockBytes(): Map<number, number> {
    return new Map(this.#blocks.all.map(({ windowStartMs, fileBytes }) => [windowStartMs, fileBytes]));
  }

  // ---- housekeeping -----------------------------------------------------------------------------

  /**
   * Does what is due: seals at most one window, checkpoints, lets old blocks and series go, keeps the budget. Never rejects:
   * what fails is reported in `stats().problems` and tried again. To be called every second or so; with nothing to do it
   * costs microseconds. A node that awaits one shard's tick before the next one's has one of them sealing at a time.
   */
  tick(): Promise<void> {
    if (this.#closing !== undefined) return Promise.resolve();
    this.#ticking ??= this.#work().finally(() => {
      this.#ticking = undefined;
    });
    return this.#ticking;
  }

  async #work(): Promise<void> {
    const startMs = this.#dueWindow();
    if (startMs !== undefined) await this.#exclusively(() => this.#seal(startMs));
    if (this.#checkpointDue()) await this.#exclusively(() => this.#checkpoint());
    await this.#exclusively(() => this.#retain());
    await this.#exclusively(() => this.#keepCursors());
    this.#account();
    this.#overBudget = !this.#settings.budget.enforce();
  }

  /** As `stats` has it, for who asks with every batch. */
  get seriesCount(): number {
    return this.#catalogue.seriesCount;
  }

  stats(): ShardStats {
    const blocks = this.#blocks.all;
    const sum = (of: (block: SealedBlock) => number) => blocks.reduce((total, block) => total + of(block), 0);
    return {
      seriesCount: this.#catalogue.seriesCount,
      openSampleCount: this.#kernel.sampleCount,
      sealedSampleCount: sum((block) => block.sampleCount),
      openWindowCount: this.#kernel.windows().length,
      blockCount: blocks.length,
      residentBlockCount: sum((block) => (block.resident ? 1 : 0)),
      senderCount: this.#intake.senderCount,
      acceptedSampleCount: this.#intake.acceptedCount,
      refusedSampleCount: this.#intake.refusedCount,
      kernelBytes: this.#kernel.usedBytes,
      kernelPeakBytes: this.#kernelPeakBytes,
      residentBlockBytes: sum((block) => block.residentBytes),
      blockIndexBytes: sum((block) => block.indexBytes),
      indexBytes: this.#catalogue.indexBytes,
      blockFileBytes: sum((block) => block.fileBytes),
      logBytes: this.#log.byteCount,
      logPendingBytes: this.#log.pendingBytes,
      checkpointAgeMs:
        this.#checkpointedAtMs === undefined ? undefined : this.#env.clock.monotonicMs() - this.#checkpointedAtMs,
      deletionCount: this.#deletions.count,
      exemplarCount: this.#annex.exemplars.count,
      exemplarSeriesCount: this.#annex.exemplars.seriesCount,
      acceptedExemplarCount: this.#annex.acceptedCount,
      refusedExemplarCount: this.#annex.refusedCount,
      metadataCount: this.#annex.metadata.count,
      sealCount: this.#sealCount,
      lastSealMs: this.#lastSealMs,
      recoveryMs: this.#recoveryMs,
      recoveredRecordCount: this.#recoveredRecordCount,
      failure: this.#log.failure?.message,
      problems: [...this.#problems],
      problemCount: this.#problemCount,
    };
  }

  /** Refuses what comes, waits for what is under way, closes the log in order. Rejects if the log cannot be closed in order. */
  close(): Promise<void> {
    this.#closing ??= this.#shutDown();
    return this.#closing;
  }

  async #shutDown(): Promise<void> {
    this.#intake.close();
    this.#closed.abort(new SilverbackError('UNAVAILABLE', `shard ${this.#settings.shard} is closing`));
    await this.#ticking;
    await this.#exclusively(async () => {
      if (this.#log.failure === undefined && this.#log.byteCount > CLOSING_LOG_BYTES && this.#hasNews()) {
        await this.#checkpoint(new Slicer(this.#env, [], this.#settings.sliceMs));
      }
    });
    await this.#cursors.save().catch((error: unknown) => this.#report(`keeping cursors failed: ${messageOf(error)}`));
    try {
      await this.#log.close();
    } finally {
      this.#release();
    }
  }

  /** Gives memory back. */
  #release(): void {
    this.#settings.budget.hold(this, 0);
    this.#blocks.close();
  }

  // ---- sealing ----------------------------------------------------------------------------------

  /** The window to seal now, if one is due. */
  #dueWindow(): number | undefined {
    const open = this.#kernel.windows();
    const monotonicMs = this.#env.clock.monotonicMs();
    const sealableMs = this.#env.clock.nowMs() - this.#settings.sealDelayMs - WINDOW_MS;
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
      if (startMs <= sealableMs && monotonicMs - idleness.sinceMs >= this.#settings.sealIdleMs) due ??= startMs;
    }
    if (this.#idleness.size > open.length) {
      const starts = new Set(open.map((window) => window.startMs));
      for (const startMs of this.#idleness.keys()) if (!starts.has(startMs)) this.#idleness.delete(startMs);
    }
    if (monotonicMs < this.#retrySealAtMs) return undefined;
    if (due !== undefined) return due;
    const crowded = open.length * 4 > this.#settings.limits.maxOpenWindowCount * 3;
    const full = this.#kernel.usedBytes * 4 > this.#settings.limits.maxKernelBytes * 3;
    if (this.#intake.takePressure() || crowded || full) return idlest;
    // Nothing is left to evict: closed windows leave the kernel early, whose memory the next ones then reuse.
    if (this.#overBudget && open.length > 1) return idlest;
    return undefined;
  }

  /** `rejects`: failures are the caller's, too. */
  async #seal(windowStartMs: number, rejects = false): Promise<void> {
    const startedMs = this.#env.clock.monotonicMs();
    try {
      await sealWindow(this.#windows, windowStartMs, this.#slicer());
      this.#sealCount++;
      this.#lastSealMs = this.#env.clock.monotonicMs() - startedMs;
    } catch (error) {
      if (this.#closed.signal.aborted && !rejects) return;
      const old = this.#blocks.get(windowStartMs);
      if (isUnsound(error) && old !== undefined) await this.#unsound(old, error);
      else {
        this.#retrySealAtMs = this.#env.clock.monotonicMs() + RETRY_MS;
        this.#report(`sealing window ${new Date(windowStartMs).toISOString()} failed: ${messageOf(error)}`);
      }
      if (rejects) throw error;
    }
  }

  // ---- checkpoints ------------------------------------------------------------------------------

  #hasNews(): boolean {
    return this.#log.tail().sequence > this.#checkpointedSequence;
  }

  #checkpointDue(): boolean {
    return (
      this.#env.clock.monotonicMs() >= this.#nextCheckpointAtMs && this.#hasNews() && this.#log.failure === undefined
    );
  }

  async #checkpoint(slicer = this.#slicer()): Promise<void> {
    const { shard, checkpointIntervalMs } = this.#settings;
    this.#nextCheckpointAtMs = this.#env.clock.monotonicMs() + checkpointIntervalMs;
    // All that was appended before this position is in open runs or blocks now, and will be in the pages or blocks.
    const position = this.#log.tail();
    try {
      const writer = await writeCheckpoint(this.#env, `${this.#directory}/checkpoints`, { shard, position });
      try {
        await writePages(this.#kernel, this.#deletions, this.#annex, writer, slicer);
        const { release } = await writer.commit();
        this.#checkpointedSequence = position.sequence;
        this.#checkpointedAtMs = this.#env.clock.monotonicMs();
        if (release !== undefined) {
          this.#releasableSequence = release;
          await this.#log.release(Math.min(release, await this.#cursors.keptFloor()));
        }
      } catch (error) {
        await writer.abort();
        throw error;
      }
    } catch (error) {
      if (this.#closed.signal.aborted) return;
      this.#report(`checkpoint failed: ${messageOf(error)}`);
    }
  }

  // ---- cursors ----------------------------------------------------------------------------------

  /** Writes cursors down, and lets the log's oldest segments go when copies that lag made it too large. */
  async #keepCursors(): Promise<void> {
    try {
      await this.#cursors.saveSometimes();
      let excess = this.#log.byteCount - this.#settings.logAllowanceBytes();
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
      this.#report(`keeping cursors failed: ${messageOf(error)}`);
    }
  }

  // ---- retention, memory ------------------------------------------------------------------------

  async #retain(): Promise<void> {
    const { maxSampleAgeMs, diskRetentionMs } = this.#settings;
    const slicer = this.#slicer();
    try {
      if (maxSampleAgeMs !== Number.POSITIVE_INFINITY) {
        const nowMs = this.#env.clock.nowMs();
        if (this.#blocks.retire(nowMs - maxSampleAgeMs) > 0) this.#collectDue = true;
        const keepFromMs = nowMs - Math.max(maxSampleAgeMs, diskRetentionMs);
        await this.#blocks.expire(keepFromMs);
        if (this.#deletions.expire(keepFromMs - WINDOW_MS) > 0) this.#collectDue = true;
      }
      // Series can be defined and never get a sample: the table growing by half is reason to look, too.
      const count = this.#catalogue.seriesCount;
      if (this.#collectDue || count > this.#collectSeriesCount) {
        this.#collectDue = false;
        const resident = new IdSet();
        for (const block of this.#blocks.all) {
          for (let at = 0; at < block.ids.length; at += 8192) {
            resident.addAll(block.ids.subarray(at, at + 8192));
            slicer.spend(1024);
            if (slicer.due()) await slicer.pause();
          }
        }
        await this.#catalogue.collect(resident, (id) => this.#deletions.has(id), slicer);
        this.#collectSeriesCount = Math.max(1000, this.#catalogue.seriesCount * 1.5);
      }
    } catch (error) {
      if (!this.#closed.signal.aborted) this.#report(`retention failed: ${messageOf(error)}`);
    }
  }

  #account(): void {
    this.#kernelPeakBytes = Math.max(this.#kernelPeakBytes, this.#kernel.usedBytes);
    let bytes = this.#kernelPeakBytes + this.#catalogue.indexBytes + this.#deletions.byteCount + this.#annex.byteCount;
    for (const block of this.#blocks.all) bytes += block.indexBytes;
    this.#settings.budget.hold(this, bytes);
  }

  // ---- recovery ---------------------------------------------------------------------------------

  async #recover(): Promise<void> {
    const startedMs = this.#env.clock.monotonicMs();
    const { shard, maxSampleAgeMs, checkpointIntervalMs, log: logOptions } = this.#settings;
    const slicer = this.#slicer();
    const nowMs = this.#env.clock.nowMs();
    for (const problem of await this.#blocks.open(nowMs - maxSampleAgeMs, slicer)) this.#report(problem);

    const target = {
      kernel: this.#kernel,
      catalogue: this.#catalogue,
      deletions: this.#deletions,
      annex: this.#annex,
      makeRoom: (done: Set<number>) => this.#makeRoom(done),
    };
    const loaded = await loadCheckpoint(this.#env, `${this.#directory}/checkpoints`, { shard });
    for (const { file, reason, quarantine } of loaded.problems) {
      this.#report(`checkpoint ${file} is unsound and lies in ${quarantine} now: ${reason}`);
    }
    const { checkpoint } = loaded;
    const from = checkpoint?.position;
    const opened = await Log.open(this.#env, `${this.#directory}/log`, {
      shard,
      ...logOptions,
      ...(from === undefined ? {} : { from }),
    });
    this.#log = opened.log;
    this.#recorder = new Recorder(this.#kernel, this.#catalogue, this.#log);
    this.#cursors = await Cursors.load(this.#env, this.#directory, this.#log, (message) => this.#report(message));
    const parts = { ...target, log: this.#log, recorder: this.#recorder, peers: this.#cursors };
    this.#intake = new Intake(this.#env.clock, parts, this.#settings);

    if (checkpoint !== undefined) {
      const losses = await restoreCheckpoint(target, checkpoint, slicer);
      const count = losses.unnamedCount + losses.unsoundCount;
      if (count > 0) this.#lost(`${count} pages or runs of checkpoint ${checkpoint.file} cannot be used`, nowMs);
    }
    const beginning = { incarnation: 0 as NonNullable<typeof from>['incarnation'], sequence: 0 };
    const replayed = await replayLog(target, this.#log, from ?? beginning, slicer);
    this.#recoveredRecordCount = replayed.recordCount;
    this.#isNew = checkpoint === undefined && replayed.recordCount === 0 && this.#blocks.all.length === 0;
    // What was recovered holds definitions under other ids: the rule of one meaning per id and segment wants a new one.
    this.#log.startSegment();
    for (const problem of new Set([...opened.recovered.problems, ...this.#log.problems])) {
      const records = `records ${problem.firstSequence} up to ${problem.endSequence}`;
      const what = `${problem.file} at byte ${problem.offset}: ${problem.byteCount} bytes, ${records}`;
      if (problem.kind === 'torn') this.#report(`an unfinished tail was cut off the log: ${what}`);
      else if (problem.kind === 'missing') this.#lost(`the log lacks ${records} (${problem.file})`, nowMs);
      else this.#lost(`the log is damaged (set aside in ${problem.quarantine ?? 'place'}): ${what}`, nowMs);
    }
    if (replayed.unsoundCount > 0) this.#lost(`${replayed.unsoundCount} log records cannot be used`, nowMs);
    if (replayed.unnamedCount > 0) this.#lost(`${replayed.unnamedCount} runs in the log lack their series`, nowMs);

    const monotonicMs = this.#env.clock.monotonicMs();
    if (checkpoint !== undefined) {
      this.#checkpointedSequence = checkpoint.position.sequence;
      this.#checkpointedAtMs = monotonicMs;
    }
    // Shards opened together do not checkpoint together.
    this.#nextCheckpointAtMs = monotonicMs + checkpointIntervalMs * this.#env.random.next();
    this.#collectDue = true;
    this.#recoveryMs = monotonicMs - startedMs;
    this.#account();
    this.#settings.budget.enforce();
  }

  /** During recovery: the window with the most open runs that is not in `done` leaves the kernel. */
  async #makeRoom(done: Set<number>): Promise<boolean> {
    const open = this.#kernel.windows().filter((window) => !done.has(window.startMs));
    if (open.length === 0) return false;
    const { startMs } = open.reduce((a, b) => (b.runCount > a.runCount ? b : a));
    done.add(startMs);
    await sealWindow(this.#windows, startMs, this.#slicer());
    return true;
  }

  // ---- helpers ----------------------------------------------------------------------------------

  #source(): Source {
    return {
      kernel: this.#kernel,
      catalogue: this.#catalogue,
      blocks: this.#blocks,
      deletions: this.#deletions,
      shard: this.#settings.shard,
      unsound: (block, error) => this.#unsound(block, error),
    };
  }

  #slicer(signal?: Interrupt): Slicer {
    const closed = this.#closed.signal;
    return new Slicer(this.#env, signal === undefined ? [closed] : [closed, signal], this.#settings.sliceMs);
  }

  /** Runs `task` after those before it, whether they succeeded or not. */
  #exclusively<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(task, task);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  /** The series in question: those that match any selector and have samples in windows of the range. Undefined: all. */
  async #among(
    range: TimeRange,
    selectors: readonly (readonly Matcher[])[],
    slicer: Slicer,
  ): Promise<IdSet | undefined> {
    const starts = this.windows();
    const touched = starts.filter((startMs) => startMs <= range.toMs && startMs + WINDOW_MS > range.fromMs);
    let among: IdSet | undefined;
    if (touched.length < starts.length || !this.#deletions.isEmpty) {
      among = new IdSet();
      for (const startMs of touched) await livingMembersOf(this.#windows, startMs, slicer, among);
    }
    if (selectors.length === 0) return among;
    const matching = new IdSet();
    for (const matchers of selectors) {
      for (const id of await this.#catalogue.resolve(matchers.map(compileMatcher), slicer)) {
        if (among === undefined || among.has(id)) matching.add(id);
      }
    }
    return matching;
  }

  /** A block could not be read. If it is unsound it leaves, and its window has a gap from now on. */
  async #unsound(block: SealedBlock, error: unknown): Promise<void> {
    try {
      const message = isUnsound(error) ? await this.#blocks.quarantine(block, error) : undefined;
      this.#report(message ?? `reading block ${block.path} failed: ${messageOf(error)}`);
    } catch (failure) {
      this.#report(`setting block ${block.path} aside failed: ${messageOf(failure)}`);
    }
  }

  /** Samples are gone and it is not known from when: everything that could have been in the log has a gap. */
  #lost(message: string, nowMs: number): void {
    this.#report(message);
    const { maxSampleAgeMs, maxFutureMs } = this.#settings;
    const fromMs = Math.max(0, nowMs - maxSampleAgeMs);
    this.#gaps.push({ fromMs, toMs: nowMs + maxFutureMs, state: 'missing', reason: message });
  }

  #report(message: string): void {
    this.#problemCount++;
    this.#problems = [...this.#problems.slice(1 - MAX_PROBLEMS), { atMs: this.#env.clock.nowMs(), message }];
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
