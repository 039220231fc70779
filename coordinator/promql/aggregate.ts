/** Evaluates aggregations: series go straight into their group's arrays as they come. */
import { compareLabels, type Labels } from '../../core/labels.ts';
import { sortSlices } from '../../core/order.ts';
import type { Accumulator } from '../../core/promql/accumulate.ts';
import { Keyer, labelsKey, METRIC_NAME, withLabel } from '../../core/promql/labelset.ts';
import { AGGREGATIONS, type ChooseRow, type FoldRow } from './aggregations.ts';
import type { Aggregate, Expr } from './ast.ts';
import type { Budget } from './budget.ts';
import { type Context, collect, fold } from './context.ts';
import { QueryError } from './error.ts';
import { formatFloat, isLabelName, quote } from './literal.ts';
import { type Cursor, EMPTY, Kept, type Names, Slot } from './vector.ts';

export async function aggregate(expr: Aggregate, context: Context): Promise<Cursor> {
  const row = AGGREGATIONS.get(expr.op);
  if (row?.kind === 'fold') return foldGroups(expr, row, context);
  if (row?.kind === 'choose') return chooseSeries(expr, row, context);
  return countValues(expr, context);
}

/** Whether the groups still tell metric names apart. */
export function groupNames(expr: Aggregate): Names {
  return !expr.without && expr.grouping.includes(METRIC_NAME) ? 'many' : 'none';
}

async function foldGroups(expr: Aggregate, row: FoldRow, context: Context): Promise<Cursor> {
  const steps = context.grid.count;
  const params = expr.param && (await context.scalar(expr.param));
  const keyer = new Keyer(expr.grouping, expr.without);
  const groups = new Map<string, { labels: Labels; accumulator: Accumulator }>();
  await fold(await context.vector(expr.expr), context, (slot) => {
    const key = keyer.key(slot.labels);
    let group = groups.get(key);
    if (group === undefined) {
      group = { labels: keyer.labels(slot.labels), accumulator: row.accumulate(steps) };
      groups.set(key, group);
      context.budget.hold(steps);
    }
    group.accumulator.add(slot);
  });
  if (params) checkQuantiles(params, expr.param as Expr, context);
  const slots: Slot[] = [];
  for (const { labels, accumulator } of groups.values()) {
    const slot = new Slot(steps);
    slot.labels = labels;
    if (accumulator.finishing === undefined) accumulator.finish(slot, params);
    else {
      for (const cost of accumulator.finishing(slot, params)) {
        context.budget.spend(cost);
        if (context.budget.due()) await context.budget.pause();
      }
    }
    slots.push(slot);
    context.budget.spend(steps);
    if (context.budget.due()) await context.budget.pause();
  }
  return new Kept(slots, groupNames(expr));
}

/** Warns once for each side, of the value that is furthest off, as Prometheus does. */
function checkQuantiles(params: Float64Array, param: Expr, context: Context): void {
  let min = Infinity;
  let max = -Infinity;
  for (const q of params) {
    if (Number.isNaN(q)) context.annotations.invalidQuantile(q, param.span);
    if (q < min) min = q;
    if (q > max) max = q;
  }
  if (max > 1) context.annotations.invalidQuantile(max, param.span);
  if (min < 0) context.annotations.invalidQuantile(min, param.span);
}

async function chooseSeries(expr: Aggregate, row: ChooseRow, context: Context): Promise<Cursor> {
  const param = expr.param as Expr;
  const params = await context.scalar(param);
  const inner = await context.vector(expr.expr);
  const slots = await collect(inner, context);
  const { groups, groupCount } = await groupSeries(slots, new Keyer(expr.grouping, expr.without), context.budget);
  const chosen = await row.choose({
    slots,
    groups,
    groupCount,
    steps: context.grid.count,
    params,
    paramSpan: param.span,
    annotations: context.annotations,
    budget: context.budget,
  });
  return chosen.length === 0 ? EMPTY : new Kept(chosen, inner.names);
}

/** The number of each series' group. Groups come in the order of their first series by labels, however the series came. */
async function groupSeries(
  slots: readonly Slot[],
  keyer: Keyer,
  budget: Budget,
): Promise<{ groups: Int32Array; groupCount: number }> {
  const byKey = new Map<string, { first: Labels; number: number }>();
  const members: { readonly number: number }[] = [];
  for (const { labels } of slots) {
    const key = keyer.key(labels);
    let group = byKey.get(key);
    if (group === undefined) {
      group = { first: labels, number: 0 };
      byKey.set(key, group);
    } else if (compareLabels(labels, group.first) < 0) group.first = labels;
    members.push(group);
    if (budget.due()) await budget.pause();
  }
  const ordered = await sortSlices([...byKey.values()], (a, b) => compareLabels(a.first, b.first), budget);
  ordered.forEach((group, number) => {
    group.number = number;
  });
  return { groups: Int32Array.from(members, (group) => group.number), groupCount: ordered.length };
}

async function countValues(expr: Aggregate, context: Context): Promise<Cursor> {
  const param = expr.param as Expr;
  const valueLabel = stringOf(param);
  if (!isLabelName(valueLabel)) throw new QueryError('execution', `invalid label name ${quote(valueLabel)}`);
  const keyer = new Keyer(expr.without ? expr.grouping : [...expr.grouping, valueLabel], expr.without);
  const results = new Map<string, Slot>();
  await fold(await context.vector(expr.expr), context, (slot) => {
    const seen = new Map<string, Slot>();
    for (let i = 0; i < slot.values.length; i++) {
      if (slot.present[i] === 0) continue;
      const text = formatFloat(slot.values[i] as number);
      let result = seen.get(text);
      if (result === undefined) {
        const labels = keyer.labels(withLabel(slot.labels, valueLabel, text));
        const key = labelsKey(labels);
        result = results.get(key);
        if (result === undefined) {
          result = new Slot(context.grid.count);
          result.labels = labels;
          results.set(key, result);
          context.budget.hold(context.grid.count);
        }
        seen.set(text, result);
      }
      if (result.present[i] === 0) result.pointCount++;
      result.present[i] = 1;
      result.values[i] = (result.values[i] as number) + 1;
    }
  });
  return new Kept([...results.values()], groupNames(expr));
}

function stringOf(expr: Expr): string {
  return expr.kind === 'paren' ? stringOf(expr.expr) : expr.kind === 'string' ? expr.value : '';
}
