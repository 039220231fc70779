/**
 * Label matchers as PromQL and the read path use them.
 *
 * Regular expressions have RE2's syntax and semantics (Prometheus: `^(?s:...)$`), through `re2js`, which
 * matches in linear time. Linear is not yet bounded, so pattern length, program size and the product of
 * program size and value length are limited here. The shapes that dashboards are made of (a literal, an
 * alternation of literals, a literal prefix) never reach the engine.
 */
import { RE2JS, RE2JSException } from 're2js';
import { SilverbackError } from './errors.ts';

export type MatchOp = '=' | '!=' | '=~' | '!~';

/** A matcher on an absent label sees the empty string, as in Prometheus. Regular expressions are RE2 and fully anchored. */
export interface Matcher {
  readonly name: string;
  readonly op: MatchOp;
  readonly value: string;
}

/** A matcher, ready to be asked. */
export interface CompiledMatcher {
  readonly name: string;
  /** Negation included: true when a series whose label `name` has this value ('' when absent) matches. */
  readonly test: (value: string) => boolean;
  /** Whether series without the label match. */
  readonly matchesEmpty: boolean;
  /** For `!=` and `!~`: `test` is the negation of `positive`. */
  readonly negated: boolean;
  /** The same without the negation. */
  readonly positive: (value: string) => boolean;
  /** All values `positive` accepts, where they can be listed. No duplicates. */
  readonly literals: readonly string[] | undefined;
}

/** Longest accepted pattern, in UTF-16 code units. */
const MAX_PATTERN_LENGTH = 64 * 1024;
/** Largest accepted compiled program, in instructions. Alternations of literals have no program. */
const MAX_PROGRAM_SIZE = 10_000;
/** Bound on program size times value length: about 30 ms in the slowest case. */
const MAX_MATCH_STEPS = 2_000_000;

/**
 * Compiles a matcher. Costs microseconds for literals and up to some 10 ms for the largest patterns.
 * Throws INVALID_ARGUMENT for a pattern that is malformed or past the limits; `test` throws it for a
 * value that is too long for a large pattern.
 */
export function compileMatcher(matcher: Matcher): CompiledMatcher {
  const { name, op, value } = matcher;
  const negated = op === '!=' || op === '!~';
  let positive: (value: string) => boolean;
  let literals: readonly string[] | undefined;
  if (op === '=' || op === '!=') {
    literals = [value];
    positive = (candidate) => candidate === value;
  } else {
    literals = literalAlternatives(value);
    if (literals === undefined) positive = compilePattern(name, value);
    else if (literals.length === 1) {
      const only = literals[0];
      positive = (candidate) => candidate === only;
    } else {
      const set = new Set(literals);
      positive = (candidate) => set.has(candidate);
    }
  }
  const test = negated ? (candidate: string) => !positive(candidate) : positive;
  return { name, test, matchesEmpty: test(''), negated, positive, literals };
}

/** `{a="x",b=~"y"}`, for messages. */
export function formatMatchers(matchers: readonly Matcher[]): string {
  return `{${matchers.map((matcher) => `${matcher.name}${matcher.op}${JSON.stringify(matcher.value)}`).join(',')}}`;
}

/** Compiled expressions, with what they said of short values: a query tries the same values in every shard. */
const recent = new Map<string, (value: string) => boolean>();
const RECENT_COUNT = 64;
const REMEMBERED_COUNT = 2_048;
const REMEMBERED_LENGTH = 128;

function compilePattern(name: string, pattern: string): (value: string) => boolean {
  const key = `${name.length} ${name}${pattern}`;
  let positive = recent.get(key);
  if (positive !== undefined) return positive;
  positive = compileAnew(name, pattern);
  if (pattern.length > 1_024) return positive;
  if (recent.size === RECENT_COUNT) recent.delete(recent.keys().next().value as string);
  recent.set(key, positive);
  return positive;
}

function compileAnew(name: string, pattern: string): (value: string) => boolean {
  if (pattern === '.*') return () => true;
  if (pattern === '.+') return (value) => value !== '';
  const body = pattern.slice(0, -2);
  const literal = literalText(body);
  if (literal !== undefined && pattern.endsWith('.*')) return (value) => value.startsWith(literal);
  if (literal !== undefined && pattern.endsWith('.+')) {
    return (value) => value.length > literal.length && value.startsWith(literal);
  }
  const shown = pattern.length > 200 ? `${pattern.slice(0, 200)}...` : pattern;
  if (pattern.length > MAX_PATTERN_LENGTH) {
    throw new SilverbackError(
      'INVALID_ARGUMENT',
      `regular expression for label "${name}" has ${pattern.length} characters, at most ${MAX_PATTERN_LENGTH} are accepted: ${shown}`,
    );
  }
  let regex: RE2JS;
  try {
    regex = RE2JS.compile(pattern, RE2JS.DOTALL);
  } catch (error) {
    if (!(error instanceof RE2JSException)) throw error;
    // The engine prepends the flags it was given to the pattern it quotes.
    const reason = error.message.replace('`(?s)', '`');
    throw new SilverbackError('INVALID_ARGUMENT', `regular expression for label "${name}": ${reason}`);
  }
  const size = regex.programSize();
  if (size > MAX_PROGRAM_SIZE) {
    throw new SilverbackError(
      'INVALID_ARGUMENT',
      `regular expression for label "${name}" compiles to ${size} instructions, at most ${MAX_PROGRAM_SIZE} are accepted: ${shown}`,
    );
  }
  const maxLength = Math.floor(MAX_MATCH_STEPS / size);
  const said = new Map<string, boolean>();
  return (value) => {
    const known = said.get(value);
    if (known !== undefined) return known;
    if (value.length > maxLength) {
      throw new SilverbackError(
        'INVALID_ARGUMENT',
        `regular expression for label "${name}" is too large (${size} instructions) for a value of ${value.length} characters, at most ${maxLength} are accepted: ${shown}`,
      );
    }
    const matches = regex.testExact(value);
    if (value.length <= REMEMBERED_LENGTH) {
      if (said.size === REMEMBERED_COUNT) said.clear();
      said.set(value, matches);
    }
    return matches;
  };
}

const META = new Set('\\.+*?()|[]{}^$');

/** The literals that `pattern` is an alternation of, or undefined if it is anything else. One group around it is seen through. */
function literalAlternatives(pattern: string): string[] | undefined {
  let inner = pattern;
  if (inner.startsWith('(?:') && inner.endsWith(')')) inner = inner.slice(3, -1);
  else if (inner.startsWith('(') && inner.endsWith(')')) inner = inner.slice(1, -1);
  const found = new Set<string>();
  let current = '';
  for (let i = 0; i < inner.length; i++) {
    const char = inner[i] as string;
    if (char === '|') {
      found.add(current);
      current = '';
    } else if (char === '\\') {
      const escaped = inner[++i];
      if (escaped === undefined || !isPunctuation(escaped)) return undefined;
      current += escaped;
    } else if (META.has(char)) return undefined;
    else current += char;
  }
  found.add(current);
  return [...found];
}

function literalText(pattern: string): string | undefined {
  if (pattern.startsWith('(')) return undefined;
  const literals = literalAlternatives(pattern);
  return literals?.length === 1 && !pattern.includes('|') ? literals[0] : undefined;
}

/** RE2 accepts a backslash before any ASCII punctuation, and it stands for that character. */
function isPunctuation(char: string): boolean {
  return /^[!-/:-@[-`{-~]$/.test(char);
}
