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
import { type SeriesId, type ShardKernel, WINDOW_MS } from '../../core/kernel/shard.ts';
import { compareUtf8 } from '../../core/labels.ts';
import { compileMatcher, type Matcher } from '../../core/matchers.ts';
import { sortSlices } from '../../core/order.ts';
import type { Taker } from '../../core/promql/evaluator.ts';
import { GroupCache } from '../../core/promql/known.ts';
import type { PointsWriter } from '../../core/promql/points.ts';
import { aggregateSeries, pointsPages } from './aggregate.ts';
import type { Annex } from './annex.ts';
import { type BlockStore, isUnsound, type SealedBlock } from './blocks.ts';
import type { Catalogue } from './catalogue.ts';
import type { Cursors } from './cursors.ts';
import { checkDeletion, type Deletions, MAX_LISTED } from './deletions.ts';
import type { Gaps, ShardCoverage, TimeRange } from './gaps.ts';
import { Graft } from './graft.ts';
import type { Incoming } from './incoming.ts';
import { Keeper } from './keeper.ts';
import type { Log } from './log.ts';
import { type Opened, openParts } from './opening.ts';
import { type ShardOptions, type ShardSettings, withDefaults } from './options.ts';
import { IdSet } from './postings.ts';
import type { Recorder } from './recorder.ts';
import { Replica } from './replica.ts';
import { Retention } from './retention.ts';
import { digestWindow, hasDead, livingMembersOf, verifyBlock, type Windows } from './seal.ts';
import { Sealer } from './sealer.ts';
import { identityPages, NO_PAGES, type SelectLimits, type Source, selectPages } from './select.ts';
import { Intake, type Sender } from './sender.ts';
import { type Interrupt, Slicer } from './slicer.ts';
import { type ShardStats, shardStats } from './stats.ts';
import { asRecord, type Buckets, windowDeletions, windowPages } from './window.ts';

export interface ShardSelect extends TimeRange, SelectLimits {
  readonly matchers: readonly Matcher[];
}

export class Shard {
  /** All that the shard is made of; what methods use often has a name of its own below. */
  readonly #opened: Opened;
  readonly #env: Env;
  readonly #settings: ShardSettings;
  readonly #kernel: ShardKernel;
  readonly #catalogue: Catalogue;
  readonly #blocks: BlockStore;
  readonly #deletions: Deletions;
  readonly #annex: Annex;
  readonly #gaps: Gaps;
  readonly #log: Log;
  readonly #recorder: Recorder;
  readonly #windows: Windows;
  readonly #source: Source;
  readonly #intake: Intake;
  readonly #retention: Retention;
  readonly #sealer: Sealer;
  readonly #keeper: Keeper;

  /** Sealing, checkpointing and digesting, one after the other. */
  #turn: Promise<unknown> = Promise.resolve();
  #ticking: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  readonly #closed = new AbortController();

  /**
   * Opens or creates the shard in `directory` and recovers what is there. The directory is this process's alone.
   * @throws DISK_FAILED, VERSION, INVALID_ARGUMENT (another shard's data), RESOURCE_EXHAUSTED (its open windows do not fit)
   */
  static async open(env: Env, directory: string, options: ShardOptions): Promise<Shard> {
    return new Shard(await openParts(env, directory, withDefaults(options)));
  }

  private constructor(opened: Opened) {
    const { env, settings, kernel, catalogue, blocks, deletions, annex, gaps, log, recorder, windows, cursors } =
      opened;
    this.#opened = opened;
    this.#env = env;
    this.#settings = settings;
    this.#kernel = kernel;
    this.#catalogue = catalogue;
    this.#blocks = blocks;
    this.#deletions = deletions;
    this.#annex = annex;
    this.#gaps = gaps;
    this.#log = log;
    this.#recorder = recorder;
    this.#windows = windows;
    const unsound = (block: SealedBlock, error: unknown) => gaps.unsound(block, error);
    const groups = new GroupCache();
    this.#source = { kernel, catalogue, blocks, deletions, groups, shard: settings.shard, unsound };
    const closed = this.#closed.signal;
    this.#retention = new Retention({ ...opened, closed });
    this.#intake = new Intake(env.clock, { ...opened, peers: cursors, memory: this.#retention }, settings);
    this.#sealer = new Sealer({ ...opened, intake: this.#intake, retention: this.#retention, closed });
    this.#keeper = new Keeper({ ...opened, closed }, opened.found.checkpoint);
    this.#retention.account();
    settings.budget.enforce();
  }

