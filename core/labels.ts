/**
 * Label sets and series identity.
 *
 * Identity bytes: labels sorted by name as UTF-8 bytes, empty values dropped, each label as
 * varint(name length) name varint(value length) value (LEB128, lengths in bytes). Two series are the
 * same exactly when these bytes are. ARCHITECTURE.md holds the rule and its test vectors.
 *
 * Strings here are JavaScript strings without lone surrogates, so that a string and its UTF-8 bytes are
 * two spellings of one thing.
 */
import { SilverbackError } from './errors.ts';

declare const labelsBrand: unique symbol;

/** A label set, flat: [name0, value0, name1, value1, ...], names sorted by UTF-8 bytes, unique, no empty value. */
export type Labels = readonly string[] & { readonly [labelsBrand]: true };

/** Bounds of a label set. Lengths are UTF-8 bytes. */
export interface LabelLimits {
  readonly maxLabelCount: number;
  readonly maxNameBytes: number;
  readonly maxValueBytes: number;
}

export const DEFAULT_LABEL_LIMITS: LabelLimits = { maxLabelCount: 64, maxNameBytes: 1024, maxValueBytes: 4096 };

/** For what was checked when it came in. */
export const UNLIMITED: LabelLimits = {
  maxLabelCount: Number.POSITIVE_INFINITY,
  maxNameBytes: Number.POSITIVE_INFINITY,
  maxValueBytes: Number.POSITIVE_INFINITY,
};

/** The label set without labels. */
export const NO_LABELS: Labels = brand([]);

/** In `u` mode a pair of surrogates is one character, so this only finds halves. */
const LONE_SURROGATE = /\p{Surrogate}/u;

const utf8 = new TextEncoder();
const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The one place where a checked array becomes a label set. */
function brand(flat: string[]): Labels {
  return flat as readonly string[] as Labels;
}

/**
 * Makes a label set of pairs in any order; empty values are dropped, as Prometheus does. Throws INVALID_LABELS for an
 * empty or repeated name, a lone surrogate (it has no UTF-8), or a broken limit.
 */
export function makeLabels(
  pairs: Iterable<readonly [name: string, value: string]> | Readonly<Record<string, string>>,
  limits: LabelLimits = DEFAULT_LABEL_LIMITS,
): Labels {
  const kept: (readonly [string, string])[] = [];
  const entries = Symbol.iterator in pairs ? (pairs as Iterable<readonly [string, string]>) : Object.entries(pairs);
  for (const pair of entries) {
    const [name, value] = pair;
    if (name === '') throw invalid(`a label with value ${quote(value)} has an empty name`);
    checkText(name, `label name ${quote(name)}`);
    if (value === '') continue;
    checkText(value, `value ${quote(value)} of label ${quote(name)}`);
    checkLength(name, limits.maxNameBytes, () => `label name ${quote(name)}`);
    checkLength(value, limits.maxValueBytes, () => `value ${quote(value)} of label ${quote(name)}`);
    kept.push(pair);
  }
  if (kept.length > limits.maxLabelCount) {
    throw invalid(`${kept.length} labels where at most ${limits.maxLabelCount} are allowed`);
  }
  kept.sort((a, b) => compareUtf8(a[0], b[0]));
  const flat: string[] = [];
  for (const [name, value] of kept) {
    if (flat.length > 0 && flat[flat.length - 2] === name) throw invalid(`label name ${quote(name)} occurs twice`);
    flat.push(name, value);
  }
  return brand(flat);
}

/** The label's value; the empty string when the label is absent, as matchers see it. */
export function labelValue(labels: Labels, name: string): string {
  for (let i = 0; i < labels.length; i += 2) {
    if (labels[i] === name) return labels[i + 1] as string;
  }
  return '';
}

/** Order of label sets: label by label, name before value, by UTF-8 bytes; a prefix comes first. Negative, 0, positive. */
export function compareLabels(a: Labels, b: Labels): number {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i++) {
    const order = compareUtf8(a[i] as string, b[i] as string);
    if (order !== 0) return order;
  }
  return a.length - b.length;
}

/** Order of two strings by their UTF-8 bytes, which is the order of their code points. Negative, 0, positive. */
export function compareUtf8(a: string, b: string): number {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i++) {
    const unitA = a.charCodeAt(i);
    const unitB = b.charCodeAt(i);
    if (unitA !== unitB) return rank(unitA) - rank(unitB);
  }
  return a.length - b.length;
}

/** Sorts texts by their UTF-8 bytes, in place. */
export function sortUtf8(texts: string[]): string[] {
  // The engine's own order, of UTF-16 units, is several times faster and the same below the surrogates.
  return texts.some((text) => LATE_UNITS.test(text)) ? texts.sort(compareUtf8) : texts.sort();
}

const LATE_UNITS = /[\ud800-\uffff]/;

