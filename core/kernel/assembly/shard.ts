/**
 * The shard kernel's exports: what core/kernel/shard.ts and core/kernel/codec.ts call. Addresses are u32, times are f64
 * milliseconds (a 64-bit integer would cross the border as a BigInt), outcomes are 0 or negative.
 */
import { appendSlice, countsOffset, sliceInput, sliceResult, timestampsOffset, valuesOffset } from './shard/append';
import { listedCount, listedIds, nextPosition, restorePage, writePage } from './shard/checkpoint';
import { chunkBound, chunkCount, encodeSealed, encodeXor, exportRun, isChunk, isWithin, sealedAt } from './shard/chunk';
import { BROKEN, COLLECTED, NO_ROOM, collect, dropDead, setCount, setOffsets, setValues } from './shard/collect';
import { addDeletions, addSamples, bucketOf, clearDigest, digestSums, setDigest, subtractSamples } from './shard/digest';
import { findRun, freeRun, listedRun, openRuns, openSamples } from './shard/insert';
import { initMemory, usedBytes } from './shard/memory';
import {
  addChunk, addRun, addSet, aggregateChunk, aggregateResult, beginColumns, columnsLength, reserveColumns, timestampsAt,
  valuesAt,
} from './shard/read';
import { readRecord, readRuns, readSamples } from './shard/record';
import { areRefs, createRefs, defineRef, dropRefs, resolveRef, Refs } from './shard/refs';
import { WINDOW_MS } from './shard/rule';
import { SEALED } from './shard/run';
import { ALL, DEAD, INPUT, LISTS, OUTPUT, SOURCE, scratch } from './shard/scratch';
import {
  beginSegment, findSeries, initSeries, internSeries, liveSlot, releaseSeries, seriesCount, slotOf, wasCreated,
} from './shard/series';
import { findWindow, initWindows, listEntry, openWindowCount, windowInUse } from './shard/windows';

export {
  aggregateResult, areRefs, beginColumns, beginSegment, clearDigest, columnsLength, countsOffset, createRefs,
  defineRef, digestSums, dropRefs, findSeries, internSeries, openRuns, openSamples, openWindowCount, releaseSeries, resolveRef,
  seriesCount, sliceInput, sliceResult, timestampsAt, timestampsOffset, usedBytes, valuesAt, valuesOffset, wasCreated,
};

/** First call. Without series (a codec) the other tables stay empty. False when memory is too small. */
export function init(maxPages: u32, maxSeries: u32, maxOpenWindows: u32): bool {
  initMemory(maxPages);
  return initSeries(maxSeries) && initWindows(maxOpenWindows);
}

/** Buffers for what the door copies in; 0 when memory is full. */
export function input(bytes: u32): usize {
  return scratch(INPUT, bytes);
}

export function source(bytes: u32): usize {
  return scratch(SOURCE, bytes);
}

/** For what is deleted of a series in a window: pairs of u32 offsets in it, first and last, in order, apart from one another. */
export function dead(pairs: u32): usize {
  return scratch(DEAD, pairs << 3);
}

// ---- series ----------------------------------------------------------------------------------------

/** Address of the identity (h1, h2, u32 length, u32 slot, bytes), 0 for a slot that is not in use. */
export function identityAt(sid: u32): usize {
  const slot = liveSlot(sid);
  return slot == null ? 0 : changetype<usize>(slot.identity);
}

export function bucket(sid: u32): u32 {
  return bucketOf(slotOf(sid).identity!);
}

export function hasRuns(sid: u32): bool {
  return slotOf(sid).run != null;
}

// ---- append ----------------------------------------------------------------------------------------

/** Appends the record in SOURCE; its ids go through `refs`. 0, or NOT_A_RECORD, or RECORD_NO_ROOM. */
export function appendRecord(refs: Refs, bytes: u32, encode: bool): i32 {
  const at = scratch(SOURCE, bytes);
  const columns = sliceInput();
  if (at == 0 || columns == 0) return NO_ROOM;
  const outcome = readRecord(at, bytes, columns, columns + countsOffset(), columns + timestampsOffset(), columns + valuesOffset());
  if (outcome != 0) return outcome;
  return appendSlice(refs, readRuns, readSamples, true, 0, i64.MAX_VALUE, encode) ? 0 : NO_ROOM;
}

