/** What tells series apart: the labels that differ, and those that need saying only once. */
import type { Metric } from './answer.ts';

export interface Naming {
  /** Labels that every series has with the same value, the metric's name among them. */
  readonly common: Metric;
  /** Names of the labels that differ between series, or that some lack; sorted, `__name__` first. */
  readonly varying: readonly string[];
}

/** Splits the labels of an answer. A single series has nothing that differs: all its labels are common. */
export function nameSeries(metrics: readonly Metric[]): Naming {
  const names = new Set(metrics.flatMap((metric) => Object.keys(metric)));
  const common: Record<string, string> = {};
  const varying: string[] = [];
  for (const name of [...names].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1))) {
    const first = metrics[0]?.[name];
    if (first !== undefined && metrics.every((metric) => metric[name] === first)) common[name] = first;
    else varying.push(name);
  }
  return { common, varying };
}

const rank = (name: string) => (name === '__name__' ? 0 : 1);

const PLAIN_LABEL = /^[a-zA-Z_]\w*$/;
const PLAIN_METRIC = /^[a-zA-Z_:][\w:]*$/;

/**
 * A selector of these labels, `name{label="value"}`, all of them or only `names`. Pasted into the query box it finds
 * the series again: names that need quotes get them.
 */
export function formatMetric(metric: Metric, names: readonly string[] = Object.keys(metric)): string {
  const name = names.includes('__name__') ? metric['__name__'] : undefined;
  const quotedName = name !== undefined && !PLAIN_METRIC.test(name);
  const parts = quotedName ? [JSON.stringify(name)] : [];
  for (const label of names) {
    const value = metric[label];
    if (label === '__name__' || value === undefined) continue;
    parts.push(`${PLAIN_LABEL.test(label) ? label : JSON.stringify(label)}=${JSON.stringify(value)}`);
  }
  const head = quotedName ? '' : (name ?? '');
  return parts.length === 0 && head !== '' ? head : `${head}{${parts.join(', ')}}`;
}
