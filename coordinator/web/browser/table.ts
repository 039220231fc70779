/** An answer at one moment as rows: a column for each label that differs, and the exact value. */
import type { MatrixEntry, Metric, Point, Result, VectorEntry } from './answer.ts';
import { element } from './dom.ts';
import { formatMetric, nameSeries } from './legend.ts';
import { countOf, formatCount, parseValue } from './number.ts';
import { formatMoment } from './time.ts';

const ROWS_COUNT = 500;
/** Samples of one series that a range selector's row shows. */
const SAMPLES_COUNT = 100;
/** With more labels than this that differ, one column with all of them is easier to read. */
const COLUMNS_COUNT = 8;

interface Row {
  readonly metric: Metric;
  readonly cells: readonly string[];
  /** What the last column sorts by. */
  readonly value: number;
  readonly body: Node | string;
}

interface Sorting {
  readonly column: number;
  readonly descending: boolean;
}

export class Table {
  readonly node = element('div', { class: 'table' });
  #result: Result | undefined;
  #all = false;
  /** Undefined: in the order of the answer, which `sort` and `topk` may have chosen. */
  #sorting: Sorting | undefined;

  show(result: Result, isNew: boolean): void {
    this.#result = result;
    if (isNew) {
      this.#all = false;
      this.#sorting = undefined;
    }
    this.#draw();
  }

  #draw(): void {
    const result = this.#result;
    if (result === undefined) return;
    if (result.resultType === 'scalar' || result.resultType === 'string') {
      this.node.replaceChildren(element('p', { class: 'single' }, result.result[1]));
      return;
    }
    const entries: readonly (MatrixEntry | VectorEntry)[] = result.result;
    const { common, varying } = nameSeries(entries.map(({ metric }) => metric));
    const single = entries.length === 1;
    const labels = single ? Object.keys(common) : varying;
    const split = !single && labels.length <= COLUMNS_COUNT;
    const headings = split ? labels.map((name) => (name === '__name__' ? 'metric' : name)) : ['series'];
    const rows = entries.map((entry): Row => {
      const { metric } = entry;
      const cells = split ? labels.map((name) => metric[name] ?? '') : [formatMetric(metric, labels)];
      const points: readonly Point[] = 'value' in entry ? [entry.value] : entry.values;
      const last = points.at(-1);
      const body = 'value' in entry ? entry.value[1] : samples(points);
      return { metric, cells, value: last === undefined ? Number.NaN : parseValue(last[1]), body };
    });
    const sorted = this.#sorted(rows);
    const shown = this.#all ? sorted : sorted.slice(0, ROWS_COUNT);

    const parts: Node[] = [];
    const said = single ? [] : Object.keys(common);
    if (said.length > 0)
      parts.push(element('p', { class: 'common' }, 'all: ', element('code', {}, formatMetric(common, said))));
    const head = element(
      'tr',
      {},
      ...[...headings, 'value'].map((name, column) => this.#heading(name, column, headings.length)),
    );
    const body = shown.map(({ cells, body: value, metric }) =>
      element(
        'tr',
        { title: formatMetric(metric) },
        ...cells.map((cell) => element('td', {}, cell)),
        element('td', { class: 'value' }, value),
      ),
    );
    const table = element('table', {}, element('thead', {}, head), element('tbody', {}, ...body));
    parts.push(element('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Rows' }, table));
    if (shown.length < rows.length) {
      const all = element('button', { type: 'button' }, `Show all ${formatCount(rows.length)}`);
      all.addEventListener('click', () => {
        this.#all = true;
        this.#draw();
      });
      parts.push(
        element(
          'p',
          { class: 'limits' },
          `Shown: ${countOf(shown.length, 'row')} of ${formatCount(rows.length)}. `,
          all,
        ),
      );
    }
    this.node.replaceChildren(...parts);
  }

  #heading(name: string, column: number, last: number): HTMLElement {
    const sorting = this.#sorting?.column === column ? (this.#sorting.descending ? 'descending' : 'ascending') : 'none';
    const button = element('button', { type: 'button', class: 'sort', title: 'Sort' }, name);
    button.addEventListener('click', () => {
      // Values are first wanted largest first, labels from A on; the third press gives back the answer's own order.
      const first = column === last;
      if (sorting === 'none') this.#sorting = { column, descending: first };
      else if ((sorting === 'descending') === first) this.#sorting = { column, descending: !first };
      else this.#sorting = undefined;
      this.#draw();
      this.node.querySelectorAll<HTMLButtonElement>('th button')[column]?.focus();
    });
    return element('th', { scope: 'col', 'aria-sort': sorting, class: column === last ? 'value' : '' }, button);
  }

  #sorted(rows: readonly Row[]): readonly Row[] {
    const sorting = this.#sorting;
    if (sorting === undefined) return rows;
    const { column, descending } = sorting;
    const texts = new Intl.Collator(undefined, { numeric: true });
    const order = descending ? -1 : 1;
    return [...rows].sort((a, b) => {
      const [left, right] = [a.cells[column], b.cells[column]];
      if (left !== undefined && right !== undefined) return order * texts.compare(left, right);
      // NaN last, either way.
      if (Number.isNaN(a.value) || Number.isNaN(b.value))
        return Number(Number.isNaN(a.value)) - Number(Number.isNaN(b.value));
      return a.value === b.value ? 0 : order * (a.value < b.value ? -1 : 1);
    });
  }
}

/** The samples of a range selector, newest last, each with its time. */
function samples(points: readonly Point[]): Node {
  const list = element('ol', { class: 'samples' });
  const left = points.length - SAMPLES_COUNT;
  if (left > 0) list.append(element('li', {}, `${countOf(left, 'older sample')} not shown`));
  for (const [seconds, value] of points.slice(-SAMPLES_COUNT)) {
    list.append(element('li', {}, value, element('time', {}, `@ ${formatMoment(seconds * 1000)}`)));
  }
  return list;
}
