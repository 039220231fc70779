/**
 * A run's backlog: samples that came late, behind the run's last one, in order of arrival. Entries of 12 bytes
 * (u32 offset, u64 value) in chained segments of 128 bytes: u32 next, u32 unused, ten entries.
 */
import { allocCell, freeCell } from './memory';

@unmanaged
export class Backlog {
  /** First segment. */
  head: usize;
  /** Segment being filled. */
  last: usize;
  count: u32;
  /** Offset of the entry that came last, and whether all came in rising order: then they need no sorting. */
  lastOffset: u32;
  rising: bool;
}

const BACKLOG_BYTES: u32 = 20;
const SEGMENT_BYTES: u32 = 128;
const SEGMENT_HEADER: u32 = 8;
const SEGMENT_ENTRIES: u32 = 10;
export const ENTRY_BYTES: u32 = 12;

/** An empty backlog. The caller has reserved memory, as for `defer`. */
export function createBacklog(): Backlog {
  const backlog = changetype<Backlog>(allocCell(BACKLOG_BYTES));
  backlog.head = 0;
  backlog.last = 0;
  backlog.count = 0;
  backlog.lastOffset = 0;
  backlog.rising = true;
  return backlog;
}

/** Adds a late sample. */
export function defer(backlog: Backlog, offset: u32, value: u64): void {
  const index = backlog.count % SEGMENT_ENTRIES;
  if (index == 0) {
    const segment = allocCell(SEGMENT_BYTES);
    store<u32>(segment, 0);
    if (backlog.last != 0) store<u32>(backlog.last, <u32>segment);
    else backlog.head = segment;
    backlog.last = segment;
  }
  const entry = backlog.last + SEGMENT_HEADER + index * ENTRY_BYTES;
  store<u32>(entry, offset);
  store<u64>(entry, value, 4);
  if (offset <= backlog.lastOffset && backlog.count != 0) backlog.rising = false;
  backlog.lastOffset = offset;
  backlog.count++;
}

export function freeBacklog(backlog: Backlog): void {
  let segment = backlog.head;
  while (segment != 0) {
    const next: usize = load<u32>(segment);
    freeCell(segment, SEGMENT_BYTES);
    segment = next;
  }
  freeCell(changetype<usize>(backlog), BACKLOG_BYTES);
}

/** Copies the entries, in order of arrival, to `to`, 12 bytes each. */
export function copyEntries(backlog: Backlog, to: usize): void {
  let segment = backlog.head;
  let left = backlog.count;
  while (left != 0) {
    const entries = min(left, SEGMENT_ENTRIES);
    memory.copy(to, segment + SEGMENT_HEADER, entries * ENTRY_BYTES);
    to += entries * ENTRY_BYTES;
    left -= entries;
    segment = load<u32>(segment);
  }
}

/** Spreads the entries, in order of arrival, over columns. */
export function backlogColumns(backlog: Backlog, offsets: usize, values: usize): void {
  let segment = backlog.head;
  let left = backlog.count;
  while (left != 0) {
    const entries = min(left, SEGMENT_ENTRIES);
    let entry = segment + SEGMENT_HEADER;
    for (let i: u32 = 0; i < entries; i++, entry += ENTRY_BYTES, offsets += 4, values += 8) {
      store<u32>(offsets, load<u32>(entry));
      store<u64>(values, load<u64>(entry, 4));
    }
    left -= entries;
    segment = load<u32>(segment);
  }
}
