/**
 * One simulated history of a cluster of two regions: the program's own nodes, replication, repair, custody, placers, elections and
 * meta store, on machines whose processes are killed, paused, cut off from power and from one another, whose clocks jump and
 * whose disks are lost, while clients write and delete and an operator drains nodes and stops moves. Throws, naming the seed, when a
 * promise is broken:
 *
 * - nothing is read that nobody wrote, and nothing is deleted that nobody deleted;
 * - where a copy that looks at the current placement says that it is complete, it is;
 * - once everything runs again the placement is in order, no gap is left, every copy of both regions has every acknowledged
 *   sample and deletion, and all of them have the same digests.
 */
import { KEYS } from '../../core/meta/keys.ts';
import type { Registration } from '../../core/meta/member.ts';
import type { Placer } from '../../core/meta/placer.ts';
import type { MetaStore } from '../../core/meta/store.ts';
import type { MetaPlacementView } from '../../core/meta/view.ts';
import type { Copy } from '../../core/placement.ts';
import { type AckLevel, shardsService } from '../../core/protocol.ts';
import type { Custody } from '../../node/custody.ts';
import type { Node } from '../../node/node.ts';
import type { Repair } from '../../node/repair/repair.ts';
import type { Replication } from '../../node/replication/replication.ts';
import type { Shard } from '../../node/shard/shard.ts';
import { batchOf, bitsOf, contentsOf, type Deleted, line, Model, type Sample, undeleted } from '../shard/model.ts';
import { Calls, type Life } from '../sim/calls.ts';
import { Network } from '../sim/network.ts';
import { Seeded } from '../sim/random.ts';
import { type Machine, Sim } from '../sim/sim.ts';
import { engine } from './engine.ts';
import { ordersByHand, ordersOf, takeAllBack } from './operator.ts';
import { reachCopy, reachStore } from './remote.ts';

const START_MS = Date.UTC(2026, 0, 1);
const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const ALWAYS = { fromMs: 0, toMs: Number.MAX_SAFE_INTEGER };
const TTL_MS = 3 * SECOND;
const GRACE_MS = 10 * SECOND;
const FRONTIER_BOUND_MS = 5 * SECOND;
/** After a copy was told of a placement, and of everything that was acknowledged before its frontiers. */
const NOTICE_MS = 8 * SECOND;
const STORE = 'meta';
const REGIONS = ['east', 'west'];
const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };

/** Where a history leans, to meet one kind of trouble more often. */
export interface Tilt {
  /** Of the ends of processes: the others are deaths without a power cut. */
  readonly powerCutShare?: number;
  readonly fsyncShare?: number;
  readonly copies?: number;
  /** How often a disk is lost: never where power is cut. */
  readonly wipeShare?: number;
  readonly deletionShare?: number;
  /** How often an operator does something. */
  readonly operatorShare?: number;
  /** Operators move shards by hand, hold single moves, and even things out, too. */
  readonly byHand?: true;
}

interface Acknowledged {
  readonly shard: number;
  readonly samples: readonly Sample[];
  readonly atMs: number;
  readonly level: AckLevel;
  /** What it acknowledged may be gone: it was not synced when the power went, or its disk was the only one that had it. */
  isExcused: boolean;
  /** The disk of the node that acknowledged it is gone, and not every copy has it: the others get it when its window has settled. */
  isOrphaned: boolean;
}

interface Running {
  readonly life: Life;
  readonly node: Node;
  readonly replication: Replication;
  readonly repair: Repair;
  readonly view: MetaPlacementView;
  custody?: Custody;
  registration?: Registration;
  /** Since when it looks at this placement. */
  seenMs: number;
}

interface Held {
  readonly model: Model;
  /** It knew of nothing that it lacked. */
  readonly isWhole: boolean;
}

class Host {
  readonly acknowledged: Acknowledged[] = [];
  readonly deleted: { readonly shard: number; readonly one: Deleted; isExcused: boolean }[] = [];
  isKnown = false;
  /** What its shards held when its process ended. */
  readonly kept = new Map<number, Held>();
  running: Running | undefined;

