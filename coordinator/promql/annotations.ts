/** Warnings and infos about a query, in Prometheus's words, each once. */
import type { Span } from './ast.ts';
import { quote } from './literal.ts';

/** The API shows at most this many of each (Prometheus 3). */
const MAX_SHOWN = 10;

export class Annotations {
  readonly #place: (offset: number) => string;
  /** Text to position; of the same text at several places Prometheus shows the one that came last. */
  readonly #warnings = new Map<string, string>();
  readonly #infos = new Map<string, string>();

  /** `place` turns an offset into `line:column`. */
  constructor(place: (offset: number) => string) {
    this.#place = place;
  }

  /** A warning of the storage, as it is. */
  storage(text: string): void {
    this.#warnings.set(text, '');
  }

  #warn(span: Span, text: string): void {
    this.#warnings.set(`PromQL warning: ${text}`, ` (${this.#place(span.start)})`);
  }

  #info(span: Span, text: string): void {
    this.#infos.set(`PromQL info: ${text}`, ` (${this.#place(span.start)})`);
  }

  invalidQuantile(q: number, span: Span): void {
    this.#warn(span, `quantile value should be between 0 and 1, got ${formatG(q)}`);
  }

  invalidRatio(ratio: number, cap: number, span: Span): void {
    this.#warn(span, `ratio value should be between -1 and 1, got ${formatG(ratio)}, capping to ${formatG(cap)}`);
  }

  sortInRange(span: Span): void {
    this.#warn(span, 'sort is ineffective for range queries since results are always ordered by labels');
  }

  badBucketLabel(le: string, span: Span): void {
    this.#warn(span, `bucket label "le" is missing or has a malformed value of ${quote(le)}`);
  }

  possibleNonCounter(metric: string, span: Span): void {
    this.#info(
      span,
      `metric might not be a counter, name does not end in _total/_sum/_count/_bucket: ${quote(metric)}`,
    );
  }

  forcedMonotonicity(span: Span): void {
    this.#info(
      span,
      'input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)',
    );
  }

  get warnings(): string[] {
    return shown(this.#warnings, 'warning');
  }

  get infos(): string[] {
    return shown(this.#infos, 'info');
  }
}

function shown(texts: ReadonlyMap<string, string>, kind: string): string[] {
  const all = Array.from(texts, ([text, place]) => text + place);
  if (all.length <= MAX_SHOWN) return all;
  return [...all.slice(0, MAX_SHOWN), `${all.length - MAX_SHOWN} more ${kind} annotations omitted`];
}

/** As Go's `%g`. */
function formatG(v: number): string {
  if (Number.isNaN(v)) return 'NaN';
  if (!Number.isFinite(v)) return v > 0 ? '+Inf' : '-Inf';
  if (v === 0) return Object.is(v, -0) ? '-0' : '0';
  const [mantissa, exponent] = v.toExponential().split('e') as [string, string];
  const power = Number(exponent);
  if (power < -4 || power >= 21) {
    return `${mantissa}e${power < 0 ? '-' : '+'}${String(Math.abs(power)).padStart(2, '0')}`;
  }
  return String(v).includes('e') ? v.toFixed(20).replace(/0+$/, '') : String(v);
}

const COUNTER_SUFFIXES = ['_total', '_sum', '_count', '_bucket'];

/** Whether a metric's name says that it is a counter; a series without a name is given the benefit of the doubt. */
export function namedLikeCounter(metric: string): boolean {
  return metric === '' || COUNTER_SUFFIXES.some((suffix) => metric.endsWith(suffix));
}
