/**
 * Which nodes hold the copies of each shard of a region: a pure function of the nodes and of what there was before.
 *
 * Always: no node has two copies of a shard; no zone has two where another zone could take one. Then: balanced, so that no
 * node has two copies more than another, as far as the zones allow (a zone of one node takes at most one copy of every shard,
 * however many that is). Then: copies stay where they are when they can.
 *
 * How many copies each node shall have is settled first. Then every copy that is missing, or too much where it is, goes
 * straight to a node that lacks some. For what no such node may take, others make room, in the chain of copies that takes
 * fewest away from where they were: an augmenting path of the flow of copies from shards through zones to nodes.
 */

export interface PlannedNode {
  readonly name: string;
  /** Nodes that may fail together. */
  readonly zone: string;
}

/** A node while its copies are planned. */
interface Holder {
  readonly name: string;
  readonly zone: Zone;
  readonly shards: Set<number>;
  /** Shards that it had before, as far as the rules let it keep them. */
  readonly kept: Set<number>;
  /** Other copies of its shards, by their zone. */
  readonly beside: Map<Zone, number>;
  /** How many copies it shall have. */
  target: number;
}

/** Shards among which one is chosen. */
const CHOICE_COUNT = 16;

/** A copy goes from its node (undefined: it has none yet) to another one, for which `before` made room in the former. */
interface Step {
  readonly shard: number;
  readonly from: Holder | undefined;
  readonly before: Step | undefined;
}

interface Zone {
  readonly holders: Holder[];
  /** The fewest and the most copies of one shard that it may have. */
  least: number;
  most: number;
  /** How many copies it still wants, over all of its nodes. */
  want: number;
}

/**
 * @param nodes without repeated names; their order does not matter
 * @param shardCount shards 0 to shardCount - 1 are placed
 * @param copies of every shard; where there are fewer nodes, each has one
 * @param current names of the holders by shard; a name that is not among `nodes` is gone
 * @param pins names by shard of holders that others are moved away for first
 * @returns names of the holders by shard, those that stay first
 */
export function planCopies(
  nodes: readonly PlannedNode[],
  shardCount: number,
  copies: number,
  current: readonly (readonly string[])[] = [],
  pins: readonly (readonly string[])[] = [],
): string[][] {
  if (nodes.length === 0) throw new RangeError('planCopies: there are no nodes');
  if (!(copies >= 1)) throw new RangeError(`planCopies: ${copies} copies, expected at least 1`);
  const names = nodes.map(({ name }) => name);
  if (new Set(names).size !== names.length) {
    throw new RangeError(`planCopies: a node is named twice in ${names.join(', ')}`);
  }
  const plan = new Plan(nodes, shardCount, Math.min(copies, nodes.length), pins);
  plan.keep(current);
  plan.complete();
  return plan.result();
}

/**
 * The same holders, in an order in which every node comes first about as often as the others that hold as much: who is
 * first of a shard's holders takes its writes and answers its reads.
 */
export function spreadFirsts(plan: readonly (readonly string[])[]): string[][] {
  const counts = new Map<string, number>();
  return plan.map((names) => {
    let first: string | undefined;
    for (const name of names) {
      if (first === undefined || (counts.get(name) ?? 0) < (counts.get(first) ?? 0)) first = name;
    }
    if (first === undefined) return [];
    counts.set(first, (counts.get(first) ?? 0) + 1);
    return [first, ...names.filter((name) => name !== first)];
  });
}

class Plan {
  readonly #shardCount: number;
  readonly #copies: number;
  readonly #zones: Zone[];
  readonly #holders: Holder[];
  readonly #byShard: Holder[][];
  readonly #pins: readonly (readonly string[])[];
  /** Copies of a shard that are not owed to every zone. */
  readonly #extras: number;

