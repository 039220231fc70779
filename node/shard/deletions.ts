/**
 * What is deleted in a shard: per series a set of time intervals, which only grows. A sample that an interval covers is dead
 * whenever it arrives, so deletions and samples may come in any order, any number of times, and copies still converge.
 *
 * Two intervals that overlap or touch are one: the set has one form, whatever it was made from. It is held in memory,
 * written to log and checkpoint, and left out of blocks: those hold what is alive. An interval goes when every window that
 * it covers part of is past retention.
 *
 *     list of deletions: the payload of a DELETION log record, and of a checkpoint's page
 *       0  1   format: 1
 *       1  3   zero
 *       4  4   count
 *       8      per deletion: 4 series, as log or checkpoint define it; 8 first, 8 last deleted millisecond
 */
import { SilverbackError } from '../../core/errors.ts';
import { type SeriesId, WINDOW_MS } from '../../core/kernel/shard.ts';
import { checkVersion, newest } from '../../core/versions.ts';
import type { Slicer } from './slicer.ts';

/** Milliseconds, both ends deleted. */
export interface Deletion {
  readonly id: SeriesId;
  readonly fromMs: number;
  readonly toMs: number;
}

/** Pairs of first and last millisecond, in order, at least one living millisecond between two. Never changed: series share them. */
type Intervals = readonly number[];

/** Of memory, an estimate: an entry of the map, and a pair of doubles. */
const SERIES_BYTES = 64;
const INTERVAL_BYTES = 16;

export class Deletions {
  readonly #intervals = new Map<SeriesId, Intervals>();
  #intervalCount = 0;
  #version = 0;
  /** The last union made: a deletion of many series makes few different ones. */
  #last:
    | { readonly old: Intervals; readonly fromMs: number; readonly toMs: number; readonly made: Intervals }
    | undefined;

  get isEmpty(): boolean {
    return this.#intervals.size === 0;
  }

  /** Intervals over all series. */
  get count(): number {
    return this.#intervalCount;
  }

  /** Grows with every deletion. */
  get version(): number {
    return this.#version;
  }

  get byteCount(): number {
    return this.#intervals.size * SERIES_BYTES + this.#intervalCount * INTERVAL_BYTES;
  }

  has(id: SeriesId): boolean {
    return this.#intervals.has(id);
  }

  /** Series that something is deleted of, in no order. */
  ids(): Iterable<SeriesId> {
    return this.#intervals.keys();
  }

  /** All of them. What is added meanwhile may or may not show. */
  *[Symbol.iterator](): Generator<Deletion> {
    for (const [id, intervals] of this.#intervals) {
      for (let i = 0; i < intervals.length; i += 2) {
        yield { id, fromMs: intervals[i] as number, toMs: intervals[i + 1] as number };
      }
    }
  }

  /** Is all of the interval deleted already? */
  covers({ id, fromMs, toMs }: Deletion): boolean {
    const intervals = this.#intervals.get(id);
    if (intervals === undefined) return false;
    const i = firstEndingAt(intervals, fromMs);
    return i < intervals.length && (intervals[i] as number) <= fromMs && (intervals[i + 1] as number) >= toMs;
  }

  add({ id, fromMs, toMs }: Deletion): void {
    const old = this.#intervals.get(id) ?? NONE;
    const last = this.#last;
    const known = last !== undefined && last.old === old && last.fromMs === fromMs && last.toMs === toMs;
    const made = known ? last.made : union(old, fromMs, toMs);
    if (!known) this.#last = { old, fromMs, toMs, made };
    this.#intervals.set(id, made);
    this.#version++;
    this.#intervalCount += (made.length - old.length) / 2;
  }

  /** What is deleted of a series in a window, as the kernel takes it: offsets of first and last. Undefined: nothing. */
  within(id: SeriesId, windowStartMs: number): Uint32Array | undefined {
    const intervals = this.#intervals.get(id);
    if (intervals === undefined) return undefined;
    const lastMs = windowStartMs + WINDOW_MS - 1;
    const first = firstEndingAt(intervals, windowStartMs);
    let end = first;
    while (end < intervals.length && (intervals[end] as number) <= lastMs) end += 2;
    if (end === first) return undefined;
    const offsets = new Uint32Array(end - first);
    for (let i = first; i < end; i += 2) {
      offsets[i - first] = Math.max(0, (intervals[i] as number) - windowStartMs);
      offsets[i - first + 1] = Math.min(WINDOW_MS - 1, (intervals[i + 1] as number) - windowStartMs);
    }
    return offsets;
  }

  /** Series that something is deleted of in a window, ascending. */
  async touching(windowStartMs: number, slicer: Slicer): Promise<Uint32Array> {
    const ids: SeriesId[] = [];
    for (const [id, intervals] of this.#intervals) {
      const i = firstEndingAt(intervals, windowStartMs);
      if (i < intervals.length && (intervals[i] as number) < windowStartMs + WINDOW_MS) ids.push(id);
      if (slicer.due()) await slicer.pause();
    }
    return Uint32Array.from(ids).sort();
  }

