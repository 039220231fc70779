/**
 * What becomes of a region's placement: a pure function of who lives, what the nodes report, what was placed before, and
 * what the placer remembers. It says why.
 *
 * The rules, in this order, for each shard:
 * - A joining copy that reports itself filled is active.
 * - A node that is gone has no active or joining copy any more: its copies are `leaving`. They stay in the placement, because
 *   their logs may hold what nobody else has, until their nodes report that delivered or an operator declares them lost.
 * - A leaving copy whose node lives and holds the past is active again as long as copies are wanted.
 * - Where no copy takes writes, another node joins at once. It gets the past only when the gone node has been away for
 *   longer than the grace: a short absence moves the routing of writes, no data. Where copies are just fewer than wanted,
 *   another node joins after the grace.
 * - What is more than wanted leaves, and goes once it is drained.
 * - A move whose target is gone waits for it for the grace; then it is called off, and is asked for again if it was asked for.
 * - Moves that were asked for begin, in their order, as soon as their nodes are there and free and nothing else happens to
 *   their shards.
 * - With everything else in order, copies move until every node holds its share (moves.ts), a node that joined among them.
 *   Until that one has been there for the grace, none begin.
 * - A node with a cordon gets no copies, and what was on its way to it is called off. From one that is draining, all move.
 *
 * Nothing is concluded from a node's absence for two lease times after the placer was elected or saw the store come back, nor
 * while more than a third of the nodes vanished at once: then it is more likely that the store or the network is to blame.
 */
import { planCopies, spreadFirsts } from '../planner.ts';
import { highestEpoch, spentBy } from './epochs.ts';
import type { Member } from './member.ts';
import { isAsked, isHeld, isMove, Load, nextMoves } from './moves.ts';
import {
  type AskedMove,
  type CopyReports,
  type Cordon,
  isEmptied,
  type RegionCopy,
  type RegionPlacement,
} from './region.ts';

export interface DecideOptions {
  readonly clusterId: string;
  readonly shardCount: number;
  readonly region: string;
  /** How many nodes must be there before the first placement is made. */
  readonly expectedNodes: number;
  /** Of every shard, each on a node of its own. Undefined: as many as there are; 1 at first. */
  readonly copies: number | undefined;
  readonly leaseTtlMs: number;
  /** How long a node may be away before its data is brought elsewhere. */
  readonly graceMs: number;
}

export interface Situation {
  /** The nodes that are registered. */
  readonly members: readonly Member[];
  /** By node. */
  readonly reports: ReadonlyMap<string, CopyReports>;
  readonly current: RegionPlacement | undefined;
  /** Monotonic, as everything in `Memory`. */
  readonly nowMs: number;
}

/** What the placer remembers from one decision to the next. */
export interface Memory {
  /** Absences say nothing before. */
  readonly quietUntilMs: number;
  /** Of each node that lives or has copies: whether it was registered at the last look, and since when. */
  readonly nodes: ReadonlyMap<string, { readonly isLiving: boolean; readonly sinceMs: number }>;
  /** Removed nodes that are not there: since when. */
  readonly removed: ReadonlyMap<string, number>;
  /** What was found to need no moves: planning is dear. */
  readonly balanced: { readonly shards: RegionPlacement['shards']; readonly nodes: string } | undefined;
}

export interface Decision {
  /** Undefined: nothing to change. */
  readonly placement: RegionPlacement | undefined;
  /** What was changed and why, for people. */
  readonly reasons: readonly string[];
  readonly memory: Memory;
  /** Why takeover is stopped; empty while it is not. */
  readonly alarm: string;
}

/** Of a placer that was just elected, or saw its store come back. */
export function beginning(options: Pick<DecideOptions, 'leaseTtlMs'>, nowMs: number): Memory {
  return { quietUntilMs: nowMs + 2 * options.leaseTtlMs, nodes: new Map(), removed: new Map(), balanced: undefined };
}

