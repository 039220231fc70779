/**
 * Seeded rounds against two regions of real processes under load. A round is one scenario: strikes, then all of it heals, then
 * both regions must come to hold the same and everything that was acknowledged, and the judge goes through what was
 * answered meanwhile. The seed decides the world's settings, and each round's scenario and strikes.
 */
import { join } from 'node:path';
import type { AckLevel } from '../core/protocol.ts';
import { Seeded } from '../test/sim/random.ts';
import { FLOOD, Flood } from './flood.ts';
import { History, violations } from './history.ts';
import { type Digests, Judge } from './judge.ts';
import { REGIONS } from './places.ts';
import { type Act, describe, eventOf, SCENARIOS, type Strike } from './scenarios.ts';
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
  /** What was done to it, and how often. */
  readonly events: Readonly<Record<string, number>>;
  /** What became of copies, and of how many. */
  readonly decisions: Readonly<Record<string, number>>;
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
  // So little that copies are brought elsewhere while their nodes are away, or so much that only writes are.
  const graceMs = random.pick([3_000, 3_000, 60_000]);
  // So few that a flood of series fills shards.
  const limit = random.pick([[], ['--series-per-shard', '2000']]);
  const settings = `${shardCount} shards, ack ${ack}, memory budget ${memory}, grace ${graceMs / 1_000} s`;
  say(`seed ${seed}: ${[settings, ...limit].join(' ')}`);
  const world = await World.create({
    ...{ dataDir: join(directory, `seed-${seed}`), toxiproxy: options.toxiproxy, seed, shardCount },
    ...{ frontierBoundMs: FRONTIER_BOUND_MS, graceMs, nodeArgs: ['--memory-budget', memory, ...limit] },
    ...options.extras,
  });
  const originMs = Math.floor((Date.now() - 3 * HOUR_MS) / 1_000) * 1_000;
  const history = new History({ seed, seriesCount: SERIES_COUNT, originMs, stepMs: STEP_MS });
  const shardOf = shardsOf(SERIES_COUNT, shardCount);
  const judge = new Judge({ history, regions: REGIONS, shardOf, boundMs: FRONTIER_BOUND_MS, lateMs: LATE_MS });
  const clients = new Map(REGIONS.map((region) => [region, world.client(region, ack, 4_000)]));
  const traffic = new Traffic({ world, history, judge, random: new Seeded(random.int(0, 2 ** 31)), clients });
  const flooders = new Map(REGIONS.map((region) => [region, world.client(region, ack, 4_000)]));
  const flood = new Flood({ seed, clients: flooders });
  const events: Record<string, number> = {};
  let round = 0;
  let answerCount = 0;
  let completeCount = 0;
  let isGood = false;
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
      for (const strike of strikes) {
        say(`  ${describe(strike)}`);
        events[eventOf(strike)] = (events[eventOf(strike)] ?? 0) + 1;
      }
      const startedMs = nowMs();
      traffic.start();
      await carryOut(world, flood, strikes);
      judge.unsettled(await world.operator.done(HEAL_MS));
      await traffic.stop();
      world.fleet.checkAlive();
      const healedMs = nowMs();
      await heal(world, traffic, judge);
      const answers = `${judge.answerCount} answers (${judge.completeCount} complete), ${judge.countCount} complete counts`;
      const counts = `${history.acknowledgedCount} samples, ${answers}`;
      answerCount += judge.answerCount;
      completeCount += judge.completeCount;
      const found = judge.conclude().map(({ rule, words }) => `${rule}: ${words}`);
      found.push(...traffic.refusals.splice(0), ...flood.refusals.splice(0), ...world.operator.complaints.splice(0));
      found.push(...(await drowned(traffic, flood)));
      if (found.length > 0) {
        const named = someOfEach(found).join('\n');
        throw new Error(`round ${round}, ${name}: ${found.length} promises were broken\n${named}`);
      }
      const seconds = [healedMs - startedMs, nowMs() - healedMs].map((ms) => (ms / 1_000).toFixed(1));
      say(`  ${counts}; struck for ${seconds[0]} s, whole again after ${seconds[1]} s`);
    }
    const { failureCount } = traffic;
    isGood = true;
    return {
      roundCount: round,
      acknowledgedCount: history.acknowledgedCount,
      answerCount,
      completeCount,
      failureCount,
      events,
      decisions: world.decisions(),
    };
  } catch (error) {
    const scenarios = options.scenarios.join(',');
    const { etcd, namespaces } = options.extras ?? {};
    const where = `${etcd === undefined ? '' : ' --etcd'}${namespaces === undefined ? '' : ' --namespaces'}`;
    const again = `npm run chaos -- --seed ${seed} --rounds ${round} --span ${options.spanMs / 1_000}${where} --scenarios ${scenarios}`;
    throw new Error(`${(error as Error).message}\n(${again}; the data is in ${directory})`, { cause: error });
  } finally {
    await traffic.stop();
    for (const region of REGIONS) await flood.stop(region);
    traffic.close();
    await Promise.all([...clients.values(), ...flooders.values()].map((client) => client.close(0)));
    await world.close(!isGood);
  }
}

