/**
 * What the log spends, on the real disk: CPU (user and system, all threads) and time per sample of group commit, and what LZ4
 * is of it; reading back; opening; many logs at once.
 *
 *     npm run bench -- log [DIRECTORY]
 *
 * Records are 8 bytes a sample that pack to about two thirds. Medians of 5.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodeEnv } from '../core/env/node.ts';
import { pack } from '../core/lz4.ts';
import { Log, type Position, RecordKind } from '../node/shard/log.ts';

const ROUNDS = 5;
const SAMPLE_BYTES = 8;

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] as number;
}

function cpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** A record of `sampleCount` samples: half its bytes vary. */
function record(sampleCount: number): Uint8Array {
  const bytes = new Uint8Array(sampleCount * SAMPLE_BYTES);
  for (let i = 0; i < bytes.length; i++)
    bytes[i] = i % SAMPLE_BYTES < 4 ? Math.floor(Math.random() * 256) : i % SAMPLE_BYTES;
  return bytes;
}

interface Cost {
  readonly cpuNs: number;
  readonly wallNs: number;
}

/** Appends `groupCount` groups of one record each to each of `logs`, one at a time in each. Per sample. */
async function commits(logs: readonly Log[], sampleCount: number, groupCount: number): Promise<Cost> {
  const records = Array.from({ length: 16 }, () => record(sampleCount));
  const startedCpu = cpuUs();
  const started = nodeEnv.clock.monotonicMs();
  await Promise.all(
    logs.map(async (log) => {
      for (let i = 0; i < groupCount; i++) await log.written(log.append(RecordKind.SAMPLES, 0, records[i % 16]!));
    }),
  );
  const samples = logs.length * groupCount * sampleCount;
  return {
    cpuNs: ((cpuUs() - startedCpu) * 1000) / samples,
    wallNs: ((nodeEnv.clock.monotonicMs() - started) * 1e6) / samples,
  };
}

/** CPU of packing alone, ns a sample. */
function packing(sampleCount: number): number {
  const bytes = record(sampleCount);
  const count = Math.ceil(2_000_000 / sampleCount);
  const started = cpuUs();
  for (let i = 0; i < count; i++) pack(bytes);
  return ((cpuUs() - started) * 1000) / (count * sampleCount);
}

async function open(directory: string, count: number): Promise<Log[]> {
  const opened = await Promise.all(
    Array.from({ length: count }, (_, shard) => Log.open(nodeEnv, join(directory, `${shard}`), { shard })),
  );
  return opened.map(({ log }) => log);
}

async function benchCommit(
  directory: string,
  logCount: number,
  sampleCount: number,
  groupCount: number,
): Promise<void> {
  const logs = await open(join(directory, `${logCount}-${sampleCount}`), logCount);
  await commits(logs, sampleCount, Math.ceil(groupCount / 10));
  const costs: Cost[] = [];
  for (let i = 0; i < ROUNDS; i++) costs.push(await commits(logs, sampleCount, groupCount));
  await Promise.all(logs.map((log) => log.close()));
  const cpu = median(costs.map((cost) => cost.cpuNs));
  const wall = median(costs.map((cost) => cost.wallNs));
  const lz4 = median(Array.from({ length: ROUNDS }, () => packing(sampleCount)));
  console.log(
    `${logCount} logs, groups of ${sampleCount}: ${cpu.toFixed(1)} ns CPU a sample, of it LZ4 ${lz4.toFixed(1)}, ` +
      `the rest ${(cpu - lz4).toFixed(1)} (${(((cpu - lz4) * sampleCount) / 1000).toFixed(1)} us a group); ${wall.toFixed(1)} ns of time`,
  );
}

async function benchRead(directory: string): Promise<void> {
  const path = join(directory, 'read');
  const bytes = record(4000);
  const { log } = await Log.open(nodeEnv, path, { shard: 0 });
  for (let i = 0; i < 5000; i++) await log.written(log.append(RecordKind.SAMPLES, 0, bytes));
  await log.close();
  const times: number[] = [];
  const opens: number[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    const startedOpen = nodeEnv.clock.monotonicMs();
    const again = await Log.open(nodeEnv, path, { shard: 0 });
    opens.push(nodeEnv.clock.monotonicMs() - startedOpen);
    const started = nodeEnv.clock.monotonicMs();
    const reader = again.log.read({ incarnation: 0, sequence: 0 } as unknown as Position);
    let length = 0;
    for await (const frame of reader) while (frame.next()) length += frame.end - frame.start;
    await reader.close();
    times.push(((nodeEnv.clock.monotonicMs() - started) * 1e6) / (length / SAMPLE_BYTES));
    await again.log.close();
  }
  console.log(
    `open with verification of ${(log.byteCount / 1e6).toFixed(0)} MB: ${median(opens).toFixed(0)} ms; read: ${median(times).toFixed(1)} ns a sample`,
  );
}

async function benchIdle(directory: string, count: number): Promise<void> {
  const started = nodeEnv.clock.monotonicMs();
  const logs = await open(join(directory, 'idle'), count);
  const openMs = nodeEnv.clock.monotonicMs() - started;
  for (const log of logs) log.append(RecordKind.SAMPLES, 0, record(10));
  await Promise.all(logs.map((log) => log.synced(log.tail().sequence - 1)));
  const cpu = cpuUs();
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const idle = cpuUs() - cpu;
  const startedClose = nodeEnv.clock.monotonicMs();
  await Promise.all(logs.map((log) => log.close()));
  const closeMs = nodeEnv.clock.monotonicMs() - startedClose;
  console.log(
    `${count} logs: open ${openMs.toFixed(0)} ms, close ${closeMs.toFixed(0)} ms, idle ${(idle / 2).toFixed(0)} us CPU a second`,
  );
}

export async function run(args: string[]): Promise<void> {
  const directory = mkdtempSync(join(args[0] ?? tmpdir(), 'silverback-bench-'));
  try {
    await benchCommit(directory, 1, 100, 5000);
    await benchCommit(directory, 1, 4000, 500);
    await benchCommit(directory, 16, 100, 500);
    await benchCommit(directory, 16, 4000, 50);
    await benchRead(directory);
    await benchIdle(directory, 256);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
