/**
 * Seeded rounds against two regions of real processes under load. A round is one scenario: strikes, then all of it heals, then
 * both regions must come to hold the same and everything that was acknowledged, and the judge goes through what was
 * answered meanwhile. The seed decides the world's settings, and each round's scenario and strikes.
 */
import { join } from 'node:path';
import type { AckLevel } from '../core/protocol.ts';
import { Seeded } from '../test/sim/random.ts';
import { History } from './history.ts';
import { type Digests, Judge } from './judge.ts';
import { REGIONS } from './places.ts';
import { type Act, describe, SCENARIOS, type Strike } from './scenarios.ts';
import { nowMs, shardsOf, Traffic } from './traffic.ts';
import { World, type WorldOptions } from './world.ts';

export interface RunOptions {
  readonly seed: number;
  /** Names of scenarios; the seed picks among them, or, with `inOrder`, each has its turn. */
  readonly scenarios: readonly string[];
  readonly inOrder?: boolean;
  /** Ends with the round that is under way then. */
  readonly untilMs: number;
  /** Ends after so many rounds. */
  readonly rounds: number;
  /** Of a round's strikes. */
  readonly spanMs: number;
  readonly toxiproxy: string;
  /** What else the world is made of. */
  readonly extras?: Pick<WorldOptions, 'etcd' | 'faketime' | 'smallDisks' | 'namespaces'>;
  /** Empty; what is in it afterwards is the caller's. */
  readonly directory: string;
  readonly say: (line: string) => void;
}

export interface RunResult {
  readonly roundCount: number;
  readonly acknowledgedCount: number;
  readonly answerCount: number;
  /** Answers that called themselves complete. */
  readonly completeCount: number;
  /** Writes that were given up, and may be stored or not. */
  readonly failureCount: number;
}

const HOUR_MS = 3_600_000;
const FRONTIER_BOUND_MS = 3_000;
/** Of the nodes (node/replication/frontiers.ts). */
const LATE_MS = 60_000;
const SERIES_COUNT = 240;
const STEP_MS = 100;
/** How long two regions may take to agree once nothing is wrong any more. */
const HEAL_MS = 180_000;
const HEAL_POLL_MS = 500;
/** Broken promises that a run tells of. */
const NAMED = 12;

/** Throws, with all that was found wrong and how to run it again, at the first round that breaks a promise. */
export async function runRegions(options: RunOptions): Promise<RunResult> {
  const { seed, directory, say } = options;
  const random = new Seeded(seed);
  const shardCount = random.pick([2, 4, 8]);
  const ack = random.pick<AckLevel>(['LOCAL', 'LOCAL', 'LOCAL', 'FSYNC', 'PEER']);
  // So little that windows are sealed while they are written to.
  const memory = random.pick(['2GiB', '4MiB']);
  say(`seed ${seed}: ${shardCount} shards, ack ${ack}, memory budget ${memory}`);
  const world = await World.create({
    ...{ dataDir: join(directory, `seed-${seed}`), toxiproxy: options.toxiproxy, seed, shardCount },
    ...{ frontierBoundMs: FRONTIER_BOUND_MS, nodeArgs: ['--memory-budget', memory] },
    ...options.extras,
  });
  const originMs = Math.floor((Date.now() - 3 * HOUR_MS) / 1_000) * 1_000;
  const history = new History({ seed, seriesCount: SERIES_COUNT, originMs, stepMs: STEP_MS });
  const shardOf = shardsOf(SERIES_COUNT, shardCount);
  const judge = new Judge({ history, regions: REGIONS, shardOf, boundMs: FRONTIER_BOUND_MS, lateMs: LATE_MS });
  const clients = new Map(REGIONS.map((region) => [region, world.client(region, ack, 4_000)]));
  const traffic = new Traffic({ world, history, judge, random: new Seeded(random.int(0, 2 ** 31)), clients });
  let round = 0;
  let answerCount = 0;
  let completeCount = 0;
  try {
    world.fleet.start();
    await world.ready();
    await traffic.ready();
    while (round < options.rounds && nowMs() < options.untilMs) {
      round++;
      // Of its own, so that a round does not depend on what the ones before it used up.
      const own = new Seeded(seed * 1_000 + round);
      const picked = own.pick(options.scenarios);
      const name = options.inOrder ? (options.scenarios[(round - 1) % options.scenarios.length] as string) : picked;
      const strikes = (SCENARIOS[name] as (typeof SCENARIOS)[string])(own, world, options.spanMs);
      say(`round ${round}: ${name}`);
      for (const strike of strikes) say(`  ${describe(strike)}`);
      const startedMs = nowMs();
      traffic.start();
      await carryOut(world, strikes);
      await traffic.stop();
      world.fleet.checkAlive();
      const healedMs = nowMs();
      await heal(world, traffic, judge);
      const answers = `${judge.answerCount} answers (${judge.completeCount} complete), ${judge.countCount} complete counts`;
      const counts = `${history.acknowledgedCount} samples, ${answers}`;
      answerCount += judge.answerCount;
      completeCount += judge.completeCount;
      const found = judge.conclude().map(({ rule, words }) => `${rule}: ${words}`);
      found.push(...traffic.refusals.splice(0));
      if (found.length > 0) {
        const named = found.slice(0, NAMED).join('\n');
        throw new Error(`round ${round}, ${name}: ${found.length} promises were broken\n${named}`);
      }
      const seconds = [healedMs - startedMs, nowMs() - healedMs].map((ms) => (ms / 1_000).toFixed(1));
      say(`  ${counts}; struck for ${seconds[0]} s, whole again after ${seconds[1]} s`);
    }
    const { failureCount } = traffic;
    return {
      roundCount: round,
      acknowledgedCount: history.acknowledgedCount,
      answerCount,
      completeCount,
      failureCount,
    };
  } catch (error) {
    const scenarios = options.scenarios.join(',');
    const { etcd, namespaces } = options.extras ?? {};
    const where = `${etcd === undefined ? '' : ' --etcd'}${namespaces === undefined ? '' : ' --namespaces'}`;
    const again = `npm run chaos -- --seed ${seed} --rounds ${round} --span ${options.spanMs / 1_000}${where} --scenarios ${scenarios}`;
    throw new Error(`${(error as Error).message}\n(${again}; the data is in ${directory})`, { cause: error });
  } finally {
    await traffic.stop();
    traffic.close();
    await Promise.all([...clients.values()].map((client) => client.close(0)));
    await world.close();
  }
}