/** UTF-16 order differs from code point order in one thing: surrogates (code points past U+FFFF) must come after U+E000..U+FFFF. */
function rank(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}

/** `{name="value", ...}` with Prometheus's escapes, the metric name in front: for messages and logs. */
export function formatLabels(labels: Labels): string {
  const parts: string[] = [];
  for (let i = 0; i < labels.length; i += 2) {
    if (labels[i] !== '__name__') parts.push(`${labels[i]}=${quote(labels[i + 1] as string)}`);
  }
  const metric = labelValue(labels, '__name__');
  return parts.length === 0 && metric !== '' ? metric : `${metric}{${parts.join(', ')}}`;
}

/** The identity bytes of a label set. */
export function encodeIdentity(labels: Labels): Uint8Array {
  let bound = 0;
  for (const text of labels) bound += 5 + 3 * text.length;
  const bytes = new Uint8Array(bound);
  let at = 0;
  for (const text of labels) {
    const varintBytes = varintLength(utf8Length(text));
    const { written } = utf8.encodeInto(text, bytes.subarray(at + varintBytes));
    let rest = written;
    while (rest >= 0x80) {
      bytes[at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    bytes[at++] = rest;
    at += written;
  }
  return bytes.slice(0, at);
}

/**
 * The label set of identity bytes from outside. Checks everything that makes them an identity: structure, shortest
 * varints, UTF-8, order, uniqueness, no empty name or value, limits. Throws INVALID_LABELS.
 */
export function decodeIdentity(identity: Uint8Array, limits: LabelLimits = DEFAULT_LABEL_LIMITS): Labels {
  const flat: string[] = [];
  const buffer = Buffer.from(identity.buffer, identity.byteOffset, identity.length);
  let at = 0;
  while (at < identity.length) {
    if (flat.length === 2 * limits.maxLabelCount) throw invalid(`more than ${limits.maxLabelCount} labels`);
    const name = text(limits.maxNameBytes, undefined);
    const value = text(limits.maxValueBytes, name);
    if (flat.length > 0 && compareUtf8(flat[flat.length - 2] as string, name) >= 0) {
      throw invalid(`label name ${quote(name)} does not sort after ${quote(flat[flat.length - 2] as string)}`);
    }
    flat.push(name, value);
  }
  return brand(flat);

  /** The next text: a name, or the value of the label `of`. */
  function text(maxBytes: number, of: string | undefined): string {
    const start = at;
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = identity[at++];
      if (byte === undefined || shift > 28)
        throw invalid(`the length at byte ${start} of an identity is cut short or too long`);
      length += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) break;
    }
    if (at - start !== varintLength(length))
      throw invalid(`the length at byte ${start} of an identity is not in shortest form`);
    if (length === 0) throw invalid(`${what(of)} at byte ${start} of an identity is empty`);
    if (length > maxBytes)
      throw invalid(`${what(of)} at byte ${start} of an identity has ${length} bytes, at most ${maxBytes} are allowed`);
    const end = at + length;
    if (end > identity.length) throw invalid(`${what(of)} at byte ${start} of an identity is cut short`);
    let ascii = true;
    for (let i = at; ascii && i < end; i++) ascii = (identity[i] as number) < 0x80;
    const from = at;
    at = end;
    // Nearly every text, in a fraction of the decoder's time.
    if (ascii) return buffer.toString('latin1', from, end);
    try {
      return strictUtf8.decode(identity.subarray(from, end));
    } catch (cause) {
      throw new SilverbackError('INVALID_LABELS', `${what(of)} at byte ${start} of an identity is not UTF-8`, {
        cause,
      });
    }
  }
}

/** A text of an identity, for messages. */
function what(of: string | undefined): string {
  return of === undefined ? 'label name' : `value of label ${quote(of)}`;
}

function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 128)) length++;
  return length;
}

/** Length in UTF-8 bytes of a string without lone surrogates. */
function utf8Length(text: string): number {
  let length = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    // A pair of surrogates is two units and four bytes: each half adds one.
    if (unit >= 0x80) length += unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 1 : 2;
  }
  return length;
}

function checkText(text: string, what: string): void {
  if (LONE_SURROGATE.test(text)) throw invalid(`${what} has a lone surrogate, which has no UTF-8`);
}

function checkLength(text: string, maxBytes: number, what: () => string): void {
  // Three bytes a unit is the most UTF-8 takes, so short texts need no count.
  if (text.length * 3 <= maxBytes) return;
  const length = utf8Length(text);
  if (length > maxBytes) throw invalid(`${what()} has ${length} bytes, at most ${maxBytes} are allowed`);
}

function invalid(message: string): SilverbackError {
  return new SilverbackError('INVALID_LABELS', message);
}

/** Quoted for a message, cut when it is long. */
function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text);
}
