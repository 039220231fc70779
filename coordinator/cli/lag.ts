/** `silverback lag`: how far each copy is behind what another one has acknowledged. */
import type { Command } from 'commander';
import type { LagReport } from '../cluster/report.ts';
import { type Context, coordinatorOf, examples, show, wholeNumber } from './context.ts';
import { bytes, type Column, count, duration, plural, table } from './table.ts';

const COLUMNS: readonly Column<LagReport>[] = [
  { head: 'SHARD', cell: ({ shard }) => String(shard), right: true },
  { head: 'FROM', cell: ({ from }) => `${from.region}/${from.node}` },
  { head: 'TO', cell: ({ to }) => `${to.region}/${to.node}` },
  { head: 'RECORDS', cell: ({ records }) => count(records), right: true },
  { head: 'BYTES', cell: (lag) => bytes(lag.bytes), right: true },
  // Not known before the first time that it was known to be level.
  { head: 'BEHIND', cell: ({ seconds }) => (seconds === null ? 'unknown' : duration(seconds)), right: true },
  { head: 'LOST', cell: ({ lostRecords }) => count(lostRecords), right: true },
];

const DEFAULT_TOP = 20;

export function addLag(program: Command, context: Context): void {
  program
    .command('lag')
    .description('how far copies are behind: records and bytes of the log, and time')
    .option('--top <N>', 'the N that are furthest behind', wholeNumber(1, 1_000_000), DEFAULT_TOP)
    .addHelpText('after', examples('lag', 'lag --top 5', 'lag --output json'))
    .action(async ({ top }: { top: number }, command: Command) => {
      const { data, warnings } = await coordinatorOf(command).get<readonly LagReport[]>('/cluster/lag');
      const worst = [...data].sort(furthest).slice(0, top);
      show(context, command, { data: worst, warnings, text: () => lagText(data, worst, context.columns) });
    });
}

export function lagText(all: readonly LagReport[], worst: readonly LagReport[], width: number): string {
  if (all.length === 0) return 'no node that answers has a copy of a shard to keep level\n';
  const seconds = Math.max(...all.map((lag) => lag.seconds ?? 0));
  const unknown = all.filter((lag) => lag.seconds === null).length;
  const lost = sum(all, ({ lostRecords }) => lostRecords);
  const summary = [
    `${plural(all.length, 'copy').replace('copys', 'copies')} to keep level`,
    `${plural(
      sum(all, ({ records }) => records),
      'record',
    )} and ${bytes(sum(all, (lag) => lag.bytes))} behind`,
    `at most ${duration(seconds)}${unknown === 0 ? '' : `, ${unknown} not known yet`}`,
    ...(lost === 0 ? [] : [`${plural(lost, 'record')} left a log before the copy had them: repair brings them`]),
  ];
  const hidden = all.length > worst.length ? `${all.length - worst.length} more, less far behind (--top)\n` : '';
  return `${table(COLUMNS, worst, width)}${hidden}\n${summary.join('\n')}\n`;
}

/** What is not known to have ever been level comes first. */
export function furthest(a: LagReport, b: LagReport): number {
  const [x, y] = [a.seconds ?? Number.POSITIVE_INFINITY, b.seconds ?? Number.POSITIVE_INFINITY];
  return (x === y ? 0 : y - x) || b.bytes - a.bytes || a.shard - b.shard;
}

function sum(lags: readonly LagReport[], of: (lag: LagReport) => number): number {
  return lags.reduce((total, lag) => total + of(lag), 0);
}
