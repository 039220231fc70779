/**
 * One simulated history of a shard with a copy in each of two or three regions: writes and deletions anywhere, links cut one
 * way or both, connections broken at one end, processes killed, paused and cut off from power at any moment. Throws, naming
 * the seed, when replication breaks a promise:
 *
 * - nothing is read that nobody wrote, and nothing is deleted that nobody deleted;
 * - what an origin acknowledged before a frontier that a copy knows of is in that copy;
 * - what a process acknowledged survives its death, and what it had synced a power cut;
 * - once everything runs again, every copy gets every acknowledged sample and deletion, no gap is reported, and, unless power
 *   cuts made an origin forget what it had shipped, all digests are equal.
 */

import type { Copy, Placement } from '../../core/placement.ts';
import type { AckLevel } from '../../core/protocol.ts';
import { shardsService } from '../../core/protocol.ts';
import { SPOKEN } from '../../core/versions.ts';
import { Refused } from '../../node/hello.ts';
import type { Replication } from '../../node/replication/replication.ts';
import { Budget } from '../../node/shard/budget.ts';
import type { Shard } from '../../node/shard/shard.ts';
import { batchOf, bitsOf, contentsOf, type Deleted, line, Model, type Sample, undeleted } from '../shard/model.ts';
import { Network } from '../sim/network.ts';
import { Seeded } from '../sim/random.ts';
import { type Machine, Sim } from '../sim/sim.ts';
import { engine } from './engine.ts';

const SHARD = 0;
const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const ZERO = { fromMs: 0, toMs: Number.MAX_SAFE_INTEGER };

/** Where a history leans, to meet one kind of trouble more often. */
export interface Tilt {
  /** Of the acknowledgements asked for. */
  readonly fsyncShare?: number;
  readonly syncDelayMs?: number;
  readonly checkpointIntervalMs?: number;
  /** Of the ends of processes: the others are deaths without a power cut. */
  readonly powerCutShare?: number;
  /** How long messages take. */
  readonly delayMs?: number;
}

type Engine = typeof engine;

interface Acknowledged {
  readonly samples: readonly Sample[];
  readonly atMs: number;
  readonly level: AckLevel;
  /** What it has acknowledged may be gone: it was not synced when the power went. */
  isExcused: boolean;
}

class Host {
  readonly name: string;
  readonly acknowledged: Acknowledged[] = [];
  readonly deleted: { readonly one: Deleted; readonly atMs: number; isExcused: boolean }[] = [];
  readonly problems: string[] = [];
  running: { readonly shard: Shard; readonly replication: Replication } | undefined;

  constructor(
    name: string,
    readonly machine: Machine,
  ) {
    this.name = name;
  }

  get copy(): Copy {
    return { region: this.name, zone: 'a', node: 'n', address: this.name, state: 'active', epoch: 1 };
  }

  /** As the others call it. */
  get origin(): string {
    return `${this.name}/n`;
  }
}

