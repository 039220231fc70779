/**
 * The endpoints of the Prometheus HTTP API, one row each, below `/api/v1`. No HTTP in here: a row takes
 * parameters and gives what it found.
 */
import type { Cardinality } from '../../core/cardinality.ts';
import type { Env } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import type { Labels } from '../../core/labels.ts';
import type { Expr } from '../promql/ast.ts';
import type { Engine, QueryResult, QueryTime } from '../promql/engine.ts';
import { QueryError } from '../promql/error.ts';
import { encodeResult, formatTime, LabelFormat } from '../promql/format.ts';
import { format } from '../promql/print.ts';
import { toTree } from '../promql/tree.ts';
import type { ResultCache } from '../query/cache.ts';
import type { AnnexQueryable, Coverage, Queryable, QueryContext } from '../query/queryable.ts';
import { ANNEX_ROWS } from './annex.ts';
import { type Answer, type Found, failure, plainData, success } from './answer.ts';
import { CLUSTER_ROWS, type Operation } from './cluster.ts';
import { Gate } from './gate.ts';
import { invalid, type Params } from './params.ts';
import { STATUS_ROWS } from './status.ts';

export interface ApiOptions {
  readonly env: Env;
  readonly engine: Engine;
  readonly queryable: Queryable;
  /** Exemplars and metadata, where there are any. */
  readonly annex?: AnnexQueryable;
  /** Answers range queries, where there is one. */
  readonly cache?: ResultCache;
  /** Longest time a query may ask for with `timeout`. */
  readonly timeoutMs: number;
  readonly version: string;
  /** The process's settings as a person writes them, by name. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Names of the regions that there are, sorted; undefined while nothing is placed. */
  readonly regions?: () => readonly string[] | undefined;
  /** How many series carry which labels, where that is known. */
  readonly cardinality?: (
    context: QueryContext,
  ) => Promise<{ readonly found: Cardinality; readonly coverage: readonly Coverage[] }>;
  /** What operators are told. */
  readonly operation?: Operation;
  /** Queries that run at a time. Default 20. */
  readonly concurrentQueries?: number;
  /** Queries that may wait for their turn. Default 200. */
  readonly waitingQueries?: number;
}

export interface ApiCall {
  readonly params: Params;
  /** The part of the path that a row leaves open. */
  readonly name: string;
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
}

export interface ApiRow {
  /** Below `/api/v1`; `:name` stands for one part. */
  readonly path: string;
  /** Also with POST and a form. */
  readonly post: boolean;
  /** It starts something: not with GET. */
  readonly onlyPost?: boolean;
  /** Takes its turn among the queries. */
  readonly gated: boolean;
  readonly find: (api: Api, call: ApiCall) => Promise<Found>;
}

export const API_ROWS: readonly ApiRow[] = [
  { path: '/query', post: true, gated: true, find: instant },
  { path: '/query_range', post: true, gated: true, find: range },
  { path: '/series', post: true, gated: true, find: series },
  { path: '/labels', post: true, gated: true, find: labelNames },
  { path: '/label/:name/values', post: false, gated: true, find: labelValues },
  { path: '/format_query', post: true, gated: false, find: formatQuery },
  { path: '/parse_query', post: true, gated: false, find: parseQuery },
  ...ANNEX_ROWS,
  ...STATUS_ROWS,
  ...CLUSTER_ROWS,
];

export class Api {
  readonly options: ApiOptions;
  readonly gate: Gate;
  readonly startedMs: number;

  constructor(options: ApiOptions) {
    this.options = options;
    this.startedMs = options.env.clock.nowMs();
    this.gate = new Gate(options.concurrentQueries ?? 20, options.waitingQueries ?? 200);
  }

  /** Answers a call; never rejects. */
  async answer(row: ApiRow, call: ApiCall): Promise<Answer> {
    try {
      const find = () => row.find(this, call);
      const found = await (row.gated ? this.gate.run(call.signal, find) : find());
      return success(found, call.params.text('partial') === 'deny');
    } catch (error) {
      return failure(error);
    }
  }
}