export function decide(options: DecideOptions, situation: Situation, memory: Memory): Decision {
  const { members, current } = situation;
  if (current !== undefined) return new Round(options, situation, current, memory).decide();
  const unchanged = { placement: undefined, reasons: [], memory, alarm: '' };
  if (members.length < options.expectedNodes) return unchanged;
  const copies = options.copies ?? 1;
  const planned = spreadFirsts(planCopies(members, options.shardCount, copies));
  const nodes = Object.fromEntries(members.map(({ name, zone, address }) => [name, { zone, address }]));
  const placement: RegionPlacement = {
    clusterId: options.clusterId,
    shardCount: options.shardCount,
    region: options.region,
    copies,
    moves: 'on',
    nodes,
    shards: planned.map((names) => names.map((node) => ({ node, state: 'active', epoch: 1 }))),
  };
  const reason = `placed ${options.shardCount} shards on ${Object.keys(nodes).sort().join(', ')}`;
  return { ...unchanged, placement, reasons: [reason] };
}

/** How many nodes of so many may vanish at once before that is taken for something else. */
function bearable(nodeCount: number): number {
  return Math.max(1, Math.floor(nodeCount / 3));
}

/** What changed of a shard, and on how many. */
class Reasons {
  readonly #shards = new Map<string, number[]>();

  add(what: string, shard: number): void {
    const shards = this.#shards.get(what);
    if (shards === undefined) this.#shards.set(what, [shard]);
    else shards.push(shard);
  }

  get all(): string[] {
    return [...this.#shards].map(([what, shards]) => {
      const named = shards.slice(0, 8).join(', ');
      const more = shards.length > 8 ? ` and ${shards.length - 8} more` : '';
      return `${shards.length === 1 ? 'shard' : 'shards'} ${named}${more}: ${what}`;
    });
  }
}

/** The copies of one shard while they are decided on. */
class Places {
  readonly shard: number;
  copies: RegionCopy[];
  #epoch: number;

  constructor(shard: number, current: RegionPlacement) {
    this.shard = shard;
    this.copies = [...(current.shards[shard] as readonly RegionCopy[])];
    this.#epoch = highestEpoch(current, shard);
  }

  count(state: RegionCopy['state']): number {
    return this.copies.filter((copy) => copy.state === state).length;
  }

  /** Copies that take writes. */
  get takers(): RegionCopy[] {
    return this.copies.filter(({ state }) => state !== 'leaving');
  }

