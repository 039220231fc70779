import { beforeEach, describe, expect, it } from 'vitest';
import { Pace } from '../../node/replication/pace.ts';

const ALLOWED = 1_000_000;
const LEAST = ALLOWED / 32;

let nowMs: number;
let pace: Pace;

beforeEach(() => {
  nowMs = 1_000;
  pace = new Pace({ monotonicMs: () => nowMs }, ALLOWED);
});

/** Catches up as fast as it may beside live writes that take so long each, one every 10 ms. Returns the bytes that were done. */
function catchUp(durationMs: number, writeMs?: number): number {
  const untilMs = nowMs + durationMs;
  let goesOnMs = nowMs;
  let doneBytes = 0;
  for (; nowMs < untilMs; nowMs += 10) {
    if (writeMs !== undefined) pace.committed(writeMs);
    while (goesOnMs <= nowMs) {
      goesOnMs = nowMs + pace.spend(1_000);
      doneBytes += 1_000;
    }
  }
  return doneBytes;
}

function write(durationMs: number, writeMs: number): void {
  const untilMs = nowMs + durationMs;
  for (; nowMs < untilMs; nowMs += 10) pace.committed(writeMs);
}

describe('the pace of catching up', () => {
  it('comes to what is allowed where there are no writes, or these do not wait', () => {
    catchUp(5_000);
    expect(pace.bytesPerSecond).toBe(ALLOWED);
    const doneBytes = catchUp(10_000, 1);
    expect(doneBytes).toBeGreaterThan(9.5 * ALLOWED);
    expect(doneBytes).toBeLessThan(10.5 * ALLOWED);
  });

  it('falls while writes wait longer than they did, to a part that stays, and rises again', () => {
    write(2_000, 1);
    catchUp(5_000, 1);
    catchUp(10_000, 40);
    expect(pace.bytesPerSecond).toBe(LEAST);
    expect(pace.isThrottling).toBe(true);
    expect(catchUp(10_000, 40)).toBeLessThan(11 * LEAST);
    catchUp(10_000, 1);
    expect(pace.bytesPerSecond).toBe(ALLOWED);
  });

  it('takes for granted how long writes wait when nothing is caught up', () => {
    write(60_000, 40);
    catchUp(10_000, 60);
    expect(pace.bytesPerSecond).toBe(ALLOWED);
    catchUp(10_000, 120);
    expect(pace.bytesPerSecond).toBe(LEAST);
  });

  it('makes nobody wait who did nothing lately, and counts the waiting once', () => {
    expect(pace.spend(1)).toBe(0);
    const first = pace.spend(500_000);
    expect(first).toBeGreaterThan(3_000);
    const both = pace.spend(500_000);
    expect(pace.waitedMs).toBeCloseTo(both, 6);
    nowMs += both + 1_000;
    expect(pace.isThrottling).toBe(false);
    expect(pace.spend(1)).toBe(0);
  });
});
