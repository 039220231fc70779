/** What the implementations of functions, aggregations and operators may ask of the evaluation they run in. */

import type { Matcher } from '../../core/matchers.ts';
import type { Reference } from '../../core/promql/window.ts';
import type { SeriesSet } from '../query/queryable.ts';
import type { Annotations } from './annotations.ts';
import type { Expr, MatrixSelector, Subquery, VectorSelector } from './ast.ts';
import type { Budget } from './budget.ts';
import type { SampleCounter } from './counter.ts';
import { BUSY, type Cursor, DONE, type Grid, Kept, type QueryGrid, type RangeInput, Slot } from './vector.ts';

export interface Context {
  readonly grid: Grid;
  readonly budget: Budget;
  readonly annotations: Annotations;
  readonly samples: SampleCounter;
  readonly lookbackMs: number;
  /** The whole query's range: `start()`, `end()`, `range()`, `step()`. */
  readonly query: QueryGrid;

  /** Series of an instant vector. */
  vector(expr: Expr): Promise<Cursor>;
  /** A scalar's value at every step. */
  scalar(expr: Expr): Promise<Float64Array>;
  /** The range vector of a selector or subquery, one series at a time. */
  range(expr: MatrixSelector | Subquery): Promise<RangeInput>;
  /** A planned selector's data. */
  select(selector: VectorSelector): SeriesSet;
  reference(selector: VectorSelector): Reference;
  /** Data that only shows to be needed now. */
  selectNow(matchers: readonly Matcher[], fromMs: number, toMs: number): Promise<SeriesSet>;
}

/** Reads a cursor to its end through one slot; `each` must not keep it. */
export async function fold(cursor: Cursor, context: Context, each: (slot: Slot) => void): Promise<void> {
  const slot = new Slot(context.grid.count);
  for (;;) {
    const progress = cursor.next(slot);
    if (progress === DONE) return;
    if (progress !== BUSY) {
      each(slot);
      context.budget.spend(slot.values.length);
    }
    if (context.budget.due()) await context.budget.pause();
  }
}

/** Reads a cursor to its end and keeps all of it. Its points count as held from then on. */
export async function collect(cursor: Cursor, context: Context): Promise<readonly Slot[]> {
  if (cursor instanceof Kept) return cursor.take();
  const steps = context.grid.count;
  const slots: Slot[] = [];
  let slot = new Slot(steps);
  for (;;) {
    const progress = cursor.next(slot);
    if (progress === DONE) return slots;
    if (progress !== BUSY) {
      slots.push(slot);
      context.budget.hold(steps);
      slot = new Slot(steps);
    }
    if (context.budget.due()) await context.budget.pause();
  }
}
