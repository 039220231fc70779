/** Label sets as the language changes them: what functions, aggregations and matching make of the series' labels. */
import { compareUtf8, type Labels, labelValue, NO_LABELS } from '../labels.ts';

export const METRIC_NAME = '__name__';

/** The one cast: a flat list whose order and uniqueness follow from that of a label set. */
const flat = (list: string[]): Labels => (list.length === 0 ? NO_LABELS : (list as readonly string[] as Labels));

/** Without the metric name. The same object when there is none. */
export function dropName(labels: Labels): Labels {
  for (let i = 0; i < labels.length; i += 2) {
    if (labels[i] !== METRIC_NAME) continue;
    const list = labels.slice(0, i);
    for (let k = i + 2; k < labels.length; k++) list.push(labels[k] as string);
    return flat(list);
  }
  return labels;
}

/** Only the labels in `names`. */
export function keep(labels: Labels, names: readonly string[]): Labels {
  if (names.length === 0) return NO_LABELS;
  const list: string[] = [];
  for (let i = 0; i < labels.length; i += 2) {
    if (names.includes(labels[i] as string)) list.push(labels[i] as string, labels[i + 1] as string);
  }
  return flat(list);
}

/** All but the labels in `names`. */
export function without(labels: Labels, names: readonly string[]): Labels {
  const list: string[] = [];
  for (let i = 0; i < labels.length; i += 2) {
    if (!names.includes(labels[i] as string)) list.push(labels[i] as string, labels[i + 1] as string);
  }
  return list.length === labels.length ? labels : flat(list);
}

/** With `name` set to `value`; an empty value removes the label. */
export function withLabel(labels: Labels, name: string, value: string): Labels {
  const list: string[] = [];
  let placed = value === '';
  for (let i = 0; i < labels.length; i += 2) {
    const current = labels[i] as string;
    if (current === name) continue;
    if (!placed && compareUtf8(name, current) < 0) {
      list.push(name, value);
      placed = true;
    }
    list.push(current, labels[i + 1] as string);
  }
  if (!placed) list.push(name, value);
  return flat(list);
}

const SEPARATOR = '\u{fdd0}';

/** A string that two label sets share exactly when they are equal. */
export function labelsKey(labels: Labels): string {
  return labels.join(SEPARATOR);
}

/** What groups and match signatures are told apart by: the labels in `names`, or all but them and the metric name. */
export class Keyer {
  readonly #names: readonly string[];
  readonly #without: boolean;

  /** With `without`, the metric name is left out too. */
  constructor(names: readonly string[], isWithout: boolean) {
    this.#names = isWithout ? [METRIC_NAME, ...names] : names;
    this.#without = isWithout;
  }

  key(labels: Labels): string {
    const names = this.#names;
    let key = '';
    if (this.#without) {
      for (let i = 0; i < labels.length; i += 2) {
        const name = labels[i] as string;
        if (!names.includes(name)) key += `${name}${SEPARATOR}${labels[i + 1]}${SEPARATOR}`;
      }
      return key;
    }
    // The usual case: the value is the key, without making a string of its own for every series.
    if (names.length === 1) return labelValue(labels, names[0] as string);
    for (const name of names) key += labelValue(labels, name) + SEPARATOR;
    return key;
  }

  /** The labels that the key stands for. */
  labels(labels: Labels): Labels {
    return this.#without ? without(labels, this.#names) : keep(labels, this.#names);
  }
}
