/**
 * A run's backlog: samples that came late, at or before the run's last one. Entries of 12 bytes (u32 offset, u64 value)
 * in segments of 128 bytes: u32 segment before, u32 unused, ten entries. The run knows the last segment and the count, so
 * adding an entry only writes; nothing of what is there is read, and nothing has to be in the cache.
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

@inline function entryAt(run: Run, index: u32): usize {
  return run.backlog + SEGMENT_HEADER + (index % SEGMENT_ENTRIES) * ENTRY_BYTES;
}

/** Adds a late sample. The caller has reserved memory. */
export function defer(run: Run, offset: u32, value: u64): void {
  const index = backlogCount(run);
  if (index != 0 && !isDisordered(run) && load<u32>(entryAt(run, index - 1)) >= offset) run.backlogCount |= DISORDERED;
  if (index % SEGMENT_ENTRIES == 0) {
    const segment = allocCell(SEGMENT_BYTES);
    store<u32>(segment, <u32>run.backlog);
    run.backlog = segment;
  }
  const entry = entryAt(run, index);
  store<u32>(entry, offset);
  store<u64>(entry, value, 4);
  run.backlogCount++;
}

export function freeBacklog(run: Run): void {
  let segment = run.backlog;
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
  for (let segment = run.backlog; left != 0; segment = load<u32>(segment)) {
    const entries = tailEntries(left);
    left -= entries;
    memory.copy(to + left * ENTRY_BYTES, segment + SEGMENT_HEADER, entries * ENTRY_BYTES);
  }
}

/** Spreads the entries, in order of arrival, over columns. */
export function backlogColumns(run: Run, offsets: usize, values: usize): void {
  let left = backlogCount(run);
  for (let segment = run.backlog; left != 0; segment = load<u32>(segment)) {
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
