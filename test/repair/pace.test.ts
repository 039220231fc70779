import { describe, expect, test } from 'vitest';
import { Pace } from '../../node/repair/pace.ts';

const MIB = 2 ** 20;
const { signal } = new AbortController();

/** Gives pieces of 64 KiB, each so long after the one before was paid for; resolves with the pace and the time that passes. */
function giving(isBusy = false) {
  let nowMs = 1_000;
  const after = (delayMs: number, run: () => void) => {
    nowMs += delayMs;
    queueMicrotask(run);
    return { cancel: () => undefined };
  };
  const env = {
    clock: { nowMs: () => nowMs, monotonicMs: () => nowMs },
    timers: { after, every: after, yield: async () => undefined },
  };
  const pace = new Pace({ env, bytesPerSecond: 4 * MIB, isBusy: () => isBusy });
  return {
    pace,
    wait: (delayMs: number) => {
      nowMs += delayMs;
    },
    async give(byteCount: number, pauseMs = 0) {
      for (let given = 0; given < byteCount; given += MIB / 16) {
        await pace.spend(MIB / 16, signal);
        nowMs += pauseMs;
      }
    },
  };
}

describe('what a node gives in a second', () => {
  test('is not known before it gave something, nor from a little', async () => {
    const { pace, give } = giving();
    expect(pace.measuredBytesPerSecond).toBeUndefined();
    await give(MIB / 2);
    expect(pace.measuredBytesPerSecond).toBeUndefined();
  });

  test('is its bound, a quarter of that beside writes, or as much as the taker takes', async () => {
    const fast = giving();
    await fast.give(16 * MIB);
    expect(fast.pace.measuredBytesPerSecond).toBeCloseTo(4 * MIB, -4);
    const busy = giving(true);
    await busy.give(16 * MIB);
    expect(busy.pace.measuredBytesPerSecond).toBeCloseTo(MIB, -4);
    const slow = giving();
    // 16 pieces to the MiB, each after 15.625 ms and 484.375 ms more.
    await slow.give(16 * MIB, 484.375);
    expect(slow.pace.measuredBytesPerSecond! / (MIB / 8)).toBeCloseTo(1, 1);
  });

  test('is of the last time that told something, and not for ever', async () => {
    const { pace, give, wait } = giving();
    await give(16 * MIB);
    wait(60_000);
    await give(MIB / 4);
    expect(pace.measuredBytesPerSecond).toBeCloseTo(4 * MIB, -4);
    wait(3_600_000);
    expect(pace.measuredBytesPerSecond).toBeUndefined();
  });
});
