/**
 * Puts samples into runs: other windows of the series, new runs, late samples, and merging a backlog that has grown large.
 * (The usual case, a sample that comes next in the current run, is two lines that callers have in their loop: `isNext`, `push`.)
 */
import { backlogCount, defer, freeBacklog } from './backlog';
import { COLLECTED, collect, collectBound, setCount, setOffsets, setValues } from './collect';
import { allocCell, freeCell, reserve } from './memory';
import { WINDOW_MS, windowOf, winner } from './rule';
import { RUN_BYTES, Run, SEALED, SEGMENT_PAYLOAD, freeStream, push, start, streamBound } from './run';
import { Slot } from './series';
import { findWindow, listEntry, listRun, openWindow, unlistRun, Window } from './windows';

/** Samples of the largest slice. Room for one is kept while a backlog is merged, so that the slice that caused it can end. */
const SLICE_SAMPLES: u32 = 8192;
/** A backlog is merged when it has more entries than this, and more than the run has samples. */
const BACKLOG_BOUND: u32 = 64;

let runs: u32 = 0;
let samples: i64 = 0;
let late: u32 = 0;

export function openRuns(): u32 {
  return runs;
}

export function openSamples(): f64 {
  return <f64>samples;
}

/** Late samples since the beginning, modulo 2^32. */
@inline export function lateSamples(): u32 {
  return late;
}

/**
 * Before up to 8192 samples are inserted; false when memory is too full for them. A sample costs at most a run with its
 * first segment, a segment that the stream goes on in, and one of a backlog; and a share of a window's list.
 */
export function reserveSlice(sampleCount: u32): bool {
  return reserve(sampleCount, 3 * sampleCount, sampleCount * 64);
}

/** Counts samples that went into an open window. */
export function countAppends(windowStart: i64, count: u32): void {
  if (count == 0) return;
  const window = findWindow(windowStart);
  if (window != null) window.appends += count;
}

/** Counts samples that were pushed onto runs, or that came with a run from a checkpoint. */
export function countSamples(count: u32): void {
  samples += count;
}

/** Does the sample lie behind the run's last one, in the run's window? Then it may be pushed at once: the usual case. */
@inline export function isNext(run: Run | null, timestamp: i64): bool {
  if (run == null) return false;
  const offset = timestamp - run.windowStart;
  return <u64>offset < <u64>WINDOW_MS && <u32>offset > run.lastOffset;
}

/**
 * Stores a sample (timestamp >= 0) of a series in use: in another window than the current run's, in a new run, or late.
 * False when its window is not open and cannot be opened. Memory is reserved.
 */
export function insert(slot: Slot, sid: u32, timestamp: i64, value: u64): bool {
  let run = slot.run;
  if (run == null || <u64>(timestamp - run.windowStart) >= <u64>WINDOW_MS) {
    const windowStart = windowOf(timestamp);
    run = findRun(slot, windowStart);
    if (run == null) return beginRun(slot, sid, windowStart, timestamp, value);
  }
  const offset = <u32>(timestamp - run.windowStart);
  if (offset > run.lastOffset) {
    push(run, offset, value);
    samples++;
  } else {
    insertLate(run, offset, value);
  }
  countAppends(run.windowStart, 1);
  return true;
}

function beginRun(slot: Slot, sid: u32, windowStart: i64, timestamp: i64, value: u64): bool {
  const window = openWindow(windowStart);
  if (window == null) return false;
  start(createRun(slot, sid, window), <u32>(timestamp - windowStart), value);
  samples++;
  window.appends++;
  return true;
}

/** The series' run in a window; it is moved to the front of the chain, where the next sample finds it at once. */
export function findRun(slot: Slot, windowStart: i64): Run | null {
  let before: Run | null = null;
  let run = slot.run;
  while (run != null) {
    if (run.windowStart == windowStart) {
      if (before != null) {
        before.next = run.next;
        run.next = slot.run;
        slot.run = run;
      }
      return run;
    }
    before = run;
    run = run.next;
  }
  return null;
}

/** A run without a stream, at the front of the series' chain and in the window's list. Memory is reserved. */
export function createRun(slot: Slot, sid: u32, window: Window): Run {
  const run = changetype<Run>(allocCell(RUN_BYTES));
  run.windowStart = window.start;
  run.backlog = 0;
  run.backlogCount = 0;
  run.next = slot.run;
  slot.run = run;
  listRun(window, changetype<usize>(run), sid);
  runs++;
  return run;
}

/** A sample at or before the run's last one. */
function insertLate(run: Run, offset: u32, value: u64): void {
  // Nothing to do for a repetition of the last sample, or when the one that is there wins.
  if (offset == run.lastOffset && winner(run.lastValue, value) == run.lastValue) return;
  defer(run, offset, value);
  late++;
  run.meta &= ~SEALED;
  samples++;
  if (backlogCount(run) > max(BACKLOG_BOUND, run.count)) mergeBacklog(run);
}

/** Merges the backlog into the stream. Left undone while memory is too full: the backlog goes on growing then. */
function mergeBacklog(run: Run): void {
  const before = run.count + backlogCount(run);
  const segments = streamBound(before) / SEGMENT_PAYLOAD + 2;
  if (!reserve(SLICE_SAMPLES, 3 * SLICE_SAMPLES + segments, 64 * SLICE_SAMPLES + collectBound(before))) return;
  if (collect(run, 0, 0, run.windowStart) != COLLECTED) return;
  freeStream(run);
  freeBacklog(run);
  const count = setCount;
  const offsets = setOffsets;
  const values = setValues;
  start(run, load<u32>(offsets), load<u64>(values));
  for (let i: usize = 1; i < count; i++) push(run, load<u32>(offsets + (i << 2)), load<u64>(values + (i << 3)));
  samples += <i64>count - <i64>before;
}

/** Frees the run at a position of its window's list. */
export function freeRun(slot: Slot, run: Run, window: Window, position: u32): void {
  if (slot.run == run) {
    slot.run = run.next;
  } else {
    let before = slot.run!;
    while (before.next != run) before = before.next!;
    before.next = run.next;
  }
  samples -= run.count;
  freeStream(run);
  samples -= backlogCount(run);
  freeBacklog(run);
  freeCell(changetype<usize>(run), RUN_BYTES);
  unlistRun(window, position);
  runs--;
}

/** The run at a position of a window's list; null where it was freed. */
@inline export function listedRun(window: Window, position: u32): Run | null {
  const entry = listEntry(window, position);
  return entry == 0 ? null : changetype<Run>(<usize>load<u32>(entry));
}
