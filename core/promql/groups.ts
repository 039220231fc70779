/**
 * Aggregations computed where the series are: the groups that come of them, and how they travel (ARCHITECTURE.md,
 * "Aggregate page"). Nodes add series and write pages; coordinators read pages and merge.
 */
import { SilverbackError } from '../errors.ts';
import { encodeIdentity, type Labels } from '../labels.ts';
import { Average, Count, Extreme, type Partial, Sum } from './accumulate.ts';
import {
  type Aggregation,
  addLooked,
  checkAggregation,
  clauseOf,
  Evaluator,
  type Looked,
  notComputed,
  nothingLooked,
  type Taker,
} from './evaluator.ts';
import { Grouping, trustedLabels } from './grouping.ts';
import type { Clause, KnownGroups } from './known.ts';
import { Keyer } from './labelset.ts';
import { bytesOf, PageWriter } from './pages.ts';

const OPERATIONS: ReadonlyMap<string, (steps: number) => Partial> = new Map<string, (steps: number) => Partial>([
  ['sum', (steps) => new Sum(steps)],
  ['avg', (steps) => new Average(steps)],
  ['max', (steps) => new Extreme(steps, 1)],
  ['min', (steps) => new Extreme(steps, -1)],
  ['count', (steps) => new Count(steps, false)],
  ['group', (steps) => new Count(steps, true)],
]);

/** Whether the operation's parts can be merged. */
export function isMergeable(operation: string): boolean {
  return OPERATIONS.has(operation);
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
    const { operation, grouping, without } = aggregation;
    const open = OPERATIONS.get(operation);
    if (open === undefined) throw notComputed('aggregation', operation);
    checkAggregation(aggregation);
    this.#aggregation = aggregation;
    this.#open = open;
    this.#keyer = new Keyer(grouping, without);
    this.looked = nothingLooked(aggregation);
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

  /** Pages of about `pageBytes`, at least one; the first says what was looked at. */
  *pages(pageBytes: number): Generator<Uint8Array> {
    const { samples, series, perStep } = this.looked;
    const page = new PageWriter();
    page.word(LOOKED);
    page.word(0);
    page.bytes(bytesOf(Float64Array.of(samples, series)));
    if (perStep !== undefined) page.bytes(bytesOf(perStep));
    let groupCount = 0;
    const taken = (): Uint8Array => {
      page.setWord(4, groupCount);
      groupCount = 0;
      return page.take();
    };
    for (const { labels, partial } of this.#byKey.values()) {
      if (page.length >= pageBytes) {
        yield taken();
        page.word(0);
        page.word(0);
      }
      page.text(encodeIdentity(labels));
      for (const column of partial.columns) page.bytes(bytesOf(column));
      groupCount++;
    }
    yield taken();
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
      addLooked(this.looked, { samples, series, perStep: column });
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

const NO_BYTES = new Uint8Array(0);
const HEAD_BYTES = 8;
const LOOKED = 1;
const TOO_FINE = 2;
function fill(column: Float64Array | Uint32Array | Uint8Array, page: Uint8Array, from: number): void {
  bytesOf(column).set(page.subarray(from, from + column.byteLength));
}

/** Computes an aggregation series by series. */
export class Aggregator implements Taker {
  readonly groups: Groups;
  readonly clause: Clause;
  readonly #evaluator: Evaluator;
  readonly #grouping: Grouping<Group>;
  readonly #open = (labels: Labels): Group => this.groups.open(labels);
  #known: KnownGroups | undefined;
  #identityOf: (id: number) => Uint8Array = () => NO_BYTES;
  /** The groups of the shard under way, by their numbers there. */
  #byNumber: (Group | undefined)[] = [];
  /** Of the series under way; 0: it is found by its identity. */
  #number = 0;

  constructor(aggregation: Aggregation) {
    const groups = new Groups(aggregation);
    this.groups = groups;
    this.clause = clauseOf(aggregation);
    this.#grouping = new Grouping(this.clause.names, this.clause.isWithout);
    this.#evaluator = new Evaluator(aggregation, groups.looked, (identity, points) => {
      const group = this.#number === 0 ? this.#grouping.of(identity, this.#open) : this.#numbered(this.#number);
      group.partial.add(points);
    });
  }

  #numbered(number: number): Group {
    let group = this.#byNumber[number];
    if (group === undefined) {
      group = this.groups.open((this.#known as KnownGroups).labels(number));
      this.#byNumber[number] = group;
    }
    return group;
  }

  get looked(): Looked {
    return this.groups.looked;
  }

  get pointCount(): number {
    return this.groups.pointCount;
  }

  add(identity: Uint8Array, timestamps: Float64Array, values: Float64Array, count: number): boolean {
    this.#number = 0;
    return this.#evaluator.add(identity, timestamps, values, count);
  }

  within(known: KnownGroups, identityOf: (id: number) => Uint8Array): void {
    this.#known = known;
    this.#identityOf = identityOf;
    this.#byNumber = [];
  }

  addKnown(id: number, timestamps: Float64Array, values: Float64Array, count: number): boolean {
    const number = (this.#known as KnownGroups).of(id, this.#identityOf);
    if (number === 0) return this.add(this.#identityOf(id), timestamps, values, count);
    this.#number = number;
    return this.#evaluator.add(NO_BYTES, timestamps, values, count);
  }

  resume(): boolean {
    return this.#evaluator.resume();
  }

  pages(pageBytes: number): Generator<Uint8Array> {
    return this.groups.pages(pageBytes);
  }
}