  constructor(
    readonly region: string,
    readonly name: string,
    readonly machine: Machine,
  ) {}

  get address(): string {
    return `${this.region}/${this.name}`;
  }
}

export class SimCluster {
  readonly sim: Sim;
  readonly #seed: number;
  readonly #parts: typeof engine;
  readonly #network: Network;
  readonly #calls: Calls;
  readonly #hosts: Host[];
  readonly #storeMachine: Machine;
  readonly #shardCount: number;
  readonly #copies: number;
  readonly #powerCutShare: number;
  readonly #fsyncShare: number;
  readonly #wipeShare: number;
  readonly #tilt: Tilt;
  #store: { readonly life: Life; readonly store: MetaStore; readonly placers: readonly Placer[] } | undefined;
  readonly #possible = new Set<string>();
  readonly #asked: Model[];
  #tick = 0;
  #powerWasCut = false;
  #diskWasLost = false;
  /** Shards of which the only whole copy was on a disk that was lost: nobody can say what is missing. */
  readonly #bereft = new Set<number>();
  /** What happened, for who looks into a seed. */
  readonly story: string[] = [];

  static async run(seed: number, parts: typeof engine = engine, tilt: Tilt = {}): Promise<SimCluster> {
    const cluster = new SimCluster(seed, parts, tilt);
    await cluster.#live();
    return cluster;
  }

  constructor(seed: number, parts: typeof engine, tilt: Tilt) {
    this.sim = new Sim(seed);
    const { random } = this.sim;
    this.#seed = seed;
    this.#parts = parts;
    this.#tilt = tilt;
    this.#network = new Network(this.sim);
    this.#network.delayMs = random.pick([2, 20, 200]);
    this.#calls = new Calls(this.#network);
    this.#copies = tilt.copies ?? random.pick([1, 1, 2]);
    this.#shardCount = random.pick([1, 2]);
    const nodeCount = Math.max(this.#copies + 1, random.pick([2, 2, 3]));
    this.#hosts = REGIONS.flatMap((region) =>
      Array.from({ length: nodeCount }, (_, i) => new Host(region, `n${i + 1}`, this.sim.machine())),
    );
    this.#storeMachine = this.sim.machine();
    this.#powerCutShare = tilt.powerCutShare ?? random.pick([0, 0, 0.5]);
    this.#fsyncShare = tilt.fsyncShare ?? 0.3;
    // Of its own randomness, so that the other choices of a seed stay what they were.
    const wipeShare = new Seeded(seed + 1_000_000).pick([0, 0, 0.01, 0.02]);
    this.#wipeShare = this.#powerCutShare > 0 ? 0 : (tilt.wipeShare ?? wipeShare);
    this.#asked = Array.from({ length: this.#shardCount }, () => new Model());
  }

  // ---- processes --------------------------------------------------------------------------------

