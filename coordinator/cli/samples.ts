/** Samples as a person types them: `metric{label="value", ...} VALUE [TIMESTAMP]`, Prometheus's text format. */
import { SilverbackError } from '../../core/errors.ts';

export interface Typed {
  /** With `__name__`. */
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  /** Milliseconds since 1970. */
  readonly timestampMs: number;
}

const LINE = /^\s*([a-zA-Z_:][a-zA-Z0-9_:]*)?\s*(?:\{(.*)\})?\s+(\S+?)(?:\s+(\S+))?\s*$/;
const LABEL = /\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)/y;
const ESCAPES: Readonly<Record<string, string>> = { '\\\\': '\\', '\\"': '"', '\\n': '\n' };
const FORM = 'expected metric{label="value"} VALUE [MILLISECONDS]';

/** Undefined for an empty line or a comment. Throws INVALID_ARGUMENT naming the line and what is wrong with it. */
export function parseSample(line: string, nowMs: number): Typed | undefined {
  if (/^\s*(#.*)?$/.test(line)) return undefined;
  const match = LINE.exec(line);
  if (match === null || (match[1] === undefined && match[2] === undefined)) throw wrong(line, FORM);
  const [, name, inside = '', valueText = '', timeText] = match;
  const labels: Record<string, string> = name === undefined ? {} : { __name__: name };
  for (LABEL.lastIndex = 0; LABEL.lastIndex < inside.length; ) {
    const at = LABEL.lastIndex;
    const label = LABEL.exec(inside);
    if (label === null) {
      if (inside.slice(at).trim() === '') break;
      throw wrong(line, `expected label="value" at ${JSON.stringify(inside.slice(at))}`);
    }
    const [, key = '', text = ''] = label;
    if (labels[key] !== undefined) throw wrong(line, `label ${key} stands there twice`);
    labels[key] = text.replace(/\\[\\"n]/g, (escaped) => ESCAPES[escaped] as string);
  }
  const value = readValue(valueText);
  if (value === undefined) throw wrong(line, `${JSON.stringify(valueText)} is not a number`);
  if (timeText !== undefined && !/^\d{1,15}$/.test(timeText)) {
    throw wrong(line, `${JSON.stringify(timeText)} is not a time in whole milliseconds since 1970`);
  }
  return { labels, value, timestampMs: timeText === undefined ? nowMs : Number(timeText) };
}

function readValue(text: string): number | undefined {
  const infinity = /^([+-]?)inf(?:inity)?$/i.exec(text);
  if (infinity !== null) return infinity[1] === '-' ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  if (/^nan$/i.test(text)) return Number.NaN;
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : undefined;
}

function wrong(line: string, why: string): SilverbackError {
  const shown = line.length > 120 ? `${line.slice(0, 117)}...` : line;
  return new SilverbackError('INVALID_ARGUMENT', `${JSON.stringify(shown)}: ${why}`);
}
