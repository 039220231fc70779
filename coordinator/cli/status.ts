/** `silverback status`: the cluster in ten lines. */
import type { Command } from 'commander';
import type { StatusReport } from '../cluster/report.ts';
import { type Context, coordinatorOf, examples, show } from './context.ts';
import { patiently, pause } from './patience.ts';
import { facts, plural, ranges } from './table.ts';

/** Reasons that are spelled out; the others are counted. */
const MAX_REASONS = 5;

export function addStatus(program: Command, context: Context): void {
  program
    .command('status')
    .description('the cluster as a whole: nodes, regions, shards without a complete copy')
    .addHelpText('after', examples('status', 'status --wait', 'status --output json'))
    .option('--wait', 'until every copy is whole and abreast of the others, so that the next node may be restarted')
    .action(async ({ wait }: { wait?: true }, command: Command) => {
      const coordinator = coordinatorOf(command);
      let { data } = await coordinator.get<StatusReport>('/cluster/status');
      for (let said = ''; wait && data.unsettled.length > 0; ) {
        const [first = ''] = data.unsettled;
        if (first !== said) context.err(`waiting: ${first}\n`);
        said = first;
        await pause(context);
        ({ data } = await patiently(context, () => coordinator.get<StatusReport>('/cluster/status')));
      }
      show(context, command, { data, text: () => statusText(data, context.columns) });
    });
}

export function statusText(report: StatusReport, width: number): string {
  const { nodes, nodesDown, regions, shardsWithoutCompleteCopy: incomplete } = report;
  return facts(
    [
      ['Cluster', report.clusterId],
      ['Version', versionsText(report)],
      ['Meta store', report.metaStore],
      ['Ready', report.ready ? 'yes' : `no: ${report.unready.replace(/^not ready: /, '')}`],
      [
        'Regions',
        regions.map(({ region, up, nodes: all }) => `${region} (${up} of ${plural(all, 'node')} up)`).join(', ') ||
          'none yet',
      ],
      [
        'Nodes',
        [`${nodes.up} up`, ...(nodes.recovering > 0 ? [`${nodes.recovering} recovering`] : []), `${nodes.down} down`]
          .join(', ')
          .concat(...listed(nodesDown.map(({ region, node, reason }) => `${region}/${node}: ${reason}`))),
      ],
      ['Shards', shardsText(report)],
      ['Restarts', restartsText(report)],
      ...(report.refused.length === 0
        ? []
        : ([
            [
              'Refused',
              `${plural(report.refused.length, 'caller')} without a version in common`.concat(
                ...listed(report.refused.map(({ reason }) => reason)),
              ),
            ],
          ] as const)),
      ...movesRows(report),
      ...(incomplete.length === 0
        ? []
        : ([
            [
              'Incomplete',
              `${ranges(incomplete.map(({ shard }) => shard))}`.concat(
                ...listed(incomplete.map(({ shard, reason }) => `shard ${shard}: ${reason}`)),
              ),
            ],
          ] as const)),
    ],
    width,
  );
}

/** Only of what there is something to say of. */
function movesRows({ moves = [] }: Partial<Pick<StatusReport, 'moves'>>): [string, string][] {
  const lines: string[] = [];
  for (const { region, moves: mode, joining, leaving, waiting, draining, cordons } of moves) {
    const counts = [
      ...(joining > 0 ? [`${joining} joining`] : []),
      ...(leaving > 0 ? [`${leaving} leaving`] : []),
      ...(waiting > 0 ? [`${waiting} waiting`] : []),
    ];
    if (mode !== 'on') counts.push(`moves are ${mode} (silverback moves resume)`);
    if (counts.length > 0) lines.push(`${region}: ${counts.join(', ')}`);
    for (const { node, cordon } of cordons) {
      const left = draining.find((one) => one.node === node);
      if (left === undefined || left.shards.length === 0) lines.push(`${region}/${node} is ${cordon}`);
      else {
        const why = left.waitsFor === '' ? '' : `, waiting: ${left.waitsFor}`;
        lines.push(`${region}/${node} is ${cordon}, left: ${ranges(left.shards)}${why}`);
      }
    }
  }
  return lines.length === 0 ? [] : [['Moves', lines.join('\n')]];
}

/** The coordinator's, and the nodes' where they are others. */
function versionsText({ version, nodeVersions }: StatusReport): string {
  const others = nodeVersions.filter((one) => one !== version);
  return others.length === 0 ? version : `${version}; nodes: ${nodeVersions.join(', ')}`;
}

/** Whether a node may be restarted. */
function restartsText({ unsettled }: StatusReport): string {
  if (unsettled.length === 0) return 'every copy is whole and abreast of the others: a node may be restarted';
  return 'wait:'.concat(...listed(unsettled));
}

function shardsText({ shardCount, placementRevision, shardsWithoutCompleteCopy: { length } }: StatusReport): string {
  if (placementRevision === 0) return `${shardCount}, not placed yet`;
  return length === 0 ? `${shardCount}, each with a complete copy` : `${shardCount}, ${length} without a complete copy`;
}

function listed(reasons: readonly string[]): string[] {
  const more = reasons.length > MAX_REASONS ? [`\n  and ${reasons.length - MAX_REASONS} more`] : [];
  return [...reasons.slice(0, MAX_REASONS).map((reason) => `\n  ${reason}`), ...more];
}
