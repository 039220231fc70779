/** The syntax tree as the API's `parse_query` shows it (Prometheus's `translate_ast.go`), for user interfaces. */
import { type At, type DurationExpr, type Expr, unwrap, type VectorSelector } from './ast.ts';
import { typeOf } from './check.ts';
import type { FunctionRow } from './functions/row.ts';
import { FUNCTIONS } from './functions/table.ts';
import { formatFloat } from './literal.ts';

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

export function toJson(expr: Expr): Json {
  switch (expr.kind) {
    case 'number':
      return { type: 'numberLiteral', val: formatFloat(expr.value) };
    case 'string':
      return { type: 'stringLiteral', val: expr.value };
    case 'paren':
      return { type: 'parenExpr', expr: toJson(expr.expr) };
    case 'unary':
      return { type: 'unaryExpr', op: expr.op, expr: toJson(expr.expr) };
    case 'selector':
      return { type: 'vectorSelector', ...selector(expr) };
    case 'matrix':
      return {
        type: 'matrixSelector',
        ...selector(expr.selector),
        range: literalMs(expr.range),
        rangeExpr: duration(expr.range),
      };
    case 'subquery':
      return {
        type: 'subquery',
        expr: toJson(expr.expr),
        range: literalMs(expr.range),
        rangeExpr: duration(expr.range),
        step: literalMs(expr.step),
        stepExpr: duration(expr.step),
        ...modifiers(expr),
      };
    case 'aggregate':
      return {
        type: 'aggregation',
        op: expr.op,
        expr: toJson(expr.expr),
        param: expr.param === undefined ? null : toJson(expr.param),
        grouping: expr.grouping,
        without: expr.without,
      };
    case 'call': {
      const { name, args, variadic, returns } = FUNCTIONS.get(expr.name) as FunctionRow;
      const func = { name, argTypes: args, variadic: variadic ?? 0, returnType: returns };
      return { type: 'call', func, args: expr.args.map(toJson) };
    }
    case 'binary': {
      const m =
        typeOf(unwrap(expr.lhs)) === 'vector' && typeOf(unwrap(expr.rhs)) === 'vector' ? expr.matching : undefined;
      const matching: Json = m
        ? {
            card: m.card,
            labels: m.labels,
            on: m.on,
            include: m.include,
            fillValues: { lhs: m.fillLeft ?? null, rhs: m.fillRight ?? null },
          }
        : null;
      return {
        type: 'binaryExpr',
        op: expr.op,
        lhs: toJson(expr.lhs),
        rhs: toJson(expr.rhs),
        matching,
        bool: expr.bool,
      };
    }
  }
}

function selector(node: VectorSelector): { [key: string]: Json } {
  return {
    name: node.name,
    matchers: node.matchers.map(({ name, op, value }) => ({ name, value, type: op })),
    ...modifiers(node),
    anchored: node.extent === 'anchored',
    smoothed: node.extent === 'smoothed',
  };
}

function modifiers(node: { readonly offset?: DurationExpr; readonly at?: At }): { [key: string]: Json } {
  const { at, offset } = node;
  return {
    offset: literalMs(offset),
    offsetExpr: duration(offset),
    timestamp: at && 'timeMs' in at ? at.timeMs : null,
    startOrEnd: at && 'preprocessor' in at ? at.preprocessor : null,
  };
}

/** Milliseconds of a plain duration; 0 for none, and for arithmetic. */
function literalMs(node: DurationExpr | undefined): number {
  return node?.kind === 'duration' ? node.ms : 0;
}

/** Arithmetic; null for a plain duration. */
function duration(node: DurationExpr | undefined): Json {
  return node === undefined || node.kind === 'duration' ? null : durationTree(node, false);
}

function durationTree(node: DurationExpr, wrapped: boolean): Json {
  const tree = (op: string, lhs: Json, rhs: Json): Json => ({ type: 'durationExpr', op, lhs, rhs, wrapped });
  switch (node.kind) {
    case 'duration':
      return { type: 'numberLiteral', val: formatFloat(node.ms / 1000), duration: true };
    case 'durationStep':
      return tree('step', null, null);
    case 'durationRange':
      return tree('range', null, null);
    case 'durationParen':
      return durationTree(node.expr, true);
    case 'durationUnary':
      return tree(node.op, null, durationTree(node.expr, false));
    case 'durationBinary':
      return tree(node.op, durationTree(node.lhs, false), durationTree(node.rhs, false));
  }
}
