/** PromQL's literals, both ways: strings with Go's escapes, numbers, durations. */
import type { Labels } from '../../core/labels.ts';

/** A literal that breaks a rule; the parser adds where it stands. */
export class LiteralError extends Error {}

const SIMPLE_ESCAPES: Readonly<Record<string, number>> = {
  a: 7,
  b: 8,
  f: 12,
  n: 10,
  r: 13,
  t: 9,
  v: 11,
  '\\': 92,
};

/**
 * The text of a quoted string: `"..."` and `'...'` with Go's escapes, `` `...` `` as it is. `\x` and
 * octal escapes are bytes, so that `"\xc3\xbc"` is one character. Throws a LiteralError.
 */
export function unquote(quoted: string): string {
  const quote = quoted[0] as string;
  if (quoted.length < 2 || quoted[quoted.length - 1] !== quote || !closes(quoted)) {
    throw new LiteralError(quote === '`' ? 'unterminated raw string' : 'unterminated quoted string');
  }
  const body = quoted.slice(1, -1);
  if (quote === '`' || !body.includes('\\')) return body;
  const parts: Uint8Array[] = [];
  const text = new TextEncoder();
  let from = 0;
  for (let i = body.indexOf('\\'); i >= 0; i = body.indexOf('\\', from)) {
    parts.push(text.encode(body.slice(from, i)));
    const [bytes, next] = unescaped(body, i + 1, quote);
    parts.push(bytes);
    from = next;
  }
  parts.push(text.encode(body.slice(from)));
  return decodeUtf8(Buffer.concat(parts));
}

/** The bytes as text. A byte that is no UTF-8 becomes a lone surrogate, which no label's name or value can hold. */
function decodeUtf8(bytes: Uint8Array): string {
  const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  let out = '';
  for (let at = 0; at < bytes.length; ) {
    const lead = bytes[at] as number;
    const length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    try {
      out += strict.decode(bytes.subarray(at, at + length));
      at += length;
    } catch {
      out += String.fromCharCode(0xdc00 + lead);
      at++;
    }
  }
  return out;
}

/** Prometheus with UTF-8 names takes any text but the empty one. */
export function isLabelName(name: string): boolean {
  return name !== '' && !/\p{Surrogate}/u.test(name);
}

/** Whether the last character closes the string, and is not escaped itself. */
function closes(quoted: string): boolean {
  if (quoted[0] === '`') return true;
  let backslashes = 0;
  for (let i = quoted.length - 2; i > 0 && quoted[i] === '\\'; i--) backslashes++;
  return backslashes % 2 === 0;
}

/** The bytes of the escape that follows the backslash before `at`, and where the text goes on. */
function unescaped(body: string, at: number, quote: string): [Uint8Array, number] {
  const c = body[at] as string;
  const simple = SIMPLE_ESCAPES[c];
  if (simple !== undefined) return [Uint8Array.of(simple), at + 1];
  if (c === quote) return [Uint8Array.of(quote.charCodeAt(0)), at + 1];
  const digits = c === 'x' ? 2 : c === 'u' ? 4 : c === 'U' ? 8 : c >= '0' && c <= '7' ? 3 : 0;
  const octal = digits === 3;
  const start = octal ? at : at + 1;
  const hex = body.slice(start, start + digits);
  if (digits === 0 || hex.length < digits || !(octal ? /^[0-7]+$/ : /^[0-9a-fA-F]+$/).test(hex)) {
    throw new LiteralError(
      `unknown escape sequence U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')} '${c}'`,
    );
  }
  const code = Number.parseInt(hex, octal ? 8 : 16);
  if (octal || c === 'x') {
    if (code > 255) throw new LiteralError('octal escape value > 255');
    return [Uint8Array.of(code), start + digits];
  }
  if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
    throw new LiteralError('escape sequence is an invalid Unicode code point');
  }
  return [new TextEncoder().encode(String.fromCodePoint(code)), start + digits];
}

/** As Go's `strconv.Quote`: control and other unprintable characters are escaped, the rest stays. */
export function quote(text: string): string {
  let out = '"';
  for (const c of text) {
    const code = c.codePointAt(0) as number;
    if (c === '"' || c === '\\') out += `\\${c}`;
    else if (code < 0x80 && code >= 0x20 && code !== 0x7f) out += c;
    else if (code < 0x80) out += QUOTED_CONTROLS[code] ?? `\\x${code.toString(16).padStart(2, '0')}`;
    else if (!/[\p{C}\p{Z}]/u.test(c)) out += c;
    else if (code > 0xffff) out += `\\U${code.toString(16).padStart(8, '0')}`;
    else out += `\\u${code.toString(16).padStart(4, '0')}`;
  }
  return `${out}"`;
}

