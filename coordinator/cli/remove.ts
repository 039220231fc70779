/** `silverback nodes remove --lost`: a node that will not come back leaves the placement. */
import type { Command } from 'commander';
import { SilverbackError } from '../../core/errors.ts';
import type { NodeReport, ShardReport } from '../cluster/report.ts';
import { agreed, changing } from './confirm.ts';
import { type Context, coordinatorOf, examples, show } from './context.ts';
import { facts, plural, ranges } from './table.ts';

interface Options {
  readonly lost?: boolean;
  readonly region?: string;
}

/** What removing a node gives up. */
export interface RemovePlan {
  readonly region: string;
  readonly node: string;
  readonly copies: readonly number[];
  /** Shards of which no other copy is complete. */
  readonly onlyThere: readonly number[];
}

export function addRemove(nodes: Command, context: Context): void {
  changing(
    nodes
      .command('remove')
      .description('gives up a node that will not come back, with what only it has')
      .argument('<NAME>', 'of the node')
      .option('--lost', 'it will not come back: has to be said')
      .option('--region <NAME>', 'of the node, where its name is in several'),
  )
    .addHelpText('after', examples('nodes remove node-2 --lost --dry-run', 'nodes remove west-1 --lost --yes'))
    .action(async (name: string, { lost, region }: Options, command: Command) => {
      if (lost !== true) {
        const message = 'only a lost node can be removed, which gives up what only it has: --lost says that it is one';
        throw new SilverbackError('INVALID_ARGUMENT', message);
      }
      const coordinator = coordinatorOf(command);
      const { data: known } = await coordinator.get<readonly NodeReport[]>('/cluster/nodes');
      const node = pickNode(known, name, region);
      checkGone(node);
      const { data: shards } = await coordinator.get<readonly ShardReport[]>('/cluster/shards');
      const plan = planOf(node, shards);
      if (!(await agreed(context, command, { data: plan, text: planText(plan, context.columns) }))) return;
      await coordinator.post('/admin/nodes/remove', { region: node.region, name: node.node, lost: 'true' });
      show(context, command, { data: plan, text: () => `${node.region}/${node.node} is removed\n` });
    });
}

/** The node of that name; an error says which there are. */
export function pickNode(known: readonly NodeReport[], name: string, region: string | undefined): NodeReport {
  const found = known.filter((node) => node.node === name && (region === undefined || node.region === region));
  const [node] = found;
  if (node === undefined) {
    const names = known.map((one) => `${one.region}/${one.node}`).join(', ') || 'none';
    const where = region === undefined ? '' : ` in region ${region}`;
    throw new SilverbackError('NOT_FOUND', `there is no node ${name}${where}; there are ${names}`);
  }
  if (found.length > 1) {
    const regions = found.map((one) => one.region).join(', ');
    throw new SilverbackError('INVALID_ARGUMENT', `${name} is in several regions (${regions}): --region says which`);
  }
  return node;
}

function checkGone(node: NodeReport): void {
  if (node.registered === true || node.state !== 'down') {
    const how = node.state === 'down' ? 'registered' : node.state;
    throw new SilverbackError(
      'CONFLICT',
      `${node.region}/${node.node} is ${how}: only a node that is gone can be declared lost`,
    );
  }
}

export function planOf(
  { region, node }: Pick<NodeReport, 'region' | 'node'>,
  shards: readonly ShardReport[],
): RemovePlan {
  const held = shards.filter(({ copies }) => copies.some((copy) => copy.region === region && copy.node === node));
  return {
    region,
    node,
    copies: held.map(({ shard }) => shard),
    // A node that is down makes no copy complete, so a complete shard has another one.
    onlyThere: held.filter(({ complete }) => !complete).map(({ shard }) => shard),
  };
}

export function planText({ region, node, copies, onlyThere }: RemovePlan, width: number): string {
  const lost =
    onlyThere.length === 0
      ? 'what it acknowledged and had not delivered to another copy'
      : `shards ${ranges(onlyThere)}: no other copy of them is complete now; and what it had not delivered of the others`;
  return facts(
    [
      ['Removes', `${region}/${node}`],
      ['Its copies', copies.length === 0 ? 'none' : `${plural(copies.length, 'shard')}: ${ranges(copies)}`],
      ['Gives up', copies.length === 0 ? 'nothing' : lost],
    ],
    width,
  );
}