/** Bounds cross as f64; whatever lies past the largest timestamp means no bound. */
export function appendColumns(refs: Refs, runs: u32, samples: u32, counted: bool, minMs: f64, maxMs: f64): bool {
  return appendSlice(refs, runs, samples, counted, firstFrom(minMs), lastUntil(maxMs), true);
}

/** The first timestamp at or after `ms`; the conversion saturates. */
function firstFrom(ms: f64): i64 {
  return max<i64>(<i64>Math.ceil(ms), 0);
}

/** The last timestamp at or before `ms`; negative when there is none. */
function lastUntil(ms: f64): i64 {
  return <i64>Math.floor(ms);
}

/** A window's start from its f64, exact for all windows there are: a double has bits enough for the window's number. */
function toWindow(startMs: f64): i64 {
  return <i64>Math.round(startMs / <f64>WINDOW_MS) * <i64>WINDOW_MS;
}

// ---- windows ---------------------------------------------------------------------------------------

/** The `index`th entry of the window table: its start, or -1 when it is not in use. */
export function windowStart(index: u32): f64 {
  const window = windowInUse(index);
  return window == null ? -1 : <f64>window.start;
}

export function windowRuns(index: u32): u32 {
  return windowInUse(index)!.runs;
}

export function windowAppends(index: u32): f64 {
  return <f64>windowInUse(index)!.appends;
}

/** Positions of the window's list that one call looks at. */
const LISTED: u32 = 4096;

/** Lists SeriesIds from a position on; see `listed*`. */
export function listSeries(startMs: f64, position: u32): bool {
  listCount = 0;
  listNext = 0;
  listAt = scratch(LISTS, LISTED * 4);
  if (listAt == 0) return false;
  const window = findWindow(toWindow(startMs));
  if (window == null) return true;
  const end = min(window.length, position + LISTED);
  for (; position < end; position++) {
    if (listedRun(window, position) != null) pushListed(load<u32>(listEntry(window, position), 4));
  }
  listNext = position < window.length ? position : 0;
  return true;
}

let listAt: usize = 0;
let listCount: u32 = 0;
let listNext: u32 = 0;

function pushListed(sid: u32): void {
  store<u32>(listAt + (<usize>listCount << 2), sid);
  listCount++;
}

/** Of the last listing, release, checkpoint page or restore: ids, how many, and where to go on (0: at the end). */
export function listedAt(): usize {
  return listAt;
}

export function listed(): u32 {
  return listCount;
}

export function listedNext(): u32 {
  return listNext;
}

/** Frees sealed runs from where the last call stopped. False when memory is full. At the end `listedNext` is 0. */
export function releaseSealed(startMs: f64): bool {
  listCount = 0;
  listNext = 0;
  listAt = scratch(LISTS, LISTED * 4);
  if (listAt == 0) return false;
  const window = findWindow(toWindow(startMs));
  if (window == null) return true;
  let position = window.releaseAt;
  const end = min(window.length, position + LISTED);
  // When the last run goes, the window's list is gone with it, and what lies where it was is another's.
  for (; position < end && window.runs != 0; position++) {
    const run = listedRun(window, position);
    if (run == null || (run.meta & SEALED) == 0) continue;
    const sid = load<u32>(listEntry(window, position), 4);
    pushListed(sid);
    freeRun(slotOf(sid), run, window, position);
  }
  // Of a window that is gone the length is 0.
  listNext = position < window.length ? position : 0;
  window.releaseAt = listNext;
  return true;
}

// ---- chunks ----------------------------------------------------------------------------------------

/** There is nothing to return. */
const NOTHING: i32 = 0;

let resultAt: usize = 0;

/** Address of the chunk that the last function returned the length of. */
export function resultAddress(): usize {
  return resultAt;
}

/**
 * Collects the run of a series in a window with the block's chunk in INPUT (blockBytes 0: none), without what the pairs in
 * DEAD cover.
 */
function collectSeries(sid: u32, start: i64, blockBytes: u32, deadPairs: u32): i32 {
  const block: usize = blockBytes == 0 ? 0 : scratch(INPUT, blockBytes);
  if (block != 0 && (!isChunk(block, blockBytes) || !isWithin(block, start))) return BROKEN;
  const outcome = collect(findRun(slotOf(sid), start), block, blockBytes, start);
  if (deadPairs != 0 && outcome == COLLECTED) dropDead(scratch(DEAD, deadPairs << 3), deadPairs);
  return outcome;
}

