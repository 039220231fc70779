/** `silverback repair`: how the comparing and mending of copies goes, and a round of it at once. */
import type { Command } from 'commander';
import { SilverbackError } from '../../core/errors.ts';
import type { CopyRepair, StartedRepair } from '../cluster/report.ts';
import { agreed, changing } from './confirm.ts';
import { type Context, coordinatorOf, examples, show, wholeNumber } from './context.ts';
import type { Coordinator } from './coordinator.ts';
import { progress } from './progress.ts';
import { bytes, type Column, count, duration, plural, ranges, table, wrap } from './table.ts';

const POLL_MS = 500;
/** A copy of which nothing is heard for so long is not waited for any more. */
const SILENCE_MS = 60_000;

export function addRepair(program: Command, context: Context): void {
  const repair = program
    .command('repair')
    .helpCommand(false)
    .description('copies that compare what they hold and take what they lack')
    .addHelpText('after', examples('repair status', 'repair run --shard 3'));
  repair
    .command('status')
    .description('how repair goes in each copy, since its node started')
    .option('--shard <N>', 'this shard only', wholeNumber(0, 65_535))
    .addHelpText('after', examples('repair status', 'repair status --shard 3 --output json'))
    .action(async ({ shard }: { shard?: number }, command: Command) => {
      const { data, warnings } = await ask(coordinatorOf(command), shard);
      const nowMs = context.env.clock.nowMs();
      show(context, command, { data, warnings, text: () => repairText(data, nowMs, context.columns) });
    });
  changing(
    repair
      .command('run')
      .description('compares every copy with the others now, brings what it lacks, and waits for the end')
      .option('--shard <N>', 'this shard only', wholeNumber(0, 65_535)),
  )
    .addHelpText('after', examples('repair run', 'repair run --shard 3 --yes', 'repair run --dry-run'))
    .action(async ({ shard }: { shard?: number }, command: Command) => {
      const coordinator = coordinatorOf(command);
      const before = await ask(coordinator, shard);
      for (const warning of before.warnings) context.err(`warning: ${warning}\n`);
      const plan = before.data.map(({ region, node, shard: id }) => ({ region, node, shard: id }));
      if (!(await agreed(context, command, { data: plan, text: planText(before.data, context.columns) }))) return;
      await coordinator.post<readonly StartedRepair[]>('/cluster/repair/run', { shard: shard?.toString() });
      const after = await wait(context, coordinator, shard, before.data);
      const data = after.map((copy) => since(copy, before.data));
      show(context, command, { data, text: () => outcomeText(data) });
      const failed = data.filter(({ lastError }) => lastError !== '');
      if (failed.length > 0) throw new SilverbackError('UNAVAILABLE', failures(failed));
    });
}

function ask(coordinator: Coordinator, shard: number | undefined) {
  return coordinator.get<readonly CopyRepair[]>('/cluster/repair', { shard: shard?.toString() });
}

function planText(copies: readonly CopyRepair[], width: number): string {
  const nodes = new Map<string, number[]>();
  for (const { region, node, shard } of copies) {
    const name = `${region}/${node}`;
    nodes.set(name, [...(nodes.get(name) ?? []), shard]);
  }
  const columns: readonly Column<[string, number[]]>[] = [
    { head: 'NODE', cell: ([name]) => name },
    { head: 'COMPARES SHARDS', cell: ([, shards]) => ranges(shards) },
  ];
  return nodes.size === 0 ? 'no copy can be asked\n' : table(columns, [...nodes], width);
}

