/**
 * The log record: the accepted samples of a slice, as columns. Streams that LZ4 compresses well later: equal things
 * lie side by side, and what can be predicted is zero.
 *
 *   u8   format: 1
 *   u8   flags: bit 0: every run has one sample, and there are no counts
 *   u16  0
 *   u32  runs        u32  samples
 *   u32  bytes of ids        u32  bytes of counts        u32  bytes of timestamps
 *   ids          per run: varint zigzag(id - id of the run before)
 *   counts       per run: varint of its samples
 *   timestamps   first of a run: varint zigzag(t - first t of the run before);
 *                others: varint zigzag(step - the step before), the last step of the run before being "before" at first
 *   values       first of a run: its bits; others: XOR with the bits before; as 8 byte planes (planes.ts)
 *
 * What is "before" the first run is 0.
 */
import { unzigzag, zigzag } from './bits';
import { joinPlanes, splitPlanes } from './planes';
import { OUTPUT, RECORD, WORK, scratch } from './scratch';
import { readVarint, varintEnd, writeVarint } from '../varint';

/** Samples, and runs, of one record at most. */
export const RECORD_SAMPLES: u32 = 8192;
const HEADER_BYTES: u32 = 24;
const FORMAT: u32 = 1;
const SINGLES: u32 = 1;

/** The most bytes of a record: a varint of an id or a count takes up to 5, of a timestamp 10; and slack. */
const RECORD_BOUND: u32 = HEADER_BYTES + RECORD_SAMPLES * (5 + 5 + 10 + 8) + 64;

/** Makes sure that `writeRecord` finds the memory it needs. */
export function reserveRecord(): bool {
  return scratch(OUTPUT, RECORD_BOUND) != 0 && scratch(RECORD, RECORD_SAMPLES * 8) != 0;
}

/**
 * Writes a record to OUTPUT, of `runs` > 0 runs with `samples` samples in sum: u32 ids, u32 counts (none of them 0; not
 * looked at when every run has one sample), i64 timestamps, u64 values. Returns its length. After `reserveRecord`.
 */
export function writeRecord(runs: u32, samples: u32, ids: usize, counts: usize, timestamps: usize, values: usize): u32 {
  const to = scratch(OUTPUT, RECORD_BOUND);
  const singles = runs == samples;
  const idsAt = to + HEADER_BYTES;
  const countsAt = writeIds(ids, runs, idsAt);
  const timestampsAt = singles ? countsAt : writeCounts(counts, runs, countsAt);
  const planesAt = singles
    ? writeSingleTimestamps(timestamps, samples, timestampsAt)
    : writeTimestamps(timestamps, counts, runs, timestampsAt);
  splitPlanes(singles ? values : xorRuns(values, samples, counts, runs), samples, planesAt);
  store<u32>(to, FORMAT | (singles ? SINGLES << 8 : 0));
  store<u32>(to, runs, 4);
  store<u32>(to, samples, 8);
  store<u32>(to, <u32>(countsAt - idsAt), 12);
  store<u32>(to, <u32>(timestampsAt - countsAt), 16);
  store<u32>(to, <u32>(planesAt - timestampsAt), 20);
  return <u32>(planesAt - to) + samples * 8;
}

function writeIds(ids: usize, runs: u32, to: usize): usize {
  let before: i64 = 0;
  for (let i: usize = 0; i < runs; i++) {
    const id = <i64>load<u32>(ids + (i << 2));
    to = writeVarint(to, zigzag(id - before));
    before = id;
  }
  return to;
}

function writeCounts(counts: usize, runs: u32, to: usize): usize {
  for (let i: usize = 0; i < runs; i++) to = writeVarint(to, load<u32>(counts + (i << 2)));
  return to;
}

function writeSingleTimestamps(timestamps: usize, samples: u32, to: usize): usize {
  let before: i64 = 0;
  for (let i: usize = 0; i < samples; i++) {
    const timestamp = load<i64>(timestamps + (i << 3));
    to = writeVarint(to, zigzag(timestamp - before));
    before = timestamp;
  }
  return to;
}

function writeTimestamps(timestamps: usize, counts: usize, runs: u32, to: usize): usize {
  let first: i64 = 0;
  let step: i64 = 0;
  for (let i: usize = 0; i < runs; i++) {
    let before = load<i64>(timestamps);
    timestamps += 8;
    to = writeVarint(to, zigzag(before - first));
    first = before;
    for (let left = load<u32>(counts + (i << 2)) - 1; left != 0; left--) {
      const timestamp = load<i64>(timestamps);
      timestamps += 8;
      const next = timestamp - before;
      to = writeVarint(to, zigzag(next - step));
      step = next;
      before = timestamp;
    }
  }
  return to;
}

