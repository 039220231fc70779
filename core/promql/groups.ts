/**
 * Aggregations computed where the series are: what is asked, the groups that come of it, and how they travel
 * (ARCHITECTURE.md, "Aggregate page"). Nodes add series and write pages; coordinators read pages and merge.
 */
import { SilverbackError } from '../errors.ts';
import { encodeIdentity, type Labels } from '../labels.ts';
import { Average, Count, Extreme, type Partial, Sum } from './accumulate.ts';
import { Grouping, trustedLabels } from './grouping.ts';
import { Keyer, METRIC_NAME } from './labelset.ts';
import { count, extreme, last, latest, mean, one, total } from './over.ts';
import { extrapolated, instantaneous } from './rate.ts';
import { stripStale } from './stale.ts';
import { type Points, type Reference, type WindowKernel, Windows } from './window.ts';

/** An aggregation of the series of a selector, or of a range function of each. */
export interface Aggregation {
  /** One of `OPERATIONS`. */
  readonly operation: string;
  readonly grouping: readonly string[];
  readonly without: boolean;
  /** One of `WINDOW_FUNCTIONS`; empty: the latest sample. */
  readonly function: string;
  /** Of the function's windows; without one, the lookback. */
  readonly rangeMs: number;
  readonly reference: Reference;
  readonly steps: number;
  /** Samples that were looked at are counted by step too. */
  readonly perStep: boolean;
}

const OPERATIONS: ReadonlyMap<string, (steps: number) => Partial> = new Map<string, (steps: number) => Partial>([
  ['sum', (steps) => new Sum(steps)],
  ['avg', (steps) => new Average(steps)],
  ['max', (steps) => new Extreme(steps, 1)],
  ['min', (steps) => new Extreme(steps, -1)],
  ['count', (steps) => new Count(steps, false)],
  ['group', (steps) => new Count(steps, true)],
]);

interface WindowFunction {
  readonly kernel: WindowKernel;
  readonly keepsName?: boolean;
  /** Visits all samples of each window, however wide it is. */
  readonly wide?: boolean;
}

const WINDOW_FUNCTIONS: ReadonlyMap<string, WindowFunction> = new Map<string, WindowFunction>([
  ['rate', { kernel: extrapolated(true, true) }],
  ['increase', { kernel: extrapolated(true, false) }],
  ['delta', { kernel: extrapolated(false, false) }],
  ['irate', { kernel: instantaneous(true) }],
  ['idelta', { kernel: instantaneous(false) }],
  ['sum_over_time', { kernel: total, wide: true }],
  ['avg_over_time', { kernel: mean, wide: true }],
  ['min_over_time', { kernel: extreme(-1) }],
  ['max_over_time', { kernel: extreme(1) }],
  ['count_over_time', { kernel: count }],
  ['present_over_time', { kernel: one }],
  ['last_over_time', { kernel: last, keepsName: true }],
]);

/** Whether the operation's parts can be merged. */
export function isMergeable(operation: string): boolean {
  return OPERATIONS.has(operation);
}

/** Whether nodes compute the function; an answer that drops the metric name is told apart from one that keeps it. */
export function windowFunction(name: string): Pick<WindowFunction, 'keepsName'> | undefined {
  return WINDOW_FUNCTIONS.get(name);
}

/** @throws INVALID_ARGUMENT naming what is not known or out of bounds. */
function checkAggregation({ operation, function: name, rangeMs, steps }: Aggregation): void {
  if (!OPERATIONS.has(operation)) throw invalid(`aggregation ${JSON.stringify(operation)} is not computed by nodes`);
  if (name !== '' && !WINDOW_FUNCTIONS.has(name)) {
    throw invalid(`function ${JSON.stringify(name)} is not computed by nodes`);
  }
  if (!(rangeMs > 0)) throw invalid(`an aggregation's range is ${rangeMs} ms, must be more than 0`);
  if (!(steps >= 1 && steps <= MAX_STEPS)) {
    throw invalid(`an aggregation has ${steps} steps, must have from 1 to ${MAX_STEPS}`);
  }
}

/** A group has to fit into a message. Aggregations over more steps (of subqueries) are computed by whoever asks. */
export const MAX_STEPS = 100_000;

function invalid(message: string): SilverbackError {
  return new SilverbackError('INVALID_ARGUMENT', message);
}

/** What was looked at for an answer. */
export interface Looked {
  /** Samples as the language counts them: one counts at each step that looks at it. */
  samples: number;
  readonly perStep: Float64Array | undefined;
  /** Series that have samples in the range. */
  series: number;
}

interface Group {
  readonly labels: Labels;
  readonly partial: Partial;
}

