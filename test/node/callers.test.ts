import { expect, test } from 'vitest';
import { Callers } from '../../node/callers.ts';

const MINUTE = 60_000;

test('an hour of new series, whatever went before', () => {
  let nowMs = 0;
  const callers = new Callers(() => nowMs);
  const tally = callers.of('a');
  tally.addSeries(5);
  nowMs = 54 * MINUTE;
  tally.addSeries(3);
  tally.refuse('SERIES_LIMIT', 2);
  tally.refuse('TOO_OLD', 7);
  callers.of('b').addSeries(0);
  expect(callers.status()).toEqual([{ caller: 'a', newSeries: 8, newSeriesLastHour: 8, refusedSamples: 2 }]);
  nowMs = 61 * MINUTE;
  expect(callers.status()[0]).toMatchObject({ newSeries: 8, newSeriesLastHour: 3 });
  callers.of('a').addSeries(1);
  expect(callers.status()[0]).toMatchObject({ newSeries: 9, newSeriesLastHour: 4 });
  nowMs = 300 * MINUTE;
  expect(callers.status()[0]).toMatchObject({ newSeries: 9, newSeriesLastHour: 0 });
});

test('names are bounded', () => {
  const callers = new Callers(() => 0);
  for (let i = 0; i < 1_000; i++) callers.of(`caller-${i}${'x'.repeat(1_000)}`).addSeries(1);
  const found = callers.status();
  expect(found).toHaveLength(65);
  expect(found.every(({ caller }) => caller.length <= 100)).toBe(true);
  expect(found.find(({ caller }) => caller === '(others)')?.newSeries).toBe(936);
});