export async function simulate(seed: number, parts: Engine = engine, tilt: Tilt = {}): Promise<void> {
  const sim = new Sim(seed);
  const { random } = sim;
  const network = new Network(sim);
  network.delayMs = tilt.delayMs ?? random.pick([2, 20, 500]);
  const names = ['east', 'west', 'north'].slice(0, random.chance(0.3) ? 3 : 2);
  const hosts = names.map((name) => new Host(name, sim.machine()));
  const placement: Placement = { clusterId: 'c', shardCount: 1, revision: 1, copies: [hosts.map(({ copy }) => copy)] };
  const powerCutShare = tilt.powerCutShare ?? random.pick([0, 0.5]);
  const fsyncShare = tilt.fsyncShare ?? 0.3;
  const seriesCount = random.int(1, 6);
  const options = {
    checkpointIntervalMs: tilt.checkpointIntervalMs ?? random.pick([1, 5 * SECOND, 10 * MINUTE]),
    log: {
      segmentBytes: random.pick([400, 2000, 1 << 20]),
      syncDelayMs: tilt.syncDelayMs ?? random.pick([1, 100, 3000]),
    },
    sealDelayMs: 0,
    sealIdleMs: random.pick([0, 2 * MINUTE]),
    sliceMs: random.pick([0, 1]),
    maxSampleAgeMs: Number.POSITIVE_INFINITY,
    limits: { maxKernelBytes: 1 << 24, maxSeriesCount: 256 },
  };
  // Of its own randomness, so that the other choices of a seed stay what they were.
  const tempo = new Seeded(seed + 1_000_000);
  const catchUp = tempo.chance(0.5)
    ? {}
    : { behindBytes: tempo.pick([0, 1_000]), catchUpBytesPerSecond: tempo.pick([10_000, 1_000_000]) };
  const possible = new Set<string>();
  const asked = new Model();
  let powerWasCut = false;

  const fail = (what: string, lines: readonly string[] = []): never => {
    throw new Error(`seed ${seed}: ${[what, ...lines.slice(0, 5)].join('\n  ')}`);
  };

  const start = async (host: Host): Promise<void> => {
    const env = host.machine.boot();
    network.up(host.name, host.machine);
    const say = () => undefined;
    const own = { env, name: 'n', region: host.name, zone: 'a', clusterId: 'c', directory: '/d' };
    const replication = await parts.Replication.open({
      ...own,
      log: { info: say, warn: say },
      frontierBoundMs: 30 * SECOND,
      ...catchUp,
      connect: (address) => network.channel(host.name, address),
    });
    const shard = await parts.Shard.open(env, '/d/shard', {
      ...options,
      shard: SHARD,
      budget: new Budget(1 << 30),
      committed: (durationMs) => replication.committed(durationMs),
    });
    const node = { name: 'n', clusterId: 'c', spoken: SPOKEN, refused: new Refused(() => 0), find: () => shard };
    const { origins, frontiers, pace } = replication;
    const context = { env, node, origins, frontiers, pace };
    network.serve(host.name, shardsService.Replicate, (call) => parts.serveReplication(call, context));
    replication.follow(placement);
    replication.opened(SHARD, shard);
    env.timers.every(SECOND, () => void shard.tick().catch(() => undefined));
    host.running = { shard, replication };
  };

  const end = (host: Host): void => {
    const isCut = random.chance(powerCutShare);
    network.down(host.name);
    if (isCut) {
      host.machine.crash();
      powerWasCut = true;
      for (const one of host.acknowledged) if (one.level !== 'FSYNC') one.isExcused = true;
    } else host.machine.kill();
    host.running = undefined;
  };

  /** What a copy must hold: of each origin, all that was acknowledged before its frontier here; of its own, all. */
  const check = async (host: Host): Promise<void> => {
    const { shard, replication } = host.running as NonNullable<Host['running']>;
    const ages = new Map(replication.frontiers.ages(SHARD).map(({ origin, ageMs }) => [origin, ageMs]));
    const required = new Model();
    for (const other of hosts) {
      const ageMs = other === host ? 0 : ages.get(other.origin);
      if (ageMs === undefined) continue;
      const frontierMs = sim.nowMs - ageMs;
      for (const { samples, atMs, isExcused } of other.acknowledged)
        if (!isExcused && atMs < frontierMs) required.addAll(samples);
      for (const { one, atMs, isExcused } of other.deleted) if (!isExcused && atMs < frontierMs) required.delete(one);
    }
    // Nothing comes in meanwhile that could only make it better.
    const held = await sim.settle(contentsOf(shard));
    judge(host, held, required, 'before its frontier');
  };

  const judge = (host: Host, held: Model, required: Model, when: string): void => {
    const lost = held.missing(required).filter((text) => !isDeletedSomewhere(text));
    if (lost.length > 0) fail(`${host.name} lacks what was acknowledged ${when}`, lost);
    for (const text of held.lines()) if (!possible.has(text)) fail(`${host.name}: never written`, [text]);
    const forgotten = undeleted(held, required.deletions);
    if (forgotten.length > 0) fail(`${host.name} lacks deletions of ${when}`, forgotten);
    const invented = undeleted(asked, held.deletions);
    if (invented.length > 0) fail(`${host.name}: never deleted`, invented);
  };

  /** A deletion that was asked for and not acknowledged may hold already, here or there. */
  const isDeletedSomewhere = (text: string): boolean => {
    const [, series, at] = /^(\S+) @(\d+) /.exec(text) as unknown as [string, string, string];
    return asked.isDeleted(series, Number(at));
  };

  for (const host of hosts) await sim.settle(start(host));

  let tick = 0;
  const write = (host: Host): void => {
    const { shard } = host.running as NonNullable<Host['running']>;
    const atMs = Date.UTC(2026, 0, 1) + Math.floor(sim.nowMs);
    const samples: Sample[] = Array.from({ length: random.pick([1, 3, 20]) }, () => ({
      series: `s${random.int(0, seriesCount)}`,
      timestampMs: atMs - random.pick([0, 1, 15 * SECOND, 3 * 60 * MINUTE]) - (tick % 50),
      bits: bitsOf(tick++),
    }));
    const level: AckLevel = random.chance(fsyncShare) ? 'FSYNC' : 'LOCAL';
    for (const one of samples) possible.add(line(one));
    const sender = shard.attach();
    const refs = (series: string) => Number(series.slice(1));
    const appended = sender.append(batchOf(samples, refs, new Set(samples.map(({ series }) => series))), level);
    const { running } = host;
    appended.then(
      ({ code, rejections }) => {
        sender.detach();
        if (code !== 'OK' || rejections.length > 0 || host.running !== running) return;
        host.acknowledged.push({ samples, atMs: sim.nowMs, level, isExcused: false });
      },
      () => undefined,
    );
  };

  const remove = (host: Host): void => {
    const { shard } = host.running as NonNullable<Host['running']>;
    const toMs = Date.UTC(2026, 0, 1) + Math.floor(sim.nowMs) - random.pick([0, 10 * SECOND]);
    const one = { series: `s${random.int(0, seriesCount)}`, fromMs: toMs - random.pick([SECOND, MINUTE]), toMs };
    asked.delete(one);
    const { running } = host;
    shard.delete([{ name: 's', op: '=', value: one.series }], one.fromMs, one.toMs).then(
      (count) => {
        // A copy deletes only of the series that it knows.
        if (count === 0 || host.running !== running) return;
        host.deleted.push({ one, atMs: sim.nowMs, isExcused: false });
      },
      () => undefined,
    );
  };

  const actions = random.int(10, 60);
  for (let action = 0; action < actions; action++) {
    const host = random.pick(hosts);
    const dice = random.next();
    if (host.running === undefined) {
      if (dice < 0.5) await sim.settle(start(host));
      else await sim.advance(random.pick([10, SECOND, 5 * SECOND]));
      continue;
    }
    if (dice < 0.45) {
      for (let count = random.pick([1, 1, 10]); count > 0; count--) write(host);
      if (random.chance(0.3)) await sim.steps(random.int(0, 20));
    } else if (dice < 0.48) remove(host);
    else if (dice < 0.65) await sim.advance(random.pick([1, 100, SECOND, 3 * SECOND, 10 * SECOND]));
    else if (dice < 0.72) {
      const other = random.pick(hosts);
      network.cut(host.name, other.name);
      if (random.chance(0.5)) network.cut(other.name, host.name);
    } else if (dice < 0.77) network.heal();
    else if (dice < 0.82) network.breakOne();
    else if (dice < 0.86) host.machine.skewMs += random.pick([-20 * SECOND, 20 * SECOND, 1]);
    else if (dice < 0.9) {
      host.machine.isPaused = true;
      await sim.advance(random.pick([100, 5 * SECOND, 40 * SECOND]));
      host.machine.isPaused = false;
      network.resumed();
    } else if (dice < 0.95) {
      await sim.steps(random.int(0, 25));
      end(host);
    } else await check(host);
  }

  network.heal();
  for (const host of hosts) if (host.running === undefined) await sim.settle(start(host));
  const everything = new Model();
  await sim.advance(SECOND);
  for (const host of hosts) {
    for (const { samples, isExcused } of host.acknowledged) if (!isExcused) everything.addAll(samples);
    for (const { one, isExcused } of host.deleted) if (!isExcused) everything.delete(one);
  }
  // Waits grow to 5 s, connections are given up after 30 s.
  for (let tries = 0; ; tries++) {
    await sim.advance(5 * SECOND);
    const isBehind = ({ running }: Host): boolean =>
      running === undefined ||
      running.replication.lags().some(({ recordCount }) => recordCount > 0) ||
      running.replication.frontiers.ages(SHARD).some(({ ageMs }) => ageMs === undefined || ageMs > 15 * SECOND);
    const behind = hosts.find(isBehind);
    if (behind === undefined) break;
    if (tries === 24) fail(`${behind.name} is behind for ever`, [JSON.stringify(behind.running?.replication.lags())]);
  }
  for (const host of hosts) {
    const { shard, replication } = host.running as NonNullable<Host['running']>;
    judge(host, await sim.settle(contentsOf(shard)), everything, 'at any time');
    const lost = replication.lags().find(({ lostRecordCount }) => lostRecordCount > 0);
    if (lost !== undefined) fail(`${host.name} reports a gap that is none`, [JSON.stringify(lost)]);
    // A power cut may leave a hole in what was not synced, which is said.
    const gaps = [...shard.gaps(ZERO), ...replication.unconfirmed(SHARD, ZERO)].filter(
      ({ reason }) => !(powerWasCut && /^the log is damaged|lack their series/.test(reason)),
    );
    if (gaps.length > 0) fail(`${host.name} is not complete`, [JSON.stringify(gaps[0])]);
  }
  if (powerWasCut) return;
  const windows = new Set(hosts.flatMap(({ running }) => running?.shard.windows() ?? []));
  for (const startMs of windows) {
    const digests: string[] = [];
    for (const { running } of hosts) {
      const sums = Buffer.from(await sim.settle((running as NonNullable<Host['running']>).shard.digest(startMs)));
      digests.push(sums.toString('hex').replace(/0{16,}/g, '.'));
    }
    if (new Set(digests).size > 1) fail(`digests of window ${startMs} differ`, digests);
  }
}
