/**
 * Time from kill -9 of a whole cluster until a query counts every sample it had acknowledged: processes, recovery from the
 * log, placement, and the query itself.
 *
 *     npm run bench -- recovery [--series 10000] [--ticks 1440] [--step MS] [--nodes 2] [--shards 16] [--runs 5]
 *
 * Two hours at 200,000 samples/s are `--ticks 144000`, written as fast as they are taken, with timestamps that run as fast: `--step
 * 500`, so that they lie in 20 h, which the default age of samples lets in. Tells how large logs and files are, too.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Processes } from '../chaos/processes.ts';
import { Client } from '../client/index.ts';
import { Mix, STEP_MS, WINDOW_TICKS } from './mix.ts';

/** Samples of a series in a batch, as std-bulk sends them. */
const PER_BATCH = 20;
const POLL_MS = 20;

export async function run(args: string[]): Promise<void> {
  const { values: flags } = parseArgs({
    args,
    options: {
      series: { type: 'string', default: '10000' },
      ticks: { type: 'string', default: '1440' },
      step: { type: 'string', default: String(STEP_MS) },
      nodes: { type: 'string', default: '2' },
      shards: { type: 'string', default: '16' },
      runs: { type: 'string', default: '5' },
    },
  });
  const [seriesCount, ticks] = [Number(flags.series), Number(flags.ticks)];
  const [nodeCount, shardCount] = [Number(flags.nodes), Number(flags.shards)];
  const sampleCount = seriesCount * ticks;
  const rangeMs = ticks * Number(flags.step);
  console.log(
    `${sampleCount} samples (${seriesCount} series), ${nodeCount} nodes, ${shardCount} shards; ${cpus().length} x ${cpus()[0]?.model}`,
  );
  const directory = await mkdtemp(join(tmpdir(), 'silverback-bench-'));
  const processes = await Processes.create({ dataDir: directory, nodeCount, shardCount });
  try {
    processes.start();
    await processes.ready();
    await load(processes, seriesCount, ticks, Number(flags.step));
    const before = await countUntil(processes.url, sampleCount, rangeMs);
    console.log(`loaded; the counting query takes ${before.queryMs.toFixed(0)} ms`);
    const sizes = await processes.status();
    const [logBytes, diskBytes] = [sizes.map((one) => one.logBytes), sizes.map((one) => one.diskBytes)].map((all) =>
      all.reduce((sum, one) => sum + one, 0),
    ) as [number, number];
    console.log(
      `logs hold ${(logBytes / 2 ** 20).toFixed(0)} MiB, ${(logBytes / sampleCount).toFixed(2)} bytes a sample; blocks ${(diskBytes / 2 ** 20).toFixed(0)} MiB`,
    );
    const took: number[] = [];
    for (let i = 0; i < Number(flags.runs); i++) {
      const startedMs = performance.now();
      await processes.kill();
      processes.start();
      await processes.ready();
      const readyMs = performance.now() - startedMs;
      const { queryMs } = await countUntil(processes.url, sampleCount, rangeMs);
      took.push(performance.now() - startedMs);
      console.log(
        `run ${i + 1}: ${seconds(took[i])} s (ready after ${seconds(readyMs)} s, last query ${seconds(queryMs)} s)`,
      );
    }
    took.sort((a, b) => a - b);
    console.log(
      `median: ${seconds(took[took.length >> 1])} s from kill -9 until a query counts ${sampleCount} samples`,
    );
  } finally {
    await processes.kill();
    await rm(directory, { recursive: true });
  }
}

function seconds(ms = Number.NaN): string {
  return (ms / 1_000).toFixed(2);
}

async function load(processes: Processes, seriesCount: number, ticks: number, stepMs: number): Promise<void> {
  const mix = new Mix();
  const client = new Client({ endpoints: [processes.grpc], maxSeries: seriesCount });
  const series = Array.from({ length: seriesCount }, (_, i) =>
    client.series({
      __name__: `metric_${i % 40}`,
      host: `host-${Math.floor(i / 40)}`,
      metric: `m${i % 40}`,
      load: 'recovery',
    }),
  );
  const startMs = Date.now() - ticks * stepMs;
  const timestamps = new Float64Array(PER_BATCH);
  const values = new Float64Array(PER_BATCH);
  for (let tick = 0; tick < ticks; tick += PER_BATCH) {
    const count = Math.min(PER_BATCH, ticks - tick);
    for (const [i, one] of series.entries()) {
      for (let k = 0; k < count; k++) {
        timestamps[k] = startMs + (tick + k) * stepMs;
        values[k] = mix.value(i, (tick + k) % WINDOW_TICKS);
      }
      client.appendColumns(one, timestamps.subarray(0, count), values.subarray(0, count));
      if (i % 1_000 === 0) await client.room();
    }
  }
  await client.flush();
  const { acknowledgedCount } = client.stats();
  await client.close();
  if (acknowledgedCount !== seriesCount * ticks) throw new Error(`only ${acknowledgedCount} samples were acknowledged`);
}

/** Asks until the answer is right. Series differ in more than their names, which `count_over_time` drops. */
async function countUntil(url: string, sampleCount: number, rangeMs: number): Promise<{ queryMs: number }> {
  const rangeS = Math.ceil(rangeMs / 1_000) + 3_600;
  const query = new URLSearchParams({ query: `sum(count_over_time({load="recovery"}[${rangeS}s]))` });
  for (;;) {
    const startedMs = performance.now();
    const response = await fetch(`${url}/api/v1/query?${query}`);
    const body = (await response.json()) as { error?: string; data?: { result: { value: [number, string] }[] } };
    if (response.status < 500 && body.error !== undefined) throw new Error(body.error);
    if (Number(body.data?.result[0]?.value[1]) === sampleCount) return { queryMs: performance.now() - startedMs };
    await new Promise((wake) => setTimeout(wake, POLL_MS));
  }
}