  constructor(nodes: readonly PlannedNode[], shardCount: number, copies: number, pins: readonly (readonly string[])[]) {
    this.#shardCount = shardCount;
    this.#copies = copies;
    this.#pins = pins;
    this.#byShard = Array.from({ length: shardCount }, () => []);
    const zones = new Map<string, Zone>();
    for (const { name, zone } of [...nodes].sort((a, b) => byCodeUnits(a.name, b.name))) {
      const its = zones.get(zone) ?? { holders: [], least: 0, most: 0, want: 0 };
      zones.set(zone, its);
      its.holders.push({ name, zone: its, shards: new Set(), kept: new Set(), beside: new Map(), target: 0 });
    }
    this.#zones = [...zones].sort(([a], [b]) => byCodeUnits(a, b)).map(([, zone]) => zone);
    this.#holders = this.#zones.flatMap(({ holders }) => holders);
    // A shard's copies go to the zones in turns; a zone whose nodes have all got one drops out.
    for (let left = copies; left > 0; ) {
      const open = this.#zones.filter(({ holders, most }) => most < holders.length);
      for (const zone of open) {
        zone.most++;
        if (left >= open.length) zone.least++;
      }
      left -= open.length;
    }
    this.#extras = copies - this.#zones.reduce((sum, { least }) => sum + least, 0);
  }

