/**
 * The PromQL syntax tree: what the parser makes, the printer writes and the engine plans from.
 * Plain data, never changed after parsing. Durations are milliseconds; positions are UTF-16 offsets
 * into the query text, end exclusive.
 */
import type { Matcher } from '../../core/matchers.ts';

export type ValueType = 'scalar' | 'vector' | 'matrix' | 'string' | 'none';

export interface Span {
  readonly start: number;
  readonly end: number;
}

/** A duration as written: a number of milliseconds, or arithmetic that is known once the query's range is. */
export type DurationExpr =
  | { readonly kind: 'duration'; readonly ms: number }
  | { readonly kind: 'durationStep' | 'durationRange' }
  | { readonly kind: 'durationUnary'; readonly op: '-' | '+'; readonly expr: DurationExpr }
  | { readonly kind: 'durationParen'; readonly expr: DurationExpr }
  | {
      readonly kind: 'durationBinary';
      readonly op: '+' | '-' | '*' | '/' | '%' | '^' | 'min_of' | 'max_of';
      readonly lhs: DurationExpr;
      readonly rhs: DurationExpr;
    };

/** `@ 12.5` (ms), `@ start()` or `@ end()`. */
export type At = { readonly timeMs: number } | { readonly preprocessor: 'start' | 'end' };

interface Node {
  readonly span: Span;
}

export interface NumberLiteral extends Node {
  readonly kind: 'number';
  readonly value: number;
  /** Written as a duration: printed as one again. The value is in seconds. */
  readonly duration: boolean;
}

export interface StringLiteral extends Node {
  readonly kind: 'string';
  readonly value: string;
}

export interface VectorSelector extends Node {
  readonly kind: 'selector';
  /** The name outside the braces, or alone in quotes inside them; empty when there is none. */
  readonly name: string;
  /** All matchers, the one on `__name__` that `name` stands for included. */
  readonly matchers: readonly Matcher[];
  readonly offset?: DurationExpr;
  readonly at?: At;
  readonly extent?: 'anchored' | 'smoothed';
}

export interface MatrixSelector extends Node {
  readonly kind: 'matrix';
  readonly selector: VectorSelector;
  readonly range: DurationExpr;
}

export interface Subquery extends Node {
  readonly kind: 'subquery';
  readonly expr: Expr;
  readonly range: DurationExpr;
  readonly step?: DurationExpr;
  readonly offset?: DurationExpr;
  readonly at?: At;
}

export interface Call extends Node {
  readonly kind: 'call';
  readonly name: string;
  readonly args: readonly Expr[];
}

export interface Aggregate extends Node {
  readonly kind: 'aggregate';
  readonly op: string;
  readonly grouping: readonly string[];
  readonly without: boolean;
  readonly param?: Expr;
  readonly expr: Expr;
}

export type Card = 'one-to-one' | 'many-to-one' | 'one-to-many' | 'many-to-many';

export interface Matching {
  readonly card: Card;
  readonly on: boolean;
  readonly labels: readonly string[];
  /** Labels that group_left or group_right brings over from the "one" side. */
  readonly include: readonly string[];
  readonly fillLeft?: number;
  readonly fillRight?: number;
}

export interface Binary extends Node {
  readonly kind: 'binary';
  readonly op: string;
  readonly lhs: Expr;
  readonly rhs: Expr;
  readonly bool: boolean;
  /** Present between two vectors. */
  readonly matching?: Matching;
}

export interface Unary extends Node {
  readonly kind: 'unary';
  readonly op: '-' | '+';
  readonly expr: Expr;
}

export interface Paren extends Node {
  readonly kind: 'paren';
  readonly expr: Expr;
}

export type Expr =
  | NumberLiteral
  | StringLiteral
  | VectorSelector
  | MatrixSelector
  | Subquery
  | Call
  | Aggregate
  | Binary
  | Unary
  | Paren;

/** What parentheses hold. */
export function unwrap(expr: Expr): Expr {
  while (expr.kind === 'paren') expr = expr.expr;
  return expr;
}
