/** Evaluates the syntax tree: which implementation answers for a node, on which grid. */

import { NO_LABELS } from '../../core/labels.ts';
import type { Matcher } from '../../core/matchers.ts';
import type { Groups } from '../../core/promql/groups.ts';
import type { Reference } from '../../core/promql/window.ts';
import type { PointsSet, SeriesSet } from '../query/queryable.ts';
import { aggregate, groupNames } from './aggregate.ts';
import type { Annotations } from './annotations.ts';
import {
  type Aggregate,
  type Call,
  type Expr,
  type MatrixSelector,
  type Subquery,
  unwrap,
  type VectorSelector,
} from './ast.ts';
import { scalarBinary, vectorBinary } from './binary.ts';
import type { Budget } from './budget.ts';
import { typeOf } from './check.ts';
import type { Context } from './context.ts';
import { SampleCounter } from './counter.ts';
import { QueryError } from './error.ts';
import { checkExtent } from './functions/extended.ts';
import { namesOf } from './functions/misc.ts';
import type { MapFunction, WindowFunction } from './functions/row.ts';
import { FUNCTIONS } from './functions/table.ts';
import { Distinct, Mapped, Repeated } from './map.ts';
import type { Plan } from './plan.ts';
import { computedVector, mergedGroups } from './push.ts';
import { CallWindows, InstantCursor, RangeCursor, SelectedRange, SubqueryRange } from './range.ts';
import { SmoothedCursor } from './smooth.ts';
import { type Cursor, EMPTY, type Grid, type QueryGrid, type RangeInput, Slot } from './vector.ts';

/** What all parts of a query share. */
export interface Shared {
  readonly plan: Plan;
  readonly budget: Budget;
  readonly annotations: Annotations;
  /** The planned selections, read. */
  readonly selected: ReadonlyMap<VectorSelector, SeriesSet>;
  /** The aggregations that were computed elsewhere. */
  readonly aggregated: ReadonlyMap<Aggregate, Groups>;
  /** The vectors that were. */
  readonly computed: ReadonlyMap<Expr, PointsSet>;
  readonly selectNow: (matchers: readonly Matcher[], fromMs: number, toMs: number) => Promise<SeriesSet>;
}

export class Evaluation implements Context {
  readonly grid: Grid;
  readonly samples: SampleCounter;
  readonly #shared: Shared;

  constructor(shared: Shared, grid: Grid, samples: SampleCounter) {
    this.#shared = shared;
    this.grid = grid;
    this.samples = samples;
  }

  get budget(): Budget {
    return this.#shared.budget;
  }

  get annotations(): Annotations {
    return this.#shared.annotations;
  }

  get lookbackMs(): number {
    return this.#shared.plan.lookbackMs;
  }

  get query(): QueryGrid {
    return this.#shared.plan.query;
  }

  select(selector: VectorSelector): SeriesSet {
    return this.#shared.selected.get(selector) as SeriesSet;
  }

  selectNow(matchers: readonly Matcher[], fromMs: number, toMs: number): Promise<SeriesSet> {
    return this.#shared.selectNow(matchers, fromMs, toMs);
  }

  reference(selector: VectorSelector): Reference {
    return this.#shared.plan.reference(selector, this.grid);
  }

  async vector(expr: Expr): Promise<Cursor> {
    const once = this.#once(expr);
    if (once) {
      const cursor = await once.vector(expr);
      return new Repeated(cursor, new Slot(1), () => this.samples.addToEach(this.grid.count, once.samples.take()));
    }
    this.budget.check('expression evaluation');
    const computed = this.#shared.computed.get(expr);
    if (computed !== undefined) return computedVector(expr, computed, this);
    switch (expr.kind) {
      case 'paren':
        return this.vector(expr.expr);
      case 'selector':
        return this.#selector(expr);
      case 'aggregate':
        return this.#aggregate(expr);
      case 'binary':
        return vectorBinary(expr, this);
      case 'call':
        return this.#call(expr);
      case 'unary': {
        const inner = await this.vector(expr.expr);
        return expr.op === '+' ? inner : Mapped.open(inner, this, negate);
      }
      default:
        throw new QueryError('execution', `a ${typeOf(expr)} where an instant vector is needed`);
    }
  }

