/**
 * Sealing: the open runs of a window and its block, if it has one, become a new block.
 *
 * In slices, appends go on between them. The order that makes it safe: chunks are made from runs that stay where they are;
 * the file is made durable; the block takes its place among the blocks; only then are the runs that did not change since
 * released. A crash before the last step leaves runs in log and checkpoint that the block holds too, which merges to the
 * same. What is appended meanwhile stays open and is sealed again later.
 *
 * What is deleted stays out of the new block; so no block takes its place before the deletions are durable. What is deleted
 * behind the seal's back stays in the block, dead, until the window is sealed again.
 */
import { createBlock } from '../../core/block.ts';
import { SilverbackError } from '../../core/errors.ts';
import { chunkInfo } from '../../core/kernel/codec.ts';
import { type SeriesId, type ShardKernel, WINDOW_MS } from '../../core/kernel/shard.ts';
import type { BlockStore, SealedBlock } from './blocks.ts';
import type { Deletions } from './deletions.ts';
import { orderByIdentity } from './order.ts';
import { IdSet } from './postings.ts';
import type { Slicer } from './slicer.ts';

/** Entries of an old block whose chunks are fetched from the disk together. */
const GROUP = 4096;

/** What windows are sealed and digested from. */
export interface Windows {
  readonly kernel: ShardKernel;
  readonly blocks: BlockStore;
  readonly deletions: Deletions;
  readonly shard: number;
  /** Resolves when every deletion made so far is durable. */
  readonly deletionsDurable: () => Promise<void>;
}

/** Seals a window. Throws what the disk throws, and CORRUPT for an old block that cannot be read; the runs then stay open. */
export async function sealWindow(windows: Windows, windowStartMs: number, slicer: Slicer): Promise<void> {
  const { kernel, blocks, deletions, shard } = windows;
  const old = await blocks.recall(windowStartMs, slicer);
  const members = await membersOf(kernel, old, windowStartMs, slicer);
  const known = (old ?? blocks.all.at(-1))?.idsByIdentity() ?? new Uint32Array(0);
  const order = await orderByIdentity(kernel, members, known, slicer);
  const writer = createBlock({ shard, windowStartMs, windowLengthMs: WINDOW_MS });
  kernel.clearDigest();
  let seriesCount = 0;
  for await (const { id, chunk: sealed } of withOldChunks(order, old, slicer)) {
    const dead = deletions.within(id, windowStartMs);
    if (dead !== undefined) {
      // As a copy: asking for the identity ends the life of what the kernel gave.
      const alive = kernel.seal(id, windowStartMs, sealed, dead)?.slice();
      if (alive === undefined) continue;
      writer.series(kernel.identity(id));
      writer.chunk(alive, chunkInfo(alive).sampleCount);
      seriesCount++;
      slicer.spend(100);
      if (slicer.due()) await slicer.pause();
      continue;
    }
    writer.series(kernel.identity(id));
    seriesCount++;
    const merged = kernel.seal(id, windowStartMs, sealed);
    const chunk = merged ?? sealed;
    if (chunk === undefined)
      throw new SilverbackError('INTERNAL', `series ${id} has no samples in window ${windowStartMs}`);
    writer.chunk(chunk, chunkInfo(chunk).sampleCount);
    if (merged === undefined) kernel.addDigest(id, windowStartMs, sealed);
    slicer.spend(100);
    if (slicer.due()) await slicer.pause();
  }
  const digests = kernel.digest().slice();
  // After a restart the log brings back runs that are sealed already.
  const same = old !== undefined && old.ids.length === seriesCount && Buffer.compare(old.digests, digests) === 0;
  if (!deletions.isEmpty) await windows.deletionsDurable();
  if (seriesCount === 0) await blocks.remove(windowStartMs);
  else if (!same) await blocks.put(windowStartMs, writer.finish(digests).parts, slicer);
  while (!kernel.releaseSealed(windowStartMs).done) await slicer.pause();
}

/** 256 sums over what the window holds, open runs and block merged, and over what is deleted in it. */
export async function digestWindow(
  { kernel, blocks, deletions }: Windows,
  windowStartMs: number,
  slicer: Slicer,
): Promise<Uint8Array> {
  const block = blocks.get(windowStartMs);
  const open = kernel.windows().some((window) => window.startMs === windowStartMs);
  const affected = await deletions.touching(windowStartMs, slicer);
  if (!open && block !== undefined) {
    if (affected.length === 0) return block.digests.slice();
    // Those of the block, put right for the series that something is deleted of.
    kernel.loadDigest(block.digests);
    for await (const { id, chunk } of withOldChunks(affected, block, slicer)) {
      if (chunk === undefined) continue;
      kernel.subtractDigest(id, windowStartMs, chunk);
      kernel.addDigest(id, windowStartMs, chunk, deletions.within(id, windowStartMs));
      slicer.spend(100);
      if (slicer.due()) await slicer.pause();
    }
  } else {
    const members = await membersOf(kernel, block, windowStartMs, slicer);
    kernel.clearDigest();
    for await (const { id, chunk } of withOldChunks(members.toArray(), block, slicer)) {
      kernel.addDigest(id, windowStartMs, chunk, deletions.within(id, windowStartMs));
      slicer.spend(50);
      if (slicer.due()) await slicer.pause();
    }
  }
  for (const id of affected as Iterable<number> as Iterable<SeriesId>) {
    const dead = deletions.within(id, windowStartMs);
    if (dead !== undefined) kernel.addDeadDigest(id, windowStartMs, dead);
    if (slicer.due()) await slicer.pause();
  }
  return kernel.digest().slice();
}

