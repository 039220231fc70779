/**
 * Prometheus's JSON of query results, straight from the columns to bytes: no object per point.
 * Number forms are those of Prometheus's `util/jsonutil`: the same as ECMAScript's, but for +Inf, -0 and e-07.
 */
import type { Labels } from '../../core/labels.ts';
import type { Value } from './value.ts';

/** A sample value as Prometheus writes it in JSON (without the quotes). */
export function formatValue(v: number): string {
  if (v === 0) return Object.is(v, -0) ? '-0' : '0';
  if (v === Infinity) return '+Inf';
  if (v === -Infinity) return '-Inf';
  // Go writes exponents with two digits at least: 7.21e-07.
  return Math.abs(v) < 1e-6 ? String(v).replace(/e-(\d)$/, 'e-0$1') : String(v);
}

/** Milliseconds as a JSON number of seconds: 1500 is `1.500`, 1000 is `1`. */
export function formatTime(ms: number): string {
  const negative = ms < 0;
  const abs = negative ? -ms : ms;
  const fraction = abs % 1000;
  const whole = (abs - fraction) / 1000;
  return `${negative ? '-' : ''}${whole}${fraction === 0 ? '' : `.${String(fraction).padStart(3, '0')}`}`;
}

/** A label set as a JSON object. */
export function formatLabels(labels: Labels): string {
  let out = '{';
  for (let i = 0; i < labels.length; i += 2) {
    out += `${i === 0 ? '' : ','}${JSON.stringify(labels[i])}:${JSON.stringify(labels[i + 1])}`;
  }
  return `${out}}`;
}

const CHUNK_CHARS = 64 << 10;

/**
 * The JSON of `{"resultType":...,"result":...}` in pieces of about 64 KiB: the `data` of an API
 * answer. `extra` is spliced in before the closing brace (for `stats`, coverage): complete JSON members
 * such as `"stats":{...}`. `limit` above 0 keeps the first so many series.
 */
export function* encodeResult(
  value: Value,
  options: { extra?: readonly string[]; limit?: number } = {},
): Generator<Buffer> {
  const limit = options.limit && options.limit > 0 ? options.limit : Infinity;
  let out = `{"resultType":"${value.type}","result":`;
  if (value.type === 'scalar') {
    out += `[${formatTime(value.timeMs)},"${formatValue(value.value)}"]`;
  } else if (value.type === 'string') {
    out += `[${formatTime(value.timeMs)},${JSON.stringify(value.value)}]`;
  } else if (value.type === 'vector') {
    const time = formatTime(value.timeMs);
    out += '[';
    const count = Math.min(limit, value.labels.length);
    for (let i = 0; i < count; i++) {
      const labels = value.labels[i] as Labels;
      out += `${i === 0 ? '' : ','}{"metric":${formatLabels(labels)},"value":[${time},"${formatValue(value.values[i] as number)}"]}`;
      if (out.length > CHUNK_CHARS) {
        yield Buffer.from(out);
        out = '';
      }
    }
    out += ']';
  } else {
    let grid: Float64Array | undefined;
    let openings: string[] = [];
    out += '[';
    let first = true;
    let left = limit;
    for (const series of value.series) {
      if (left-- <= 0) break;
      const { timestamps, values } = series;
      // Dense series share one timestamps array: its texts are made once.
      if (grid !== timestamps) {
        grid = timestamps;
        openings = Array.from(timestamps, (t, i) => `${i === 0 ? '' : ','}[${formatTime(t)},"`);
      }
      out += `${first ? '' : ','}{"metric":${formatLabels(series.labels)},"values":[`;
      first = false;
      for (let i = 0; i < values.length; i++) {
        // Three appends: one template would make two strings more for each point.
        out += openings[i] as string;
        out += formatValue(values[i] as number);
        out += '"]';
        if (out.length > CHUNK_CHARS) {
          yield Buffer.from(out);
          out = '';
        }
      }
      out += ']}';
    }
    out += ']';
  }
  for (const member of options.extra ?? []) out += `,${member}`;
  yield Buffer.from(`${out}}`);
}
