import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compileMatcher, formatMatchers, type MatchOp } from '../../core/matchers.ts';

const accepts = (op: MatchOp, pattern: string, value: string) =>
  compileMatcher({ name: 'l', op, value: pattern }).test(value);

describe('compileMatcher', () => {
  test.each([
    ['=', 'a', 'a', true],
    ['=', 'a', 'ab', false],
    ['=', '', '', true],
    ['!=', 'a', '', true],
    ['!=', '', '', false],
    ['=~', 'a|b|', '', true],
    ['=~', 'a|b', 'b', true],
    ['=~', 'a|b', 'ab', false],
    ['=~', '(a|b)', 'a', true],
    ['=~', '(?:a|b)', 'b', true],
    ['=~', '(a)|(b)', 'b', true],
    ['=~', 'a\\.b', 'a.b', true],
    ['=~', 'a\\.b', 'axb', false],
    ['=~', 'a.b', 'a\nb', true],
    ['=~', '10\\.0\\.0\\.1:9100|10\\.0\\.0\\.2:9100', '10.0.0.2:9100', true],
    ['=~', 'foo.*', 'foo', true],
    ['=~', 'foo.+', 'foo', false],
    ['=~', 'foo.+', 'foo\n', true],
    ['=~', 'foo\\.*', 'foo...', true],
    ['=~', 'foo\\.*', 'foox', false],
    ['=~', 'a|b.*', 'a', true],
    ['=~', 'a|b.*', 'ax', false],
    ['=~', 'a|b.*', 'bx', true],
    ['=~', '(a|b).*', 'bx', true],
    ['=~', '.*', '', true],
    ['=~', '.+', '', false],
    ['=~', '', '', true],
    ['=~', '', 'a', false],
    ['=~', '(?i)foo', 'FOO', true],
    ['=~', '(?i:foo)', 'fOo', true],
    ['=~', 'a|ab', 'ab', true],
    ['=~', '^foo$', 'foo', true],
    ['=~', 'foo$', 'foo\n', false],
    ['=~', '.', '\u{1f600}', true],
    ['=~', '\\p{L}+', 'h\u00e9', true],
    ['!~', 'a|b', '', true],
    ['!~', 'a|b', 'a', false],
    ['!~', '.+', '', true],
  ] as const)('%s %j on %j: %s', (op, pattern, value, expected) => {
    expect(accepts(op, pattern, value)).toBe(expected);
  });

  test('matchesEmpty follows test, negation included', () => {
    expect(compileMatcher({ name: 'l', op: '!=', value: 'a' }).matchesEmpty).toBe(true);
    expect(compileMatcher({ name: 'l', op: '=~', value: 'a|' }).matchesEmpty).toBe(true);
    expect(compileMatcher({ name: 'l', op: '!~', value: 'a|' }).matchesEmpty).toBe(false);
    expect(compileMatcher({ name: 'l', op: '=~', value: '.+' }).matchesEmpty).toBe(false);
  });

  test('the fast paths agree with the engine', () => {
    const part = fc.constantFrom('a', 'b', 'ab', '\\.', '|', '.*', '.+', '(', ')', '(?:', '-', '\\-', '');
    fc.assert(
      fc.property(
        fc.array(part, { maxLength: 6 }),
        fc.array(fc.constantFrom('a', 'b', '.', '-'), { maxLength: 5 }),
        (parts, text) => {
          const pattern = parts.join('');
          const value = text.join('');
          let expected: boolean;
          try {
            // JavaScript's own engine agrees with RE2 on this alphabet.
            expected = new RegExp(`^(?:${pattern})$`, 's').test(value);
            new RegExp(pattern);
          } catch {
            expect(() => accepts('=~', pattern, value)).toThrow('regular expression for label "l"');
            return;
          }
          expect(accepts('=~', pattern, value)).toBe(expected);
        },
      ),
      { numRuns: 3000 },
    );
  });

  test.each([
    ['a(b', 'error parsing regexp: missing closing ): `a(b`'],
    ['a)(b', 'unexpected ): `a)(b`'],
    ['a\\', 'regular expression for label "l"'],
    ['(?=a)b', 'regular expression for label "l"'],
    ['a{1001}', 'invalid repeat count'],
    ['((a{100}){100}){100}', 'invalid repeat count'],
    [`${'x'.repeat(70_000)}.`, 'has 70001 characters, at most 65536 are accepted'],
    [`${'[ab]'.repeat(12_000)}.*c`, 'instructions, at most 10000 are accepted'],
  ])('refuses %#', (pattern, message) => {
    expect(() => compileMatcher({ name: 'l', op: '=~', value: pattern })).toThrow(message);
    expect(() => compileMatcher({ name: 'l', op: '=~', value: pattern })).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }) as Error,
    );
  });

  test('a large program is not tried on a long value', () => {
    const { test: match } = compileMatcher({ name: 'l', op: '=~', value: '(([a-z]{1,30}){1,30})!?' });
    expect(match('short')).toBe(true);
    expect(() => match('x'.repeat(4000))).toThrow('is too large');
  });

  test('an alternation of 5,000 literals is a set', () => {
    const hosts = Array.from({ length: 5000 }, (_, i) => `host-${i}`);
    const compiled = compileMatcher({ name: 'l', op: '=~', value: hosts.join('|') });
    expect(compiled.literals).toHaveLength(5000);
    expect(compiled.test('host-4999')).toBe(true);
    expect(compiled.test('host-5000')).toBe(false);
  });
});

test('formatMatchers', () => {
  expect(
    formatMatchers([
      { name: 'a', op: '=', value: 'x"y' },
      { name: 'b', op: '!~', value: 'z.*' },
    ]),
  ).toBe('{a="x\\"y",b!~"z.*"}');
});

test('keeps expressions of different labels apart', () => {
  const of = (name: string, value: string) => compileMatcher({ name, op: '=~', value });
  expect(of('a', 'b c+').test('c')).toBe(false);
  expect(of('a b', 'c+').test('c')).toBe(true);
  expect(of('a', 'b c+').test('b cc')).toBe(true);
  // Asked again, and past what is remembered.
  const matcher = of('x', '[0-9]*[02468]');
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 5_000; i++) expect(matcher.test(String(i))).toBe(i % 2 === 0);
  }
});
