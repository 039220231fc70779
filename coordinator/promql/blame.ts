/**
 * Words for what the grammar could not take. Lezer says where it stopped; what Prometheus's lexer and parser would have
 * said there is worked out from the text before and after.
 */
import { isDuration, quote } from './literal.ts';

export interface Blame {
  /** Undefined when there is no text to point at. */
  readonly offset: number | undefined;
  readonly message: string;
}

const LABEL_CLAUSES = /(?:^|[^\w:])(?:by|without|on|ignoring|group_left|group_right)\s*$/i;
const AGGREGATORS = 'sum|avg|min|max|count|group|stddev|stdvar|quantile|topk|bottomk|limitk|limit_ratio|count_values';
const AGGREGATE_CLAUSE = new RegExp(`(?:^|[^\\w:])(?:${AGGREGATORS})\\s*(?:by|without)\\s*\\([^()]*\\)\\s*$`, 'i');
const KEYWORDS = new Set(
  `on ignoring group_left group_right by without bool offset and or unless atan2 ${AGGREGATORS.replaceAll('|', ' ')}`.split(
    ' ',
  ),
);

/** What is open at `at`: brackets, innermost last, and a string that never ends. */
function scan(query: string, at: number): { open: { bracket: string; at: number }[]; string: number | undefined } {
  const open: { bracket: string; at: number }[] = [];
  const token = /#[^\n]*|(["'])(?:[^\\\n]|\\[^\n])*?\1|`[^`]*`|["'`]|[[({]|[\])}]/g;
  for (let found = token.exec(query); found && found.index < at; found = token.exec(query)) {
    const text = found[0];
    if (text === '(' || text === '[' || text === '{') open.push({ bracket: text, at: found.index });
    else if (text === ')' || text === ']' || text === '}') open.pop();
    else if (text.length === 1 && text !== '#') return { open, string: found.index };
  }
  return { open, string: undefined };
}

