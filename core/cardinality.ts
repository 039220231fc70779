/**
 * How many series carry which labels, counted where the series are and added up where somebody asks. What a shard tells is
 * bounded: its KEPT_COUNT largest metrics, label pairs and labels. What is not among them has in that shard at most as many as
 * the least that is, so a sum over shards is too low by no more than that for each shard that left it out.
 *
 * A label's values occur in several shards, and counts of them cannot be added. Each shard sends its SKETCH_COUNT smallest
 * hashes of them: of the union, up to so many values are counted exactly, more are estimated to about 6% (the k-th smallest
 * of n even hashes lies at k/n).
 */

/** As many of a kind as a shard tells of, and as can be asked for. */
export const KEPT_COUNT = 500;
const SKETCH_COUNT = 256;

interface Counted {
  readonly name: string;
  readonly value: number;
}

/** The largest first. Values of one name must be added up before. */
class Top {
  readonly #most: number;
  #entries: Counted[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  add(name: string, value: number): void {
    this.#entries.push({ name, value });
    if (this.#entries.length >= 4 * this.#most + 64) this.#cut();
  }

  list(): Counted[] {
    this.#cut();
    return this.#entries;
  }

  #cut(): void {
    this.#entries.sort((a, b) => b.value - a.value || (a.name < b.name ? -1 : 1));
    this.#entries.length = Math.min(this.#entries.length, this.#most);
  }
}

/** How many different texts it was told, from the smallest of their hashes. */
class Sketch {
  #hashes: number[] = [];
  #bound = 2 ** 32;

  add(text: string): void {
    this.addHash(hash(text));
  }

  addHash(value: number): void {
    if (value >= this.#bound) return;
    this.#hashes.push(value);
    if (this.#hashes.length >= 4 * SKETCH_COUNT) this.hashes();
  }

  /** The smallest, in order, each once. */
  hashes(): readonly number[] {
    const kept = [...new Set(this.#hashes)].sort((a, b) => a - b).slice(0, SKETCH_COUNT);
    this.#hashes = kept;
    if (kept.length === SKETCH_COUNT) this.#bound = kept[SKETCH_COUNT - 1] as number;
    return [...kept];
  }

  count(): number {
    const kept = this.hashes();
    if (kept.length < SKETCH_COUNT) return kept.length;
    return Math.round(((SKETCH_COUNT - 1) * 2 ** 32) / (kept[SKETCH_COUNT - 1] as number));
  }
}

/** FNV-1a over the UTF-16 units, mixed at the end as MurmurHash3 does: even in all 32 bits. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** One shard's: what it is told of each label value, as texts for the wire. */
export class ShardCardinality {
  readonly #metrics = new Top(KEPT_COUNT);
  readonly #pairs = new Top(KEPT_COUNT);
  readonly #labels = new Map<string, { bytes: number; valueCount: number; sketch: Sketch }>();

  add(name: string, value: string, seriesCount: number): void {
    if (name === '__name__') this.#metrics.add(value, seriesCount);
    this.#pairs.add(`${name}=${value}`, seriesCount);
    let label = this.#labels.get(name);
    if (label === undefined) {
      label = { bytes: 0, valueCount: 0, sketch: new Sketch() };
      this.#labels.set(name, label);
    }
    label.bytes += value.length * seriesCount;
    label.valueCount++;
    label.sketch.add(value);
  }

  /** JSON arrays: `[shard, "series", count, first ms, last ms]`, `[shard, "metric" or "pair", count, name]`, `[shard, "label", bytes, name, hashes]`. */
  texts(shard: number, seriesCount: number, firstMs: number, lastMs: number): string[] {
    const texts = [JSON.stringify([shard, 'series', seriesCount, firstMs, lastMs])];
    for (const { name, value } of this.#metrics.list()) texts.push(JSON.stringify([shard, 'metric', value, name]));
    for (const { name, value } of this.#pairs.list()) texts.push(JSON.stringify([shard, 'pair', value, name]));
    const labels = [...this.#labels].sort(([, a], [, b]) => b.valueCount - a.valueCount).slice(0, KEPT_COUNT);
    for (const [name, { bytes, sketch }] of labels) {
      texts.push(JSON.stringify([shard, 'label', bytes, name, sketch.hashes()]));
    }
    return texts;
  }
}

/** All shards', from their texts. */
export class Cardinality {
  seriesCount = 0;
  /** Infinity and -Infinity while there are no samples. */
  firstMs = Number.POSITIVE_INFINITY;
  lastMs = Number.NEGATIVE_INFINITY;
  readonly #metrics = new Map<string, number>();
  readonly #pairs = new Map<string, number>();
  readonly #labels = new Map<string, { bytes: number; sketch: Sketch }>();

  constructor(texts: Iterable<string>) {
    for (const text of texts) this.#add(JSON.parse(text) as Entry);
  }

  get labelPairCount(): number {
    let sum = 0;
    for (const { sketch } of this.#labels.values()) sum += sketch.count();
    return sum;
  }

  seriesByMetric(limit: number): Counted[] {
    return largest(this.#metrics, limit, (count) => count);
  }

  seriesByPair(limit: number): Counted[] {
    return largest(this.#pairs, limit, (count) => count);
  }

  valuesByLabel(limit: number): Counted[] {
    return largest(this.#labels, limit, ({ sketch }) => sketch.count());
  }

  /** Length of the values, times the series that carry them. */
  bytesByLabel(limit: number): Counted[] {
    return largest(this.#labels, limit, ({ bytes }) => bytes);
  }

  #add(entry: Entry): void {
    switch (entry[1]) {
      case 'series':
        this.seriesCount += entry[2];
        this.firstMs = Math.min(this.firstMs, entry[3] ?? this.firstMs);
        this.lastMs = Math.max(this.lastMs, entry[4] ?? this.lastMs);
        return;
      case 'metric':
        this.#metrics.set(entry[3], (this.#metrics.get(entry[3]) ?? 0) + entry[2]);
        return;
      case 'pair':
        this.#pairs.set(entry[3], (this.#pairs.get(entry[3]) ?? 0) + entry[2]);
        return;
      case 'label': {
        const label = this.#labels.get(entry[3]) ?? { bytes: 0, sketch: new Sketch() };
        label.bytes += entry[2];
        for (const value of entry[4]) label.sketch.addHash(value);
        this.#labels.set(entry[3], label);
      }
    }
  }
}

/** Infinities travel as null. */
type Entry =
  | [shard: number, kind: 'series', count: number, firstMs: number | null, lastMs: number | null]
  | [shard: number, kind: 'metric' | 'pair', count: number, name: string]
  | [shard: number, kind: 'label', bytes: number, name: string, hashes: number[]];

function largest<T>(entries: ReadonlyMap<string, T>, limit: number, measure: (entry: T) => number): Counted[] {
  const top = new Top(limit);
  for (const [name, entry] of entries) top.add(name, measure(entry));
  return top.list();
}