/** A label's name as it is written: in quotes when the old rules for names do not allow it. */
export function labelName(name: string): string {
  return /^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name) ? name : quote(name);
}

const QUOTED_CONTROLS: Readonly<Record<number, string>> = {
  7: '\\a',
  8: '\\b',
  9: '\\t',
  10: '\\n',
  11: '\\v',
  12: '\\f',
  13: '\\r',
};

const UNIT_MS: Readonly<Record<string, number>> = {
  y: 365 * 86_400_000,
  w: 7 * 86_400_000,
  d: 86_400_000,
  h: 3_600_000,
  m: 60_000,
  s: 1000,
  ms: 1,
};

const DURATION = /^(?:\d+y)?(?:\d+w)?(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?(?:\d+ms)?$/;

export function isDuration(text: string): boolean {
  return /[ywdhms]$/.test(text) && DURATION.test(text);
}

/** Milliseconds of `1h30m`. Throws a LiteralError when it is past what fits in Go's time.Duration (292 years). */
export function parseDuration(text: string): number {
  let ms = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)(ms|[ywdhms])/g))
    ms += Number(count) * (UNIT_MS[unit as string] as number);
  if (ms > 9_223_372_036_854) throw new LiteralError('duration out of range');
  return ms;
}

/** `5400000` ms is `1h30m`; whole years, weeks and days only, as Prometheus writes it. */
export function formatDuration(ms: number): string {
  ms = Math.trunc(ms);
  if (ms === 0) return '0s';
  let out = '';
  for (const unit of ['y', 'w', 'd', 'h', 'm', 's', 'ms']) {
    const size = UNIT_MS[unit] as number;
    const exact = size >= 86_400_000;
    if ((exact && ms % size !== 0) || ms < size) continue;
    const count = Math.floor(ms / size);
    out += `${count}${unit}`;
    ms -= count * size;
  }
  return out;
}

/** A number as the lexer takes it: decimal, hexadecimal, octal with a leading 0, underscores, Inf, NaN. */
export function parseNumber(text: string): number {
  const plain = text.replaceAll('_', '');
  const lower = plain.toLowerCase();
  if (lower === 'inf') return Infinity;
  if (lower === 'nan') return Number.NaN;
  if (/^0x[0-9a-f]+$/.test(lower)) return Number(lower);
  if (/^0[0-7]+$/.test(plain)) return Number.parseInt(plain, 8);
  const value = Number(plain);
  if (Number.isNaN(value)) throw new LiteralError(`bad number or duration syntax: ${quote(text)}`);
  if (!Number.isFinite(value))
    throw new LiteralError(`error parsing number: strconv.ParseFloat: parsing ${quote(text)}: value out of range`);
  return value;
}

/** As Go's `strconv.FormatFloat(v, 'f', -1, 64)`: the shortest digits that read back, never an exponent. */
export function formatFloat(v: number): string {
  if (v === Infinity) return '+Inf';
  if (v === -Infinity) return '-Inf';
  if (v === 0) return Object.is(v, -0) ? '-0' : '0';
  const text = String(v);
  const e = text.indexOf('e');
  if (e < 0) return text;
  const exponent = Number(text.slice(e + 1));
  const negative = text[0] === '-';
  const mantissa = text.slice(negative ? 1 : 0, e);
  const dot = mantissa.indexOf('.');
  const digits = mantissa.replace('.', '');
  const point = (dot < 0 ? mantissa.length : dot) + exponent;
  const body =
    point <= 0
      ? `0.${'0'.repeat(-point)}${digits}`
      : point >= digits.length
        ? digits + '0'.repeat(point - digits.length)
        : `${digits.slice(0, point)}.${digits.slice(point)}`;
  return negative ? `-${body}` : body;
}

/** As Prometheus writes label sets in errors: the metric name is one of the labels. */
export function labelString(labels: Labels): string {
  const parts: string[] = [];
  for (let i = 0; i < labels.length; i += 2)
    parts.push(`${labelName(labels[i] as string)}=${quote(labels[i + 1] as string)}`);
  return `{${parts.join(', ')}}`;
}
