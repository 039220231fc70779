import { describe, expect, it } from 'vitest';
import { Progress } from '../../node/replication/progress.ts';
import type { Incarnation } from '../../node/shard/segment.ts';

const at = (sequence: number) => ({ incarnation: 1 as Incarnation, sequence });

describe('progress', () => {
  it('moves what is delivered as the destination writes, what is durable as it syncs', () => {
    const progress = new Progress(at(1));
    progress.send(at(5), 5, 100);
    progress.skip(at(8));
    progress.send(at(10), 10, 50);
    expect(progress.inFlightBytes).toBe(150);
    expect(progress.delivered.sequence).toBe(1);
    progress.take(progress.attempt, 5, 0);
    expect([progress.delivered.sequence, progress.durable.sequence]).toEqual([8, 1]);
    progress.take(progress.attempt, 10, 5);
    expect([progress.delivered.sequence, progress.durable.sequence]).toEqual([10, 8]);
    expect(progress.inFlightBytes).toBe(0);
  });

  it('hears nothing of what was sent before it began again', () => {
    const progress = new Progress(at(1));
    const { attempt } = progress;
    progress.send(at(5), 5, 100);
    progress.restart(at(1));
    progress.send(at(5), 5, 100);
    expect(progress.take(attempt, 5, 5)).toBe(false);
    expect(progress.durable.sequence).toBe(1);
  });

  it('claims a frontier only once all that was there then is delivered', () => {
    const progress = new Progress(at(1));
    progress.send(at(5), 5, 100);
    progress.tick(1_000, 5);
    progress.send(at(9), 9, 100);
    progress.tick(2_000, 9);
    expect(progress.frontierMs).toBeUndefined();
    progress.take(progress.attempt, 5, 0);
    progress.tick(3_000, 9);
    expect(progress.frontierMs).toBe(1_000);
    progress.take(progress.attempt, 9, 0);
    progress.tick(4_000, 9);
    expect(progress.frontierMs).toBe(4_000);
  });

  it('knows since when the oldest record that is not there waits', () => {
    const progress = new Progress(at(1));
    expect(progress.oldestMs).toBeUndefined();
    for (let second = 1; second <= 1_000; second++) progress.wrote(second * 1_000, 1 + second);
    expect(progress.oldestMs).toBe(1_000);
    progress.send(at(501), 501, 100);
    progress.take(progress.attempt, 501, 400);
    // To a few writes: there were many.
    expect(progress.oldestMs).toBeLessThanOrEqual(501_000);
    expect(progress.oldestMs).toBeGreaterThan(480_000);
    // Sent again: nobody knows how old that is.
    progress.restart(at(400));
    expect(progress.oldestMs).toBeNaN();
    progress.send(at(1_001), 1_001, 100);
    progress.take(progress.attempt, 1_001, 1_001);
    expect(progress.oldestMs).toBeUndefined();
    progress.wrote(2_000_000, 1_002);
    expect(progress.oldestMs).toBe(2_000_000);
  });

  it('tells how far a long catching up is, and forgets nothing of it when it begins again', () => {
    const progress = new Progress(at(1));
    for (let second = 1; second <= 10_000; second++) progress.tick(second * 1_000, 1 + second * 10);
    progress.send(at(50_001), 50_001, 100);
    progress.take(progress.attempt, 50_001, 50_001);
    const halfWay = progress.frontierMs ?? 0;
    expect(halfWay).toBeLessThanOrEqual(5_000_000);
    expect(halfWay).toBeGreaterThan(4_900_000);
    progress.restart(progress.durable);
    progress.tick(10_001_000, 100_001);
    expect(progress.frontierMs).toBe(halfWay);
    // The log stands still meanwhile: all of it was there just now.
    progress.send(at(100_001), 100_001, 100);
    progress.take(progress.attempt, 100_001, 100_001);
    expect(progress.frontierMs).toBe(10_001_000);
  });
});
