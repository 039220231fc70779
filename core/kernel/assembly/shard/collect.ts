/** Gathers all samples that are known of a series in a window into one set: open run, backlog, block. */
import { backlogColumns, backlogCount, isDisordered } from './backlog';
import { chunkCount, chunkMin, decodeChunk } from './chunk';
import { mergeSets, sortSamples } from './merge';
import { decodeStream, gather, streamBound, Run } from './run';
import { ALL, BLOCK, LATE, LIVE, MERGED, STREAM, WORK, scratch } from './scratch';

/** Outcomes of `collect`. */
export const COLLECTED: i32 = 0;
export const NO_ROOM: i32 = -1;
export const BROKEN: i32 = -2;

/** The set that the last `collect` made: strictly rising offsets, and values. Empty when there was nothing. */
export let setCount: u32 = 0;
export let setOffsets: usize = 0;
export let setValues: usize = 0;

/** Bytes of scratch that collecting `count` samples may ask for, at most. */
export function collectBound(count: u32): u32 {
  return count * 160 + 65536;
}

/**
 * Collects a run and the chunk of a block (each may be missing: null, 0). The chunk has passed `isChunk` and lies within
 * the window. BROKEN: the chunk's body is.
 */
export function collect(run: Run | null, block: usize, blockBytes: u32, windowStart: i64): i32 {
  setCount = 0;
  if (run != null) {
    const outcome = collectRun(run);
    if (outcome != COLLECTED) return outcome;
  }
  if (block == 0) return COLLECTED;
  const count = chunkCount(block);
  const offsets = scratch(BLOCK, count << 2);
  const values = scratch(BLOCK + 1, count << 3);
  if (offsets == 0 || values == 0) return NO_ROOM;
  if (!decodeChunk(block, blockBytes, <u32>(chunkMin(block) - windowStart), offsets, values)) return BROKEN;
  if (setCount == 0) return take(count, offsets, values);
  const allOffsets = scratch(ALL, (setCount + count) << 2);
  const allValues = scratch(ALL + 1, (setCount + count) << 3);
  if (allOffsets == 0 || allValues == 0) return NO_ROOM;
  const all = mergeSets(setCount, setOffsets, setValues, count, offsets, values, allOffsets, allValues);
  return take(all, allOffsets, allValues);
}

function take(count: u32, offsets: usize, values: usize): i32 {
  setCount = count;
  setOffsets = offsets;
  setValues = values;
  return COLLECTED;
}

/**
 * Takes out of the collected set what is deleted: `count` pairs of u32 offsets at `dead`, first and last, in order, apart
 * from one another.
 */
export function dropDead(dead: usize, count: u32): void {
  const end = dead + (<usize>count << 3);
  let kept: usize = 0;
  for (let i: usize = 0; i < setCount; i++) {
    const offset = load<u32>(setOffsets + (i << 2));
    while (dead < end && load<u32>(dead, 4) < offset) dead += 8;
    if (dead < end && load<u32>(dead) <= offset) continue;
    if (kept != i) {
      store<u32>(setOffsets + (kept << 2), offset);
      store<u64>(setValues + (kept << 3), load<u64>(setValues + (i << 3)));
    }
    kept++;
  }
  setCount = <u32>kept;
}

function collectRun(run: Run): i32 {
  const count = run.count;
  const stream = scratch(STREAM, streamBound(count));
  const offsets = scratch(LIVE, count << 2);
  const values = scratch(LIVE + 1, count << 3);
  if (stream == 0 || offsets == 0 || values == 0) return NO_ROOM;
  if (!decodeStream(stream, gather(run, stream), count, run.firstOffset, offsets, values)) return BROKEN;
  if (run.backlog == 0) return take(count, offsets, values);

  let late = backlogCount(run);
  let lateOffsets = scratch(LATE, late << 2);
  let lateValues = scratch(LATE + 1, late << 3);
  if (lateOffsets == 0 || lateValues == 0) return NO_ROOM;
  backlogColumns(run, lateOffsets, lateValues);
  if (isDisordered(run)) {
    const keys = scratch(WORK, late << 4);
    const sortedOffsets = scratch(ALL, late << 2);
    const sortedValues = scratch(ALL + 1, late << 3);
    if (keys == 0 || sortedOffsets == 0 || sortedValues == 0) return NO_ROOM;
    late = sortSamples(late, lateOffsets, lateValues, keys, sortedOffsets, sortedValues);
    lateOffsets = sortedOffsets;
    lateValues = sortedValues;
  }
  const mergedOffsets = scratch(MERGED, (count + late) << 2);
  const mergedValues = scratch(MERGED + 1, (count + late) << 3);
  if (mergedOffsets == 0 || mergedValues == 0) return NO_ROOM;
  const merged = mergeSets(count, offsets, values, late, lateOffsets, lateValues, mergedOffsets, mergedValues);
  return take(merged, mergedOffsets, mergedValues);
}
