/**
 * A region in which everything goes wrong, from a seed: nodes that die, come back and lose their disks, a store that is away,
 * a placer that is stopped, clients and nodes that look at an old placement. Writes are numbers; what is acknowledged must
 * always lie in a copy that the placement names, and in the end in all of them.
 */

import { SilverbackError } from '../../core/errors.ts';
import type { beginning, DecideOptions, Decision, decide, Memory } from '../../core/meta/decide.ts';
import {
  evenMoves,
  orderedMoves,
  withAsked,
  withCordon,
  withHeldMove,
  withMoves,
  withoutMove,
  withoutNode,
  withoutPins,
} from '../../core/meta/orders.ts';
import type { CopyReport, CopyReports, Cordon, RegionCopy, RegionPlacement } from '../../core/meta/region.ts';
import { nextTenure, type Tenure } from '../../node/tenure.ts';
import { Seeded } from '../sim/random.ts';

export interface Rules {
  readonly decide: typeof decide;
  readonly beginning: typeof beginning;
}

const STEP_MS = 500;
const TTL_MS = 10_000;
const GRACE_MS = 60_000;

/** A shard on a node's disk. */
interface Held {
  tenure: Tenure;
  readonly writes: Set<number>;
  /** Acknowledged here; these the node owes to the other copies. */
  readonly own: Set<number>;
  isDrained: boolean;
}

interface SimNode {
  readonly name: string;
  readonly zone: string;
  isAlive: boolean;
  /** Cut off from the store only. */
  isCut: boolean;
  /** In the store; 0: none. */
  leaseUntilMs: number;
  nextTryMs: number;
  /** The placement as it knows it. */
  view: RegionPlacement | undefined;
  readonly shards: Map<number, Held>;
  reports: CopyReports;
}

export interface Troubles {
  readonly nodes: number;
  readonly copies: number;
  readonly shards: number;
  readonly outages: boolean;
}

export class SimRegion {
  readonly random: Seeded;
  readonly options: DecideOptions;
  readonly nodes: SimNode[];
  placement: RegionPlacement | undefined;
  nowMs = 0;
  /** Written placements. */
  commits = 0;
  alarms = 0;
  /** What operators asked for and got. */
  operations = 0;
  /** What broke a rule. */
  readonly violations: string[] = [];
  /** By shard. */
  readonly acknowledged: Set<number>[];
  isStoreUp = true;
  readonly #rules: Rules;
  /** Undefined: no placer is elected. */
  #memory: Memory | undefined;
  #placerFromMs = 0;
  #isWriting = true;
  #writeCount = 0;
  #checked: RegionPlacement | undefined;
  /** Since when nothing has been in the way of a taker for every shard. */
  #calmSinceMs = 0;

  constructor(seed: number, rules: Rules, troubles: Troubles) {
    this.random = new Seeded(seed);
    this.#rules = rules;
    this.options = {
      clusterId: 'c',
      shardCount: troubles.shards,
      region: 'r',
      expectedNodes: troubles.nodes,
      copies: troubles.copies,
      leaseTtlMs: TTL_MS,
      graceMs: GRACE_MS,
    };
    this.nodes = Array.from({ length: troubles.nodes }, (_, i) => ({
      name: `n${i}`,
      zone: `z${i % 3}`,
      isAlive: true,
      isCut: false,
      leaseUntilMs: 0,
      nextTryMs: 0,
      view: undefined,
      shards: new Map(),
      reports: {},
    }));
    this.acknowledged = Array.from({ length: troubles.shards }, () => new Set());
  }

  /** One step of time, and everybody's turn in it. */
  step(): void {
    this.nowMs += STEP_MS;
    for (const node of this.nodes) this.#live(node);
    this.#place();
    this.#write();
    this.#replicate();
    this.#check();
  }

  run(ms: number): void {
    for (const untilMs = this.nowMs + ms; this.nowMs < untilMs && this.violations.length === 0; ) this.step();
  }

  /** A round of troubles. */
  trouble(outages: boolean): void {
    const { random } = this;
    const node = random.pick(this.nodes);
    const dice = random.int(0, 10);
    if (dice < 4) this.kill(node.name);
    else if (dice < 8) this.revive(random.pick(this.nodes.filter(({ isAlive }) => !isAlive))?.name ?? node.name);
    else if (dice === 8) {
      node.isCut = !node.isCut;
      this.#calmSinceMs = this.nowMs;
    } else if (outages) {
      this.outage(random.int(1, 4) * TTL_MS);
    }
    this.run(random.pick([1, 5, 15, 30, 70, 120]) * 1_000);
  }

