/** Cursors that change the series of another, and what keeps their label sets apart when names go. */

import { dropName, labelsKey } from '../../core/promql/labelset.ts';
import { type Context, collect } from './context.ts';
import { QueryError } from './error.ts';
import { BUSY, type Cursor, Kept, type Names, type Progress, SERIES, type Slot } from './vector.ts';

export const DUPLICATE = 'vector cannot contain metrics with the same labelset';

/** A cursor whose series are changed in place, one by one. Those left without points are passed over. */
export class Mapped implements Cursor {
  readonly names: Names;
  readonly #inner: Cursor;
  readonly #apply: (slot: Slot) => void;
  readonly #dropsName: boolean;

  constructor(inner: Cursor, apply: (slot: Slot) => void, dropsName: boolean) {
    this.names = dropsName ? 'none' : inner.names;
    this.#inner = inner;
    this.#apply = apply;
    this.#dropsName = dropsName;
  }

  /** Changes values and drops the metric name; series that the name alone told apart are merged. */
  static async open(inner: Cursor, context: Context, apply: (slot: Slot) => void): Promise<Cursor> {
    const mapped = new Mapped(inner, apply, true);
    return inner.names === 'many' ? merged(mapped, context) : mapped;
  }

  next(slot: Slot): Progress {
    const progress = this.#inner.next(slot);
    if (progress !== SERIES) return progress;
    this.#apply(slot);
    if (slot.pointCount === 0) return BUSY;
    if (this.#dropsName) slot.labels = dropName(slot.labels);
    return SERIES;
  }
}

/** Makes one series of those with the same labels. Throws when two of them have a point at the same step. */
async function merged(cursor: Cursor, context: Context): Promise<Kept> {
  return new Kept(mergeSlots(await collect(cursor, context)), cursor.names);
}

/** The same of slots, which it writes into. */
export function mergeSlots(slots: readonly Slot[]): Slot[] {
  const byLabels = new Map<string, Slot>();
  for (const slot of slots) {
    const key = labelsKey(slot.labels);
    const first = byLabels.get(key);
    if (first === undefined) byLabels.set(key, slot);
    else mergeInto(first, slot);
  }
  return [...byLabels.values()];
}

/** Adds the points of `from` to `into`. Throws when both have one at the same step. */
export function mergeInto(into: Slot, from: Slot): void {
  for (let i = 0; i < from.present.length; i++) {
    if (from.present[i] === 0) continue;
    if (into.present[i] === 1) throw new QueryError('execution', DUPLICATE);
    into.present[i] = 1;
    into.values[i] = from.values[i] as number;
    into.pointCount++;
  }
}

/** Passes series on, and throws at the second of the same labels, whether or not their points overlap. */
export class Distinct implements Cursor {
  readonly names: Names;
  readonly #inner: Cursor;
  readonly #seen = new Set<string>();

  constructor(inner: Cursor) {
    this.names = inner.names;
    this.#inner = inner;
  }

  next(slot: Slot): Progress {
    const progress = this.#inner.next(slot);
    if (progress !== SERIES) return progress;
    const key = labelsKey(slot.labels);
    if (this.#seen.has(key)) throw new QueryError('execution', DUPLICATE);
    this.#seen.add(key);
    return SERIES;
  }
}

/** One step's answer, repeated at every step of a longer grid. */
export class Repeated implements Cursor {
  readonly names: Names;
  readonly #inner: Cursor;
  readonly #one: Slot;
  readonly #onSeries: () => void;

  /** `one` is a slot of one step; `onSeries` is called after every call of the inner cursor. */
  constructor(inner: Cursor, one: Slot, onSeries: () => void) {
    this.names = inner.names;
    this.#inner = inner;
    this.#one = one;
    this.#onSeries = onSeries;
  }

  next(slot: Slot): Progress {
    const progress = this.#inner.next(this.#one);
    this.#onSeries();
    if (progress !== SERIES) return progress;
    slot.labels = this.#one.labels;
    slot.values.fill(this.#one.values[0] as number);
    slot.present.fill(1);
    slot.pointCount = slot.present.length;
    return SERIES;
  }
}
