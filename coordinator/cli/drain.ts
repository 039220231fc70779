/** `silverback nodes drain`: a node's copies move to others, and then it is proved that nothing needs the node any more. */
import type { Command } from 'commander';
import { SilverbackError } from '../../core/errors.ts';
import { nextMoves } from '../../core/meta/moves.ts';
import type { CopyState } from '../../core/placement.ts';
import { bytesOf, type Estimate, estimate, type Giver, type PlannedMove } from '../cluster/plan.ts';
import type { NodeReport, ShardReport, StatusReport } from '../cluster/report.ts';
import { agreed, changing } from './confirm.ts';
import { type Context, coordinatorOf, examples, show } from './context.ts';
import type { Coordinator } from './coordinator.ts';
import { evidence, missingOf, placedOn, singleOf } from './evidence.ts';
import { estimateText } from './moving.ts';
import { patiently, pause } from './patience.ts';
import { progress } from './progress.ts';
import { pickNode } from './remove.ts';
import { facts, plural, ranges } from './table.ts';

/** Where the copies of a node are to go. */
export interface DrainPlan extends Estimate {
  readonly region: string;
  readonly node: string;
  readonly copies: readonly number[];
  /** Shards that something happens to already have no move yet. */
  readonly moves: readonly PlannedMove[];
}

export function addDrain(nodes: Command, context: Context): void {
  changing(
    nodes
      .command('drain')
      .description(
        'moves every copy of a node to others, and says when it is safe to power off; goes on when interrupted',
      )
      .argument('<NAME>', 'of the node')
      .option('--region <NAME>', 'of the node, where its name is in several'),
  )
    .addHelpText('after', examples('nodes drain node-2 --dry-run', 'nodes drain west-1 --region west --yes'))
    .action(async (name: string, options: { region?: string }, command: Command) => {
      const coordinator = coordinatorOf(command);
      const { data: known } = await coordinator.get<readonly NodeReport[]>('/cluster/nodes');
      const { region, node } = pickNode(known, name, options.region);
      const { data: shards } = await coordinator.get<readonly ShardReport[]>('/cluster/shards');
      const plan = drainPlan(region, node, known, shards);
      if (!(await agreed(context, command, { data: plan, text: drainText(plan, context.columns) }))) return;
      await coordinator.post('/admin/nodes/cordon', { region, name: node, mode: 'drain' });
      await emptied(context, coordinator, plan);
      const found = await evidence(context, coordinator, region, node);
      const missing = missingOf(region, node, found);
      const single = singleOf(found);
      const safe = missing.length === 0;
      const text = () =>
        safe
          ? `${region}/${node} is safe to power off${single.length === 0 ? '' : onlyOne(single)}\n`
          : missing.map((one) => `${one}\n`).join('');
      show(context, command, { data: { region, node, safe, missing }, text });
      if (!safe) throw new SilverbackError('UNAVAILABLE', `${region}/${node} is not proved safe to power off`);
    });
}

function onlyOne(shards: readonly number[]): string {
  const of = shards.length === 1 ? 'shard' : 'shards';
  return `: all that it took was delivered; of ${of} ${ranges(shards)} there is one copy, and nothing to compare it with`;
}

/** @throws SilverbackError CONFLICT when there are too few other nodes */
export function drainPlan(
  region: string,
  node: string,
  known: readonly (Pick<NodeReport, 'zone' | 'registered' | 'cordon'> & Giver)[],
  shards: readonly ShardReport[],
): DrainPlan {
  const own = shards.map(({ copies }) => copies.filter((copy) => copy.region === region));
  const held = own.flat().filter((copy) => copy.node === node);
  const wanted = Math.max(1, ...own.map((copies) => copies.filter(({ state }) => state === 'active').length));
  const living = known.filter((one) => one.region === region && one.registered !== false);
  const others = living.filter((one) => one.node !== node && one.cordon === null).length;
  if (held.length > 0 && others < wanted) {
    const need = `its copies need ${plural(wanted, 'other node')} without a cordon`;
    const message = `${region}/${node} cannot be drained: ${need}, and there ${others === 1 ? 'is' : 'are'} ${others}`;
    throw new SilverbackError('CONFLICT', message);
  }
  const cordons = Object.fromEntries(living.flatMap((one) => (one.cordon === null ? [] : [[one.node, one.cordon]])));
  const moves = nextMoves({
    nodes: living.map(({ node: name, zone }) => ({ name, zone })),
    shards: own.map((copies) =>
      copies.map((copy) => ({ node: copy.node, state: copy.state as CopyState, epoch: copy.epoch })),
    ),
    copies: wanted,
    cordons: { ...cordons, [node]: 'draining' },
    isUnbounded: true,
  })
    .filter(({ from }) => from === node)
    .map((move): PlannedMove => {
      const copy = own[move.shard]?.find((one) => one.node === node);
      return { ...move, samples: copy?.samples ?? null, bytes: bytesOf(copy) };
    });
  return {
    region,
    node,
    copies: own.flatMap((copies, shard) => (copies.some((copy) => copy.node === node) ? [shard] : [])),
    moves,
    ...estimate(region, moves, known),
  };
}

export function drainText(plan: DrainPlan, width: number): string {
  const { region, node, copies, moves } = plan;
  const targets = [...new Set(moves.map(({ to }) => to))].sort();
  const open = copies.filter((shard) => moves.every((move) => move.shard !== shard));
  const rows: [string, string][] = [['Drains', `${region}/${node}: it gets no copies, and those it has move`]];
  for (const to of targets) {
    const shards = moves.filter((move) => move.to === to).map(({ shard }) => shard);
    rows.push([`To ${to}`, `${plural(shards.length, 'shard')}: ${ranges(shards)}`]);
  }
  if (open.length > 0) rows.push(['Later', `${plural(open.length, 'shard')} on the way already: ${ranges(open)}`]);
  rows.push(['Moves', copies.length === 0 ? 'nothing: it has no copies' : estimateText(plan)]);
  return facts(rows, width);
}

/** Waits until the placement has no copy on the node. */
async function emptied(context: Context, coordinator: Coordinator, { region, node, copies }: DrainPlan): Promise<void> {
  const bar = progress(context, copies.length);
  try {
    for (let said = ''; ; ) {
      const left = await placedOn(context, coordinator, region, node);
      if (left.length === 0) return;
      const why = await obstacle(context, coordinator, region, node);
      const what = why === '' ? `copies moved; left: ${ranges(left)}` : `moved, waiting: ${why}`;
      bar.update(Math.max(0, copies.length - left.length), what);
      if (why !== said && why !== '') bar.say(`waiting: ${why}`);
      said = why;
      await pause(context);
      const { data: known } = await patiently(context, () => coordinator.get<readonly NodeReport[]>('/cluster/nodes'));
      if (known.find((one) => one.region === region && one.node === node)?.registered !== false) continue;
      const message = `${region}/${node} is gone, with copies of shards ${ranges(left)}: start it, and its draining goes on`;
      throw new SilverbackError('UNAVAILABLE', message);
    }
  } finally {
    bar.stop();
  }
}

/** Why nothing moves away from the node now; empty while something does. */
async function obstacle(context: Context, coordinator: Coordinator, region: string, node: string): Promise<string> {
  const { data } = await patiently(context, () => coordinator.get<StatusReport>('/cluster/status'));
  const moves = data.moves?.find((one) => one.region === region);
  return moves?.draining.find((one) => one.node === node)?.waitsFor ?? '';
}
