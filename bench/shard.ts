/**
 * A whole shard on the real disk, without the network: append, the boundary of a window, recovery, many shards.
 *
 *     npm run bench -- shard [append|boundary|recovery|idle] [DIRECTORY]
 *
 * append    10k series of the mix, a window of 480 samples each: identity, duplicate check, log, acknowledgement LOCAL.
 *           Step: the synchronous part of `append`. CPU: user and system of all threads, log and fsync included.
 * boundary  1M series in 1 and in 16 shards cross a two-hour boundary while writes go on: the longest time the loop was held.
 * recovery  14.4M samples (10k series, 6 h) from log alone and from checkpoint, in 16 shards; select of everything beside it.
 * idle      64 and 256 empty shards: memory, and the CPU of a tick.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { nodeEnv } from '../core/env/node.ts';
import { chunkInfo } from '../core/kernel/codec.ts';
import { WINDOW_MS } from '../core/kernel/shard.ts';
import { encodeIdentity, makeLabels } from '../core/labels.ts';
import { Budget } from '../node/shard/budget.ts';
import { encodeDefinition } from '../node/shard/definitions.ts';
import type { Batch, Sender } from '../node/shard/sender.ts';
import { Shard } from '../node/shard/shard.ts';
import { Mix, WINDOW_TICKS } from './mix.ts';

const ROUNDS = 5;
const NO_BYTES = new Uint8Array(0);
/** Start of a window some hours ago. */
const START_MS = Math.floor(Date.now() / WINDOW_MS) * WINDOW_MS - 5 * WINDOW_MS;

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] as number;

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function openShard(directory: string, shard: number, budget = new Budget(16e9)): Promise<Shard> {
  return Shard.open(nodeEnv, directory, {
    shard,
    budget,
    maxSampleAgeMs: Number.POSITIVE_INFINITY,
    sealIdleMs: 0,
    checkpointIntervalMs: 1e12,
    limits: { maxSeriesCount: 1_100_000 },
  });
}

/** Some series, tick by tick; series `n` of the batch is series `first + n * step` of the mix. */
class Feed {
  readonly definitions: Uint8Array;
  readonly #refs: Uint8Array;

  constructor(
    readonly mix: Mix,
    readonly seriesCount: number,
    readonly first = 0,
  ) {
    this.#refs = new Uint8Array(Uint32Array.from({ length: seriesCount }, (_, i) => i).buffer);
    const parts: Uint8Array[] = [];
    for (let i = 0; i < seriesCount; i++) {
      const n = first + i;
      const labels = {
        __name__: `metric_${n % 97}`,
        instance: `host-${n % 1000}:9100`,
        job: 'bench',
        region: `r${n % 5}`,
        n: `${n}`,
      };
      parts.push(encodeDefinition(i, encodeIdentity(makeLabels(labels))));
    }
    this.definitions = Buffer.concat(parts);
  }

  /** A batch of `ticks` samples of each series. */
  batch(firstTick: number, ticks: number, define: boolean): Batch {
    const count = this.seriesCount * ticks;
    const halves = new Uint32Array(count * 2);
    const values = new Float64Array(count);
    let at = 0;
    for (let i = 0; i < this.seriesCount; i++) {
      for (let tick = firstTick; tick < firstTick + ticks; tick++) {
        const series = this.first + i;
        const timestampMs =
          START_MS + Math.floor(tick / WINDOW_TICKS) * WINDOW_MS + this.mix.offsetMs(series, tick % WINDOW_TICKS);
        halves[2 * at] = timestampMs % 2 ** 32;
        halves[2 * at + 1] = Math.floor(timestampMs / 2 ** 32);
        values[at++] = this.mix.value(series, tick % WINDOW_TICKS);
      }
    }
    return {
      definitions: define ? this.definitions : NO_BYTES,
      refs: this.#refs,
      counts: ticks === 1 ? NO_BYTES : new Uint8Array(new Uint32Array(this.seriesCount).fill(ticks).buffer),
      timestamps: new Uint8Array(halves.buffer),
      values: new Uint8Array(values.buffer),
    };
  }
}

async function send(sender: Sender, batch: Batch): Promise<void> {
  const outcome = await sender.append(batch, 'LOCAL');
  if (outcome.code !== 'OK' || outcome.rejections.length > 0) throw new Error(JSON.stringify(outcome).slice(0, 500));
}

