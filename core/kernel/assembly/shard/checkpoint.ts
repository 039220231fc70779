/**
 * Checkpoint pages: images of open runs that come back without being decoded.
 *
 *   u32 format: 1    u32 runs
 *   per run:
 *     u32 SeriesId of the writer     u32 bytes of words     u32 backlog entries     u32 samples in the stream
 *     i64 window start               u64 last value         u64 word being filled
 *     u32 first offset               u32 last offset        u32 last step           u32 meta (run.ts)
 *     words: the stream up to the word being filled
 *     backlog: per entry u32 offset, u64 value, in order of arrival
 */
import { ENTRY_BYTES, backlogCount, copyEntries } from './backlog';
import { countSamples, createRun, findRun, insert, listedRun, reserveSlice } from './insert';
import { reserve } from './memory';
import { resolveRef, Refs } from './refs';
import { WINDOW_MS } from './rule';
import { decodeStream, gather, scatter, SEALED, SEGMENT_PAYLOAD, wordBytes, Run } from './run';
import { COLUMNS, LISTS, OUTPUT, STREAM, scratch } from './scratch';
import { slotOf } from './series';
import { isWindowStart, listEntry, openWindow, Window } from './windows';

const FORMAT: u32 = 1;
const PAGE_HEADER: u32 = 8;
const IMAGE_HEADER: u32 = 56;
/** A page ends once it has this many bytes; one run more may be in it. */
const PAGE_TARGET: u32 = 262144;
/** Runs in a page at most; ids of the runs go to a list. */
const PAGE_RUNS: u32 = 4096;
/** Positions of a window's list that are looked at in one call, holes too. */
const PAGE_POSITIONS: u32 = 16384;

export const RESTORED: i32 = 0;
export const NO_ROOM: i32 = -1;
export const NOT_A_PAGE: i32 = -2;

/** Where the next page begins, and what the last call listed. */
export let nextPosition: u32 = 0;
export let listedIds: usize = 0;
export let listedCount: u32 = 0;

/**
 * Writes the window's runs from a position of its list on to OUTPUT; returns the page's length, 0 when memory is full.
 * At the end `nextPosition` is the list's length.
 */
export function writePage(window: Window, position: u32): u32 {
  let bytes = PAGE_HEADER;
  let page = scratch(OUTPUT, PAGE_TARGET + 65536);
  listedIds = scratch(LISTS, PAGE_RUNS * 4);
  listedCount = 0;
  if (page == 0 || listedIds == 0) return 0;
  const end = min(window.length, position + PAGE_POSITIONS);
  for (; position < end && bytes < PAGE_TARGET && listedCount < PAGE_RUNS; position++) {
    const run = listedRun(window, position);
    if (run == null) continue;
    const words = wordBytes(run);
    const entries = backlogCount(run);
    const image = IMAGE_HEADER + words + entries * ENTRY_BYTES;
    if (bytes + image > PAGE_TARGET + 65536) {
      // A run larger than the space that is left: it gets a page of its own.
      if (listedCount != 0) break;
      page = scratch(OUTPUT, bytes + image);
      if (page == 0) return 0;
    }
    const sid = load<u32>(listEntry(window, position), 4);
    writeImage(run, sid, words, entries, page + bytes);
    bytes += image;
    store<u32>(listedIds + (<usize>listedCount << 2), sid);
    listedCount++;
  }
  nextPosition = position;
  store<u32>(page, FORMAT);
  store<u32>(page, listedCount, 4);
  return bytes;
}

function writeImage(run: Run, sid: u32, words: u32, entries: u32, at: usize): void {
  store<u32>(at, sid);
  store<u32>(at, words, 4);
  store<u32>(at, entries, 8);
  store<u32>(at, run.count, 12);
  store<i64>(at, run.windowStart, 16);
  store<u64>(at, run.lastValue, 24);
  store<u64>(at, run.word, 32);
  store<u32>(at, run.firstOffset, 40);
  store<u32>(at, run.lastOffset, 44);
  store<u32>(at, run.lastDelta, 48);
  store<u32>(at, run.meta & ~SEALED, 52);
  gather(run, at + IMAGE_HEADER);
  copyEntries(run, at + IMAGE_HEADER + words);
}

/**
 * Takes a page back. Ids that `refs` does not know are listed. Runs that are there already are merged with. NO_ROOM may
 * leave a part done; giving the page again is harmless.
 */
