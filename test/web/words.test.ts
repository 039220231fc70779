import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AGGREGATIONS as ENGINE_AGGREGATIONS } from '../../coordinator/promql/aggregations.ts';
import { FUNCTIONS as ENGINE_FUNCTIONS } from '../../coordinator/promql/functions/table.ts';
import {
  FIRST_VIEW,
  formatAddress,
  parseAddress,
  REFRESHES_MS,
  type View,
} from '../../coordinator/web/browser/address.ts';
import { findPlace, rank } from '../../coordinator/web/browser/complete.ts';
import { describeCoverage } from '../../coordinator/web/browser/coverage.ts';
import { lonePoints, makeGrid, tallest } from '../../coordinator/web/browser/grid.ts';
import { formatMetric, nameSeries } from '../../coordinator/web/browser/legend.ts';
import { formatAxis, formatCount, formatShort, parseValue } from '../../coordinator/web/browser/number.ts';
import {
  alignRange,
  chooseStep,
  formatDuration,
  formatMoment,
  formatTicks,
  parseDuration,
  parseMoment,
} from '../../coordinator/web/browser/time.ts';
import { AGGREGATIONS, FUNCTIONS } from '../../coordinator/web/browser/vocabulary.ts';

describe('vocabulary', () => {
  test('has exactly the functions of the engine', () => {
    expect(FUNCTIONS.map(({ name }) => name).sort()).toEqual([...ENGINE_FUNCTIONS.keys()].sort());
  });

  test('has exactly the aggregations of the engine', () => {
    expect(AGGREGATIONS.map(({ name }) => name).sort()).toEqual([...ENGINE_AGGREGATIONS.keys()].sort());
  });

  test('says of each how it is called and what it does', () => {
    for (const { name, usage, meaning } of [...FUNCTIONS, ...AGGREGATIONS]) {
      expect(usage.startsWith(name), name).toBe(true);
      expect(meaning, name).not.toBe('');
    }
  });
});

describe('durations', () => {
  test.each([
    ['90s', 90_000],
    ['1h30m', 5_400_000],
    ['15', 15_000],
    ['1.5h', 5_400_000],
    ['250ms', 250],
    ['2d', 172_800_000],
    [' 5 M ', 300_000],
  ])('%s', (text, ms) => expect(parseDuration(text)).toBe(ms));

  test.each(['', 'abc', '-5m', '0', '0s', '5x', '5m!', 'h'])('%j is none', (text) =>
    expect(parseDuration(text)).toBeUndefined(),
  );

  test('what is written is read back', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 1e12 }), (ms) => parseDuration(formatDuration(ms)) === ms));
  });

  test('26 hours are 26h, two days 2d', () => {
    expect(formatDuration(93_600_000)).toBe('26h');
    expect(formatDuration(172_800_000)).toBe('2d');
  });
});

describe('moments', () => {
  const now = new Date(2026, 10, 21, 9, 30, 0).getTime();

  test('are read back as written', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4e9 }), (seconds) => {
        // An hour that a change of clocks repeats is written the same twice.
        const text = formatMoment(seconds * 1000);
        return formatMoment(parseMoment(text, now) ?? 0) === text;
      }),
    );
  });

  test('a clock time alone is the last such', () => {
    expect(formatMoment(parseMoment('09:00', now) ?? 0)).toBe('2026-11-21 09:00:00');
    expect(formatMoment(parseMoment('23:15:10', now) ?? 0)).toBe('2026-11-20 23:15:10');
    expect(formatMoment(parseMoment('2026-11-01', now) ?? 0)).toBe('2026-11-01 00:00:00');
  });

  test.each(['', 'soon', '2026-04-31', '25:00', '2026-13-01 10:00', '2026-11-2109:00'])('%j is none', (text) =>
    expect(parseMoment(text, now)).toBeUndefined(),
  );

  test('ticks show the day where it begins', () => {
    const at = (day: number, hour: number) => new Date(2026, 10, day, hour).getTime();
    expect(formatTicks([at(21, 22), at(21, 23), at(22, 0), at(22, 1)], 3_600_000)).toEqual([
      '22:00\n11-21',
      '23:00',
      '00:00\n11-22',
      '01:00',
    ]);
  });
});

describe('steps', () => {
  test('are round, and give at most so many points', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1000, max: 1e11 }), fc.integer({ min: 100, max: 400 }), (rangeMs, points) => {
        const stepMs = chooseStep(rangeMs, points);
        expect(stepMs % 1000).toBe(0);
        expect(rangeMs / stepMs).toBeLessThanOrEqual(points);
      }),
    );
    expect(chooseStep(3_600_000, 400)).toBe(10_000);
  });

  test('do not move when the clock does', () => {
    expect(alignRange(1_000_009, 60_000, 10_000)).toEqual({ startMs: 940_000, endMs: 1_000_000 });
    expect(alignRange(1_000_000, 60_000, 10_000)).toEqual({ startMs: 940_000, endMs: 1_000_000 });
  });
});

