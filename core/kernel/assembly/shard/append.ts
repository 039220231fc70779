/**
 * A slice of a batch: references to series, admission, samples into runs; then the log record of what was accepted.
 */
import { countAppends, countSamples, insert, isNext, reserveSlice } from './insert';
import { RECORD_SAMPLES, reserveRecord, writeRecord } from './record';
import { resolveRef, Refs } from './refs';
import { INPUT, LISTS, OUTPUT, scratch } from './scratch';
import { push } from './run';
import { markDefined, slotOf } from './series';

// Columns in the INPUT buffer.
const REFS: u32 = 0;
const COUNTS: u32 = REFS + RECORD_SAMPLES * 4 + 64;
const TIMESTAMPS: u32 = COUNTS + RECORD_SAMPLES * 4 + 64;
const VALUES: u32 = TIMESTAMPS + RECORD_SAMPLES * 8 + 64;
const INPUT_BYTES: u32 = VALUES + RECORD_SAMPLES * 8 + 64;

// Lists of the result in the LISTS buffer. A run is named at most once as unknown, once as undefined; a sample at most
// once as rejected.
const UNKNOWN: u32 = 0;
const UNDEFINED: u32 = UNKNOWN + RECORD_SAMPLES * 4;
const REJECTIONS: u32 = UNDEFINED + RECORD_SAMPLES * 4;
const REJECTION_BYTES: u32 = 24;
const LISTS_BYTES: u32 = REJECTIONS + RECORD_SAMPLES * REJECTION_BYTES;

/** Why samples are rejected; the door names them. */
const OLD: u32 = 0;
const AHEAD: u32 = 1;
const NEGATIVE: u32 = 2;
const WINDOWS: u32 = 3;
const MEMORY: u32 = 4;

@unmanaged
export class SliceResult {
  accepted: u32;
  record: usize;
  recordBytes: u32;
  unknown: usize;
  unknownCount: u32;
  undefined: usize;
  undefinedCount: u32;
  /** u32 ref, u32 SeriesId, u32 reason, u32 samples, i64 first timestamp. */
  rejections: usize;
  rejectionCount: u32;
}

const result: SliceResult = changetype<SliceResult>(memory.data(36, 4));

export function sliceResult(): SliceResult {
  return result;
}

/** Where the columns of a slice go: refs here, the others at the offsets that the door asks for below. 0: memory is full. */
export function sliceInput(): usize {
  return scratch(INPUT, INPUT_BYTES);
}

export function countsOffset(): u32 {
  return COUNTS;
}

export function timestampsOffset(): u32 {
  return TIMESTAMPS;
}

export function valuesOffset(): u32 {
  return VALUES;
}

/** Runs whose headers are touched ahead of use, so that their cache misses overlap. */
const AHEAD_RUNS: u32 = 16;
/** Per run of the group: u32 slot + 1, 0 for an unknown reference. */
const group: usize = memory.data(AHEAD_RUNS * 4, 16);
/** Keeps the touching loads from being optimised away. */
let touched: u32 = 0;

let rejectionsAt: usize = 0;

/** Counts a rejected sample; samples of one run with one reason share an entry. `from` is the run's first entry. */
function reject(from: usize, ref: u32, sid: u32, reason: u32, timestamp: i64): void {
  for (let at = from; at < rejectionsAt; at += REJECTION_BYTES) {
    if (load<u32>(at, 8) != reason) continue;
    store<u32>(at, load<u32>(at, 12) + 1, 12);
    return;
  }
  store<u32>(rejectionsAt, ref);
  store<u32>(rejectionsAt, sid, 4);
  store<u32>(rejectionsAt, reason, 8);
  store<u32>(rejectionsAt, 1, 12);
  store<i64>(rejectionsAt, timestamp, 16);
  rejectionsAt += REJECTION_BYTES;
}

/**
 * Appends the slice in INPUT: `runs` and `samples` at most RECORD_SAMPLES; without `counted` every run has one sample.
 * Only timestamps in [minTimestamp, maxTimestamp] are admitted (min >= 0). The outcome is in `sliceResult()`. False when
 * memory does not even suffice for the scratch buffers.
 *
 * What is accepted is moved together in place, SeriesIds in place of references, so that the record is made of columns.
 */