/** Until every copy has ended a round since. */
async function wait(
  context: Context,
  coordinator: Coordinator,
  shard: number | undefined,
  before: readonly CopyRepair[],
): Promise<readonly CopyRepair[]> {
  const bar = progress(context, before.length);
  let heardMs = context.env.clock.monotonicMs();
  try {
    for (;;) {
      const { data } = await ask(coordinator, shard);
      const nowMs = context.env.clock.monotonicMs();
      const isMissing = before.some((old) => !data.some((copy) => isSame(copy, old)));
      if (!isMissing) heardMs = nowMs;
      const done = data.filter((copy) => !copy.running && copy.rounds !== find(before, copy)?.rounds);
      bar.update(
        done.length,
        `${count(data.reduce((sum, copy) => sum + since(copy, before).samples, 0))} samples brought`,
      );
      if (done.length >= data.length && !isMissing) return data;
      if (nowMs - heardMs > SILENCE_MS) {
        const silent = before.filter((old) => !data.some((copy) => isSame(copy, old)));
        const names = [...new Set(silent.map(({ region, node }) => `${region}/${node}`))].join(', ');
        throw new SilverbackError('UNAVAILABLE', `not repaired: ${names} went silent; the others go on by themselves`);
      }
      await new Promise<void>((resolve) => void context.env.timers.after(POLL_MS, resolve));
    }
  } finally {
    bar.stop();
  }
}

function isSame(a: CopyRepair, b: CopyRepair): boolean {
  return a.shard === b.shard && a.region === b.region && a.node === b.node;
}

function find(copies: readonly CopyRepair[], copy: CopyRepair): CopyRepair | undefined {
  return copies.find((one) => isSame(one, copy));
}

/** The counts of what happened since; a node that has restarted counts from zero. */
function since(copy: CopyRepair, before: readonly CopyRepair[]): CopyRepair {
  const old = find(before, copy);
  if (old === undefined || copy.rounds < old.rounds) return copy;
  const { rounds, compared, differing, healed, samples, bytes: fetched } = copy;
  return {
    ...copy,
    rounds: rounds - old.rounds,
    compared: compared - old.compared,
    differing: differing - old.differing,
    healed: healed - old.healed,
    samples: samples - old.samples,
    bytes: fetched - old.bytes,
  };
}

export function repairText(copies: readonly CopyRepair[], nowMs: number, width: number): string {
  if (copies.length === 0) return 'no copy can be asked\n';
  const columns: readonly Column<CopyRepair>[] = [
    { head: 'SHARD', cell: ({ shard }) => String(shard), right: true },
    { head: 'COPY', cell: ({ region, node }) => `${region}/${node}` },
    { head: 'STATE', cell: stateOf },
    { head: 'LAST', cell: ({ lastRound }) => (lastRound === null ? '-' : ago(nowMs / 1_000 - lastRound)), right: true },
    { head: 'ROUNDS', cell: ({ rounds }) => count(rounds), right: true },
    { head: 'DIFFERED', cell: ({ differing }) => count(differing), right: true },
    { head: 'HEALED', cell: ({ healed }) => count(healed), right: true },
    { head: 'SAMPLES', cell: ({ samples }) => count(samples), right: true },
    { head: 'BYTES', cell: (copy) => bytes(copy.bytes), right: true },
  ];
  const failed = copies.filter(({ lastError }) => lastError !== '');
  return table(columns, copies, width) + (failed.length === 0 ? '' : wrap(`\n${failures(failed)}\n`, width));
}

function stateOf({ running, fillWindows, filledWindows, rounds, lastError }: CopyRepair): string {
  if (fillWindows > filledWindows) return `filling ${filledWindows}/${fillWindows}`;
  if (running) return 'running';
  return rounds === 0 ? 'waiting' : lastError === '' ? 'ok' : 'failed';
}

function ago(seconds: number): string {
  return `${duration(Math.max(0, Math.round(seconds)))} ago`;
}

function outcomeText(copies: readonly CopyRepair[]): string {
  const sum = (of: (copy: CopyRepair) => number) => copies.reduce((total, copy) => total + of(copy), 0);
  const compared = `${plural(
    sum((copy) => copy.compared),
    'window',
  )} compared in ${copies.length === 1 ? '1 copy' : `${copies.length} copies`}`;
  const healed = `${sum((copy) => copy.healed)} healed with ${plural(
    sum((copy) => copy.samples),
    'sample',
  )} (${bytes(sum((copy) => copy.bytes))})`;
  return `${compared}, ${sum((copy) => copy.differing)} differed, ${healed}\n`;
}

function failures(copies: readonly CopyRepair[]): string {
  return copies
    .map(({ shard, region, node, lastError }) => `shard ${shard} on ${region}/${node}: ${lastError}`)
    .join('\n');
}