describe('numbers', () => {
  test.each([
    [0, '0'],
    [1234, '1234'],
    [12_345_678, '12.35M'],
    [0.00123, '0.00123'],
    [0.0000123, '12.3µ'],
    [-5e9, '-5G'],
    [999_999, '1M'],
    [1e-15, '1.000e-15'],
    [Number.NaN, 'NaN'],
    [Number.NEGATIVE_INFINITY, '-Inf'],
  ])('%d is %s', (value, text) => expect(formatShort(value)).toBe(text));

  test('of an axis tell every label from the next', () => {
    expect(formatAxis([900, 925, 950, 975, 1000, 1025], 25)).toEqual(['900', '925', '950', '975', '1000', '1025']);
    expect(formatAxis([0, 2.5, 5], 2.5)).toEqual(['0', '2.5', '5.0']);
    expect(formatAxis([0, 5e9, 1e10], 5e9)).toEqual(['0', '5G', '10G']);
    fc.assert(
      fc.property(
        fc.constantFrom(1, 2, 2.5, 5),
        fc.integer({ min: -8, max: 20 }),
        fc.integer({ min: -50, max: 5000 }),
        (mantissa, exponent, first) => {
          const increment = mantissa * 10 ** exponent;
          const labels = formatAxis(
            Array.from({ length: 6 }, (_, i) => (first + i) * increment),
            increment,
          );
          expect(new Set(labels).size, labels.join(' ')).toBe(6);
        },
      ),
    );
  });

  test("Prometheus's texts", () => {
    expect(['+Inf', '-Inf', 'NaN', '-0', '1e+06'].map(parseValue)).toEqual([Infinity, -Infinity, Number.NaN, -0, 1e6]);
    expect([0, 999, 1000, 1_234_567].map(formatCount)).toEqual(['0', '999', '1,000', '1,234,567']);
  });
});

describe('the address', () => {
  test('holds the whole view', () => {
    const view = fc.record<View>({
      query: fc.string(),
      tab: fc.constantFrom('graph', 'table'),
      rangeMs: fc.integer({ min: 1, max: 1e12 }),
      endMs: fc.option(fc.integer({ min: 0, max: 4e12 }), { nil: undefined }),
      stepMs: fc.option(fc.integer({ min: 1, max: 1e9 }), { nil: undefined }),
      refreshMs: fc.constantFrom(...REFRESHES_MS),
    });
    fc.assert(
      fc.property(view, (shown) => {
        expect(parseAddress(formatAddress(shown))).toEqual(shown);
      }),
    );
  });

  test('is empty at first, and nonsense in it does no harm', () => {
    expect(formatAddress(FIRST_VIEW)).toBe('');
    expect(parseAddress('?range=x&until=y&step=-1&refresh=3s&tab=z')).toEqual(FIRST_VIEW);
  });
});

describe('the legend', () => {
  test('names only what differs', () => {
    const metrics = [
      { __name__: 'up', job: 'a', instance: 'x' },
      { __name__: 'up', job: 'a', instance: 'y' },
      { __name__: 'up', job: 'a', instance: 'y', zone: 'z' },
    ];
    const { common, varying } = nameSeries(metrics);
    expect(common).toEqual({ __name__: 'up', job: 'a' });
    expect(varying).toEqual(['instance', 'zone']);
    expect(metrics.map((metric) => formatMetric(metric, varying))).toEqual([
      '{instance="x"}',
      '{instance="y"}',
      '{instance="y", zone="z"}',
    ]);
  });

  test('different series have different names', () => {
    const metric = fc.dictionary(fc.constantFrom('__name__', 'a', 'b', 'c'), fc.constantFrom('x', 'y', 'z'));
    const metrics = fc.uniqueArray(metric, { selector: (m) => JSON.stringify(Object.entries(m).sort()), minLength: 2 });
    fc.assert(
      fc.property(metrics, (all) => {
        const { varying } = nameSeries(all);
        expect(new Set(all.map((one) => formatMetric(one, varying))).size).toBe(all.length);
      }),
    );
  });

  test('quotes names that need it', () => {
    expect(formatMetric({ __name__: 'up' })).toBe('up');
    expect(formatMetric({ __name__: 'a b', 'c.d': 'e"f' })).toBe('{"a b", "c.d"="e\\"f"}');
    expect(formatMetric({})).toBe('{}');
  });
});

