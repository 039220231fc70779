/**
 * PromQL text to syntax tree, by Prometheus's own Lezer grammar.
 *
 * The grammar gives tokens and structure, but not Prometheus's binding of what stands before and after an
 * operand: to it, `a + b offset 5m` is `(a + b) offset 5m` and `-1 ^ 2` is `(-1) ^ 2`. So a chain of
 * operators, signs and postfix modifiers is flattened into its parts and put together again by the
 * precedences of Prometheus's yacc grammar (`generated_parser.y`).
 */

import type { SyntaxNode } from '@lezer/common';
import { parser as lezer } from '@prometheus-io/lezer-promql';
import { messageOf } from '../../core/errors.ts';
import { compileMatcher, type Matcher, type MatchOp } from '../../core/matchers.ts';
import { AGGREGATIONS } from './aggregations.ts';
import type { Aggregate, At, Binary, Card, DurationExpr, Expr, Matching, Span, VectorSelector } from './ast.ts';
import { blame } from './blame.ts';
import { checkTypes } from './check.ts';
import { QueryError } from './error.ts';
import { FUNCTIONS } from './functions/table.ts';
import { isDuration, LiteralError, parseDuration, parseNumber, quote, unquote } from './literal.ts';
import { OPERATORS } from './operators.ts';

export interface ParseOptions {
  /** Accepts what Prometheus calls experimental: some functions and aggregations, fill, anchored, smoothed. */
  readonly experimental?: boolean;
}

/** `line:column` of an offset, both from 1, columns in UTF-8 bytes, as Prometheus counts. */
export function position(query: string, offset: number): string {
  const before = query.slice(0, offset);
  const line = before.split('\n').length;
  return `${line}:${Buffer.byteLength(before.slice(before.lastIndexOf('\n') + 1)) + 1}`;
}

