/** Decoding for the door: the samples of one series into one pair of f64 columns, and aggregates over a chunk. */
import { chunkCount, chunkMin, chunkSpan, decodeChunk } from './chunk';
import { BROKEN, NO_ROOM, setCount, setOffsets, setValues } from './collect';
import { STALE, winner } from './rule';
import { decodeStream, gather, Run, streamBound } from './run';
import { COLUMNS, LIVE, MERGED, OUTPUT, STREAM, scratch } from './scratch';

/** Samples in the columns so far, and how many they have room for. */
let length: u32 = 0;
let capacity: u32 = 0;
let timestamps: usize = 0;
let values: usize = 0;

/** Empties the columns and makes room for `count` samples. False when memory is full. */
export function beginColumns(count: u32): bool {
  length = 0;
  return count <= capacity || growColumns(count);
}

/** Makes room for `count` more samples; those in the columns stay. False when memory is full. */
export function reserveColumns(count: u32): bool {
  const needed = length + count;
  if (needed <= capacity) return true;
  if (length == 0) return growColumns(needed);
  const bytes = <usize>length << 3;
  const kept = scratch(OUTPUT, length << 4);
  if (kept == 0) return false;
  memory.copy(kept, timestamps, bytes);
  memory.copy(kept + bytes, values, bytes);
  if (!growColumns(needed)) return false;
  memory.copy(timestamps, kept, bytes);
  memory.copy(values, kept + bytes, bytes);
  return true;
}

/** What is in the columns is lost. */
function growColumns(count: u32): bool {
  timestamps = scratch(COLUMNS, count << 3);
  values = scratch(COLUMNS + 1, count << 3);
  capacity = timestamps != 0 && values != 0 ? count : 0;
  return capacity == count;
}

export function columnsLength(): u32 {
  return length;
}

export function timestampsAt(): usize {
  return timestamps;
}

export function valuesAt(): usize {
  return values;
}

/** First index in the sorted u32 `offsets` whose offset is at least `offset`. */
function lowerBound(offsets: usize, count: u32, offset: u32): u32 {
  let low: u32 = 0;
  while (count != 0) {
    const half = count >> 1;
    if (load<u32>(offsets + (<usize>(low + half) << 2)) < offset) {
      low += half + 1;
      count -= half + 1;
    } else {
      count = half;
    }
  }
  return low;
}

// The samples of a set that lie in a range: [rangeFrom, rangeTo).
let rangeFrom: u32 = 0;
let rangeTo: u32 = 0;

/** `count` >= 1 rising offsets from `origin` on. */
function findRange(count: u32, offsets: usize, origin: i64, from: i64, to: i64): void {
  const min = origin + <i64>load<u32>(offsets);
  const max = origin + <i64>load<u32>(offsets + (<usize>(count - 1) << 2));
  rangeFrom = from <= min ? 0 : from > max ? count : lowerBound(offsets, count, <u32>(from - origin));
  rangeTo = to >= max ? count : to < min ? 0 : lowerBound(offsets, count, <u32>(to - origin) + 1);
}

/**
 * Adds a chunk's samples in [from, to] to the columns. It has passed `isChunk`, and the columns have room for all of it.
 * 0, or BROKEN, or NO_ROOM. Where it overlaps what is there, the merge rule decides.
 */
export function addChunk(chunk: usize, bytes: u32, from: i64, to: i64): i32 {
  const count = chunkCount(chunk);
  if (count > capacity - length) return NO_ROOM;
  const min = chunkMin(chunk);
  if (from > min + <i64>chunkSpan(chunk) || to < min) return 0;
  const offsets = scratch(LIVE, count << 2);
  if (offsets == 0) return NO_ROOM;
  if (!decodeChunk(chunk, bytes, 0, offsets, values + (<usize>length << 3))) return BROKEN;
  return addDecoded(count, offsets, min, from, to);
}

/**
 * Adds the samples in [from, to] of an open run without backlog; there is room for all of it. The number of samples that it
 * has, 0 when none is in the range, or NO_ROOM, or BROKEN.
 */
export function addRun(run: Run, from: i64, to: i64): i32 {
  const count = run.count;
  const windowStart = run.windowStart;
  if (from > windowStart + <i64>run.lastOffset || to < windowStart + <i64>run.firstOffset) return 0;
  const stream = scratch(STREAM, streamBound(count));
  const offsets = scratch(LIVE, count << 2);
  if (stream == 0 || offsets == 0) return NO_ROOM;
  const added = values + (<usize>length << 3);
  if (!decodeStream(stream, gather(run, stream), count, run.firstOffset, offsets, added)) return BROKEN;
  const outcome = addDecoded(count, offsets, windowStart, from, to);
  return outcome < 0 ? outcome : rangeFrom < rangeTo ? <i32>count : 0;
}