  turn(copy: RegionCopy, state: RegionCopy['state'], rest: Pick<RegionCopy, 'fill' | 'move' | 'pinned'> = {}): void {
    const pinned = rest.pinned ?? copy.pinned;
    const next: RegionCopy = { node: copy.node, state, epoch: ++this.#epoch, ...rest, ...(pinned && { pinned }) };
    this.copies = this.copies.map((one) => (one === copy ? next : one));
  }

  /** The copy that moves here is active, and the one that it comes in place of leaves. */
  finish(copy: RegionCopy, source: RegionCopy): void {
    this.turn(copy, 'active', copy.cause === 'order' ? { pinned: true } : {});
    const left: RegionCopy = { node: source.node, state: 'leaving', epoch: ++this.#epoch };
    const next = { ...left, ...(copy.move !== undefined && { move: copy.move }) };
    this.copies = this.copies.map((one) => (one === source ? next : one));
  }

  fill(copy: RegionCopy): void {
    this.copies = this.copies.map((one) => (one === copy ? { ...copy, fill: true } : one));
  }

  add(node: string, fill: boolean, moving: Pick<RegionCopy, 'from' | 'move' | 'cause'> = {}): void {
    this.copies.push({ node, state: 'joining', epoch: ++this.#epoch, ...(fill && { fill: true }), ...moving });
  }

  remove(copy: RegionCopy): void {
    this.copies = this.copies.filter((one) => one !== copy);
  }
}

class Round {
  readonly #options: DecideOptions;
  readonly #situation: Situation;
  readonly #current: RegionPlacement;
  #memory: Memory;
  readonly #living: ReadonlyMap<string, Member>;
  readonly #wanted: number;
  /** Nodes whose copies take writes, as it was placed. */
  readonly #takers: ReadonlySet<string>;
  readonly #alarm: string;
  /** Absences are acted upon. */
  readonly #isActing: boolean;
  readonly #reasons = new Reasons();
  /** Shards that need further copies: how many, and whether these are to bring the past at once. */
  readonly #lacks = new Map<Places, { readonly count: number; readonly fill: boolean }>();
  /** Moves that were asked for and have not begun. */
  #asked: readonly AskedMove[];
  #lastMove: number;

  constructor(options: DecideOptions, situation: Situation, current: RegionPlacement, before: Memory) {
    const { members, nowMs } = situation;
    this.#options = options;
    this.#situation = situation;
    this.#current = current;
    this.#wanted = options.copies ?? current.copies;
    this.#asked = current.asked ?? [];
    this.#lastMove = current.lastMove ?? 0;
    this.#living = new Map(members.map((member) => [member.name, member]));
    this.#takers = new Set(current.shards.flat().flatMap(({ node, state }) => (state === 'leaving' ? [] : [node])));
    const nodes = new Map<string, { isLiving: boolean; sinceMs: number }>();
    for (const name of new Set([...Object.keys(current.nodes), ...this.#living.keys()])) {
      const isLiving = this.#living.has(name);
      const known = before.nodes.get(name);
      // At the first look, one that lives has done so for ever, and so has one that was found gone by an earlier placer.
      const isOld = known === undefined && (isLiving ? before.nodes.size === 0 : !this.#takers.has(name));
      const sinceMs = isOld ? Number.NEGATIVE_INFINITY : nowMs;
      nodes.set(name, known?.isLiving === isLiving ? known : { isLiving, sinceMs });
    }
    const removed = Object.entries(current.cordons ?? {}).flatMap(([name, cordon]) =>
      cordon === 'removed' && !this.#living.has(name) ? [[name, before.removed.get(name) ?? nowMs] as const] : [],
    );
    this.#memory = { ...before, nodes, removed: new Map(removed) };
    this.#alarm = this.#vanished();
    this.#isActing = nowMs >= before.quietUntilMs && this.#alarm === '';
  }

  decide(): Decision {
    const all = this.#current.shards.map((_, shard) => new Places(shard, this.#current));
    for (const places of all) this.#settle(places);
    this.#supply(all);
    if (this.#isActing && this.#current.moves !== 'paused') this.#begin(all);
    if (this.#isActing && this.#lacks.size === 0 && this.#current.moves === 'on') this.#move(all);
    const { asked: askedBefore = [], lastMove: _, spent: __, cordons, ...rest } = this.#current;
    const changed = all.some(({ copies, shard }) => !isSame(copies, this.#current.shards[shard] as RegionCopy[]));
    const shards = changed ? all.map(({ copies }) => copies) : this.#current.shards;
    const { nodes, isMoved } = this.#nodes(shards);
    const spent = spentBy(this.#current, shards);
    const forgotten = this.#forgotten();
    const reasons = [
      ...this.#reasons.all,
      ...(isMoved ? ['placement follows changed node addresses'] : []),
      ...forgotten.map((name) => `${name} was removed, and is forgotten`),
    ];
    const isAskedOther =
      this.#asked.length !== askedBefore.length || this.#asked.some((move, i) => move !== askedBefore[i]);
    const isOther = changed || isMoved || isAskedOther || forgotten.length > 0 || this.#wanted !== this.#current.copies;
    const kept = Object.entries(cordons ?? {}).filter(([name]) => !forgotten.includes(name));
    return {
      placement: isOther
        ? {
            ...rest,
            copies: this.#wanted,
            nodes,
            shards,
            ...(spent && { spent }),
            ...(kept.length > 0 && { cordons: Object.fromEntries(kept) }),
            ...(this.#asked.length > 0 && { asked: this.#asked }),
            ...(this.#lastMove > 0 && { lastMove: this.#lastMove }),
          }
        : undefined,
      reasons,
      memory: this.#memory,
      alarm: this.#alarm,
    };
  }

  /** Removed nodes that have been away for the grace. */
  #forgotten(): string[] {
    const { nowMs } = this.#situation;
    const { graceMs } = this.#options;
    return [...this.#memory.removed].flatMap(([name, sinceMs]) => (nowMs - sinceMs < graceMs ? [] : [name]));
  }

  /** Why nothing may be concluded from the nodes that are gone now; empty when something may. */
  #vanished(): string {
    const lately: string[] = [];
    for (const [name, { isLiving, sinceMs }] of this.#memory.nodes) {
      if (isLiving) continue;
      if (this.#takers.has(name) || this.#situation.nowMs - sinceMs < this.#options.graceMs) lately.push(name);
    }
    const nodeCount = new Set([...this.#takers, ...lately]).size;
    if (lately.length <= bearable(nodeCount)) return '';
    const names = lately.sort().join(', ');
    return `takeover is stopped: ${lately.length} of ${nodeCount} nodes are gone (${names}), more than a third at once; it goes on when they are back or declared lost`;
  }

  #isAbsent(node: string): boolean {
    const known = this.#memory.nodes.get(node);
    if (known === undefined || known.isLiving) return false;
    // A lease that had to be taken anew is no absence.
    return this.#situation.nowMs - known.sinceMs >= this.#options.leaseTtlMs / 3;
  }

  /** The node went or came back not long ago: its copies may soon be what they were. */
  #isUnsettled(node: string): boolean {
    const known = this.#memory.nodes.get(node);
    return known !== undefined && this.#situation.nowMs - known.sinceMs < this.#options.graceMs;
  }

  #cordonOf(node: string): Cordon | undefined {
    return this.#current.cordons?.[node];
  }

  /** What a living node reports of exactly this copy. */
  #reportOf(shard: number, copy: RegionCopy) {
    if (!this.#living.has(copy.node)) return undefined;
    const report = this.#situation.reports.get(copy.node)?.[String(shard)];
    return report?.epoch === copy.epoch ? report : undefined;
  }

  /** The copies that are there. */
  #settle(places: Places): void {
    const { shard } = places;
    const wanted = this.#wanted;
    for (const copy of places.copies) {
      if (copy.state !== 'joining' || this.#reportOf(shard, copy)?.filled !== true) continue;
      const source = isMove(copy, places.copies) ? places.copies.find(({ node }) => node === copy.from) : undefined;
      if (source !== undefined && isHeld(copy, this.#current.moves)) continue;
      if (source === undefined) places.turn(copy, 'active', copy.cause === 'order' ? { pinned: true } : {});
      else places.finish(copy, source);
      const place = source === undefined ? '' : ` in place of ${source.node}`;
      this.#reasons.add(`${copy.node} holds the past now and is active${place}`, shard);
    }
    if (this.#isActing) {
      for (const copy of places.takers) {
        if (!this.#isAbsent(copy.node)) continue;
        // The copy that it comes in place of is active, so nobody lacks it.
        if (isMove(copy, places.copies) && this.#isUnsettled(copy.node)) continue;
        this.#askAgain(shard, copy);
        places.turn(copy, 'leaving');
        this.#reasons.add(`${copy.node} is gone`, shard);
      }
    }
    for (const copy of places.copies) {
      if (copy.state !== 'leaving' || places.count('active') >= wanted) continue;
      if (this.#reportOf(shard, copy)?.filled !== true) continue;
      places.turn(copy, 'active');
      this.#reasons.add(`${copy.node} is back and active again`, shard);
    }
    this.#release(places);
    if (this.#isActing) this.#look(places);
  }

  /** Lets go what is more than wanted, and what is drained. */
  #release(places: Places): void {
    const { shard } = places;
    const isDraining = ({ node }: RegionCopy) => isEmptied(this.#cordonOf(node));
    for (const copy of places.copies.toReversed().sort((a, b) => Number(isDraining(b)) - Number(isDraining(a)))) {
      if (copy.state === 'leaving' || places.count('active') < this.#wanted) continue;
      if (copy.state === 'active' && places.count('active') === this.#wanted) continue;
      const isOff = this.#current.moves === 'off' && !isAsked(copy);
      const isCalledOff = isOff || this.#cordonOf(copy.node) !== undefined;
      if (isMove(copy, places.copies) && !isCalledOff) continue;
      places.turn(copy, 'leaving');
      this.#reasons.add(`${copy.node} is not needed any more`, shard);
    }
    for (const copy of places.copies) {
      if (copy.state !== 'leaving' || this.#reportOf(shard, copy)?.drained !== true) continue;
      // A copy that holds the past goes only when enough others do, any copy only when another takes writes.
      if (places.takers.length === 0) continue;
      places.remove(copy);
      this.#reasons.add(`${copy.node} has delivered everything and is released`, shard);
    }
  }

  /** Notes what the shard lacks. */
  #look(places: Places): void {
    const { shard } = places;
    const isWaitedFor = ({ state, node }: RegionCopy) => state === 'leaving' && this.#isUnsettled(node);
    const waitedFor = places.copies.filter(isWaitedFor).length;
    for (const copy of places.copies) {
      // It is here already, and was on its way to hold the past.
      const report = copy.state === 'leaving' ? this.#reportOf(shard, copy) : undefined;
      if (report === undefined || report.filled || places.takers.length + waitedFor >= this.#wanted) continue;
      places.turn(copy, 'joining', waitedFor === 0 ? { fill: true } : {});
      this.#reasons.add(`${copy.node} is back and takes writes`, shard);
    }
    if (waitedFor === 0) {
      for (const copy of places.copies) {
        if (copy.state !== 'joining' || copy.fill === true) continue;
        places.fill(copy);
        this.#reasons.add(`${copy.node} brings the past here`, shard);
      }
    }
    const takers = places.takers.filter((copy) => !isMove(copy, places.copies)).length;
    const count = Math.max(this.#wanted - takers - waitedFor, takers === 0 ? 1 : 0);
    if (count > 0) this.#lacks.set(places, { count, fill: waitedFor === 0 });
  }

  /** Gives further copies to the shards that lack some: to zones that have fewest of the shard, then to the idlest nodes. */
  #supply(all: readonly Places[]): void {
    if (this.#lacks.size === 0) return;
    const open = [...this.#living.keys()].filter((name) => this.#cordonOf(name) === undefined);
    const loads = new Map(open.sort().map((name) => [name, 0]));
    for (const { node } of all.flatMap((places) => places.takers)) {
      if (loads.has(node)) loads.set(node, (loads.get(node) as number) + 1);
    }
    for (const [places, { count, fill }] of this.#lacks) {
      for (let added = 0; added < count; added++) {
        const name = this.#choose(places, loads);
        if (name === undefined) break;
        places.add(name, fill);
        loads.set(name, (loads.get(name) as number) + 1);
        this.#reasons.add(`${name} takes writes${fill ? ' and brings the past here' : ''}`, places.shard);
      }
    }
  }

  /** A move that was asked for, and whose target is gone for longer, is done when that is back. */
  #askAgain(shard: number, { node: to, from, move, cause, held }: RegionCopy): void {
    if (from === undefined || move === undefined || (cause !== 'order' && cause !== 'rebalance')) return;
    this.#asked = [...this.#asked, { move, shard, from, to, cause, ...(held && { held }) }];
  }

  /** Begins with moves that were asked for. */
  #begin(all: readonly Places[]): void {
    if (this.#asked.length === 0) return;
    const load = new Load(all.map(({ copies }) => copies));
    const isThere = (node: string) => this.#living.has(node) && this.#cordonOf(node) === undefined;
    this.#asked = this.#asked.filter((asked) => {
      const { move, shard, from, to, cause, held } = asked;
      const places = all[shard] as Places;
      const stateOf = (name: string) => places.copies.find(({ node }) => node === name)?.state;
      if (stateOf(from) === undefined || stateOf(to) === 'active') {
        this.#reasons.add(`its move from ${from} to ${to} has nothing left to do`, shard);
        return false;
      }
      const isQuiet = places.copies.every(({ state }) => state === 'active');
      if (held || !isQuiet || !this.#living.has(from) || !isThere(to) || !load.takes(from, to)) return true;
      load.add(from, to);
      places.add(to, true, { from, move, cause });
      this.#reasons.add(`moves from ${from} to ${to}, as was asked for`, shard);
      return false;
    });
  }

  /** Begins moves, unless a node is away that may be back, or is about to take part: of several that come, all get their share at once. */
  #move(all: readonly Places[]): void {
    for (const [name, { isLiving }] of this.#memory.nodes) {
      if (this.#takers.has(name) ? !isLiving : this.#isUnsettled(name)) return;
    }
    const nodes = [...this.#living.values()];
    const named = nodes.map(({ name, zone }) => `${name} ${zone} ${this.#cordonOf(name) ?? ''}`).join();
    const { shards } = this.#current;
    if (this.#memory.balanced?.shards === shards && this.#memory.balanced.nodes === named) return;
    const copies = all.map((places) => places.copies);
    const { cordons } = this.#current;
    const moves = nextMoves({ nodes, shards: copies, copies: this.#wanted, cordons, asked: this.#asked });
    for (const { shard, from, to } of moves) {
      const cause = isEmptied(cordons?.[from]) ? 'drain' : 'balance';
      (all[shard] as Places).add(to, true, { from, move: ++this.#lastMove, cause });
      this.#reasons.add(`moves from ${from} to ${to}`, shard);
    }
    if (moves.length === 0) this.#memory = { ...this.#memory, balanced: { shards, nodes: named } };
  }

  #choose(places: Places, loads: ReadonlyMap<string, number>): string | undefined {
    const zones = new Map<string, number>();
    for (const { node } of places.takers) {
      const zone = this.#zoneOf(node);
      zones.set(zone, (zones.get(zone) ?? 0) + 1);
    }
    let found: string | undefined;
    let foundRank: readonly [number, number] = [Number.POSITIVE_INFINITY, 0];
    for (const [name, load] of loads) {
      if (places.copies.some(({ node }) => node === name)) continue;
      const rank = [zones.get(this.#zoneOf(name)) ?? 0, load] as const;
      if (rank[0] > foundRank[0] || (rank[0] === foundRank[0] && rank[1] >= foundRank[1])) continue;
      found = name;
      foundRank = rank;
    }
    return found;
  }

  #zoneOf(node: string): string {
    return (this.#living.get(node) ?? this.#current.nodes[node])?.zone ?? '';
  }

  /** The nodes that hold copies, as they registered last. */
  #nodes(shards: RegionPlacement['shards']): { nodes: RegionPlacement['nodes']; isMoved: boolean } {
    const nodes: Record<string, { zone: string; address: string }> = {};
    let isMoved = false;
    for (const name of new Set(shards.flat().map(({ node }) => node))) {
      const known = this.#current.nodes[name];
      const { zone, address } = this.#living.get(name) ?? (known as { zone: string; address: string });
      nodes[name] = { zone, address };
      if (known !== undefined && (known.address !== address || known.zone !== zone)) isMoved = true;
    }
    return { nodes, isMoved };
  }
}

/** What changes is made anew. */
function isSame(one: readonly RegionCopy[], other: readonly RegionCopy[]): boolean {
  return one.length === other.length && one.every((copy, i) => copy === other[i]);
}
