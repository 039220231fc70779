/** The endpoints for operators, below `/api/v1/cluster`: what the nodes say of themselves. No node can hold an answer up. */
import { type Cardinality, KEPT_COUNT } from '../../core/cardinality.ts';
import {
  type CardinalityReport,
  type ClusterFacts,
  callerReports,
  fullShards,
  lagReports,
  nodeReports,
  shardReports,
  statusReport,
} from '../cluster/report.ts';
import type { Survey, Found as Surveyed } from '../cluster/survey.ts';
import type { Coverage, QueryContext } from '../query/queryable.ts';
import { type Found, plainData } from './answer.ts';
import { invalid, type Params } from './params.ts';

/** What these rows need. */
export interface Operation {
  readonly survey: Pick<Survey, 'ask'>;
  /** `found` is what the nodes have said just now. */
  readonly facts: (found: Surveyed) => ClusterFacts;
}

/** What they need of the API and of a call. */
interface Server {
  readonly options: {
    readonly operation?: Operation;
    readonly cardinality?: (
      context: QueryContext,
    ) => Promise<{ readonly found: Cardinality; readonly coverage: readonly Coverage[] }>;
  };
}

interface Call {
  readonly params: Params;
  readonly signal: AbortSignal;
}

interface ClusterRow {
  readonly path: string;
  readonly post: boolean;
  readonly gated: boolean;
  readonly find: (api: Server, call: Call) => Promise<Found>;
}

function row(path: string, find: (found: Surveyed, params: Params, operation: Operation) => unknown): ClusterRow {
  return {
    path,
    post: false,
    gated: false,
    async find({ options: { operation } }, { params }) {
      if (operation === undefined) throw invalid(path, 'there is no cluster here');
      const found = await operation.survey.ask();
      return {
        ...plainData(find(found, params, operation)),
        warnings: found.nodes.flatMap(({ region, name, problem }) =>
          problem === '' ? [] : [`node ${region}/${name} is down: ${problem}`],
        ),
      };
    },
  };
}

export const CLUSTER_ROWS: readonly ClusterRow[] = [
  row('/cluster/status', (found, _params, { facts }) => statusReport(found, facts(found))),
  row('/cluster/nodes', (found) => nodeReports(found)),
  row('/cluster/shards', (found, params) => {
    const shard = shardOf(params, found);
    const [region, node] = [params.text('region'), params.text('node')];
    return shardReports(found)
      .filter((report) => shard === undefined || report.shard === shard)
      .map((report) => ({
        ...report,
        copies: report.copies.filter(
          (copy) => (region === '' || copy.region === region) && (node === '' || copy.node === node),
        ),
      }))
      .filter(({ copies }) => copies.length > 0 || (region === '' && node === ''));
  }),
  row('/cluster/lag', (found) => lagReports(found)),
  // Not gated: it is asked for when all else goes wrong.
  { path: '/cluster/cardinality', post: false, gated: false, find: cardinality },
];

/** As many of each kind as fit into a terminal. */
const TOP_COUNT = 10;

async function cardinality({ options }: Server, { params, signal }: Call): Promise<Found> {
  const { operation } = options;
  if (operation === undefined || options.cardinality === undefined) throw invalid('cardinality', 'there is no cluster');
  const limit = params.text('limit') === '' ? TOP_COUNT : params.limit();
  if (limit < 1 || limit > KEPT_COUNT) throw invalid('limit', `${limit} is not from 1 to ${KEPT_COUNT}`);
  const [{ found, coverage }, surveyed] = await Promise.all([options.cardinality({ signal }), operation.survey.ask()]);
  const callers = callerReports(surveyed);
  const report: CardinalityReport = {
    series: found.seriesCount,
    labelPairs: found.labelPairCount,
    newSeriesLastHour: callers.reduce((sum, { newSeriesLastHour }) => sum + newSeriesLastHour, 0),
    metrics: found.seriesByMetric(limit),
    labels: found.valuesByLabel(limit),
    pairs: found.seriesByPair(limit),
    callers,
    fullShards: fullShards(surveyed),
  };
  return { ...plainData(report), coverage };
}

function shardOf(params: Params, { placement }: Surveyed): number | undefined {
  const text = params.text('shard');
  if (text === '') return undefined;
  const most = (placement?.shardCount ?? 65_536) - 1;
  if (!/^\d{1,5}$/.test(text) || Number(text) > most) {
    throw invalid('shard', `${JSON.stringify(text)} is not a shard: they are 0 to ${most}`);
  }
  return Number(text);
}
