import { describe, expect, it } from 'vitest';
import { whileIdle } from '../../core/idle.ts';

/** A process whose time passes with every timer, and whose CPU time is told. */
class Process {
  nowMs = 0;
  cpuMs = 0;
  activity = 0;
  readonly stop = new AbortController();
  /** When each part of the work began. */
  readonly parts: number[] = [];
  /** What happens beside the work whenever a timer ends. */
  meanwhile: () => void = () => undefined;

  run(maxCpuMs: number, work?: (isWanted: () => boolean) => Promise<void>): Promise<void> {
    return whileIdle({
      env: {
        clock: { nowMs: () => this.nowMs, monotonicMs: () => this.nowMs },
        timers: {
          after: (delayMs, task) => {
            queueMicrotask(() => {
              this.nowMs += delayMs;
              this.meanwhile();
              task();
            });
            return { cancel: () => undefined };
          },
          every: () => ({ cancel: () => undefined }),
          yield: async () => undefined,
        },
      },
      cpuMs: () => this.cpuMs,
      maxCpuMs,
      activity: () => this.activity,
      signal: this.stop.signal,
      work: async (isWanted) => {
        this.parts.push(this.nowMs);
        if (work !== undefined) return work(isWanted);
        this.cpuMs += 10;
        this.nowMs += 10;
      },
    });
  }
}

describe('work while a process is idle', () => {
  it('begins when nobody asked for a while, and ends when it has had its time', async () => {
    const process = new Process();
    await process.run(100);
    expect(process.parts).toHaveLength(10);
    expect(process.parts[0]).toBeGreaterThanOrEqual(2_000);
  });

  it('makes way for whoever asks, and goes on later', async () => {
    const process = new Process();
    process.meanwhile = () => {
      if (process.nowMs > 2_100 && process.nowMs < 5_000) process.activity++;
    };
    await process.run(100);
    expect(process.parts).toHaveLength(10);
    expect(process.parts.filter((at) => at > 2_200 && at < 6_900)).toEqual([]);
  });

  it('does not begin while the process is busy with what nobody asked for', async () => {
    const process = new Process();
    process.meanwhile = () => {
      if (process.nowMs < 10_000) process.cpuMs += 20;
    };
    await process.run(10);
    expect(process.parts[0]).toBeGreaterThanOrEqual(12_000);
  });

  it('tells the work when somebody came, and when it is enough', async () => {
    const process = new Process();
    const said: boolean[] = [];
    await process.run(50, async (isWanted) => {
      said.push(isWanted());
      process.cpuMs += 30;
      said.push(isWanted());
      process.activity++;
      said.push(isWanted());
    });
    expect(said).toEqual([true, true, false, true, false, false]);
  });

  it('stops when it is told to', async () => {
    const process = new Process();
    await process.run(1e9, async () => process.stop.abort());
    expect(process.parts).toHaveLength(1);
  });
});
