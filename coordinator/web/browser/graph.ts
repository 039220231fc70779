/** Lines over time, with a legend that reads the values under the pointer. */
import uPlot from 'uplot';
import type { MatrixEntry } from './answer.ts';
import { element } from './dom.ts';
import { lonePoints, makeGrid, tallest } from './grid.ts';
import { formatMetric, nameSeries } from './legend.ts';
import { countOf, formatAxis, formatCount, formatShort } from './number.ts';
import { formatMoment, formatTicks } from './time.ts';

/** More lines than this say nothing to an eye and cost time; all of them are one press away. */
const DRAWN_COUNT = 100;
const COLOURS = 10;
/** Line patterns that tell series apart when the colours begin again. */
const DASHES: readonly (readonly number[])[] = [[], [6, 3], [2, 3]];
const HEIGHT_LEAST_PX = 220;

export interface Range {
  readonly startMs: number;
  readonly endMs: number;
  readonly stepMs: number;
}

export interface GraphOptions {
  /** A stretch of time was marked with the pointer. */
  zoom(fromMs: number, toMs: number): void;
}

export class Graph {
  /** What to put on the page. */
  readonly node = element('div', { class: 'graph' });
  readonly #options: GraphOptions;
  readonly #limits = element('p', { class: 'limits' });
  readonly #plotBox = element('div', { class: 'plot' });
  readonly #tip = element('div', { class: 'tip', hidden: true });
  readonly #common = element('p', { class: 'common' });
  readonly #legend = element('ul', { class: 'legend', 'aria-label': 'Legend' });
  #plot: uPlot | undefined;
  #series: readonly MatrixEntry[] = [];
  #range: Range = { startMs: 0, endMs: 0, stepMs: 1000 };
  #all = false;
  /** Texts of the series that a person picked; empty: all are shown. Kept over refreshes. */
  #picked = new Set<string>();
  #names: readonly string[] = [];
  /** Index in the plot of the series nearest to the pointer; 0: none is near. */
  #focused = 0;
  #values: HTMLElement[] = [];

