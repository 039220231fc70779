/**
 * The inverted index of a shard: label name -> label value -> the series that carry it.
 *
 * Series are the small integers of the kernel's series table. Most values of most labels have one
 * member (an instance, a pod), so a lone member is a plain number; more are a growable Uint32Array.
 * Ids are mostly given in ascending order; a reused id lands in an unsorted tail, which the next reader
 * merges in.
 *
 * `remove` only marks a series dead; a sweep over everything takes the dead out later, in slices: one
 * pass costs about 2 ns a posting, whereas removing series one by one would be quadratic in the long
 * lists. Readers never see the dead. An id may be given to a new series at once: until the sweep is over
 * such series wait in a side list that readers try one by one.
 */
import { compareUtf8 } from '../../core/labels.ts';
import type { CompiledMatcher } from '../../core/matchers.ts';
import { sortSlices } from '../../core/order.ts';
import type { Slicer } from './slicer.ts';

/** One member, or several. */
type Entry = number | PostingList;

const EMPTY = new Uint32Array(0);

/** Values of labels that are kept in order, over all labels; each takes a reference. */
const MAX_LISTED = 131_072;

/** A growable set of series ids. */
class PostingList {
  #ids: Uint32Array;
  #count: number;
  /** The first `#sorted` ids are in ascending order. */
  #sorted: number;

  constructor(first: number, second: number) {
    this.#ids = new Uint32Array(4);
    this.#ids[0] = first;
    this.#ids[1] = second;
    this.#count = 2;
    this.#sorted = second > first ? 2 : 1;
  }

  get count(): number {
    return this.#count;
  }

  /** The object, the array's header and the ids. */
  get bytes(): number {
    return 160 + this.#ids.byteLength;
  }

