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
});
