/**
 * What could stand at the cursor. Half-written queries seldom parse, so the place is found by reading the text before
 * the cursor once: which bracket or string is open, and what stands before it.
 */

/** Where the cursor is. `from` is the offset where the word being typed begins, `word` that word up to the cursor. */
export type Place = { readonly from: number; readonly word: string } & (
  | { readonly kind: 'expression' | 'duration' | 'nothing' }
  | { readonly kind: 'label'; readonly metric: string | undefined }
  | { readonly kind: 'value'; readonly label: string; readonly metric: string | undefined }
);

interface Open {
  readonly bracket: string;
  readonly at: number;
}

/** `name` or `"name"` at the end of a text; what a `{` or an operator belongs to. */
const NAME_AT_END = /([a-zA-Z_:][\w:]*)\s*$/;
const LABEL_LIST = /\b(?:by|without|on|ignoring|group_left|group_right)\s*$/i;
const MATCHER_AT_END = /(?:([a-zA-Z_]\w*)|"((?:[^"\\]|\\.)*)")\s*(?:=~|!~|!=|=)\s*$/;

/** The place of `cursor` in `text`. */
export function findPlace(text: string, cursor: number): Place {
  const open: Open[] = [];
  let quote: Open | undefined;
  for (let at = 0; at < cursor; at++) {
    const c = text[at] as string;
    if (quote !== undefined) {
      if (c === '\\' && quote.bracket !== '`') at++;
      else if (c === quote.bracket) quote = undefined;
    } else if (c === '"' || c === "'" || c === '`') quote = { bracket: c, at };
    else if (c === '#') {
      const end = text.indexOf('\n', at);
      if (end < 0 || end >= cursor) return { kind: 'nothing', from: cursor, word: '' };
      at = end;
    } else if (c === '(' || c === '{' || c === '[') open.push({ bracket: c, at });
    else if (c === ')' || c === '}' || c === ']') open.pop();
  }
  const inner = open.at(-1);
  const before = text.slice(0, cursor);

  if (quote !== undefined) {
    const matcher = MATCHER_AT_END.exec(text.slice((inner?.at ?? -1) + 1, quote.at));
    const label = matcher?.[1] ?? matcher?.[2];
    const from = quote.at + 1;
    if (inner?.bracket !== '{' || label === undefined) return { kind: 'nothing', from: cursor, word: '' };
    return { kind: 'value', label, metric: metricBefore(text, inner.at), from, word: before.slice(from) };
  }
  if (inner?.bracket === '[') {
    const word = /[\w.]*$/.exec(before)?.[0] ?? '';
    return { kind: 'duration', from: cursor - word.length, word };
  }
  const word = /[a-zA-Z_:][\w:]*$/.exec(before)?.[0] ?? '';
  const from = cursor - word.length;
  // In the middle of a number: 5m is no name.
  if (/[\d.]$/.test(text.slice(0, from))) return { kind: 'nothing', from: cursor, word: '' };
  if (inner?.bracket === '{') {
    // Only at the start of a matcher: after a value comes a comma, after an operator a string.
    const at = /[{,]\s*$/.test(text.slice(0, from));
    return at ? { kind: 'label', metric: metricBefore(text, inner.at), from, word } : { kind: 'nothing', from, word };
  }
  if (inner?.bracket === '(' && LABEL_LIST.test(text.slice(0, inner.at))) {
    return { kind: 'label', metric: undefined, from, word };
  }
  return { kind: 'expression', from, word };
}

function metricBefore(text: string, brace: number): string | undefined {
  return NAME_AT_END.exec(text.slice(0, brace))?.[1];
}

/**
 * How well `word` finds `name`, larger is better; undefined when its letters do not occur in order. A prefix beats
 * the beginning of a part (`bytes` in `http_bytes_total`), which beats any substring, which beats scattered letters.
 */
export function score(name: string, word: string): number | undefined {
  if (word === '') return 0;
  const [inName, inWord] = [name.toLowerCase(), word.toLowerCase()];
  const at = inName.indexOf(inWord);
  const brevity = -name.length / 1000;
  if (at === 0) return 3 + brevity;
  if (at > 0) return (/[_:.\-/ ]/.test(inName[at - 1] as string) ? 2 : 1) + brevity;
  let from = 0;
  for (const c of inWord) {
    const found = inName.indexOf(c, from);
    if (found < 0) return undefined;
    from = found + 1;
  }
  return brevity;
}

/** A common name goes before others that fit in the same way. */
const COMMON_BONUS = 0.5;

/** The `limit` best of `items` for `word`, best first; equally good ones stay in order. */
export function rank<T>(
  items: readonly T[],
  word: string,
  limit: number,
  describe: (item: T) => { readonly name: string; readonly isCommon: boolean },
): T[] {
  const scored: { item: T; points: number }[] = [];
  for (const item of items) {
    const { name, isCommon } = describe(item);
    const points = score(name, word);
    if (points !== undefined) scored.push({ item, points: points + (isCommon && word !== '' ? COMMON_BONUS : 0) });
  }
  return scored
    .sort((a, b) => b.points - a.points)
    .slice(0, limit)
    .map(({ item }) => item);
}