  // ---- writing ----------------------------------------------------------------------------------

  /**
   * A way in with its own reference space. Those of one holder have the room before the disk together. Throws UNAVAILABLE while
   * closing, RESOURCE_EXHAUSTED past 65,535 senders.
   */
  attach(holder = 'writers'): Sender {
    return this.#intake.attach(holder);
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
        if (await hasDead(this.#windows, windowStartMs, this.#slicer()))
          await this.#sealer.seal(windowStartMs, this.#slicer(), true);
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
        room: this.#opened.room,
        recorder: this.#recorder,
        press: () => this.#intake.press(),
        report: (message) => this.#opened.problems.report(message),
        slicer: () => this.#slicer(),
      },
      origin,
    );
  }

  /** A way in for series of another copy's windows. `origin`: as for `replica`. */
  graft(origin: number): Graft {
    return new Graft(
      {
        ...this.#source,
        env: this.#env,
        log: this.#log,
        room: this.#opened.room,
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
      this.#retention.account();
      // What a failure left without samples.
      if (adopted === undefined) this.#retention.collectSoon();
      return adopted?.sampleCount;
    });
  }

  /** Nothing was there when it was opened: a first start, or a lost disk. */
  get isNew(): boolean {
    return this.#opened.found.isNew;
  }

  /** Other copies have what should be here. All that may be kept has a gap, until `closeGaps`. Resolves when that is on disk. */
  reportLoss(message: string): Promise<void> {
    this.#gaps.lost(message);
    return this.#gaps.save();
  }

  /** No copy is known to have all of this range. Resolves when that is on disk. */
  reportGap(gap: ShardCoverage): Promise<void> {
    this.#gaps.report(gap);
    return this.#gaps.save();
  }

  /** Another copy, complete in this range, has nothing in it that is not here, too: what was lost is back, but for `others`. Both ends at windows' bounds. */
  closeGaps(range: TimeRange, others: readonly ShardCoverage[] = []): Promise<void> {
    return this.#gaps.close(range, others);
  }

  /** How far other copies have the log. */
  get cursors(): Cursors {
    return this.#opened.cursors;
  }

  // ---- reading ----------------------------------------------------------------------------------