/** The groups of an aggregation. */
export class Groups {
  readonly looked: Looked;
  readonly #aggregation: Aggregation;
  readonly #open: (steps: number) => Partial;
  readonly #keyer: Keyer;
  readonly #byKey = new Map<string, Group>();

  constructor(aggregation: Aggregation) {
    checkAggregation(aggregation);
    const { operation, grouping, without, steps, perStep } = aggregation;
    this.#aggregation = aggregation;
    this.#open = OPERATIONS.get(operation) as (steps: number) => Partial;
    this.#keyer = new Keyer(grouping, without);
    this.looked = { samples: 0, series: 0, perStep: perStep ? new Float64Array(steps) : undefined };
  }

  get count(): number {
    return this.#byKey.size;
  }

  /** Values held, all groups and steps. */
  get pointCount(): number {
    return this.#byKey.size * this.#aggregation.steps;
  }

  values(): IterableIterator<Group> {
    return this.#byKey.values();
  }

  /** The group of these labels, which are none but its own; opened if need be. */
  open(labels: Labels): Group {
    const key = this.#keyer.key(labels);
    let group = this.#byKey.get(key);
    if (group === undefined) {
      group = { labels, partial: this.#open(this.#aggregation.steps) };
      this.#byKey.set(key, group);
    }
    return group;
  }

  #lookedAt({ samples, series, perStep }: Looked): void {
    this.looked.samples += samples;
    this.looked.series += series;
    const own = this.looked.perStep;
    if (own === undefined || perStep === undefined) return;
    for (let i = 0; i < own.length; i++) own[i] = (own[i] as number) + (perStep[i] as number);
  }

  /** Pages of about `pageBytes`, at least one; the first says what was looked at. */
  *pages(pageBytes: number): Generator<Uint8Array> {
    const { samples, series, perStep } = this.looked;
    const page = new PageWriter();
    page.begin(LOOKED);
    page.bytes(bytesOf(Float64Array.of(samples, series)));
    if (perStep !== undefined) page.bytes(bytesOf(perStep));
    for (const { labels, partial } of this.#byKey.values()) {
      if (page.length >= pageBytes) {
        yield page.take();
        page.begin(0);
      }
      page.group(encodeIdentity(labels), partial.columns);
    }
    yield page.take();
  }

  /** Merges a page. @throws CORRUPT when its lengths do not add up; TooFine. */
  take(page: Uint8Array): void {
    const { steps, perStep } = this.#aggregation;
    const view = new DataView(page.buffer, page.byteOffset, page.length);
    let at = 0;
    const next = (length: number): number => {
      const from = at;
      at += length;
      if (at > page.length) throw new SilverbackError('CORRUPT', `an aggregate page is cut short at byte ${from}`);
      return from;
    };
    const flags = view.getUint32(next(HEAD_BYTES), true);
    if (flags === TOO_FINE) throw new TooFine();
    const groupCount = view.getUint32(4, true);
    if (flags === LOOKED) {
      const from = next(16);
      const samples = view.getFloat64(from, true);
      const series = view.getFloat64(from + 8, true);
      const column = perStep ? new Float64Array(steps) : undefined;
      if (column !== undefined) fill(column, page, next(column.byteLength));
      this.#lookedAt({ samples, series, perStep: column });
    }
    /** What is merged at once needs no columns of its own. */
    let spare: Partial | undefined;
    for (let i = 0; i < groupCount; i++) {
      const identityBytes = view.getUint32(next(4), true);
      const from = next(identityBytes);
      const labels = trustedLabels(page.subarray(from, from + identityBytes));
      const key = this.#keyer.key(labels);
      const own = this.#byKey.get(key)?.partial;
      const partial: Partial = (own && spare) ?? this.#open(steps);
      const { columns } = partial;
      for (const column of columns) fill(column, page, next(column.byteLength));
      if (own === undefined) this.#byKey.set(key, { labels, partial });
      else {
        own.merge(columns);
        spare = partial;
      }
    }
    if (at !== page.length) throw new SilverbackError('CORRUPT', `an aggregate page has bytes after byte ${at}`);
  }
}

/** So many groups that they would be dearer than the series: these are to be selected instead. */
export class TooFine extends Error {
  /** The page that says so. */
  static get page(): Uint8Array {
    return new Uint8Array(Uint32Array.of(TOO_FINE, 0).buffer);
  }
}

/** Writes aggregate pages, one after the other, into the same memory. */
class PageWriter {
  #bytes = new Uint8Array(4_096);
  #view = new DataView(this.#bytes.buffer);
  #groupCount = 0;
  length = 0;

  begin(flags: number): void {
    this.#view.setUint32(0, flags, true);
    this.#groupCount = 0;
    this.length = HEAD_BYTES;
  }

