/**
 * The series table: slots, identities, and the hash index that finds a slot by identity bytes.
 *
 * A slot is 16 bytes, so that the append path reads one quarter of a cache line a series. The slot's number is
 * the SeriesId. Index entries carry 32 bits of the hash; a match is only believed after all bytes were compared.
 *
 * The index grows by doubling, a few entries with each new series: until all have moved, entries are in the old
 * or the new table, and both are asked. Deletion closes the gap (backward shift), so nothing is left behind.
 */
import { allocCell, allocPages, countUsed, freeCell, freePagesAt, pagesFor, reserveTable } from './memory';
import { hash128, hashHigh, hashLow } from '../murmur';
import { Run } from './run';

@unmanaged
export class Slot {
  /** The run that was written last, first of the series' chain of runs; null without open runs. */
  run: Run | null;
  /** Grows when the slot is released: whoever remembers (slot, generation) notices. */
  generation: u32;
  /** The log segment that last defined the series. In a free slot: the next free slot + 1. */
  segment: u32;
  /** Null in a free slot. */
  identity: Identity | null;
}

const SLOT_SHIFT: u32 = 4;

/** Followed by the identity bytes. */
@unmanaged
export class Identity {
  h1: u64;
  h2: u64;
  length: u32;
  slot: u32;
}

const IDENTITY_HEADER: u32 = 24;

/** An index: u32 low hash half, u32 slot + 1 (0: empty). Linear probing from (hash & mask). */
let table: usize = 0;
let mask: u32 = 0;
/** The table before the last doubling, while entries are left in it: everything below `moved` is empty. */
let oldTable: usize = 0;
let oldMask: u32 = 0;
let moved: u32 = 0;

const FIRST_CAPACITY: u32 = 8192;
const MOVES_PER_INSERT: u32 = 16;

let slots: usize = 0;
let maxSeries: u32 = 0;
let slotsTouched: u32 = 0;
let firstFree: u32 = 0;
let live: u32 = 0;
/** Number of the log segment being written; slots start with 0, which is none. */
let segment: u32 = 1;

/** False when memory is too small. */
export function initSeries(maxSeriesCount: u32): bool {
  maxSeries = maxSeriesCount;
  slots = reserveTable(<u64>maxSeriesCount << SLOT_SHIFT);
  table = allocPages(pagesFor(FIRST_CAPACITY << 3));
  if (slots == 0 || table == 0) return false;
  mask = FIRST_CAPACITY - 1;
  memory.fill(table, 0, FIRST_CAPACITY << 3);
  return true;
}

export function seriesCount(): u32 {
  return live;
}

@inline export function slotOf(sid: u32): Slot {
  return changetype<Slot>(slots + (<usize>sid << SLOT_SHIFT));
}

/** The slot, if it is in use. */
export function liveSlot(sid: u32): Slot | null {
  if (sid >= slotsTouched) return null;
  const slot = slotOf(sid);
  return slot.identity == null ? null : slot;
}

@inline export function identityBytes(identity: Identity): usize {
  return changetype<usize>(identity) + IDENTITY_HEADER;
}

export function beginSegment(): void {
  segment++;
}

/** Marks the series as used in the log's segment; true the first time. */
@inline export function markDefined(slot: Slot): bool {
  if (slot.segment == segment) return false;
  slot.segment = segment;
  return true;
}

@inline function sameBytes(a: usize, b: usize, length: u32): bool {
  const end = a + length;
  for (; a + 8 <= end; a += 8, b += 8) {
    if (load<u64>(a) != load<u64>(b)) return false;
  }
  for (; a < end; a++, b++) {
    if (load<u8>(a) != load<u8>(b)) return false;
  }
  return true;
}

/** Position of the entry in a table, or -1. */
function probe(inTable: usize, inMask: u32, hash: u32, at: usize, length: u32): i32 {
  let position = hash & inMask;
  while (true) {
    const entry = inTable + (<usize>position << 3);
    const tagged = load<u32>(entry, 4);
    if (tagged == 0) return -1;
    if (load<u32>(entry) == hash) {
      const identity = slotOf(tagged - 1).identity!;
      if (identity.length == length && sameBytes(identityBytes(identity), at, length)) return position;
    }
    position = (position + 1) & inMask;
  }
}

/** SeriesId of these identity bytes, or -1. Leaves their hash in murmur.ts. */
export function findSeries(at: usize, length: u32): i32 {
  hash128(at, length);
  const hash = <u32>hashLow();
  let position = probe(table, mask, hash, at, length);
  if (position >= 0) return load<u32>(table + (<usize>position << 3), 4) - 1;
  if (oldTable == 0) return -1;
  position = probe(oldTable, oldMask, hash, at, length);
  return position < 0 ? -1 : load<u32>(oldTable + (<usize>position << 3), 4) - 1;
}

