/**
 * What the server says of itself, and the endpoints of what it does not do: clients ask for rules, alerts and targets
 * without being told to, and take "none" for an answer where a 404 would be an error to them.
 */
import { hostname } from 'node:os';
import { stringify } from 'yaml';
import { type Cardinality, KEPT_COUNT } from '../../core/cardinality.ts';
import type { Env } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import type { Coverage, QueryContext } from '../query/queryable.ts';
import { type Found, plainData } from './answer.ts';
import { invalid, type Params } from './params.ts';

/** A step at which the API is at home: what it says of itself makes clients choose their requests. */
const PROMETHEUS_LEVEL = '3.5.0';

/** What these rows need of the API and of a call. */
interface Server {
  readonly startedMs: number;
  readonly options: {
    readonly env: Env;
    readonly version: string;
    readonly settings?: Readonly<Record<string, string>>;
    readonly cardinality?: (
      context: QueryContext,
    ) => Promise<{ readonly found: Cardinality; readonly coverage: readonly Coverage[] }>;
  };
}
interface StatusRow {
  readonly path: string;
  readonly post: boolean;
  readonly gated: boolean;
  readonly find: (server: Server, call: { readonly params: Params; readonly signal: AbortSignal }) => Promise<Found>;
}

function row(path: string, find: StatusRow['find']): StatusRow {
  return { path, post: false, gated: false, find };
}

const none = (path: string, data: unknown): StatusRow => row(path, async () => plainData(data));

export const STATUS_ROWS: readonly StatusRow[] = [
  row('/status/buildinfo', buildInfo),
  row('/status/config', async ({ options }) => plainData({ yaml: stringify(options.settings ?? {}) })),
  row('/status/flags', async ({ options }) => plainData(options.settings ?? {})),
  row('/status/runtimeinfo', runtimeInfo),
  { ...row('/status/tsdb', tsdb), gated: true },
  none('/rules', { groups: [] }),
  none('/alerts', { alerts: [] }),
  none('/alertmanagers', { activeAlertmanagers: [], droppedAlertmanagers: [] }),
  none('/targets', { activeTargets: [], droppedTargets: [], droppedTargetCounts: {} }),
  none('/scrape_pools', { scrapePools: [] }),
];

async function buildInfo({ options }: Server): Promise<Found> {
  return plainData({
    version: PROMETHEUS_LEVEL,
    revision: '',
    branch: '',
    buildUser: '',
    buildDate: '',
    goVersion: '',
    application: 'silverback',
    silverbackVersion: options.version,
  });
}

/** Of Prometheus's fields those that mean something here. */
async function runtimeInfo({ options, startedMs }: Server): Promise<Found> {
  const startTime = new Date(startedMs).toISOString();
  return plainData({
    startTime,
    CWD: process.cwd(),
    hostname: hostname(),
    serverTime: new Date(options.env.clock.nowMs()).toISOString(),
    reloadConfigSuccess: true,
    lastConfigTime: startTime,
  });
}

/** As many of each kind as Prometheus gives unasked. */
const TOP_COUNT = 10;

async function tsdb({ options }: Server, { params, signal }: Parameters<StatusRow['find']>[1]): Promise<Found> {
  const limit = params.text('limit') === '' ? TOP_COUNT : params.limit();
  if (limit < 1 || limit > KEPT_COUNT) throw invalid('limit', `${limit} is not from 1 to ${KEPT_COUNT}`);
  if (options.cardinality === undefined) throw new SilverbackError('NOT_FOUND', 'the label counts are not known here');
  const { found, coverage } = await options.cardinality({ signal });
  const data = {
    headStats: {
      numSeries: found.seriesCount,
      numLabelPairs: found.labelPairCount,
      ...(found.seriesCount > 0 ? { minTime: found.firstMs, maxTime: found.lastMs } : {}),
    },
    seriesCountByMetricName: found.seriesByMetric(limit),
    labelValueCountByLabelName: found.valuesByLabel(limit),
    memoryInBytesByLabelName: found.bytesByLabel(limit),
    seriesCountByLabelValuePair: found.seriesByPair(limit),
  };
  return { ...plainData(data), coverage };
}
