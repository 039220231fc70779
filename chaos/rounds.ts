/**
 * Seeded rounds of kill -9 against a cluster under load. The seed decides the cluster's settings, what is written and which
 * processes die after how long; what a process happens to be doing at that moment is the machine's own choice.
 */
import { join } from 'node:path';
import type { AckLevel } from '../core/protocol.ts';
import { Seeded } from '../test/sim/random.ts';
import { History, violations } from './history.ts';
import { Load, openClient } from './load.ts';
import { Processes } from './processes.ts';
import { readBack } from './readback.ts';

/** One thing done to the processes, `afterMs` after the one before. */
export interface Step {
  readonly afterMs: number;
  readonly action: 'kill' | 'stop' | 'start';
  readonly names: readonly string[];
}

export interface ChaosOptions {
  readonly seed: number;
  readonly rounds: number;
  /** Empty; what is in it afterwards is the caller's. */
  readonly directory: string;
  readonly say: (line: string) => void;
}

export interface ChaosResult {
  readonly killCount: number;
  readonly acknowledgedCount: number;
  /** Writes that were given up, and may be stored or not. */
  readonly failureCount: number;
}

const HOUR_MS = 3_600_000;
const LANE_COUNT = 8;
/** The only thing a shard may have to report after a kill. */
const LIVED_WITH = /^an unfinished tail was cut off the log/;

/** One round: some die once, some twice, some while others recover, some are stopped in order. At its end all run. */
export function planRound(random: Seeded, names: readonly string[]): Step[] {
  const steps: Step[] = [];
  const strikes = random.int(1, 4);
  for (let i = 0; i < strikes; i++) {
    const all = random.chance(0.3);
    const victims = all ? names : names.filter(() => random.chance(0.45));
    const struck = victims.length === 0 ? [random.pick(names)] : victims;
    steps.push({ afterMs: random.int(100, 1_500), action: random.chance(0.85) ? 'kill' : 'stop', names: struck });
    steps.push({ afterMs: random.chance(0.5) ? 0 : random.int(0, 800), action: 'start', names: struck });
    // Die again on the way up.
    if (random.chance(0.4)) {
      steps.push({ afterMs: random.int(50, 900), action: 'kill', names: struck });
      steps.push({ afterMs: 0, action: 'start', names: struck });
    }
  }
  return steps;
}

/** Throws, with all that was found wrong and how to run it again, at the first round that breaks a promise. */
export async function chaos(options: ChaosOptions): Promise<ChaosResult> {
  const { seed, rounds, directory, say } = options;
  const random = new Seeded(seed);
  const shardCount = random.pick([2, 4, 8, 16]);
  const ack = random.pick<AckLevel>(['LOCAL', 'LOCAL', 'FSYNC']);
  // So little that every window but one is sealed while it is written to.
  const memory = random.pick(['2GiB', '2MiB']);
  const processes = await Processes.create({
    dataDir: join(directory, `seed-${seed}`),
    nodeCount: 2,
    shardCount,
    nodeArgs: ['--memory-budget', memory],
  });
  const originMs = Math.floor((Date.now() - (2 * LANE_COUNT + 1) * HOUR_MS) / 1_000) * 1_000;
  const history = new History({ seed, seriesCount: 400, originMs, stepMs: 1_000 });
  say(`seed ${seed}: ${shardCount} shards, ack ${ack}, memory budget ${memory}`);
  processes.start();
  await processes.ready();
  // Impatient on purpose: some writes are given up while their node is down.
  const client = openClient(processes.grpc, ack, 3_000);
  const load = new Load({
    ...{ history, random: new Seeded(random.int(0, 2 ** 31)), client, url: processes.url },
    ...{ sdkWriters: 4, remoteWriters: 2, laneCount: LANE_COUNT },
  });
  let killCount = 0;
  try {
    for (let round = 1; round <= rounds; round++) {
      load.start();
      for (const { afterMs, action, names } of planRound(random, processes.names)) {
        await new Promise((wake) => setTimeout(wake, afterMs));
        processes.checkAlive();
        if (action === 'start') processes.start(names);
        else await processes[action](names);
        if (action === 'kill') killCount += names.length;
      }
      await processes.ready();
      await load.stop();
      await judge(processes, history, load);
      const { acknowledgedCount } = history;
      say(`  round ${round}: ${killCount} kills, ${acknowledgedCount} acknowledged samples are there, bit for bit`);
    }
    return { killCount, acknowledgedCount: history.acknowledgedCount, failureCount: load.failureCount };
  } catch (error) {
    const again = `npm run chaos -- --seed ${seed} --rounds ${rounds}`;
    throw new Error(`${(error as Error).message}\n(${again}; the data is in ${directory})`, { cause: error });
  } finally {
    await Promise.all([load.stop(), client.close(0)]);
    await processes.kill();
  }
}

async function judge(processes: Processes, history: History, load: Load): Promise<void> {
  processes.checkAlive();
  const { verdict, gaps, counted, state } = await readBack(processes, history);
  const found = violations(verdict);
  for (const { shard, reason } of gaps) found.push(`shard ${shard} is said to have a gap: ${reason}`);
  if (state !== 'complete') found.push(`the coverage of a query is ${state}`);
  if (counted !== verdict.seenCount) found.push(`a query counts ${counted} samples, ${verdict.seenCount} are there`);
  for (const { node, shard, state: shardState, problem } of await processes.status()) {
    if (shardState === 'serving' && (problem === '' || LIVED_WITH.test(problem))) continue;
    found.push(`${node}, shard ${shard} is ${shardState}: ${problem}`);
  }
  found.push(...load.refusals.map((refusal) => `a valid write was refused for good: ${refusal}`));
  if (found.length > 0) throw new Error(found.join('\n'));
}
