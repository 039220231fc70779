/** `silverback shards`: each copy of each shard. */
import type { Command } from 'commander';
import type { CopyReport, ShardReport } from '../cluster/report.ts';
import { type Context, coordinatorOf, examples, show, wholeNumber } from './context.ts';
import { addMove } from './move.ts';
import { bytes, type Column, count, table, wrap } from './table.ts';

interface Row extends CopyReport {
  readonly shard: number;
}

const COLUMNS: readonly Column<Row>[] = [
  { head: 'SHARD', cell: ({ shard }) => String(shard), right: true },
  { head: 'REGION', cell: ({ region }) => region },
  { head: 'NODE', cell: ({ node }) => node },
  { head: 'STATE', cell: stateOf },
  { head: 'EPOCH', cell: ({ epoch }) => String(epoch), right: true },
  { head: 'SERIES', cell: ({ series }) => count(series), right: true },
  { head: 'SAMPLES', cell: ({ samples }) => count(samples), right: true },
  { head: 'MEMORY', cell: ({ memoryBytes }) => bytes(memoryBytes), right: true },
  { head: 'LOG', cell: ({ logBytes }) => bytes(logBytes), right: true },
  { head: 'BLOCKS', cell: ({ diskBytes }) => bytes(diskBytes), right: true },
];

export function addShards(program: Command, context: Context): void {
  const shards = program
    .command('shards')
    .helpCommand(false)
    .description('each copy of each shard: where it is, how it is, what it holds')
    .option('--shard <N>', 'this shard only', wholeNumber(0, 65_535))
    .option('--region <NAME>', 'copies in this region only')
    .option('--node <NAME>', 'copies on this node only')
    .addHelpText(
      'after',
      examples('shards', 'shards --region east --node east-1', 'shards move 3 --to east-2 --dry-run'),
    )
    .action(async (options: { shard?: number; region?: string; node?: string }, command: Command) => {
      const { shard, region, node } = options;
      const filters = { shard: shard?.toString(), region, node };
      const { data, warnings } = await coordinatorOf(command).get<readonly ShardReport[]>('/cluster/shards', filters);
      show(context, command, { data, warnings, text: () => shardsText(data, context.columns) });
    });
  addMove(shards, context);
}

/** What it is in the placement, and what it is in the node where that is something else. */
function stateOf({ state, serving }: CopyReport): string {
  if (serving === 'serving') return state;
  return state === 'active' ? serving : `${state}, ${serving}`;
}

export function shardsText(shards: readonly ShardReport[], width: number): string {
  const rows = shards.flatMap(({ shard, copies }) => copies.map((copy) => ({ ...copy, shard })));
  if (rows.length === 0) return 'no such copy is placed\n';
  const troubles = rows
    .filter(({ problem, serving }) => problem !== '' && serving !== 'down')
    .map(({ shard, region, node, problem }) => wrap(`\nshard ${shard} on ${region}/${node}: ${problem}`, width));
  return `${table(COLUMNS, rows, width)}${troubles.length === 0 ? '' : `${troubles.join('')}\n`}`;
}