async function append(root: string): Promise<void> {
  const SERIES = 10_000;
  for (const jitterMs of [0, 5]) {
    const feed = new Feed(new Mix({ jitterMs }), SERIES);
    for (const ticks of [1, 10]) {
      const batches = Array.from({ length: WINDOW_TICKS / ticks }, (_, i) => feed.batch(i * ticks, ticks, i === 0));
      const figures = { step: [] as number[], cpu: [] as number[], again: [] as number[], logBytes: [] as number[] };
      for (let round = 0; round < ROUNDS; round++) {
        const directory = mkdtempSync(join(root, 'append-'));
        const shard = await openShard(directory, 0);
        const sender = shard.attach();
        const samples = SERIES * WINDOW_TICKS;
        let stepMs = 0;
        const startedMs = cpuMs();
        for (const batch of batches) {
          const before = performance.now();
          const appended = send(sender, batch);
          stepMs += performance.now() - before;
          await appended;
        }
        figures.cpu.push(((cpuMs() - startedMs) * 1e6) / samples);
        figures.step.push((stepMs * 1e6) / samples);
        figures.logBytes.push(shard.stats().logBytes / samples);
        let againMs = 0;
        for (const batch of batches.slice(0, 100)) {
          const before = performance.now();
          const appended = send(sender, batch);
          againMs += performance.now() - before;
          await appended;
        }
        figures.again.push((againMs * 1e6) / (100 * ticks * SERIES));
        await shard.close();
        rmSync(directory, { recursive: true });
      }
      console.log(
        `append, 10k series, ${ticks} samples a series and batch, ${jitterMs === 0 ? 'plain' : 'jitter'}: ` +
          `step ${median(figures.step).toFixed(0)} ns, CPU ${median(figures.cpu).toFixed(0)} ns a sample; ` +
          `the same again (duplicates) step ${median(figures.again).toFixed(0)} ns; log ${median(figures.logBytes).toFixed(2)} bytes a sample`,
      );
    }
  }
}

async function boundary(root: string): Promise<void> {
  const SERIES = 1_000_000;
  const PART = 10_000;
  const TICKS = 20;
  for (const shardCount of [16, 1]) {
    const directory = mkdtempSync(join(root, 'boundary-'));
    const mix = new Mix();
    const shards: Shard[] = [];
    const feeds: { feed: Feed; sender: Sender }[] = [];
    for (let n = 0; n < shardCount; n++) shards.push(await openShard(`${directory}/${n}`, n));
    // As many streams as parts: each has its own references.
    for (let first = 0; first < SERIES; first += PART) {
      const shard = shards[(first / PART) % shardCount] as Shard;
      feeds.push({ feed: new Feed(mix, PART, first), sender: shard.attach() });
    }
    for (const { feed, sender } of feeds) {
      for (let tick = 0; tick < WINDOW_TICKS; tick += WINDOW_TICKS / 4)
        await send(sender, feed.batch(tick, 5, tick === 0));
    }
    const next = feeds
      .slice(0, 20)
      .map(({ feed, sender }) => ({ sender, batch: feed.batch(WINDOW_TICKS * 4, 1, false) }));
    const delay = monitorEventLoopDelay({ resolution: 1 });
    let longestMs = 0;
    let longestCpuMs = 0;
    let last = performance.now();
    let lastCpu = cpuMs();
    let going = true;
    // A turn that takes long while the process used little CPU waited for the machine, not for the shard.
    const watch = () => {
      const now = performance.now();
      const cpu = cpuMs();
      longestMs = Math.max(longestMs, now - last);
      longestCpuMs = Math.max(longestCpuMs, Math.min(now - last, cpu - lastCpu));
      last = now;
      lastCpu = cpu;
      if (going) setImmediate(watch);
    };
    // The bench's own garbage is not the shard's pause.
    globalThis.gc?.();
    last = performance.now();
    delay.enable();
    watch();
    const started = performance.now();
    let written = 0;
    const writing = (async () => {
      while (going) {
        for (const { sender, batch } of next) {
          await send(sender, batch);
          written += PART;
          await new Promise((resolve) => setTimeout(resolve, 5));
          if (!going) break;
        }
      }
    })();
    const open = () => shards.reduce((sum, shard) => sum + shard.stats().openSampleCount, 0);
    const before = open();
    for (let rounds = 0; rounds < 3; rounds++) for (const shard of shards) await shard.tick();
    going = false;
    delay.disable();
    await writing;
    const seconds = (performance.now() - started) / 1000;
    const sealed = shards.reduce((sum, shard) => sum + shard.stats().sealedSampleCount, 0);
    const problems = shards.flatMap((shard) => shard.stats().problems);
    if (problems.length > 0) console.log(problems);
    console.log(
      `boundary, 1M series (${TICKS} samples each) in ${shardCount} shards: sealed ${sealed} of ${before} in ${seconds.toFixed(1)} s ` +
        `beside ${written} samples written; longest pause ${longestMs.toFixed(1)} ms (${longestCpuMs.toFixed(1)} ms of CPU), p99.9 ${(delay.percentile(99.9) / 1e6).toFixed(1)} ms`,
    );
    for (const shard of shards) await shard.close();
    rmSync(directory, { recursive: true });
  }
}