  /**
   * The series that match, with all their samples in the range (and perhaps more), as select pages of about 256 KiB that
   * the caller may keep. Yields to other work about every millisecond, and rejects with the signal's reason once it is aborted.
   * `NO_PAGES` where that is known at once. To be read at once.
   * @throws INVALID_ARGUMENT (a matcher), TOO_LARGE (a limit), CORRUPT (a block that was found unsound just now)
   */
  select(request: ShardSelect, signal?: Interrupt): AsyncGenerator<Uint8Array> {
    const slicer = this.#slicer(signal);
    const releaseCount = this.#catalogue.releaseCount;
    const ids = this.#catalogue.resolve(request.matchers.map(compileMatcher), slicer);
    return ids instanceof Uint32Array && ids.length === 0
      ? NO_PAGES
      : selectPages(this.#source, ids, releaseCount, request, request, slicer);
  }

  /**
   * Gives the same series to a taker; otherwise as `select`. After an error some may have been added.
   * @throws TooFine when it holds more than `maxPointCount` values
   */
  async aggregate(request: ShardSelect, taker: Taker, maxPointCount: number, signal?: Interrupt): Promise<void> {
    const slicer = this.#slicer(signal);
    const releaseCount = this.#catalogue.releaseCount;
    const ids = await this.#catalogue.resolve(request.matchers.map(compileMatcher), slicer);
    const options = { ...request, maxPointCount };
    await aggregateSeries(this.#source, ids, releaseCount, taker, options, slicer);
  }

  /** The same series' steps, as pages of `writer`'s that begin anew; otherwise as `select`. */
  points(request: ShardSelect, writer: PointsWriter, signal?: Interrupt): AsyncGenerator<Uint8Array> {
    const slicer = this.#slicer(signal);
    const releaseCount = this.#catalogue.releaseCount;
    const ids = this.#catalogue.resolve(request.matchers.map(compileMatcher), slicer);
    return ids instanceof Uint32Array && ids.length === 0
      ? NO_PAGES
      : pointsPages(this.#source, ids, releaseCount, writer, request, slicer);
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

  /**
   * The values of a label of all series, in order, where all of them have samples in the windows that the range touches: the
   * same array as long as they stay the same. Undefined where that is not so, or not known at once.
   */
  allValues(
    name: string,
    { fromMs, toMs }: TimeRange,
    signal?: Interrupt,
  ): readonly string[] | Promise<readonly string[]> | undefined {
    if (!this.#deletions.isEmpty) return undefined;
    const isTouched = (startMs: number) => startMs <= toMs && startMs + WINDOW_MS > fromMs;
    for (const { windowStartMs } of this.#blocks.all) if (!isTouched(windowStartMs)) return undefined;
    for (const { startMs } of this.#kernel.windows()) if (!isTouched(startMs)) return undefined;
    return this.#catalogue.allValues(name, this.#slicer(signal));
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
    return this.#gaps.within(range);
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
      versions.set(startMs, `${this.#opened.life}.${generation}.${appendCount}.${this.#deletions.version}`);
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
        if (block !== undefined && isUnsound(error)) await this.#gaps.unsound(block, error);
        throw error;
      }
    });
  }

  // ---- for other copies -------------------------------------------------------------------------

  /** What the series of some digest buckets have in a window, as select pages: one chunk each, nothing deleted. Otherwise as `select`. */
  windowPages(windowStartMs: number, buckets: Buckets, signal?: Interrupt): AsyncGenerator<Uint8Array> {
    return windowPages(this.#source, windowStartMs, buckets, this.#slicer(signal));
  }

  /** What is deleted of them there, as records for `Replica.apply`. */
  windowDeletions(windowStartMs: number, buckets: Buckets, signal?: Interrupt): AsyncGenerator<Uint8Array> {
    return windowDeletions(this.#source, windowStartMs, buckets, this.#slicer(signal));
  }

  /** Exemplars and metadata, in order of arrival, as records for `Replica.apply`. */
  async *annexRecords(signal?: Interrupt): AsyncGenerator<Uint8Array> {
    for await (const [kind, bytes] of this.#annex.pages(this.#slicer(signal))) yield asRecord(kind, bytes);
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
    const startMs = this.#sealer.due();
    if (startMs !== undefined) await this.#exclusively(() => this.#sealer.seal(startMs, this.#slicer()));
    if (this.#keeper.checkpointDue) await this.#exclusively(() => this.#keeper.checkpoint(this.#slicer()));
    await this.#exclusively(() => this.#retention.retain(this.#slicer()));
    await this.#exclusively(() => this.#keeper.keepCursors());
    this.#retention.account();
    this.#retention.enforce();
  }

  /** As `stats` has it, for who asks with every batch. */
  get seriesCount(): number {
    return this.#catalogue.seriesCount;
  }

  stats(): ShardStats {
    return shardStats({
      ...this.#opened,
      intake: this.#intake,
      sealer: this.#sealer,
      keeper: this.#keeper,
      retention: this.#retention,
    });
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
      if (!this.#keeper.closingCheckpointDue) return;
      await this.#keeper.checkpoint(new Slicer(this.#env, [], this.#settings.sliceMs));
    });
    await this.#keeper.saveCursors();
    try {
      await this.#log.close();
    } finally {
      this.#retention.release();
      this.#blocks.close();
    }
  }

  // ---- helpers ----------------------------------------------------------------------------------

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
}
