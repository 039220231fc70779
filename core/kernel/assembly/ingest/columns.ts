/**
 * What a slice of a body gave. While it is read, samples and runs are kept in body order; `scatter`
 * then lays them out shard by shard, which is exact in size and needs no guess of how a body spreads.
 *
 * A run (16 bytes): u32 shard, u32 reference, u32 samples, u32 first sample.
 * A shard's tally (32 bytes): u32 runs, u32 samples, then the write positions of scatter:
 *     u32 refs, u32 counts (0: every run has one sample), u32 timestamps, u32 values.
 * A directory entry (28 bytes): u32 shard, u32 runs, u32 samples, and the addresses of
 *     refs u32[], counts u32[] (0: none), timestamps i64[], values u64[].
 */
import { SLACK, lay } from './state';

/** Samples in a slice. With 230 bytes of body a sample, and no series known, about 3 ms. */
export const SLICE: u32 = 16384;

let shardCount: u32 = 0;
export let timestamps: usize = 0;
export let values: usize = 0;
let runs: usize = 0;
let tallies: usize = 0;
let directory: usize = 0;
let output: usize = 0;
let outputEnd: usize = 0;
let runCount: u32 = 0;
let shardsUsed: u32 = 0;

export function prepareColumns(count: u32): void {
  shardCount = count;
  timestamps = lay((<usize>SLICE << 3) + SLACK);
  values = lay((<usize>SLICE << 3) + SLACK);
  runs = lay(<usize>SLICE << 4);
  tallies = lay(<usize>count << 5);
  directory = lay(<usize>count * 28);
  // refs and counts 4 bytes each, timestamps and values 8 each; refs and counts padded to 8 bytes per shard
  output = lay(<usize>SLICE * 24 + <usize>count * 16 + SLACK);
}

export function directoryStart(): usize {
  return directory;
}
export function outputStart(): usize {
  return output;
}
export function outputBytes(): usize {
  return outputEnd - output;
}

export function startSlice(): void {
  runCount = 0;
}

/** Notes that samples [first, first + count) are of this series. `count` is at least 1. */
@inline export function addRun(shard: u32, ref: u32, first: u32, count: u32): void {
  const run = runs + (<usize>runCount << 4);
  runCount++;
  store<u32>(run, shard);
  store<u32>(run, ref, 4);
  store<u32>(run, count, 8);
  store<u32>(run, first, 12);
  const tally = tallies + (<usize>shard << 5);
  store<u32>(tally, load<u32>(tally) + 1);
  store<u32>(tally, load<u32>(tally, 4) + count, 4);
}

/** Forgets the runs of a slice that will not be handed out. */
export function dropRuns(): void {
  memory.fill(tallies, 0, <usize>shardCount << 5);
  runCount = 0;
}

/** Lays the slice out by shard; returns the number of directory entries. */
export function scatter(): u32 {
  shardsUsed = 0;
  let at = output;
  for (let shard: u32 = 0; shard < shardCount; shard++) {
    const tally = tallies + (<usize>shard << 5);
    const runsHere = load<u32>(tally);
    if (runsHere == 0) continue;
    const samplesHere = load<u32>(tally, 4);
    const entry = directory + <usize>shardsUsed * 28;
    shardsUsed++;
    store<u32>(entry, shard);
    store<u32>(entry, runsHere, 4);
    store<u32>(entry, samplesHere, 8);
    const column = ((<usize>runsHere << 2) + 7) & ~7;
    store<u32>(entry, <u32>at, 12);
    store<u32>(tally, <u32>at, 8);
    at += column;
    const plain = runsHere == samplesHere;
    store<u32>(entry, plain ? 0 : <u32>at, 16);
    store<u32>(tally, plain ? 0 : <u32>at, 12);
    if (!plain) at += column;
    store<u32>(entry, <u32>at, 20);
    store<u32>(tally, <u32>at, 16);
    at += <usize>samplesHere << 3;
    store<u32>(entry, <u32>at, 24);
    store<u32>(tally, <u32>at, 20);
    at += <usize>samplesHere << 3;
    store<u64>(tally, 0);
  }
  outputEnd = at;
  const end = runs + (<usize>runCount << 4);
  for (let run = runs; run < end; run += 16) {
    const tally = tallies + (<usize>load<u32>(run) << 5);
    const count = load<u32>(run, 8);
    const first = <usize>load<u32>(run, 12) << 3;
    const ref = <usize>load<u32>(tally, 8);
    store<u32>(ref, load<u32>(run, 4));
    store<u32>(tally, <u32>ref + 4, 8);
    const counts = <usize>load<u32>(tally, 12);
    const toTimestamps = <usize>load<u32>(tally, 16);
    const toValues = <usize>load<u32>(tally, 20);
    if (counts == 0) {
      store<u64>(toTimestamps, load<u64>(timestamps + first));
      store<u64>(toValues, load<u64>(values + first));
      store<u32>(tally, <u32>toTimestamps + 8, 16);
      store<u32>(tally, <u32>toValues + 8, 20);
      continue;
    }
    store<u32>(counts, count);
    store<u32>(tally, <u32>counts + 4, 12);
    const bytes = <usize>count << 3;
    for (let i: usize = 0; i < bytes; i += 8) {
      store<u64>(toTimestamps + i, load<u64>(timestamps + first + i));
      store<u64>(toValues + i, load<u64>(values + first + i));
    }
    store<u32>(tally, <u32>(toTimestamps + bytes), 16);
    store<u32>(tally, <u32>(toValues + bytes), 20);
  }
  runCount = 0;
  return shardsUsed;
}