/** Every value XORed with the one before, but for the first of each run; in the RECORD buffer. */
function xorRuns(values: usize, samples: u32, counts: usize, runs: u32): usize {
  const to = scratch(RECORD, RECORD_SAMPLES * 8);
  const n = <usize>samples;
  for (let i: usize = 1; i < n; i++) {
    store<u64>(to + (i << 3), load<u64>(values + (i << 3)) ^ load<u64>(values + (i << 3) - 8));
  }
  let first: usize = 0;
  for (let i: usize = 0; i < runs; i++) {
    store<u64>(to + (first << 3), load<u64>(values + (first << 3)));
    first += load<u32>(counts + (i << 2));
  }
  return to;
}

export const NOT_A_RECORD: i32 = -2;
export const RECORD_NO_ROOM: i32 = -1;

/** Outcome of `readRecord`. */
export let readRuns: u32 = 0;
export let readSamples: u32 = 0;

/**
 * Decodes a record into columns as they travel: u32 ids, u32 counts, i64 timestamps, u64 values; each has room for
 * RECORD_SAMPLES and 64 bytes. 0, or NOT_A_RECORD, or RECORD_NO_ROOM.
 */
export function readRecord(at: usize, bytes: u32, ids: usize, counts: usize, timestamps: usize, values: usize): i32 {
  if (bytes < HEADER_BYTES) return NOT_A_RECORD;
  const head = load<u32>(at);
  const singles = head == (FORMAT | (SINGLES << 8));
  if (!singles && head != FORMAT) return NOT_A_RECORD;
  const runCount = load<u32>(at, 4);
  const sampleCount = load<u32>(at, 8);
  const idBytes = load<u32>(at, 12);
  const countBytes = load<u32>(at, 16);
  const timestampBytes = load<u32>(at, 20);
  if (runCount == 0 || runCount > sampleCount || sampleCount > RECORD_SAMPLES) return NOT_A_RECORD;
  if (<u64>HEADER_BYTES + idBytes + countBytes + timestampBytes + sampleCount * 8 != bytes) return NOT_A_RECORD;
  if (singles && (runCount != sampleCount || countBytes != 0)) return NOT_A_RECORD;

  let p = at + HEADER_BYTES;
  let end = p + idBytes;
  let id: i64 = 0;
  for (let i: usize = 0; i < runCount; i++) {
    id += unzigzag(readVarint(p, end));
    p = varintEnd();
    if (p == 0 || id < 0 || id > <i64>u32.MAX_VALUE) return NOT_A_RECORD;
    store<u32>(ids + (i << 2), <u32>id);
  }
  if (p != end) return NOT_A_RECORD;

  end = p + countBytes;
  let total: u64 = 0;
  for (let i: usize = 0; i < runCount; i++) {
    let count: u64 = 1;
    if (!singles) {
      count = readVarint(p, end);
      p = varintEnd();
      if (p == 0 || count == 0 || count > RECORD_SAMPLES) return NOT_A_RECORD;
    }
    total += count;
    store<u32>(counts + (i << 2), <u32>count);
  }
  if (p != end || total != sampleCount) return NOT_A_RECORD;

  end = p + timestampBytes;
  const words = scratch(WORK, RECORD_SAMPLES * 8);
  if (words == 0) return RECORD_NO_ROOM;
  joinPlanes(end, sampleCount, words);
  let first: i64 = 0;
  let step: i64 = 0;
  let index: usize = 0;
  for (let i: usize = 0; i < runCount; i++) {
    let left = load<u32>(counts + (i << 2));
    first += unzigzag(readVarint(p, end));
    p = varintEnd();
    if (p == 0 || first < 0) return NOT_A_RECORD;
    let timestamp = first;
    let value = load<u64>(words + (index << 3));
    store<i64>(timestamps + (index << 3), timestamp);
    store<u64>(values + (index << 3), value);
    index++;
    while (--left != 0) {
      step += unzigzag(readVarint(p, end));
      p = varintEnd();
      if (p == 0) return NOT_A_RECORD;
      timestamp += step;
      value ^= load<u64>(words + (index << 3));
      if (timestamp < 0) return NOT_A_RECORD;
      store<i64>(timestamps + (index << 3), timestamp);
      store<u64>(values + (index << 3), value);
      index++;
    }
  }
  if (p != end) return NOT_A_RECORD;
  readRuns = runCount;
  readSamples = sampleCount;
  return 0;
}
