/** The judge of crash tests: what it must notice, planted; and what it must let pass. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Check, History, Ranges, type Verdict, violations } from '../../chaos/history.ts';

const ALL = { fromSeries: 0, toSeries: 8, fromTick: 10, toTick: 110 };

function history(): History {
  const made = new History({ seed: 1, seriesCount: 8, originMs: 1_700_000_000_000, stepMs: 1_000 });
  made.send({ ...ALL, toTick: 120 });
  made.acknowledge(ALL);
  return made;
}

interface Store {
  timestamps: number[];
  values: number[];
}

/** What a faultless store answers after the history. */
function answers(of: History, toTick = 110): Map<number, Store> {
  const series = new Map<number, Store>();
  for (let i = 0; i < of.seriesCount; i++) {
    const ticks = Array.from({ length: toTick - 10 }, (_, k) => 10 + k);
    series.set(i, {
      timestamps: ticks.map((tick) => of.timeMs(tick)),
      values: ticks.map((tick) => of.value(i, tick)),
    });
  }
  return series;
}

function judge(of: History, stored: ReadonlyMap<number, Store>): Verdict {
  const check = new Check(of);
  for (const [i, { timestamps, values }] of stored) {
    check.see(i, Float64Array.from(timestamps), Float64Array.from(values));
  }
  return check.verdict();
}

describe('the check', () => {
  test('a faultless store passes, with or without what was sent and not acknowledged', () => {
    const of = history();
    expect(of.acknowledgedCount).toBe(800);
    for (const toTick of [110, 113, 120]) {
      const verdict = judge(of, answers(of, toTick));
      expect(violations(verdict)).toEqual([]);
      expect(verdict.seenCount).toBe(8 * (toTick - 10));
    }
  });

  test('a lost sample, a lost tail, a lost series', () => {
    const of = history();
    const stored = answers(of);
    for (const column of ['timestamps', 'values'] as const) {
      stored.get(2)?.[column].splice(5, 1);
      stored.get(3)?.[column].splice(98);
    }
    stored.delete(7);
    const verdict = judge(of, stored);
    expect(verdict.lostCount).toBe(1 + 2 + 100);
    expect([...(verdict.lost.get(2) as Ranges)]).toEqual([[15, 16]]);
    expect([...(verdict.lost.get(3) as Ranges)]).toEqual([[108, 110]]);
    expect([...(verdict.lost.get(7) as Ranges)]).toEqual([[10, 110]]);
    expect(violations(verdict)).toEqual([
      '103 acknowledged samples of 3 series are lost: series 2 ticks 15..15; series 3 ticks 108..109; series 7 ticks 10..109',
    ]);
  });

  test.each([
    ['a value that is off by one bit', 0, (value: number) => value + 2 ** -40],
    ['the other zero', 3, (value: number) => (value === 0 ? -value : value)],
    ['an infinity for a NaN', 3, (value: number) => (Number.isNaN(value) ? Number.POSITIVE_INFINITY : value)],
  ])('%s', (_, series, change) => {
    const of = history();
    const stored = answers(of);
    const own = stored.get(series) as Store;
    own.values = own.values.map(change);
    const verdict = judge(of, stored);
    expect(verdict.wrongCount).toBeGreaterThan(0);
    expect(verdict.lostCount).toBe(0);
    expect(verdict.wrong[0]).toMatch(new RegExp(`^series ${series} tick \\d+: .* was written$`));
  });

  test('samples, times and series that nobody wrote', () => {
    const of = history();
    const late = answers(of, 121);
    expect(judge(of, late).wrongCount).toBe(8);
    const between = answers(of);
    between.get(0)?.timestamps.splice(0, 1, of.timeMs(10) + 1);
    const verdict = judge(of, between);
    expect([verdict.wrongCount, verdict.lostCount]).toEqual([1, 1]);
    const more = answers(of);
    more.set(8, { timestamps: [of.timeMs(10)], values: [1] });
    expect(judge(of, more).wrong).toEqual(['series 8: nobody wrote it']);
  });

  test('repeated and unsorted times, a series that comes twice', () => {
    const of = history();
    const repeated = answers(of);
    for (const column of ['timestamps', 'values'] as const) {
      const own = (repeated.get(1) as Store)[column];
      own.splice(4, 0, own[4] as number);
    }
    expect(judge(of, repeated).wrongCount).toBe(1);
    const unsorted = answers(of);
    for (const column of ['timestamps', 'values'] as const) (unsorted.get(1) as Store)[column].reverse();
    expect(judge(of, unsorted).wrongCount).toBe(99);
    const check = new Check(of);
    const { timestamps, values } = answers(of).get(0) as Store;
    for (let i = 0; i < 2; i++) check.see(0, Float64Array.from(timestamps), Float64Array.from(values));
    expect(check.verdict().wrong).toEqual(['series 0 came twice']);
  });
});

test('values are of every odd kind, and the same every time', () => {
  const [one, other] = [history(), history()];
  const odd = new Set<number>();
  for (let tick = 0; tick < 500; tick++) {
    odd.add(one.value(3, tick));
    for (let series = 0; series < 8; series++)
      expect(Object.is(one.value(series, tick), other.value(series, tick))).toBe(true);
  }
  for (const value of [0, Number.NaN, Number.POSITIVE_INFINITY, Number.MIN_VALUE]) expect(odd.has(value)).toBe(true);
});

test('ranges are a set', () => {
  const pair = fc.tuple(fc.nat(40), fc.nat(12));
  fc.assert(
    fc.property(fc.array(pair, { maxLength: 30 }), (pairs) => {
      const ranges = new Ranges();
      const model = new Set<number>();
      for (const [from, length] of pairs) {
        ranges.add(from, from + length);
        for (let i = from; i < from + length; i++) model.add(i);
      }
      expect(ranges.size).toBe(model.size);
      for (let i = 0; i < 60; i++) expect(ranges.has(i)).toBe(model.has(i));
      const bounds = [...ranges].flat();
      expect(bounds).toEqual([...new Set(bounds)].sort((a, b) => a - b));
    }),
  );
});
