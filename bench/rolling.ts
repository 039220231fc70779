/**
 * What clients see while a loaded cluster is restarted node by node: errors, the longest time without an acknowledgement,
 * latencies before and during, what answers say that they cover; then everything acknowledged is read back.
 *
 *     npm run bench -- rolling [--series N] [--step MS] [--before S] [--down S] [--kill] [--shards N] [--regions N] [--nodes N] [--copies N]
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { History, violations } from '../chaos/history.ts';
import { Processes } from '../chaos/processes.ts';
import { readBack } from '../chaos/readback.ts';
import { type Seen, type Sight, Steady } from '../chaos/steady.ts';
import { untilWhole } from '../chaos/whole.ts';

const REGIONS = ['east', 'west'];
/** How long the cluster may take to be whole again. */
const WITHIN_MS = 300_000;

export async function run(args: string[]): Promise<void> {
  const { values: flags } = parseArgs({
    args,
    options: {
      series: { type: 'string', default: '3000' },
      step: { type: 'string', default: '500' },
      before: { type: 'string', default: '30' },
      down: { type: 'string', default: '0' },
      shards: { type: 'string', default: '16' },
      regions: { type: 'string', default: '2' },
      nodes: { type: 'string', default: '2' },
      copies: { type: 'string', default: '1' },
      kill: { type: 'boolean', default: false },
    },
  });
  const regions = flags.regions === '1' ? ['local'] : REGIONS;
  const directory = await mkdtemp(join(tmpdir(), 'silverback-rolling-'));
  const processes = await Processes.create({
    ...{ dataDir: directory, regions, nodeCount: Number(flags.nodes), shardCount: Number(flags.shards) },
    coordinatorArgs: ['--copies', flags.copies],
  });
  const seriesCount = Number(flags.series);
  const stepMs = Number(flags.step);
  const originMs = Math.floor(Date.now() / 1_000) * 1_000;
  const history = new History({ seed: 1, seriesCount, originMs, stepMs });
  try {
    processes.start();
    await processes.ready();
    const { url, grpc } = processes;
    const steady = new Steady({ history, url, grpc, regions, retryMs: 60_000, readPauseMs: 50 });
    console.log(
      `${regions.length} regions of ${flags.nodes} nodes, ${flags.shards} shards, ${flags.copies} copies in a region; ${seriesCount} series ` +
        `every ${stepMs} ms; restart by ${flags.kill ? 'SIGKILL' : 'SIGTERM'}; ${cpus().length} x ${cpus()[0]?.model}`,
    );
    steady.start();
    await pause(5_000);
    steady.look();
    await pause(Number(flags.before) * 1_000);
    tell('before', steady.look());
    for (const node of processes.nodes) {
      const startedMs = performance.now();
      if (flags.kill) await processes.kill([node]);
      else await processes.stop([node]);
      const stoppedMs = performance.now();
      await pause(Number(flags.down) * 1_000);
      processes.start([node]);
      await untilWhole(url, WITHIN_MS);
      const wholeMs = performance.now();
      console.log(`${node}: stopped in ${seconds(stoppedMs - startedMs)}, whole ${seconds(wholeMs - stoppedMs)} later`);
      tell(`  ${node}`, steady.look());
    }
    await steady.stop();
    const answer = await readBack(processes, history);
    const found = violations(answer.verdict);
    console.log(
      `read back ${answer.verdict.seenCount} samples, ${history.acknowledgedCount} acknowledged, ${answer.state}`,
    );
    for (const words of found) console.log(words);
    if (found.length > 0) process.exitCode = 1;
  } finally {
    await processes.kill();
    await rm(directory, { recursive: true });
  }
}

function tell(name: string, { sdk, remote, answers }: Sight): void {
  console.log(`${name}: SDK ${words(sdk)}, longest gap ${sdk.longestGapMs.toFixed(0)} ms`);
  console.log(`${name}: remote write ${words(remote)}, longest gap ${remote.longestGapMs.toFixed(0)} ms`);
  const states = [...answers.coverage].map(([state, count]) => `${count} ${state}`).join(', ');
  console.log(`${name}: queries ${words(answers)}; ${states}`);
  for (const reason of answers.reasons) console.log(`    ${reason}`);
  for (const { errors } of [sdk, remote, answers])
    for (const [text, count] of errors) console.log(`    ${count} x ${text}`);
}

function words({ count, errorCount, p50Ms, p99Ms, mostMs }: Seen): string {
  const times = [p50Ms, p99Ms, mostMs].map((ms) => ms.toFixed(0)).join('/');
  return `${count} well, ${errorCount} errors, p50/p99/most ${times} ms`;
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}

function pause(delayMs: number): Promise<void> {
  return new Promise((wake) => setTimeout(wake, delayMs));
}
