/** `silverback nodes remove`: a node that has nothing any more, or one that will not come back. */
import type { Command } from 'commander';
import { SilverbackError } from '../../core/errors.ts';
import type { NodeReport, ShardReport, StatusReport } from '../cluster/report.ts';
import { agreed, changing } from './confirm.ts';
import { type Context, coordinatorOf, examples, show } from './context.ts';
import type { Coordinator } from './coordinator.ts';
import { evidence, missingOf } from './evidence.ts';
import { facts, plural, ranges } from './table.ts';

interface Options {
  readonly lost?: boolean;
  readonly region?: string;
}

/** A node that is there, or that only has a cordon. */
interface Known {
  readonly region: string;
  readonly node: string;
  /** Undefined: it is neither registered nor has a copy. */
  readonly report: NodeReport | undefined;
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
      .description('forgets a node that is drained, with its cordon; or, as --lost, one that will not come back')
      .argument('<NAME>', 'of the node')
      .option('--lost', 'it will not come back: gives up what only it has')
      .option('--region <NAME>', 'of the node, where its name is in several'),
  )
    .addHelpText('after', examples('nodes remove node-2', 'nodes remove west-1 --lost --dry-run'))
    .action(async (name: string, { lost, region }: Options, command: Command) => {
      const coordinator = coordinatorOf(command);
      const node = await knownNode(coordinator, name, region);
      await (lost === true ? removeLost : removeEmpty)(context, command, coordinator, node);
    });
}

async function removeLost(context: Context, command: Command, coordinator: Coordinator, node: Known): Promise<void> {
  if (node.report !== undefined) checkGone(node.report);
  const { data: shards } = await coordinator.get<readonly ShardReport[]>('/cluster/shards');
  const plan = planOf(node, shards);
  if (!(await agreed(context, command, { data: plan, text: planText(plan, context.columns) }))) return;
  // One that has nothing has nothing to lose.
  const lost = plan.copies.length > 0 ? 'true' : undefined;
  await coordinator.post('/admin/nodes/remove', { region: node.region, name: node.node, lost });
  show(context, command, { data: plan, text: () => `${node.region}/${node.node} is removed\n` });
}

async function removeEmpty(context: Context, command: Command, coordinator: Coordinator, node: Known): Promise<void> {
  const { region, node: name, report } = node;
  const where = `${region}/${name}`;
  const { data: shards } = await coordinator.get<readonly ShardReport[]>('/cluster/shards');
  const { copies } = planOf(node, shards);
  if (copies.length > 0) {
    const first = `silverback nodes drain ${name} moves them, --lost gives them up`;
    const message = `${where} has ${copies.length === 1 ? 'a copy of shard' : 'copies of shards'} ${ranges(copies)}: ${first}`;
    throw new SilverbackError('CONFLICT', message);
  }
  // Of one that is gone, the placement is the proof: a copy leaves it only when everything in it is in the others.
  const isThere = report !== undefined && report.registered !== false;
  const missing = isThere ? missingOf(region, name, await evidence(context, coordinator, region, name)) : [];
  if (missing.length > 0) {
    throw new SilverbackError('CONFLICT', `${where} is not proved safe to remove: ${missing.join('; ')}`);
  }
  const plan = { region, node: name, copies: [], onlyThere: [], running: isThere };
  const text = facts(
    [
      ['Removes', `${where}: it has no copies, and everything it took is in others`],
      ['Then', isThere ? 'it gets none while it runs; stop it' : 'a node of that name is a new one'],
    ],
    context.columns,
  );
  if (!(await agreed(context, command, { data: plan, text }))) return;
  await coordinator.post('/admin/nodes/remove', { region, name });
  const next = isThere ? ': stop it, and it is forgotten' : '';
  show(context, command, { data: plan, text: () => `${where} is removed${next}\n` });
}

/** The node of that name, also one of which only a cordon is left. */
export async function knownNode(coordinator: Coordinator, name: string, region: string | undefined): Promise<Known> {
  const { data: known } = await coordinator.get<readonly NodeReport[]>('/cluster/nodes');
  if (!known.some((node) => node.node === name && (region === undefined || node.region === region))) {
    const { data: status } = await coordinator.get<StatusReport>('/cluster/status');
    const left = (status.moves ?? []).filter(
      (one) => (region === undefined || one.region === region) && one.cordons.some(({ node }) => node === name),
    );
    const [only, ...others] = left;
    if (only !== undefined && others.length === 0) return { region: only.region, node: name, report: undefined };
    if (only !== undefined) throw inSeveral(name, left);
  }
  const report = pickNode(known, name, region);
  return { region: report.region, node: report.node, report };
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
  if (found.length > 1) throw inSeveral(name, found);
  return node;
}

function inSeveral(name: string, found: readonly { readonly region: string }[]): SilverbackError {
  const regions = found.map(({ region }) => region).join(', ');
  return new SilverbackError('INVALID_ARGUMENT', `${name} is in several regions (${regions}): --region says which`);
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