/** Length of the series' chunk in the window, or NOTHING, or NO_ROOM, or BROKEN. */
export function readChunk(sid: u32, startMs: f64, blockBytes: u32, fromMs: f64, toMs: f64, deadPairs: u32): i32 {
  const start = toWindow(startMs);
  const run = findRun(slotOf(sid), start);
  if (run == null && deadPairs == 0) return NOTHING;
  if (run != null && blockBytes == 0 && run.backlog == 0 && deadPairs == 0) {
    const first = <f64>(start + <i64>run.firstOffset);
    const last = <f64>(start + <i64>run.lastOffset);
    if (first > toMs || last < fromMs) return NOTHING;
    const to = scratch(OUTPUT, chunkBound(run.count));
    if (to == 0) return NO_ROOM;
    resultAt = to;
    return exportRun(run, to);
  }
  const outcome = collectSeries(sid, start, blockBytes, deadPairs);
  if (outcome != COLLECTED) return outcome;
  if (setCount == 0) return NOTHING;
  const first = <f64>(start + <i64>load<u32>(setOffsets));
  const last = <f64>(start + <i64>load<u32>(setOffsets + (<usize>(setCount - 1) << 2)));
  if (first > toMs || last < fromMs) return NOTHING;
  const to = scratch(OUTPUT, chunkBound(setCount));
  if (to == 0) return NO_ROOM;
  resultAt = to;
  return encodeXor(setCount, setOffsets, setValues, start, to);
}

/** Length of the sealed chunk, or NOTHING (no open run and nothing deleted, or nothing left), or NO_ROOM, or BROKEN. */
export function sealChunk(sid: u32, startMs: f64, blockBytes: u32, deadPairs: u32): i32 {
  const start = toWindow(startMs);
  const slot = slotOf(sid);
  const run = findRun(slot, start);
  if (run == null && deadPairs == 0) return NOTHING;
  const outcome = collectSeries(sid, start, blockBytes, deadPairs);
  if (outcome != COLLECTED) return outcome;
  let bytes: i32 = NOTHING;
  if (setCount != 0) {
    bytes = sealSet(start);
    if (bytes <= 0) return bytes;
    addSamples(slot.identity!, setCount, setOffsets, setValues, start);
  }
  if (run != null) run.meta |= SEALED;
  return bytes;
}

function sealSet(origin: i64): i32 {
  const to = scratch(OUTPUT, chunkBound(setCount) << 1);
  if (to == 0) return NO_ROOM;
  const bytes = encodeSealed(setCount, setOffsets, setValues, origin, to);
  resultAt = sealedAt();
  return bytes == 0 ? NO_ROOM : bytes;
}

/** Puts the sums in INPUT in the place of the digest's. */
export function loadDigest(bytes: u32): void {
  setDigest(scratch(INPUT, bytes));
}

/** Adds the pairs in DEAD to the digest. */
export function addDeadDigest(sid: u32, startMs: f64, deadPairs: u32): void {
  addDeletions(slotOf(sid).identity!, deadPairs, scratch(DEAD, deadPairs << 3), toWindow(startMs));
}

/** Takes the samples of the block's chunk in INPUT out of the digest. 0, or NO_ROOM, or BROKEN. */
export function subtractDigest(sid: u32, startMs: f64, blockBytes: u32): i32 {
  const start = toWindow(startMs);
  const block = scratch(INPUT, blockBytes);
  if (!isChunk(block, blockBytes) || !isWithin(block, start)) return BROKEN;
  const outcome = collect(null, block, blockBytes, start);
  if (outcome == COLLECTED) subtractSamples(slotOf(sid).identity!, setCount, setOffsets, setValues, start);
  return outcome;
}

/** Adds the samples of run and block to the digest. 0, or NO_ROOM, or BROKEN. */
export function addDigest(sid: u32, startMs: f64, blockBytes: u32, deadPairs: u32): i32 {
  const start = toWindow(startMs);
  const outcome = collectSeries(sid, start, blockBytes, deadPairs);
  if (outcome == COLLECTED && setCount != 0) addSamples(slotOf(sid).identity!, setCount, setOffsets, setValues, start);
  return outcome;
}

