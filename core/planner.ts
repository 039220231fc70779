/**
 * Which nodes hold the copies of each shard of a region: a pure function of the nodes and of what there was before.
 *
 * Always: no node has two copies of a shard; no zone has two where another zone could take one. Then: balanced, so that no
 * node has two copies more than another, as far as the zones allow (a zone of one node takes at most one copy of every shard,
 * however many that is). Then: copies stay where they are when they can.
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
  /** How many copies it shall have. */
  target: number;
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
  const each = Math.min(copies, nodes.length);
  const plan = new Plan(nodes, shardCount, each);
  plan.keep(current);
  if (plan.complete(pins)) return plan.result();
  // What stays is in the way of the rules: without it there is always an answer.
  const fresh = new Plan(nodes, shardCount, each);
  if (!fresh.complete()) throw new Error('planCopies: the targets do not fit the shards');
  return fresh.result();
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
  /** Copies of a shard that are not owed to every zone. */
  readonly #extras: number;

  constructor(nodes: readonly PlannedNode[], shardCount: number, copies: number) {
    this.#shardCount = shardCount;
    this.#copies = copies;
    this.#byShard = Array.from({ length: shardCount }, () => []);
    const zones = new Map<string, Zone>();
    for (const { name, zone } of [...nodes].sort((a, b) => byCodeUnits(a.name, b.name))) {
      const its = zones.get(zone) ?? { holders: [], least: 0, most: 0, want: 0 };
      zones.set(zone, its);
      its.holders.push({ name, zone: its, shards: new Set(), target: 0 });
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
        if (holder !== undefined && this.#takes(holder, shard)) this.#give(holder, shard);
      }
    }
  }

  /** Places every copy that is missing. @returns false when that could not be done with what stays */
  complete(pins: readonly (readonly string[])[] = []): boolean {
    this.#aim();
    // First what goes straight to a node that lacks some: of what is taken away only because it is too much here, one copy may
    // fit nowhere, and then others have to make room for it.
    for (const holder of this.#holders) {
      for (const shard of [...holder.shards].reverse()) {
        if (holder.shards.size <= holder.target) break;
        if (pins[shard]?.includes(holder.name)) continue;
        this.#take(holder, shard);
        this.#give(this.#neediest(shard) ?? holder, shard);
      }
    }
    for (const holder of this.#holders) {
      const isPinned = (shard: number) => Number(pins[shard]?.includes(holder.name) ?? false);
      for (const shard of [...holder.shards].reverse().sort((a, b) => isPinned(a) - isPinned(b))) {
        if (holder.shards.size <= holder.target) break;
        this.#take(holder, shard);
      }
    }
    for (let shard = 0; shard < this.#shardCount; shard++) {
      while (this.#byShard[shard]!.length < this.#copies) {
        const holder = this.#neediest(shard) ?? this.#makeRoom(shard);
        if (holder === undefined) return false;
        this.#give(holder, shard);
      }
    }
    return true;
  }

  result(): string[][] {
    return this.#byShard.map((holders) => holders.map(({ name }) => name));
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
    for (const holder of fullestFirst(this.#holders)) {
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
    const holders = this.#byShard[shard]!;
    if (holders.length >= this.#copies || holder.shards.has(shard)) return false;
    const { zone } = holder;
    const inZone = holders.filter((other) => other.zone === zone).length;
    if (inZone < zone.least) return true;
    return inZone < zone.most && this.#extrasOf(shard) < this.#extras;
  }

  #extrasOf(shard: number): number {
    const holders = this.#byShard[shard]!;
    let owed = 0;
    for (const zone of new Set(holders.map((holder) => holder.zone))) {
      owed += Math.min(zone.least, holders.filter((holder) => holder.zone === zone).length);
    }
    return holders.length - owed;
  }

  /**
   * Of the nodes that may take the shard and have not what they shall: one in the zone that wants most, which wants most. Among
   * equals the first one takes first copies, so that neighbouring shards are spread; further copies go to each in other turns
   * for each shard, so that every node has its shards together with many others: what it gives up, or loses, fits many.
   */
  #neediest(shard: number): Holder | undefined {
    const holders = this.#byShard[shard]!;
    let found: Holder | undefined;
    const turn = holders.length === 0 ? 0 : scrambled(shard);
    for (const zone of turned(this.#zones, turn)) {
      if (found !== undefined && zone.want <= found.zone.want) continue;
      // The rules are about zones: what one node that has no copy yet may take, its neighbours may.
      const one = zone.holders.find((holder) => !holder.shards.has(shard));
      if (one === undefined || !this.#takes(one, shard)) continue;
      let best: Holder | undefined;
      for (const holder of turned(zone.holders, turn)) {
        const lacks = holder.target - holder.shards.size;
        if (lacks <= 0 || holders.includes(holder)) continue;
        if (best === undefined || lacks > best.target - best.shards.size) best = holder;
      }
      found = best ?? found;
    }
    return found;
  }

  /** Moves a copy of another shard from a node that may take this one to a node that lacks some. @returns the former */
  #makeRoom(shard: number): Holder | undefined {
    const lacking = this.#holders.filter(({ target, shards }) => shards.size < target);
    for (const holder of this.#holders) {
      if (!this.#takes(holder, shard)) continue;
      for (const other of [...holder.shards]) {
        this.#take(holder, other);
        const taker = lacking.find((one) => one !== holder && this.#takes(one, other));
        this.#give(taker ?? holder, other);
        if (taker !== undefined) return holder;
      }
    }
    return undefined;
  }

  #give(holder: Holder, shard: number): void {
    holder.shards.add(shard);
    holder.zone.want--;
    this.#byShard[shard]!.push(holder);
  }

  #take(holder: Holder, shard: number): void {
    holder.shards.delete(shard);
    holder.zone.want++;
    const holders = this.#byShard[shard]!;
    holders.splice(holders.indexOf(holder), 1);
  }
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

function fullestFirst(holders: readonly Holder[]): Holder[] {
  return [...holders].sort((a, b) => b.shards.size - a.shards.size);
}

function byCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
