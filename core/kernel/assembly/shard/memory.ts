/**
 * Who owns which byte of linear memory. Everything is carved from 64 KiB pages:
 *
 *   [static data][reserved tables][pages ... top)      never used: [top, limit)
 *
 * A page belongs to one size class (cells of equal size, with a free list per class), to a run of pages
 * somebody asked for, or to the list of free pages. Linear memory never shrinks, so what is freed is kept for
 * reuse in its class; runs of pages come back as single pages.
 *
 * Running out: allocating functions return 0. Writers that cannot stop halfway call `reserve` first, which grows
 * memory ahead of need; after it their allocations cannot fail.
 */

const PAGE_BYTES: u32 = 65536;
const PAGE_SHIFT: u32 = 16;

/** Classes: 16, 32 .. 512 in steps of 16, then four per doubling up to 16 KiB. Larger cells are whole pages. */
const FINE_CLASSES: u32 = 32;
const CLASS_COUNT: u32 = 52;
const LARGEST_CELL: u32 = 16384;

/** What is known of the cells of one size. */
@unmanaged
class SizeClass {
  /** First free cell; each begins with the address of the next. */
  free: usize;
  freeCount: u32;
  /** The part of the last page that was not cut into cells yet. */
  uncarved: usize;
  pageEnd: usize;
  size: u32;
}

const CLASS_BYTES: u32 = 20;
const classes: usize = memory.data(CLASS_COUNT * CLASS_BYTES, 16);

let top: usize = 0;
let limit: u64 = 0;
let freePages: usize = 0;
let freePageCount: u32 = 0;
let used: u64 = 0;

/** Sets the bound of the memory and builds the class table. First call on an instance. */
export function initMemory(maxPages: u32): void {
  top = (__heap_base + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
  // The last page of a 4 GiB memory stays unused: its end has no 32-bit address.
  limit = <u64>min<u32>(maxPages, 65535) << PAGE_SHIFT;
  for (let i: u32 = 0; i < CLASS_COUNT; i++) {
    let size: u32;
    if (i < FINE_CLASSES) size = (i + 1) << 4;
    else {
      const step = i - FINE_CLASSES;
      size = (512 << (step >> 2)) + ((step & 3) + 1) * (128 << (step >> 2));
    }
    changetype<SizeClass>(classes + i * CLASS_BYTES).size = size;
  }
}

export function usedBytes(): f64 {
  return <f64>used;
}

/** Accounts for memory that was reserved earlier and comes into use piece by piece. */
export function countUsed(bytes: u32): void {
  used += bytes;
}

/** Makes sure that [0, end) is there. False when the bound or the system says no. */
function growTo(end: u64): bool {
  if (end > limit) return false;
  const have = <u64>memory.size() << PAGE_SHIFT;
  if (end <= have) return true;
  const need = <i32>((end - have + PAGE_BYTES - 1) >> PAGE_SHIFT);
  // Each growth detaches the views JavaScript holds and may set off a collection there, so grow by a quarter, 2 MiB at
  // least, where there is room: what is not touched has no memory behind it.
  const generous = <i32>min(max((have >> PAGE_SHIFT) >> 2, 32), (limit - have) >> PAGE_SHIFT);
  if (generous > need && memory.grow(generous) >= 0) return true;
  return memory.grow(need) >= 0;
}

/** `count` adjacent pages; 0 when memory is full. Content is undefined. */
export function allocPages(count: u32): usize {
  if (count == 1 && freePages != 0) {
    const page = freePages;
    freePages = load<u32>(page);
    freePageCount--;
    used += PAGE_BYTES;
    return page;
  }
  const bytes = <u64>count << PAGE_SHIFT;
  if (!growTo(<u64>top + bytes)) return 0;
  const start = top;
  top += <usize>bytes;
  used += bytes;
  return start;
}

export function freePagesAt(start: usize, count: u32): void {
  used -= <u64>count << PAGE_SHIFT;
  for (let i: u32 = 0; i < count; i++) {
    const page = start + (<usize>i << PAGE_SHIFT);
    store<u32>(page, <u32>freePages);
    freePages = page;
  }
  freePageCount += count;
}

export function pagesFor(bytes: u64): u32 {
  return <u32>((bytes + PAGE_BYTES - 1) >> PAGE_SHIFT);
}

/** Address space for a table that fills from its start; zeroed, no page behind it until touched. Not counted as used. */
export function reserveTable(bytes: u64): usize {
  const pages = pagesFor(bytes);
  const start = allocPages(pages);
  if (start != 0) used -= <u64>pages << PAGE_SHIFT;
  return start;
}

/**
 * Makes allocations of `runCells` cells of 64 bytes, `segmentCells` of 128, and of `bytes` of others unable to fail. False
 * when memory is too full for that.
 */
export function reserve(runCells: u32, segmentCells: u32, bytes: u32): bool {
  const freeRuns = sizeClass(64).freeCount;
  const freeSegments = sizeClass(128).freeCount;
  // One page more for each class that may begin a new page meanwhile.
  let want = <u64>bytes + 8 * PAGE_BYTES;
  if (runCells > freeRuns) want += <u64>(runCells - freeRuns) << 6;
  if (segmentCells > freeSegments) want += <u64>(segmentCells - freeSegments) << 7;
  const free = <u64>freePageCount << PAGE_SHIFT;
  return free >= want || growTo(<u64>top + want - free);
}

@inline function classOf(bytes: u32): u32 {
  if (bytes <= 512) return (bytes - 1) >> 4;
  // The doubling that holds bytes-1, then which quarter of it.
  const doubling = 31 - clz<u32>(bytes - 1);
  return FINE_CLASSES + ((doubling - 9) << 2) + (((bytes - 1) >> (doubling - 2)) & 3);
}

@inline function sizeClass(bytes: u32): SizeClass {
  return changetype<SizeClass>(classes + classOf(bytes) * CLASS_BYTES);
}

/** A cell of at least `bytes` > 0, aligned to 16 (64 and 128 byte cells to their size). 0 when memory is full. */
export function allocCell(bytes: u32): usize {
  if (bytes > LARGEST_CELL) return allocPages(pagesFor(bytes));
  const cells = sizeClass(bytes);
  let cell = cells.free;
  if (cell != 0) {
    cells.free = load<u32>(cell);
    cells.freeCount--;
  } else {
    cell = cells.uncarved;
    if (cell == 0 || cell + cells.size > cells.pageEnd) {
      cell = allocPages(1);
      if (cell == 0) return 0;
      used -= PAGE_BYTES;
      cells.pageEnd = cell + PAGE_BYTES;
    }
    cells.uncarved = cell + cells.size;
  }
  used += cells.size;
  return cell;
}

/** Gives a cell back; `bytes` as it was asked for. */
export function freeCell(cell: usize, bytes: u32): void {
  if (bytes > LARGEST_CELL) {
    freePagesAt(cell, pagesFor(bytes));
    return;
  }
  const cells = sizeClass(bytes);
  store<u32>(cell, <u32>cells.free);
  cells.free = cell;
  cells.freeCount++;
  used -= cells.size;
}