  /** The store is away; when it is back, everybody finds out in his own time. */
  outage(ms: number): void {
    this.isStoreUp = false;
    this.run(ms);
    this.isStoreUp = true;
    for (const node of this.nodes) node.nextTryMs = this.nowMs + this.random.int(1, 20) * STEP_MS;
    this.#calmSinceMs = this.nowMs;
  }

  kill(name: string): void {
    const node = this.node(name);
    node.isAlive = false;
    node.view = undefined;
    this.#calmSinceMs = this.nowMs;
  }

  revive(name: string): void {
    const node = this.node(name);
    if (node.isAlive) return;
    node.isAlive = true;
    this.#calmSinceMs = this.nowMs;
    // A restart is quick; what lies on the disk is served before the store is asked.
    node.nextTryMs = this.nowMs + this.random.int(1, 4) * STEP_MS;
  }

  /** An operator gives a dead node up: what only it had is gone, and that is known. */
  lose(name: string): void {
    const node = this.node(name);
    if (node.isAlive || node.leaseUntilMs > this.nowMs || this.placement === undefined) return;
    const next = withoutNode(this.placement, name);
    if (next === undefined) return;
    this.placement = next;
    for (const [shard, writes] of this.acknowledged.entries()) {
      const left = new Set(this.#listed(shard).flatMap((held) => [...held.writes]));
      for (const write of writes) if (!left.has(write)) writes.delete(write);
    }
    this.#calmSinceMs = this.nowMs;
  }

  cordon(name: string, cordon: Cordon | undefined): void {
    if (this.placement === undefined || !this.isStoreUp) return;
    this.placement = withCordon(this.placement, name, cordon) ?? this.placement;
    this.#calmSinceMs = this.nowMs;
  }

  /** An operator asks for something that may or may not be possible now. */
  operate(): void {
    const { placement, random } = this;
    if (placement === undefined || !this.isStoreUp) return;
    const living = this.nodes.filter(({ leaseUntilMs }) => leaseUntilMs > this.nowMs);
    const move = random.int(1, (placement.lastMove ?? 0) + 2);
    const ways: readonly (() => RegionPlacement | undefined)[] = [
      () => {
        const shards = [random.int(0, this.options.shardCount)];
        const order = { shards, to: random.pick(this.nodes).name, from: random.pick(this.nodes).name };
        return withAsked(placement, orderedMoves(placement, living, order));
      },
      () => withAsked(withoutPins(placement), evenMoves(placement, living)),
      () => withoutMove(placement, move),
      () => withHeldMove(placement, move, random.chance(0.3)),
      () => withMoves(placement, random.pick(['on', 'on', 'paused', 'off'] as const)),
    ];
    try {
      const next = random.pick([ways[0], ...ways] as typeof ways)();
      if (next === undefined) return;
      this.placement = next;
      this.operations++;
      this.#calmSinceMs = this.nowMs;
    } catch (error) {
      if (!(error instanceof SilverbackError)) throw error;
    }
  }

  /** Nothing is held any more, and every node is to have its share. */
  even(): void {
    let placement = this.placement as RegionPlacement;
    for (const own of placement.shards) {
      for (const { move, state } of own) {
        if (move !== undefined && state === 'joining') placement = withHeldMove(placement, move, false) ?? placement;
      }
    }
    for (const { move } of placement.asked ?? []) placement = withHeldMove(placement, move, false) ?? placement;
    this.placement = withoutPins(withMoves(placement, 'on') ?? placement);
    this.#calmSinceMs = this.nowMs;
  }

  /** Everybody is well again. Runs until everything should be in order. */
  heal(): void {
    this.isStoreUp = true;
    for (const node of this.nodes) {
      this.revive(node.name);
      node.isCut = false;
    }
    this.#calmSinceMs = this.nowMs;
    this.run(10 * (GRACE_MS + TTL_MS));
    this.#isWriting = false;
    this.run(TTL_MS);
  }

  /** What is not in order after `heal`. */
  unsettled(): string[] {
    const found = [...this.violations];
    if (this.spread() > 1) found.push(`one node has ${this.spread()} copies more than another`);
    for (const [shard, copies] of (this.placement?.shards ?? []).entries()) {
      const text = copies.map(({ node, state }) => `${node}:${state}`).join(' ');
      const isSettled = copies.every(({ state }) => state === 'active') && copies.length === this.options.copies;
      if (!isSettled) found.push(`shard ${shard} is not settled: ${text}`);
      for (const { node } of copies) {
        const writes = this.node(node).shards.get(shard)?.writes ?? new Set();
        const missing = [...(this.acknowledged[shard] as Set<number>)].filter((write) => !writes.has(write));
        if (missing.length > 0) found.push(`shard ${shard}: ${node} lacks ${missing.length} acknowledged writes`);
      }
    }
    return found;
  }

  node(name: string): SimNode {
    return this.nodes.find((node) => node.name === name) as SimNode;
  }

  /** Copies of the node that holds most, less those of the one that holds fewest. */
  spread(): number {
    const counts = new Map(this.nodes.map(({ name }) => [name, 0]));
    for (const { node } of (this.placement?.shards ?? []).flat()) counts.set(node, (counts.get(node) as number) + 1);
    return Math.max(...counts.values()) - Math.min(...counts.values());
  }

  // ---- nodes ------------------------------------------------------------------------------------

  #reaches(node: SimNode): boolean {
    return node.isAlive && !node.isCut && this.isStoreUp;
  }

