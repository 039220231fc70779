import { expect, test } from 'vitest';
import { Callers } from '../../node/callers.ts';

const MINUTE = 60_000;

test('an hour of new series, whatever went before', () => {
  let nowMs = 0;
  const callers = new Callers(() => nowMs);
  callers.count('a', 5, 0);
  nowMs = 54 * MINUTE;
  callers.count('a', 3, 2);
  callers.count('b', 0, 0);
  expect(callers.status()).toEqual([{ caller: 'a', newSeries: 8, newSeriesLastHour: 8, refusedSamples: 2 }]);
  nowMs = 61 * MINUTE;
  expect(callers.status()[0]).toMatchObject({ newSeries: 8, newSeriesLastHour: 3 });
  callers.count('a', 1, 0);
  expect(callers.status()[0]).toMatchObject({ newSeries: 9, newSeriesLastHour: 4 });
  nowMs = 300 * MINUTE;
  expect(callers.status()[0]).toMatchObject({ newSeries: 9, newSeriesLastHour: 0 });
});

test('names are bounded', () => {
  const callers = new Callers(() => 0);
  for (let i = 0; i < 1_000; i++) callers.count(`caller-${i}${'x'.repeat(1_000)}`, 1, 0);
  const found = callers.status();
  expect(found).toHaveLength(65);
  expect(found.every(({ caller }) => caller.length <= 100)).toBe(true);
  expect(found.find(({ caller }) => caller === '(others)')?.newSeries).toBe(936);
});