/** The series with samples in a window: in its block or in open runs. */
export async function membersOf(
  kernel: ShardKernel,
  block: SealedBlock | undefined,
  windowStartMs: number,
  slicer: Slicer,
  members = new IdSet(),
): Promise<IdSet> {
  for (let cursor: number | undefined = 0; cursor !== undefined; ) {
    const page = kernel.seriesIn(windowStartMs, cursor);
    members.addAll(page.series);
    cursor = page.next;
    slicer.spend(page.series.length >>> 3);
    if (slicer.due()) await slicer.pause();
  }
  if (block !== undefined) {
    for (let at = 0; at < block.ids.length; at += GROUP) {
      members.addAll(block.ids.subarray(at, at + GROUP));
      slicer.spend(GROUP >>> 3);
      if (slicer.due()) await slicer.pause();
    }
  }
  return members;
}

/** Does the window's block hold samples that are deleted? Throws what reading the block throws. */
export async function hasDead(
  { kernel, blocks, deletions }: Windows,
  windowStartMs: number,
  slicer: Slicer,
): Promise<boolean> {
  const block = blocks.get(windowStartMs);
  if (block === undefined) return false;
  const affected = await deletions.touching(windowStartMs, slicer);
  for await (const { id, chunk } of withOldChunks(affected, block, slicer)) {
    const dead = chunk === undefined ? undefined : deletions.within(id, windowStartMs);
    if (chunk === undefined || dead === undefined) continue;
    for (let i = 0; i < dead.length; i += 2) {
      const fromMs = windowStartMs + (dead[i] as number);
      const toMs = windowStartMs + (dead[i + 1] as number);
      if (kernel.chunks.decode([chunk], fromMs, toMs).timestamps.length > 0) return true;
    }
    slicer.spend(50);
    if (slicer.due()) await slicer.pause();
  }
  return false;
}

/**
 * Is a block that another copy sent what it says it is: a chunk of each series, in its window, as many samples as its header
 * says, and these add up to its digests? To be called while nothing else uses the digest accumulator. Throws CORRUPT.
 */
export async function verifyBlock(kernel: ShardKernel, block: SealedBlock, slicer: Slicer): Promise<void> {
  const { windowStartMs } = block;
  kernel.loadDigest(block.digests);
  const hint = { at: 0 };
  let sampleCount = 0;
  for (const id of block.ids as Iterable<number> as Iterable<SeriesId>) {
    const chunk = block.chunk(block.find(id, hint));
    if (chunk === undefined) throw new SilverbackError('INTERNAL', `block ${block.path} is not in memory`);
    const info = chunkInfo(chunk);
    if (info.minMs < windowStartMs || info.maxMs >= windowStartMs + WINDOW_MS) {
      const what = `a chunk from ${info.minMs} to ${info.maxMs}`;
      throw new SilverbackError('CORRUPT', `block ${block.path} of window ${windowStartMs} holds ${what}`);
    }
    sampleCount += info.sampleCount;
    kernel.subtractDigest(id, windowStartMs, chunk);
    slicer.spend(100);
    if (slicer.due()) await slicer.pause();
  }
  if (sampleCount !== block.sampleCount || kernel.digest().some((byte) => byte !== 0)) {
    throw new SilverbackError('CORRUPT', `the samples of block ${block.path} are not those of its digests`);
  }
}

/** The series with samples in a window that are not deleted; added to `members`. */
export async function livingMembersOf(
  { kernel, blocks, deletions }: Windows,
  windowStartMs: number,
  slicer: Slicer,
  members: IdSet,
): Promise<void> {
  const block = blocks.get(windowStartMs);
  const affected = await deletions.touching(windowStartMs, slicer);
  if (affected.length === 0) {
    await membersOf(kernel, block, windowStartMs, slicer, members);
    return;
  }
  const found = await membersOf(kernel, block, windowStartMs, slicer);
  const doubtful = affected.filter((id) => found.has(id));
  for await (const { id, chunk } of withOldChunks(doubtful, block, slicer)) {
    const dead = deletions.within(id, windowStartMs);
    if (dead === undefined) continue;
    if (kernel.chunk(id, windowStartMs, chunk, 0, Number.POSITIVE_INFINITY, dead) === undefined) found.delete(id);
    slicer.spend(50);
    if (slicer.due()) await slicer.pause();
  }
  members.addAll(found.toArray());
}

/** Series with the chunk that a block has of each, fetched from the disk where it is not in memory. */
async function* withOldChunks(
  ids: Uint32Array,
  block: SealedBlock | undefined,
  slicer: Slicer,
): AsyncGenerator<{ id: SeriesId; chunk: Uint8Array | undefined }> {
  for (let first = 0; first < ids.length; first += GROUP) {
    const group = ids.subarray(first, first + GROUP);
    let fetched: Map<number, Uint8Array> | undefined;
    for (const id of group as Iterable<number> as Iterable<SeriesId>) {
      const entry = block?.find(id, { at: 0 }) ?? -1;
      if (block === undefined || entry < 0) {
        yield { id, chunk: undefined };
        continue;
      }
      let chunk = block.chunk(entry) ?? fetched?.get(entry);
      if (chunk === undefined) {
        const entries: number[] = [];
        const hint = { at: 0 };
        for (const other of group.slice().sort()) {
          const at = block.find(other, hint);
          if (at >= 0) entries.push(at);
        }
        fetched = await block.read(Uint32Array.from(entries));
        chunk = fetched.get(entry);
        slicer.spend(1000);
      }
      yield { id, chunk };
    }
  }
}