/** Adds the chunk in INPUT to the columns. 0, or NO_ROOM, or BROKEN. */
export function addColumns(bytes: u32, fromMs: f64, toMs: f64): i32 {
  const chunk = scratch(INPUT, bytes);
  return isChunk(chunk, bytes) ? addChunk(chunk, bytes, firstFrom(fromMs), lastUntil(toMs)) : BROKEN;
}

/**
 * Adds what is known of a series in a window, as `collectSeries` has it, to the columns. How many samples that is, 0 when
 * none is in the range, or NO_ROOM, or BROKEN.
 */
export function addSeries(sid: u32, startMs: f64, blockBytes: u32, fromMs: f64, toMs: f64, deadPairs: u32): i32 {
  const start = toWindow(startMs);
  const from = firstFrom(fromMs);
  const to = lastUntil(toMs);
  const run = findRun(slotOf(sid), start);
  if (deadPairs == 0 && (run == null || (blockBytes == 0 && run.backlog == 0))) {
    if (run != null) return reserveColumns(run.count) ? addRun(run, from, to) : NO_ROOM;
    if (blockBytes == 0) return NOTHING;
    const block = scratch(INPUT, blockBytes);
    if (!isChunk(block, blockBytes)) return BROKEN;
    if (!reserveColumns(chunkCount(block))) return NO_ROOM;
    const before = columnsLength();
    const outcome = addChunk(block, blockBytes, from, to);
    return outcome < 0 ? outcome : columnsLength() == before ? NOTHING : <i32>chunkCount(block);
  }
  const outcome = collectSeries(sid, start, blockBytes, deadPairs);
  if (outcome != COLLECTED) return outcome;
  return reserveColumns(setCount) ? addSet(start, from, to) : NO_ROOM;
}

/** Aggregates the chunk in INPUT into `aggregateResult`. 0, or NO_ROOM, or BROKEN. */
export function aggregateInput(bytes: u32, fromMs: f64, toMs: f64): i32 {
  const chunk = scratch(INPUT, bytes);
  return isChunk(chunk, bytes) ? aggregateChunk(chunk, bytes, firstFrom(fromMs), lastUntil(toMs)) : BROKEN;
}

/**
 * Seals columns in INPUT: `count` f64 timestamps, then as many values. Length of the chunk, or NO_ROOM, or BROKEN when the
 * timestamps do not rise strictly from 0 on, or span 2^31 ms or more.
 */
export function encodeInput(count: u32): i32 {
  const timestamps = scratch(INPUT, count << 4);
  const offsets = scratch(ALL, count << 2);
  if (timestamps == 0 || offsets == 0) return NO_ROOM;
  const origin = load<f64>(timestamps);
  let before: f64 = -1;
  for (let i: usize = 0; i < count; i++) {
    const timestamp = load<f64>(timestamps + (i << 3));
    const offset = timestamp - origin;
    if (!(timestamp > before) || !(offset < 2147483648.0) || Math.floor(timestamp) != timestamp) return BROKEN;
    store<u32>(offsets + (i << 2), <u32>offset);
    before = timestamp;
  }
  const to = scratch(OUTPUT, chunkBound(count) << 1);
  if (to == 0) return NO_ROOM;
  const bytes = encodeSealed(count, offsets, timestamps + (<usize>count << 3), <i64>origin, to);
  resultAt = sealedAt();
  return bytes == 0 ? NO_ROOM : bytes;
}

// ---- checkpoints -----------------------------------------------------------------------------------

/** Length of the page from a position of the window's list on, in OUTPUT; NO_ROOM when memory is full; NOTHING without runs. */
export function checkpointPage(startMs: f64, position: u32): i32 {
  listCount = 0;
  listNext = 0;
  const window = findWindow(toWindow(startMs));
  if (window == null || position >= window.length) return NOTHING;
  const bytes = writePage(window, position);
  if (bytes == 0) return NO_ROOM;
  resultAt = scratch(OUTPUT, 0);
  listAt = listedIds;
  listCount = listedCount;
  listNext = nextPosition < window.length ? nextPosition : 0;
  return bytes;
}

/** Restores the page in SOURCE; unknown ids are listed. 0, or NO_ROOM, or NOT_A_PAGE. */
export function restoreRuns(refs: Refs, bytes: u32): i32 {
  const outcome = restorePage(refs, scratch(SOURCE, bytes), bytes);
  listAt = listedIds;
  listCount = listedCount;
  return outcome;
}
