/**
 * The sealed blocks of a shard: at most one per window, a file each, their chunks in memory as long as the budget allows.
 *
 * Files: `<window start ms>-<generation>.block`. A new generation of a window is written beside the old one under a
 * temporary name, synced, renamed, the directory synced; only then does it take the old one's place in memory, and the old
 * file goes last. A crash at any point leaves the old block, the new one, or both; opening takes the newest that is sound.
 * A file that is not sound moves to `quarantine/`, where its name keeps saying which window has a gap.
 */
import { type Block, type BlockIndex, type BlockSource, openBlock } from '../../core/block.ts';
import type { Env } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import { type SeriesId, WINDOW_MS } from '../../core/kernel/shard.ts';
import type { Budget, Evictable } from './budget.ts';
import { Incoming } from './incoming.ts';
import type { Slicer } from './slicer.ts';

const FILE_NAME = /^(\d+)-(\d+)\.block$/;
const TEMPORARY = '.part';
/** What is added to the name of a damaged file whose window has no gap any more. */
const HEALED = '.healed';

/** What a block's name says; undefined if it is no block's name. */
export function parseBlockName(name: string): { windowStartMs: number; generation: number } | undefined {
  const match = FILE_NAME.exec(name);
  return match === null ? undefined : { windowStartMs: Number(match[1]), generation: Number(match[2]) };
}

/** Chunks that lie this close together on disk are read together ... */
const READ_GAP_BYTES = 64 * 1024;
/** ... up to this much. */
const READ_BYTES = 1024 * 1024;

/** A window of which samples are known to be lost, because its block was damaged. */
export interface BlockGap {
  readonly windowStartMs: number;
  readonly reason: string;
}

/** Finds or makes the series of an identity. */
type Intern = (identity: Uint8Array) => SeriesId;

/** One sealed window. Entries are numbered in the file's order, that of identity bytes. */
export class SealedBlock implements Evictable {
  readonly windowStartMs: number;
  readonly generation: number;
  /** The series in it, ascending. */
  readonly ids: Uint32Array;
  /** 256 x 16 bytes. */
  readonly digests: Uint8Array;
  readonly sampleCount: number;
  readonly fileBytes: number;
  /** `#entries[i]` is the entry of series `ids[i]`. */
  readonly #entries: Uint32Array;
  readonly #chunkStart: Uint32Array;
  readonly #file: Block;
  readonly #source: PathSource;
  #chunks: Uint8Array | undefined;

  private constructor(
    generation: number,
    source: PathSource,
    file: Block,
    index: BlockIndex,
    digests: Uint8Array,
    sorted: { ids: Uint32Array; entries: Uint32Array },
  ) {
    this.windowStartMs = file.windowStartMs;
    this.generation = generation;
    this.#source = source;
    this.ids = sorted.ids;
    this.#entries = sorted.entries;
    this.digests = digests;
    this.sampleCount = file.sampleCount;
    this.fileBytes = file.byteLength;
    this.#chunkStart = index.chunkStart;
    this.#file = file;
  }

  /** Reads what is resident of every block; not its chunks. Throws CORRUPT or VERSION. */
  static async open(
    env: Env,
    place: { path: string; generation: number },
    expected: { shard: number; windowStartMs: number },
    intern: Intern,
    slicer: Slicer,
  ): Promise<SealedBlock> {
    const source = new PathSource(env, place.path);
    const file = await openBlock(source, place.path);
    if (
      file.shard !== expected.shard ||
      file.windowStartMs !== expected.windowStartMs ||
      file.windowLengthMs !== WINDOW_MS
    ) {
      throw new SilverbackError(
        'CORRUPT',
        `${place.path} holds window ${file.windowStartMs} (${file.windowLengthMs} ms) of shard ${file.shard}, not what its place says`,
      );
    }
    const index = await file.index();
    const seriesCount = file.seriesCount;
    for (let series = 0; series <= seriesCount; series++) {
      if (index.firstChunk[series] !== series) {
        throw new SilverbackError('VERSION', `${place.path} has several chunks a series, this version reads one`);
      }
      if (slicer.due()) await slicer.pause();
    }
    const byEntry = new Uint32Array(seriesCount);
    let entry = 0;
    for await (const identities of file.identities()) {
      for (const identity of identities) {
        byEntry[entry++] = intern(identity);
        slicer.spend(20);
        if (slicer.due()) await slicer.pause();
      }
    }
    if (entry !== seriesCount)
      throw new SilverbackError('CORRUPT', `${place.path} has ${entry} identities for ${seriesCount} series`);
    const sorted = await sortById(byEntry, slicer);
    return new SealedBlock(place.generation, source, file, index, await file.digests(), sorted);
  }

