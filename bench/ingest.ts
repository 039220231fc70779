/**
 * What the coordinator's kernel spends on a sample of remote write: snappy, parsing, finding the series and laying
 * the columns out by shard. No network, no gRPC.
 *
 *     npm run bench -- ingest
 */
import { IngestKernel } from '../core/kernel/ingest.ts';
import { bodies, type Workload } from '../test/ingest/workload.ts';

const START_MS = 1_760_000_000_000;
const CASES: readonly (readonly [name: string, workload: Workload])[] = (
  [
    ['10k series, 20 samples a series and body', 10_000, 20],
    ['10k series, 1 sample a series and body', 10_000, 1],
    ['200k series, 1 sample a series and body', 200_000, 1],
    ['1M series, 1 sample a series and body', 1_000_000, 1],
  ] as const
).map(([name, seriesCount, perSeries]) => [
  name,
  { seriesCount, perSeries, ticks: perSeries, bodySamples: 10_000, startMs: START_MS, stepMs: 15_000 },
]);
const ROUNDS = 5;

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] as number;
}

export async function run(): Promise<void> {
  for (const [name, workload] of CASES) {
    const sent = bodies(workload);
    const kernel = new IngestKernel({
      shardCount: 16,
      maxBodyBytes: 32 << 20,
      maxRawBytes: 128 << 20,
      maxLabelCount: 64,
      maxNameBytes: 1024,
      maxValueBytes: 4096,
      seed: new Uint8Array(8),
    });
    const buffer = new ArrayBuffer(kernel.sliceBytes);
    const pass = (): number => {
      const cpu = process.cpuUsage();
      let samples = 0;
      for (const body of sent) {
        kernel.begin([body]);
        for (let done = false; !done; ) {
          const slice = kernel.next(buffer);
          samples += slice.sampleCount;
          done = slice.done;
        }
      }
      const { user, system } = process.cpuUsage(cpu);
      return ((user + system) * 1000) / samples;
    };
    const first = pass();
    const known = median(Array.from({ length: ROUNDS }, pass));
    const bytes = sent.reduce((sum, body) => sum + body.length, 0);
    console.log(
      `${name}: ${known.toFixed(0)} ns a sample (CPU, median of ${ROUNDS}); series new ${first.toFixed(0)}; ` +
        `${(bytes / workload.seriesCount / workload.perSeries).toFixed(1)} bytes a sample on the wire; ` +
        `table ${(kernel.tableBytes / kernel.seriesCount).toFixed(0)} bytes a series`,
    );
  }
}