/** Strings and comments, which are left alone, or a number that ends in a dot, with its exponent if it has one. */
const TRAILING_DOT = /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`|#[^\n]*|(?<![\w.])(\d+)\.(?![\d.])(e[+-]?\d+)?/gi;

/** Go takes `5.` and `5.e3` for numbers, the grammar does not: writes them without the dot, at the same length. */
function padTrailingDots(query: string): string {
  if (!/\d\.(?!\d)/.test(query)) return query;
  return query.replace(TRAILING_DOT, (whole, digits?: string, exponent = '') =>
    digits === undefined ? whole : exponent === '' ? `${digits} ` : ` ${digits}${exponent}`,
  );
}

/** Parses and type-checks an expression. Throws a QueryError `bad_data` worded as Prometheus words it. */
export function parse(query: string, options: ParseOptions = {}): Expr {
  const reader = new Reader(query, options.experimental ?? false);
  const tree = lezer.parse(padTrailingDots(query));
  const error = firstError(tree.topNode);
  if (error) {
    const { offset, message } = blame(query, error.from);
    if (offset === undefined) throw new QueryError('bad_data', `unknown position: parse error: ${message}`);
    throw reader.error(offset, message);
  }
  const top = tree.topNode.getChild('Expr');
  if (!top) throw reader.error(0, 'no expression found in input');
  const expr = reader.expression(top);
  checkTypes(expr, (span, message) => reader.error(span.start, message));
  return expr;
}

/** The matchers of a selector such as `up{job="x"}`, for `match[]`. Throws a QueryError `bad_data`. */
export function parseSelector(text: string): readonly Matcher[] {
  const expr = parse(text);
  if (expr.kind !== 'selector' || expr.offset !== undefined || expr.at !== undefined) {
    throw new QueryError('bad_data', `1:1: parse error: ${quote(text)} is not a series selector`);
  }
  return expr.matchers;
}

function firstError(node: SyntaxNode): SyntaxNode | undefined {
  if (node.type.isError) return node;
  for (let child = node.firstChild; child; child = child.nextSibling) {
    const found = firstError(child);
    if (found) return found;
  }
  return undefined;
}

const PREFIX_PRECEDENCE = OPERATORS.get('*')?.precedence as number;

/** A chain's parts, in the order of the text. */
type Part =
  | { readonly kind: 'operand'; readonly expr: Expr }
  | { readonly kind: 'prefix'; readonly op: '-' | '+'; readonly start: number }
  | { readonly kind: 'postfix'; readonly node: SyntaxNode }
  | { readonly kind: 'infix'; readonly op: string; readonly node: SyntaxNode };

const POSTFIX = new Set([
  'OffsetExpr',
  'StepInvariantExpr',
  'MatrixSelector',
  'SubqueryExpr',
  'AnchoredExpr',
  'SmoothedExpr',
]);

class Reader {
  readonly #query: string;
  readonly #experimental: boolean;

  constructor(query: string, experimental: boolean) {
    this.#query = query;
    this.#experimental = experimental;
  }

  error(offset: number, message: string): QueryError {
    return new QueryError('bad_data', `${position(this.#query, offset)}: parse error: ${message}`);
  }

  expression(node: SyntaxNode): Expr {
    const parts: Part[] = [];
    this.#flatten(node, parts);
    const only = parts[0];
    if (parts.length === 1 && only?.kind === 'operand') return only.expr;
    return this.#climb(parts, { at: 0 }, 0);
  }

  #flatten(node: SyntaxNode, parts: Part[]): void {
    if (node.name === 'BinaryExpr') {
      const [lhs, rhs] = node.getChildren('Expr') as [SyntaxNode, SyntaxNode];
      this.#flatten(lhs, parts);
      parts.push({ kind: 'infix', op: this.#text(lhs.nextSibling as SyntaxNode).toLowerCase(), node });
      this.#flatten(rhs, parts);
    } else if (node.name === 'UnaryExpr') {
      const op = node.getChild('UnaryOp') as SyntaxNode;
      parts.push({ kind: 'prefix', op: this.#text(op) as '-' | '+', start: op.from });
      this.#flatten(node.getChild('Expr') as SyntaxNode, parts);
    } else if (POSTFIX.has(node.name)) {
      this.#flatten(node.getChild('Expr') as SyntaxNode, parts);
      parts.push({ kind: 'postfix', node });
    } else if (node.name === 'NumberDurationLiteral') {
      const text = this.#text(node);
      const sign = text[0];
      if (sign === '-' || sign === '+') parts.push({ kind: 'prefix', op: sign, start: node.from });
      parts.push({ kind: 'operand', expr: this.#number(node) });
    } else {
      parts.push({ kind: 'operand', expr: this.#primary(node) });
    }
  }

  /** Precedence climbing over `parts` from `cursor`; only operators that bind at least as tightly as `floor` are taken. */
  #climb(parts: readonly Part[], cursor: { at: number }, floor: number): Expr {
    let left = this.#operand(parts, cursor);
    for (;;) {
      const part = parts[cursor.at];
      if (part === undefined || part.kind !== 'infix') return left;
      const row = OPERATORS.get(part.op);
      if (row === undefined) throw this.error(part.node.from, `unexpected ${quote(part.op)}`);
      if (row.precedence < floor) return left;
      cursor.at++;
      const right = this.#climb(parts, cursor, row.rightAssociative ? row.precedence : row.precedence + 1);
      left = this.#binary(part.op, part.node, left, right);
    }
  }

  #operand(parts: readonly Part[], cursor: { at: number }): Expr {
    const part = parts[cursor.at++] as Part;
    if (part.kind === 'prefix') {
      const expr = this.#climb(parts, cursor, PREFIX_PRECEDENCE + 1);
      const span = { start: part.start, end: expr.span.end };
      if (expr.kind === 'number') return { ...expr, value: part.op === '-' ? -expr.value : expr.value, span };
      return { kind: 'unary', op: part.op, expr, span };
    }
    if (part.kind !== 'operand') throw this.error(part.node.from, 'unexpected operator');
    let expr = part.expr;
    for (let next = parts[cursor.at]; next?.kind === 'postfix'; next = parts[++cursor.at])
      expr = this.#postfix(expr, next.node);
    return expr;
  }

  #binary(op: string, node: SyntaxNode, lhs: Expr, rhs: Expr): Binary {
    const row = OPERATORS.get(op);
    const clause = node.getChild('MatchingModifierClause');
    const fill = node.getChild('FillModifier');
    let matching: Matching = { card: row?.set ? 'many-to-many' : 'one-to-one', on: false, labels: [], include: [] };
    if (clause) matching = this.#matching(clause, matching.card);
    if (fill) {
      if (!this.#experimental)
        throw this.error(lhs.span.start, 'binop fill modifiers are experimental and not enabled');
      matching = { ...matching, ...this.#fill(fill) };
    }
    return {
      kind: 'binary',
      op,
      lhs,
      rhs,
      bool: node.getChild('BoolModifier') !== null,
      matching,
      span: { start: lhs.span.start, end: rhs.span.end },
    };
  }

  #matching(clause: SyntaxNode, ungrouped: Card): Matching {
    const lists = clause.getChildren('GroupingLabels');
    const left = clause.getChild('GroupLeft');
    const right = clause.getChild('GroupRight');
    return {
      card: left ? 'many-to-one' : right ? 'one-to-many' : ungrouped,
      on: clause.getChild('On') !== null,
      labels: this.#labelList(lists[0]),
      include: this.#labelList(lists[1]),
    };
  }

  #fill(node: SyntaxNode): { fillLeft?: number; fillRight?: number } {
    const value = (name: string): number | undefined => {
      const literal = node.getChild(name)?.getChild('NumberDurationLiteral');
      if (!literal) return undefined;
      const magnitude = this.#number(literal).value;
      return this.#text(literal)[0] === '-' ? -magnitude : magnitude;
    };
    const both = value('FillClause');
    const fillLeft = value('FillLeftClause') ?? both;
    const fillRight = value('FillRightClause') ?? both;
    return { ...(fillLeft === undefined ? {} : { fillLeft }), ...(fillRight === undefined ? {} : { fillRight }) };
  }

  #postfix(expr: Expr, node: SyntaxNode): Expr {
    const span = { start: expr.span.start, end: node.to };
    const durations = node.getChildren('DurationExpr');
    switch (node.name) {
      case 'MatrixSelector': {
        const bracket = this.#query.indexOf('[', expr.span.end);
        if (expr.kind !== 'selector') throw this.error(bracket, 'ranges only allowed for vector selectors');
        if (expr.offset !== undefined) throw this.error(bracket, 'no offset modifiers allowed before range');
        if (expr.at !== undefined) throw this.error(bracket, 'no @ modifiers allowed before range');
        return { kind: 'matrix', selector: expr, range: this.#positive(durations[0] as SyntaxNode), span };
      }
      case 'SubqueryExpr': {
        const range = this.#positive(durations[0] as SyntaxNode);
        const step = durations[1] ? { step: this.#positive(durations[1]) } : {};
        return { kind: 'subquery', expr, range, ...step, span };
      }
      case 'OffsetExpr': {
        const offset = this.#duration(node.getChild('OffsetDurationExpr') as SyntaxNode);
        return this.#modify(expr, span, 'offset', (node) => {
          if (node.offset !== undefined) throw this.error(expr.span.start, 'offset may not be set multiple times');
          return { offset };
        });
      }
      case 'StepInvariantExpr': {
        const at = this.#at(node, expr);
        return this.#modify(expr, span, '@', (node) => {
          if (node.at !== undefined) throw this.error(expr.span.start, '@ <timestamp> may not be set multiple times');
          return { at };
        });
      }
      default:
        return this.#extent(expr, node.name === 'AnchoredExpr' ? 'anchored' : 'smoothed', span);
    }
  }

  /** Puts an offset or an @ onto a selector or a subquery. */
  #modify(
    expr: Expr,
    span: Span,
    what: string,
    fields: (node: { readonly offset?: DurationExpr; readonly at?: At }) => { offset?: DurationExpr; at?: At },
  ): Expr {
    if (expr.kind === 'selector' || expr.kind === 'subquery') return { ...expr, ...fields(expr), span };
    if (expr.kind === 'matrix') {
      return { ...expr, selector: { ...expr.selector, ...fields(expr.selector) }, span };
    }
    throw this.error(
      expr.span.start,
      `${what} modifier must be preceded by an instant vector selector or range vector selector or a subquery`,
    );
  }

  #at(node: SyntaxNode, expr: Expr): At {
    const preprocessor = node.getChild('AtModifierPreprocessors');
    if (preprocessor) return { preprocessor: preprocessor.getChild('AtStart') ? 'start' : 'end' };
    const literal = node.getChild('NumberDurationLiteral') as SyntaxNode;
    const magnitude = this.#number(literal).value;
    const seconds = this.#text(literal)[0] === '-' ? -magnitude : magnitude;
    if (!(Math.abs(seconds) < 2 ** 63)) {
      throw this.error(expr.span.start, `timestamp out of bounds for @ modifier: ${seconds}`);
    }
    return { timeMs: Math.round(seconds * 1000) };
  }

  #extent(expr: Expr, extent: 'anchored' | 'smoothed', span: Span): Expr {
    if (!this.#experimental) throw this.error(expr.span.start, `${extent} modifier is experimental and not enabled`);
    const selector = expr.kind === 'matrix' ? expr.selector : expr;
    if (selector.kind === 'subquery')
      throw this.error(expr.span.start, `${extent} modifier is not supported for subqueries`);
    if (selector.kind !== 'selector') throw this.error(expr.span.start, `${extent} modifier not implemented`);
    if (selector.extent !== undefined && selector.extent !== extent) {
      throw this.error(expr.span.start, 'anchored and smoothed modifiers cannot be used together');
    }
    return expr.kind === 'matrix'
      ? { ...expr, selector: { ...selector, extent }, span }
      : { ...selector, extent, span };
  }

  #primary(node: SyntaxNode): Expr {
    const span = { start: node.from, end: node.to };
    switch (node.name) {
      case 'ParenExpr':
        return { kind: 'paren', expr: this.expression(node.getChild('Expr') as SyntaxNode), span };
      case 'StringLiteral':
        return { kind: 'string', value: this.#string(node), span };
      case 'VectorSelector':
        return this.#selector(node);
      case 'FunctionCall':
        return this.#call(node);
      case 'AggregateExpr':
        return this.#aggregate(node);
      default:
        throw this.error(node.from, `unexpected ${node.name}`);
    }
  }

  #call(node: SyntaxNode): Expr {
    const identifier = node.getChild('FunctionIdentifier') as SyntaxNode;
    const name = this.#text(identifier);
    const row = FUNCTIONS.get(name);
    if (row === undefined) throw this.error(identifier.from, `unknown function with name ${quote(name)}`);
    if (row.experimental && !this.#experimental)
      throw this.error(identifier.from, `function ${quote(name)} is not enabled`);
    return { kind: 'call', name, args: this.#args(node), span: { start: node.from, end: node.to } };
  }

  #args(node: SyntaxNode): Expr[] {
    return (node.getChild('FunctionCallBody') as SyntaxNode).getChildren('Expr').map((arg) => this.expression(arg));
  }

  #aggregate(node: SyntaxNode): Aggregate {
    const op = this.#text(node.getChild('AggregateOp') as SyntaxNode).toLowerCase();
    const row = AGGREGATIONS.get(op);
    if (row === undefined) throw this.error(node.from, `unknown aggregation ${quote(op)}`);
    const args = this.#args(node);
    if (args.length === 0) throw this.error(node.from, 'no arguments for aggregate expression provided');
    if (row.experimental && !this.#experimental) {
      throw this.error(
        node.from,
        `${op}() is experimental and must be enabled with --enable-feature=promql-experimental-functions`,
      );
    }
    const wanted = row.param === undefined ? 1 : 2;
    if (args.length !== wanted) {
      throw this.error(
        node.from,
        `wrong number of arguments for aggregate expression provided, expected ${wanted}, got ${args.length}`,
      );
    }
    const modifier = node.getChild('AggregateModifier');
    return {
      kind: 'aggregate',
      op,
      grouping: this.#labelList(modifier?.getChild('GroupingLabels')),
      without: modifier?.getChild('Without') != null,
      ...(wanted === 2 ? { param: args[0] as Expr } : {}),
      expr: args[wanted - 1] as Expr,
      span: { start: node.from, end: node.to },
    };
  }

  #labelList(node: SyntaxNode | null | undefined): string[] {
    const names: string[] = [];
    for (let child = node?.firstChild ?? null; child; child = child.nextSibling) {
      if (child.name === 'LabelName') names.push(this.#text(child));
      else if (child.name === 'QuotedLabelName') names.push(this.#quotedName(child));
    }
    return names;
  }

  #quotedName(node: SyntaxNode): string {
    const name = this.#string(node);
    if (name === '') throw this.error(node.from, 'unexpected string "\\"\\"", expected label');
    return name;
  }

  #selector(node: SyntaxNode): VectorSelector {
    const identifier = node.getChild('Identifier');
    const name = identifier ? this.#text(identifier) : '';
    const matchers: Matcher[] = [];
    const span = { start: node.from, end: node.to };
    const braces = node.getChild('LabelMatchers');
    for (let child = braces?.firstChild ?? null; child; child = child.nextSibling) {
      if (child.name === 'QuotedLabelName') {
        matchers.push({ name: '__name__', op: '=', value: this.#quotedName(child) });
      } else if (child.name === 'UnquotedLabelMatcher' || child.name === 'QuotedLabelMatcher') {
        matchers.push(this.#matcher(child));
      }
    }
    const named = matchers.filter((m) => m.name === '__name__');
    if (name !== '' && named.length > 0) {
      throw this.error(
        node.from,
        `metric name must not be set twice: ${quote(name)} or ${quote((named[0] as Matcher).value)}`,
      );
    }
    if (name !== '') matchers.push({ name: '__name__', op: '=', value: name });
    return { kind: 'selector', name, matchers, span };
  }

  #matcher(node: SyntaxNode): Matcher {
    const quoted = node.getChild('QuotedLabelName');
    const name = quoted ? this.#quotedName(quoted) : this.#text(node.getChild('LabelName') as SyntaxNode);
    const op = this.#text(node.getChild('MatchOp') as SyntaxNode) as MatchOp;
    const matcher = { name, op, value: this.#string(node.getChild('StringLiteral') as SyntaxNode) };
    try {
      compileMatcher(matcher);
    } catch (cause) {
      const reason = messageOf(cause);
      throw this.error(node.from, reason.replace(/^regular expression for label ".*?": /, ''));
    }
    return matcher;
  }

  /** A duration that must be more than 0: ranges and steps. */
  #positive(node: SyntaxNode): DurationExpr {
    const duration = this.#duration(node);
    if (duration.kind === 'duration' && duration.ms <= 0)
      throw this.error(node.from, 'duration must be greater than 0');
    return duration;
  }

  #duration(node: SyntaxNode): DurationExpr {
    const expr = this.#durationTree(node);
    const signed = expr.kind === 'durationUnary' && expr.expr.kind === 'duration';
    if (signed)
      return {
        kind: 'duration',
        ms: expr.op === '-' ? -(expr.expr as { ms: number }).ms : (expr.expr as { ms: number }).ms,
      };
    return expr;
  }

  #durationTree(node: SyntaxNode): DurationExpr {
    const [first, second] = [...node.getChildren('DurationExpr'), ...node.getChildren('OffsetDurationExpr')];
    const literal = node.getChild('NumberDurationLiteralInDurationContext');
    if (literal) return { kind: 'duration', ms: this.#milliseconds(literal) };
    if (node.getChild('DurationStep')) return { kind: 'durationStep' };
    if (node.getChild('DurationRange')) return { kind: 'durationRange' };
    const unary = node.getChild('UnaryOp');
    const lhs = this.#durationTree(first as SyntaxNode);
    if (unary) return { kind: 'durationUnary', op: this.#text(unary) as '-' | '+', expr: lhs };
    if (second === undefined) return { kind: 'durationParen', expr: lhs };
    const rhs = this.#durationTree(second);
    const op = node.getChild('DurationMinOf')
      ? 'min_of'
      : node.getChild('DurationMaxOf')
        ? 'max_of'
        : (this.#text((first as SyntaxNode).nextSibling as SyntaxNode) as '+');
    return { kind: 'durationBinary', op, lhs, rhs };
  }

  #milliseconds(node: SyntaxNode): number {
    const seconds = this.#number(node).value;
    if (!(Math.abs(seconds) < 2 ** 63 / 1e9)) throw this.error(node.from, 'duration out of range');
    return Math.round(seconds * 1000);
  }

  /** The magnitude of a number literal; its sign is a part of the chain. */
  #number(node: SyntaxNode): Extract<Expr, { kind: 'number' }> {
    const text = this.#text(node).replace(/^[+-]\s*(?:#.*\n\s*)*/, '');
    const duration = isDuration(text);
    const value = this.#literal(node, () => (duration ? parseDuration(text) / 1000 : parseNumber(text)));
    return { kind: 'number', value, duration, span: { start: node.to - text.length, end: node.to } };
  }

  #string(node: SyntaxNode): string {
    const text = this.#text(node);
    if (text[0] !== '`' && text.includes('\n')) throw this.error(node.from, 'unterminated quoted string');
    return this.#literal(node, () => unquote(text));
  }

  #literal<T>(node: SyntaxNode, read: () => T): T {
    try {
      return read();
    } catch (cause) {
      if (cause instanceof LiteralError) throw this.error(node.from, cause.message);
      throw cause;
    }
  }

  #text(node: SyntaxNode): string {
    return this.#query.slice(node.from, node.to);
  }
}