  get path(): string {
    return this.#source.path;
  }

  /** The file was given another name. */
  moved(path: string): void {
    this.#source.path = path;
  }

  get resident(): boolean {
    return this.#chunks !== undefined;
  }

  get residentBytes(): number {
    return this.#chunks?.byteLength ?? 0;
  }

  get chunkBytes(): number {
    return this.#file.chunkByteLength;
  }

  /** Memory that stays while the block is known. */
  get indexBytes(): number {
    return this.ids.byteLength + this.#entries.byteLength + this.#chunkStart.byteLength + this.digests.byteLength;
  }

  /** Brings the chunks into memory, verified. */
  async bringIn(): Promise<void> {
    this.#chunks = await this.#file.chunks();
  }

  evict(): void {
    this.#chunks = undefined;
  }

  /**
   * The entry of a series, or -1. `hint` is the place in `ids` where the search begins: for ascending series pass what
   * `hint.at` was left at.
   */
  find(id: number, hint: { at: number }): number {
    const ids = this.ids;
    const count = ids.length;
    let low = hint.at;
    if (low >= count || (ids[low] as number) > id) low = 0;
    let step = 1;
    while (low + step < count && (ids[low + step] as number) <= id) {
      low += step;
      step <<= 1;
    }
    let high = Math.min(low + step, count);
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if ((ids[middle] as number) <= id) low = middle;
      else high = middle;
    }
    hint.at = low;
    return ids[low] === id ? (this.#entries[low] as number) : -1;
  }

  /** The chunk of an entry (a view), undefined while the block is not in memory. */
  chunk(entry: number): Uint8Array | undefined {
    return this.#chunks?.subarray(this.#chunkStart[entry], this.#chunkStart[entry + 1]);
  }

  /** Reads the chunks of some entries from the disk, verified, neighbours together. */
  async read(entries: Uint32Array): Promise<Map<number, Uint8Array>> {
    const chunks = new Map<number, Uint8Array>();
    const sorted = entries.slice().sort();
    const starts = this.#chunkStart;
    for (let first = 0; first < sorted.length; ) {
      const from = starts[sorted[first] as number] as number;
      let last = first;
      while (last + 1 < sorted.length) {
        const next = sorted[last + 1] as number;
        const gap = (starts[next] as number) - (starts[(sorted[last] as number) + 1] as number);
        if (gap > READ_GAP_BYTES || (starts[next + 1] as number) - from > READ_BYTES) break;
        last++;
      }
      const bytes = await this.#file.readChunks(from, starts[(sorted[last] as number) + 1] as number);
      for (; first <= last; first++) {
        const entry = sorted[first] as number;
        chunks.set(entry, bytes.subarray((starts[entry] as number) - from, (starts[entry + 1] as number) - from));
      }
    }
    return chunks;
  }

  /** The series in order of their identity bytes. */
  idsByIdentity(): Uint32Array {
    const byEntry = new Uint32Array(this.ids.length);
    for (let i = 0; i < byEntry.length; i++) byEntry[this.#entries[i] as number] = this.ids[i] as number;
    return byEntry;
  }
}

/** Ids are dense, so a table over them sorts in linear time and in slices. */
async function sortById(byEntry: Uint32Array, slicer: Slicer): Promise<{ ids: Uint32Array; entries: Uint32Array }> {
  let top = -1;
  for (let entry = 0; entry < byEntry.length; entry++) top = Math.max(top, byEntry[entry] as number);
  const entryOf = new Uint32Array(top + 1);
  for (let entry = 0; entry < byEntry.length; entry++) {
    entryOf[byEntry[entry] as number] = entry + 1;
    if (slicer.due()) await slicer.pause();
  }
  const ids = new Uint32Array(byEntry.length);
  const entries = new Uint32Array(byEntry.length);
  let at = 0;
  for (let id = 0; id <= top; id++) {
    const entry = entryOf[id] as number;
    if (entry !== 0) {
      ids[at] = id;
      entries[at++] = entry - 1;
    }
    if (slicer.due()) await slicer.pause();
  }
  if (at !== byEntry.length) throw new SilverbackError('CORRUPT', 'a block names a series twice');
  return { ids, entries };
}

/** Opens the file for each read: hundreds of shards with a dozen blocks each would hold too many descriptors. */
class PathSource implements BlockSource {
  readonly #env: Env;
  path: string;

