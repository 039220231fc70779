/**
 * Working buffers, one per purpose, that grow and are never given back. Each has 64 bytes of slack behind the
 * size that was asked for, so that readers may load whole words across its end.
 */
import { allocPages, freePagesAt, pagesFor } from './memory';

/** What the door copies in: batches, records, chunks, identities. */
export const INPUT: u32 = 0;
/** What the door reads: chunks, records, pages. */
export const OUTPUT: u32 = 1;
/** Columns of samples: u32 offsets in one, u64 values in the next. */
export const LIVE: u32 = 2;
export const LATE: u32 = 4;
export const MERGED: u32 = 6;
export const BLOCK: u32 = 8;
export const ALL: u32 = 10;
/** Bit streams gathered from segments. */
export const STREAM: u32 = 12;
/** Integers of the columnar encoder, keys of the sort. */
export const WORK: u32 = 13;
/** Lists that go with a result. */
export const LISTS: u32 = 14;
/** Values of a log record in the making. */
export const RECORD: u32 = 15;
/** Log records and checkpoint pages that the door copies in. */
export const SOURCE: u32 = 16;
/** Decoded columns for the door: f64 timestamps in one, f64 values in the next. */
export const COLUMNS: u32 = 17;

/** What is deleted of a series in a window: pairs of u32 offsets, first and last. */
export const DEAD: u32 = 19;

const BUFFER_COUNT: u32 = 20;
const SLACK: u32 = 64;

/** Per buffer: u32 address, u32 size without slack. */
const buffers: usize = memory.data(BUFFER_COUNT * 8, 8);

/** The buffer, made at least `bytes` large. Its content is lost when it grows. 0 when memory is full: it keeps its old size. */
export function scratch(buffer: u32, bytes: u32): usize {
  const entry = buffers + (<usize>buffer << 3);
  const have = load<u32>(entry, 4);
  if (have >= bytes && have != 0) return load<u32>(entry);
  // Half as much again, so that slowly growing demands do not copy pages around for ever.
  const pages = pagesFor(<u64>bytes + (have != 0 ? bytes >> 1 : 0) + SLACK);
  const start = allocPages(pages);
  if (start == 0) return 0;
  const old = load<u32>(entry);
  if (old != 0) freePagesAt(old, pagesFor(<u64>have + SLACK));
  store<u32>(entry, <u32>start);
  store<u32>(entry, (pages << 16) - SLACK, 4);
  return start;
}
