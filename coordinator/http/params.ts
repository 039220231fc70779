/**
 * Parameters of the Prometheus HTTP API (prometheus.io/docs/prometheus/latest/querying/api), with its rules and,
 * as far as clients look at them, its words.
 */
import { SilverbackError } from '../../core/errors.ts';
import type { Matcher } from '../../core/matchers.ts';
import { isDuration, parseDuration } from '../promql/literal.ts';
import { parseSelector } from '../promql/parse.ts';
import type { TimeRange } from '../query/queryable.ts';

/** A request's parameters: those of a form come before those of the URL. */
export class Params {
  readonly #values: URLSearchParams;

  constructor(query: string, form = '') {
    this.#values = new URLSearchParams(form === '' ? query : `${form}&${query}`);
  }

  /** The first value; empty when there is none. */
  text(name: string): string {
    return this.#values.get(name) ?? '';
  }

  all(name: string): string[] {
    return this.#values.getAll(name);
  }

  /** Milliseconds since 1970, of seconds with fractions or an RFC 3339 time; `fallback` when it is absent. */
  timeMs(name: string, fallback?: number): number {
    const text = this.text(name);
    if (text === '' && fallback !== undefined) return fallback;
    const timeMs = parseTimeMs(text);
    if (timeMs === undefined) throw invalid(name, `cannot parse ${JSON.stringify(text)} to a valid timestamp`);
    return timeMs;
  }

  /** Milliseconds, of seconds with fractions or a PromQL duration; undefined when it is absent and not `required`. */
  durationMs(name: string, required: true): number;
  durationMs(name: string): number | undefined;
  durationMs(name: string, required = false): number | undefined {
    const text = this.text(name);
    if (text === '' && !required) return undefined;
    const durationMs = parseDurationMs(text);
    if (durationMs === undefined) throw invalid(name, `cannot parse ${JSON.stringify(text)} to a valid duration`);
    return durationMs;
  }

  /** A limit of results; 0: none. */
  limit(): number {
    const text = this.text('limit');
    if (text === '') return 0;
    if (!/^[+-]?\d+$/.test(text)) throw invalid('limit', `${JSON.stringify(text)} is not a whole number`);
    const limit = Number(text);
    if (limit < 0) throw invalid('limit', 'limit must be non-negative');
    return limit;
  }

  /** `start` and `end` of the label endpoints: everything when they are absent. */
  range(): TimeRange {
    const fromMs = this.timeMs('start', MIN_MS);
    const toMs = this.timeMs('end', MAX_MS);
    if (toMs < fromMs) throw invalid('end', 'end timestamp must not be before start time');
    return { fromMs, toMs };
  }

  /** The `match[]` selectors. */
  selectors(): (readonly Matcher[])[] {
    return this.all('match[]').map((text) => {
      let matchers: readonly Matcher[];
      try {
        matchers = parseSelector(text);
      } catch (cause) {
        throw invalid('match[]', (cause as Error).message);
      }
      return matchers;
    });
  }
}

/** As far as JavaScript's dates go. */
const MIN_MS = -8_640_000_000_000_000;
const MAX_MS = 8_640_000_000_000_000;

/** The times that Go's API gives when it means "from the beginning" and "to the end". */
const EXTREMES: Readonly<Record<string, number>> = {
  '-292273086-05-16T16:47:06Z': MIN_MS,
  '292277025-08-18T07:12:54.999999999Z': MAX_MS,
};

const SECONDS = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;
const RFC3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/;

function parseTimeMs(text: string): number | undefined {
  if (SECONDS.test(text)) {
    const timeMs = Math.round(Number(text) * 1000);
    return Math.abs(timeMs) <= MAX_MS ? timeMs : undefined;
  }
  const extreme = EXTREMES[text];
  if (extreme !== undefined) return extreme;
  const match = RFC3339.exec(text);
  if (match === null) return undefined;
  const [, year, month, day, hour, minute, second, fraction = '', zone = 'Z'] = match;
  const wholeMs = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}${zone.toUpperCase()}`);
  // Date.parse takes February 30th for March 1st or 2nd.
  const valid =
    !Number.isNaN(wholeMs) && Number(day) <= new Date(Date.UTC(Number(year), Number(month), 0)).getUTCDate();
  return valid ? wholeMs + Math.floor(Number(`0${fraction}`) * 1000) : undefined;
}

function parseDurationMs(text: string): number | undefined {
  if (SECONDS.test(text)) {
    const durationMs = Math.round(Number(text) * 1000);
    return Number.isSafeInteger(durationMs) ? durationMs : undefined;
  }
  try {
    return isDuration(text) ? parseDuration(text) : undefined;
  } catch {
    return undefined; // over 292 years
  }
}

export function invalid(parameter: string, why: string): SilverbackError {
  return new SilverbackError('INVALID_ARGUMENT', `invalid parameter ${JSON.stringify(parameter)}: ${why}`);
}
