/**
 * The steps of single series as they are computed where the series are, on their way (ARCHITECTURE.md, "Points page"): all
 * series, page by page, or those that `topk` and `bottomk` may choose.
 */
import { SilverbackError } from '../errors.ts';
import {
  type Aggregation,
  checkAggregation,
  clauseOf,
  Evaluator,
  keepsName,
  type Looked,
  notComputed,
  nothingLooked,
  type Taker,
} from './evaluator.ts';
import { compareIdentities, Grouping } from './grouping.ts';
import { Heap } from './heap.ts';
import { bytesOf, PageWriter } from './pages.ts';
import type { Points } from './window.ts';

/** In the count of a series' points: they are all one value, which stands there once. */
export const ONE_VALUE = 0x80000000;
/** Of a page, before what was looked at by step. */
export const HEAD_BYTES = 24;
/** The operation that gives all series. */
export const VALUES = 'values';

/** Writes points pages. */
class PointsPage {
  readonly #page = new PageWriter();
  #seriesCount = 0;

  /** Begins a page, after what was in the one before has been taken. */
  begin(perStep: Float64Array | undefined): void {
    this.#page.length = 0;
    this.#page.zeros(HEAD_BYTES);
    if (perStep !== undefined) this.#page.zeros(perStep.byteLength);
    this.#seriesCount = 0;
  }

  get byteCount(): number {
    return this.#page.length;
  }

  series(identity: Uint8Array, { values, present, pointCount }: Points): void {
    const page = this.#page;
    this.#seriesCount++;
    page.text(identity);
    const isDense = pointCount === values.length;
    const isOne = isDense && pointCount > 1 && isOneValue(values);
    page.word(isOne ? (pointCount | ONE_VALUE) >>> 0 : pointCount);
    if (isOne) page.double(values[0] as number);
    else if (isDense) page.bytes(bytesOf(values));
    else {
      const bits = page.zeros((values.length + 7) >>> 3);
      for (let i = 0; i < values.length; i++) {
        if (present[i] === 0) continue;
        page.setBit(bits, i);
        page.double(values[i] as number);
      }
    }
  }

  /** The same of points that are named one by one, in order. */
  sparse(identity: Uint8Array, stepCount: number, steps: readonly number[], values: readonly number[]): void {
    const page = this.#page;
    this.#seriesCount++;
    page.text(identity);
    page.word(steps.length);
    if (steps.length < stepCount) {
      const bits = page.zeros((stepCount + 7) >>> 3);
      for (const step of steps) page.setBit(bits, step);
    }
    for (const value of values) page.double(value);
  }

  take({ samples, series, perStep }: Looked): Uint8Array {
    const page = this.#page;
    page.setWord(0, page.length);
    page.setWord(4, this.#seriesCount);
    page.setDouble(8, samples);
    page.setDouble(16, series);
    const bytes = page.take();
    if (perStep !== undefined) bytes.set(bytesOf(perStep), HEAD_BYTES);
    return bytes;
  }
}

function isOneValue(values: Float64Array): boolean {
  const words = new Uint32Array(values.buffer, values.byteOffset, 2 * values.length);
  const low = words[0];
  const high = words[1];
  for (let i = 2; i < words.length; i += 2) if (words[i] !== low || words[i + 1] !== high) return false;
  return true;
}

/** Writes the steps of all series. What was looked at goes with the page that it was looked at for. */
export class PointsWriter implements Taker {
  readonly looked: Looked;
  readonly pointCount = 0;
  readonly #page = new PointsPage();
  readonly #evaluator: Evaluator;

  constructor(aggregation: Aggregation) {
    checkAggregation(aggregation);
    this.looked = nothingLooked(aggregation);
    this.#evaluator = new Evaluator(aggregation, this.looked, (identity, points) => {
      this.#page.series(identity, points);
    });
    this.begin();
  }

  /** Forgets what was not taken. */
  begin(): void {
    const { looked } = this;
    looked.samples = 0;
    looked.series = 0;
    looked.perStep?.fill(0);
    this.#page.begin(looked.perStep);
  }

  get byteCount(): number {
    return this.#page.byteCount;
  }

  add(identity: Uint8Array, timestamps: Float64Array, values: Float64Array, count: number): boolean {
    return this.#evaluator.add(identity, timestamps, values, count);
  }

  resume(): boolean {
    return this.#evaluator.resume();
  }

  /** The page, as a copy; a new one begins. */
  take(): Uint8Array {
    const page = this.#page.take(this.looked);
    this.begin();
    return page;
  }
}

