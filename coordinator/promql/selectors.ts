/** The selectors in an expression. */
import type { Matcher } from '../../core/matchers.ts';
import type { Expr } from './ast.ts';

/** Matchers of each selector, in the order of the text; times play no part. */
export function selectorsIn(expr: Expr): (readonly Matcher[])[] {
  switch (expr.kind) {
    case 'number':
    case 'string':
      return [];
    case 'selector':
      return [expr.matchers];
    case 'matrix':
      return [expr.selector.matchers];
    case 'paren':
    case 'unary':
    case 'subquery':
      return selectorsIn(expr.expr);
    case 'call':
      return expr.args.flatMap(selectorsIn);
    case 'aggregate':
      return [...(expr.param === undefined ? [] : selectorsIn(expr.param)), ...selectorsIn(expr.expr)];
    case 'binary':
      return [...selectorsIn(expr.lhs), ...selectorsIn(expr.rhs)];
  }
}
