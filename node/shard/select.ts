/**
 * Reading series out of a shard, as pages (ARCHITECTURE.md, "Select page").
 *
 * A series is put into the page in one synchronous step, from the blocks and open runs as they are at that moment, so it is
 * consistent whatever happened while the reader paused. Chunks of blocks that are not in memory are fetched ahead for a
 * group of series; the step looks for them by block, so a block that was replaced meanwhile is simply fetched anew.
 */

import { SilverbackError } from '../../core/errors.ts';
import { chunkInfo } from '../../core/kernel/codec.ts';
import { type SeriesId, type ShardKernel, WINDOW_MS } from '../../core/kernel/shard.ts';
import type { GroupCache } from '../../core/promql/known.ts';
import type { BlockStore, SealedBlock } from './blocks.ts';
import type { Catalogue } from './catalogue.ts';
import type { Deletions } from './deletions.ts';
import type { Slicer } from './slicer.ts';

const PAGE_BYTES = 256 * 1024;
/** Series whose chunks are fetched from the disk together. */
const GROUP = 512;

export interface SelectLimits {
  /** Series sent. Infinity: any. */
  readonly maxSeriesCount: number;
  /** Samples in the chunks sent, of which the range may need only a part. Infinity: any. */
  readonly maxSampleCount: number;
}

export interface Source {
  readonly kernel: ShardKernel;
  readonly catalogue: Catalogue;
  readonly blocks: BlockStore;
  readonly deletions: Deletions;
  readonly groups: GroupCache;
  readonly shard: number;
  /** Called when a block's chunks cannot be read: reports and quarantines. */
  readonly unsound: (block: SealedBlock, error: unknown) => Promise<void>;
}

/** One window as it is now. */
interface View {
  readonly startMs: number;
  readonly block: SealedBlock | undefined;
  readonly hint: { at: number };
  readonly isOpen: boolean;
}

type Fetched = Map<SealedBlock, Map<number, Uint8Array>>;

/** What there is of a series in a window. */
interface Piece {
  readonly startMs: number;
  /** The series may have an open run. */
  readonly isOpen: boolean;
  /** The block's chunk. */
  readonly sealed: Uint8Array | undefined;
  /** What is deleted of it, as `ShardKernel.chunk` takes it; undefined where that changes nothing. */
  readonly dead: Uint32Array | undefined;
}

/** Takes series one by one: `begin`, its pieces in time order, `end` or `abandon`. */
export interface SeriesSink {
  begin(id: SeriesId): void;
  /** Returns how many samples had to be looked at; 0 when none is in the range. */
  piece(piece: Piece): number;
  /** Ends the series; false when it had no samples in the range and was left out. */
  end(): boolean;
  /** The series comes again. */
  abandon(): void;
  /** No further series before the user of `eachSeries` had its turn. */
  readonly isFull: boolean;
}

/**
 * The pages of `resolved` (series ids, ascending, resolved when `catalogue.releaseCount` was `releaseCount`). Series without samples in the
 * range are left out, as far as chunk bounds tell. Throws TOO_LARGE past a limit, CORRUPT for a block that cannot be read.
 */
export async function* selectPages(
  source: Source,
  resolved: Uint32Array | Promise<Uint32Array>,
  releaseCount: number,
  range: { readonly fromMs: number; readonly toMs: number },
  limits: SelectLimits,
  slicer: Slicer,
): AsyncGenerator<Uint8Array> {
  const ids = resolved instanceof Promise ? await resolved : resolved;
  if (ids.length === 0) return;
  const page = new Page(source.shard);
  const sink = new PageSink(source.kernel, page, range);
  try {
    for await (const _ of eachSeries(source, ids, releaseCount, range, limits, slicer, sink)) yield page.take();
    if (page.byteCount > 0) yield page.take();
  } finally {
    page.release();
  }
}

/** What a selection that finds no series gives: most shards have nothing of a narrow one. */
export const NO_PAGES: AsyncGenerator<Uint8Array> = (async function* () {
  // No page.
})();

/** Chunks as they are where that will do, merged by the kernel where not. */
class PageSink implements SeriesSink {
  readonly #kernel: ShardKernel;
  readonly #page: Page;
  readonly #fromMs: number;
  readonly #toMs: number;
  #id = 0 as SeriesId;

  constructor(kernel: ShardKernel, page: Page, range: { readonly fromMs: number; readonly toMs: number }) {
    this.#kernel = kernel;
    this.#page = page;
    this.#fromMs = range.fromMs;
    this.#toMs = range.toMs;
  }

