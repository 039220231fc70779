/**
 * What flows between the nodes of an evaluation: instant vectors over all steps at once, a series at a
 * time. A node's answer is a cursor; whoever consumes it brings the slot that the next series is
 * written into, so that a consumer which keeps series gives a new slot each time, and one which folds
 * them up (an aggregation) gives the same slot again and again.
 */
import { type Labels, NO_LABELS } from '../../core/labels.ts';
import type { Points, Reference, Samples } from '../../core/promql/window.ts';
import type { VectorSelector } from './ast.ts';

/** Evaluation times: `startMs + i * stepMs` for `i` below `count`. */
export interface Grid {
  readonly startMs: number;
  readonly stepMs: number;
  readonly count: number;
}

/** A query's own grid, and the end that it was asked for, which need not be a step. */
export interface QueryGrid extends Grid {
  readonly endMs: number;
}

/** One series over the steps of a grid. Where `present` is 0, `values` says nothing. */
export class Slot implements Points {
  labels: Labels = NO_LABELS;
  readonly values: Float64Array;
  readonly present: Uint8Array;
  /** How many steps are present. */
  pointCount = 0;

  constructor(steps: number) {
    this.values = new Float64Array(steps);
    this.present = new Uint8Array(steps);
  }
}

/** What `next` did: nothing is left; the slot holds a series; or it needs to be called again, with the same slot. */
export const DONE = 0;
export const SERIES = 1;
export const BUSY = 2;
export type Progress = typeof DONE | typeof SERIES | typeof BUSY;

/**
 * How many metric names the series of a cursor can bear. Dropping the name of `none` and `one` leaves
 * the label sets as different as they were; of `many` it can make duplicates.
 */
export type Names = 'none' | 'one' | 'many';

/** Series of an instant vector, each label set once, none of them empty. Work in one call is bounded to about a millisecond. */
export interface Cursor {
  readonly names: Names;
  next(slot: Slot): Progress;
}

/** No series at all. */
export const EMPTY: Cursor = { names: 'none', next: () => DONE };

/** Series that were kept: each is copied into the asked slot. */
export class Kept implements Cursor {
  readonly names: Names;
  readonly #slots: readonly Slot[];
  #at = 0;

  constructor(slots: readonly Slot[], names: Names) {
    this.#slots = slots;
    this.names = names;
  }

  next(slot: Slot): Progress {
    const kept = this.#slots[this.#at++];
    if (kept === undefined) return DONE;
    slot.labels = kept.labels;
    slot.values.set(kept.values);
    slot.present.set(kept.present);
    slot.pointCount = kept.pointCount;
    return SERIES;
  }

  /** The slots themselves, for a consumer that keeps them anyway. */
  take(): readonly Slot[] {
    const rest = this.#slots.slice(this.#at);
    this.#at = this.#slots.length;
    return rest;
  }
}

/** A range vector. */
export interface RangeInput {
  readonly names: Names;
  readonly rangeMs: number;
  /** Where the windows end. */
  readonly reference: Reference;
  /** Of an anchored or smoothed selector: its samples reach further than its range. */
  readonly extent?: VectorSelector['extent'];
  next(samples: Samples): Progress;
}
