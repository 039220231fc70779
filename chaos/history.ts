/**
 * What a cluster was asked to store and what it acknowledged, kept small, and the judgement of what it gives back.
 *
 * A sample's value follows from its series and its time, so a history is two sets of tick ranges per series: those that
 * were sent, and those of them that were acknowledged. The judgement: every acknowledged sample is there, bit for bit;
 * nothing is there that was never sent; each timestamp once, in order. A sample that was sent and not acknowledged may be
 * there or not.
 */

/** Disjoint half-open ranges of whole numbers, ascending, neighbours joined. */
export class Ranges {
  /** from, to, from, to, ... */
  readonly #bounds: number[] = [];

  add(from: number, to: number): void {
    if (from >= to) return;
    const bounds = this.#bounds;
    let low = 0;
    while (low < bounds.length && (bounds[low + 1] as number) < from) low += 2;
    let high = low;
    let first = from;
    let last = to;
    while (high < bounds.length && (bounds[high] as number) <= to) {
      first = Math.min(first, bounds[high] as number);
      last = Math.max(last, bounds[high + 1] as number);
      high += 2;
    }
    bounds.splice(low, high - low, first, last);
  }

  has(value: number): boolean {
    for (let i = 0; i < this.#bounds.length; i += 2) {
      if (value < (this.#bounds[i] as number)) return false;
      if (value < (this.#bounds[i + 1] as number)) return true;
    }
    return false;
  }

  /** What is here and not in `other`, of `[from, to)`. */
  without(other: Ranges, from = Number.NEGATIVE_INFINITY, to = Number.POSITIVE_INFINITY): Ranges {
    const left = new Ranges();
    const bounds = other.#bounds;
    let at = 0;
    for (const [first, last] of this) {
      let next = Math.max(first, from);
      const end = Math.min(last, to);
      while (at < bounds.length && (bounds[at + 1] as number) <= next) at += 2;
      for (let i = at; i < bounds.length && (bounds[i] as number) < end; i += 2) {
        left.add(next, bounds[i] as number);
        next = Math.max(next, bounds[i + 1] as number);
      }
      left.add(next, end);
    }
    return left;
  }

  get size(): number {
    let size = 0;
    for (const [from, to] of this) size += to - from;
    return size;
  }

  *[Symbol.iterator](): Generator<readonly [from: number, to: number]> {
    for (let i = 0; i < this.#bounds.length; i += 2) {
      yield [this.#bounds[i] as number, this.#bounds[i + 1] as number];
    }
  }
}

/** A rectangle of samples: all ticks of `[fromTick, toTick)` of all series of `[fromSeries, toSeries)`. */
export interface Span {
  readonly fromSeries: number;
  readonly toSeries: number;
  readonly fromTick: number;
  readonly toTick: number;
}

export interface HistoryOptions {
  readonly seed: number;
  readonly seriesCount: number;
  /** The time of tick 0. */
  readonly originMs: number;
  readonly stepMs: number;
}

/** Values that encodings like to get wrong. */
const ODD_VALUES = [
  -0,
  0,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  Number.MIN_VALUE,
  -Number.MIN_VALUE,
  Number.MAX_VALUE,
  2 ** 53 + 2,
  0.1 + 0.2,
];

/** 32 well mixed bits (the finalizer of MurmurHash3). */
function mix(a: number, b: number, c: number): number {
  let hash = Math.imul(a, 0x9e3779b1) ^ Math.imul(b, 0x85ebca77) ^ Math.imul(c, 0xc2b2ae3d);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

export class History {
  readonly seed: number;
  readonly seriesCount: number;
  readonly originMs: number;
  readonly stepMs: number;
  readonly sent: readonly Ranges[];
  readonly acknowledged: readonly Ranges[];

  constructor({ seed, seriesCount, originMs, stepMs }: HistoryOptions) {
    this.seed = seed;
    this.seriesCount = seriesCount;
    this.originMs = originMs;
    this.stepMs = stepMs;
    this.sent = Array.from({ length: seriesCount }, () => new Ranges());
    this.acknowledged = Array.from({ length: seriesCount }, () => new Ranges());
  }

  timeMs(tick: number): number {
    return this.originMs + tick * this.stepMs;
  }

  /** A quarter of the series each: counters, two decimals, full mantissas, odd values. */
  value(series: number, tick: number): number {
    const bits = mix(this.seed, series, tick);
    switch (series % 4) {
      case 0:
        return tick * 3 + series;
      case 1:
        return (bits % 100_000) / 100;
      case 2:
        return (bits + mix(bits, tick, series) / 2 ** 32) / 2 ** 32;
      default:
        return ODD_VALUES[bits % ODD_VALUES.length] as number;
    }
  }

  /** Before a sample of the span goes out. */
  send(span: Span): void {
    for (let i = span.fromSeries; i < span.toSeries; i++) this.sent[i]?.add(span.fromTick, span.toTick);
  }

  /** After all samples of the span were acknowledged. */
  acknowledge(span: Span): void {
    for (let i = span.fromSeries; i < span.toSeries; i++) this.acknowledged[i]?.add(span.fromTick, span.toTick);
  }

  get acknowledgedCount(): number {
    return this.acknowledged.reduce((sum, ranges) => sum + ranges.size, 0);
  }
}

/** What came back, against a history. */
export interface Verdict {
  readonly seenCount: number;
  /** Acknowledged and not there. */
  readonly lostCount: number;
  /** Lost ticks by series. */
  readonly lost: ReadonlyMap<number, Ranges>;
  /** What must not be, whatever was lost: the first few in words. */
  readonly wrong: readonly string[];
  readonly wrongCount: number;
  /** Ticks that are there, by series. */
  readonly found: ReadonlyMap<number, Ranges>;
}

const NAMED = 10;

/** Give `see` each series once, in any order, then ask for the verdict. */
export class Check {
  readonly #history: History;
  readonly #seen = new Set<number>();
  readonly #found = new Map<number, Ranges>();
  readonly #lost = new Map<number, Ranges>();
  readonly #wrong: string[] = [];
  readonly #expected = new Float64Array(1);
  readonly #expectedBits = new Uint32Array(this.#expected.buffer);
  #seenCount = 0;
  #lostCount = 0;
  #wrongCount = 0;

  constructor(history: History) {
    this.#history = history;
  }

  /** The samples of a series, as they came: unsorted or repeated ones are wrong. */
  see(series: number, timestamps: Float64Array, values: Float64Array): void {
    const { originMs, stepMs, seriesCount } = this.#history;
    if (!Number.isInteger(series) || series < 0 || series >= seriesCount) {
      this.#complain(`series ${series}: nobody wrote it`);
      return;
    }
    if (this.#seen.has(series)) this.#complain(`series ${series} came twice`);
    this.#seen.add(series);
    const sent = this.#history.sent[series] as Ranges;
    const found = new Ranges();
    const bits = new Uint32Array(values.buffer, values.byteOffset, values.length * 2);
    let lastMs = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < timestamps.length; i++) {
      const timeMs = timestamps[i] as number;
      const tick = (timeMs - originMs) / stepMs;
      if (timeMs <= lastMs) this.#complain(`series ${series}: ${timeMs} comes after ${lastMs}`);
      lastMs = timeMs;
      if (!Number.isInteger(tick) || !sent.has(tick)) {
        this.#complain(`series ${series} at ${timeMs} (tick ${tick}): nobody wrote it`);
        continue;
      }
      this.#expected[0] = this.#history.value(series, tick);
      if (bits[2 * i] !== this.#expectedBits[0] || bits[2 * i + 1] !== this.#expectedBits[1]) {
        this.#complain(`series ${series} tick ${tick}: ${values[i]} where ${this.#expected[0]} was written`);
      }
      found.add(tick, tick + 1);
      this.#seenCount++;
    }
    this.#found.set(series, found);
    this.#miss(series, found);
  }

  verdict(): Verdict {
    for (let series = 0; series < this.#history.seriesCount; series++) {
      if (this.#seen.has(series)) continue;
      this.#seen.add(series);
      this.#miss(series, new Ranges());
    }
    return {
      seenCount: this.#seenCount,
      lostCount: this.#lostCount,
      lost: this.#lost,
      wrong: this.#wrong,
      wrongCount: this.#wrongCount,
      found: this.#found,
    };
  }

  #miss(series: number, found: Ranges): void {
    const lost = (this.#history.acknowledged[series] as Ranges).without(found);
    if (lost.size === 0) return;
    this.#lost.set(series, lost);
    this.#lostCount += lost.size;
  }

  #complain(message: string): void {
    this.#wrongCount++;
    if (this.#wrong.length < NAMED) this.#wrong.push(message);
  }
}

/** In words: empty when nothing is lost and nothing is wrong. */
export function violations({ lost, lostCount, wrong, wrongCount }: Verdict): string[] {
  const words: string[] = [];
  if (lostCount > 0) {
    const named = [...lost].slice(0, NAMED).map(([series, ranges]) => {
      return `series ${series} ticks ${[...ranges].slice(0, NAMED).map(([from, to]) => `${from}..${to - 1}`)}`;
    });
    words.push(`${lostCount} acknowledged samples of ${lost.size} series are lost: ${named.join('; ')}`);
  }
  if (wrongCount > 0) words.push(`${wrongCount} samples are wrong: ${wrong.join('; ')}`);
  return words;
}
