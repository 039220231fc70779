/** `silverback shards move` and `silverback rebalance`: copies that are moved because somebody asks for it. */
import { type Command, InvalidArgumentError } from 'commander';
import { SilverbackError } from '../../core/errors.ts';
import { type PlanReport, parseShards } from '../cluster/plan.ts';
import type { NodeReport, StatusReport } from '../cluster/report.ts';
import { agreed, changing } from './confirm.ts';
import { type Context, coordinatorOf, examples, show } from './context.ts';
import type { Coordinator } from './coordinator.ts';
import { type Ordered, planText, watched } from './moving.ts';
import { pickNode } from './remove.ts';
import { plural } from './table.ts';

interface MoveOptions {
  readonly to: string;
  readonly from?: string;
  readonly region?: string;
}

const DETACH = ['--detach', 'do not wait for the end: silverback moves watch does'] as const;

export function addMove(shards: Command, context: Context): void {
  changing(
    shards
      .command('move')
      .description('moves copies of shards to another node, where they stay until rebalance, and waits for the end')
      .argument('<SHARDS>', 'such as 3 or 0-3,7', shardsArgument)
      .requiredOption('--to <NODE>', 'where they are to be')
      .option('--from <NODE>', 'where they are now; needed where a shard has several copies in the region')
      .option('--region <NAME>', "of the nodes, where the target's name is in several")
      .option(...DETACH),
  )
    .addHelpText(
      'after',
      examples('shards move 3 --to east-2 --dry-run', 'shards move 0-3,7 --from east-1 --to east-2 --yes'),
    )
    .action(async (ids: readonly number[], options: MoveOptions, command: Command) => {
      const { to, from } = options;
      const coordinator = coordinatorOf(command);
      const { data: known } = await coordinator.get<readonly NodeReport[]>('/cluster/nodes');
      const { region } = pickNode(known, to, options.region);
      const order = { region, shards: ids.join(','), to, from };
      const { data: plan } = await coordinator.get<PlanReport>('/cluster/plan', order);
      if (!(await agreed(context, command, { data: plan, text: planText([plan], context.columns) }))) return;
      const { data } = await coordinator.post<Pick<Ordered, 'moves'>>('/admin/shards/move', order);
      await follow(context, command, coordinator, [{ region, moves: data.moves }]);
    });
}

export function addRebalance(program: Command, context: Context): void {
  changing(
    program
      .command('rebalance')
      .description('moves copies until every node holds its share, wherever they were put by hand')
      .option('--region <NAME>', 'in this region only (default: in all)')
      .option(...DETACH),
  )
    .addHelpText('after', examples('rebalance --dry-run', 'rebalance --region east --yes'))
    .action(async ({ region }: { region?: string }, command: Command) => {
      const coordinator = coordinatorOf(command);
      const regions = region === undefined ? await regionsOf(coordinator) : [region];
      const plans: PlanReport[] = [];
      for (const one of regions) {
        plans.push((await coordinator.get<PlanReport>('/cluster/plan', { region: one })).data);
      }
      if (!(await agreed(context, command, { data: plans, text: planText(plans, context.columns) }))) return;
      const ordered: Ordered[] = [];
      for (const one of regions) {
        const { data } = await coordinator.post<Pick<Ordered, 'moves'>>('/admin/rebalance', { region: one });
        ordered.push({ region: one, moves: data.moves });
      }
      await follow(context, command, coordinator, ordered);
    });
}

/** Waits for the moves of each region, unless nobody wants to, and says what became of them. */
async function follow(
  context: Context,
  command: Command,
  coordinator: Coordinator,
  ordered: readonly Ordered[],
): Promise<void> {
  const { detach = false } = command.opts<{ detach?: boolean }>();
  const data: object[] = [];
  const lines: string[] = [];
  const failed: string[] = [];
  for (const { region, moves } of ordered) {
    if (detach || moves.length === 0) {
      data.push({ region, moves });
      lines.push(
        moves.length === 0
          ? `nothing moves in ${region}\n`
          : `${plural(moves.length, 'move')} asked for in ${region}\n`,
      );
      continue;
    }
    const missing = await watched(context, coordinator, { region, moves });
    data.push({ region, moves: moves.map((move) => ({ ...move, moved: !missing.includes(move) })) });
    if (missing.length < moves.length)
      lines.push(`${plural(moves.length - missing.length, 'shard')} moved in ${region}\n`);
    failed.push(...missing.map(({ id, shard, to }) => `${id} (shard ${shard} to ${to})`));
  }
  show(context, command, { data, text: () => lines.join('') });
  if (failed.length > 0) throw new SilverbackError('CONFLICT', `called off: ${failed.join(', ')}`);
}

async function regionsOf(coordinator: Coordinator): Promise<string[]> {
  const { data } = await coordinator.get<StatusReport>('/cluster/status');
  if (data.regions.length === 0) throw new SilverbackError('UNAVAILABLE', 'no shards are placed yet');
  return data.regions.map(({ region }) => region);
}

function shardsArgument(text: string): number[] {
  const shards = parseShards(text);
  if (shards !== undefined) return shards;
  throw new InvalidArgumentError('expected shards such as 3 or 0-3,7');
}
