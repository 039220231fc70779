/** The endpoints for operators, below `/api/v1/cluster`: what the nodes say of themselves. No node can hold an answer up. */
import { type Cardinality, KEPT_COUNT } from '../../core/cardinality.ts';
import { SilverbackError } from '../../core/errors.ts';
import type { Placement } from '../../core/placement.ts';
import { moveReports } from '../cluster/moves.ts';
import type { Operations } from '../cluster/operations.ts';
import { type Idea, parseShards, planReport } from '../cluster/plan.ts';
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
  readonly survey: Pick<Survey, 'ask' | 'placement'>;
  readonly operations: Operations;
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
  readonly onlyPost?: boolean;
  readonly gated: boolean;
  readonly find: (api: Server, call: Call) => Promise<Found>;
}

function row(path: string, find: (found: Surveyed, params: Params, operation: Operation) => unknown): ClusterRow {
  return {
    path,
    post: false,
    gated: false,
    async find(server, { params }) {
      const operation = operationOf(server);
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
    const shard = shardOf(params, found.placement);
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
  row('/cluster/plan', (found, params) => planReport(found, ideaOf(params))),
  { path: '/cluster/moves', post: false, gated: false, find: moves },
  row('/cluster/lag', (found) => lagReports(found)),
  { path: '/cluster/verify', post: false, gated: false, find: verify },
  { path: '/cluster/repair', post: false, gated: false, find: repairs },
  { path: '/cluster/repair/run', post: true, onlyPost: true, gated: false, find: runRepair },
  // Not gated: it is asked for when all else goes wrong.
  { path: '/cluster/cardinality', post: false, gated: false, find: cardinality },
];

async function verify(server: Server, { params }: Call): Promise<Found> {
  const { survey, operations } = operationOf(server);
  const shard = shardOf(params, survey.placement());
  if (shard === undefined) throw invalid('shard', 'one has to be named');
  return plainData(await operations.verify(shard));
}

async function repairs(server: Server, { params }: Call): Promise<Found> {
  const { survey, operations } = operationOf(server);
  const { copies, problems } = await operations.repairs(shardOf(params, survey.placement()));
  return { ...plainData(copies), warnings: problems };
}

async function moves(server: Server): Promise<Found> {
  const { survey, operations } = operationOf(server);
  const [found, { copies, problems }] = await Promise.all([survey.ask(), operations.repairs()]);
  return { ...plainData(moveReports(found, copies)), warnings: problems };
}

async function runRepair(server: Server, { params }: Call): Promise<Found> {
  const { survey, operations } = operationOf(server);
  return plainData(operations.startRepair(shardOf(params, survey.placement())));
}

function operationOf({ options: { operation } }: Server): Operation {
  if (operation === undefined) throw new SilverbackError('NOT_FOUND', 'there is no cluster here');
  return operation;
}

/** As many of each kind as fit into a terminal. */
const TOP_COUNT = 10;

async function cardinality({ options }: Server, { params, signal }: Call): Promise<Found> {
  const operation = operationOf({ options });
  if (options.cardinality === undefined) throw new SilverbackError('NOT_FOUND', 'the label counts are not known here');
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

function ideaOf(params: Params): Idea {
  const [region, shards, to, from] = [
    params.text('region'),
    params.text('shards'),
    params.text('to'),
    params.text('from'),
  ];
  if (region === '') throw invalid('region', 'one has to be named');
  if (shards === '' && to === '') return { region, order: undefined };
  if (to === '') throw invalid('to', 'a node has to be named');
  return { region, order: { shards: shardList(shards), to, ...(from !== '' && { from }) } };
}

/** @throws SilverbackError INVALID_ARGUMENT */
export function shardList(text: string): number[] {
  const shards = parseShards(text);
  if (shards !== undefined) return shards;
  throw invalid('shards', `${JSON.stringify(text)} is not a list of shards such as 3 or 0-3,7`);
}

function shardOf(params: Params, placement: Placement | undefined): number | undefined {
  const text = params.text('shard');
  if (text === '') return undefined;
  const most = (placement?.shardCount ?? 65_536) - 1;
  if (!/^\d{1,5}$/.test(text) || Number(text) > most) {
    throw invalid('shard', `${JSON.stringify(text)} is not a shard: they are 0 to ${most}`);
  }
  return Number(text);
}
