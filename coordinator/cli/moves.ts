/** `silverback moves`: copies that are on their way to another node, and holding them. */
import type { Command } from 'commander';
import { SilverbackError } from '../../core/errors.ts';
import type { MoveReport } from '../cluster/moves.ts';
import type { StatusReport } from '../cluster/report.ts';
import { agreed, changing } from './confirm.ts';
import { type Context, coordinatorOf, examples, type Shared, show } from './context.ts';
import type { Coordinator } from './coordinator.ts';
import { patiently, pause } from './patience.ts';
import { bytes, type Column, count, table, UNKNOWN, wrap } from './table.ts';

/** The same copy, or one that is on its way no more. */
type ChangedCopy = Omit<MoveReport, 'state'> & { readonly state: MoveReport['state'] | 'done' };

/** By command: what it says to the placement, and to people. */
const MODES = {
  pause: ['paused', 'holds moves where they are', 'held'],
  resume: ['on', 'lets moves go on, and copies move by themselves', 'going on'],
  abort: ['off', 'calls moves off, and lets none begin by itself', 'called off'],
} as const;

/** The same of one move. */
const MODES_OF_ONE = {
  pause: 'holds the move where it is',
  resume: 'lets the move go on',
  abort: 'calls the move off: the copy stays where it is until rebalance',
} as const;

const COLUMNS: readonly Column<MoveReport>[] = [
  { head: 'ID', cell: ({ id }) => id ?? UNKNOWN },
  { head: 'SHARD', cell: ({ shard }) => String(shard), right: true },
  { head: 'COPY', cell: ({ region, node }) => `${region}/${node}` },
  { head: 'FROM', cell: ({ from }) => from ?? UNKNOWN },
  { head: 'STATE', cell: ({ state, held }) => (held ? `${state}, held` : state) },
  { head: 'WINDOWS', cell: ({ filledWindows, windows }) => `${filledWindows}/${windows || '?'}`, right: true },
  { head: 'SAMPLES', cell: ({ samples }) => count(samples), right: true },
  { head: 'BROUGHT', cell: (copy) => bytes(copy.bytes), right: true },
];

export function addMoves(program: Command, context: Context): void {
  const moves = program
    .command('moves')
    .helpCommand(false)
    .description('copies that are filled on another node, or that leave one')
    .addHelpText('after', examples('moves list', 'moves pause --region east', 'moves resume --yes'));
  moves
    .command('list')
    .description('each copy that waits for its turn, is joining (being filled) or leaving (delivering what it has)')
    .addHelpText('after', examples('moves list', 'moves list --output json'))
    .action(async (_options, command: Command) => {
      const { data, warnings } = await ask(coordinatorOf(command));
      show(context, command, { data, warnings, text: () => movesText(data, context.columns) });
    });
  moves
    .command('watch')
    .description('a line for each thing that happens to such copies, until none is on its way')
    .addHelpText('after', examples('moves watch', 'moves watch --output json | jq .shard'))
    .action(async (_options, command: Command) => {
      const coordinator = coordinatorOf(command);
      const { output } = command.optsWithGlobals<Shared>();
      let before: readonly MoveReport[] = [];
      for (;;) {
        const { data: copies } = await patiently(context, () => ask(coordinator));
        for (const copy of changedCopies(before, copies)) {
          context.out(output === 'json' ? `${JSON.stringify(copy)}\n` : changeText(copy));
        }
        if (copies.length === 0) break;
        before = copies;
        await pause(context);
      }
      if (output === 'table') context.out(movesText([], context.columns));
    });
  for (const [name, [mode, description, done]] of Object.entries(MODES)) {
    changing(
      moves
        .command(name)
        .description(`${description}; with an ID, one of them`)
        .argument('[ID]', 'of one move, as moves list has it (default: all moves)')
        .option('--region <NAME>', 'in this region only (default: in all)'),
    )
      .addHelpText('after', examples(`moves ${name}`, `moves ${name} --region east --yes`, `moves ${name} east/17`))
      .action(async (id: string | undefined, { region }: { region?: string }, command: Command) => {
        const coordinator = coordinatorOf(command);
        if (id !== undefined) {
          await switchOne(context, command, coordinator, { name: name as keyof typeof MODES, id, region });
          return;
        }
        const { data: status } = await coordinator.get<StatusReport>('/cluster/status');
        const known = status.regions.map((one) => one.region);
        if (region !== undefined && !known.includes(region)) throw noRegion(region, known);
        const regions = region === undefined ? known : [region];
        const plan = { regions, mode };
        const text = `${description}, in ${regions.join(', ')}\n`;
        if (!(await agreed(context, command, { data: plan, text }))) return;
        for (const one of regions) await coordinator.post('/admin/moves', { region: one, mode });
        show(context, command, { data: plan, text: () => `all moves in ${regions.join(', ')} are ${done}\n` });
      });
  }
}

