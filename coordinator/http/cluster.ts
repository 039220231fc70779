/** The endpoints for operators, below `/api/v1/cluster`: what the nodes say of themselves. No node can hold an answer up. */
import { type ClusterFacts, lagReports, nodeReports, shardReports, statusReport } from '../cluster/report.ts';
import type { Survey, Found as Surveyed } from '../cluster/survey.ts';
import { type Found, plainData } from './answer.ts';
import { invalid, type Params } from './params.ts';

/** What these rows need. */
export interface Operation {
  readonly survey: Pick<Survey, 'ask'>;
  /** `found` is what the nodes have said just now. */
  readonly facts: (found: Surveyed) => ClusterFacts;
}

interface ClusterRow {
  readonly path: string;
  readonly post: boolean;
  readonly gated: boolean;
  readonly find: (
    api: { readonly options: { readonly operation?: Operation } },
    call: { readonly params: Params },
  ) => Promise<Found>;
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
];

function shardOf(params: Params, { placement }: Surveyed): number | undefined {
  const text = params.text('shard');
  if (text === '') return undefined;
  const most = (placement?.shardCount ?? 65_536) - 1;
  if (!/^\d{1,5}$/.test(text) || Number(text) > most) {
    throw invalid('shard', `${JSON.stringify(text)} is not a shard: they are 0 to ${most}`);
  }
  return Number(text);
}
