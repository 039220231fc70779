/** Damaged files under real processes: found, set aside, reported; the node starts, says what is missing, serves the rest. */
import { appendFileSync, existsSync, readFileSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { violations } from '../../chaos/history.ts';
import { eventually } from '../local/cluster.ts';
import { CrashCluster, filesIn, flipByte, frameOffsets } from './cluster.ts';

let cluster: CrashCluster;
afterEach(() => cluster.close());

/** Nothing is lost, wrong or said to be missing. */
async function expectWhole(): Promise<void> {
  const { verdict, gaps, counted, state } = await cluster.read();
  expect(violations(verdict)).toEqual([]);
  expect({ gaps, counted, state }).toEqual({ gaps: [], counted: verdict.seenCount, state: 'complete' });
}

/** Samples are lost, all of one shard, and that shard says so in both kinds of answers; the rest is there. */
async function expectGap(shard: number, reason: RegExp): Promise<number> {
  const { verdict, gaps, counted, state, reasons } = await cluster.read();
  expect(verdict.wrong).toEqual([]);
  expect(counted).toBe(verdict.seenCount);
  expect(gaps.length).toBeGreaterThan(0);
  for (const gap of gaps) {
    expect(gap).toMatchObject({ shard, state: 'missing', reason: expect.stringMatching(reason) });
    for (const ranges of verdict.lost.values()) {
      for (const [from, to] of ranges) {
        expect(gap.fromMs).toBeLessThanOrEqual(cluster.history.timeMs(from));
        expect(gap.toMs).toBeGreaterThanOrEqual(cluster.history.timeMs(to - 1));
      }
    }
  }
  expect(state).toBe('missing');
  expect(reasons.join()).toMatch(reason);
  return verdict.lostCount;
}

async function expectReported(shard: number, node: string, words: RegExp): Promise<void> {
  expect(await cluster.problemOf(shard)).toMatch(words);
  await eventually(() => expect(cluster.processes.logOf(node)).toMatch(words), 15_000);
}

describe('the log', () => {
  test('an unfinished frame at its end is cut and reported, and nothing acknowledged is lost', async () => {
    cluster = await CrashCluster.start();
    for (let tick = 0; tick < 40; tick += 10) await cluster.ticks(tick, tick + 10);
    const { node, directory } = await cluster.placeOf(1);
    await cluster.processes.kill();
    const segment = filesIn(join(directory, 'log'), '.log').at(-1) as string;
    const [last, end] = frameOffsets(segment).slice(-2) as [number, number];
    const frame = readFileSync(segment).subarray(last, end);
    // What a write leaves that was cut off: the frame's beginning, without its end.
    appendFileSync(segment, frame.subarray(0, frame.length >> 1));
    await cluster.restart();
    await expectReported(1, node, /an unfinished tail was cut off the log/);
    expect(statSync(segment).size).toBe(end);
    await expectWhole();
    await cluster.ticks(40, 50);
    await expectWhole();
  });

  test('truncated within its last frame: that is cut, everything before it is there', async () => {
    cluster = await CrashCluster.start();
    for (let tick = 0; tick < 40; tick += 10) await cluster.ticks(tick, tick + 10);
    const { node, directory } = await cluster.placeOf(0);
    await cluster.processes.kill();
    const segment = filesIn(join(directory, 'log'), '.log').at(-1) as string;
    truncateSync(segment, statSync(segment).size - 7);
    await cluster.restart();
    await expectReported(0, node, /an unfinished tail was cut off the log/);
    const { verdict } = await cluster.read();
    expect(verdict.wrong).toEqual([]);
    expect(verdict.lostCount).toBeGreaterThan(0);
    for (const ranges of verdict.lost.values()) expect([...ranges]).toEqual([[30, 40]]);
  });

  test('a flipped byte in its middle is set aside, what it held is declared missing, the rest is served', async () => {
    cluster = await CrashCluster.start();
    for (let tick = 0; tick < 60; tick += 10) await cluster.ticks(tick, tick + 10);
    const { node, directory } = await cluster.placeOf(1);
    await cluster.processes.kill();
    const segment = filesIn(join(directory, 'log'), '.log').at(-1) as string;
    const offsets = frameOffsets(segment);
    const middle = offsets.length >> 1;
    const [from, to] = [offsets[middle] as number, offsets[middle + 1] as number];
    flipByte(segment, (from + to) >> 1);
    await cluster.restart();
    await expectReported(1, node, /the log is damaged \(set aside in .*\.quarantine\)/);
    expect(filesIn(join(directory, 'log'), '.quarantine').map((path) => statSync(path).size)).toEqual([to - from]);
    const lostCount = await expectGap(1, /the log is damaged/);
    expect(lostCount).toBeGreaterThan(0);
    expect(lostCount).toBeLessThanOrEqual(32 * 20);
    await cluster.ticks(60, 70);
    await expectGap(1, /the log is damaged/);
  });
});

test('a checkpoint with a flipped byte is set aside and reported, and nothing is lost', async () => {
  cluster = await CrashCluster.start();
  // Enough for the log of every shard to be worth a checkpoint at an orderly stop.
  await cluster.bulk(0, 14_300);
  const { node, directory } = await cluster.placeOf(0);
  await cluster.processes.stop();
  const [checkpoint] = filesIn(join(directory, 'checkpoints'), '.ckpt');
  flipByte(checkpoint as string, statSync(checkpoint as string).size >> 1);
  await cluster.restart();
  await expectReported(0, node, /checkpoint .* is unsound and lies in .*\.quarantine now/);
  expect(existsSync(`${checkpoint}.quarantine`)).toBe(true);
  await expectWhole();
});

describe('a block', () => {
  test.each([
    ['its samples', (size: number) => Math.floor(size * 0.3)],
    ['its footer', (size: number) => size - 60],
  ])('with a flipped byte in %s is set aside, its window is declared missing, the rest is served', async (_, place) => {
    // So little memory that a window which is no longer written to is sealed at once. Series must be known by then.
    cluster = await CrashCluster.start({ nodeArgs: ['--memory-budget', '6MiB'] });
    for (const [from, to] of [
      [0, 1],
      [1, 7_200],
      [7_200, 14_300],
    ] as const)
      await cluster.bulk(from, to);
    const { node, directory } = await cluster.placeOf(1);
    const blocks = () => filesIn(join(directory, 'blocks'), '.block');
    await eventually(() => expect(blocks().length).toBeGreaterThan(0), 30_000);
    // Two checkpoints later the log no longer holds what the block holds.
    await cluster.processes.stop();
    await cluster.restart();
    await cluster.ticks(14_300, 14_310);
    await cluster.processes.stop();
    expect(filesIn(join(directory, 'checkpoints'), '.ckpt')).toHaveLength(2);
    const [block] = blocks();
    flipByte(block as string, place(statSync(block as string).size));
    await cluster.restart();
    // Damage in samples is noticed by the read that needs them, which then lacks more than the block.
    const first = await cluster.read();
    expect([first.state, first.verdict.wrong]).toEqual(['missing', []]);
    await expectReported(1, node, /block .* is unsound and lies in .*quarantine now/);
    expect(existsSync(block as string)).toBe(false);
    expect(await expectGap(1, /its block .* was damaged/)).toBeGreaterThan(0);
    // The gap outlives the process.
    await cluster.processes.kill();
    await cluster.restart();
    await expectGap(1, /its block .* was damaged/);
  });
});
