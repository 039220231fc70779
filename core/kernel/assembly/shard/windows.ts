/**
 * Windows with open runs: which runs each has, and how often it was written to. A window's list of runs is pages of
 * 512 entries behind a directory; the entry of a freed run stays as a hole until the window goes, so that positions
 * in the list are stable cursors.
 */
import { allocCell, freeCell, reserveTable } from './memory';
import { WINDOW_MS } from './rule';

@unmanaged
export class Window {
  start: i64;
  /** Grows by the samples put in, duplicates too, from above what any window had that went: never twice the same. */
  appends: u64;
  /** Runs in the list that were not freed. 0: this entry of the table is free. */
  runs: u32;
  /** Positions in the list, holes too. */
  length: u32;
  /** Addresses of list pages. */
  directory: usize;
  directoryLength: u32;
  /** Where a release in slices goes on. */
  releaseAt: u32;
}

const WINDOW_SHIFT: u32 = 6;
const PAGE_SHIFT: u32 = 9;
const PAGE_BYTES: u32 = 4096;
const FIRST_DIRECTORY: u32 = 4;

let windows: usize = 0;
let maxWindows: u32 = 0;
let open: u32 = 0;
let latest: Window | null = null;
/** More than the appends of every window that went. */
let retiredAppends: u64 = 0;

export function initWindows(maxOpenWindows: u32): bool {
  maxWindows = maxOpenWindows;
  windows = reserveTable(<u64>maxOpenWindows << WINDOW_SHIFT);
  latest = changetype<Window>(windows);
  return windows != 0;
}

export function openWindowCount(): u32 {
  return open;
}

@inline function windowAt(index: u32): Window {
  return changetype<Window>(windows + (<usize>index << WINDOW_SHIFT));
}

/** The window with this start, null when it has no open runs. */
export function findWindow(start: i64): Window | null {
  if (latest!.start == start && latest!.runs != 0) return latest;
  for (let i: u32 = 0; i < maxWindows; i++) {
    const window = windowAt(i);
    if (window.start == start && window.runs != 0) {
      latest = window;
      return window;
    }
  }
  return null;
}

/** The `index`th entry of the table if it is in use: for listings. */
export function windowInUse(index: u32): Window | null {
  if (index >= maxWindows) return null;
  const window = windowAt(index);
  return window.runs != 0 ? window : null;
}

/** Finds or opens a window. Null when as many as may be are open. */
export function openWindow(start: i64): Window | null {
  const found = findWindow(start);
  if (found != null) return found;
  for (let i: u32 = 0; i < maxWindows; i++) {
    const window = windowAt(i);
    if (window.runs != 0) continue;
    const directory = allocCell(FIRST_DIRECTORY << 2);
    if (directory == 0) return null;
    memory.fill(directory, 0, FIRST_DIRECTORY << 2);
    window.start = start;
    window.appends = retiredAppends;
    window.length = 0;
    window.directory = directory;
    window.directoryLength = FIRST_DIRECTORY;
    window.releaseAt = 0;
    latest = window;
    return window;
  }
  return null;
}

/** Entry of the list: u32 run (0: freed), u32 SeriesId. 0 when the position's page is gone. */
@inline export function listEntry(window: Window, position: u32): usize {
  const page: usize = load<u32>(window.directory + (<usize>(position >> PAGE_SHIFT) << 2));
  return page == 0 ? 0 : page + (<usize>(position & ((1 << PAGE_SHIFT) - 1)) << 3);
}

/** Adds a run to the window's list. The caller has reserved memory. */
export function listRun(window: Window, run: usize, sid: u32): void {
  const position = window.length++;
  const index = position >> PAGE_SHIFT;
  if (index == window.directoryLength) {
    const bytes = window.directoryLength << 2;
    const grown = allocCell(bytes << 1);
    memory.copy(grown, window.directory, bytes);
    memory.fill(grown + bytes, 0, bytes);
    freeCell(window.directory, bytes);
    window.directory = grown;
    window.directoryLength <<= 1;
  }
  const at = window.directory + (<usize>index << 2);
  if (load<u32>(at) == 0) {
    const page = allocCell(PAGE_BYTES);
    store<u32>(at, <u32>page);
  }
  const entry = listEntry(window, position);
  store<u32>(entry, <u32>run);
  store<u32>(entry, sid, 4);
  if (window.runs++ == 0) open++;
}

/** Takes the run at a position out of the list. When it was the last one, the window is no longer open. */
export function unlistRun(window: Window, position: u32): void {
  store<u32>(listEntry(window, position), 0);
  if (--window.runs == 0) {
    open--;
    retiredAppends = max<u64>(retiredAppends, window.appends + 1);
    for (let i: u32 = 0; i < window.directoryLength; i++) {
      const page: usize = load<u32>(window.directory + (<usize>i << 2));
      if (page != 0) freeCell(page, PAGE_BYTES);
    }
    freeCell(window.directory, window.directoryLength << 2);
    window.length = 0;
  }
}

/** Is the window's start a multiple of the window's length, and representable? */
export function isWindowStart(start: i64): bool {
  return start >= 0 && start % <i64>WINDOW_MS == 0;
}
