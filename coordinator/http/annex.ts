/** What is kept beside samples, as Prometheus's API gives it: exemplars, and the metadata of metrics. */
import { compareLabels } from '../../core/labels.ts';
import { METRIC_TYPES } from '../../core/metadata.ts';
import { formatValue } from '../promql/digits.ts';
import type { Engine } from '../promql/engine.ts';
import { QueryError } from '../promql/error.ts';
import { formatTime, LabelFormat } from '../promql/format.ts';
import { selectorsIn } from '../promql/selectors.ts';
import type { AnnexQueryable, ExemplarSeries } from '../query/queryable.ts';
import { type Found, plainData } from './answer.ts';
import { invalid, type Params } from './params.ts';

/** What these rows need of the API and of a call. */
interface Server {
  readonly options: { readonly engine: Engine; readonly annex?: AnnexQueryable };
}
interface AnnexRow {
  readonly path: string;
  readonly post: boolean;
  readonly gated: boolean;
  readonly find: (server: Server, call: { readonly params: Params; readonly signal: AbortSignal }) => Promise<Found>;
}

export const ANNEX_ROWS: readonly AnnexRow[] = [
  { path: '/query_exemplars', post: true, gated: true, find: exemplars },
  { path: '/metadata', post: false, gated: true, find: metadata },
];

type Find = AnnexRow['find'];

async function exemplars({ options }: Server, { params, signal }: Parameters<Find>[1]): Promise<Found> {
  const range = params.range();
  let selectors: ReturnType<typeof selectorsIn>;
  try {
    selectors = selectorsIn(options.engine.parse(params.text('query')));
  } catch (error) {
    throw error instanceof QueryError ? invalid('query', error.message) : error;
  }
  if (selectors.length === 0 || options.annex === undefined) return plainData([]);
  const { series, coverage } = await options.annex.exemplars(range, selectors, { signal });
  return { data: () => seriesJson(series), dataIsObject: false, coverage };
}

const PIECE_CHARS = 65_536;

function* seriesJson(series: readonly ExemplarSeries[]): Generator<Buffer> {
  const outer = new LabelFormat();
  const own = new LabelFormat();
  let text = '[';
  for (const [i, { labels, exemplars }] of series.toSorted((a, b) => compareLabels(a.labels, b.labels)).entries()) {
    text += `${i === 0 ? '' : ','}{"seriesLabels":${outer.of(labels)},"exemplars":[`;
    for (const [k, { labels: inner, value, timestampMs }] of exemplars.entries()) {
      text += `${k === 0 ? '' : ','}{"labels":${own.of(inner)},"value":"${formatValue(value)}","timestamp":${formatTime(timestampMs)}}`;
      if (text.length < PIECE_CHARS) continue;
      yield Buffer.from(text);
      text = '';
    }
    text += ']}';
  }
  yield Buffer.from(`${text}]`);
}

async function metadata({ options }: Server, { params, signal }: Parameters<Find>[1]): Promise<Found> {
  // Prometheus: 0 metrics are none, but 0 entries of a metric are all of them.
  const limit = wholeNumber(params, 'limit') ?? -1;
  const limitPerMetric = wholeNumber(params, 'limit_per_metric') ?? -1;
  if (options.annex === undefined) return plainData({});
  const { entries, coverage } = await options.annex.metadata(params.text('metric'), { signal });
  const found = new Map<string, { type: string; help: string; unit: string }[]>();
  for (const { name, type, help, unit } of entries) {
    let list = found.get(name);
    if (list === undefined) {
      if (limit >= 0 && found.size >= limit) break;
      list = [];
      found.set(name, list);
    }
    if (limitPerMetric > 0 && list.length >= limitPerMetric) continue;
    list.push({ type: METRIC_TYPES[type] ?? METRIC_TYPES[0], help, unit });
  }
  return { ...plainData(Object.fromEntries(found)), coverage };
}

function wholeNumber(params: Params, name: string): number | undefined {
  const text = params.text(name);
  if (text === '') return undefined;
  if (!/^[+-]?\d+$/.test(text)) throw invalid(name, `${name} must be a number, not ${JSON.stringify(text)}`);
  return Number(text);
}