function noRegion(region: string, known: readonly string[]): SilverbackError {
  return new SilverbackError('NOT_FOUND', `there is no region ${region}; there are ${known.join(', ') || 'none'}`);
}

async function switchOne(
  context: Context,
  command: Command,
  coordinator: Coordinator,
  { name, id, region }: { name: keyof typeof MODES; id: string; region: string | undefined },
): Promise<void> {
  const { data: moves } = await ask(coordinator);
  const found = moves.find((one) => one.id === id && (region === undefined || one.region === region));
  if (found === undefined) {
    const ids = moves.flatMap((one) => (one.id === null ? [] : [one.id])).join(', ') || 'none';
    throw new SilverbackError('NOT_FOUND', `there is no move ${id}; there are ${ids}`);
  }
  const [mode, , done] = MODES[name];
  const plan = { region: found.region, id, mode, shard: found.shard };
  const text = `${MODES_OF_ONE[name]}: ${id}, shard ${found.shard} ${found.state} on ${found.node}\n`;
  if (!(await agreed(context, command, { data: plan, text }))) return;
  await coordinator.post('/admin/moves', { region: found.region, id, mode });
  show(context, command, { data: plan, text: () => `move ${id} is ${done}\n` });
}

function ask(coordinator: Coordinator) {
  return coordinator.get<readonly MoveReport[]>('/cluster/moves');
}

/** What is new, or further than before; and, as `done`, what is on its way no more. */
export function changedCopies(before: readonly MoveReport[], now: readonly MoveReport[]): ChangedCopy[] {
  const isSame = (a: MoveReport, b: MoveReport) => a.shard === b.shard && a.region === b.region && a.node === b.node;
  const changed = now.filter((copy) => {
    const known = before.find((one) => isSame(one, copy));
    if (known?.state !== copy.state || known.held !== copy.held || known.waitsFor !== copy.waitsFor) return true;
    return known.filledWindows !== copy.filledWindows || known.windows !== copy.windows;
  });
  const done = before.filter((copy) => !now.some((one) => isSame(one, copy)));
  return [...changed, ...done.map((copy) => ({ ...copy, state: 'done' as const }))];
}

function changeText({ shard, region, node, state, held, waitsFor, filledWindows, windows }: ChangedCopy): string {
  const filled = state === 'joining' ? `, ${filledWindows} of ${windows || '?'} windows are filled` : '';
  const stopped = state === 'done' ? '' : held ? `, held` : '';
  const why = state === 'done' || waitsFor === '' ? '' : `: ${waitsFor}`;
  return `shard ${shard}: ${region}/${node} ${state}${filled}${stopped}${why}\n`;
}

export function movesText(copies: readonly MoveReport[], width: number): string {
  if (copies.length === 0) return 'no copy is on its way\n';
  const whys = copies
    .filter(({ waitsFor }) => waitsFor !== '')
    .map(({ shard, region, node, waitsFor }) => wrap(`\nshard ${shard}, ${region}/${node}: ${waitsFor}`, width));
  return `${table(COLUMNS, copies, width)}${whys.length === 0 ? '' : `${whys.join('')}\n`}`;
}
