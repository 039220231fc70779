/** Aggregations that are computed where the series are: which they are, and what becomes of their answers here. */
import { type Groups, isMergeable, windowFunction } from '../../core/promql/groups.ts';
import { METRIC_NAME } from '../../core/promql/labelset.ts';
import { namedLikeCounter } from './annotations.ts';
import { type Aggregate, type Call, type Expr, type MatrixSelector, unwrap, type VectorSelector } from './ast.ts';
import type { Context } from './context.ts';
import { namesOf } from './functions/misc.ts';
import { FUNCTIONS } from './functions/table.ts';
import { Kept, type Names, Slot } from './vector.ts';

interface Input {
  readonly selector: VectorSelector;
  /** With a range function. */
  readonly matrix?: MatrixSelector;
  readonly call?: Call;
}

/**
 * What an aggregation reads, when nodes can compute it. A function that drops the names of several metrics could make
 * duplicates, which is an error that only shows where all series are together: such ones stay here.
 */
export function pushable({ op, param, expr }: Aggregate): Input | undefined {
  if (!isMergeable(op) || param !== undefined) return undefined;
  const inner = unwrap(expr);
  if (inner.kind === 'selector') return inner.extent === undefined ? { selector: inner } : undefined;
  if (inner.kind !== 'call' || inner.args.length !== 1) return undefined;
  const row = windowFunction(inner.name);
  const matrix = unwrap(inner.args[0] as Expr);
  if (row === undefined || matrix.kind !== 'matrix' || matrix.selector.extent !== undefined) return undefined;
  if (!row.keepsName && namesOf(matrix.selector) === 'many') return undefined;
  return { selector: matrix.selector, matrix, call: inner };
}

/** The answer of such an aggregation, with all that evaluating it here would have said and counted. */
export async function mergedGroups(expr: Aggregate, groups: Groups, names: Names, context: Context): Promise<Kept> {
  const { samples, budget } = context;
  const { looked } = groups;
  samples.total += looked.samples;
  if (samples.perStep !== undefined && looked.perStep !== undefined) {
    for (let i = 0; i < samples.perStep.length; i++) {
      samples.perStep[i] = (samples.perStep[i] as number) + (looked.perStep[i] as number);
    }
  }
  if (groups.count > 0) checkName(expr, context);
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

function checkName(expr: Aggregate, context: Context): void {
  const { call, matrix, selector } = pushable(expr) as Input;
  const row = call && FUNCTIONS.get(call.name);
  if (row?.kind !== 'window' || row.counter !== true || matrix === undefined) return;
  const name = selector.matchers.find((m) => m.name === METRIC_NAME && m.op === '=' && m.value !== '')?.value ?? '';
  if (!namedLikeCounter(name)) context.annotations.possibleNonCounter(name, matrix.span);
}
