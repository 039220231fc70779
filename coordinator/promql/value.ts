/**
 * What a query answers with. Columns all the way: a series is labels, timestamps and values; there is
 * no object per point. Timestamps are milliseconds. The points of one range query's dense series share
 * one timestamps array, so compare it by reference before looking at each.
 */
import type { Labels } from '../../core/labels.ts';

/** One series of a matrix: `timestamps[i]` belongs to `values[i]`, ascending. NaN payloads are kept. */
export interface MatrixSeries {
  readonly labels: Labels;
  readonly timestamps: Float64Array;
  readonly values: Float64Array;
}

/** A range query's answer (sorted by labels), or an instant query's for a range selector. */
export interface MatrixValue {
  readonly type: 'matrix';
  readonly series: readonly MatrixSeries[];
}

/** An instant query's answer, column by column: `labels[i]` has `values[i]`, all at `timeMs`. */
export interface VectorValue {
  readonly type: 'vector';
  readonly timeMs: number;
  readonly labels: readonly Labels[];
  readonly values: Float64Array;
}

export interface ScalarValue {
  readonly type: 'scalar';
  readonly timeMs: number;
  readonly value: number;
}

export interface StringValue {
  readonly type: 'string';
  readonly timeMs: number;
  readonly value: string;
}

export type Value = MatrixValue | VectorValue | ScalarValue | StringValue;

/** Number of points (vector elements, matrix samples; 1 for scalar and string). */
export function pointCount(value: Value): number {
  if (value.type === 'matrix') return value.series.reduce((sum, s) => sum + s.timestamps.length, 0);
  return value.type === 'vector' ? value.labels.length : 1;
}