async function instant(api: Api, { params, signal }: ApiCall): Promise<Found> {
  const limit = params.limit();
  const timeMs = params.timeMs('time', api.options.env.clock.nowMs());
  return queried(await evaluate(api, params, { timeMs }, signal), params, limit, { startMs: timeMs, stepMs: 0 });
}

async function range(api: Api, { params, signal }: ApiCall): Promise<Found> {
  const limit = params.limit();
  const startMs = params.timeMs('start');
  const endMs = params.timeMs('end');
  if (endMs < startMs) throw invalid('end', 'end timestamp must not be before start time');
  const stepMs = params.durationMs('step', true);
  if (stepMs <= 0) {
    throw invalid('step', 'zero or negative query resolution step widths are not accepted. Try a positive integer');
  }
  return queried(await evaluate(api, params, { startMs, endMs, stepMs }, signal), params, limit, { startMs, stepMs });
}

function isTrue(flag: string): boolean {
  return flag === '1' || flag === 'true';
}

async function evaluate(
  api: Api,
  params: Params,
  time: QueryTime,
  signal: AbortSignal,
): Promise<QueryResult & { readonly cachedSteps?: number }> {
  const { engine, queryable, cache, timeoutMs } = api.options;
  const asked = params.durationMs('timeout');
  const lookbackMs = params.durationMs('lookback_delta');
  if (lookbackMs !== undefined && lookbackMs <= 0) {
    throw new QueryError('bad_data', 'error parsing lookback delta duration: it must be positive');
  }
  try {
    const query = params.text('query');
    const region = regionOf(api, params);
    const options = {
      signal,
      timeoutMs: asked === undefined ? timeoutMs : Math.min(asked, timeoutMs),
      perStepStats: params.text('stats') === 'all',
      ...(lookbackMs === undefined ? {} : { lookbackMs }),
      ...(region === undefined ? {} : { region }),
    };
    const keeps = 'stepMs' in time && cache !== undefined && !isTrue(params.text('nocache'));
    return await (keeps ? cache.query(query, time, options) : engine.query(queryable, query, time, options));
  } catch (error) {
    // Prometheus says so of everything that is wrong with the text, but not with the steps.
    const ofText = error instanceof QueryError && error.type === 'bad_data' && !error.message.startsWith('exceeded');
    throw ofText ? invalid('query', error.message) : error;
  }
}

/** The region whose copies alone are to be read; undefined: the nearest that answers. */
function regionOf({ options }: Api, params: Params): string | undefined {
  const region = params.text('region');
  if (region === '') return undefined;
  const known = options.regions?.();
  if (known === undefined || known.includes(region)) return region;
  throw invalid('region', `there is no region ${JSON.stringify(region)}, there are ${known.join(', ')}`);
}

/** What a call's parameters say of how to read. */
export function contextOf(api: Api, { params, signal }: Pick<ApiCall, 'params' | 'signal'>): QueryContext {
  const region = regionOf(api, params);
  return region === undefined ? { signal } : { signal, region };
}

function queried(
  { value, warnings, infos, coverage, stats, cachedSteps = 0 }: QueryResult & { readonly cachedSteps?: number },
  params: Params,
  limit: number,
  grid: { startMs: number; stepMs: number },
): Found {
  const count = value.type === 'vector' ? value.labels.length : value.type === 'matrix' ? value.series.length : 0;
  const truncated = limit > 0 && count > limit;
  const extra = params.text('stats') === '' ? [] : [`"stats":${statsJson(stats, cachedSteps, grid)}`];
  return {
    data: (more) => encodeResult(value, { extra: [...extra, ...more], limit }),
    dataIsObject: true,
    coverage,
    warnings: truncated ? [...warnings, TRUNCATED] : warnings,
    infos,
  };
}

const TRUNCATED = 'results truncated due to limit';