  async #startStore(): Promise<void> {
    const life = this.#begin(STORE, this.#storeMachine);
    const env = this.#storeMachine.boot();
    const store = await this.#parts.openEmbeddedMeta(env, '/meta');
    const placers = REGIONS.map((region) =>
      this.#parts.keepPlacement(env, store, {
        ...{ clusterId: 'c', shardCount: this.#shardCount, region, name: STORE },
        ...{ expectedNodes: this.#hosts.length / REGIONS.length, copies: this.#copies },
        ...{ leaseTtlMs: TTL_MS, graceMs: GRACE_MS },
        say: (message) => this.#tell(`${region}: ${message}`),
        warn: (message) => this.#tell(`${region}: ${message}`),
      }),
    );
    this.#store = { life, store, placers };
  }

  /** A process of a machine of its own, that the others can reach. */
  #begin(name: string, machine: Machine): Life {
    this.#network.up(name, machine);
    return { host: name, isOver: false };
  }

  async #start(host: Host): Promise<void> {
    const parts = this.#parts;
    const env = host.machine.boot();
    const life = this.#begin(host.address, host.machine);
    const store = reachStore(this.#calls, life, STORE, () => this.#store!.store);
    const own = { env, name: host.name, region: host.region, clusterId: 'c', log: SILENT };
    const replication = await parts.Replication.open({
      ...own,
      ...{ zone: host.name, directory: '/d', frontierBoundMs: FRONTIER_BOUND_MS },
      connect: (address) => this.#network.channel(host.address, address),
    });
    const node = new parts.Node({
      ...own,
      claim: {
        directory: '/d',
        identity: undefined,
        record: async () => undefined,
        release: async () => undefined,
      },
      shardCount: this.#shardCount,
      memoryBudgetBytes: 2 ** 30,
      maxSampleAgeMs: Number.POSITIVE_INFINITY,
      maxSeriesCount: 64,
      watcher: replication,
    });
    const { frontiers, origins, pace } = replication;
    const repair = new parts.Repair({
      ...{ ...own, node, frontiers, origins, pace },
      connect: (copy) =>
        reachCopy(this.#calls, life, parts, copy, () => {
          const other = this.#hosts.find(({ address }) => address === copy.address)!.running!;
          const { node, replication, repair } = other;
          return { node, frontiers: replication.frontiers, digests: repair.digests };
        }),
      maxSampleAgeMs: Number.POSITIVE_INFINITY,
      intervalMs: 15 * SECOND,
    });
    const context = { env, node, origins, frontiers, pace };
    this.#network.serve(host.address, shardsService.Replicate, (call) => parts.serveReplication(call, context));
    const view = parts.openView(env, store);
    const running: Running = { life, node, replication, repair, view, seenMs: this.sim.nowMs };
    host.running = running;
    const resumed = host.isKnown ? node.resume() : Promise.resolve();
    host.isKnown = true;
    view.onChange((placement) => {
      running.seenMs = this.sim.nowMs;
      replication.follow(placement);
      repair.follow(placement);
      void node.follow(placement).then(() => running.custody?.look());
    });
    // As node/main.ts: who is registered is given writes.
    void resumed.then(() => {
      const member = { name: host.name, region: host.region, zone: host.name, address: host.address };
      const registration = parts.register(env, store, member, TTL_MS);
      running.registration = registration;
      running.custody = new parts.Custody({
        ...{ env, node, replication, log: SILENT },
        fill: (shard, signal) => repair.fill(shard, signal),
        report: (reports) => registration.report(reports),
      });
    });
    this.#tell(`${host.address} starts`);
  }

  async #end(host: Host): Promise<void> {
    const { running } = host;
    if (running === undefined) return;
    const isCut = this.sim.random.chance(this.#powerCutShare);
    if (this.#wipeShare > 0) {
      for (const [id, held] of await this.#heldBy(host)) host.kept.set(id, held);
    }
    this.#over(running.life);
    host.running = undefined;
    if (isCut) {
      host.machine.crash();
      this.#powerWasCut = true;
      for (const one of host.acknowledged) if (one.level !== 'FSYNC') one.isExcused = true;
      this.#tell(`${host.address} loses its power`);
    } else {
      host.machine.kill();
      this.#tell(`${host.address} dies`);
    }
  }

  /** The disk of a machine is lost, with what no other machine has. */
  async #wipe(host: Host): Promise<void> {
    const held = new Map<number, Model[]>();
    const whole = new Set<number>();
    for (const other of this.#hosts) {
      if (other === host) continue;
      const kept = other.running?.node.ready === true ? [] : other.kept;
      for (const [id, { model, isWhole }] of new Map([...kept, ...(await this.#heldBy(other))])) {
        held.set(id, [...(held.get(id) ?? []), model]);
        if (isWhole) whole.add(id);
      }
    }
    for (let id = 0; id < this.#shardCount; id++) if (!whole.has(id)) this.#bereft.add(id);
    if (host.running !== undefined) this.#over(host.running.life);
    host.running = undefined;
    host.machine.wipe();
    host.isKnown = false;
    host.kept.clear();
    this.#diskWasLost = true;
    for (const other of this.#hosts) {
      for (const one of other.acknowledged) {
        const lacking = (held.get(one.shard) ?? []).map((model) => model.missing(one.samples).length > 0);
        if (!lacking.includes(false)) one.isExcused = true;
        else if (other !== host) continue;
        else if (lacking.includes(true) || lacking.length < REGIONS.length * this.#copies - 1) one.isOrphaned = true;
      }
    }
    for (const one of this.#hosts.flatMap(({ deleted }) => deleted)) {
      const models = held.get(one.shard) ?? [];
      if (models.length === 0 || models.some((model) => undeleted(model, [one.one]).length > 0)) one.isExcused = true;
    }
    this.#tell(`${host.address} loses its disk`);
  }

  async #heldBy(host: Host): Promise<Map<number, Held>> {
    const found = new Map<number, Held>();
    for (const { id, shard } of this.#holdings(host)) {
      const isWhole = !host.running!.node.gaps(id, ALWAYS).some(({ state }) => state === 'missing');
      const model = await this.sim.settle(contentsOf(shard));
      // What is not in its log yet would not outlive it.
      const { log } = shard.cursors;
      const { sequence } = log.tail();
      for (let tries = 0; log.writtenSequence < sequence && tries < 1_000; tries++) await this.sim.steps(1);
      found.set(id, { model, isWhole });
    }
    return found;
  }

  #over(life: Life): void {
    life.isOver = true;
    this.#network.down(life.host);
    this.#calls.down(life.host);
  }

  #endStore(): void {
    if (this.#store === undefined) return;
    this.#over(this.#store.life);
    this.#store = undefined;
    this.#storeMachine.kill();
    this.#tell('the store dies');
  }

  // ---- clients ----------------------------------------------------------------------------------

  /** As a client that looks at some node's placement, which may be old. */
  #taker(id: number): { host: Host; shard: Shard } | undefined {
    const { random } = this.sim;
    const eyes = this.#hosts.filter(({ running }) => running?.view.current() !== undefined);
    if (eyes.length === 0) return undefined;
    const placement = random.pick(eyes).running!.view.current()!;
    const home = random.pick(REGIONS);
    const copies = placement.copies[id]!.filter(({ state }) => state !== 'leaving');
    for (const copy of [...copies].sort((a, b) => Number(b.region === home) - Number(a.region === home))) {
      const host = this.#hosts.find(({ address }) => address === copy.address)!;
      if (host.running === undefined || host.machine.isPaused) continue;
      try {
        return { host, shard: host.running.node.taker(id) };
      } catch {
        // The next copy.
      }
    }
    return undefined;
  }

  #write(): void {
    const { random } = this.sim;
    const id = random.int(0, this.#shardCount);
    const taker = this.#taker(id);
    if (taker === undefined) return;
    const { host, shard } = taker;
    const atMs = START_MS + Math.floor(this.sim.nowMs);
    const samples: Sample[] = Array.from({ length: random.pick([1, 3]) }, () => ({
      series: `s${random.int(0, 4)}`,
      timestampMs: atMs - random.pick([0, 1, 15 * SECOND, 3 * HOUR]) - (this.#tick % 50),
      bits: bitsOf(this.#tick++),
    }));
    const level: AckLevel = random.chance(this.#fsyncShare) ? 'FSYNC' : 'LOCAL';
    for (const one of samples) this.#possible.add(`${id} ${line(one)}`);
    const sender = shard.attach();
    const refs = (series: string) => Number(series.slice(1));
    const { running } = host;
    sender.append(batchOf(samples, refs, new Set(samples.map(({ series }) => series))), level).then(
      ({ code, rejections }) => {
        sender.detach();
        if (code !== 'OK' || rejections.length > 0 || host.running !== running) return;
        host.acknowledged.push({
          shard: id,
          samples,
          atMs: this.sim.nowMs,
          level,
          isExcused: false,
          isOrphaned: false,
        });
      },
      () => undefined,
    );
  }

  /** At every copy, as `client/eraser.ts`; those that cannot be reached hear of it from the others. */
  #delete(): void {
    const { random } = this.sim;
    const id = random.int(0, this.#shardCount);
    const taker = this.#taker(id);
    if (taker === undefined) return;
    const { host, shard } = taker;
    const toMs = START_MS + Math.floor(this.sim.nowMs) - random.pick([0, 10 * SECOND, 3 * HOUR]);
    const one = { series: `s${random.int(0, 4)}`, fromMs: toMs - random.pick([SECOND, MINUTE]), toMs };
    this.#asked[id]!.delete(one);
    const { running } = host;
    shard.delete([{ name: 's', op: '=', value: one.series }], one.fromMs, one.toMs).then(
      (count) => {
        if (count > 0 && host.running === running) host.deleted.push({ shard: id, one, isExcused: false });
      },
      () => undefined,
    );
  }

  #operate(): void {
    const store = this.#store?.store;
    if (store === undefined) return;
    const { random } = this.sim;
    const region = random.pick(REGIONS);
    const name = random.pick(this.#hosts).name;
    const orders = [...ordersOf(random, store, region, name)];
    if (this.#tilt.byHand) {
      const from = this.#copies === 1 ? undefined : random.pick(this.#hosts).name;
      const order = { shards: [random.int(0, this.#shardCount)], to: name, from };
      orders.push(...ordersByHand(random, store, region, order));
    }
    random
      .pick(orders)()
      .then(
        () => this.#tell(`an operator changes ${region}, perhaps ${name}`),
        () => undefined,
      );
  }

  // ---- the history ------------------------------------------------------------------------------

  async #live(): Promise<void> {
    const { sim } = this;
    const { random } = sim;
    await sim.settle(this.#startStore());
    for (const host of this.#hosts) await sim.settle(this.#start(host));
    await this.#until('a first placement', () =>
      this.#hosts.every(({ running }) => running!.view.current()?.copies[0]?.length === REGIONS.length * this.#copies),
    );
    const deletionShare = this.#tilt.deletionShare ?? 0.04;
    const actions = random.int(10, 50);
    for (let action = 0; action < actions; action++) {
      const host = random.pick(this.#hosts);
      const dice = random.next();
      if (host.running === undefined && dice < 0.5) {
        await sim.settle(this.#start(host));
        continue;
      }
      if (this.#store === undefined && dice > 0.7) {
        await sim.settle(this.#startStore());
        continue;
      }
      if (dice < 0.35) {
        for (let count = random.pick([1, 2, 10]); count > 0; count--) this.#write();
        if (random.chance(0.3)) await sim.steps(random.int(0, 20));
      } else if (dice < 0.35 + deletionShare) this.#delete();
      else if (dice < 0.62) await sim.advance(random.pick([1, 100, SECOND, 3 * SECOND, 10 * SECOND]));
      else if (dice < 0.68) {
        const [from, to] = [host.address, random.pick([...this.#hosts.map(({ address }) => address), STORE])];
        this.#network.cut(from, to);
        if (random.chance(0.5)) this.#network.cut(to, from);
        this.#tell(`cut from ${from} to ${to}`);
      } else if (dice < 0.73) this.#network.heal();
      else if (dice < 0.76) this.#network.breakOne();
      else if (dice < 0.79) host.machine.skewMs += random.pick([-20 * SECOND, 20 * SECOND, 1]);
      else if (dice < 0.82) {
        host.machine.isPaused = true;
        await sim.advance(random.pick([100, 5 * SECOND, 15 * SECOND]));
        host.machine.isPaused = false;
        this.#network.resumed();
      } else if (dice < 0.89) {
        await sim.steps(random.int(0, 25));
        await this.#end(host);
      } else if (dice < 0.89 + this.#wipeShare) await this.#wipe(host);
      else if (dice < 0.92) this.#endStore();
      else if (dice < 0.92 + (this.#tilt.operatorShare ?? 0.03)) this.#operate();
      else await this.#check(host);
    }
    await this.#heal();
  }

  async #heal(): Promise<void> {
    const { sim } = this;
    this.#network.heal();
    if (this.#store === undefined) await sim.settle(this.#startStore());
    for (const host of this.#hosts) if (host.running === undefined) await sim.settle(this.#start(host));
    this.#tell('everything runs again');
    const store = this.#store!.store;
    for (const region of REGIONS) {
      const names = this.#hosts.map(({ name }) => name);
      await sim.settle(takeAllBack(store, region, names));
    }
    // A copy whose disk was lost looks for what the others have every two seconds.
    if (this.#diskWasLost) await sim.advance(30 * SECOND);
    await this.#until(
      'order',
      () => this.#disorder() === '',
      () => this.#disorder(),
    );
    for (const host of this.#hosts) await this.#audit(host);
    await this.#compare();
  }

  /** What is not in order; empty when all is. */
  #disorder(): string {
    for (const { address, running } of this.#hosts) {
      const { view, node, replication } = running!;
      const placement = view.current();
      if (placement === undefined) return `${address} knows no placement`;
      for (const [id, copies] of placement.copies.entries()) {
        const isWhole =
          copies.length === REGIONS.length * this.#copies && copies.every(({ state }) => state === 'active');
        if (!isWhole) return `${address} sees shard ${id} at ${copies.map((c) => `${c.address}:${c.state}`).join(' ')}`;
        if (!copies.some((copy) => copy.address === address)) continue;
        if (!node.ready || !node.assigned().includes(id)) return `${address} is not ready`;
        const gap = node.gaps(id, ALWAYS).find(({ reason, state }) => {
          if (this.#bereft.has(id) && state === 'missing') return false;
          return !(this.#powerWasCut && /log is damaged|lack their series/.test(reason));
        });
        if (gap !== undefined) return `${address}: shard ${id} has a gap: ${gap.reason}`;
      }
      const lag = replication.lags().find(({ recordCount }) => recordCount > 0);
      if (lag !== undefined) return `${address} owes ${JSON.stringify(lag)}`;
    }
    return '';
  }

  async #until(what: string, isSo: () => boolean, why = () => ''): Promise<void> {
    for (let tries = 0; !isSo(); tries++) {
      if (tries === 120) this.#fail(`no ${what}: ${why()}`);
      await this.sim.advance(5 * SECOND);
    }
  }

  *#holdings(host: Host): Generator<{ id: number; shard: Shard; copy: Copy | undefined }> {
    const placement = host.running?.view.current();
    for (let id = 0; id < this.#shardCount; id++) {
      const copy = placement?.copies[id]?.find(({ address }) => address === host.address);
      try {
        yield { id, shard: host.running!.node.find(id), copy };
      } catch {
        // Not here, or not yet.
      }
    }
  }

  // ---- promises ---------------------------------------------------------------------------------

  /**
   * Where a copy says that it is complete, it has what was acknowledged some time ago: samples of the last minute before then, as
   * older ones of an origin that is silent are not waited for.
   */
  async #check(host: Host): Promise<void> {
    const placement = await this.#currentPlacement();
    const { running } = host;
    if (running === undefined || placement === undefined) return;
    const isCurrent = running.view.current()?.revision === placement.revision;
    if (!isCurrent || this.sim.nowMs - running.seenMs < NOTICE_MS) return;
    for (const { id, shard, copy } of this.#holdings(host)) {
      if (copy === undefined) continue;
      const gaps = running.node.gaps(id, ALWAYS);
      const beforeMs = this.sim.nowMs - FRONTIER_BOUND_MS;
      const required = new Model();
      for (const { acknowledged } of this.#hosts) {
        for (const one of acknowledged) {
          if (one.shard !== id || one.isExcused || one.isOrphaned || one.atMs >= beforeMs) continue;
          const isPromised = ({ timestampMs }: Sample) =>
            timestampMs > one.atMs + START_MS - MINUTE &&
            !gaps.some(({ fromMs, toMs }) => fromMs <= timestampMs && timestampMs <= toMs);
          required.addAll(one.samples.filter(isPromised));
        }
      }
      const held = await this.sim.settle(contentsOf(shard));
      this.#judge(host, id, held, required, 'and says that it is complete');
    }
  }

  async #currentPlacement(): Promise<{ revision: number } | undefined> {
    if (this.#store === undefined) return undefined;
    const { entries } = await this.sim.settle(this.#store.store.range(KEYS.placements));
    return { revision: Math.max(...entries.map(({ revision }) => revision)) };
  }

  /** All that was ever acknowledged is in this copy. */
  async #audit(host: Host): Promise<void> {
    for (const { id, shard, copy } of this.#holdings(host)) {
      if (copy === undefined) continue;
      const required = new Model();
      for (const { acknowledged, deleted } of this.#hosts) {
        for (const one of acknowledged) {
          if (one.shard === id && !one.isExcused && !one.isOrphaned) required.addAll(one.samples);
        }
        for (const { shard: of, one, isExcused } of deleted) if (of === id && !isExcused) required.delete(one);
      }
      this.#judge(host, id, await this.sim.settle(contentsOf(shard)), required, 'in the end');
    }
  }

  #judge(host: Host, id: number, held: Model, required: Model, when: string): void {
    const asked = this.#asked[id]!;
    const isDeletedSomewhere = (text: string): boolean => {
      const [, series, at] = /^(\S+) @(\d+) /.exec(text) as unknown as [string, string, string];
      return asked.isDeleted(series, Number(at));
    };
    const where = `${host.address}, shard ${id}`;
    const lost = held.missing(required).filter((text) => !isDeletedSomewhere(text));
    if (lost.length > 0) this.#fail(`${where} lacks what was acknowledged ${when}`, lost);
    for (const text of held.lines())
      if (!this.#possible.has(`${id} ${text}`)) this.#fail(`${where}: never written`, [text]);
    const forgotten = undeleted(held, required.deletions);
    if (forgotten.length > 0) this.#fail(`${where} lacks deletions ${when}`, forgotten);
    const invented = undeleted(asked, held.deletions);
    if (invented.length > 0) this.#fail(`${where}: never deleted`, invented);
  }

  /** After some time for repair, all copies are equal. */
  async #compare(): Promise<void> {
    const differing = async (): Promise<string> => {
      for (let id = 0; id < this.#shardCount; id++) {
        const shards = this.#hosts.flatMap((host) =>
          [...this.#holdings(host)].filter((one) => one.id === id && one.copy !== undefined),
        );
        for (const startMs of new Set(shards.flatMap(({ shard }) => shard.windows()))) {
          const digests = new Set<string>();
          for (const { shard } of shards)
            digests.add(Buffer.from(await this.sim.settle(shard.digest(startMs))).toString('hex'));
          if (digests.size > 1) return `digests of shard ${id}, window ${startMs} differ`;
        }
      }
      return '';
    };
    // A power cut or a lost disk takes from an origin what some others have: that stays in open windows until they have settled.
    if (this.#powerWasCut || this.#diskWasLost) return;
    const found = await differing();
    if (found !== '') this.#fail(found);
  }

  #tell(what: string): void {
    this.story.push(`${(this.sim.nowMs / SECOND).toFixed(1)} s: ${what}`);
  }

  #fail(what: string, lines: readonly string[] = []): never {
    throw new Error(`seed ${this.#seed}: ${[what, ...lines.slice(0, 5)].join('\n  ')}\n${this.story.join('\n')}`);
  }
}
