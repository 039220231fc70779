import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Expr } from '../../coordinator/promql/ast.ts';
import { QueryError } from '../../coordinator/promql/error.ts';
import { parse, parseSelector } from '../../coordinator/promql/parse.ts';
import { format, print } from '../../coordinator/promql/print.ts';
import { toTree } from '../../coordinator/promql/tree.ts';
import { scalarExpression, vectorExpression } from './arbitrary.ts';

const experimental = { experimental: true };

/** The tree without positions, matchers in one order, since printing sorts them, and no unary plus: Inf is printed as +Inf. */
const shape = (expr: Expr): unknown =>
  JSON.parse(JSON.stringify(expr), (key, value) => {
    if (key === 'span') return undefined;
    if (value?.kind === 'unary' && value.op === '+') return value.expr;
    if (key !== 'matchers') return value;
    return (value as object[]).map((matcher) => JSON.stringify(matcher)).sort();
  });

describe('print', () => {
  it('parses back to the same tree, on one line and on many', () => {
    fc.assert(
      fc.property(fc.oneof(vectorExpression, scalarExpression), (query) => {
        let expr: Expr;
        try {
          expr = parse(query, experimental);
        } catch {
          // Random operators can come to bind so that the types do not fit.
          return;
        }
        expect(shape(parse(print(expr), experimental))).toEqual(shape(expr));
        expect(shape(parse(format(expr), experimental))).toEqual(shape(expr));
      }),
      { numRuns: 400 },
    );
  });

  it.each([
    ['sum(foo)by(bar)', 'sum by (bar) (foo)'],
    ['sum without(a,b)(foo)', 'sum without (a, b) (foo)'],
    ['foo{b="2",a=~"1"}', 'foo{a=~"1",b="2"}'],
    ['{"a.b", "c d"!="x"}', '{"c d"!="x",__name__="a.b"}'],
    ['foo offset 90m @ 1.5', 'foo @ 1.500 offset 1h30m'],
    ['foo[300]', 'foo[5m]'],
    ['-1 ^ 2 + +3', '-1 ^ 2 + 3'],
    ['a/on(b)group_left(c)d', 'a / on (b) group_left (c) d'],
    ['1h', '1h'],
    ["'it\\'s'", '"it\'s"'],
    ['a[step()+5m:]', 'a[step() + 5m:]'],
  ])('writes %s as %s', (query, text) => {
    expect(print(parse(query, experimental))).toBe(text);
  });

  it('splits what does not fit on a line', () => {
    const query =
      'sum by (job, instance) (rate(http_request_duration_seconds_bucket{handler="/api/v1/items"}[5m])) / on (job) group_left () foo';
    expect(format(parse(query))).toBe(
      [
        '  sum by (job, instance) (rate(http_request_duration_seconds_bucket{handler="/api/v1/items"}[5m]))',
        '/ on (job) group_left ()',
        '  foo',
      ].join('\n'),
    );
  });
});