  constructor(env: Env, path: string) {
    this.#env = env;
    this.path = path;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const file = await this.#env.disk.open(this.path, 'read');
    try {
      return await file.read(offset, length);
    } finally {
      await file.close();
    }
  }

  async size(): Promise<number> {
    const file = await this.#env.disk.open(this.path, 'read');
    try {
      return await file.size();
    } finally {
      await file.close();
    }
  }
}

export class BlockStore {
  readonly #env: Env;
  readonly #directory: string;
  readonly #shard: number;
  readonly #budget: Budget;
  readonly #intern: Intern;
  readonly #blocks = new Map<number, SealedBlock>();
  /** In order of their windows. */
  #sorted: readonly SealedBlock[] = [];
  /** Files of windows that left memory: window start -> generation. */
  readonly #retired = new Map<number, number>();
  readonly #gaps = new Map<number, BlockGap>();
  /** The last generation of windows that have had a block since the store was opened: none is used again. */
  readonly #generations = new Map<number, number>();
  #version = 0;

  constructor(env: Env, directory: string, shard: number, budget: Budget, intern: Intern) {
    this.#env = env;
    this.#directory = directory;
    this.#shard = shard;
    this.#budget = budget;
    this.#intern = intern;
  }

  /** Known blocks in order of their windows. */
  get all(): readonly SealedBlock[] {
    return this.#sorted;
  }

  /** Grows with every block that comes, goes, or is replaced. */
  get version(): number {
    return this.#version;
  }