/** All strikes at their times, each until it heals by itself; afterwards nothing is wrong any more. */
async function carryOut(world: World, strikes: readonly Strike[]): Promise<void> {
  const steps = strikes.flatMap(({ atMs, forMs, act }) => [
    { atMs, run: () => strike(world, act) },
    { atMs: atMs + forMs, run: () => mend(world, act) },
  ]);
  steps.sort((a, b) => a.atMs - b.atMs);
  const startedMs = nowMs();
  for (const { atMs, run } of steps) {
    await new Promise((wake) => setTimeout(wake, Math.max(0, startedMs + atMs - nowMs())));
    world.fleet.checkAlive();
    await run();
  }
  await world.proxies.heal();
  world.fleet.thaw(world.fleet.names);
  world.fleet.start();
}

async function strike(world: World, act: Act): Promise<void> {
  switch (act.kind) {
    case 'link':
      for (const link of act.links) await world.proxies.strike(link, act.fault);
      return;
    case 'kill':
      return world.fleet.kill(act.names);
    case 'stop':
      // One that is frozen would never hear of it.
      world.fleet.thaw(act.names);
      return world.fleet.stop(act.names);
    case 'freeze':
      return world.fleet.freeze(act.names);
    case 'clock':
      for (const name of act.names) world.setClock(name, act.offsetMs);
      return;
    case 'disk':
      for (const name of act.names) world.disks?.fill(name);
      return;
    case 'store':
      return world.loseStore();
    case 'drop':
      return world.drop(act.from, act.to, true);
  }
}

/** What other strikes did to the same link is mended with it. */
async function mend(world: World, act: Act): Promise<void> {
  switch (act.kind) {
    case 'link':
      return world.proxies.heal(act.links);
    case 'freeze':
      return world.fleet.thaw(act.names);
    case 'clock':
      for (const name of act.names) world.setClock(name, 0);
      return;
    case 'disk':
      for (const name of act.names) world.disks?.empty(name);
      return;
    case 'store':
      return world.restoreStore();
    case 'drop':
      return world.drop(act.from, act.to, false);
    default:
      world.fleet.start(act.names);
  }
}

/** Waits until all answers are complete and all digests equal, or time is up, and gives the judge the last of them. */
async function heal(world: World, traffic: Traffic, judge: Judge): Promise<void> {
  await world.ready();
  const untilMs = nowMs() + HEAL_MS;
  for (;;) {
    const isLast = nowMs() > untilMs;
    world.fleet.checkAlive();
    const digests: Digests[] = [];
    for (const region of REGIONS) {
      const found = await world.digests(region).catch((error: unknown) => {
        if (isLast) throw error;
        return undefined;
      });
      if (found !== undefined) digests.push(found);
    }
    const answers = await Promise.all(REGIONS.map((region) => traffic.ask(region)));
    const isWhole = answers.every(({ coverage }) => coverage.every(({ state }) => state === 'complete'));
    const isEqual = digests.length === REGIONS.length && digests.every((one) => isSame(one, digests[0] as Digests));
    if (isLast || (isWhole && isEqual)) {
      for (const [i, answer] of answers.entries()) judge.healed(answer, digests[i] as Digests);
      return;
    }
    // What is complete meanwhile is held to it.
    for (const answer of answers) judge.answered(answer);
    await new Promise((wake) => setTimeout(wake, HEAL_POLL_MS));
  }
}

function isSame(one: Digests, other: Digests): boolean {
  return one.size === other.size && [...one].every(([key, value]) => other.get(key) === value);
}
