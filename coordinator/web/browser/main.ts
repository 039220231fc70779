/** The page: what a person chose (the view), the question it makes, and its answer. */
import { FIRST_VIEW, formatAddress, parseAddress, REFRESHES_MS, type Tab, type View } from './address.ts';
import type { Answer } from './answer.ts';
import { labelValues, queryAt, queryRange } from './api.ts';
import { watchCluster } from './cluster.ts';
import { describeCoverage } from './coverage.ts';
import { element, find } from './dom.ts';
import { Editor } from './editor.ts';
import { Graph, type Range, sizeOf } from './graph.ts';
import { answerNotices, errorNotice } from './notices.ts';
import { countOf } from './number.ts';
import { addRecent } from './recent.ts';
import { emptyStoreNode, examplesNode, noDataNode } from './start.ts';
import { Table } from './table.ts';
import { alignRange, chooseStep, formatDuration, formatMoment, parseDuration, parseMoment, zone } from './time.ts';

const PRESETS_MS = ['5m', '15m', '1h', '3h', '6h', '12h', '1d'].map((text) => parseDuration(text) as number);
/** One point for so many pixels of the graph's width, within bounds. */
const PIXELS_A_POINT = 3;
const POINTS_LEAST = 100;
const POINTS_MOST = 400;
/** Before this the answer is usually there: no sign of waiting that would only flicker. */
const PATIENCE_MS = 150;
const EMPTY_STORE_PERIOD_MS = 3000;
const LIVE: Partial<View> = { rangeMs: 300_000, refreshMs: 5000, endMs: undefined, stepMs: undefined };

const nodes = {
  cluster: find('cluster', HTMLElement),
  form: find('query', HTMLFormElement),
  run: find('run', HTMLButtonElement),
  tabs: { graph: find('tab-graph', HTMLButtonElement), table: find('tab-table', HTMLButtonElement) },
  presets: find('presets', HTMLElement),
  range: find('range', HTMLInputElement),
  back: find('back', HTMLButtonElement),
  forth: find('forth', HTMLButtonElement),
  end: find('end', HTMLInputElement),
  now: find('now', HTMLButtonElement),
  step: find('step', HTMLInputElement),
  refresh: find('refresh', HTMLSelectElement),
  problem: find('problem', HTMLElement),
  answer: find('answer', HTMLElement),
  summary: find('summary', HTMLElement),
  notices: find('notices', HTMLElement),
  result: find('result', HTMLElement),
};

let view = parseAddress(location.search);
let metrics: readonly string[] = [];
let metricsAreKnown = false;
let running: AbortController | undefined;
let refreshTimer = 0;
let emptyStoreTimer = 0;
/** What the picture on the page answers: a refresh keeps what was picked in it, another query does not. */
let pictured = '';

const graph = new Graph({
  zoom(fromMs, toMs) {
    const rangeMs = Math.max(1000, Math.round((toMs - fromMs) / 1000) * 1000);
    change({ rangeMs, endMs: Math.ceil(toMs / 1000) * 1000, stepMs: undefined });
  },
});
const table = new Table();
const editor = new Editor({ metrics: () => metrics, run: () => change({ query: editor.text }, true) });

/** Shows another view: controls, address, answer. `always`: asks again even when nothing differs. */
function change(changes: Partial<View>, always = false): void {
  const query = editor.text;
  const before = formatAddress(view);
  view = { ...view, query, ...changes };
  const address = formatAddress(view);
  if (address !== before) history.pushState(null, '', address === '' ? location.pathname : address);
  else if (!always) return;
  show();
}

function show(): void {
  showControls();
  void ask(false);
}

function showControls(): void {
  editor.text = view.query;
  document.title =
    view.query === '' ? 'Silverback' : `${view.query.replace(/\s+/g, ' ').slice(0, 80)} \u00b7 Silverback`;
  document.body.dataset['tab'] = view.tab;
  for (const tab of ['graph', 'table'] as const) {
    nodes.tabs[tab].setAttribute('aria-selected', String(tab === view.tab));
    nodes.tabs[tab].tabIndex = tab === view.tab ? 0 : -1;
  }
  nodes.answer.setAttribute('aria-labelledby', nodes.tabs[view.tab].id);
  for (const button of nodes.presets.querySelectorAll('button')) {
    button.setAttribute('aria-pressed', String(Number(button.value) === view.rangeMs));
  }
  nodes.range.value = formatDuration(view.rangeMs);
  nodes.end.value = view.endMs === undefined ? '' : formatMoment(view.endMs);
  nodes.end.title = `Local time (${zone(view.endMs ?? Date.now())}), as 2026-11-21 08:30:15 or 08:30. Empty: now`;
  nodes.now.disabled = view.endMs === undefined;
  nodes.forth.disabled = view.endMs === undefined;
  nodes.step.value = view.stepMs === undefined ? '' : formatDuration(view.stepMs);
  nodes.step.placeholder = formatDuration(stepOf(view));
  nodes.step.title = 'Empty: chosen from the range and the width';
  nodes.refresh.value = String(view.refreshMs);
  for (const input of [nodes.range, nodes.step, nodes.end]) input.setAttribute('aria-invalid', 'false');
  nodes.problem.textContent = '';
}

