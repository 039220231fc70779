/** Random PromQL and random data to ask it of, for property tests. */
import fc from 'fast-check';
import { MemoryStore, writeStale } from './store.ts';

/** Where random data begins, ms; a whole hour. */
export const BASE_MS = 1_700_000_000_000 - (1_700_000_000_000 % 3_600_000);

export interface RandomSeries {
  readonly labels: Readonly<Record<string, string>>;
  readonly timestamps: readonly number[];
  /** `stale` is the stale marker. */
  readonly values: readonly (number | 'stale')[];
}

const LABEL_SETS: readonly Readonly<Record<string, string>>[] = [
  ...['x', 'y'].flatMap((a) => ['1', '2'].map((b) => ({ __name__: 'm', a, b }))),
  { __name__: 'm', a: 'z' },
  ...['x', 'y'].map((a) => ({ __name__: 'n', a })),
  ...['x', 'y'].flatMap((a) => ['1', '2'].map((b) => ({ __name__: 'c_total', a, b }))),
  ...['x', 'y'].flatMap((a) => ['0.1', '1', '5', '+Inf'].map((le) => ({ __name__: 'h_bucket', a, le }))),
];

/** How a series goes on: a step in value, or something that is none. */
const point = fc.oneof(
  {
    weight: 24,
    arbitrary: fc.record({
      gapMs: fc.constantFrom(15_000, 15_000, 15_000, 14_990, 15_007),
      by: fc.integer({ min: -3, max: 9 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      gapMs: fc.constantFrom(60_000, 180_000, 330_000, 700_000),
      by: fc.integer({ min: 0, max: 3 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      gapMs: fc.constant(15_000),
      by: fc.constantFrom('stale', 'nan', 'inf', 'reset', '-0', '-inf'),
    }),
  },
);

const ODD: Readonly<Record<string, number | 'stale'>> = {
  stale: 'stale',
  nan: Number.NaN,
  inf: Infinity,
  '-inf': -Infinity,
  '-0': -0,
};

function makeSeries(
  labels: Readonly<Record<string, string>>,
  points: readonly { gapMs: number; by: number | string }[],
  startMs: number,
): RandomSeries {
  const timestamps: number[] = [];
  const values: (number | 'stale')[] = [];
  const counter = (labels['__name__'] as string).length > 1;
  let time = BASE_MS + startMs;
  let value = 3;
  for (const { gapMs, by } of points) {
    if (typeof by === 'number') value += counter ? Math.abs(by) : by / 4;
    if (by === 'reset') value = 0;
    timestamps.push(time);
    values.push(typeof by === 'number' ? value : (ODD[by] ?? value));
    time += gapMs;
  }
  return { labels, timestamps, values };
}

/** A handful of series of 40 minutes: gauges, counters with resets, a classic histogram; gaps, NaN, infinities, stale markers. */
export const dataset: fc.Arbitrary<readonly RandomSeries[]> = fc
  .tuple(
    ...LABEL_SETS.map((labels) =>
      fc
        .tuple(fc.array(point, { minLength: 1, maxLength: 160, size: 'max' }), fc.integer({ min: 0, max: 200_000 }))
        .map(([points, startMs]) => makeSeries(labels, points, startMs)),
    ),
  )
  .map((all) => all.filter((series) => series.timestamps.length % 9 !== 0));

export function storeOf<S extends MemoryStore = MemoryStore>(
  data: readonly RandomSeries[],
  store: S = new MemoryStore() as S,
): S {
  for (const { labels, timestamps, values } of data) {
    const column = new Float64Array(values.length);
    values.forEach((value, i) => {
      if (value === 'stale') writeStale(column, i);
      else column[i] = value;
    });
    store.add(labels, { timestamps: Float64Array.from(timestamps), values: column });
  }
  return store;
}

const pick = (...texts: string[]): fc.Arbitrary<string> => fc.constantFrom(...texts);
const join = (...parts: (string | fc.Arbitrary<string>)[]): fc.Arbitrary<string> =>
  fc.tuple(...parts.map((part) => (typeof part === 'string' ? fc.constant(part) : part))).map((all) => all.join(''));

const matchers = pick('', '', '{a="x"}', '{a!="x"}', '{b=~"1|2"}', '{b=""}', '{a=~".+",b!~"2.*"}');
const name = pick('m', 'm', 'n', 'c_total', 'h_bucket');
const at = pick('', '', '', '', '', ` @ ${BASE_MS / 1000 + 900}`, ' @ end()', ' @ start()');
const offset = pick('', '', '', ' offset 1m', ' offset -2m', ' offset 7m');
const selector = fc.oneof(
  { weight: 9, arbitrary: join(name, matchers) },
  { weight: 1, arbitrary: pick('{__name__=~"m|n"}', '{a="x",__name__!="h_bucket"}') },
);
const instant = join(selector, at, offset);
const range = pick('[1m]', '[2m30s]', '[5m]', '[15s]', '[17m]');
const matrix = join(selector, range, at, offset);
const grouping = pick('', '', ' by (a)', ' without (b)', ' by (a, b)', ' without ()', ' by (le)');
const matching = pick(
  '',
  '',
  ' on (a)',
  ' ignoring (b)',
  ' on (a) group_left ()',
  ' ignoring (b) group_right (b)',
  ' on (a) group_left (b)',
);

/** Random expressions by type; deeper ones hold others. */
export const { vector: vectorExpression, scalar: scalarExpression } = fc.letrec<{
  vector: string;
  scalar: string;
  matrix: string;
}>((tie) => ({
  matrix: fc.oneof(
    { weight: 5, arbitrary: matrix },
    {
      weight: 1,
      arbitrary: join(tie('vector'), pick('[5m:1m]', '[3m:30s]', '[10m:]', '[2m:17s]'), at, offset).map((t) =>
        t.replace(/^/, '(').replace(/(\[[^\]]*\][^\]]*)$/, ')$1'),
      ),
    },
  ),
  scalar: fc.oneof(
    { maxDepth: 3 },
    pick('1', '0.5', '-2', '3', 'NaN', 'Inf', '1e3', '0.9', '5m', '2'),
    pick('time()', 'pi()'),
    join('scalar(', tie('vector'), ')'),
    join(
      '(',
      tie('scalar'),
      pick(' + ', ' - ', ' * ', ' / ', ' % ', ' ^ ', ' > bool ', ' == bool '),
      tie('scalar'),
      ')',
    ),
    join('-', tie('scalar')),
  ),
  vector: fc.oneof(
    { maxDepth: 4 },
    instant,
    join(
      pick(
        'rate',
        'increase',
        'delta',
        'irate',
        'idelta',
        'resets',
        'changes',
        'deriv',
        'sum_over_time',
        'avg_over_time',
        'min_over_time',
        'max_over_time',
        'count_over_time',
        'last_over_time',
        'present_over_time',
        'stddev_over_time',
        'stdvar_over_time',
        'absent_over_time',
        'first_over_time',
        'mad_over_time',
        'ts_of_max_over_time',
        'ts_of_min_over_time',
        'ts_of_last_over_time',
      ),
      '(',
      tie('matrix'),
      ')',
    ),
    join('quantile_over_time(', pick('0.5', '0.9', '0', '1', '2', '-1'), ', ', tie('matrix'), ')'),
    join('predict_linear(', tie('matrix'), ', ', tie('scalar'), ')'),
    join('double_exponential_smoothing(', tie('matrix'), ', 0.3, 0.6)'),
    join(
      pick(
        'abs',
        'ceil',
        'floor',
        'sqrt',
        'ln',
        'exp',
        'sgn',
        'round',
        'timestamp',
        'absent',
        'sort',
        'hour',
        'day_of_year',
        'sin',
        'rad',
      ),
      '(',
      tie('vector'),
      ')',
    ),
    join(pick('clamp_min', 'clamp_max', 'round'), '(', tie('vector'), ', ', tie('scalar'), ')'),
    join('vector(', tie('scalar'), ')'),
    join(
      'histogram_quantile(',
      pick('0.5', '0.9', '0', '1', '-1', '1.5'),
      ', ',
      pick('h_bucket', 'rate(h_bucket[5m])', 'sum by (le) (rate(h_bucket[5m]))'),
      ')',
    ),
    join('histogram_fraction(', pick('0', '-Inf', '0.5'), ', ', pick('0.7', '3', '+Inf'), ', h_bucket)'),
    join(
      'label_replace(',
      tie('vector'),
      pick(', "b", "q$1", "a", "(.*)")', ', "a", "$1", "b", "(.+)")', ', "c", "v", "a", "x")'),
    ),
    join('label_join(', tie('vector'), ', "j", "-", "a", "b")'),
    join(pick('sum', 'avg', 'min', 'max', 'count', 'group', 'stddev', 'stdvar'), grouping, ' (', tie('vector'), ')'),
    join('quantile', grouping, ' (', pick('0.5', '0.9', '-1', '2', '0.25'), ', ', tie('vector'), ')'),
    join('count_values', grouping, ' ("v", ', tie('vector'), ')'),
    join(pick('topk', 'bottomk'), grouping, ' (', pick('1', '2', '5', '0'), ', ', tie('vector'), ')'),
    join(
      tie('vector'),
      pick(' + ', ' - ', ' * ', ' / ', ' % ', ' ^ ', ' > ', ' < ', ' == ', ' != ', ' >= bool ', ' <= bool '),
      tie('scalar'),
    ),
    join(tie('scalar'), pick(' - ', ' / ', ' ^ ', ' < ', ' > bool '), tie('vector')),
    join(tie('vector'), pick(' +', ' -', ' /', ' *', ' atan2', ' >', ' ==', ' < bool'), matching, ' ', tie('vector')),
    join(
      tie('vector'),
      pick(' and', ' or', ' unless'),
      pick('', ' on (a)', ' ignoring (b)', ' on ()'),
      ' ',
      tie('vector'),
    ),
    join('-', tie('vector')),
    join('(', tie('vector'), ')'),
  ),
}));
