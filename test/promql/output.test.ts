import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatValue } from '../../coordinator/promql/digits.ts';
import { encodeResult, formatTime, LabelFormat } from '../../coordinator/promql/format.ts';
import { makeLabels } from '../../core/labels.ts';

const decimal = fc
  .tuple(fc.maxSafeInteger(), fc.integer({ min: 0, max: 12 }))
  .map(([digits, places]) => Number(`${digits}e-${places}`));
const value = fc.oneof(
  decimal,
  fc.double(),
  fc.integer(),
  fc.constantFrom(0, -0, 1e15, 1e15 - 1, 999_999_999.999999, 1e9, 0.1 + 0.2, 5e-7, 1e-6, 0.000015, 2 ** 53, 1e21),
);
const timeMs = fc.integer({ min: -8_640_000_000_000_000, max: 8_640_000_000_000_000 });

describe('points in JSON', () => {
  it('are what their texts are', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(timeMs, value), { maxLength: 20 }), (points) => {
        const timestamps = Float64Array.from(points, ([time]) => time);
        const values = Float64Array.from(points, ([, one]) => one);
        const series = [{ labels: [] as never, timestamps, values }];
        const json = Buffer.concat([...encodeResult({ type: 'matrix', series })]).toString();
        const texts = points.map(([time, one]) => `[${formatTime(time)},"${formatValue(one)}"]`);
        expect(json).toBe(`{"resultType":"matrix","result":[{"metric":{},"values":[${texts.join(',')}]}]}`);
      }),
      { numRuns: 2_000 },
    );
  });

  it('stay whole when several answers are written in turn', () => {
    const count = 10_000;
    const timestamps = Float64Array.from({ length: count }, (_, i) => 1_700_000_000_000 + i);
    const answers = [1, 7].map((factor) => {
      const values = Float64Array.from({ length: count }, (_, i) => (factor * i) / 3);
      const labels = ['text', 'ü'.repeat(70_000)] as never;
      return {
        values,
        pieces: encodeResult({ type: 'matrix', series: [{ labels, timestamps, values }] }),
        bytes: [] as Buffer[],
      };
    });
    for (let open = true; open; ) {
      open = false;
      for (const { pieces, bytes } of answers) {
        const { value: piece, done } = pieces.next();
        if (done === true) continue;
        bytes.push(piece);
        open = true;
      }
    }
    for (const { values, bytes } of answers) {
      expect(bytes.length).toBeGreaterThan(3);
      const { result } = JSON.parse(Buffer.concat(bytes).toString()) as {
        result: { metric: object; values: [number, string][] }[];
      };
      expect(result[0]?.metric).toEqual({ text: 'ü'.repeat(70_000) });
      expect(result[0]?.values.map(([, text]) => Number(text))).toEqual([...values]);
    }
  });
});

describe('label sets one after the other', () => {
  it.each([
    {
      what: 'the same',
      sets: [
        { a: '1', b: '2' },
        { a: '1', b: '2' },
      ],
    },
    { what: 'longer and shorter', sets: [{ a: '1' }, { a: '1', b: '2', c: '3' }, {}, { b: '2' }, { a: '1', b: '2' }] },
    { what: 'names and values in turn', sets: [{ a: 'b', b: 'a' }, { b: 'a' }, { a: 'b' }, { b: 'b', c: 'a' }] },
    { what: 'to be quoted', sets: [{ 'ü "x"': '\n\\' }, { 'ü "x"': '\u2028\u{1F600}' }, { 'ü "y"': '\n\\' }] },
  ])('are JSON, whatever stood in their places before: $what', ({ sets }) => {
    const format = new LabelFormat();
    for (const set of sets) {
      const labels = makeLabels(set as Record<string, string>);
      expect(format.of(labels)).toBe(JSON.stringify(set));
    }
  });
});
