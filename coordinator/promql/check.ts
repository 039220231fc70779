/** Types of expressions, and the rules that Prometheus's `checkAST` holds them to. */
import { compileMatcher } from '../../core/matchers.ts';
import { AGGREGATIONS } from './aggregations.ts';
import type { Binary, Call, Expr, Span, ValueType } from './ast.ts';
import type { FunctionRow } from './functions/row.ts';
import { FUNCTIONS } from './functions/table.ts';
import { quote } from './literal.ts';
import { OPERATORS } from './operators.ts';

/** A type in the words of the documentation. */
export function typeName(type: ValueType): string {
  return type === 'vector' ? 'instant vector' : type === 'matrix' ? 'range vector' : type;
}

export function typeOf(expr: Expr): ValueType {
  switch (expr.kind) {
    case 'number':
      return 'scalar';
    case 'string':
      return 'string';
    case 'selector':
    case 'aggregate':
      return 'vector';
    case 'matrix':
    case 'subquery':
      return 'matrix';
    case 'call':
      return (FUNCTIONS.get(expr.name) as FunctionRow).returns;
    case 'binary':
      return typeOf(expr.lhs) === 'scalar' && typeOf(expr.rhs) === 'scalar' ? 'scalar' : 'vector';
    case 'unary':
    case 'paren':
      return typeOf(expr.expr);
  }
}

/** Makes the error to throw for a broken rule at `span`. */
type Report = (span: Span, message: string) => Error;

/** Throws what `report` makes of the first broken rule. */
export function checkTypes(expr: Expr, report: Report): void {
  switch (expr.kind) {
    case 'number':
    case 'string':
      return;
    case 'selector':
      if (expr.name === '' && expr.matchers.every((m) => compileMatcher(m).matchesEmpty)) {
        throw report(expr.span, 'vector selector must contain at least one non-empty matcher');
      }
      return;
    case 'matrix':
      checkTypes(expr.selector, report);
      return;
    case 'paren':
      checkTypes(expr.expr, report);
      return;
    case 'unary': {
      checkTypes(expr.expr, report);
      const type = typeOf(expr.expr);
      if (type !== 'scalar' && type !== 'vector') {
        throw report(
          expr.span,
          `unary expression only allowed on expressions of type scalar or instant vector, got ${quote(typeName(type))}`,
        );
      }
      return;
    }
    case 'subquery':
      checkTypes(expr.expr, report);
      if (typeOf(expr.expr) !== 'vector') {
        throw report(expr.span, `subquery is only allowed on instant vector, got ${typeOf(expr.expr)} instead`);
      }
      return;
    case 'aggregate':
      expect(expr.expr, 'vector', 'aggregation expression', report);
      if (expr.param) expect(expr.param, AGGREGATIONS.get(expr.op)?.param ?? 'scalar', 'aggregation parameter', report);
      return;
    case 'call':
      checkCall(expr, report);
      return;
    case 'binary':
      checkBinary(expr, report);
  }
}

function expect(expr: Expr, type: ValueType, context: string, report: Report): void {
  checkTypes(expr, report);
  const got = typeOf(expr);
  if (got !== type) throw report(expr.span, `expected type ${typeName(type)} in ${context}, got ${typeName(got)}`);
}

function checkCall(call: Call, report: Report): void {
  const row = FUNCTIONS.get(call.name) as FunctionRow;
  const { args, variadic } = row;
  const given = call.args.length;
  const name = quote(call.name);
  if (variadic === undefined) {
    if (given !== args.length)
      throw report(call.span, `expected ${args.length} argument(s) in call to ${name}, got ${given}`);
  } else {
    const least = args.length - 1;
    if (given < least)
      throw report(call.span, `expected at least ${least} argument(s) in call to ${name}, got ${given}`);
    if (variadic > 0 && given > least + variadic) {
      throw report(call.span, `expected at most ${least + variadic} argument(s) in call to ${name}, got ${given}`);
    }
  }
  if (call.name === 'info' && given > 1) {
    const selector = call.args[1] as Expr;
    if (selector.kind !== 'selector') throw report(selector.span, 'expected label selectors only');
    if (selector.name !== '') throw report(selector.span, 'expected label selectors only, got vector selector instead');
    expect(call.args[0] as Expr, 'vector', `call to function ${name}`, report);
    return;
  }
  call.args.forEach((arg, i) => {
    expect(arg, args[Math.min(i, args.length - 1)] as ValueType, `call to function ${name}`, report);
  });
}

function checkBinary(expr: Binary, report: Report): void {
  checkTypes(expr.lhs, report);
  checkTypes(expr.rhs, report);
  const left = typeOf(expr.lhs);
  const right = typeOf(expr.rhs);
  const row = OPERATORS.get(expr.op);
  const operatorSpan = { start: expr.lhs.span.end + 1, end: expr.rhs.span.start };
  if (expr.bool && row?.comparison === undefined) {
    throw report(operatorSpan, 'bool modifier can only be used on comparison operators');
  }
  if (row?.comparison !== undefined && !expr.bool && left === 'scalar' && right === 'scalar') {
    throw report(operatorSpan, 'comparisons between scalars must use BOOL modifier');
  }
  const matching = expr.matching;
  if (matching?.on) {
    const both = matching.labels.find((label) => matching.include.includes(label));
    if (both !== undefined)
      throw report(operatorSpan, `label ${quote(both)} must not occur in ON and GROUP clause at once`);
  }
  for (const [side, type] of [
    [expr.lhs, left],
    [expr.rhs, right],
  ] as const) {
    if (type !== 'scalar' && type !== 'vector') {
      throw report(side.span, 'binary expression must contain only scalar and instant vector types');
    }
  }
  const vectors = left === 'vector' && right === 'vector';
  const filled = matching?.fillLeft !== undefined || matching?.fillRight !== undefined;
  if (!vectors && matching && matching.labels.length > 0) {
    throw report(expr.span, 'vector matching only allowed between instant vectors');
  }
  if (!vectors && filled) throw report(expr.span, 'filling in missing series only allowed between instant vectors');
  if (!row?.set) return;
  if (!vectors) throw report(expr.span, `set operator ${quote(expr.op)} not allowed in binary scalar expression`);
  if (matching?.card === 'many-to-one' || matching?.card === 'one-to-many') {
    throw report(expr.span, `no grouping allowed for ${quote(expr.op)} operation`);
  }
  if (filled) throw report(expr.span, 'filling in missing series not allowed for set operators');
}
