/**
 * A run's backlog: samples that came late, at or before the run's last one. Entries of 12 bytes (u32 offset, u64 value)
 * in segments of 128 bytes: u32 segment before, u32 unused, ten entries, which end where the segment does. The run knows
 * where the next entry goes and how many there are, so adding one hardly reads anything.
 */
import { allocCell, freeCell } from './memory';
import { Run } from './run';

const SEGMENT_BYTES: u32 = 128;
const SEGMENT_HEADER: u32 = 8;
const SEGMENT_ENTRIES: u32 = 10;
export const ENTRY_BYTES: u32 = 12;

/** In `backlogCount`: the entries did not come in rising order, and want sorting. */
const DISORDERED: u32 = 0x80000000;

@inline export function backlogCount(run: Run): u32 {
  return run.backlogCount & ~DISORDERED;
}

@inline export function isDisordered(run: Run): bool {
  return (run.backlogCount & DISORDERED) != 0;
}

/** An address in the memory that the next late sample is written to, or just before it; the run's own without a backlog. */
@inline export function nextEntry(run: Run): usize {
  return run.backlog == 0 ? changetype<usize>(run) : run.backlog - 1;
}

/** Adds a late sample. The caller has reserved memory. */
export function defer(run: Run, offset: u32, value: u64): void {
  let entry = run.backlog;
  if (entry != 0 && !isDisordered(run) && load<u32>(entry - ENTRY_BYTES) >= offset) run.backlogCount |= DISORDERED;
  if ((entry & (SEGMENT_BYTES - 1)) == 0) {
    const segment = allocCell(SEGMENT_BYTES);
    store<u32>(segment, entry == 0 ? 0 : <u32>entry - SEGMENT_BYTES);
    entry = segment + SEGMENT_HEADER;
  }
  store<u32>(entry, offset);
  store<u64>(entry, value, 4);
  run.backlog = entry + ENTRY_BYTES;
  run.backlogCount++;
}

@inline function lastSegment(run: Run): usize {
  return run.backlog == 0 ? 0 : (run.backlog - 1) & ~(SEGMENT_BYTES - 1);
}

export function freeBacklog(run: Run): void {
  let segment = lastSegment(run);
  while (segment != 0) {
    const before: usize = load<u32>(segment);
    freeCell(segment, SEGMENT_BYTES);
    segment = before;
  }
  run.backlog = 0;
  run.backlogCount = 0;
}

/** Entries in the last segment of `count`. */
@inline function tailEntries(count: u32): u32 {
  return (count - 1) % SEGMENT_ENTRIES + 1;
}

/** Copies the entries, in order of arrival, to `to`, 12 bytes each. */
export function copyEntries(run: Run, to: usize): void {
  let left = backlogCount(run);
  for (let segment = lastSegment(run); left != 0; segment = load<u32>(segment)) {
    const entries = tailEntries(left);
    left -= entries;
    memory.copy(to + left * ENTRY_BYTES, segment + SEGMENT_HEADER, entries * ENTRY_BYTES);
  }
}

/** Spreads the entries, in order of arrival, over columns. */
export function backlogColumns(run: Run, offsets: usize, values: usize): void {
  let left = backlogCount(run);
  for (let segment = lastSegment(run); left != 0; segment = load<u32>(segment)) {
    const entries = tailEntries(left);
    left -= entries;
    let entry = segment + SEGMENT_HEADER;
    let offsetAt = offsets + (<usize>left << 2);
    let valueAt = values + (<usize>left << 3);
    for (let i: u32 = 0; i < entries; i++, entry += ENTRY_BYTES, offsetAt += 4, valueAt += 8) {
      store<u32>(offsetAt, load<u32>(entry));
      store<u64>(valueAt, load<u64>(entry, 4));
    }
  }
}