  /** Forgets intervals that end before `keepFromMs`; returns how many. */
  expire(keepFromMs: number): number {
    let count = 0;
    for (const [id, intervals] of this.#intervals) {
      const first = firstEndingAt(intervals, keepFromMs);
      if (first === 0) continue;
      count += first / 2;
      if (first === intervals.length) this.#intervals.delete(id);
      else this.#intervals.set(id, intervals.slice(first));
    }
    this.#intervalCount -= count;
    return count;
  }
}

const NONE: Intervals = [];

/** Where the first pair stands that ends at `timeMs` or after; the length when there is none. */
function firstEndingAt(intervals: Intervals, timeMs: number): number {
  let low = 0;
  let high = intervals.length / 2;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((intervals[middle * 2 + 1] as number) < timeMs) low = middle + 1;
    else high = middle;
  }
  return low * 2;
}

function union(old: Intervals, fromMs: number, toMs: number): Intervals {
  // Intervals that overlap the new one or touch it become one with it.
  const first = firstEndingAt(old, fromMs - 1);
  let end = first;
  while (end < old.length && (old[end] as number) <= toMs + 1) end += 2;
  if (end === first) return [...old.slice(0, first), fromMs, toMs, ...old.slice(first)];
  const joinedFromMs = Math.min(fromMs, old[first] as number);
  const joinedToMs = Math.max(toMs, old[end - 1] as number);
  return [...old.slice(0, first), joinedFromMs, joinedToMs, ...old.slice(end)];
}

/** What may be deleted: a part of the past. Throws INVALID_ARGUMENT. */
export function checkDeletion(fromMs: number, toMs: number, nowMs: number): void {
  if (!Number.isSafeInteger(fromMs) || !Number.isSafeInteger(toMs) || fromMs < 0 || fromMs > toMs) {
    throw new SilverbackError(
      'INVALID_ARGUMENT',
      `deletion from ${fromMs} to ${toMs}: both must be whole milliseconds since 1970, the second not before the first`,
    );
  }
  if (toMs > nowMs) {
    throw new SilverbackError(
      'INVALID_ARGUMENT',
      `deletion up to ${new Date(toMs).toISOString()} (${toMs} ms): only what is past can be deleted, it is ${new Date(nowMs).toISOString()} (${nowMs} ms)`,
    );
  }
}

const HEADER_BYTES = 8;
const ENTRY_BYTES = 20;
/** Deletions in one list: what is logged or read in one step. */
export const MAX_LISTED = 4096;
const U32 = 0x1_0000_0000;

export function encodeDeletions(deletions: readonly Deletion[]): Uint8Array {
  const bytes = Buffer.alloc(HEADER_BYTES + deletions.length * ENTRY_BYTES);
  bytes[0] = newest('list of deletions');
  bytes.writeUInt32LE(deletions.length, 4);
  let at = HEADER_BYTES;
  for (const { id, fromMs, toMs } of deletions) {
    bytes.writeUInt32LE(id, at);
    bytes.writeUInt32LE(fromMs % U32, at + 4);
    bytes.writeUInt32LE(Math.floor(fromMs / U32), at + 8);
    bytes.writeUInt32LE(toMs % U32, at + 12);
    bytes.writeUInt32LE(Math.floor(toMs / U32), at + 16);
    at += ENTRY_BYTES;
  }
  return bytes;
}

/** Hands out what a list holds, the series as numbers of whoever wrote it. Throws CORRUPT, before anything is handed out, or VERSION. */
export function readDeletions(bytes: Uint8Array, take: (number: number, fromMs: number, toMs: number) => void): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length >= HEADER_BYTES) checkVersion('list of deletions', bytes[0] as number);
  const count = bytes.length < HEADER_BYTES ? 0 : view.getUint32(4, true);
  if (bytes.length !== HEADER_BYTES + count * ENTRY_BYTES) {
    throw new SilverbackError('CORRUPT', `${bytes.length} bytes are no list of ${count} deletions`);
  }
  const timeMs = (at: number) => view.getUint32(at, true) + view.getUint32(at + 4, true) * U32;
  for (let at = HEADER_BYTES; at < bytes.length; at += ENTRY_BYTES) {
    const [fromMs, toMs] = [timeMs(at + 4), timeMs(at + 12)];
    if (fromMs > toMs || !Number.isSafeInteger(toMs)) {
      throw new SilverbackError('CORRUPT', `a list of deletions holds one from ${fromMs} to ${toMs}`);
    }
  }
  for (let at = HEADER_BYTES; at < bytes.length; at += ENTRY_BYTES) {
    take(view.getUint32(at, true), timeMs(at + 4), timeMs(at + 12));
  }
}