  add(id: number): void {
    if (this.#count === this.#ids.length) {
      const grown = new Uint32Array(this.#count < 1024 ? this.#count * 2 : this.#count + (this.#count >>> 1));
      grown.set(this.#ids);
      this.#ids = grown;
    }
    if (this.#sorted === this.#count && id > (this.#ids[this.#count - 1] as number)) this.#sorted++;
    this.#ids[this.#count++] = id;
  }

  /** The members in ascending order; valid until the list changes. */
  view(): Uint32Array {
    if (this.#sorted < this.#count) this.#mergeTail();
    return this.#ids.subarray(0, this.#count);
  }

  /** Whether `test` holds for any member, tried in no order. */
  some(test: (id: number) => boolean): boolean {
    for (let i = 0; i < this.#count; i++) if (test(this.#ids[i] as number)) return true;
    return false;
  }

  /** Keeps the members that are not in `dead`; returns how many are left. */
  sweep(dead: IdSet): number {
    const ids = this.view();
    let kept = 0;
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i] as number;
      if (!dead.has(id)) ids[kept++] = id;
    }
    this.#count = kept;
    this.#sorted = kept;
    if (kept * 3 < this.#ids.length && kept > 4) this.#ids = this.#ids.slice(0, kept + (kept >>> 2));
    return kept;
  }

  #mergeTail(): void {
    const ids = this.#ids;
    const tail = ids.slice(this.#sorted, this.#count).sort();
    // From the back, in place: the write position never overtakes the sorted part's read position.
    let read = this.#sorted - 1;
    let write = this.#count - 1;
    for (let t = tail.length - 1; t >= 0; ) {
      const candidate = tail[t] as number;
      if (read >= 0 && (ids[read] as number) > candidate) ids[write--] = ids[read--] as number;
      else {
        ids[write--] = candidate;
        t--;
      }
    }
    this.#sorted = this.#count;
  }
}

/** A set of series ids as a bitmap. Grows as needed; `has` of an id never added is false. */
export class IdSet {
  #words: Uint32Array;

  constructor(capacity = 0) {
    this.#words = new Uint32Array((capacity >>> 5) + 1);
  }

  add(id: number): void {
    const word = id >>> 5;
    if (word >= this.#words.length) {
      const grown = new Uint32Array(Math.max(word + 1, this.#words.length * 2));
      grown.set(this.#words);
      this.#words = grown;
    }
    this.#words[word] = (this.#words[word] as number) | (1 << (id & 31));
  }

  addAll(ids: Uint32Array): void {
    if (ids.length === 0) return;
    for (let i = 0; i < ids.length; i++) this.add(ids[i] as number);
  }

  delete(id: number): void {
    const word = id >>> 5;
    if (word < this.#words.length) this.#words[word] = (this.#words[word] as number) & ~(1 << (id & 31));
  }

  has(id: number): boolean {
    const word = id >>> 5;
    return word < this.#words.length && ((this.#words[word] as number) & (1 << (id & 31))) !== 0;
  }

  /** The members in ascending order. */
  toArray(): Uint32Array {
    const words = this.#words;
    let count = 0;
    for (let w = 0; w < words.length; w++) count += popcount(words[w] as number);
    const ids = new Uint32Array(count);
    let write = 0;
    for (let w = 0; w < words.length; w++) {
      let bits = words[w] as number;
      while (bits !== 0) {
        ids[write++] = (w << 5) + (31 - Math.clz32(bits & -bits));
        bits &= bits - 1;
      }
    }
    return ids;
  }
}

function popcount(word: number): number {
  let x = word - ((word >>> 1) & 0x55555555);
  x = (x & 0x33333333) + ((x >>> 2) & 0x33333333);
  return (((x + (x >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
}

/** The series that count, asked for once there is need to know; undefined: all of them. */
export type Among = () => Promise<IdSet | undefined>;

export class Postings {
  readonly #names = new Map<string, Map<string, Entry>>();
  readonly #all = new IdSet();
  #count = 0;
  #top = 0;
  #byteCount = 0;
  /** Removed since the last sweep began. */
  #dead = new IdSet();
  #deadCount = 0;
  /** Being taken out by the sweep under way. */
  #sweeping: IdSet | undefined;
  /** Series whose id still has entries of a dead one in the lists. */
  #late = new Map<number, readonly string[]>();
  /** All values of a label in order, as long as none comes or goes. */
  readonly #listed = new Map<string, readonly string[]>();
  #listedCount = 0;
  /** Grows when a value of any label comes or goes. */
  #valuesVersion = 0;

  /** Series indexed. */
  get seriesCount(): number {
    return this.#count;
  }

  /** An estimate of the index's memory: strings, map slots and lists. */
  get byteCount(): number {
    return this.#byteCount + 8 * this.#listedCount;
  }

  /** Series removed that a sweep has yet to take out. */
  get deadCount(): number {
    return this.#deadCount;
  }

  /** Adds a series under every one of its labels: `labels` is flat, [name0, value0, ...]. The id must not be in the index. */
  add(id: number, labels: readonly string[]): void {
    this.#all.add(id);
    this.#count++;
    if (id > this.#top) this.#top = id;
    if (this.#isDead(id)) this.#late.set(id, labels);
    else this.#index(id, labels);
  }

  remove(id: number): void {
    this.#all.delete(id);
    this.#count--;
    if (this.#late.delete(id)) return;
    this.#dead.add(id);
    this.#deadCount++;
  }

  /** The series there are, in ascending order. */
  ids(): Uint32Array {
    return this.#all.toArray();
  }

  /** Takes out what was removed, in slices. One at a time. */
  async sweep(slicer: Slicer): Promise<void> {
    const dead = this.#dead;
    this.#sweeping = dead;
    this.#dead = new IdSet();
    this.#deadCount = 0;
    for (const [name, values] of this.#names) {
      for (const [value, entry] of values) {
        if (typeof entry === 'number') {
          if (dead.has(entry)) this.#drop(name, values, value);
        } else {
          slicer.spend(entry.count >>> 4);
          this.#byteCount -= entry.bytes;
          const kept = entry.sweep(dead);
          if (kept === 0) this.#drop(name, values, value);
          else if (kept === 1) values.set(value, entry.view()[0] as number);
          else this.#byteCount += entry.bytes;
        }
        if (slicer.due()) await slicer.pause();
      }
      // Synchronous with the last look at the values, so no series can have come in between.
      if (values.size === 0) {
        this.#names.delete(name);
        this.#byteCount -= slotBytes(name);
      }
    }
    this.#sweeping = undefined;
    for (const [id, labels] of this.#late) {
      if (this.#dead.has(id)) continue;
      this.#late.delete(id);
      this.#index(id, labels);
    }
  }

  /**
   * The series that satisfy every matcher, in ascending order, as a copy. A regular expression is tried
   * once per distinct value. No matchers: every series. Of series that come or go meanwhile it may or may not
   * know. Found at once when each matcher names one value. Throws what a matcher's `test` throws.
   */
  resolve(matchers: readonly CompiledMatcher[], slicer: Slicer): Uint32Array | Promise<Uint32Array> {
    const indexed = this.#resolveIndexed(matchers, slicer);
    return indexed instanceof Promise
      ? indexed.then((ids) => this.#living(ids, matchers))
      : this.#living(indexed, matchers);
  }

  /** What the lists gave, without the dead, and with those that are not in the lists yet. */
  #living(indexed: Uint32Array, matchers: readonly CompiledMatcher[]): Uint32Array {
    if (this.#deadCount === 0 && this.#sweeping === undefined && this.#late.size === 0) return indexed;
    const found = new IdSet(this.#top);
    for (const id of indexed) if (!this.#isDead(id)) found.add(id);
    for (const [id, labels] of this.#late) {
      if (matchers.every((matcher) => matcher.test(valueIn(labels, matcher.name)))) found.add(id);
    }
    return found.toArray();
  }

  #resolveIndexed(matchers: readonly CompiledMatcher[], slicer: Slicer): Uint32Array | Promise<Uint32Array> {
    let candidates: Uint32Array | undefined;
    const subtract: CompiledMatcher[] = [];
    const gather: CompiledMatcher[] = [];
    const narrow: { name: string; value: string; count: number }[] = [];
    for (const matcher of matchers) {
      if (matcher.matchesEmpty) subtract.push(matcher);
      else if (!matcher.negated && matcher.literals?.length === 1) {
        const value = matcher.literals[0] as string;
        const entry = this.#names.get(matcher.name)?.get(value);
        if (entry === undefined) return EMPTY;
        narrow.push({ name: matcher.name, value, count: typeof entry === 'number' ? 1 : entry.count });
      } else gather.push(matcher);
    }
    // All of this loop is one synchronous step, so the views stay valid.
    narrow.sort((a, b) => a.count - b.count);
    for (const { name, value } of narrow) {
      const members = entryView(this.#names.get(name)?.get(value));
      candidates = candidates === undefined ? members.slice() : intersect(candidates, members);
      if (candidates.length === 0) return EMPTY;
    }
    if (candidates !== undefined && gather.length === 0 && subtract.length === 0) return candidates;
    return this.#sift(candidates, gather, subtract, slicer);
  }

  /** The candidates (undefined: every series) that have a value that `gather` accept, and none that `subtract` refuse. */
  async #sift(
    given: Uint32Array | undefined,
    gather: readonly CompiledMatcher[],
    subtract: readonly CompiledMatcher[],
    slicer: Slicer,
  ): Promise<Uint32Array> {
    let candidates = given;
    for (const matcher of gather) {
      const union = await this.#union(matcher.name, matcher, true, slicer);
      candidates = candidates === undefined ? union.toArray() : candidates.filter((id) => union.has(id));
      if (candidates.length === 0) return EMPTY;
    }
    candidates ??= this.#all.toArray();
    for (const matcher of subtract) {
      if (!this.#names.has(matcher.name)) continue;
      const union = await this.#union(matcher.name, matcher, false, slicer);
      candidates = candidates.filter((id) => !union.has(id));
      if (candidates.length === 0) return EMPTY;
    }
    return candidates;
  }

  /** Label names, not among the known, that a series of `among` carries; in no order. */
  async names(among: Among, known: ReadonlySet<string>, slicer: Slicer): Promise<string[]> {
    const found = new Set<string>();
    let members: { readonly ids: IdSet | undefined } | undefined;
    for (const [name, values] of this.#names) {
      if (known.has(name)) continue;
      members ??= { ids: await among() };
      for (const entry of values.values()) {
        if (slicer.due()) await slicer.pause();
        if (!this.#touches(entry, members.ids)) continue;
        found.add(name);
        break;
      }
    }
    await this.#addLate(among, slicer, (labels) => {
      for (let i = 0; i < labels.length; i += 2) if (!known.has(labels[i] as string)) found.add(labels[i] as string);
    });
    return [...found];
  }

  /** Values of a label, not among the known, that a series of `among` carries; in no order. */
  async values(name: string, among: Among, known: ReadonlySet<string>, slicer: Slicer): Promise<string[]> {
    const found = new Set<string>();
    let members: { readonly ids: IdSet | undefined } | undefined;
    for (const [value, entry] of this.#names.get(name) ?? []) {
      if (slicer.due()) await slicer.pause();
      if (known.has(value)) continue;
      members ??= { ids: await among() };
      if (this.#touches(entry, members.ids)) found.add(value);
    }
    await this.#addLate(among, slicer, (labels) => {
      const value = valueIn(labels, name);
      if (value !== '' && !known.has(value)) found.add(value);
    });
    return [...found];
  }

  /**
   * All values of a label, in order: the same array as long as they stay the same. Undefined while series are in the lists that
   * have left, or left out that have come.
   */
  allValues(name: string, slicer: Slicer): readonly string[] | Promise<readonly string[]> | undefined {
    if (this.#deadCount > 0 || this.#sweeping !== undefined || this.#late.size > 0) return undefined;
    return this.#listed.get(name) ?? this.#list(name, slicer);
  }

  async #list(name: string, slicer: Slicer): Promise<readonly string[]> {
    const values = this.#names.get(name);
    if (values === undefined) return [];
    const version = this.#valuesVersion;
    const sorted = await sortSlices([...values.keys()], compareUtf8, slicer);
    if (version !== this.#valuesVersion || sorted.length > MAX_LISTED) return sorted;
    this.#unlist(name);
    for (const other of this.#listed.keys()) {
      if (this.#listedCount + sorted.length <= MAX_LISTED) break;
      this.#unlist(other);
    }
    this.#listed.set(name, sorted);
    this.#listedCount += sorted.length;
    return sorted;
  }

  #unlist(name: string): void {
    const known = this.#listed.get(name);
    if (known === undefined) return;
    this.#listed.delete(name);
    this.#listedCount -= known.length;
  }

  async #addLate(among: Among, slicer: Slicer, add: (labels: readonly string[]) => void): Promise<void> {
    if (this.#late.size === 0) return;
    const ids = await among();
    for (const [id, labels] of this.#late) {
      if (slicer.due()) await slicer.pause();
      if (ids === undefined || ids.has(id)) add(labels);
    }
  }

  /**
   * Visits every label value with the number of series that carry it. Of series that came or went lately it may count or miss
   * some.
   */
  async visit(take: (name: string, value: string, seriesCount: number) => void, slicer: Slicer): Promise<void> {
    for (const [name, values] of this.#names) {
      for (const [value, entry] of values) {
        // Hashing and counting cost about ten of the slicer's steps.
        slicer.spend(10);
        if (slicer.due()) await slicer.pause();
        take(name, value, typeof entry === 'number' ? 1 : entry.count);
      }
    }
  }

  #index(id: number, labels: readonly string[]): void {
    for (let i = 0; i < labels.length; i += 2) {
      const name = labels[i] as string;
      const value = labels[i + 1] as string;
      let values = this.#names.get(name);
      if (values === undefined) {
        values = new Map();
        this.#names.set(name, values);
        this.#byteCount += slotBytes(name);
      }
      const entry = values.get(value);
      if (entry === undefined) {
        values.set(value, id);
        this.#byteCount += slotBytes(value);
        this.#valuesVersion++;
        if (this.#listed.size > 0) this.#unlist(name);
      } else if (typeof entry === 'number') {
        const list = new PostingList(entry, id);
        values.set(value, list);
        this.#byteCount += list.bytes;
      } else {
        this.#byteCount -= entry.bytes;
        entry.add(id);
        this.#byteCount += entry.bytes;
      }
    }
  }

  #drop(name: string, values: Map<string, Entry>, value: string): void {
    values.delete(value);
    this.#valuesVersion++;
    this.#unlist(name);
    this.#byteCount -= slotBytes(value);
  }

  #isDead(id: number): boolean {
    return this.#dead.has(id) || (this.#sweeping?.has(id) ?? false);
  }

  /** Has the entry a living member, in `among` where that is given? */
  #touches(entry: Entry, among: IdSet | undefined): boolean {
    if (typeof entry === 'number') return !this.#isDead(entry) && (among === undefined || among.has(entry));
    return entry.some((id) => (among === undefined || among.has(id)) && !this.#isDead(id));
  }

  /** Members of all values of `name` for which the matcher's answer is `wanted`. */
  async #union(name: string, matcher: CompiledMatcher, wanted: boolean, slicer: Slicer): Promise<IdSet> {
    const union = new IdSet(this.#top);
    const values = this.#names.get(name);
    if (values === undefined) return union;
    if (matcher.literals !== undefined && wanted !== matcher.negated) {
      for (const literal of matcher.literals) union.addAll(entryView(values.get(literal)));
      return union;
    }
    for (const [value, entry] of values) {
      if (slicer.due()) await slicer.pause();
      if (matcher.test(value) !== wanted) continue;
      if (typeof entry === 'number') union.add(entry);
      else {
        union.addAll(entry.view());
        slicer.spend(entry.count >>> 4);
      }
    }
    return union;
  }
}

/** A key of a map: its slot, and the string. */
function slotBytes(key: string): number {
  return 64 + key.length;
}

function entryView(entry: Entry | undefined): Uint32Array {
  if (entry === undefined) return EMPTY;
  return typeof entry === 'number' ? Uint32Array.of(entry) : entry.view();
}

function valueIn(labels: readonly string[], name: string): string {
  for (let i = 0; i < labels.length; i += 2) if (labels[i] === name) return labels[i + 1] as string;
  return '';
}

/** Members of both; `small` should be the shorter. Gallops through `large`: O(small * log(large / small)). */
function intersect(small: Uint32Array, large: Uint32Array): Uint32Array {
  const found = new Uint32Array(Math.min(small.length, large.length));
  let count = 0;
  let at = 0;
  for (let i = 0; i < small.length; i++) {
    const id = small[i] as number;
    let step = 1;
    while (at + step < large.length && (large[at + step] as number) < id) step <<= 1;
    let low = at + (step >>> 1);
    let high = Math.min(at + step, large.length - 1);
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((large[middle] as number) < id) low = middle + 1;
      else high = middle;
    }
    if (low >= large.length) break;
    at = low;
    if (large[low] === id) found[count++] = id;
  }
  return found.subarray(0, count);
}
