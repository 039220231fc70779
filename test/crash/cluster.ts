/** A small real cluster with a history, for tests that break its disks: one shard per node, so that files are easy to find. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { History, type Span, violations } from '../../chaos/history.ts';
import { labelsOf, openClient, samplesOf } from '../../chaos/load.ts';
import { Processes } from '../../chaos/processes.ts';
import { type Answer, readBack } from '../../chaos/readback.ts';
import type { Client } from '../../client/index.ts';
import { eventually } from '../local/cluster.ts';

const HOUR_MS = 3_600_000;
const SERIES_COUNT = 448;
/** Series that `ticks` writes. */
const FEW_COUNT = 64;

export class CrashCluster {
  readonly processes: Processes;
  readonly history: History;
  readonly client: Client;
  readonly #directory: string;

  /** 448 series, a tick a second, tick 0 at the start of the window that began at least 4 h ago. */
  static async start(
    options: { readonly nodeArgs?: readonly string[]; readonly prepare?: (directory: string) => void } = {},
  ) {
    const directory = await mkdtemp(join(tmpdir(), 'silverback-crash-'));
    options.prepare?.(directory);
    const processes = await Processes.create({
      dataDir: directory,
      nodeCount: 2,
      shardCount: 2,
      nodeArgs: options.nodeArgs ?? [],
    });
    processes.start();
    await processes.ready();
    return new CrashCluster(directory, processes);
  }

  private constructor(directory: string, processes: Processes) {
    this.#directory = directory;
    this.processes = processes;
    const originMs = Math.floor(Date.now() / (2 * HOUR_MS)) * 2 * HOUR_MS - 4 * HOUR_MS;
    this.history = new History({ seed: 1, seriesCount: SERIES_COUNT, originMs, stepMs: 1_000 });
    this.client = openClient(processes.grpc, 'LOCAL', 20_000);
  }

  /** Writes a span and waits for its acknowledgement. */
  async write(span: Span): Promise<void> {
    await writeSpan(this.client, this.history, span);
  }

  /** Ticks of a few series, in one batch. */
  ticks(fromTick: number, toTick: number): Promise<void> {
    return this.write({ fromSeries: 0, toSeries: FEW_COUNT, fromTick, toTick });
  }

  /** Ticks of all series whose values have full mantissas: seven bytes of log each. */
  async bulk(fromTick: number, toTick: number): Promise<void> {
    const { history, client } = this;
    const before = client.stats().droppedCount;
    const timestamps = Float64Array.from({ length: toTick - fromTick }, (_, i) => history.timeMs(fromTick + i));
    const spans: Span[] = [];
    for (let series = 2; series < SERIES_COUNT; series += 4) {
      const span = { fromSeries: series, toSeries: series + 1, fromTick, toTick };
      history.send(span);
      spans.push(span);
      const values = timestamps.map((_, i) => history.value(series, fromTick + i));
      client.appendColumns(client.series(labelsOf(series)), timestamps, values);
      await client.room();
    }
    await client.flush();
    if (client.stats().droppedCount !== before) throw new Error('the bulk was not taken');
    for (const span of spans) history.acknowledge(span);
  }

  async restart(): Promise<void> {
    this.processes.start();
    await this.processes.ready();
  }

  /** What is there, once nodes that have just started know that no other copy has more. */
  async read(): Promise<Answer> {
    for (let left = 100; ; left--) {
      const answer = await readBack(this.processes, this.history);
      const isKnown = answer.state !== 'unconfirmed' && answer.gaps.every(({ state }) => state !== 'unconfirmed');
      if (isKnown || left === 0) return answer;
      await new Promise((wake) => setTimeout(wake, 300));
    }
  }

  /** The node and directory of the shard: shard 0 and 1 lie on different nodes. */
  async placeOf(shard: number): Promise<{ node: string; directory: string }> {
    const node = (await this.processes.status()).find((one) => one.shard === shard)?.node;
    if (node === undefined) throw new Error(`no node has shard ${shard}`);
    return { node, directory: join(this.processes.directoryOf(node), 'shards', String(shard)) };
  }

  async problemOf(shard: number): Promise<string> {
    return (await this.processes.status()).find((one) => one.shard === shard)?.problem ?? '';
  }

  async close(): Promise<void> {
    await this.client.close(0);
    await this.processes.kill();
    await rm(this.#directory, { recursive: true });
  }
}

/** Paths of the files in a directory that end so, in order of their names. */
export function filesIn(directory: string, ending: string): string[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith(ending))
    .sort()
    .map((name) => join(directory, name));
}

export function flipByte(path: string, offset: number): void {
  const bytes = readFileSync(path);
  bytes[offset] = (bytes[offset] as number) ^ 0x10;
  writeFileSync(path, bytes);
}

const SEGMENT_HEADER_BYTES = 320;
const FRAME_HEADER_BYTES = 40;

/** Where the frames of a log segment begin, and the end of the last one (ARCHITECTURE.md, "Log"). */
export function frameOffsets(path: string): number[] {
  const bytes = readFileSync(path);
  const offsets = [SEGMENT_HEADER_BYTES];
  for (let at = SEGMENT_HEADER_BYTES; at + FRAME_HEADER_BYTES <= bytes.length; offsets.push(at)) {
    if (bytes.toString('latin1', at, at + 4) !== 'SBfr') throw new Error(`${path}: no frame at ${at}`);
    at += FRAME_HEADER_BYTES + bytes.readUInt32LE(at + 4);
  }
  return offsets;
}

/** Waits until every acknowledged sample is in the answer, and the answer says so. */
export function readsBackWhole(cluster: Processes, history: History, withinMs: number): Promise<Answer> {
  return eventually(async () => {
    const answer = await readBack(cluster, history);
    expect(violations(answer.verdict)).toEqual([]);
    expect(answer.gaps).toEqual([]);
    expect(answer.counted).toBe(history.acknowledgedCount);
    expect(answer.state).toBe('complete');
    return answer;
  }, withinMs);
}

/** Writes a span of a history; resolves when every sample of it is acknowledged. */
export async function writeSpan(client: Client, history: History, span: Span): Promise<void> {
  history.send(span);
  await client.write(samplesOf(history, span));
  history.acknowledge(span);
}
