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

// Where the streams are made, in the RECORD buffer; a varint of an id or a count takes up to 5 bytes, of a timestamp 10.
const IDS: u32 = 0;
const COUNTS: u32 = IDS + RECORD_SAMPLES * 5;
const TIMESTAMPS: u32 = COUNTS + RECORD_SAMPLES * 5;
const VALUES: u32 = TIMESTAMPS + RECORD_SAMPLES * 10;
const RECORD_BYTES: u32 = VALUES + RECORD_SAMPLES * 8;
/** The most bytes of a record. */
export const RECORD_BOUND: u32 = HEADER_BYTES + RECORD_BYTES;

let buffer: usize = 0;
let idsAt: usize = 0;
let countsAt: usize = 0;
let timestampsAt: usize = 0;
let valuesAt: usize = 0;
let runs: u32 = 0;
let runValuesAt: usize = 0;
let previousId: i64 = 0;
let previousFirst: i64 = 0;
let previousTimestamp: i64 = 0;
let previousStep: i64 = 0;
let previousValue: u64 = 0;
let runId: u32 = 0;

/** Begins a record. False when memory is full. */
export function beginRecord(): bool {
  buffer = scratch(RECORD, RECORD_BYTES);
  if (buffer == 0) return false;
  idsAt = buffer + IDS;
  countsAt = buffer + COUNTS;
  timestampsAt = buffer + TIMESTAMPS;
  valuesAt = buffer + VALUES;
  runs = 0;
  previousId = 0;
  previousFirst = 0;
  previousStep = 0;
  return true;
}

/** The samples that follow are of this series. */
@inline export function recordRun(sid: u32): void {
  runId = sid;
  runValuesAt = valuesAt;
}

@inline export function recordSample(timestamp: i64, value: u64): void {
  if (valuesAt == runValuesAt) {
    timestampsAt = writeVarint(timestampsAt, zigzag(timestamp - previousFirst));
    previousFirst = timestamp;
    store<u64>(valuesAt, value);
  } else {
    const step = timestamp - previousTimestamp;
    timestampsAt = writeVarint(timestampsAt, zigzag(step - previousStep));
    previousStep = step;
    store<u64>(valuesAt, value ^ previousValue);
  }
  previousTimestamp = timestamp;
  previousValue = value;
  valuesAt += 8;
}

/** Ends a run; one without samples leaves nothing behind. */
@inline export function recordRunEnd(): void {
  const count = <u32>(valuesAt - runValuesAt) >> 3;
  if (count == 0) return;
  idsAt = writeVarint(idsAt, zigzag(<i64>runId - previousId));
  previousId = runId;
  countsAt = writeVarint(countsAt, count);
  runs++;
}

/** Assembles the record at the start of OUTPUT; returns its length, 0 when there are no samples or memory is full. */
export function endRecord(): u32 {
  const samples = <u32>(valuesAt - buffer - VALUES) >> 3;
  const to = scratch(OUTPUT, RECORD_BOUND);
  if (samples == 0 || to == 0) return 0;
  const singles = runs == samples;
  const idBytes = idsAt - buffer - IDS;
  const countBytes: usize = singles ? 0 : countsAt - buffer - COUNTS;
  const timestampBytes = timestampsAt - buffer - TIMESTAMPS;
  store<u32>(to, FORMAT | (singles ? SINGLES << 8 : 0));
  store<u32>(to, runs, 4);
  store<u32>(to, samples, 8);
  store<u32>(to, <u32>idBytes, 12);
  store<u32>(to, <u32>countBytes, 16);
  store<u32>(to, <u32>timestampBytes, 20);
  let at = to + HEADER_BYTES;
  memory.copy(at, buffer + IDS, idBytes);
  at += idBytes;
  memory.copy(at, buffer + COUNTS, countBytes);
  at += countBytes;
  memory.copy(at, buffer + TIMESTAMPS, timestampBytes);
  at += timestampBytes;
  splitPlanes(buffer + VALUES, samples, at);
  return <u32>(at - to) + samples * 8;
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
