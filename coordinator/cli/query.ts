/** `silverback query`: PromQL at one moment, or over a range of time. */
import { type Command, InvalidArgumentError } from 'commander';
import { parseDurationMs } from '../../core/config.ts';
import { SilverbackError } from '../../core/errors.ts';
import { type Context, coordinatorOf, examples, show } from './context.ts';
import { type Column, table } from './table.ts';

type Point = readonly [seconds: number, value: string];
type Metric = Readonly<Record<string, string>>;

interface Matrix {
  readonly resultType: 'matrix';
  readonly result: readonly { readonly metric: Metric; readonly values: readonly Point[] }[];
}

type Result =
  | Matrix
  | { readonly resultType: 'vector'; readonly result: readonly { readonly metric: Metric; readonly value: Point }[] }
  | { readonly resultType: 'scalar'; readonly result: Point }
  | { readonly resultType: 'string'; readonly result: Point };

interface Options {
  readonly time?: string;
  readonly start?: string;
  readonly end?: string;
  readonly step?: string;
  readonly region?: string;
}

/** Steps of a range whose step is not said. */
const STEPS = 60;

export function addQuery(program: Command, context: Context): void {
  const time = timeReader(context);
  program
    .command('query')
    .description('a PromQL query, at one moment or (with --start) over a range')
    .argument('<EXPR>', 'in PromQL')
    .option('--time <TIME>', 'the moment; seconds since 1970, RFC 3339, or now-5m (default: now)', time)
    .option('--start <TIME>', 'the start of a range', time)
    .option('--end <TIME>', 'its end (default: now)', time)
    .option('--step <DURATION>', `its step (default: a ${STEPS}th of the range)`)
    .option('--region <NAME>', 'from copies in this region only')
    .addHelpText(
      'after',
      examples(
        'query up',
        "query 'sum by (job) (rate(process_cpu_seconds_total[1m]))' --time now-10m",
        'query up --start now-1h --step 5m',
      ),
    )
    .action(async (query: string, options: Options, command: Command) => {
      const [path, times] = timesOf(options, context);
      const { data, warnings } = await coordinatorOf(command).post<Result>(path, {
        query,
        region: options.region,
        ...times,
      });
      show(context, command, { data, warnings, text: () => resultText(data, context.columns) });
    });
}

function timesOf({ time, start, end, step }: Options, context: Context): [string, Record<string, string | undefined>] {
  if (start === undefined) {
    if (end !== undefined || step !== undefined) {
      throw new SilverbackError('INVALID_ARGUMENT', '--end and --step go with --start (try --help)');
    }
    return ['/query', { time }];
  }
  if (time !== undefined)
    throw new SilverbackError('INVALID_ARGUMENT', '--time and --start exclude each other (try --help)');
  const until = end ?? String(context.env.clock.nowMs() / 1_000);
  return ['/query_range', { start, end: until, step: step ?? defaultStep(start, until) }];
}

/** What cannot be read as a time gets any step: the coordinator says what is wrong with it. */
function defaultStep(start: string, end: string): string {
  const [from, to] = [start, end].map((text) => (/[T-]/i.test(text) ? Date.parse(text) / 1_000 : Number(text)));
  return String(Math.max(1, Math.ceil(((to as number) - (from as number)) / STEPS)) || 1);
}

/** Takes `now` and `now-5m`; all else is the coordinator's to read. */
function timeReader({ env }: Context): (text: string) => string {
  return (text) => {
    if (!text.startsWith('now')) return text;
    const ago = /^now(?:-(.+))?$/.exec(text);
    const agoMs = ago?.[1] === undefined ? 0 : parseDurationMs(ago[1]);
    if (ago === null || agoMs === undefined) throw new InvalidArgumentError('expected now, or now-5m');
    return String((env.clock.nowMs() - agoMs) / 1_000);
  };
}

interface Row {
  readonly series: string;
  readonly time: string;
  readonly value: string;
}

const SERIES: Column<Row> = { head: 'SERIES', cell: ({ series }) => series };
const TIME: Column<Row> = { head: 'TIME', cell: ({ time }) => time };
const VALUE: Column<Row> = { head: 'VALUE', cell: ({ value }) => value, right: true };

export function resultText(data: Result, width: number): string {
  if (data.resultType === 'scalar' || data.resultType === 'string') return `${data.result[1]}\n`;
  if (data.result.length === 0) return 'no series\n';
  if (data.resultType === 'vector') {
    const rows = data.result.map(({ metric, value }) => ({ series: nameOf(metric), time: '', value: value[1] }));
    return table([SERIES, VALUE], rows, width);
  }
  // A series stands in a line of its own: beside each of its points it would leave them no room.
  return data.result
    .map(({ metric, values }) => {
      const rows = values.map(([seconds, value]) => ({ series: '', time: timeOf(seconds), value }));
      return `${nameOf(metric)}\n${table([TIME, VALUE], rows, width)}`;
    })
    .join('\n');
}

function nameOf({ __name__: name = '', ...labels }: Metric): string {
  const pairs = Object.entries(labels).map(([label, value]) => `${label}=${JSON.stringify(value)}`);
  return pairs.length === 0 && name !== '' ? name : `${name}{${pairs.join(', ')}}`;
}

function timeOf(seconds: number): string {
  return new Date(Math.round(seconds * 1_000)).toISOString().replace('.000Z', 'Z');
}