function stepOf({ rangeMs, stepMs }: View): number {
  const points = Math.min(POINTS_MOST, Math.max(POINTS_LEAST, nodes.answer.clientWidth / PIXELS_A_POINT));
  return stepMs ?? chooseStep(rangeMs, points);
}

/** Asks what the view asks, and shows the answer unless another question came first. `isRefresh`: by the clock. */
async function ask(isRefresh: boolean): Promise<void> {
  clearTimeout(refreshTimer);
  running?.abort();
  running = undefined;
  if (view.query === '') {
    showStart();
    return;
  }
  clearTimeout(emptyStoreTimer);
  const asked = view;
  const control = new AbortController();
  running = control;
  const waiting = setTimeout(() => document.body.classList.add('waiting'), isRefresh ? 10 * PATIENCE_MS : PATIENCE_MS);
  nodes.run.textContent = 'Cancel';
  try {
    const endMs = asked.endMs ?? Date.now();
    if (asked.tab === 'graph') {
      const stepMs = stepOf(asked);
      const range = { ...alignRange(endMs, asked.rangeMs, stepMs), stepMs };
      showGraph(asked, range, await queryRange(asked.query, range, control.signal));
    } else showTable(asked, endMs, await queryAt(asked.query, endMs, control.signal));
    if (!isRefresh) addRecent(asked.query);
  } catch (error) {
    if (running !== control) return;
    showFailure(control.signal.aborted ? undefined : error, isRefresh);
  } finally {
    clearTimeout(waiting);
    if (running === control) {
      running = undefined;
      document.body.classList.remove('waiting');
      nodes.run.textContent = 'Run';
      if (view.refreshMs > 0) refreshTimer = setTimeout(refresh, view.refreshMs);
    }
  }
}

/** By the clock: not while nobody looks. */
function refresh(): void {
  if (!document.hidden) void ask(true);
  else document.addEventListener('visibilitychange', refresh, { once: true });
}

function showGraph(asked: View, range: Range, answer: Answer): void {
  if (answer.result.resultType !== 'matrix')
    throw new Error(`a range query answered with a ${answer.result.resultType}`);
  const series = answer.result.result;
  showSummary(answer, `${sizeOf(series)} \u00b7 step ${formatDuration(range.stepMs)}`);
  if (series.length === 0) {
    void showNothing(asked, `between ${formatMoment(range.startMs)} and ${formatMoment(range.endMs)}`);
    return;
  }
  nodes.result.replaceChildren(graph.node);
  graph.show(series, range, isAnother(asked));
}

function showTable(asked: View, timeMs: number, answer: Answer): void {
  const { resultType, result } = answer.result;
  const isList = resultType === 'matrix' || resultType === 'vector';
  const size = isList ? countOf(result.length, 'series', 'series') : resultType;
  showSummary(answer, `${size} \u00b7 at ${formatMoment(Math.round(timeMs / 1000) * 1000)}`);
  if (isList && result.length === 0) {
    void showNothing(asked, `at ${formatMoment(Math.round(timeMs / 1000) * 1000)}`);
    return;
  }
  nodes.result.replaceChildren(table.node);
  table.show(answer.result, isAnother(asked));
}

function isAnother({ query, tab }: View): boolean {
  const picture = JSON.stringify([tab, query]);
  const another = picture !== pictured;
  pictured = picture;
  return another;
}

function showSummary(answer: Answer, size: string): void {
  const { state, short } = describeCoverage(answer.coverage);
  const took =
    answer.tookMs < 1000 ? `${Math.max(1, Math.round(answer.tookMs))} ms` : `${(answer.tookMs / 1000).toFixed(1)} s`;
  nodes.summary.replaceChildren(
    `${size} \u00b7 ${took} \u00b7 `,
    element(
      'span',
      { class: `coverage ${state}`, title: 'Whether everything written in this range is known to be in the answer' },
      short,
    ),
  );
  nodes.notices.replaceChildren(...answerNotices(answer));
}

/** Undefined: the person cancelled. A failed refresh keeps the last picture, under the error. */
function showFailure(error: unknown, isRefresh: boolean): void {
  nodes.summary.replaceChildren(error === undefined ? 'Cancelled' : '');
  nodes.notices.replaceChildren(...(error === undefined ? [] : [errorNotice(error)]));
  if (!isRefresh && error !== undefined) nodes.result.replaceChildren();
}

/** `when` says which moment or range was asked for. */
async function showNothing(asked: View, when: string): Promise<void> {
  pictured = '';
  const draw = () =>
    nodes.result.replaceChildren(noDataNode(asked.query, when, metricsAreKnown ? metrics : undefined, runOther));
  draw();
  // The list of metrics may be older than the metric, or not here yet.
  const node = nodes.result.firstChild;
  await readMetrics();
  if (nodes.result.firstChild === node) draw();
}

