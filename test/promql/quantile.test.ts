import fc from 'fast-check';
import { expect, it } from 'vitest';
import { quantile, quantiles, selectQuantile, sortNanFirst } from '../../core/promql/quantile.ts';
import { Windows } from '../../core/promql/window.ts';

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

it('a quantile of windows is that of their values, however they follow on one another', () => {
  const value = fc.oneof(
    fc.integer({ min: -3, max: 3 }),
    fc.double({ noNaN: true }),
    fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
  );
  const level = fc.oneof(
    fc.double({ min: 0, max: 1, noNaN: true }),
    fc.constantFrom(0, 1, 0.5, 0.05, 0.95, -0.1, 1.1, Number.NaN),
  );
  const bounds = fc.array(fc.tuple(fc.nat(20), fc.nat(60)), { minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(fc.array(value, { maxLength: 300, size: 'max' }), level, bounds, (values, q, moves) => {
      const steps = moves.length;
      const scalars = [new Float64Array(steps).fill(q)];
      const w = new Windows({ rangeMs: 1, reference: { startMs: 0, stepMs: 1 }, steps, lookbackMs: 0, scalars });
      let low = 0;
      let high = 0;
      for (const [i, [from, to]] of moves.entries()) {
        high = Math.min(values.length, high + to);
        low = Math.min(high, low + from);
        w.low[i] = low;
        w.high[i] = high;
      }
      w.values = Float64Array.from(values);
      w.count = values.length;
      w.to = steps;
      const points = { values: new Float64Array(steps), present: new Uint8Array(steps), pointCount: 0 };
      quantiles(w, points);
      for (let i = 0; i < steps; i++) {
        const sorted = w.values.slice(w.low[i], w.high[i]);
        sortNanFirst(sorted, sorted.length);
        expect(points.present[i]).toBe(sorted.length > 0 ? 1 : 0);
        // Of zeros of both signs either may be the one.
        if (sorted.length > 0) expect((points.values[i] as number) + 0).toBe(quantile(q, sorted, sorted.length) + 0);
      }
    }),
    { numRuns: 1_000 },
  );
});