/** Series that a group keeps, by step. */
interface Candidates {
  readonly heaps: readonly Heap<Uint8Array>[];
  /** The first series of the group by labels, which the order of groups hangs on, in an answer of one step. */
  first: Uint8Array | undefined;
}

/** A value of a candidate holds more than one of a column. */
const CANDIDATE_COST = 4;

/**
 * Finds the series that `topk` or `bottomk` may choose: what is among the best of all series is among the best of these. Ties
 * are broken by labels, as by who chooses.
 */
export class BestSeries implements Taker {
  readonly looked: Looked;
  readonly #evaluator: Evaluator;
  readonly #steps: number;
  readonly #limit: number;
  readonly #open: () => Candidates;
  readonly #compare: (a: Uint8Array, b: Uint8Array) => number;
  readonly #groups: Candidates[] = [];
  #heldCount = 0;

  constructor(aggregation: Aggregation) {
    const { operation, limit, grouping, without, steps } = aggregation;
    if (!isBest(operation)) throw notComputed('aggregation', operation);
    checkAggregation(aggregation);
    if (!(limit >= 1)) {
      throw new SilverbackError('INVALID_ARGUMENT', `${operation} of ${limit} series, must be at least 1`);
    }
    this.looked = nothingLooked(aggregation);
    this.#steps = steps;
    this.#limit = limit;
    const compare = compareIdentities(!keepsName(aggregation.function));
    this.#compare = compare;
    const sign = operation === 'topk' ? 1 : -1;
    this.#open = () => {
      const heaps = Array.from({ length: steps }, () => new Heap<Uint8Array>(sign, compare));
      const group: Candidates = { heaps, first: undefined };
      this.#groups.push(group);
      this.#heldCount += steps;
      return group;
    };
    const isOne = !without && grouping.length === 0;
    const { names, isWithout } = clauseOf(aggregation);
    const found = new Grouping<Candidates>(names, isWithout);
    this.#evaluator = new Evaluator(aggregation, this.looked, (identity, points) => {
      const group = isOne ? (this.#groups[0] ?? this.#open()) : found.of(identity, this.#open);
      this.#offer(group, identity, points, !isOne && steps === 1);
    });
  }

  get pointCount(): number {
    return this.#heldCount * CANDIDATE_COST;
  }

  add(identity: Uint8Array, timestamps: Float64Array, values: Float64Array, count: number): boolean {
    return this.#evaluator.add(identity, timestamps, values, count);
  }

  resume(): boolean {
    return this.#evaluator.resume();
  }

  #offer(group: Candidates, identity: Uint8Array, { values, present }: Points, isOrdered: boolean): void {
    const limit = this.#limit;
    // One copy for all steps: that is also how a series is told from others below.
    let kept: Uint8Array | undefined;
    for (let i = 0; i < this.#steps; i++) {
      if (present[i] === 0) continue;
      const heap = group.heaps[i] as Heap<Uint8Array>;
      const value = values[i] as number;
      if (!heap.admits(identity, value, limit)) continue;
      kept ??= identity.slice();
      if (heap.items.length < limit) this.#heldCount++;
      heap.put(kept, value, limit);
    }
    if (isOrdered && (group.first === undefined || this.#compare(identity, group.first) < 0)) {
      group.first = kept ?? identity.slice();
    }
  }

  /** Pages of about `pageBytes`, at least one. */
  *pages(pageBytes: number): Generator<Uint8Array> {
    const page = new PointsPage();
    page.begin(this.looked.perStep);
    const nothing: Looked = { ...this.looked, samples: 0, series: 0, perStep: this.looked.perStep?.slice().fill(0) };
    let looked = this.looked;
    for (const { heaps, first } of this.#groups) {
      const found = new Map<Uint8Array, { steps: number[]; values: number[] }>();
      if (first !== undefined) found.set(first, { steps: [], values: [] });
      for (const [step, heap] of heaps.entries()) {
        for (const [at, identity] of heap.items.entries()) {
          let points = found.get(identity);
          if (points === undefined) {
            points = { steps: [], values: [] };
            found.set(identity, points);
          }
          points.steps.push(step);
          points.values.push(heap.value(at));
        }
      }
      for (const [identity, { steps, values }] of found) {
        if (page.byteCount >= pageBytes) {
          yield page.take(looked);
          looked = nothing;
          page.begin(looked.perStep);
        }
        page.sparse(identity, this.#steps, steps, values);
      }
    }
    yield page.take(looked);
  }
}

/** Whether the operation chooses series, as `BestSeries` does. */
export function isBest(operation: string): boolean {
  return operation === 'topk' || operation === 'bottomk';
}