/** The same of the set that was collected last. */
export function addSet(windowStart: i64, from: i64, to: i64): i32 {
  if (setCount == 0) return 0;
  memory.copy(values + (<usize>length << 3), setValues, <usize>setCount << 3);
  const outcome = addDecoded(setCount, setOffsets, windowStart, from, to);
  return outcome < 0 ? outcome : rangeFrom < rangeTo ? <i32>setCount : 0;
}

/** Adds those samples in [from, to] whose values lie behind the columns already. 0, or NO_ROOM. */
function addDecoded(count: u32, offsets: usize, origin: i64, from: i64, to: i64): i32 {
  findRange(count, offsets, origin, from, to);
  if (rangeFrom >= rangeTo) return 0;
  const added = values + (<usize>length << 3);
  const taken = rangeTo - rangeFrom;
  if (rangeFrom != 0) memory.copy(added, added + (<usize>rangeFrom << 3), taken << 3);
  widen(offsets + (<usize>rangeFrom << 2), taken, <f64>origin, timestamps + (<usize>length << 3));
  const before = length;
  length += taken;
  const join = timestamps + (<usize>before << 3);
  if (before != 0 && load<f64>(join) <= load<f64>(join - 8)) return mergeColumns(before);
  return 0;
}

/** Offsets to f64 timestamps. */
function widen(offsets: usize, count: u32, origin: f64, to: usize): void {
  const n = <usize>count;
  const origins = f64x2.splat(origin);
  let i: usize = 0;
  for (; i + 2 <= n; i += 2) {
    v128.store(to + (i << 3), f64x2.add(origins, f64x2.convert_low_i32x4_u(v128.load64_zero(offsets + (i << 2)))));
  }
  if (i < n) store<f64>(to + (i << 3), origin + <f64>load<u32>(offsets + (i << 2)));
}

/** The samples from index `middle` on overlap those before: makes one sorted set of both. */
function mergeColumns(middle: u32): i32 {
  // What lies before the second part's first timestamp stays where it is.
  const firstLate = load<f64>(timestamps + (<usize>middle << 3));
  let start = middle;
  while (start != 0 && load<f64>(timestamps + (<usize>(start - 1) << 3)) >= firstLate) start--;
  const count = length - start;
  const copyTimestamps = scratch(MERGED, count << 3);
  const copyValues = scratch(MERGED + 1, count << 3);
  if (copyTimestamps == 0 || copyValues == 0) return NO_ROOM;
  memory.copy(copyTimestamps, timestamps + (<usize>start << 3), count << 3);
  memory.copy(copyValues, values + (<usize>start << 3), count << 3);
  let a: usize = 0;
  let b = <usize>(middle - start);
  const endA = b;
  const endB = <usize>count;
  let to = <usize>start;
  while (a < endA || b < endB) {
    const takeA = b == endB || (a < endA && load<f64>(copyTimestamps + (a << 3)) <= load<f64>(copyTimestamps + (b << 3)));
    const both = takeA && b < endB && load<f64>(copyTimestamps + (a << 3)) == load<f64>(copyTimestamps + (b << 3));
    const from = takeA ? a : b;
    const value = load<u64>(copyValues + (from << 3));
    store<f64>(timestamps + (to << 3), load<f64>(copyTimestamps + (from << 3)));
    store<u64>(values + (to << 3), both ? winner(value, load<u64>(copyValues + (b << 3))) : value);
    to++;
    if (takeA) a++;
    if (!takeA || both) b++;
  }
  length = <u32>to;
  return 0;
}

@unmanaged
export class Aggregate {
  count: f64;
  sum: f64;
  min: f64;
  max: f64;
  first: f64;
  firstTimestamp: f64;
  last: f64;
  lastTimestamp: f64;
  increase: f64;
}

const aggregate: Aggregate = changetype<Aggregate>(memory.data(72, 8));

export function aggregateResult(): Aggregate {
  return aggregate;
}