  constructor(options: GraphOptions) {
    this.#options = options;
    this.node.append(this.#limits, this.#plotBox, this.#common, this.#legend);
    this.#legend.addEventListener('click', (event) => {
      const button = (event.target as Element).closest('button');
      if (button !== null)
        this.#pick(Number(button.dataset['index']), event.ctrlKey || event.metaKey || event.shiftKey);
    });
    for (const [type, on] of [
      ['pointerover', true],
      ['focusin', true],
      ['pointerout', false],
      ['focusout', false],
    ] as const) {
      this.#legend.addEventListener(type, (event) => {
        const button = (event.target as Element).closest('button');
        if (button !== null) this.#plot?.setSeries(on ? Number(button.dataset['index']) + 1 : null, { focus: true });
      });
    }
    new ResizeObserver(() => this.#plot?.setSize(this.#size())).observe(this.#plotBox);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#draw());
  }

  /** Draws an answer over its range. `isNew`: another query, so nothing is picked any more. */
  show(series: readonly MatrixEntry[], range: Range, isNew: boolean): void {
    this.#series = series;
    this.#range = range;
    if (isNew) {
      this.#all = false;
      this.#picked.clear();
    }
    this.#draw();
  }

  #size(): { width: number; height: number } {
    const width = Math.max(this.#plotBox.clientWidth, 200);
    return { width, height: Math.round(Math.max(HEIGHT_LEAST_PX, Math.min(width * 0.36, innerHeight * 0.5))) };
  }

  #draw(): void {
    if (this.#series.length === 0) return;
    const chosen = tallest(this.#series, this.#all ? Number.POSITIVE_INFINITY : DRAWN_COUNT);
    const drawn = chosen.map((index) => this.#series[index] as MatrixEntry);
    const { common, varying } = nameSeries(this.#series.map(({ metric }) => metric));
    const single = this.#series.length === 1;
    this.#names = drawn.map(({ metric }) => formatMetric(metric, single ? undefined : varying));
    const grid = makeGrid(drawn, this.#range);
    const style = getComputedStyle(this.node);
    const colour = (index: number) => style.getPropertyValue(`--line-${index % COLOURS}`).trim();

    this.#limits.replaceChildren();
    if (drawn.length < this.#series.length) {
      const all = element('button', { type: 'button' }, `Draw all ${formatCount(this.#series.length)}`);
      all.addEventListener('click', () => {
        this.#all = true;
        this.#draw();
      });
      const said = `Drawn: the ${formatCount(drawn.length)} series with the highest peaks, of ${formatCount(this.#series.length)}.`;
      this.#limits.append(said, ' ', all);
    }

    this.#plot?.destroy();
    this.#focused = 0;
    this.#plot = new uPlot(this.#plotOptions(grid.columns, colour), [grid.times, ...grid.columns] as uPlot.AlignedData);
    this.#plotBox.replaceChildren(this.#plot.root);
    this.#plot.over.append(this.#tip);

    const said = single ? [] : Object.keys(common);
    this.#common.replaceChildren();
    if (said.length > 0) this.#common.append('all: ', element('code', {}, formatMetric(common, said)));
    this.#values = drawn.map(() => element('output', {}));
    // Columns of the legend as wide as its longest name needs, so that values stand close to names.
    const longest = this.#names.reduce((most, name) => Math.max(most, name.length), 0);
    this.#legend.style.setProperty('--name-width', `${Math.min(longest, 80)}ch`);
    this.#legend.replaceChildren(
      ...this.#names.map((name, index) => {
        const swatch = element('span', { class: `swatch line-${index % COLOURS} dash-${dashOf(index)}` });
        const text = element('span', { class: 'text' }, name === '{}' ? (single ? 'value' : 'no labels') : name);
        const button = element('button', { type: 'button', 'data-index': String(index), title: name });
        button.append(swatch, text, this.#values[index] as HTMLElement);
        return element('li', {}, button);
      }),
    );
    this.#showPicked();
    this.#showValues(null);
  }

  #plotOptions(columns: readonly (readonly (number | null)[])[], colour: (index: number) => string): uPlot.Options {
    const { startMs, endMs } = this.#range;
    const style = getComputedStyle(this.node);
    const ink = style.getPropertyValue('--muted').trim();
    const grid = { stroke: style.getPropertyValue('--grid').trim(), width: 1 };
    const font = `11px ${style.fontFamily}`;
    const width = columns.length > 30 ? 1 : 1.5;
    return {
      ...this.#size(),
      padding: [10, 24, 0, 0],
      legend: { show: false },
      focus: { alpha: 0.2 },
      cursor: {
        drag: { x: true, y: false, setScale: false },
        focus: { prox: 30 },
        points: { size: 6, width: 1 },
      },
      scales: { x: { time: true, range: () => [startMs / 1000, Math.max(endMs, startMs + 1) / 1000] } },
      axes: [
        {
          stroke: ink,
          font,
          grid,
          ticks: { ...grid, size: 4 },
          space: 70,
          size: 40,
          gap: 4,
          values: (_, splits, __, ___, increment) =>
            formatTicks(
              splits.map((split) => split * 1000),
              increment * 1000,
            ),
        },
        {
          stroke: ink,
          font,
          grid,
          ticks: { ...grid, size: 0 },
          space: 36,
          gap: 8,
          // Wide enough for its longest label, at about 6.5 pixels a character.
          size: (_, labels) => 16 + 6.5 * (labels ?? []).reduce((most, label) => Math.max(most, label.length), 2),
          values: (_, splits, __, ___, increment) => formatAxis(splits, increment),
        },
      ],
      series: [
        {},
        ...columns.map((column, index): uPlot.Series => {
          const stroke = colour(index);
          return {
            stroke,
            width,
            dash: [...(DASHES[dashOf(index)] as readonly number[])],
            spanGaps: false,
            // Rounding to whole pixels puts steps into gentle slopes.
            pxAlign: 0,
            points: {
              show: false,
              size: 4,
              fill: stroke,
              filter: (plot) =>
                lonePoints(column, plot.series[0]?.idxs?.[0] ?? 0, plot.series[0]?.idxs?.[1] ?? column.length - 1),
            },
          };
        }),
      ],
      hooks: {
        setCursor: [(plot) => this.#showValues(plot.cursor.idx ?? null)],
        setSeries: [
          (_, index, what) => {
            // Its type says a series' settings; what comes is what was asked of setSeries.
            if ((what as { readonly focus?: boolean }).focus === undefined) return;
            this.#focused = index ?? 0;
            this.#showTip();
          },
        ],
        setSelect: [
          (plot) => {
            const { left, width: marked } = plot.select;
            if (marked < 4) return;
            plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            this.#options.zoom(plot.posToVal(left, 'x') * 1000, plot.posToVal(left + marked, 'x') * 1000);
          },
        ],
      },
    };
  }

  /** Legend values at a step; at none, the last that each series has. */
  #showValues(step: number | null): void {
    const data = this.#plot?.data;
    if (data === undefined) return;
    this.#values.forEach((output, index) => {
      const column = data[index + 1] as (number | null)[];
      const value = step === null ? column.findLast((v) => v !== null) : column[step];
      output.textContent = value == null ? '\u2013' : formatShort(value);
    });
    this.#showTip();
  }

  /** The value nearest to the pointer, with its time and series. */
  #showTip(): void {
    const plot = this.#plot;
    const step = plot?.cursor.idx ?? null;
    if (plot === undefined || step === null || (plot.cursor.left ?? -1) < 0) {
      this.#tip.hidden = true;
      return;
    }
    const time = element('time', {}, formatMoment((plot.data[0][step] as number) * 1000));
    const index = this.#names.length === 1 ? 1 : this.#focused;
    const value = index > 0 ? plot.data[index]?.[step] : undefined;
    this.#tip.replaceChildren(time);
    if (value != null) {
      const swatch = element('span', { class: `swatch line-${(index - 1) % COLOURS} dash-${dashOf(index - 1)}` });
      this.#tip.append(
        element('b', {}, formatShort(value, 6)),
        element('span', { class: 'name' }, swatch, this.#names[index - 1] ?? ''),
      );
    }
    this.#tip.hidden = false;
    const left = plot.cursor.left ?? 0;
    const before = left > plot.over.clientWidth / 2;
    this.#tip.style.left = `${before ? left - this.#tip.offsetWidth - 12 : left + 12}px`;
    this.#tip.style.top = `${Math.max(0, Math.min(plot.cursor.top ?? 0, plot.over.clientHeight - this.#tip.offsetHeight))}px`;
  }

  /** One press shows a series alone, a second shows all again; with Ctrl or Shift it adds or takes away. */
  #pick(index: number, add: boolean): void {
    const name = this.#names[index];
    if (name === undefined) return;
    const alone = this.#picked.size === 1 && this.#picked.has(name);
    if (!add) this.#picked = alone ? new Set() : new Set([name]);
    else if (this.#picked.has(name)) this.#picked.delete(name);
    else this.#picked.add(name);
    this.#showPicked();
  }

  #showPicked(): void {
    const plot = this.#plot;
    // What was picked may be gone from a refreshed answer: then there is nothing to single out.
    const some = this.#names.some((name) => this.#picked.has(name));
    plot?.batch(() => {
      this.#names.forEach((name, index) => {
        const show = !some || this.#picked.has(name);
        if (plot.series[index + 1]?.show !== show) plot.setSeries(index + 1, { show });
        const button = this.#legend.children[index]?.firstElementChild;
        button?.setAttribute('aria-pressed', String(some && show));
        button?.classList.toggle('off', !show);
      });
    });
  }
}

/** Which line pattern the series at `index` has. */
function dashOf(index: number): number {
  return Math.floor(index / COLOURS) % DASHES.length;
}

/** What the summary line says of a range's answer. */
export function sizeOf(series: readonly MatrixEntry[]): string {
  const points = series.reduce((sum, { values }) => sum + values.length, 0);
  return `${countOf(series.length, 'series', 'series')} \u00b7 ${countOf(points, 'point')}`;
}