function statsJson(
  stats: QueryResult['stats'],
  cachedSteps: number,
  { startMs, stepMs }: { startMs: number; stepMs: number },
): string {
  const { samplesPerStep, totalQueryableSamples, peakSamples } = stats;
  const timings = {
    evalTotalTime: (stats.selectMs + stats.evalMs) / 1000,
    resultSortTime: 0,
    queryPreparationTime: stats.selectMs / 1000,
    innerEvalTime: stats.evalMs / 1000,
    execQueueTime: 0,
    execTotalTime: stats.totalMs / 1000,
  };
  const steps =
    samplesPerStep === undefined
      ? ''
      : `,"totalQueryableSamplesPerStep":[${Array.from(samplesPerStep, (n, i) => `[${formatTime(startMs + i * stepMs)},${n}]`).join(',')}]`;
  return `{"timings":${JSON.stringify(timings)},"samples":{"totalQueryableSamples":${totalQueryableSamples},"peakSamples":${peakSamples}${steps}},"cache":{"steps":${cachedSteps}}}`;
}

async function series(api: Api, call: ApiCall): Promise<Found> {
  const { params } = call;
  const selectors = params.selectors();
  if (selectors.length === 0) throw new SilverbackError('INVALID_ARGUMENT', 'no match[] parameter provided');
  const limit = params.limit();
  const found = await api.options.queryable.series(params.range(), selectors, contextOf(api, call));
  const kept = limit > 0 ? found.series.slice(0, limit) : found.series;
  return {
    data: () => seriesJson(kept),
    dataIsObject: false,
    coverage: found.coverage,
    warnings: kept.length < found.series.length ? [...found.warnings, TRUNCATED] : found.warnings,
  };
}

const PIECE_CHARS = 65_536;

function* seriesJson(series: readonly Labels[]): Generator<Buffer> {
  const format = new LabelFormat();
  let text = '[';
  for (const [i, labels] of series.entries()) {
    text += `${i === 0 ? '' : ','}${format.of(labels)}`;
    if (text.length < PIECE_CHARS) continue;
    yield Buffer.from(text);
    text = '';
  }
  yield Buffer.from(`${text}]`);
}

async function labelNames(api: Api, call: ApiCall): Promise<Found> {
  const { params } = call;
  const limit = params.limit();
  const found = await api.options.queryable.labelNames(params.range(), params.selectors(), contextOf(api, call));
  return texts(found.names, limit, found);
}

async function labelValues(api: Api, call: ApiCall): Promise<Found> {
  const { params, name } = call;
  const label = unescapeName(name);
  if (label === '') throw new SilverbackError('INVALID_ARGUMENT', `invalid label name: ${JSON.stringify(name)}`);
  const limit = params.limit();
  const context = contextOf(api, call);
  const found = await api.options.queryable.labelValues(label, params.range(), params.selectors(), context);
  return texts(found.values, limit, found);
}

function texts(
  values: readonly string[],
  limit: number,
  { coverage, warnings }: Pick<QueryResult, 'coverage' | 'warnings'>,
): Found {
  const kept = limit > 0 ? values.slice(0, limit) : values;
  return {
    ...plainData(kept),
    coverage,
    warnings: kept.length < values.length ? [...warnings, TRUNCATED] : warnings,
  };
}

/** A label name that is no legacy name travels in a path as `U__` with `_` doubled and other characters as `_hex_`. */
function unescapeName(name: string): string {
  if (!name.startsWith('U__')) return name;
  let valid = true;
  const plain = name.slice(3).replace(/__|_([0-9a-fA-F]{1,6})_|_/g, (match, hex?: string) => {
    if (match === '__') return '_';
    const code = hex === undefined ? Number.NaN : Number.parseInt(hex, 16);
    if (code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff)) return String.fromCodePoint(code);
    valid = false;
    return '';
  });
  return valid ? plain : name;
}

async function formatQuery(api: Api, { params }: ApiCall): Promise<Found> {
  return plainData(format(parsed(api, params)));
}

async function parseQuery(api: Api, { params }: ApiCall): Promise<Found> {
  return plainData(toTree(parsed(api, params)));
}

function parsed({ options }: Api, params: Params): Expr {
  try {
    return options.engine.parse(params.text('query'));
  } catch (error) {
    throw error instanceof QueryError ? invalid('query', error.message) : error;
  }
}