  begin(id: SeriesId): void {
    this.#id = id;
    this.#page.begin(this.#kernel.identity(id));
  }

  piece({ startMs, isOpen, sealed, dead }: Piece): number {
    let chunk = sealed;
    if (isOpen || dead !== undefined) {
      const merged = this.#kernel.chunk(this.#id, startMs, sealed, this.#fromMs, this.#toMs, dead);
      // Without an open run the block's chunk is the whole truth, unless something is deleted of it.
      if (merged !== undefined || dead !== undefined) chunk = merged;
    }
    if (chunk === undefined) return 0;
    const { minMs, maxMs, sampleCount } = chunkInfo(chunk);
    if (maxMs < this.#fromMs || minMs > this.#toMs) return 0;
    this.#page.chunk(chunk);
    return sampleCount;
  }

  end(): boolean {
    return this.#page.end();
  }

  abandon(): void {
    this.#page.abandon();
  }

  get isFull(): boolean {
    return this.#page.byteCount >= PAGE_BYTES;
  }
}

/** Gives the series to `sink`, as `selectPages` says. Yields whenever the sink is full. */
export async function* eachSeries(
  source: Source,
  ids: Uint32Array,
  releaseCount: number,
  range: { readonly fromMs: number; readonly toMs: number },
  limits: SelectLimits,
  slicer: Slicer,
  sink: SeriesSink,
): AsyncGenerator<void> {
  const { catalogue, blocks, deletions } = source;
  let views = viewsOf(source, range);
  let version = blocks.version;
  let fetched: Fetched = new Map();
  let seriesCount = 0;
  let sampleCount = 0;

  /** Adds a series; a block whose chunk has to be fetched first, if there is one. */
  const add = (id: SeriesId): SealedBlock | undefined => {
    let samples = 0;
    sink.begin(id);
    for (const view of views) {
      const { block } = view;
      let sealed: Uint8Array | undefined;
      if (block !== undefined) {
        const entry = block.find(id, view.hint);
        if (entry >= 0) {
          sealed = block.chunk(entry) ?? fetched.get(block)?.get(entry);
          if (sealed === undefined) {
            sink.abandon();
            return block;
          }
        }
      }
      const { startMs, isOpen } = view;
      if (!isOpen && sealed === undefined) continue;
      let dead = deletions.within(id, startMs);
      if (dead !== undefined && !isOpen && !touches(sealed, startMs, dead)) dead = undefined;
      samples += sink.piece({ startMs, isOpen, sealed, dead });
    }
    sampleCount += samples;
    if (sink.end()) seriesCount++;
    return undefined;
  };

  for (let first = 0; first < ids.length; first += GROUP) {
    const group = ids.subarray(first, first + GROUP);
    fetched = new Map();
    for (let i = 0; i < group.length; ) {
      const id = group[i] as SeriesId;
      if (!catalogue.releasedSince(id, releaseCount)) {
        const wanted = add(id);
        if (wanted !== undefined) {
          await fetchGroup(source, wanted, group, fetched);
          views = viewsOf(source, range);
          version = blocks.version;
          continue;
        }
        if (seriesCount > limits.maxSeriesCount) {
          throw tooLarge(source.shard, `more than ${limits.maxSeriesCount} series match`);
        }
        if (sampleCount > limits.maxSampleCount) {
          throw tooLarge(source.shard, `the series that match hold more than ${limits.maxSampleCount} samples`);
        }
        slicer.spend(8);
      }
      i++;
      const full = sink.isFull;
      if (full) yield;
      if (slicer.due()) await slicer.pause();
      else if (!full) continue;
      // Others had their turn: windows may have opened, sealed, or left memory.
      views = viewsOf(source, range);
      if (version !== blocks.version) fetched = new Map();
      version = blocks.version;
    }
  }
}

/** The pages of the identities alone. */
export async function* identityPages(
  source: Pick<Source, 'kernel' | 'catalogue' | 'shard'>,
  ids: Uint32Array,
  releaseCount: number,
  slicer: Slicer,
): AsyncGenerator<Uint8Array> {
  if (ids.length === 0) return;
  const page = new Page(source.shard);
  try {
    for (const id of ids as Iterable<number> as Iterable<SeriesId>) {
      if (slicer.due()) await slicer.pause();
      if (source.catalogue.releasedSince(id, releaseCount)) continue;
      page.begin(source.kernel.identity(id));
      page.end(true);
      if (page.byteCount >= PAGE_BYTES) yield page.take();
    }
    if (page.byteCount > 0) yield page.take();
  } finally {
    page.release();
  }
}

function viewsOf(source: Source, range: { readonly fromMs: number; readonly toMs: number }): View[] {
  const byStart = new Map<number, View>();
  const overlaps = (startMs: number) => startMs <= range.toMs && startMs + WINDOW_MS > range.fromMs;
  for (const block of source.blocks.all) {
    const startMs = block.windowStartMs;
    if (overlaps(startMs)) byStart.set(startMs, { startMs, block, hint: { at: 0 }, isOpen: false });
  }
  for (const { startMs } of source.kernel.windows()) {
    if (overlaps(startMs))
      byStart.set(startMs, { startMs, block: byStart.get(startMs)?.block, hint: { at: 0 }, isOpen: true });
  }
  return [...byStart.values()].sort((a, b) => a.startMs - b.startMs);
}

/** Could any of what is deleted in the window be in the chunk? As far as its bounds tell. */
function touches(chunk: Uint8Array | undefined, windowStartMs: number, dead: Uint32Array): boolean {
  if (chunk === undefined) return false;
  const { minMs, maxMs } = chunkInfo(chunk);
  for (let i = 0; i < dead.length; i += 2) {
    if (windowStartMs + (dead[i] as number) <= maxMs && windowStartMs + (dead[i + 1] as number) >= minMs) return true;
  }
  return false;
}

/** Reads the chunks that a block, not in memory, has of a group of series. */
async function fetchGroup(source: Source, block: SealedBlock, group: Uint32Array, fetched: Fetched): Promise<void> {
  const hint = { at: 0 };
  const entries: number[] = [];
  for (const id of group) {
    const entry = block.find(id, hint);
    if (entry >= 0) entries.push(entry);
  }
  try {
    fetched.set(block, await block.read(Uint32Array.from(entries)));
  } catch (error) {
    // The file of a block that was just replaced may be gone: the caller looks at the new one.
    if (source.blocks.get(block.windowStartMs) !== block) return;
    await source.unsound(block, error);
    throw error;
  }
}

function tooLarge(shard: number, what: string): SilverbackError {
  return new SilverbackError('TOO_LARGE', `shard ${shard}: ${what}; narrow the selector or the time range`);
}

/** Memory to build pages in, given back and taken again: pages grown by allocation were a third of a wide read's time. */
const scratch: Uint8Array[] = [];
const SCRATCH_BYTES = 2 * PAGE_BYTES;
const SCRATCH_COUNT = 8;

/** Builds select pages. To be released at the end. */
class Page {
  readonly #shard: number;
  #bytes = scratch.pop() ?? new Uint8Array(SCRATCH_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #used = 0;
  /** Where the series under way begins, and where its chunk count stands. */
  #start = 0;
  #countAt = 0;
  #chunkCount = 0;

