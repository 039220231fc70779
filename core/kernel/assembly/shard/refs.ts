/**
 * A sender's reference table: ref -> (slot, generation of the slot), in pages of 512 entries behind a directory.
 * An entry whose generation is not the slot's any more points to a series that was released: it is unknown. So
 * releasing a series costs nothing here, however many senders knew it.
 */
import { allocCell, freeCell } from './memory';
import { slotOf } from './series';

const PAGE_SHIFT: u32 = 9;
const PAGE_BYTES: u32 = 4096;
const ENTRY_SHIFT: u32 = 3;
const MAGIC: u32 = 0x53464552;
const FIRST_DIRECTORY: u32 = 16;

@unmanaged
export class Refs {
  magic: u32;
  /** Addresses of pages; 0 where none is. An entry in a page: u32 slot + 1 (0: none), u32 generation. */
  directory: usize;
  directoryLength: u32;
}

const REFS_BYTES: u32 = 12;

/** A new table, null when memory is full. */
export function createRefs(): Refs | null {
  const cell = allocCell(REFS_BYTES);
  if (cell == 0) return null;
  const directory = allocCell(FIRST_DIRECTORY << 2);
  if (directory == 0) {
    freeCell(cell, REFS_BYTES);
    return null;
  }
  memory.fill(directory, 0, FIRST_DIRECTORY << 2);
  const refs = changetype<Refs>(cell);
  refs.magic = MAGIC;
  refs.directory = directory;
  refs.directoryLength = FIRST_DIRECTORY;
  return refs;
}

/** Guards against tables that were dropped: their cell says so. */
export function areRefs(refs: Refs): bool {
  const at = changetype<usize>(refs);
  return at != 0 && (at & 15) == 0 && at < <usize>memory.size() << 16 && refs.magic == MAGIC;
}

export function dropRefs(refs: Refs): void {
  for (let i: u32 = 0; i < refs.directoryLength; i++) {
    const page: usize = load<u32>(refs.directory + (<usize>i << 2));
    if (page != 0) freeCell(page, PAGE_BYTES);
  }
  freeCell(refs.directory, refs.directoryLength << 2);
  refs.magic = 0;
  refs.directoryLength = 0;
  freeCell(changetype<usize>(refs), REFS_BYTES);
}

/** Binds a reference to a series in use. False when memory is full. */
export function defineRef(refs: Refs, ref: u32, sid: u32): bool {
  const index = ref >> PAGE_SHIFT;
  if (index >= refs.directoryLength) {
    let length = refs.directoryLength;
    while (length <= index) length <<= 1;
    const grown = allocCell(length << 2);
    if (grown == 0) return false;
    memory.copy(grown, refs.directory, refs.directoryLength << 2);
    memory.fill(grown + (<usize>refs.directoryLength << 2), 0, (length - refs.directoryLength) << 2);
    freeCell(refs.directory, refs.directoryLength << 2);
    refs.directory = grown;
    refs.directoryLength = length;
  }
  const at = refs.directory + (<usize>index << 2);
  let page: usize = load<u32>(at);
  if (page == 0) {
    page = allocCell(PAGE_BYTES);
    if (page == 0) return false;
    memory.fill(page, 0, PAGE_BYTES);
    store<u32>(at, <u32>page);
  }
  const entry = page + (<usize>(ref & ((1 << PAGE_SHIFT) - 1)) << ENTRY_SHIFT);
  store<u32>(entry, sid + 1);
  store<u32>(entry, slotOf(sid).generation, 4);
  return true;
}

/** The slot + 1 behind a reference, 0 when it is unknown. */
@inline export function resolveRef(refs: Refs, ref: u32): u32 {
  const index = ref >> PAGE_SHIFT;
  if (index >= refs.directoryLength) return 0;
  const page: usize = load<u32>(refs.directory + (<usize>index << 2));
  if (page == 0) return 0;
  const entry = page + (<usize>(ref & ((1 << PAGE_SHIFT) - 1)) << ENTRY_SHIFT);
  const tagged = load<u32>(entry);
  // A slot that was released has another generation, so a match means that it is in use.
  return tagged != 0 && slotOf(tagged - 1).generation == load<u32>(entry, 4) ? tagged : 0;
}

/** Resolves `count` references at `from` to slots + 1 at `to`, 0 where one is unknown. Neighbours mostly share a page. */
@inline export function resolveRefs(refs: Refs, from: usize, count: usize, to: usize): void {
  const directory = refs.directory;
  const directoryLength = refs.directoryLength;
  let pageIndex: u32 = u32.MAX_VALUE;
  let page: usize = 0;
  for (let i: usize = 0; i < count; i++) {
    const ref = load<u32>(from + (i << 2));
    if (ref >> PAGE_SHIFT != pageIndex) {
      pageIndex = ref >> PAGE_SHIFT;
      page = pageIndex < directoryLength ? <usize>load<u32>(directory + (<usize>pageIndex << 2)) : 0;
    }
    let tagged: u32 = 0;
    if (page != 0) {
      const entry = page + (<usize>(ref & ((1 << PAGE_SHIFT) - 1)) << ENTRY_SHIFT);
      tagged = load<u32>(entry);
      if (tagged != 0 && slotOf(tagged - 1).generation != load<u32>(entry, 4)) tagged = 0;
    }
    store<u32>(to + (i << 2), tagged);
  }
}
