/**
 * Federation: the newest sample of each selected series, in Prometheus's text format 0.0.4, as another Prometheus scrapes
 * it with `honor_labels`. Series without a name are left out, as Prometheus does: the format cannot say them.
 */
import { messageOf } from '../../core/errors.ts';
import { compareLabels, compareUtf8, type Labels, labelValue } from '../../core/labels.ts';
import { sortSlices } from '../../core/order.ts';
import { isStale } from '../../core/promql/stale.ts';
import { Budget } from '../promql/budget.ts';
import { formatValue } from '../promql/digits.ts';
import type { Coverage } from '../query/queryable.ts';
import { type Answer, failure, refuseGaps } from './answer.ts';
import { type Api, contextOf } from './api.ts';
import { Ledger } from './coverage.ts';
import type { Params } from './params.ts';

interface Newest {
  readonly name: string;
  readonly labels: Labels;
  readonly timeMs: number;
  readonly value: number;
}

/** Answers a scrape; never rejects. */
export async function federate(api: Api, params: Params, signal: AbortSignal): Promise<Answer> {
  try {
    return await api.gate.run(signal, () => scraped(api, params, signal));
  } catch (error) {
    const { status, headers } = failure(error);
    const words = messageOf(error);
    return { status, headers, contentType: 'text/plain; charset=utf-8', pieces: [Buffer.from(`${words}\n`)] };
  }
}

async function scraped(api: Api, params: Params, signal: AbortSignal): Promise<Answer> {
  const { env, queryable, timeoutMs, engine } = api.options;
  const context = contextOf(api, { params, signal });
  const deadlineMs = env.clock.monotonicMs() + timeoutMs;
  const budget = new Budget(env, { signal, deadlineMs, maxSamples: Number.POSITIVE_INFINITY });
  const toMs = env.clock.nowMs();
  const fromMs = toMs - engine.lookbackMs + 1;
  const coverage: Coverage[] = [];
  const found: Newest[] = [];
  for (const matchers of params.selectors()) {
    const set = await queryable.select({ matchers, fromMs, toMs }, context);
    coverage.push(...set.coverage);
    for (let i = 0; i < set.count; i++) {
      if (budget.due()) await budget.pause();
      const labels = set.labels(i);
      const name = labelValue(labels, '__name__');
      if (name === '') continue;
      const { timestamps, values } = set.columns(i);
      const last = timestamps.length - 1;
      // The format has no stale marker: a series that has ended is left out.
      if (last < 0 || (Number.isNaN(values[last]) && isStale(values, last))) continue;
      found.push({ name, labels, timeMs: timestamps[last] as number, value: values[last] as number });
    }
  }
  const ledger = new Ledger(coverage);
  refuseGaps(ledger, params.text('partial') === 'deny');
  const sorted = await sortSlices(
    found,
    (a, b) => compareUtf8(a.name, b.name) || compareLabels(a.labels, b.labels),
    budget,
  );
  return {
    status: 200,
    contentType: 'text/plain; version=0.0.4; charset=utf-8',
    headers: coverage.length === 0 ? {} : { 'x-silverback-coverage': ledger.header() },
    pieces: exposition(sorted),
  };
}

const PIECE_CHARS = 65_536;

function* exposition(sorted: readonly Newest[]): Generator<Buffer> {
  let text = '';
  let before: Newest | undefined;
  for (const newest of sorted) {
    // Several selectors may have found it.
    if (before !== undefined && compareLabels(before.labels, newest.labels) === 0) continue;
    const name = plainName(newest.name, METRIC);
    if (before?.name !== newest.name) text += `# TYPE ${name} untyped\n`;
    before = newest;
    text += `${name}${labelsText(newest.labels)} ${formatValue(newest.value)} ${newest.timeMs}\n`;
    if (text.length < PIECE_CHARS) continue;
    yield Buffer.from(text);
    text = '';
  }
  yield Buffer.from(text);
}

const METRIC = /[^a-zA-Z0-9_:]/gu;
const LABEL = /[^a-zA-Z0-9_]/gu;

/** A name as the format can have it: what is not allowed in it becomes `_`, as Prometheus escapes it for this format. */
function plainName(name: string, other: RegExp): string {
  const plain = name.replace(other, '_');
  return /^\d/.test(plain) ? `_${plain}` : plain;
}

const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '"': '\\"', '\n': '\\n' };

/**
 * Without the name. An empty `instance` where there is none, as Prometheus writes it: else the scrape's own would be
 * attached, even with `honor_labels`.
 */
function labelsText(labels: Labels): string {
  let text = '';
  let isOfInstance = false;
  for (let i = 0; i < labels.length; i += 2) {
    const name = labels[i] as string;
    if (name === '__name__') continue;
    if (name === 'instance') isOfInstance = true;
    const value = (labels[i + 1] as string).replace(/[\\"\n]/g, (char) => ESCAPES[char] as string);
    text += `${text === '' ? '' : ','}${plainName(name, LABEL)}="${value}"`;
  }
  if (!isOfInstance) text += `${text === '' ? '' : ','}instance=""`;
  return `{${text}}`;
}