  #live(node: SimNode): void {
    if (!this.#reaches(node)) return;
    if (node.leaseUntilMs > this.nowMs) node.leaseUntilMs = this.nowMs + TTL_MS;
    else if (this.nowMs >= node.nextTryMs) {
      // The node finds out some time later that its lease is gone.
      node.nextTryMs = this.nowMs + this.random.int(1, 5) * STEP_MS;
      node.leaseUntilMs = this.nowMs + TTL_MS;
      node.reports = {};
    }
    if (this.random.chance(0.7)) this.#follow(node);
    this.#report(node);
  }

  #follow(node: SimNode): void {
    const { placement } = this;
    if (placement === undefined || placement === node.view) return;
    node.view = placement;
    for (const [shard, copies] of placement.shards.entries()) {
      const grant = copies.find((copy) => copy.node === node.name);
      const held = node.shards.get(shard);
      if (grant === undefined) {
        // As node.ts: only what is certainly elsewhere is removed; the rest stays on the disk, unused.
        if (held?.isDrained) node.shards.delete(shard);
        else if (held !== undefined) held.tenure = { ...held.tenure, state: 'leaving', epoch: 0 };
        continue;
      }
      if (held?.tenure.epoch === grant.epoch && held.tenure.state === grant.state) continue;
      const tenure = nextTenure(held?.tenure, grant, this.nowMs);
      if (held === undefined) node.shards.set(shard, { tenure, writes: new Set(), own: new Set(), isDrained: false });
      else {
        held.tenure = tenure;
        held.isDrained = false;
      }
    }
  }

  #report(node: SimNode): void {
    if (node.view === undefined) return;
    const reports: Record<string, CopyReport> = {};
    for (const [shard, held] of node.shards) {
      const copies = node.view.shards[shard] as readonly RegionCopy[];
      const grant = copies.find((copy) => copy.node === node.name);
      if (grant === undefined || held.tenure.state === 'active') continue;
      const others = copies.filter((copy) => copy !== grant).map((copy) => this.node(copy.node));
      if (held.tenure.state === 'joining' && grant.fill && !held.tenure.isFilled && this.random.chance(0.1)) {
        this.#fill(shard, held, others);
      }
      const isDelivered =
        held.tenure.state === 'leaving' &&
        others.length > 0 &&
        others.every((other) => [...held.own].every((write) => other.shards.get(shard)?.writes.has(write)));
      if (isDelivered) held.isDrained = true;
      reports[shard] = { epoch: held.tenure.epoch, filled: held.tenure.isFilled, drained: isDelivered };
    }
    node.reports = reports;
  }

  #fill(shard: number, held: Held, others: readonly SimNode[]): void {
    const sources = others.filter((other) => other.isAlive && other.shards.has(shard));
    const whole = sources.find((other) => other.shards.get(shard)?.tenure.isFilled);
    const isAll = sources.length === others.length && others.every(({ view }) => view !== undefined);
    if (whole === undefined && !isAll) return;
    for (const source of whole === undefined ? sources : [whole]) {
      for (const write of (source.shards.get(shard) as Held).writes) held.writes.add(write);
    }
    held.tenure = { ...held.tenure, isFilled: true };
  }

  // ---- the placer -------------------------------------------------------------------------------

  #place(): void {
    if (!this.isStoreUp || this.random.chance(0.002)) {
      // Deposed, or killed: the next one is elected some time later.
      this.#memory = undefined;
      this.#placerFromMs = this.nowMs + this.random.int(1, 20) * STEP_MS;
      this.#calmSinceMs = this.nowMs;
      return;
    }
    if (this.nowMs < this.#placerFromMs) {
      this.#calmSinceMs = this.nowMs;
      return;
    }
    this.#memory ??= this.#rules.beginning(this.options, this.nowMs);
    const living = this.nodes.filter(({ leaseUntilMs }) => leaseUntilMs > this.nowMs);
    const decision: Decision = this.#rules.decide(
      this.options,
      {
        members: living.map(({ name, zone }) => ({ name, region: 'r', zone, address: `${name}:1` })),
        reports: new Map(living.map(({ name, reports }) => [name, reports])),
        current: this.placement,
        nowMs: this.nowMs,
      },
      this.#memory,
    );
    this.#memory = decision.memory;
    if (decision.alarm !== '') {
      this.alarms++;
      this.#calmSinceMs = this.nowMs;
    }
    if (decision.placement === undefined) return;
    this.placement = decision.placement;
    this.commits++;
    for (const [shard, copies] of decision.placement.shards.entries()) {
      const active = copies.filter(({ state }) => state === 'active').length;
      if (active > this.options.copies!) this.#violate(`shard ${shard} has ${active} active copies`);
      if (new Set(copies.map(({ node }) => node)).size < copies.length)
        this.#violate(`shard ${shard}: twice on a node`);
    }
  }

  // ---- data -------------------------------------------------------------------------------------

  #write(): void {
    if (this.placement === undefined || !this.#isWriting) return;
    for (let shard = 0; shard < this.options.shardCount; shard++) {
      if (this.random.chance(0.6)) continue;
      // Of a client that looks at what some node sees, which may be old.
      const placement = (this.random.chance(0.2) ? this.random.pick(this.nodes).view : undefined) ?? this.placement;
      for (const { node: name, state } of placement.shards[shard] as readonly RegionCopy[]) {
        const node = this.node(name);
        const held = node.shards.get(shard);
        if (state === 'leaving' || !node.isAlive || held === undefined || held.tenure.state === 'leaving') continue;
        const write = ++this.#writeCount;
        held.writes.add(write);
        held.own.add(write);
        this.acknowledged[shard]?.add(write);
        break;
      }
    }
  }

  #replicate(): void {
    for (const node of this.nodes) {
      if (!node.isAlive || node.view === undefined || this.random.chance(0.3)) continue;
      for (const [shard, held] of node.shards) {
        for (const { node: other } of node.view.shards[shard] as readonly RegionCopy[]) {
          const target = this.node(other);
          if (other === node.name || !target.isAlive) continue;
          const there = target.shards.get(shard);
          for (const write of held.own) there?.writes.add(write);
        }
      }
    }
  }

  // ---- rules ------------------------------------------------------------------------------------

  /** The shard on the disks of the nodes that the placement names. */
  #listed(shard: number): Held[] {
    const copies = this.placement?.shards[shard] ?? [];
    return copies.flatMap(({ node }) => this.node(node).shards.get(shard) ?? []);
  }

  #check(): void {
    // Between two placements copies only gain.
    if (this.placement === undefined || (this.placement === this.#checked && this.random.chance(0.95))) return;
    this.#checked = this.placement;
    const isCalm = this.nowMs - this.#calmSinceMs > 4 * TTL_MS;
    for (const [shard, copies] of this.placement.shards.entries()) {
      const listed = this.#listed(shard);
      for (const write of this.acknowledged[shard] as Set<number>) {
        if (listed.some(({ writes }) => writes.has(write))) continue;
        this.#violate(`shard ${shard}: acknowledged write ${write} is in no copy of the placement`);
        return;
      }
      const takers = copies.filter(({ node, state }) => state !== 'leaving' && this.node(node).isAlive);
      const isHopeless = this.nodes.every((node) => !this.#reaches(node));
      if (isCalm && takers.length === 0 && !isHopeless && this.nodes.every(({ isCut }) => !isCut)) {
        const text = copies.map(({ node, state }) => `${node}:${state}`).join(' ');
        const isOpen = ({ name }: SimNode) => this.placement?.cordons?.[name] === undefined;
        const free = this.nodes.some(
          (node) => node.isAlive && isOpen(node) && !copies.some((copy) => copy.node === node.name),
        );
        if (free) this.#violate(`shard ${shard}: nobody takes its writes (${text})`);
      }
    }
  }

  #violate(what: string): void {
    if (this.violations.length < 5) this.violations.push(`at ${this.nowMs} ms: ${what}`);
  }
}