function runOther(query: string): void {
  change({ query }, true);
  editor.focus();
}

/** Live, over the last minutes: of a cluster that has just started there is no more. */
function runExample(query: string): void {
  change({ ...LIVE, query }, true);
  editor.focus();
}

function showStart(): void {
  pictured = '';
  nodes.summary.replaceChildren();
  nodes.notices.replaceChildren();
  nodes.run.textContent = 'Run';
  document.body.classList.remove('waiting');
  if (!metricsAreKnown) nodes.result.replaceChildren();
  else if (metrics.length === 0) nodes.result.replaceChildren(emptyStoreNode());
  else nodes.result.replaceChildren(examplesNode(metrics, runExample));
}

/** Learns which metrics there are. While there are none, it keeps looking. */
async function readMetrics(): Promise<void> {
  clearTimeout(emptyStoreTimer);
  const before = metricsAreKnown ? metrics.length : -1;
  try {
    metrics = await labelValues('__name__');
    metricsAreKnown = true;
  } catch {
    // Not ready yet: the cluster's line says so, and readiness brings us back here.
  }
  if (view.query === '' && before !== (metricsAreKnown ? metrics.length : -1)) showStart();
  if (metrics.length === 0) emptyStoreTimer = setTimeout(() => void readMetrics(), EMPTY_STORE_PERIOD_MS);
}

/** The duration in `input`, or undefined when it is empty; says what is wrong and gives null when it is no duration. */
function durationIn(input: HTMLInputElement, name: string): number | undefined | null {
  const text = input.value.trim();
  if (text === '' || text === 'auto') return undefined;
  const ms = parseDuration(text);
  if (ms === undefined) say(input, `${name} "${text}" is no duration: write 90s, 15m, 1h30m or 2d`);
  return ms ?? null;
}

/** Says what is wrong with an input. It stays until the view changes. */
function say(input: HTMLInputElement, problem: string): void {
  input.setAttribute('aria-invalid', 'true');
  nodes.problem.textContent = problem;
}

function listen(): void {
  nodes.form.addEventListener('submit', (event) => {
    event.preventDefault();
    editor.close();
    if (running !== undefined) running.abort();
    else change({ query: editor.text }, true);
  });
  for (const tab of ['graph', 'table'] as const) {
    nodes.tabs[tab].addEventListener('click', () => change({ tab }));
    nodes.tabs[tab].addEventListener('keydown', (event) => {
      if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
      const other: Tab = tab === 'graph' ? 'table' : 'graph';
      change({ tab: other });
      nodes.tabs[other].focus();
    });
  }
  for (const ms of PRESETS_MS) {
    const button = element('button', { type: 'button', value: String(ms) }, formatDuration(ms).replace('24h', '1d'));
    button.addEventListener('click', () => change({ rangeMs: ms }));
    nodes.presets.append(button);
  }
  nodes.range.addEventListener('change', () => {
    const rangeMs = durationIn(nodes.range, 'range');
    if (rangeMs !== null) change({ rangeMs: rangeMs ?? FIRST_VIEW.rangeMs });
  });
  nodes.step.addEventListener('change', () => {
    const stepMs = durationIn(nodes.step, 'step');
    if (stepMs !== null) change({ stepMs });
  });
  nodes.end.addEventListener('change', () => {
    const text = nodes.end.value.trim();
    const isNow = text === '' || text === 'now';
    const endMs = parseMoment(text, Date.now());
    if (isNow || endMs !== undefined) change({ endMs });
    else say(nodes.end, `until "${text}" is no time: write 2026-11-21 08:30:15, 2026-11-21 08:30 or 08:30`);
  });
  nodes.now.addEventListener('click', () => change({ endMs: undefined }));
  nodes.back.addEventListener('click', () => move(-1));
  nodes.forth.addEventListener('click', () => move(1));
  for (const ms of REFRESHES_MS) {
    nodes.refresh.append(element('option', { value: String(ms) }, ms === 0 ? 'off' : formatDuration(ms)));
  }
  nodes.refresh.addEventListener('change', () => change({ refreshMs: Number(nodes.refresh.value) }));
  window.addEventListener('popstate', () => {
    view = parseAddress(location.search);
    show();
  });
  document.addEventListener('keydown', (event) => {
    const typing = event.target instanceof Element && event.target.closest('textarea, input, select') !== null;
    if (event.key !== '/' || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    editor.focus();
  });
}

/** Half a range into the past or back; back at the present, the end is `now` again. */
function move(direction: -1 | 1): void {
  const endMs =
    (view.endMs ?? Math.floor(Date.now() / 1000) * 1000) + direction * Math.ceil(view.rangeMs / 2000) * 1000;
  change({ endMs: endMs >= Date.now() ? undefined : endMs });
}

listen();
show();
void readMetrics();
watchCluster(nodes.cluster, () => {
  void readMetrics();
  // A page opened before the cluster was ready shows an error that is over now.
  if (nodes.notices.querySelector('.error') !== null) void ask(false);
});
if (view.query === '') editor.focus();
