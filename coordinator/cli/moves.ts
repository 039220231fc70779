/** `silverback moves`: copies that are on their way to another node, and holding them. */
import type { Command } from 'commander';
import type { CopyRepair, ShardReport, StatusReport } from '../cluster/report.ts';
import { agreed, changing } from './confirm.ts';
import { type Context, coordinatorOf, examples, type Shared, show } from './context.ts';
import type { Coordinator } from './coordinator.ts';
import { type Column, count, table } from './table.ts';

/** A copy that is being filled, or that delivers what it has before it goes. */
export interface MovingCopy {
  readonly shard: number;
  readonly region: string;
  readonly node: string;
  readonly state: string;
  readonly filledWindows: number;
  readonly windows: number;
  readonly samples: number;
}

/** By command: what it says to the placement, and to people. */
const MODES = {
  pause: ['paused', 'holds the moves where they are', 'moves are held'],
  resume: ['on', 'lets copies move again', 'copies may move'],
  abort: ['off', 'calls the moves off, and begins with none', 'moves are called off'],
} as const;

const WATCH_MS = 1_000;

const COLUMNS: readonly Column<MovingCopy>[] = [
  { head: 'SHARD', cell: ({ shard }) => String(shard), right: true },
  { head: 'COPY', cell: ({ region, node }) => `${region}/${node}` },
  { head: 'STATE', cell: ({ state }) => state },
  { head: 'WINDOWS', cell: ({ filledWindows, windows }) => `${filledWindows}/${windows || '?'}`, right: true },
  { head: 'SAMPLES', cell: ({ samples }) => count(samples), right: true },
];

export function addMoves(program: Command, context: Context): void {
  const moves = program
    .command('moves')
    .helpCommand(false)
    .description('copies that are filled on another node, or that leave one')
    .addHelpText('after', examples('moves list', 'moves pause --region east', 'moves resume --yes'));
  moves
    .command('list')
    .description('each copy that is joining (being filled) or leaving (delivering what it has)')
    .addHelpText('after', examples('moves list', 'moves list --output json'))
    .action(async (_options, command: Command) => {
      const { copies: data, warnings } = await ask(coordinatorOf(command));
      show(context, command, { data, warnings, text: () => movesText(data, context.columns) });
    });
  moves
    .command('watch')
    .description('a line for each thing that happens to such copies, until none is on its way')
    .addHelpText('after', examples('moves watch', 'moves watch --output json | jq .shard'))
    .action(async (_options, command: Command) => {
      const coordinator = coordinatorOf(command);
      const { output } = command.optsWithGlobals<Shared>();
      let before: readonly MovingCopy[] = [];
      for (;;) {
        const { copies } = await ask(coordinator);
        for (const copy of changedCopies(before, copies)) {
          context.out(output === 'json' ? `${JSON.stringify(copy)}\n` : changeText(copy));
        }
        if (copies.length === 0) break;
        before = copies;
        await new Promise<void>((resolve) => void context.env.timers.after(WATCH_MS, resolve));
      }
      if (output === 'table') context.out(movesText([], context.columns));
    });
  for (const [name, [mode, description, done]] of Object.entries(MODES)) {
    changing(
      moves.command(name).description(description).option('--region <NAME>', 'in this region only (default: in all)'),
    )
      .addHelpText('after', examples(`moves ${name}`, `moves ${name} --region east --yes`))
      .action(async ({ region }: { region?: string }, command: Command) => {
        const coordinator = coordinatorOf(command);
        const { data: status } = await coordinator.get<StatusReport>('/cluster/status');
        const regions = region === undefined ? status.regions.map((one) => one.region) : [region];
        const plan = { regions, mode };
        const text = `${description}, in ${regions.join(', ')}\n`;
        if (!(await agreed(context, command, { data: plan, text }))) return;
        for (const one of regions) await coordinator.post('/admin/moves', { region: one, mode });
        show(context, command, { data: plan, text: () => `${done}\n` });
      });
  }
}

async function ask(coordinator: Coordinator): Promise<{ copies: MovingCopy[]; warnings: readonly string[] }> {
  const { data: shards, warnings } = await coordinator.get<readonly ShardReport[]>('/cluster/shards');
  const { data: repairs } = await coordinator.get<readonly CopyRepair[]>('/cluster/repair');
  return { copies: movingCopies(shards, repairs), warnings };
}

/** What is new, or further than before; and, as `done`, what is on its way no more. */
export function changedCopies(before: readonly MovingCopy[], now: readonly MovingCopy[]): MovingCopy[] {
  const isSame = (a: MovingCopy, b: MovingCopy) => a.shard === b.shard && a.region === b.region && a.node === b.node;
  const changed = now.filter((copy) => {
    const known = before.find((one) => isSame(one, copy));
    return known?.state !== copy.state || known.filledWindows !== copy.filledWindows || known.windows !== copy.windows;
  });
  const done = before.filter((copy) => !now.some((one) => isSame(one, copy)));
  return [...changed, ...done.map((copy) => ({ ...copy, state: 'done' }))];
}

function changeText({ shard, region, node, state, filledWindows, windows }: MovingCopy): string {
  const filled = state === 'joining' ? `, ${filledWindows} of ${windows || '?'} windows are filled` : '';
  return `shard ${shard}: ${region}/${node} ${state}${filled}\n`;
}

export function movingCopies(shards: readonly ShardReport[], repairs: readonly CopyRepair[]): MovingCopy[] {
  return shards.flatMap(({ shard, copies }) =>
    copies
      .filter(({ state }) => state !== 'active')
      .map(({ region, node, state, samples }) => {
        const repair = repairs.find((one) => one.shard === shard && one.region === region && one.node === node);
        const { filledWindows = 0, fillWindows: windows = 0 } = repair ?? {};
        return { shard, region, node, state, filledWindows, windows, samples: samples ?? 0 };
      }),
  );
}

export function movesText(copies: readonly MovingCopy[], width: number): string {
  return copies.length === 0 ? 'no copy is on its way\n' : table(COLUMNS, copies, width);
}