function insertEntry(hash: u32, slot: u32): void {
  let position = hash & mask;
  while (load<u32>(table + (<usize>position << 3), 4) != 0) position = (position + 1) & mask;
  const entry = table + (<usize>position << 3);
  store<u32>(entry, hash);
  store<u32>(entry, slot + 1, 4);
}

/** Empties a position and moves later entries of its cluster back, so that probing needs no tombstones. */
function deleteEntry(inTable: usize, inMask: u32, position: u32): void {
  let gap = position;
  let next = gap;
  while (true) {
    next = (next + 1) & inMask;
    const entry = inTable + (<usize>next << 3);
    if (load<u32>(entry, 4) == 0) break;
    const home = load<u32>(entry) & inMask;
    // The entry may fill the gap only if its home does not lie (cyclically) behind the gap.
    if (((next - home) & inMask) >= ((next - gap) & inMask)) {
      store<u64>(inTable + (<usize>gap << 3), load<u64>(entry));
      gap = next;
    }
  }
  store<u64>(inTable + (<usize>gap << 3), 0);
}

/** Doubles the index when it is half full; moves a few entries of the old one. False when memory is full. */
function tendIndex(): bool {
  if (oldTable != 0) {
    const capacity = oldMask + 1;
    const end = min(moved + MOVES_PER_INSERT, capacity);
    for (; moved < end; moved++) {
      const entry = oldTable + (<usize>moved << 3);
      while (load<u32>(entry, 4) != 0) {
        insertEntry(load<u32>(entry), load<u32>(entry, 4) - 1);
        deleteEntry(oldTable, oldMask, moved);
      }
    }
    if (moved == capacity) {
      freePagesAt(oldTable, pagesFor(<u64>capacity << 3));
      oldTable = 0;
    }
    return true;
  }
  if (live < (mask + 1) >> 1) return true;
  const capacity = (mask + 1) << 1;
  const grown = allocPages(pagesFor(<u64>capacity << 3));
  // At up to seven eighths the old index still works; only then is memory really full.
  if (grown == 0) return live < mask - (mask >> 3);
  // More than one page is always memory that was never used, and so zero already: nothing to wait for.
  if (pagesFor(<u64>capacity << 3) == 1) memory.fill(grown, 0, capacity << 3);
  oldTable = table;
  oldMask = mask;
  moved = 0;
  table = grown;
  mask = capacity - 1;
  return true;
}

/** `internSeries` found no free slot. */
export const NO_SLOT: i32 = -1;
/** `internSeries` found no memory. */
export const NO_MEMORY: i32 = -2;

let created: bool = false;

/** Did the last `internSeries` make a new series? */
export function wasCreated(): bool {
  return created;
}

/** Finds or makes a series; its SeriesId, or NO_SLOT, or NO_MEMORY. */
export function internSeries(at: usize, length: u32): i32 {
  created = false;
  const found = findSeries(at, length);
  if (found >= 0) return found;
  if (firstFree == 0 && slotsTouched == maxSeries) return NO_SLOT;
  if (!tendIndex()) return NO_MEMORY;
  const cell = allocCell(IDENTITY_HEADER + length);
  if (cell == 0) return NO_MEMORY;
  let sid: u32;
  let slot: Slot;
  if (firstFree != 0) {
    sid = firstFree - 1;
    slot = slotOf(sid);
    firstFree = slot.segment;
  } else {
    sid = slotsTouched++;
    slot = slotOf(sid);
    slot.generation = 0;
    countUsed(1 << SLOT_SHIFT);
  }
  const identity = changetype<Identity>(cell);
  identity.h1 = hashLow();
  identity.h2 = hashHigh();
  identity.length = length;
  identity.slot = sid;
  memory.copy(identityBytes(identity), at, length);
  slot.run = null;
  slot.segment = 0;
  slot.identity = identity;
  insertEntry(<u32>hashLow(), sid);
  live++;
  created = true;
  return sid;
}

/** Frees a slot that is in use and has no runs. */
export function releaseSeries(sid: u32): void {
  const slot = slotOf(sid);
  const identity = slot.identity!;
  const hash = <u32>identity.h1;
  let position = probe(table, mask, hash, identityBytes(identity), identity.length);
  if (position >= 0) deleteEntry(table, mask, position);
  else {
    position = probe(oldTable, oldMask, hash, identityBytes(identity), identity.length);
    deleteEntry(oldTable, oldMask, position);
  }
  freeCell(changetype<usize>(identity), IDENTITY_HEADER + identity.length);
  slot.identity = null;
  slot.generation++;
  slot.segment = firstFree;
  firstFree = sid + 1;
  live--;
}