  bytes(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  group(identity: Uint8Array, columns: Partial['columns']): void {
    this.#reserve(4);
    this.#view.setUint32(this.length, identity.length, true);
    this.length += 4;
    this.bytes(identity);
    for (const column of columns) this.bytes(bytesOf(column));
    this.#groupCount++;
  }

  /** The page, as a copy. */
  take(): Uint8Array {
    this.#view.setUint32(4, this.#groupCount, true);
    return this.#bytes.slice(0, this.length);
  }

  #reserve(byteCount: number): void {
    const needed = this.length + byteCount;
    if (needed <= this.#bytes.length) return;
    const grown = new Uint8Array(2 * needed);
    grown.set(this.#bytes.subarray(0, this.length));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

const HEAD_BYTES = 8;
const LOOKED = 1;
const TOO_FINE = 2;
function bytesOf(column: Float64Array | Uint32Array | Uint8Array): Uint8Array {
  return new Uint8Array(column.buffer, column.byteOffset, column.byteLength);
}

function fill(column: Float64Array | Uint32Array | Uint8Array, page: Uint8Array, from: number): void {
  bytesOf(column).set(page.subarray(from, from + column.byteLength));
}

/** Computes an aggregation series by series. */
export class Aggregator {
  readonly groups: Groups;
  readonly #aggregation: Aggregation;
  readonly #function: WindowFunction | undefined;
  readonly #grouping: Grouping<Group>;
  readonly #open = (labels: Labels): Group => this.groups.open(labels);
  readonly #windows: Windows;
  readonly #points: Points;
  /** Of the series that is not all added. */
  #identity = NO_BYTES;

  constructor(aggregation: Aggregation) {
    const { function: name, grouping, without, rangeMs, reference, steps } = aggregation;
    this.groups = new Groups(aggregation);
    this.#aggregation = aggregation;
    this.#function = WINDOW_FUNCTIONS.get(name);
    const keepsName = this.#function === undefined || this.#function.keepsName === true;
    const names = without ? [METRIC_NAME, ...grouping] : grouping.filter((label) => keepsName || label !== METRIC_NAME);
    this.#grouping = new Grouping(names, without);
    this.#windows = new Windows({ rangeMs, reference, steps, lookbackMs: 0 });
    this.#points = { values: new Float64Array(steps), present: new Uint8Array(steps), pointCount: 0 };
  }

  /**
   * Adds a series: the first `count` of its samples, in time order, stale markers among them. False when there is more to do
   * than fits into a slice: `resume` is to be called then until it is true. Keeps no views of anything, however that may be.
   */
  add(identity: Uint8Array, timestamps: Float64Array, values: Float64Array, count: number): boolean {
    const w = this.#windows;
    const { looked } = this.groups;
    w.to = this.#aggregation.steps;
    if (count === 0) return true;
    looked.series++;
    if (this.#function === undefined) {
      this.#latest(identity, timestamps, values, count);
      return true;
    }
    const stripped = stripStale(timestamps, values, count);
    w.timestamps = stripped.timestamps;
    w.values = stripped.values;
    w.count = stripped.count;
    const visited = w.sweep(looked.perStep);
    looked.samples += visited;
    if (visited === 0) return true;
    this.#points.pointCount = 0;
    w.to = 0;
    if (this.#slice(identity)) return true;
    this.#identity = identity.slice();
    w.timestamps = w.timestamps.slice(0, w.count);
    w.values = w.values.slice(0, w.count);
    return false;
  }

  /** Goes on with the series that `add` began. */
  resume(): boolean {
    return this.#slice(this.#identity);
  }

  #slice(identity: Uint8Array): boolean {
    const w = this.#windows;
    const { steps } = this.#aggregation;
    const { kernel, wide } = this.#function as WindowFunction;
    w.nextSlice(!wide);
    kernel(w, this.#points);
    if (w.to < steps) return false;
    if (this.#points.pointCount > 0) this.#grouping.of(identity, this.#open).partial.add(this.#points);
    return true;
  }

  #latest(identity: Uint8Array, timestamps: Float64Array, values: Float64Array, count: number): void {
    const { reference, rangeMs } = this.#aggregation;
    const { looked } = this.groups;
    const points = this.#points;
    points.pointCount = latest({ timestamps, values, count }, values, 1, reference, rangeMs, points);
    if (points.pointCount === 0) return;
    looked.samples += points.pointCount;
    const { perStep } = looked;
    if (perStep !== undefined) {
      for (let i = 0; i < perStep.length; i++) perStep[i] = (perStep[i] as number) + (points.present[i] as number);
    }
    this.#grouping.of(identity, this.#open).partial.add(points);
  }
}

const NO_BYTES = new Uint8Array(0);
