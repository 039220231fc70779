/**
 * A slice of a batch: references to series, admission, samples into runs; then the log record of what was accepted.
 */
import { nextEntry } from './backlog';
import { countAppends, countSamples, insert, isNext, lateSamples, reserveSlice } from './insert';
import { RECORD_SAMPLES, reserveRecord, writeRecord } from './record';
import { resolveRefs, Refs } from './refs';
import { INPUT, LISTS, OUTPUT, scratch } from './scratch';
import { push, Run } from './run';
import { markDefined, slotOf, Slot } from './series';

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

/**
 * Runs are handled in groups, whose memory is touched ahead of use: first all headers, then where their next samples go, in
 * loops so short that the cache misses of a whole group are under way at once. With a million series that is what counts.
 */
const GROUP_RUNS: u32 = 32;
/** Per run of the group: u32 slot + 1, 0 for an unknown reference. */
const groupSlots: usize = memory.data(GROUP_RUNS * 4, 16);
/** Per run of the group: its address, 0 where there is none yet. */
const groupRuns: usize = memory.data(GROUP_RUNS * 4, 16);
/** Keeps the touching loads from being optimised away. */
let touched: u32 = 0;

/** Late samples so far, before the group that was stored last. */
let lateBefore: u32 = 0;

function touchGroup(count: usize): void {
  let sum: u32 = 0;
  for (let i: usize = 0; i < count; i++) {
    const tagged = load<u32>(groupSlots + (i << 2));
    store<u32>(groupRuns + (i << 2), tagged == 0 ? 0 : <u32>changetype<usize>(slotOf(tagged - 1).run));
  }
  // Address 0, where a run is missing, holds zeros: touching it and what it points to is harmless.
  for (let i: usize = 0; i < count; i++) sum += load<u8>(<usize>load<u32>(groupRuns + (i << 2)));
  // Where samples of the last group came late, those of the next will too.
  const late = lateSamples();
  const lately = late - lateBefore;
  if (lately <= GROUP_RUNS - GROUP_RUNS / 8) {
    for (let i: usize = 0; i < count; i++) sum += load<u8>(groupRun(i).tail);
  }
  if (lately > GROUP_RUNS / 8) {
    for (let i: usize = 0; i < count; i++) sum += load<u8>(nextEntry(groupRun(i)));
  }
  lateBefore = late;
  touched = sum;
}

@inline function groupRun(i: usize): Run {
  return changetype<Run>(<usize>load<u32>(groupRuns + (i << 2)));
}

let minAdmitted: i64 = 0;
let maxAdmitted: i64 = 0;
let room: bool = false;
let unknownAt: usize = 0;
let rejectionsAt: usize = 0;
/** First entry of the run that is being stored. */
let runRejections: usize = 0;

function nameUnknown(ref: u32): void {
  store<u32>(unknownAt, ref);
  unknownAt += 4;
}

/** Counts a rejected sample; samples of one run with one reason share an entry. */
function reject(ref: u32, sid: u32, reason: u32, timestamp: i64): void {
  for (let at = runRejections; at < rejectionsAt; at += REJECTION_BYTES) {
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

/** What is not the usual case: stores the sample or rejects it. True when it is stored. */
function storeOther(slot: Slot, sid: u32, ref: u32, timestamp: i64, value: u64): bool {
  let reason = MEMORY;
  if (timestamp < 0) reason = NEGATIVE;
  else if (timestamp < minAdmitted) reason = OLD;
  else if (timestamp > maxAdmitted) reason = AHEAD;
  else if (room) {
    if (insert(slot, sid, timestamp, value)) return true;
    reason = WINDOWS;
  }
  reject(ref, sid, reason, timestamp);
  return false;
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
  room = reserveSlice(samples);
  minAdmitted = minTimestamp;
  maxAdmitted = maxTimestamp;
  // The usual case is tested with one comparison. Where nothing is usual, only -1 passes it, and no run takes that.
  const usual = room && minTimestamp <= maxTimestamp;
  const lowest = usual ? minTimestamp : -1;
  const width = usual ? <u64>(maxTimestamp - minTimestamp) : 0;
  unknownAt = lists + UNKNOWN;
  rejectionsAt = lists + REJECTIONS;
  let undefinedAt = lists + UNDEFINED;
  // Where the next sample is read, and where the next accepted one goes.
  let sampleAt: usize = 0;
  let acceptedAt: usize = 0;
  let acceptedRuns: usize = 0;
  let pushed: u32 = 0;
  // Neighbours mostly share their window, so its count is only touched when the window changes.
  let hotStart: i64 = -1;
  let hotPushed: u32 = 0;

  for (let groupStart: u32 = 0; groupStart < runs; groupStart += GROUP_RUNS) {
    const groupLength = <usize>min(GROUP_RUNS, runs - groupStart);
    const refAt = input + REFS + (<usize>groupStart << 2);
    resolveRefs(refs, refAt, groupLength, groupSlots);
    touchGroup(groupLength);
    for (let i: usize = 0; i < groupLength; i++) {
      const tagged = load<u32>(groupSlots + (i << 2));
      const runEnd = sampleAt + (counted ? <usize>load<u32>(refAt + (i << 2), COUNTS - REFS) << 3 : 8);
      if (tagged == 0) {
        nameUnknown(load<u32>(refAt + (i << 2)));
        sampleAt = runEnd;
        continue;
      }
      const sid = tagged - 1;
      const slot = slotOf(sid);
      const runStart = acceptedAt;
      runRejections = rejectionsAt;
      for (; sampleAt < runEnd; sampleAt += 8) {
        const timestamp = load<i64>(input + sampleAt, TIMESTAMPS);
        const value = load<u64>(input + sampleAt, VALUES);
        const run = slot.run;
        if (<u64>(timestamp - lowest) <= width && isNext(run, timestamp)) {
          const windowStart = run!.windowStart;
          if (windowStart != hotStart) {
            countAppends(hotStart, pushed - hotPushed);
            hotStart = windowStart;
            hotPushed = pushed;
          }
          push(run!, <u32>(timestamp - windowStart), value);
          pushed++;
        } else if (!storeOther(slot, sid, load<u32>(refAt + (i << 2)), timestamp, value)) {
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
      if (counted) store<u32>(input + (acceptedRuns << 2), <u32>(acceptedAt - runStart) >> 3, COUNTS);
      acceptedRuns++;
      if (encode && markDefined(slot)) {
        store<u32>(undefinedAt, sid);
        undefinedAt += 4;
      }
    }
  }
  countAppends(hotStart, pushed - hotPushed);
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