async function recovery(root: string): Promise<void> {
  const SHARDS = 16;
  const SERIES = 10_000;
  const TICKS = 3 * WINDOW_TICKS;
  const directory = mkdtempSync(join(root, 'recovery-'));
  const mix = new Mix();
  let shards: Shard[] = [];
  for (let n = 0; n < SHARDS; n++) {
    const shard = await openShard(`${directory}/${n}`, n);
    shards.push(shard);
    const feed = new Feed(mix, SERIES / SHARDS, (SERIES / SHARDS) * n);
    const sender = shard.attach();
    for (let tick = 0; tick < TICKS; tick += 20) await send(sender, feed.batch(tick, 20, tick === 0));
  }
  const reopen = async (what: string) => {
    const started = performance.now();
    const cpu = cpuMs();
    shards = [];
    for (let n = 0; n < SHARDS; n++) shards.push(await openShard(`${directory}/${n}`, n));
    const opened = performance.now();
    const usedMs = cpuMs() - cpu;
    let samples = 0;
    for (const shard of shards) {
      const everything = { matchers: [], fromMs: 0, toMs: 8e15, maxSeriesCount: 1e9, maxSampleCount: 1e12 };
      for await (const page of shard.select(everything)) samples += samplesIn(page);
    }
    const count = `select of ${samples} samples ${(performance.now() - opened).toFixed(0)} ms`;
    console.log(
      `recovery, 14.4M samples in 16 shards, ${what}: ${(opened - started).toFixed(0)} ms, CPU ${usedMs.toFixed(0)} ms; ${count}`,
    );
  };
  // As after kill -9: nothing is closed. (The abandoned logs have written everything and stand still.)
  await reopen('from the log');
  for (const shard of shards) await shard.close();
  await reopen('from checkpoints');
  for (let round = 0; round < 6; round++) for (const shard of shards) await shard.tick();
  await reopen('from blocks, and a log that holds the same');
  for (const shard of shards) await shard.close();
  rmSync(directory, { recursive: true });
}

function samplesIn(page: Uint8Array): number {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  let samples = 0;
  for (let at = 0; at < page.length; ) {
    at += 8 + view.getUint32(at + 4, true);
    const chunks = view.getUint32(at, true);
    at += 4;
    for (let i = 0; i < chunks; i++) {
      const length = view.getUint32(at, true);
      samples += chunkInfo(page.subarray(at + 4, at + 4 + length)).sampleCount;
      at += 4 + length;
    }
  }
  return samples;
}

async function idle(root: string): Promise<void> {
  for (const count of [64, 256]) {
    const directory = mkdtempSync(join(root, 'idle-'));
    globalThis.gc?.();
    const before = process.memoryUsage().rss;
    const started = performance.now();
    const shards: Shard[] = [];
    for (let n = 0; n < count; n++) shards.push(await openShard(`${directory}/${n}`, n));
    const openMs = performance.now() - started;
    const bytes = process.memoryUsage().rss - before;
    const cpu = cpuMs();
    for (let round = 0; round < 100; round++) for (const shard of shards) await shard.tick();
    const tickUs = ((cpuMs() - cpu) * 1000) / (100 * count);
    console.log(
      `idle, ${count} shards: ${(bytes / count / 1024).toFixed(0)} KiB resident and ${(openMs / count).toFixed(1)} ms to open each; a tick ${tickUs.toFixed(1)} us`,
    );
    for (const shard of shards) await shard.close();
    rmSync(directory, { recursive: true });
  }
}

const CASES: Readonly<Record<string, (root: string) => Promise<void>>> = { append, boundary, recovery, idle };

export async function run(args: string[]): Promise<void> {
  const names = args.filter((arg) => arg in CASES);
  const root = args.find((arg) => !(arg in CASES)) ?? tmpdir();
  for (const name of names.length > 0 ? names : Object.keys(CASES)) await CASES[name]?.(root);
}