  /** Takes over what can stay where it is. */
  keep(current: readonly (readonly string[])[]): void {
    const known = new Map(this.#holders.map((holder) => [holder.name, holder]));
    for (let shard = 0; shard < this.#shardCount; shard++) {
      for (const name of current[shard] ?? []) {
        const holder = known.get(name);
        if (holder === undefined || !this.#takes(holder, shard)) continue;
        this.#give(holder, shard);
        holder.kept.add(shard);
      }
    }
  }

  /** Places every copy that is missing, and what is too much where it is. */
  complete(): void {
    this.#aim();
    for (const holder of this.#holders) this.#relieve(holder);
    for (let shard = 0; shard < this.#shardCount; shard++) {
      while (this.#byShard[shard]!.length < this.#copies) {
        const holder = this.#neediest(shard);
        if (holder === undefined) this.#shift([{ shard, from: undefined, before: undefined }]);
        else this.#give(holder, shard);
      }
    }
    for (const holder of this.#holders) {
      while (holder.shards.size > holder.target) this.#shift(stepsFrom(holder, undefined));
    }
  }

  result(): string[][] {
    return this.#byShard.map((holders, shard) => {
      const stays = ({ kept }: Holder) => Number(kept.has(shard));
      return holders.sort((a, b) => stays(b) - stays(a)).map(({ name }) => name);
    });
  }

  /**
   * Gives what is too much on a node, and not pinned, straight to nodes that lack some: of a few shards always the one whose other
   * copies are in zones in which the node's others are more often than the taker's. So what a node holds stays spread over all
   * pairs of zones: when it is drained, zones that are to get more can take it.
   */
  #relieve(holder: Holder): void {
    if (holder.shards.size <= holder.target) return;
    let open = [...holder.shards].reverse().filter((shard) => !this.#isPinned(holder, shard));
    while (holder.shards.size > holder.target && open.length > 0) {
      let best: { readonly shard: number; readonly taker: Holder; readonly gain: number } | undefined;
      const stuck = new Set<number>();
      for (const shard of open.slice(0, CHOICE_COUNT)) {
        const others = this.#byShard[shard]!.filter((other) => other !== holder);
        const taker = this.#neediest(shard, others);
        if (taker === undefined) {
          stuck.add(shard);
          continue;
        }
        const gain = others.reduce((sum, { zone }) => sum + shareOf(holder, zone) - shareOf(taker, zone), 0);
        if (best === undefined || gain > best.gain) best = { shard, taker, gain };
      }
      if (best !== undefined) {
        this.#take(holder, best.shard);
        this.#give(best.taker, best.shard);
        stuck.add(best.shard);
      }
      open = open.filter((shard) => !stuck.has(shard));
    }
  }

  /** Sets targets: as level as the zones' bounds allow; of what does not divide, those get one more that have most already. */
  #aim(): void {
    const all = this.#copies * this.#shardCount;
    const bounded = ({ holders, least, most }: Zone, level: number): number =>
      Math.min(Math.max(level * holders.length, least * this.#shardCount), most * this.#shardCount);
    const filled = (level: number): number => this.#zones.reduce((sum, zone) => sum + bounded(zone, level), 0);
    // The highest whole level that does not hand out more than there is.
    let level = 0;
    for (let above = this.#shardCount + 1; above - level > 1; ) {
      const middle = (level + above) >> 1;
      if (filled(middle) <= all) level = middle;
      else above = middle;
    }
    for (const zone of this.#zones) {
      const total = bounded(zone, level);
      const least = Math.floor(total / zone.holders.length);
      const more = total - least * zone.holders.length;
      for (const [rank, holder] of fullestFirst(zone.holders).entries()) holder.target = least + (rank < more ? 1 : 0);
    }
    let rest = all - filled(level);
    const totals = new Map(this.#zones.map((zone) => [zone, bounded(zone, level)]));
    // Zones in turns: when the copies of a node that is gone are to go to all zones, each may take some.
    for (const holder of fullestFirst(inTurns(this.#zones))) {
      const total = totals.get(holder.zone)!;
      if (rest === 0) break;
      if (holder.target > level || total >= holder.zone.most * this.#shardCount) continue;
      holder.target++;
      totals.set(holder.zone, total + 1);
      rest--;
    }
    for (const zone of this.#zones) {
      zone.want = zone.holders.reduce((sum, { target, shards }) => sum + target - shards.size, 0);
    }
  }

  /** Whether the rules let `holder` have a copy of `shard` beside those that there are. */
  #takes(holder: Holder, shard: number): boolean {
    return !holder.shards.has(shard) && this.#admits(holder.zone, this.#byShard[shard]!);
  }

  /** Whether the rules let the zone have a copy of a shard beside those that `others` have. */
  #admits(zone: Zone, others: readonly Holder[]): boolean {
    if (others.length >= this.#copies) return false;
    const inZone = others.filter((other) => other.zone === zone).length;
    if (inZone < zone.least) return true;
    return inZone < zone.most && extrasOf(others) < this.#extras;
  }

  #isPinned(holder: Holder, shard: number): boolean {
    return this.#pins[shard]?.includes(holder.name) === true;
  }

  /**
   * Of the nodes that may take the shard and have not what they shall: one in the zone that wants most, which wants most. Among
   * equals the first one takes first copies, so that neighbouring shards are spread; further copies go to each in other turns
   * for each shard, so that every node has its shards together with many others: what it gives up, or loses, fits many. The
   * rules are about zones: what one node that has no copy yet may take, its neighbours may.
   */
  #neediest(shard: number, others: readonly Holder[] = this.#byShard[shard]!): Holder | undefined {
    let found: Holder | undefined;
    const turn = others.length === 0 ? 0 : scrambled(shard);
    for (const zone of turned(this.#zones, turn)) {
      if (found !== undefined && zone.want <= found.zone.want) continue;
      if (!this.#admits(zone, others)) continue;
      let best: Holder | undefined;
      for (const holder of turned(zone.holders, turn)) {
        const lacks = holder.target - holder.shards.size;
        if (lacks <= 0 || others.includes(holder)) continue;
        if (best === undefined || lacks > best.target - best.shards.size) best = holder;
      }
      found = best ?? found;
    }
    return found;
  }

  /**
   * Takes one of these steps, and those that others have to take for it, until a node that lacks a copy gets one. Of all such
   * chains it is one that takes the fewest pinned copies, then the fewest kept ones, away from where they are. There is one as
   * long as a copy is missing or too much somewhere: the targets can be met (each shard could give every node its share of
   * them), and a flow that is not full has an augmenting path.
   */
  #shift(first: readonly Step[]): void {
    // By what a step costs. All of a cost are looked at before any that costs more.
    const waiting: [Step[], Step[], Step[]] = [[], [], []];
    const wait = (step: Step) => waiting[this.#costOf(step)].push(step);
    first.forEach(wait);
    // Nodes that no step leads to yet; a node from which one is taken away needs none.
    const open = new Map(this.#zones.map((zone) => [zone, zone.holders.filter((one) => one !== first[0]?.from)]));
    for (;;) {
      const cheapest = waiting.findIndex((steps) => steps.length > 0);
      const steps = waiting[cheapest];
      if (steps === undefined) throw new Error('planCopies: the targets do not fit the shards');
      waiting[cheapest] = [];
      for (const step of steps) {
        const others = this.#byShard[step.shard]!.filter((holder) => holder !== step.from);
        const reached: Holder[] = [];
        for (const [zone, holders] of open) {
          if (!this.#admits(zone, others)) continue;
          const left = holders.filter((holder) => others.includes(holder));
          reached.push(...holders.filter((holder) => !others.includes(holder)));
          if (left.length === 0) open.delete(zone);
          else open.set(zone, left);
        }
        const taker = mostLacking(reached);
        if (taker !== undefined) {
          this.#walk(step, taker);
          return;
        }
        for (const holder of reached) stepsFrom(holder, step).forEach(wait);
      }
    }
  }

  /** What stays where it was is dear, what somebody wants there dearer; the rest moves anyway. An index. */
  #costOf({ shard, from }: Step): 0 | 1 | 2 {
    if (from?.kept.has(shard) !== true) return 0;
    return this.#isPinned(from, shard) ? 2 : 1;
  }

  /** Takes a chain's steps, from its end, where a node has room, to its beginning. */
  #walk(last: Step, taker: Holder): void {
    let to: Holder | undefined = taker;
    for (let step: Step | undefined = last; step !== undefined && to !== undefined; step = step.before) {
      if (step.from !== undefined) this.#take(step.from, step.shard);
      this.#give(to, step.shard);
      to = step.from;
    }
  }

  #give(holder: Holder, shard: number): void {
    holder.shards.add(shard);
    holder.zone.want--;
    this.#meet(holder, shard, 1);
    this.#byShard[shard]!.push(holder);
  }

  #take(holder: Holder, shard: number): void {
    holder.shards.delete(shard);
    holder.zone.want++;
    const holders = this.#byShard[shard]!;
    holders.splice(holders.indexOf(holder), 1);
    this.#meet(holder, shard, -1);
  }

  #meet(holder: Holder, shard: number, by: 1 | -1): void {
    for (const { zone, beside } of this.#byShard[shard]!) {
      holder.beside.set(zone, (holder.beside.get(zone) ?? 0) + by);
      beside.set(holder.zone, (beside.get(holder.zone) ?? 0) + by);
    }
  }
}

/** Copies of a shard that are not owed to every zone. */
function extrasOf(holders: readonly Holder[]): number {
  let owed = 0;
  for (const zone of new Set(holders.map((holder) => holder.zone))) {
    owed += Math.min(zone.least, holders.filter((holder) => holder.zone === zone).length);
  }
  return holders.length - owed;
}

/** How many of a node's shards have another copy in the zone, as a part of them. */
function shareOf({ beside, shards }: Holder, zone: Zone): number {
  return (beside.get(zone) ?? 0) / Math.max(1, shards.size);
}

/** What a node can give away, the highest shards first. */
function stepsFrom(from: Holder, before: Step | undefined): Step[] {
  return [...from.shards].reverse().map((shard) => ({ shard, from, before }));
}

/** Of those that lack copies: one in the zone that wants most, which wants most. */
function mostLacking(holders: readonly Holder[]): Holder | undefined {
  const lacks = ({ target, shards }: Holder) => target - shards.size;
  let found: Holder | undefined;
  for (const holder of holders) {
    if (lacks(holder) <= 0) continue;
    const isBetter =
      found === undefined ||
      holder.zone.want > found.zone.want ||
      (holder.zone === found.zone && lacks(holder) > lacks(found));
    if (isBetter) found = holder;
  }
  return found;
}

/** All of them, beginning with another one for each `turn`. */
function turned<T>(all: readonly T[], turn: number): readonly T[] {
  const first = turn % Math.max(1, all.length);
  return first === 0 ? all : [...all.slice(first), ...all.slice(0, first)];
}

/** A whole number that says nothing of the neighbouring ones' (Knuth's multiplicative hash). */
function scrambled(value: number): number {
  return Math.imul(value + 1, 0x9e3779b1) >>> 16;
}

/** The first node of each zone, the second of each, and so on. */
function inTurns(zones: readonly Zone[]): Holder[] {
  const turns = Math.max(...zones.map(({ holders }) => holders.length));
  return Array.from({ length: turns }, (_, i) => zones.flatMap(({ holders }) => holders[i] ?? [])).flat();
}

function fullestFirst(holders: readonly Holder[]): Holder[] {
  return [...holders].sort((a, b) => b.shards.size - a.shards.size);
}

function byCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
