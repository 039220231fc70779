/** Which parts of a query need to be evaluated once only. */
import type { Expr } from './ast.ts';
import { FUNCTIONS } from './functions/table.ts';

/**
 * Whether the answer is the same at every step, so that one step is enough: everything it reads is
 * pinned by `@`. The rules are those of Prometheus's `preprocessExprHelper`, except that the parameter
 * of an aggregation counts too (Prometheus takes its value at the first step for all of them).
 */
export function isStepInvariant(expr: Expr): boolean {
  switch (expr.kind) {
    case 'number':
    case 'string':
      return true;
    case 'selector':
    case 'subquery':
      return expr.at !== undefined;
    case 'matrix':
      return expr.selector.at !== undefined;
    case 'aggregate':
      return isStepInvariant(expr.expr) && (expr.param === undefined || isStepInvariant(expr.param));
    case 'binary':
      return isStepInvariant(expr.lhs) && isStepInvariant(expr.rhs);
    case 'unary':
    case 'paren':
      return isStepInvariant(expr.expr);
    case 'call':
      return FUNCTIONS.get(expr.name)?.stepDependent !== true && expr.args.every(isStepInvariant);
  }
}