/** Explains an error that Lezer found at `from`. */
export function blame(query: string, from: number): Blame {
  if (/^\s*$/.test(query)) return { offset: undefined, message: 'no expression found in input' };
  if (/^(?:\s|#[^\n]*(?:\n|$))*$/.test(query)) return { offset: 0, message: 'no expression found in input' };
  const space = /^(?:\s+|#[^\n]*)+/.exec(query.slice(from));
  const at = from + (space?.[0].length ?? 0);
  const { open, string } = scan(query, at + 1);
  if (string !== undefined) {
    return { offset: string, message: `unterminated ${query[string] === '`' ? 'raw' : 'quoted'} string` };
  }
  const number = badNumber(query, at);
  if (number) return number;
  const inside = scan(query, at).open.at(-1);
  const rest = query.slice(at);
  const before = query
    .slice(0, at)
    .replace(/#[^\n]*\n/g, ' ')
    .trimEnd();
  if (rest === '') return { offset: at, message: atEnd(before, inside, open.length) };
  return unexpected(rest, before, inside, at);
}

/** A number that goes on as none: `1..2`, `0x`, `5q`. */
function badNumber(query: string, at: number): Blame | undefined {
  const start = /(?<![\w:.])[\d.][\w.]*$/.exec(query.slice(0, at))?.index;
  if (start === undefined || !/^[\w.]/.test(query.slice(at))) return undefined;
  const text = query.slice(start);
  const taken = /^(?:0x[\da-f]*|(?:\d+[ywdhms]+)+\d*|\d+\.\d*\.|\d+e[+-]?|\d+)/i.exec(text)?.[0];
  return taken === undefined ? undefined : { offset: start, message: `bad number or duration syntax: ${quote(taken)}` };
}

function atEnd(before: string, inside: { bracket: string } | undefined, depth: number): string {
  if (inside?.bracket === '{') return 'unexpected end of input inside braces';
  if (inside?.bracket === '[') return 'unclosed left bracket';
  if (depth > 0) return 'unclosed left parenthesis';
  return `unexpected end of input${clause(before, undefined)}`;
}

function unexpected(
  rest: string,
  before: string,
  inside: { bracket: string; at: number } | undefined,
  at: number,
): Blame {
  const called = /([a-zA-Z_:][a-zA-Z0-9_:]*)$/.exec(before);
  if (rest[0] === '(' && called && !KEYWORDS.has((called[1] as string).toLowerCase())) {
    return { offset: called.index, message: `unknown function with name ${quote(called[1] as string)}` };
  }
  if (rest[0] === ')' && before.endsWith(',') && inside?.bracket === '(') {
    return { offset: before.length - 1, message: 'trailing commas not allowed in function call args' };
  }
  const character = `'${String.fromCodePoint(rest.codePointAt(0) as number)}'`;
  if (inside === undefined && rest[0] === ')') return { offset: at + 1, message: "unexpected right parenthesis ')'" };
  if (inside === undefined && /^[}\]]/.test(rest)) return { offset: at, message: `unexpected character: ${character}` };
  if (rest[0] === '!' && rest.length > 1 && !/^![=~]/.test(rest)) {
    return { offset: at, message: `unexpected character after '!': '${rest[1]}'` };
  }
  if (inside?.bracket === '[' && /^[a-zA-Z"'`]/.test(rest)) {
    return { offset: at, message: `unexpected character in duration expression: ${character}` };
  }
  if (inside?.bracket === '{' && /^[^\s\w",'`={}!~]/.test(rest)) {
    return { offset: at, message: `unexpected character inside braces: ${character}` };
  }
  const token = describe(rest, inside?.bracket === '{');
  return {
    offset: at,
    message: `unexpected ${token}${inside?.bracket === '{' ? matching(before) : clause(before, inside)}`,
  };
}

/** What a list of matchers would go on with. */
function matching(before: string): string {
  const expected = /[{,]$/.test(before)
    ? 'identifier or "}"'
    : /(?:=~?|!=|!~)$/.test(before)
      ? 'string'
      : /["'`]$/.test(before)
        ? '"," or "}"'
        : 'label matching operator';
  return ` in label matching, expected ${expected}`;
}

/** The clause that the text before stands in, and what it would go on with. */
function clause(before: string, inside: { bracket: string; at: number } | undefined): string {
  if (LABEL_CLAUSES.test(before)) return ' in grouping opts, expected "("';
  if (inside?.bracket === '(' && LABEL_CLAUSES.test(before.slice(0, inside.at))) {
    return ` in grouping opts, expected ${/[(,]$/.test(before) ? 'label' : '"," or ")"'}`;
  }
  if (/(?:^|[^\w:])offset\s*[+-]?$/i.test(before)) return ' in offset, expected number, duration, step(), or range()';
  if (/@(?:\s*(?:start|end))?$/i.test(before)) return ' in @, expected timestamp';
  return AGGREGATE_CLAUSE.test(before) ? ' in aggregation' : '';
}

/** The token at the start of `rest` as Prometheus's lexer describes it. In braces there are no keywords. */
function describe(rest: string, inBraces: boolean): string {
  const word = /^[a-zA-Z_:][a-zA-Z0-9_:]*/.exec(rest)?.[0];
  if (word !== undefined) {
    const lower = word.toLowerCase();
    if (inBraces || !KEYWORDS.has(lower)) return `identifier ${quote(word)}`;
    return /^(?:and|or|unless|atan2)$/.test(lower) ? `<op:${lower}>` : `<${lower}>`;
  }
  const number = /^[0-9.][0-9a-zA-Z_.]*/.exec(rest)?.[0];
  if (number !== undefined) return `${isDuration(number) ? 'duration' : 'number'} ${quote(number)}`;
  const string = /^(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)/.exec(rest)?.[0];
  if (string !== undefined) return `string ${quote(string)}`;
  const operator = /^(?:==|!=|<=|>=|=~|!~|[-+*/%^<>@])/.exec(rest)?.[0];
  if (operator !== undefined) return `<op:${operator}>`;
  const bracket = /^[[\](){},:;=]/.exec(rest)?.[0];
  if (bracket !== undefined) return quote(bracket);
  return `character: '${String.fromCodePoint(rest.codePointAt(0) as number)}'`;
}
