/** Points pages as a coordinator reads them: what nodes wrote, and nothing of what does not add up. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { PointsPages } from '../../coordinator/query/points.ts';
import { SilverbackError } from '../../core/errors.ts';
import { encodeIdentity, type Labels, makeLabels, NO_LABELS } from '../../core/labels.ts';
import { PointsWriter, VALUES } from '../../core/promql/points.ts';

const STEPS = 11;
const AGGREGATION = {
  operation: VALUES,
  limit: 0,
  grouping: [],
  without: false,
  function: '',
  parameter: 0,
  rangeMs: 1,
  reference: { startMs: 0, stepMs: 1 },
  steps: STEPS,
  perStep: true,
};

const value = fc.oneof(fc.constantFrom(-0, 0, 1, Number.NaN, Infinity, -Infinity, 5e-324), fc.double());
/** A value or nothing for each step. */
const steps = fc.oneof(
  fc.array(fc.option(value, { nil: undefined }), { minLength: STEPS, maxLength: STEPS }),
  value.map((one) => new Array<number>(STEPS).fill(one)),
  fc.array(value, { minLength: STEPS, maxLength: STEPS }),
);
const series = fc.record({
  labels: fc.constantFrom<Record<string, string>>(
    { __name__: 'm', a: 'x' },
    { A: 'y', __name__: 'ü' },
    { __name__: 'm' },
    {},
  ),
  steps,
});

function written(
  all: readonly { labels: Record<string, string>; steps: readonly (number | undefined)[] }[],
): Uint8Array {
  const writer = new PointsWriter(AGGREGATION);
  for (const { labels, steps: values } of all) {
    const present = values.flatMap((v, i) => (v === undefined ? [] : [[i, v] as const]));
    const timestamps = Float64Array.from(present, ([i]) => i);
    writer.add(
      encodeIdentity(makeLabels(labels)),
      timestamps,
      Float64Array.from(present, ([, v]) => v),
      present.length,
    );
  }
  return writer.take();
}

it('series come as they were written, page by page, however many come together', () => {
  fc.assert(
    fc.property(fc.array(fc.array(series, { maxLength: 5 }), { maxLength: 4 }), fc.boolean(), (pages, isNameless) => {
      const found = new PointsPages(AGGREGATION);
      found.take(Buffer.concat(pages.slice(1).map(written)));
      for (const page of pages.slice(0, 1)) found.take(written(page));
      const all = [...pages.slice(1), ...pages.slice(0, 1)].flat();
      const expected = all.filter(({ steps: values }) => values.some((v) => v !== undefined));
      expect(found.count).toBe(expected.length);
      const looked = Array.from(
        { length: STEPS },
        (_, i) => expected.filter(({ steps: s }) => s[i] !== undefined).length,
      );
      expect(found.looked.perStep).toEqual(Float64Array.from(looked));
      expect(found.looked.samples).toBe(looked.reduce((sum, n) => sum + n, 0));
      // Any number of readers, each from the first on.
      for (let reader = 0; reader < 2; reader++) {
        const points = found.read(isNameless);
        const into = {
          labels: NO_LABELS as Labels,
          values: new Float64Array(STEPS),
          present: new Uint8Array(STEPS),
          pointCount: 0,
        };
        for (const { labels, steps: values } of expected) {
          expect(points.next(into)).toBe(true);
          const { __name__: _, ...nameless } = labels;
          expect(into.labels).toEqual(makeLabels(isNameless ? nameless : labels));
          expect(Array.from(into.values, (v, i) => (into.present[i] === 1 ? v : undefined))).toEqual(values);
          expect(into.pointCount).toBe(values.filter((v) => v !== undefined).length);
        }
        expect(points.next(into)).toBe(false);
      }
    }),
    { numRuns: 300 },
  );
});

it('a page that is cut short, or whose lengths do not add up, is CORRUPT and leaves nothing', () => {
  fc.assert(
    fc.property(fc.array(series, { minLength: 1, maxLength: 4 }), fc.nat(), fc.nat(255), (all, at, byte) => {
      const page = written(all);
      for (const broken of [page.subarray(0, at % page.length), page.with(at % page.length, byte)]) {
        const found = new PointsPages(AGGREGATION);
        try {
          found.take(broken);
          for (let points = found.read(false), i = 0; i < found.count; i++) {
            points.next({
              labels: NO_LABELS,
              values: new Float64Array(STEPS),
              present: new Uint8Array(STEPS),
              pointCount: 0,
            });
          }
        } catch (error) {
          expect(error).toBeInstanceOf(SilverbackError);
        }
        if (broken.length > 0 && broken.length < page.length) expect(found.count).toBe(0);
      }
    }),
    { numRuns: 500 },
  );
});