/** Aggregates a chunk's samples in [from, to], stale markers left out. It has passed `isChunk`. 0, or BROKEN, or NO_ROOM. */
export function aggregateChunk(chunk: usize, bytes: u32, from: i64, to: i64): i32 {
  const count = chunkCount(chunk);
  const offsets = scratch(LIVE, count << 2);
  const chunkValues = scratch(LIVE + 1, count << 3);
  if (offsets == 0 || chunkValues == 0) return NO_ROOM;
  if (!decodeChunk(chunk, bytes, 0, offsets, chunkValues)) return BROKEN;
  findRange(count, offsets, chunkMin(chunk), from, to);
  if (rangeFrom >= rangeTo) {
    clearAggregate();
    return 0;
  }
  const begin = chunkValues + (<usize>rangeFrom << 3);
  const end = chunkValues + (<usize>rangeTo << 3);
  const min = chunkMin(chunk);
  if (!aggregateNumbers(begin, end)) {
    aggregateAny(begin, end, offsets + (<usize>rangeFrom << 2), min);
    return 0;
  }
  aggregate.count = <f64>(rangeTo - rangeFrom);
  aggregate.first = load<f64>(begin);
  aggregate.firstTimestamp = <f64>(min + <i64>load<u32>(offsets + (<usize>rangeFrom << 2)));
  aggregate.last = load<f64>(end - 8);
  aggregate.lastTimestamp = <f64>(min + <i64>load<u32>(offsets + (<usize>(rangeTo - 1) << 2)));
  return 0;
}

function clearAggregate(): void {
  aggregate.count = 0;
  aggregate.sum = NaN;
  aggregate.min = NaN;
  aggregate.max = NaN;
  aggregate.first = NaN;
  aggregate.firstTimestamp = NaN;
  aggregate.last = NaN;
  aggregate.lastTimestamp = NaN;
  aggregate.increase = 0;
}

/** Sum, extremes and increase of values none of which is a NaN, two at a time. False when there is a NaN among them. */
function aggregateNumbers(at: usize, end: usize): bool {
  const first = load<f64>(at);
  let sums = f64x2.splat(0);
  let rises = f64x2.splat(0);
  let least = f64x2.splat(first);
  let most = least;
  let same = f64x2.eq(least, least);
  let p = at + 8;
  for (; p + 16 <= end; p += 16) {
    const v = v128.load(p);
    const before = v128.load(p - 8);
    same = v128.and(same, f64x2.eq(v, v));
    sums = f64x2.add(sums, v);
    least = f64x2.pmin(least, v);
    most = f64x2.pmax(most, v);
    // After a fall the counter began again at 0.
    rises = f64x2.add(rises, f64x2.sub(v, v128.and(before, f64x2.ge(v, before))));
  }
  let sum = first + f64x2.extract_lane(sums, 0) + f64x2.extract_lane(sums, 1);
  let increase = f64x2.extract_lane(rises, 0) + f64x2.extract_lane(rises, 1);
  let low = Math.min(f64x2.extract_lane(least, 0), f64x2.extract_lane(least, 1));
  let high = Math.max(f64x2.extract_lane(most, 0), f64x2.extract_lane(most, 1));
  if (p < end) {
    const v = load<f64>(p);
    const before = load<f64>(p - 8);
    if (v != v) return false;
    sum += v;
    low = Math.min(low, v);
    high = Math.max(high, v);
    increase += v >= before ? v - before : v;
  }
  aggregate.sum = sum;
  aggregate.min = low;
  aggregate.max = high;
  aggregate.increase = increase;
  return i64x2.all_true(same);
}

/** The same one by one: stale markers are skipped, other NaNs are values (extremes prefer numbers, as PromQL's do). */
function aggregateAny(at: usize, end: usize, offsets: usize, origin: i64): void {
  clearAggregate();
  let count: f64 = 0;
  let before: f64 = 0;
  for (; at < end; at += 8, offsets += 4) {
    if (load<u64>(at) == STALE) continue;
    const v = load<f64>(at);
    const timestamp = <f64>(origin + <i64>load<u32>(offsets));
    if (count == 0) {
      aggregate.sum = 0;
      aggregate.first = v;
      aggregate.firstTimestamp = timestamp;
    } else {
      aggregate.increase += v >= before ? v - before : v;
    }
    count++;
    aggregate.sum += v;
    if (!(v >= aggregate.min)) { if (v == v || count == 1) aggregate.min = v; }
    if (!(v <= aggregate.max)) { if (v == v || count == 1) aggregate.max = v; }
    aggregate.last = v;
    aggregate.lastTimestamp = timestamp;
    before = v;
  }
  aggregate.count = count;
}
