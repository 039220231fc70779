import fc from 'fast-check';
import { expect, it } from 'vitest';
import { quantile, selectQuantile, sortNanFirst } from '../../core/promql/quantile.ts';

it('selecting a quantile finds what sorting finds', () => {
  const value = fc.oneof(
    fc.integer({ min: -3, max: 3 }),
    fc.double({ noNaN: true }),
    fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
  );
  const level = fc.oneof(fc.double({ min: 0, max: 1, noNaN: true }), fc.constantFrom(0, 1, 0.5, -0.1, 1.1, Number.NaN));
  fc.assert(
    fc.property(fc.array(value, { maxLength: 300, size: 'max' }), level, (values, q) => {
      const count = Math.floor(values.length * 0.9);
      const sorted = Float64Array.from(values);
      sortNanFirst(sorted, count);
      const found = selectQuantile(q, Float64Array.from(values), count);
      // Of zeros of both signs either may be the one.
      expect(found + 0).toBe(quantile(q, sorted, count) + 0);
    }),
    { numRuns: 500 },
  );
});

it('and does so of values that are sorted already, all the same, or in waves', () => {
  const courses = [
    (i: number) => i,
    (i: number) => -i,
    () => 7,
    (i: number) => i % 13,
    (i: number) => (i % 2 ? i : -i),
  ];
  for (const course of courses) {
    const values = Float64Array.from({ length: 5_000 }, (_, i) => course(i));
    const sorted = values.slice();
    sortNanFirst(sorted, sorted.length);
    for (const q of [0, 0.1, 0.5, 0.9, 1]) {
      expect(selectQuantile(q, values.slice(), values.length)).toBe(quantile(q, sorted, sorted.length));
    }
  }
});