/** All strikes at their times, each until it heals by itself; afterwards nothing is wrong any more, though operations may go on. */
async function carryOut(world: World, flood: Flood, strikes: readonly Strike[]): Promise<void> {
  const steps = strikes.flatMap(({ atMs, forMs, act }) => {
    if (act.kind === 'operate') return [{ atMs, run: async () => world.operator.begin(act.operation, forMs) }];
    if (act.kind === 'flood') {
      const start = async () => flood.start(act.region, act.of);
      return [
        { atMs, run: start },
        { atMs: atMs + forMs, run: () => flood.stop(act.region) },
      ];
    }
    return [
      { atMs, run: () => strike(world, act) },
      { atMs: atMs + forMs, run: () => mend(world, act) },
    ];
  });
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

type Fault = Exclude<Act, { readonly kind: 'operate' | 'flood' }>;

async function strike(world: World, act: Fault): Promise<void> {
  switch (act.kind) {
    case 'link':
      for (const link of act.links) await world.proxies.strike(link, act.fault);
      return;
    case 'kill':
      return world.fleet.kill(act.names);
    case 'stop':
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
async function mend(world: World, act: Fault): Promise<void> {
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

/** What a flood brought and is not there, or is there and should not be, in words. */
async function drowned(traffic: Traffic, flood: Flood): Promise<string[]> {
  const words: string[] = [];
  for (const region of flood.acknowledgedCount === 0 ? [] : REGIONS) {
    const check = flood.check();
    await traffic.see(region, FLOOD, check);
    words.push(...violations(check.verdict()).map((words) => `lost: of the floods, in ${region}: ${words}`));
  }
  return words;
}

/** Waits until no copy is on its way, all answers are complete and all digests equal, or time is up, and gives the judge the last of them. */
async function heal(world: World, traffic: Traffic, judge: Judge): Promise<void> {
  await world.ready();
  const untilMs = nowMs() + HEAL_MS;
  for (;;) {
    const isLast = nowMs() > untilMs;
    world.fleet.checkAlive();
    const placed = await world.operator.look().catch(() => undefined);
    const digests: Digests[] = [];
    for (const [region, places] of placed?.places ?? []) {
      const found = await world.digests(region, places).catch((error: unknown) => {
        if (isLast) throw error;
        return undefined;
      });
      if (found !== undefined) digests.push(found);
    }
    const unsettled = placed?.unsettled ?? ['the coordinator does not say where the copies are'];
    const answers = await Promise.all(REGIONS.map((region) => traffic.ask(region)));
    const isWhole = answers.every(({ coverage }) => coverage.every(({ state }) => state === 'complete'));
    const isEqual = digests.length === REGIONS.length && digests.every((one) => isSame(one, digests[0] as Digests));
    if (isLast || (isWhole && isEqual && unsettled.length === 0)) {
      judge.unsettled(unsettled);
      for (const [i, answer] of answers.entries()) judge.healed(answer, digests[i] ?? new Map());
      return;
    }
    // What is complete meanwhile is held to it.
    for (const answer of answers) judge.answered(answer);
    await new Promise((wake) => setTimeout(wake, HEAL_POLL_MS));
  }
}

/** The first of each rule, and as many others as a run tells of. */
function someOfEach(found: readonly string[]): string[] {
  const ruleOf = (words: string) => words.slice(0, words.indexOf(':'));
  return found.filter((words, i) => i < NAMED || found.findIndex((other) => ruleOf(other) === ruleOf(words)) === i);
}

function isSame(one: Digests, other: Digests): boolean {
  return one.size === other.size && [...one].every(([key, value]) => other.get(key) === value);
}
