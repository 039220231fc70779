/** `silverback nodes cordon` and `uncordon`: a node that gets no copies, while it keeps those it has. */
import type { Command } from 'commander';
import { agreed, changing } from './confirm.ts';
import { type Context, coordinatorOf, examples, show } from './context.ts';
import { knownNode } from './remove.ts';

/** By command: what it says to the placement, and to people. */
const COMMANDS = {
  cordon: ['on', 'gives a node no new copies, and moves none to it', 'gets no new copies'],
  uncordon: ['off', 'lets a node have copies again, and ends its draining', 'may have copies again'],
} as const;

export function addCordon(nodes: Command, context: Context): void {
  for (const [command, [mode, description, done]] of Object.entries(COMMANDS)) {
    changing(
      nodes
        .command(command)
        .description(description)
        .argument('<NAME>', 'of the node')
        .option('--region <NAME>', 'of the node, where its name is in several'),
    )
      .addHelpText('after', examples(`nodes ${command} node-2`, `nodes ${command} west-1 --region west --yes`))
      .action(async (name: string, options: { region?: string }, command: Command) => {
        const coordinator = coordinatorOf(command);
        const { region, node } = await knownNode(coordinator, name, options.region);
        const plan = { region, node, mode };
        if (!(await agreed(context, command, { data: plan, text: `${description}: ${region}/${node}\n` }))) return;
        await coordinator.post('/admin/nodes/cordon', { region, name: node, mode });
        show(context, command, { data: plan, text: () => `${region}/${node} ${done}\n` });
      });
  }
}