describe('the grid', () => {
  const range = { startMs: 10_000, endMs: 50_000, stepMs: 10_000 };

  test('leaves null where there is no point that can be drawn', () => {
    const values: [number, string][] = [
      [10, '1'],
      [30, 'NaN'],
      [40, '+Inf'],
      [50, '5'],
    ];
    const grid = makeGrid([{ metric: {}, values }], range);
    expect(grid).toEqual({ times: [10, 20, 30, 40, 50], columns: [[1, null, null, null, 5]] });
    expect(lonePoints(grid.columns[0] ?? [], 0, 4)).toEqual([0, 4]);
    expect(lonePoints([1, 2, null, 3, null, 4, 5], 0, 6)).toEqual([3]);
  });

  test('of many series, those with the highest peaks, in order', () => {
    const series = [3, -9, 1, 7].map((value) => ({ metric: {}, values: [[10, String(value)] as const] }));
    expect(tallest(series, 2)).toEqual([1, 3]);
    expect(tallest(series, 9)).toEqual([0, 1, 2, 3]);
  });
});

describe('coverage', () => {
  const noon = new Date(2026, 10, 21, 12).getTime() / 1000;

  test('complete, or not stated', () => {
    expect(describeCoverage({ state: 'complete', ranges: [] }).short).toBe('complete');
    expect(describeCoverage(undefined).state).toBe('unsaid');
  });

  test('exactly what is missing', () => {
    const said = describeCoverage({
      state: 'missing',
      ranges: [
        { shards: '0-2,5', start: noon, end: noon + 3600, state: 'complete' },
        { shards: '3-4', start: noon, end: noon + 60, state: 'missing', reason: 'node-2 does not answer' },
        { shards: '6', start: noon, end: noon + 3600, state: 'unconfirmed' },
      ],
    });
    expect(said).toEqual({
      state: 'missing',
      short: '2 of 7 shards missing',
      lines: [
        'shards 3\u20134 missing, 2026-11-21 12:00:00 to 12:01:00: node-2 does not answer',
        'shard 6 unconfirmed, 2026-11-21 12:00:00 to 13:00:00',
      ],
    });
  });
});

describe('completion', () => {
  /** The place at `|`. */
  const placeAt = (text: string) => findPlace(text.replace('|', ''), text.indexOf('|'));

  test.each([
    ['|', { kind: 'expression', from: 0, word: '' }],
    ['sum(ra|', { kind: 'expression', from: 4, word: 'ra' }],
    ['up + do|wn', { kind: 'expression', from: 5, word: 'do' }],
    ['up{|', { kind: 'label', metric: 'up', from: 3, word: '' }],
    ['up{job="a", in|', { kind: 'label', metric: 'up', from: 12, word: 'in' }],
    ['up{job="a" |', { kind: 'nothing', from: 11, word: '' }],
    ['up{job="n|', { kind: 'value', label: 'job', metric: 'up', from: 8, word: 'n' }],
    ['up{job=~"a\\"b|', { kind: 'value', label: 'job', metric: 'up', from: 9, word: 'a\\"b' }],
    ['{"my job"="|', { kind: 'value', label: 'my job', metric: undefined, from: 11, word: '' }],
    ['up{a="1"} / down{b!="|', { kind: 'value', label: 'b', metric: 'down', from: 21, word: '' }],
    ['rate(up[5|', { kind: 'duration', from: 8, word: '5' }],
    ['sum by (jo|', { kind: 'label', metric: undefined, from: 8, word: 'jo' }],
    ['a * on (|) b', { kind: 'label', metric: undefined, from: 8, word: '' }],
    ['sum by (job) (u|', { kind: 'expression', from: 14, word: 'u' }],
    ['label_replace(up, "|', { kind: 'nothing', from: 19, word: '' }],
    ['up # com|', { kind: 'nothing', from: 8, word: '' }],
    ['up # "\n + d|', { kind: 'expression', from: 10, word: 'd' }],
    ['up offset 5m|', { kind: 'nothing', from: 12, word: '' }],
  ])('%s', (text, place) => expect(placeAt(text)).toEqual(place));

  test('never fails, whatever is typed', () => {
    const letters = fc.constantFrom(...'ab01{}()[]"\'`\\=~!,#\n_: ');
    fc.assert(
      fc.property(fc.string({ unit: letters, maxLength: 30 }), fc.nat(30), (text, at) => {
        const cursor = Math.min(at, text.length);
        const { from, word } = findPlace(text, cursor);
        expect(text.slice(from, cursor)).toBe(word);
      }),
    );
  });

  test('puts prefixes first, then beginnings of parts; common names before others alike', () => {
    const names = ['irate', 'xhttp', 'node_http_total', 'http_requests', 'h_t_t_p', 'rad', 'rate', 'random'];
    const best = (word: string) => rank(names, word, 9, (name) => ({ name, isCommon: name === 'rate' }));
    expect(best('http')).toEqual(['http_requests', 'node_http_total', 'xhttp', 'h_t_t_p']);
    expect(best('ra')).toEqual(['rate', 'rad', 'random', 'irate']);
    expect(best('')).toEqual(names);
  });
});