  get gaps(): readonly BlockGap[] {
    return [...this.#gaps.values()];
  }

  get(windowStartMs: number): SealedBlock | undefined {
    return this.#blocks.get(windowStartMs);
  }

  /**
   * Reads the directory: blocks of windows from `keepFromMs` on become known, newest first, their chunks come into memory
   * while the budget has room. Unsound files are quarantined and named in the result.
   */
  async open(keepFromMs: number, slicer: Slicer): Promise<string[]> {
    const { disk } = this.#env;
    await disk.makeDirectory(this.#directory);
    const problems: string[] = [];
    for (const name of await disk.list(this.#quarantine)) {
      const match = FILE_NAME.exec(name);
      if (match === null) continue;
      const windowStartMs = Number(match[1]);
      this.#gaps.set(windowStartMs, { windowStartMs, reason: `its block ${name} was damaged` });
    }
    const found: { name: string; windowStartMs: number; generation: number }[] = [];
    for (const name of await disk.list(this.#directory)) {
      const match = FILE_NAME.exec(name);
      if (match !== null) found.push({ name, windowStartMs: Number(match[1]), generation: Number(match[2]) });
      else if (name.endsWith(TEMPORARY)) await disk.remove(`${this.#directory}/${name}`);
    }
    found.sort((a, b) => b.windowStartMs - a.windowStartMs || b.generation - a.generation);
    for (const { name, windowStartMs, generation } of found) {
      const path = `${this.#directory}/${name}`;
      if (this.#blocks.has(windowStartMs) || this.#retired.has(windowStartMs)) {
        // An older generation whose removal a crash forestalled.
        await disk.remove(path);
        continue;
      }
      if (windowStartMs + WINDOW_MS < keepFromMs) {
        this.#retired.set(windowStartMs, generation);
        continue;
      }
      try {
        const block = await this.#load(windowStartMs, generation, slicer);
        if (this.#budget.fits(block.chunkBytes)) await block.bringIn();
        this.#place(block);
      } catch (error) {
        if (!isUnsound(error)) throw error;
        problems.push(await this.#setAside(windowStartMs, name, error));
      }
    }
    return problems;
  }

  /** The window's block, also one that left memory for its age: to be merged with late samples. */
  async recall(windowStartMs: number, slicer: Slicer): Promise<SealedBlock | undefined> {
    const known = this.#blocks.get(windowStartMs);
    const generation = this.#retired.get(windowStartMs);
    if (known !== undefined || generation === undefined) return known;
    const block = await this.#load(windowStartMs, generation, slicer);
    this.#retired.delete(windowStartMs);
    this.#place(block);
    return block;
  }

  /** Makes a finished block file durable and puts it in the place of the window's block, if there is one. */
  async put(windowStartMs: number, parts: readonly Uint8Array[], slicer: Slicer): Promise<SealedBlock> {
    const { disk } = this.#env;
    const old = this.#blocks.get(windowStartMs);
    const generation = this.#nextGeneration(windowStartMs);
    const path = this.#path(windowStartMs, generation);
    const temporary = path + TEMPORARY;
    try {
      const file = await disk.open(temporary, 'append');
      try {
        await file.truncate(0);
        await file.write(parts, 0);
        await file.sync();
      } finally {
        await file.close();
      }
      await disk.rename(temporary, path);
      await disk.syncDirectory(this.#directory);
    } catch (error) {
      await disk.remove(temporary).catch(() => undefined);
      throw error;
    }
    const block = await this.#load(windowStartMs, generation, slicer);
    await block.bringIn();
    this.#retired.delete(windowStartMs);
    this.#place(block);
    this.#budget.enforce();
    if (old !== undefined) await disk.remove(old.path);
    return block;
  }

  /** A file to put a block into that another copy sends. What is not made the window's block is removed, at the latest when opening. */
  async receive(windowStartMs: number): Promise<Incoming> {
    const { disk } = this.#env;
    const path = `${this.#directory}/${windowStartMs}.received${TEMPORARY}`;
    const file = await disk.open(path, 'append');
    await file.truncate(0);
    return new Incoming(disk, windowStartMs, path, file);
  }

  /**
   * Makes a block that another copy sent the window's block, as it is, unless the window has one by now (undefined). `verify`
   * looks at it before it counts. Throws CORRUPT, VERSION. In any case the received file is gone afterwards.
   */
  async adopt(
    incoming: Incoming,
    verify: (block: SealedBlock) => Promise<void>,
    slicer: Slicer,
  ): Promise<SealedBlock | undefined> {
    const { disk } = this.#env;
    const { windowStartMs } = incoming;
    try {
      await incoming.finish();
      if (this.#blocks.has(windowStartMs) || this.#retired.has(windowStartMs)) return undefined;
      const generation = this.#nextGeneration(windowStartMs);
      const place = { path: incoming.path, generation };
      const expected = { shard: this.#shard, windowStartMs };
      const block = await SealedBlock.open(this.#env, place, expected, this.#intern, slicer);
      await block.bringIn();
      await verify(block);
      const path = this.#path(windowStartMs, generation);
      await disk.rename(incoming.path, path);
      block.moved(path);
      await disk.syncDirectory(this.#directory);
      this.#place(block);
      this.#budget.enforce();
      return block;
    } finally {
      await incoming.discard();
    }
  }

  /** The bytes of the window's block file, in parts. Throws NOT_FOUND where it has none. */
  async *file(windowStartMs: number, partBytes: number): AsyncGenerator<Uint8Array> {
    const block = this.#blocks.get(windowStartMs);
    if (block === undefined) {
      throw new SilverbackError('NOT_FOUND', `shard ${this.#shard} has no block of window ${windowStartMs}`);
    }
    // One descriptor for the whole of it: a block that is replaced meanwhile stays readable.
    const file = await this.#env.disk.open(block.path, 'read');
    try {
      for (let at = 0; at < block.fileBytes; ) {
        const part = await file.read(at, Math.min(partBytes, block.fileBytes - at));
        if (part.length === 0) throw new SilverbackError('CORRUPT', `block ${block.path} ends at byte ${at}`);
        yield part;
        at += part.length;
      }
    } finally {
      await file.close();
    }
  }

  /** What the window's damaged block held is here again: its file stays in quarantine, but says no more that there is a gap. */
  async closeGap(windowStartMs: number): Promise<void> {
    if (!this.#gaps.delete(windowStartMs)) return;
    const { disk } = this.#env;
    for (const name of await disk.list(this.#quarantine)) {
      if (Number(FILE_NAME.exec(name)?.[1] ?? Number.NaN) !== windowStartMs) continue;
      await disk.rename(`${this.#quarantine}/${name}`, `${this.#quarantine}/${name}${HEALED}`);
    }
    await disk.syncDirectory(this.#quarantine);
  }

  /** Removes the window's block, if there is one: nothing of it is alive. */
  async remove(windowStartMs: number): Promise<void> {
    const block = this.#blocks.get(windowStartMs);
    if (block === undefined) return;
    this.#drop(block);
    await this.#env.disk.remove(block.path);
    // Else it might come back beside a later block, whose generations begin anew.
    await this.#env.disk.syncDirectory(this.#directory);
  }

  /** Forgets blocks of windows that ended before `keepFromMs`; their files stay. Returns how many. */
  retire(keepFromMs: number): number {
    let count = 0;
    for (const block of this.#sorted) {
      if (block.windowStartMs + WINDOW_MS >= keepFromMs) continue;
      this.#drop(block);
      this.#retired.set(block.windowStartMs, block.generation);
      count++;
    }
    return count;
  }

  /** Removes the files of retired windows that ended before `keepFromMs`, and their gaps. */
  async expire(keepFromMs: number): Promise<void> {
    for (const [windowStartMs, generation] of this.#retired) {
      if (windowStartMs + WINDOW_MS >= keepFromMs) continue;
      this.#retired.delete(windowStartMs);
      await this.#env.disk.remove(this.#path(windowStartMs, generation));
    }
    for (const windowStartMs of this.#gaps.keys()) {
      if (windowStartMs + WINDOW_MS < keepFromMs) this.#gaps.delete(windowStartMs);
    }
    for (const windowStartMs of this.#generations.keys()) {
      const isGone = !this.#blocks.has(windowStartMs) && !this.#retired.has(windowStartMs);
      if (isGone && windowStartMs + WINDOW_MS < keepFromMs) this.#generations.delete(windowStartMs);
    }
  }

  /** A read found the block unsound: it leaves, and its window has a gap from now on. Returns the words for the report. */
  async quarantine(block: SealedBlock, error: SilverbackError): Promise<string | undefined> {
    if (this.#blocks.get(block.windowStartMs) !== block) return undefined;
    this.#drop(block);
    return this.#setAside(block.windowStartMs, block.path.slice(this.#directory.length + 1), error);
  }

  /** All blocks leave memory; the files stay. */
  close(): void {
    for (const block of this.#sorted) this.#budget.delete(block);
    this.#blocks.clear();
    this.#sorted = [];
    this.#version++;
  }

  get #quarantine(): string {
    return `${this.#directory}/quarantine`;
  }

  #path(windowStartMs: number, generation: number): string {
    return `${this.#directory}/${windowStartMs}-${generation}.block`;
  }

  #nextGeneration(windowStartMs: number): number {
    const known = this.#blocks.get(windowStartMs)?.generation ?? this.#retired.get(windowStartMs) ?? 0;
    return Math.max(known, this.#generations.get(windowStartMs) ?? 0) + 1;
  }

  #load(windowStartMs: number, generation: number, slicer: Slicer): Promise<SealedBlock> {
    const place = { path: this.#path(windowStartMs, generation), generation };
    const expected = { shard: this.#shard, windowStartMs };
    return SealedBlock.open(this.#env, place, expected, this.#intern, slicer);
  }

  #place(block: SealedBlock): void {
    const old = this.#blocks.get(block.windowStartMs);
    if (old !== undefined) this.#drop(old);
    this.#blocks.set(block.windowStartMs, block);
    this.#generations.set(block.windowStartMs, block.generation);
    if (block.resident) this.#budget.add(block);
    this.#sort();
  }

  #drop(block: SealedBlock): void {
    this.#budget.delete(block);
    this.#blocks.delete(block.windowStartMs);
    this.#sort();
  }

  #sort(): void {
    this.#sorted = [...this.#blocks.values()].sort((a, b) => a.windowStartMs - b.windowStartMs);
    this.#version++;
  }

  async #setAside(windowStartMs: number, name: string, error: SilverbackError): Promise<string> {
    const { disk } = this.#env;
    await disk.makeDirectory(this.#quarantine);
    await disk.rename(`${this.#directory}/${name}`, `${this.#quarantine}/${name}`);
    await disk.syncDirectory(this.#quarantine);
    await disk.syncDirectory(this.#directory);
    this.#gaps.set(windowStartMs, { windowStartMs, reason: `its block ${name} was damaged` });
    return `block ${name} is unsound and lies in ${this.#quarantine} now: ${error.message}`;
  }
}

export function isUnsound(error: unknown): error is SilverbackError {
  return error instanceof SilverbackError && error.code === 'CORRUPT';
}
