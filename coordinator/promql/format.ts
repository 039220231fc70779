/** Prometheus's JSON of query results, straight from the columns to bytes: no object per point. */
import type { Labels } from '../../core/labels.ts';
import { formatValue } from './digits.ts';
import { Output } from './output.ts';
import type { MatrixSeries, Value } from './value.ts';

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
  const out = new Output();
  out.text(`{"resultType":"${value.type}","result":`);
  if (value.type === 'scalar') {
    out.text(`[${formatTime(value.timeMs)},"${formatValue(value.value)}"]`);
  } else if (value.type === 'string') {
    out.text(`[${formatTime(value.timeMs)},${JSON.stringify(value.value)}]`);
  } else if (value.type === 'vector') {
    const time = formatTime(value.timeMs);
    out.text('[');
    const count = Math.min(limit, value.labels.length);
    for (let i = 0; i < count; i++) {
      const labels = formatLabels(value.labels[i] as Labels);
      const sample = formatValue(value.values[i] as number);
      out.text(`${i === 0 ? '' : ','}{"metric":${labels},"value":[${time},"${sample}"]}`);
      if (out.isFull) yield out.take();
    }
    out.text(']');
  } else {
    out.text('[');
    const count = Math.min(limit, value.series.length);
    for (let i = 0; i < count; i++) {
      const { labels, timestamps, values } = value.series[i] as MatrixSeries;
      out.text(`${i === 0 ? '' : ','}{"metric":${formatLabels(labels)},"values":[`);
      for (let at = 0; at < values.length; ) {
        if (out.isFull) yield out.take();
        at = out.points(timestamps, values, at);
      }
      out.text(']}');
    }
    out.text(']');
  }
  for (const member of options.extra ?? []) out.text(`,${member}`);
  out.text('}');
  yield out.take();
}
