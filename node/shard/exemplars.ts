/**
 * The exemplars of a shard: the latest to arrive, up to a bound, whatever their series. In memory, and in log and checkpoint.
 *
 * Exemplars form a set, as samples do: of each series they lie in order of time, value and labels, each once, however they
 * came. What the bound pushes out is what arrived first; so copies differ at most in the oldest.
 */
import { type Exemplar, ExemplarList, readExemplars } from '../../core/exemplars.ts';
import { decodeIdentity, type Labels, labelValue, UNLIMITED } from '../../core/labels.ts';
import type { CompiledMatcher } from '../../core/matchers.ts';
import type { Slicer } from './slicer.ts';

/** Of memory, an estimate: the objects of an exemplar, and those of a series with its key and labels as text. */
const EXEMPLAR_BYTES = 128;
const SERIES_BYTES = 256;
const BYTES_PER_IDENTITY_BYTE = 4;
/** A page of a checkpoint or of an answer ends once it has so many bytes. */
const PAGE_BYTES = 128 * 1024;

interface Series {
  readonly key: string;
  readonly identity: Uint8Array;
  readonly labels: Labels;
  /** In order. */
  readonly exemplars: Exemplar[];
}

interface Arrival {
  readonly series: Series;
  readonly exemplar: Exemplar;
}

export class Exemplars {
  readonly #series = new Map<string, Series>();
  /** In order of arrival, behind `#goneCount` that are no more. */
  #arrivals: (Arrival | undefined)[] = [];
  #goneCount = 0;
  /** Taken out of the front of `#arrivals` since the shard was opened. */
  #cutCount = 0;
  #byteCount = 0;

  get count(): number {
    return this.#arrivals.length - this.#goneCount;
  }

  get seriesCount(): number {
    return this.#series.size;
  }

  /** Of memory, an estimate. */
  get byteCount(): number {
    return this.#byteCount;
  }

  has(identity: Uint8Array, exemplar: Exemplar): boolean {
    const series = this.#series.get(keyOf(identity));
    return series !== undefined && place(series.exemplars, exemplar) < 0;
  }

  /** Time of the newest one of a series. */
  newestMs(identity: Uint8Array): number | undefined {
    return this.#series.get(keyOf(identity))?.exemplars.at(-1)?.timestampMs;
  }

  /** Adds one, unless it is there; copies. Takes identity and labels for sound, or throws INVALID_LABELS. */
  add(identity: Uint8Array, exemplar: Exemplar): void {
    const key = keyOf(identity);
    let series = this.#series.get(key);
    if (series === undefined) {
      const labels = decodeIdentity(identity, UNLIMITED);
      series = { key, identity: identity.slice(), labels, exemplars: [] };
      this.#series.set(key, series);
      this.#byteCount += seriesBytes(series);
    }
    const at = place(series.exemplars, exemplar);
    if (at < 0) return;
    const kept = { ...exemplar, labels: exemplar.labels.slice() };
    series.exemplars.splice(at, 0, kept);
    this.#arrivals.push({ series, exemplar: kept });
    this.#byteCount += EXEMPLAR_BYTES + kept.labels.length;
  }

  /** The same of what lists hold. Throws CORRUPT, VERSION or INVALID_LABELS. */
  restore(lists: Uint8Array): void {
    readExemplars(lists, 'CORRUPT', (identity, exemplar) => this.add(identity, exemplar));
  }

  /** Lets those that came first go until there are `most`. */
  trim(most: number): void {
    while (this.count > Math.max(0, most)) this.#drop(this.#goneCount++);
    if (this.#goneCount < 1024 || this.#goneCount * 2 < this.#arrivals.length) return;
    this.#arrivals = this.#arrivals.slice(this.#goneCount);
    this.#cutCount += this.#goneCount;
    this.#goneCount = 0;
  }

  #drop(index: number): void {
    const { series, exemplar } = this.#arrivals[index] as Arrival;
    this.#arrivals[index] = undefined;
    series.exemplars.splice(series.exemplars.indexOf(exemplar), 1);
    this.#byteCount -= EXEMPLAR_BYTES + exemplar.labels.length;
    if (series.exemplars.length > 0) return;
    this.#series.delete(series.key);
    this.#byteCount -= seriesBytes(series);
  }

  /** All of them, in order of arrival, as lists. What comes or goes meanwhile may or may not be among them. */
  async *pages(slicer: Slicer): AsyncGenerator<Uint8Array> {
    const list = new ExemplarList();
    const end = this.#cutCount + this.#arrivals.length;
    for (let at = this.#cutCount + this.#goneCount; at < end; at++) {
      at = Math.max(at, this.#cutCount + this.#goneCount);
      const arrival = this.#arrivals[at - this.#cutCount];
      if (arrival === undefined) break;
      list.add(arrival.series.identity, arrival.exemplar);
      if (list.byteCount < PAGE_BYTES) continue;
      yield list.take();
      await slicer.pause();
    }
    if (list.count > 0) yield list.take();
  }

  /** Those in the range of the series that match any of the selectors, series by series, in time order, as lists. */
  async *select(
    selectors: readonly (readonly CompiledMatcher[])[],
    fromMs: number,
    toMs: number,
    slicer: Slicer,
  ): AsyncGenerator<Uint8Array> {
    const list = new ExemplarList();
    for (const { identity, labels, exemplars } of this.#series.values()) {
      slicer.spend(1);
      if (slicer.due()) await slicer.pause();
      const matches = selectors.some((matchers) => matchers.every(({ name, test }) => test(labelValue(labels, name))));
      if (!matches) continue;
      // A copy: others come and go while the reader takes its time.
      for (const exemplar of exemplars.filter(({ timestampMs }) => timestampMs >= fromMs && timestampMs <= toMs)) {
        list.add(identity, exemplar);
        if (list.byteCount >= PAGE_BYTES) yield list.take();
      }
    }
    if (list.count > 0) yield list.take();
  }
}

function seriesBytes({ identity }: Series): number {
  return SERIES_BYTES + BYTES_PER_IDENTITY_BYTE * identity.length;
}

function keyOf(identity: Uint8Array): string {
  return Buffer.from(identity.buffer, identity.byteOffset, identity.length).toString('latin1');
}

/** Where an exemplar belongs among others; below 0 if it is there already. */
function place(exemplars: readonly Exemplar[], one: Exemplar): number {
  let low = 0;
  let high = exemplars.length;
  // Most come in order.
  if (high > 0 && compare(exemplars[high - 1] as Exemplar, one) < 0) return high;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const order = compare(exemplars[middle] as Exemplar, one);
    if (order === 0) return -1;
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function compare(a: Exemplar, b: Exemplar): number {
  if (a.timestampMs !== b.timestampMs) return a.timestampMs - b.timestampMs;
  if (a.value < b.value) return -1;
  if (a.value > b.value) return 1;
  // Equal numbers, two zeros, or a NaN: by their bits.
  if (!Object.is(a.value, b.value)) return rank(a.value) - rank(b.value);
  return Buffer.compare(a.labels, b.labels);
}

function rank(value: number): number {
  return Number.isNaN(value) ? -2 : Object.is(value, -0) ? -1 : 0;
}
