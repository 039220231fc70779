/**
 * What a query needs to know before it reads: the grid of every part, the durations that depend on the
 * query's range, and for each selector the times whose samples it will look at.
 */

import { type Aggregation, MAX_STEPS } from '../../core/promql/evaluator.ts';
import { VALUES } from '../../core/promql/points.ts';
import type { Reference } from '../../core/promql/window.ts';
import type { TimeRange } from '../query/queryable.ts';
import {
  type Aggregate,
  type At,
  type Call,
  type DurationExpr,
  type Expr,
  type MatrixSelector,
  type Subquery,
  unwrap,
  type VectorSelector,
} from './ast.ts';
import { QueryError } from './error.ts';
import { isStepInvariant } from './invariant.ts';
import { bestLimit, type Input, pushable, pushableAggregation } from './push.ts';
import type { Grid, QueryGrid } from './vector.ts';

/** Whether anything is computed where the series are, and whether samples are counted by step there. */
export type Pushes = 'none' | 'in total' | 'per step';

/** What is read instead of a selector: an aggregation or a vector. */
export interface Pushed {
  readonly selector: VectorSelector;
  readonly range: TimeRange;
  readonly aggregation: Aggregation;
}

export interface Reads {
  readonly selections: Map<VectorSelector, TimeRange>;
  readonly aggregations: Map<Aggregate, Pushed>;
  /** Selectors and calls; of what an aggregation chooses from, not more than it may choose. */
  readonly vectors: Map<Expr, Pushed>;
  readonly pushes: Pushes;
}

export class Plan {
  /** The whole query's grid. */
  readonly query: QueryGrid;
  readonly lookbackMs: number;
  readonly #subqueryStepMs: number;

  constructor(query: QueryGrid, lookbackMs: number, subqueryStepMs: number) {
    this.query = query;
    this.lookbackMs = lookbackMs;
    this.#subqueryStepMs = subqueryStepMs;
  }