export function appendSlice(refs: Refs, runs: u32, samples: u32, counted: bool, minTimestamp: i64, maxTimestamp: i64, encode: bool): bool {
  const input = scratch(INPUT, INPUT_BYTES);
  const lists = scratch(LISTS, LISTS_BYTES);
  if (input == 0 || lists == 0 || !reserveRecord()) return false;
  const room = reserveSlice(samples) && minTimestamp <= maxTimestamp;
  const admitted = <u64>(maxTimestamp - minTimestamp);
  let unknownAt = lists + UNKNOWN;
  let undefinedAt = lists + UNDEFINED;
  rejectionsAt = lists + REJECTIONS;
  // Where the next sample is read, and where the next accepted one goes.
  let sampleAt: usize = 0;
  let acceptedAt: usize = 0;
  let acceptedRuns: usize = 0;
  let pushed: u32 = 0;
  // Neighbours mostly share their window, so its count is only touched when the window changes.
  let hotStart: i64 = -1;
  let hotAppends: u32 = 0;
  let touches: u32 = 0;

  for (let groupStart: u32 = 0; groupStart < runs; groupStart += AHEAD_RUNS) {
    const groupRuns = min(AHEAD_RUNS, runs - groupStart);
    const refAt = input + REFS + (<usize>groupStart << 2);
    const countAt = input + COUNTS + (<usize>groupStart << 2);
    for (let i: usize = 0; i < groupRuns; i++) {
      const tagged = resolveRef(refs, load<u32>(refAt + (i << 2)));
      store<u32>(group + (i << 2), tagged);
      // Without a run this touches address 0, which is harmless.
      if (tagged != 0) touches += load<u8>(changetype<usize>(slotOf(tagged - 1).run));
    }
    for (let i: usize = 0; i < groupRuns; i++) {
      const tagged = load<u32>(group + (i << 2));
      const count: u32 = counted ? load<u32>(countAt + (i << 2)) : 1;
      if (tagged == 0) {
        store<u32>(unknownAt, load<u32>(refAt + (i << 2)));
        unknownAt += 4;
        sampleAt += <usize>count << 3;
        continue;
      }
      const sid = tagged - 1;
      const slot = slotOf(sid);
      const runRejections = rejectionsAt;
      const runStart = acceptedAt;
      const runEnd = sampleAt + (<usize>count << 3);
      for (; sampleAt < runEnd; sampleAt += 8) {
        const timestamp = load<i64>(input + sampleAt, TIMESTAMPS);
        const value = load<u64>(input + sampleAt, VALUES);
        if (<u64>(timestamp - minTimestamp) > admitted || !room) {
          const reason = timestamp < 0 ? NEGATIVE
            : timestamp < minTimestamp ? OLD
            : timestamp > maxTimestamp ? AHEAD
            : MEMORY;
          reject(runRejections, load<u32>(refAt + (i << 2)), sid, reason, timestamp);
          continue;
        }
        const run = slot.run;
        if (isNext(run, timestamp)) {
          const windowStart = run!.windowStart;
          push(run!, <u32>(timestamp - windowStart), value);
          pushed++;
          if (windowStart != hotStart) {
            if (hotAppends != 0) countAppends(hotStart, hotAppends);
            hotStart = windowStart;
            hotAppends = 0;
          }
          hotAppends++;
        } else if (!insert(slot, sid, timestamp, value)) {
          reject(runRejections, load<u32>(refAt + (i << 2)), sid, WINDOWS, timestamp);
          continue;
        }
        if (acceptedAt != sampleAt) {
          store<i64>(input + acceptedAt, timestamp, TIMESTAMPS);
          store<u64>(input + acceptedAt, value, VALUES);
        }
        acceptedAt += 8;
      }
      if (acceptedAt == runStart) continue;
      // References that come later lie behind: a slice never accepts more runs than it has read.
      store<u32>(input + (acceptedRuns << 2), sid, REFS);
      store<u32>(input + (acceptedRuns << 2), <u32>(acceptedAt - runStart) >> 3, COUNTS);
      acceptedRuns++;
      if (encode && markDefined(slot)) {
        store<u32>(undefinedAt, sid);
        undefinedAt += 4;
      }
    }
  }
  touched = touches;
  if (hotAppends != 0) countAppends(hotStart, hotAppends);
  countSamples(pushed);

  const accepted = <u32>acceptedAt >> 3;
  result.accepted = accepted;
  result.recordBytes = encode && accepted != 0
    ? writeRecord(<u32>acceptedRuns, accepted, input + REFS, input + COUNTS, input + TIMESTAMPS, input + VALUES)
    : 0;
  result.record = scratch(OUTPUT, 0);
  result.unknown = lists + UNKNOWN;
  result.unknownCount = <u32>(unknownAt - lists - UNKNOWN) >> 2;
  result.undefined = lists + UNDEFINED;
  result.undefinedCount = <u32>(undefinedAt - lists - UNDEFINED) >> 2;
  result.rejections = lists + REJECTIONS;
  result.rejectionCount = <u32>(rejectionsAt - lists - REJECTIONS) / REJECTION_BYTES;
  return true;
}
