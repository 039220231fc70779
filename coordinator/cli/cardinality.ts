/** `silverback cardinality`: which metrics, labels and pairs the series are made of, and who brings new ones. */
import type { Command } from 'commander';
import type { CallerReport, CardinalityReport, Counted } from '../cluster/report.ts';
import { type Context, coordinatorOf, examples, show, wholeNumber } from './context.ts';
import { type Column, count, facts, plural, ranges, table } from './table.ts';

const DEFAULT_TOP = 10;
/** What the coordinator tells of at most. */
const MAX_TOP = 500;

const CALLERS: readonly Column<CallerReport>[] = [
  { head: 'WRITTEN BY', cell: ({ caller }) => caller || '(no name)' },
  { head: 'NEW IN AN HOUR', cell: ({ newSeriesLastHour }) => count(newSeriesLastHour), right: true },
  { head: 'NEW SINCE START', cell: ({ newSeries }) => count(newSeries), right: true },
  { head: 'SAMPLES REFUSED', cell: ({ refusedSamples }) => count(refusedSamples), right: true },
];

export function addCardinality(program: Command, context: Context): void {
  program
    .command('cardinality')
    .description('what the series are made of: the largest metrics, labels and pairs, and who brings new series')
    .option('--top <N>', 'the N largest of each', wholeNumber(1, MAX_TOP), DEFAULT_TOP)
    .addHelpText('after', examples('cardinality', 'cardinality --top 50 --output json'))
    .action(async ({ top }: { top: number }, command: Command) => {
      const coordinator = coordinatorOf(command);
      const { data, warnings } = await coordinator.get<CardinalityReport>('/cluster/cardinality', {
        limit: String(top),
      });
      show(context, command, { data, warnings, text: () => cardinalityText(data, context.columns) });
    });
}

export function cardinalityText(report: CardinalityReport, width: number): string {
  const { series, newSeriesLastHour, fullShards, callers } = report;
  const counted = (what: string, value: string, rows: readonly Counted[]): string => {
    const columns: Column<Counted>[] = [
      { head: value, cell: (row) => count(row.value), right: true },
      { head: 'SHARE', cell: (row) => share(row.value, series), right: true },
      { head: what, cell: ({ name }) => name },
    ];
    return table(value === 'SERIES' ? columns : columns.filter(({ head }) => head !== 'SHARE'), rows, width);
  };
  return [
    facts(
      [
        ['Series', String(series)],
        ['Growth', `${count(newSeriesLastHour)} new in the last hour`],
        [
          'Full shards',
          fullShards.length === 0
            ? 'none'
            : `${ranges(fullShards.map(({ shard }) => shard))}: ${plural(fullShards.length, 'shard')} with the most series that a shard takes (${fullShards[0]?.most}); new ones are refused`,
        ],
      ],
      width,
    ),
    counted('METRIC', 'SERIES', report.metrics),
    counted('LABEL', 'VALUES', report.labels),
    counted('PAIR', 'SERIES', report.pairs),
    ...(callers.length === 0 ? [] : [table(CALLERS, callers.slice(0, report.metrics.length || 1), width)]),
  ].join('\n');
}

function share(part: number, whole: number): string {
  return whole === 0 ? '' : `${((part / whole) * 100).toFixed(1)}%`;
}