  async scalar(expr: Expr): Promise<Float64Array> {
    if (expr.kind === 'number') return new Float64Array(this.grid.count).fill(expr.value);
    const once = this.#once(expr);
    if (once) {
      const [value] = await once.scalar(expr);
      this.samples.addToEach(this.grid.count, once.samples.take());
      return new Float64Array(this.grid.count).fill(value as number);
    }
    if (expr.kind === 'paren') return this.scalar(expr.expr);
    if (expr.kind === 'unary') return (await this.scalar(expr.expr)).map((v) => (expr.op === '-' ? -v : v));
    if (expr.kind === 'binary') return scalarBinary(expr, this);
    const row = expr.kind === 'call' ? FUNCTIONS.get(expr.name) : undefined;
    if (row?.kind !== 'scalar') throw new QueryError('execution', `a ${typeOf(expr)} where a scalar is needed`);
    return row.open(expr as Call, this);
  }

  async range(expr: MatrixSelector | Subquery): Promise<RangeInput> {
    const { plan } = this.#shared;
    const rangeMs = plan.rangeMs(expr.range);
    if (expr.kind === 'matrix') {
      const { selector } = expr;
      return new SelectedRange(this.select(selector), {
        names: namesOf(selector),
        rangeMs,
        reference: plan.reference(selector, this.grid),
        ...(selector.extent === undefined ? {} : { extent: selector.extent }),
      });
    }
    const grid = plan.inner(expr, this.grid);
    // The samples behind a subquery's points are not counted: its points are, by the windows that hold them.
    const inner = new Evaluation(this.#shared, grid, new SampleCounter(grid.count, false));
    const cursor = grid.count === 0 ? EMPTY : await inner.vector(expr.expr);
    return new SubqueryRange(cursor, grid, rangeMs, plan.reference(expr, this.grid));
  }

  /** An evaluation of one step, where all steps would give the same. */
  #once(expr: Expr): Evaluation | undefined {
    const grid = this.#shared.plan.gridOf(expr, this.grid);
    return grid === this.grid ? undefined : new Evaluation(this.#shared, grid, new SampleCounter(1, false));
  }

  #selector(expr: VectorSelector): Cursor {
    const set = this.select(expr);
    if (expr.extent === 'smoothed') return new SmoothedCursor(set, namesOf(expr), this.reference(expr), this);
    return new InstantCursor(set, namesOf(expr), this.reference(expr), this);
  }

  #aggregate(expr: Aggregate): Promise<Cursor> {
    const groups = this.#shared.aggregated.get(expr);
    if (groups !== undefined) return mergedGroups(expr, groups, groupNames(expr), this);
    return aggregate({ ...expr, expr: unwrap(expr.expr) }, this);
  }

  async #call(call: Call): Promise<Cursor> {
    const row = FUNCTIONS.get(call.name);
    if (row?.kind === 'map') return this.#map(call, row);
    if (row?.kind === 'window') return this.#window(call, row);
    if (row?.kind === 'vector') return row.open(call, this);
    throw new QueryError('execution', `a scalar of ${call.name}() where an instant vector is needed`);
  }

  async #map(call: Call, row: MapFunction): Promise<Cursor> {
    const [vector, ...rest] = call.args as [Expr, ...Expr[]];
    const inner = await this.vector(vector);
    const scalars: Float64Array[] = [];
    for (const arg of rest) scalars.push(await this.scalar(arg));
    return Mapped.open(inner, this, (slot) => row.apply(slot, scalars));
  }

  async #window(call: Call, row: WindowFunction): Promise<Cursor> {
    const args = call.args.map(unwrap);
    const scalars: Float64Array[] = [];
    let input: RangeInput | undefined;
    for (const arg of args) {
      if (arg.kind === 'matrix' || arg.kind === 'subquery') input = await this.range(arg);
      else scalars.push(await this.scalar(arg));
    }
    if (input === undefined) throw new QueryError('execution', `${call.name}() has no range vector`);
    if (input.extent !== undefined) checkExtent(input.extent, call.name);
    const windows = new CallWindows(input, call, scalars, this);
    const cursor = new RangeCursor(input, windows, row.kernel, row);
    return input.names === 'many' && !row.keepsName ? new Distinct(cursor) : cursor;
  }
}

function negate({ values }: Slot): void {
  for (let i = 0; i < values.length; i++) values[i] = -(values[i] as number);
}

/** One series without labels, present everywhere: how a scalar looks as a matrix. */
export function scalarSlot(values: Float64Array): Slot {
  const slot = new Slot(values.length);
  slot.labels = NO_LABELS;
  slot.values.set(values);
  slot.present.fill(1);
  slot.pointCount = values.length;
  return slot;
}
