/** `silverback nodes`: each node, whether it answers or not. */
import type { Command } from 'commander';
import type { NodeReport } from '../cluster/report.ts';
import { type Context, coordinatorOf, examples, show } from './context.ts';
import { addCordon } from './cordon.ts';
import { addDrain } from './drain.ts';
import { addRemove } from './remove.ts';
import { bytes, type Column, count, table, UNKNOWN } from './table.ts';

const COLUMNS: readonly Column<NodeReport>[] = [
  { head: 'NODE', cell: ({ node }) => node },
  { head: 'REGION', cell: ({ region }) => region },
  { head: 'ZONE', cell: ({ zone }) => zone },
  { head: 'PID', cell: ({ pid }) => (pid === null ? UNKNOWN : String(pid)), right: true },
  { head: 'ADDRESS', cell: ({ address }) => address },
  { head: 'STATE', cell: ({ state, cordon }) => (cordon ? `${state} ${cordon}` : state) },
  { head: 'SHARDS', cell: ({ serving, copies }) => `${serving ?? UNKNOWN}/${copies}`, right: true },
  { head: 'SERIES', cell: ({ series }) => count(series), right: true },
  { head: 'SAMPLES', cell: ({ samples }) => count(samples), right: true },
  { head: 'MEM', cell: ({ memoryBytes }) => bytes(memoryBytes), right: true },
];

export function addNodes(program: Command, context: Context): void {
  const nodes = program
    .command('nodes')
    .helpCommand(false)
    .description('each node: where it is, how it is, what it holds')
    .addHelpText('after', examples('nodes', 'nodes --output json', 'nodes remove node-2 --lost'))
    .action(async (_options, command: Command) => {
      const { data, warnings } = await coordinatorOf(command).get<readonly NodeReport[]>('/cluster/nodes');
      show(context, command, { data, warnings, text: () => nodesText(data, context.columns) });
    });
  addCordon(nodes, context);
  addDrain(nodes, context);
  addRemove(nodes, context);
}

export function nodesText(nodes: readonly NodeReport[], width: number): string {
  return nodes.length === 0 ? 'no node has registered yet\n' : table(COLUMNS, nodes, width);
}
