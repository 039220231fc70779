/** What is computed where the series are: which parts of an expression, and what becomes of their answers here. */
import { keepsName, type Looked } from '../../core/promql/evaluator.ts';
import { windowFunction } from '../../core/promql/functions.ts';
import { type Groups, isMergeable } from '../../core/promql/groups.ts';
import { METRIC_NAME } from '../../core/promql/labelset.ts';
import { isBest } from '../../core/promql/points.ts';
import type { PointsReader, PointsSet } from '../query/queryable.ts';
import { namedLikeCounter } from './annotations.ts';
import { type Aggregate, type Call, type Expr, type MatrixSelector, unwrap, type VectorSelector } from './ast.ts';
import type { Context } from './context.ts';
import { namesOf } from './functions/misc.ts';
import { FUNCTIONS } from './functions/table.ts';
import { type Cursor, DONE, Kept, type Names, type Progress, SERIES, Slot } from './vector.ts';

/** A selector, or a range function of its windows. */
export interface Input {
  /** The selector or the call. */
  readonly expr: VectorSelector | Call;
  readonly selector: VectorSelector;
  /** With a range function. */
  readonly matrix?: MatrixSelector;
  readonly call?: Call;
  /** Of a function that takes one; else 0. */
  readonly parameter: number;
  readonly names: Names;
}

/**
 * What nodes can compute of an instant vector. A function that drops the names of several metrics could make duplicates,
 * which is an error that only shows where all series are together: such ones stay here.
 */
export function pushable(expr: Expr): Input | undefined {
  const inner = unwrap(expr);
  if (inner.kind === 'selector') {
    if (inner.extent !== undefined) return undefined;
    return { expr: inner, selector: inner, parameter: 0, names: namesOf(inner) };
  }
  if (inner.kind !== 'call') return undefined;
  const row = windowFunction(inner.name);
  const args = inner.args.map(unwrap);
  const matrix = args.pop();
  if (row === undefined || matrix?.kind !== 'matrix' || matrix.selector.extent !== undefined) return undefined;
  const parameter = row.hasParameter === true ? numberOf(args.pop()) : 0;
  if (args.length > 0 || parameter === undefined) return undefined;
  const names = namesOf(matrix.selector);
  if (!row.keepsName && names === 'many') return undefined;
  return {
    expr: inner,
    selector: matrix.selector,
    matrix,
    call: inner,
    parameter,
    names: row.keepsName ? names : 'none',
  };
}

/** What an aggregation reads, when nodes can compute it. */
export function pushableAggregation({ op, param, expr }: Aggregate): Input | undefined {
  return isMergeable(op) && param === undefined ? pushable(expr) : undefined;
}

/** Candidates of one group, over all steps, past which all series may as well come. */
const MAX_CANDIDATES = 20_000;

/** How many of each group `topk` or `bottomk` choose, where nodes can tell which series these can be. */
export function bestLimit({ op, param }: Aggregate, steps: number): number | undefined {
  const limit = isBest(op) && param !== undefined ? numberOf(unwrap(param)) : undefined;
  return limit !== undefined && limit >= 1 && limit * steps <= MAX_CANDIDATES ? Math.trunc(limit) : undefined;
}

/** A number as it stands in the text. */
function numberOf(expr: Expr | undefined): number | undefined {
  if (expr?.kind === 'number') return expr.value;
  if (expr?.kind !== 'unary') return undefined;
  const value = numberOf(unwrap(expr.expr));
  return value === undefined || expr.op === '+' ? value : -value;
}

/** The answer of an aggregation, with all that evaluating it here would have said and counted. */
export async function mergedGroups(expr: Aggregate, groups: Groups, names: Names, context: Context): Promise<Kept> {
  const { budget } = context;
  tell(pushable(expr.expr) as Input, groups.looked, groups.count > 0, context);
  const steps = context.grid.count;
  const slots: Slot[] = [];
  for (const { labels, partial } of groups.values()) {
    budget.hold(steps);
    const slot = new Slot(steps);
    slot.labels = labels;
    partial.finish(slot, undefined);
    slots.push(slot);
    budget.spend(steps);
    if (budget.due()) await budget.pause();
  }
  return new Kept(slots, names);
}

/** The same of a vector. */
export function computedVector(expr: Expr, points: PointsSet, context: Context): Cursor {
  return new ComputedCursor(pushable(expr) as Input, points, context);
}

class ComputedCursor implements Cursor {
  readonly names: Names;
  readonly #input: Input;
  readonly #points: PointsSet;
  readonly #reader: PointsReader;
  readonly #context: Context;
  #isTold = false;

  constructor(input: Input, points: PointsSet, context: Context) {
    this.names = input.names;
    this.#input = input;
    this.#points = points;
    this.#reader = points.read(!keepsName(input.call?.name ?? ''));
    this.#context = context;
  }

  next(slot: Slot): Progress {
    // Not before it is read: of messages that are the same the first one counts.
    if (!this.#isTold) tell(this.#input, this.#points.looked, this.#points.count > 0, this.#context);
    this.#isTold = true;
    if (!this.#reader.next(slot)) return DONE;
    this.#context.budget.spend(slot.values.length);
    return SERIES;
  }
}

/** Counts what nodes looked at, and says what the function has to say of it. */
function tell({ call, matrix, selector, parameter }: Input, looked: Looked, isFound: boolean, context: Context): void {
  const { samples, annotations } = context;
  samples.total += looked.samples;
  if (samples.perStep !== undefined && looked.perStep !== undefined) {
    for (let i = 0; i < samples.perStep.length; i++) {
      samples.perStep[i] = (samples.perStep[i] as number) + (looked.perStep[i] as number);
    }
  }
  if (call === undefined || matrix === undefined) return;
  if (call.name === 'quantile_over_time' && looked.samples > 0 && !(parameter >= 0 && parameter <= 1)) {
    annotations.invalidQuantile(parameter, (call.args[0] as Expr).span);
  }
  const row = FUNCTIONS.get(call.name);
  if (!isFound || row?.kind !== 'window' || row.counter !== true) return;
  const name = selector.matchers.find((m) => m.name === METRIC_NAME && m.op === '=' && m.value !== '')?.value ?? '';
  if (!namedLikeCounter(name)) annotations.possibleNonCounter(name, matrix.span);
}