describe('parse', () => {
  it.each([
    ['a + b offset 5m', 'a + (b offset 5m)'],
    ['a + b offset 5m * c', 'a + ((b offset 5m) * c)'],
    ['-a ^ 2', '-(a ^ 2)'],
    ['-1 ^ 2', '-(1 ^ 2)'],
    ['a - b - c', '(a - b) - c'],
    ['2 ^ 3 ^ 2', '2 ^ (3 ^ 2)'],
    ['a and b or c unless d', '(a and b) or (c unless d)'],
    ['a == b + c', 'a == (b + c)'],
    ['-a * b', '(-a) * b'],
    ['a * -b ^ c', 'a * (-(b ^ c))'],
  ])('binds %s as %s', (query, explicit) => {
    const bare = (expr: unknown): unknown =>
      JSON.parse(JSON.stringify(expr), (_, value) => (value?.kind === 'paren' ? value.expr : value));
    expect(bare(shape(parse(query)))).toEqual(bare(shape(parse(explicit))));
  });

  it('keeps positions', () => {
    const expr = parse('sum(rate(foo[5m]))');
    expect(expr.span).toEqual({ start: 0, end: 18 });
    expect(expr.kind === 'aggregate' && expr.expr.span).toEqual({ start: 4, end: 17 });
  });

  it.each([
    ['', 'unknown position: parse error: no expression found in input'],
    ['sum(', '1:5: parse error: unclosed left parenthesis'],
    ['foo{a=b}', '1:7: parse error: unexpected identifier "b" in label matching, expected string'],
    ['é + foo bar', "1:1: parse error: unexpected character: 'é'"],
    ['"é" + foo bar', '1:12: parse error: unexpected identifier "bar"'],
    ['foo\n  + + "x', '2:7: parse error: unterminated quoted string'],
    [
      'limitk(1, foo)',
      '1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions',
    ],
    ['mad_over_time(foo[5m])', '1:1: parse error: function "mad_over_time" is not enabled'],
    ['topk(m)', '1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1'],
    ['sum(1)', '1:5: parse error: expected type instant vector in aggregation expression, got scalar'],
    ['m @ 1 @ 2', '1:1: parse error: @ <timestamp> may not be set multiple times'],
    [
      'sum(m) @ 5',
      '1:1: parse error: @ modifier must be preceded by an instant vector selector or range vector selector or a subquery',
    ],
    ['nosuch(m)', '1:1: parse error: unknown function with name "nosuch"'],
    ['abs(m, m)', '1:1: parse error: expected 1 argument(s) in call to "abs", got 2'],
    ['rate(m)', '1:6: parse error: expected type range vector in call to function "rate", got instant vector'],
    ['a + bool b', '1:3: parse error: bool modifier can only be used on comparison operators'],
    ['1 < 2', '1:3: parse error: comparisons between scalars must use BOOL modifier'],
    ['a and 1', '1:1: parse error: set operator "and" not allowed in binary scalar expression'],
    ['a + on (job) group_left (job) b', '1:3: parse error: label "job" must not occur in ON and GROUP clause at once'],
    ['{job=~".*"}', '1:1: parse error: vector selector must contain at least one non-empty matcher'],
    ['up{__name__="down"}', '1:1: parse error: metric name must not be set twice: "up" or "down"'],
    ['up[1m][1m]', '1:7: parse error: ranges only allowed for vector selectors'],
    ['up{job="api"', '1:13: parse error: unexpected end of input inside braces'],
    ['1[1m:]', '1:1: parse error: subquery is only allowed on instant vector, got scalar instead'],
    ['m[1m:0s]', '1:6: parse error: duration must be greater than 0'],
    ['m @ NaN', '1:1: parse error: timestamp out of bounds for @ modifier: NaN'],
    ['foo{a=~"("}', '1:5: parse error: error parsing regexp: missing closing ): `(`'],
  ])('says what is wrong with %j', (query, message) => {
    const attempt = (): Expr => parse(query);
    expect(attempt).toThrow(QueryError);
    expect(attempt).toThrow(message);
  });

  it('never fails with anything but a QueryError', () => {
    const fragment = fc.constantFrom(
      'foo',
      '{',
      '}',
      '(',
      ')',
      '[',
      ']',
      '5m',
      '"x"',
      '=',
      '=~',
      ',',
      'by',
      'sum',
      '+',
      '-',
      '@',
      'offset',
      'on',
      'rate',
      ' ',
      '1',
      '.',
      ':',
      "'",
      '`',
      '#',
      '\n',
      'é',
      '\\',
    );
    fc.assert(
      fc.property(fc.array(fragment, { maxLength: 14 }), (parts) => {
        try {
          const expr = parse(parts.join(''), experimental);
          expect(shape(parse(print(expr), experimental))).toEqual(shape(expr));
        } catch (error) {
          if (!(error instanceof QueryError)) throw error;
          expect(error.message).toMatch(/^(?:\d+:\d+|unknown position): parse error: ./);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('parseSelector', () => {
  it('answers the matchers', () => {
    expect(parseSelector('up{job=~"a|b"}')).toEqual([
      { name: 'job', op: '=~', value: 'a|b' },
      { name: '__name__', op: '=', value: 'up' },
    ]);
  });

  it.each(['up[5m]', 'up offset 5m', 'sum(up)', '1'])('refuses %s', (text) => {
    expect(() => parseSelector(text)).toThrow('is not a series selector');
  });
});

describe('toTree', () => {
  it('has the shape of parse_query', () => {
    expect(toTree(parse('sum by (a) (rate(foo{b!="c"}[5m] offset 1m)) > 1'))).toEqual({
      type: 'binaryExpr',
      op: '>',
      bool: false,
      matching: null,
      rhs: { type: 'numberLiteral', val: '1' },
      lhs: {
        type: 'aggregation',
        op: 'sum',
        param: null,
        grouping: ['a'],
        without: false,
        expr: {
          type: 'call',
          func: { name: 'rate', argTypes: ['matrix'], variadic: 0, returnType: 'vector' },
          args: [
            {
              type: 'matrixSelector',
              name: 'foo',
              range: 300_000,
              offset: 60_000,
              matchers: [
                { name: 'b', value: 'c', type: '!=' },
                { name: '__name__', value: 'foo', type: '=' },
              ],
              timestamp: null,
              startOrEnd: null,
              anchored: false,
              smoothed: false,
            },
          ],
        },
      },
    });
  });
});