  /** Milliseconds of a duration expression; arithmetic is done in seconds, as Prometheus does it. */
  durationMs(expr: DurationExpr): number {
    return expr.kind === 'duration' ? expr.ms : Math.round(this.#seconds(expr) * 1000);
  }

  #seconds(expr: DurationExpr): number {
    switch (expr.kind) {
      case 'duration':
        return expr.ms / 1000;
      case 'durationStep':
        return this.query.stepMs / 1000;
      case 'durationRange':
        return (this.query.endMs - this.query.startMs) / 1000;
      case 'durationParen':
        return this.#seconds(expr.expr);
      case 'durationUnary':
        return expr.op === '-' ? -this.#seconds(expr.expr) : this.#seconds(expr.expr);
      case 'durationBinary':
        return arithmetic(expr.op, this.#seconds(expr.lhs), this.#seconds(expr.rhs));
    }
  }

  /** A duration that must be more than 0: a range, a subquery's step. */
  rangeMs(expr: DurationExpr): number {
    const ms = this.durationMs(expr);
    if (ms <= 0) throw new QueryError('bad_data', `duration must be greater than 0, got ${ms / 1000} seconds`);
    return ms;
  }

  /** Where a part with this offset and @ looks, at the steps of `grid`. */
  reference(node: { readonly offset?: DurationExpr; readonly at?: At }, grid: Grid): Reference {
    const offsetMs = node.offset === undefined ? 0 : this.durationMs(node.offset);
    if (node.at === undefined) return { startMs: grid.startMs - offsetMs, stepMs: grid.stepMs };
    const atMs =
      'timeMs' in node.at ? node.at.timeMs : node.at.preprocessor === 'start' ? this.query.startMs : this.query.endMs;
    return { startMs: atMs - offsetMs, stepMs: 0 };
  }

  /** The steps at which a subquery evaluates its inside: whole multiples of its step, in all of the grid's windows. */
  inner(node: Subquery, grid: Grid): Grid {
    const { startMs, stepMs } = this.reference(node, grid);
    const innerStepMs = node.step === undefined ? this.#subqueryStepMs : this.rangeMs(node.step);
    const afterMs = startMs - this.rangeMs(node.range);
    let firstMs = innerStepMs * Math.trunc(afterMs / innerStepMs);
    if (firstMs <= afterMs) firstMs += innerStepMs;
    const endMs = startMs + (grid.count - 1) * stepMs;
    return {
      startMs: firstMs,
      stepMs: innerStepMs,
      count: Math.max(0, Math.floor((endMs - firstMs) / innerStepMs) + 1),
    };
  }

  /** The grid that a part is evaluated on: one step, when all would be the same. */
  gridOf(expr: Expr, grid: Grid): Grid {
    return grid.count > 1 && isStepInvariant(expr) ? { ...grid, count: 1 } : grid;
  }

  /** What is to be read: the times whose samples each selector looks at, but for aggregations that `pushes` takes away. */
  reads(expr: Expr, pushes: Pushes): Reads {
    const found: Reads = { selections: new Map(), aggregations: new Map(), vectors: new Map(), pushes };
    this.#visit(expr, this.query, found);
    return found;
  }

  #visit(expr: Expr, outer: Grid, found: Reads): void {
    const grid = this.gridOf(expr, outer);
    switch (expr.kind) {
      case 'selector':
        if (!this.#pushVector(expr, grid, found)) found.selections.set(expr, this.#instantRange(expr, grid));
        return;
      case 'matrix':
        found.selections.set(expr.selector, this.#matrixRange(expr, grid));
        return;
      case 'subquery': {
        const inner = this.inner(expr, grid);
        if (inner.count > 0) this.#visit(expr.expr, inner, found);
        return;
      }
      case 'aggregate':
        if (this.#pushAggregation(expr, grid, found)) return;
        if (expr.param) this.#visit(expr.param, grid, found);
        if (!this.#pushBest(expr, grid, found)) this.#visit(expr.expr, grid, found);
        return;
      case 'call':
        if (this.#pushVector(expr, grid, found)) return;
        for (const arg of expr.args) {
          const inner = unwrap(arg);
          // timestamp() of a selector looks at the samples themselves.
          if (expr.name === 'timestamp' && inner.kind === 'selector') {
            found.selections.set(inner, this.#instantRange(inner, this.gridOf(inner, grid)));
            continue;
          }
          const metadata = expr.name === 'info' && arg === expr.args[1];
          if (!metadata) this.#visit(arg, grid, found);
        }
        return;
      case 'binary':
        this.#visit(expr.lhs, grid, found);
        this.#visit(expr.rhs, grid, found);
        return;
      case 'unary':
      case 'paren':
        this.#visit(expr.expr, grid, found);
    }
  }

  /** Hands an aggregation to where the series are, when it can be computed there. */
  #pushAggregation(expr: Aggregate, grid: Grid, found: Reads): boolean {
    const input = pushableAggregation(expr);
    if (input === undefined || !isPushed(found, grid)) return false;
    found.aggregations.set(expr, this.#pushed(input, grid, found, { ...expr, operation: expr.op, limit: 0 }));
    return true;
  }

  /** Leaves to where the series are which of them an aggregation may choose. */
  #pushBest(expr: Aggregate, outer: Grid, found: Reads): boolean {
    const input = pushable(expr.expr);
    if (input === undefined) return false;
    const grid = this.gridOf(input.expr, outer);
    const limit = bestLimit(expr, grid.count);
    if (limit === undefined || !isPushed(found, grid)) return false;
    found.vectors.set(input.expr, this.#pushed(input, grid, found, { ...expr, operation: expr.op, limit }));
    return true;
  }

  /** Hands a vector to where the series are, when its values there are less than the samples. */
  #pushVector(expr: VectorSelector | Call, grid: Grid, found: Reads): boolean {
    const input = pushable(expr);
    if (input === undefined || !isPushed(found, grid)) return false;
    const ask = { operation: VALUES, limit: 0, grouping: [], without: false };
    const pushed = this.#pushed(input, grid, found, ask);
    const { fromMs, toMs } = pushed.range;
    const stepMs = input.call === undefined ? SELECTOR_STEP_MS : FUNCTION_STEP_MS;
    if (grid.count > 1 && grid.count * stepMs > toMs - fromMs + stepMs) return false;
    found.vectors.set(expr, pushed);
    return true;
  }

  #pushed(
    { selector, matrix, call, parameter }: Input,
    grid: Grid,
    { pushes }: Reads,
    { operation, limit, grouping, without }: Pick<Aggregation, 'operation' | 'limit' | 'grouping' | 'without'>,
  ): Pushed {
    return {
      selector,
      range: matrix === undefined ? this.#instantRange(selector, grid) : this.#matrixRange(matrix, grid),
      aggregation: {
        operation,
        limit,
        grouping,
        without,
        function: call?.name ?? '',
        parameter,
        rangeMs: matrix === undefined ? this.lookbackMs : this.rangeMs(matrix.range),
        reference: this.reference(selector, grid),
        steps: grid.count,
        perStep: pushes === 'per step',
      },
    };
  }

  #instantRange(node: VectorSelector, grid: Grid): TimeRange {
    const { startMs, stepMs } = this.reference(node, grid);
    const afterMs = node.extent === 'smoothed' ? this.lookbackMs : 0;
    return { fromMs: startMs - this.lookbackMs + 1, toMs: startMs + (grid.count - 1) * stepMs + afterMs };
  }

  #matrixRange(node: MatrixSelector, grid: Grid): TimeRange {
    const { startMs, stepMs } = this.reference(node.selector, grid);
    const { extent } = node.selector;
    const beforeMs = this.rangeMs(node.range) + (extent === undefined ? 0 : this.lookbackMs);
    const afterMs = extent === 'smoothed' ? this.lookbackMs : 0;
    return { fromMs: startMs - beforeMs + 1, toMs: startMs + (grid.count - 1) * stepMs + afterMs };
  }
}

/**
 * A value of a step takes 8 bytes, a sample 1 to 2, and there is mostly one in 15 s: with steps this long values are not more than
 * the samples. What a selector's steps cost is so little that they are worth it only where the bytes are far fewer.
 */
const FUNCTION_STEP_MS = 60_000;
const SELECTOR_STEP_MS = 300_000;

function isPushed({ pushes }: Reads, grid: Grid): boolean {
  return pushes !== 'none' && grid.count <= MAX_STEPS;
}

function arithmetic(op: string, a: number, b: number): number {
  switch (op) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '^':
      return a ** b;
    case 'min_of':
      return Math.min(a, b);
    case 'max_of':
      return Math.max(a, b);
  }
  if (b === 0) throw new QueryError('bad_data', op === '/' ? 'division by zero' : 'modulo by zero');
  return op === '/' ? a / b : a % b;
}