export function restorePage(refs: Refs, at: usize, bytes: u32): i32 {
  listedCount = 0;
  if (bytes < PAGE_HEADER || load<u32>(at) != FORMAT) return NOT_A_PAGE;
  const runs = load<u32>(at, 4);
  const end = at + bytes;
  let image = at + PAGE_HEADER;
  for (let i: u32 = 0; i < runs; i++) {
    if (!isImage(image, end)) return NOT_A_PAGE;
    image += imageBytes(image);
  }
  if (image != end) return NOT_A_PAGE;
  listedIds = scratch(LISTS, runs * 4);
  if (listedIds == 0) return NO_ROOM;
  image = at + PAGE_HEADER;
  for (let i: u32 = 0; i < runs; i++) {
    const tagged = resolveRef(refs, load<u32>(image));
    if (tagged == 0) {
      store<u32>(listedIds + (<usize>listedCount << 2), load<u32>(image));
      listedCount++;
    } else {
      const outcome = restoreImage(tagged - 1, image);
      if (outcome != RESTORED) return outcome;
    }
    image += imageBytes(image);
  }
  return RESTORED;
}

@inline function imageBytes(image: usize): usize {
  return IMAGE_HEADER + load<u32>(image, 4) + load<u32>(image, 8) * ENTRY_BYTES;
}

function isImage(image: usize, end: usize): bool {
  if (image + IMAGE_HEADER > end) return false;
  const words = load<u32>(image, 4);
  const entries = load<u32>(image, 8);
  const count = load<u32>(image, 12);
  const first = load<u32>(image, 40);
  const last = load<u32>(image, 44);
  const meta = load<u32>(image, 52);
  return <u64>image + IMAGE_HEADER + words + <u64>entries * ENTRY_BYTES <= <u64>end
    && words >= 8 && (words & 7) == 0 && count != 0 && <u64>count <= <u64>words << 2
    && isWindowStart(load<i64>(image, 16)) && first <= last && last < WINDOW_MS && (meta & 0xff) < 64 && meta < SEALED;
}

function restoreImage(sid: u32, image: usize): i32 {
  const words = load<u32>(image, 4);
  const entries = load<u32>(image, 8);
  const count = load<u32>(image, 12);
  const windowStart = load<i64>(image, 16);
  const slot = slotOf(sid);
  let run = findRun(slot, windowStart);
  if (run != null) {
    if (!mergeImage(sid, image)) return NO_ROOM;
  } else {
    if (!reserve(1, words / SEGMENT_PAYLOAD + 2, 65536)) return NO_ROOM;
    const window = openWindow(windowStart);
    if (window == null) return NO_ROOM;
    run = createRun(slot, sid, window);
    run.lastValue = load<u64>(image, 24);
    run.word = load<u64>(image, 32);
    run.firstOffset = load<u32>(image, 40);
    run.lastOffset = load<u32>(image, 44);
    run.lastDelta = load<u32>(image, 48);
    run.meta = load<u32>(image, 52);
    run.count = count;
    scatter(run, image + IMAGE_HEADER, words);
    countSamples(count);
    window.appends += count;
  }
  let entry = image + IMAGE_HEADER + words;
  for (let i: u32 = 0; i < entries; i++, entry += ENTRY_BYTES) {
    if (!reserveSlice(1)) return NO_ROOM;
    if (load<u32>(entry) >= WINDOW_MS) continue;
    insert(slot, sid, windowStart + load<u32>(entry), load<u64>(entry, 4));
  }
  return RESTORED;
}

/** The run exists already: the image's samples go in one by one. False when memory is full. */
function mergeImage(sid: u32, image: usize): bool {
  const words = load<u32>(image, 4);
  const count = load<u32>(image, 12);
  const windowStart = load<i64>(image, 16);
  // The stream's end wants its last word, and slack behind it.
  const stream = scratch(STREAM, words + 64);
  // Not the columns that merging a backlog uses, which may happen while the samples go in.
  const offsets = scratch(COLUMNS, count << 2);
  const values = scratch(COLUMNS + 1, count << 3);
  if (stream == 0 || offsets == 0 || values == 0) return false;
  memory.copy(stream, image + IMAGE_HEADER, words);
  store<u64>(stream + words, load<u64>(image, 32));
  if (!decodeStream(stream, stream + words + 8, count, load<u32>(image, 40), offsets, values)) return true;
  const slot = slotOf(sid);
  for (let i: usize = 0; i < count; i++) {
    if (!reserveSlice(1)) return false;
    if (load<u32>(offsets + (i << 2)) >= WINDOW_MS) continue;
    insert(slot, sid, windowStart + load<u32>(offsets + (i << 2)), load<u64>(values + (i << 3)));
  }
  return true;
}
