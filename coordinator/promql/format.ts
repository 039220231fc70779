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

/**
 * Label sets as JSON objects, one after the other: what is the same as in the one before, in the same place, is not quoted
 * again. Of series after one another that is most of it.
 */
export class LabelFormat {
  readonly #texts: string[] = [];
  /** The texts quoted, with what stands around them. */
  readonly #quoted: string[] = [];

  of(labels: Labels): string {
    let out = '{';
    for (let i = 0; i < labels.length; i++) {
      const text = labels[i] as string;
      if (this.#texts[i] !== text) {
        this.#texts[i] = text;
        const quoted = JSON.stringify(text);
        this.#quoted[i] = i % 2 === 1 ? quoted : `${i === 0 ? '' : ','}${quoted}:`;
      }
      out += this.#quoted[i];
    }
    return `${out}}`;
  }
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
  const format = new LabelFormat();
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
      const labels = format.of(value.labels[i] as Labels);
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
      out.text(`${i === 0 ? '' : ','}{"metric":${format.of(labels)},"values":[`);
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