  constructor(shard: number) {
    this.#shard = shard;
  }

  get byteCount(): number {
    return this.#used;
  }

  begin(identity: Uint8Array): void {
    this.#reserve(identity.length + 12);
    this.#start = this.#used;
    this.#view.setUint32(this.#used, this.#shard, true);
    this.#view.setUint32(this.#used + 4, identity.length, true);
    this.#bytes.set(identity, this.#used + 8);
    this.#countAt = this.#used + 8 + identity.length;
    this.#used = this.#countAt + 4;
    this.#chunkCount = 0;
  }

  chunk(chunk: Uint8Array): void {
    this.#reserve(chunk.length + 4);
    this.#view.setUint32(this.#used, chunk.length, true);
    this.#bytes.set(chunk, this.#used + 4);
    this.#used += 4 + chunk.length;
    this.#chunkCount++;
  }

  /** Ends the series; false when it had no chunks and was left out. */
  end(keepEmpty = false): boolean {
    if (this.#chunkCount === 0 && !keepEmpty) {
      this.abandon();
      return false;
    }
    this.#view.setUint32(this.#countAt, this.#chunkCount, true);
    return true;
  }

  abandon(): void {
    this.#used = this.#start;
  }

  /** The page, as a copy; a new one begins. */
  take(): Uint8Array {
    const page = this.#bytes.slice(0, this.#used);
    this.#used = 0;
    return page;
  }

  release(): void {
    if (this.#bytes.length === SCRATCH_BYTES && scratch.length < SCRATCH_COUNT) scratch.push(this.#bytes);
    this.#bytes = new Uint8Array(0);
  }

  #reserve(byteCount: number): void {
    const needed = this.#used + byteCount;
    if (needed <= this.#bytes.length) return;
    const grown = new Uint8Array(needed + (needed >>> 2));
    grown.set(this.#bytes.subarray(0, this.#used));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}
