/** The answer of a range query as the columns that the chart draws: one common time axis, a value or null for each series. */
import type { MatrixEntry } from './answer.ts';
import { parseValue } from './number.ts';

export interface Grid {
  /** Seconds, ascending. */
  readonly times: readonly number[];
  /** One column for each series: null where it has no point, or none that can be drawn (NaN, infinities). */
  readonly columns: readonly (readonly (number | null)[])[];
}

/** Puts series on the steps from `startMs` to `endMs`, both inclusive. */
export function makeGrid(
  series: readonly MatrixEntry[],
  range: { readonly startMs: number; readonly endMs: number; readonly stepMs: number },
): Grid {
  const { startMs, endMs, stepMs } = range;
  const count = Math.floor((endMs - startMs) / stepMs) + 1;
  const times = Array.from({ length: count }, (_, index) => (startMs + index * stepMs) / 1000);
  const columns = series.map(({ values }) => {
    const column = new Array<number | null>(count).fill(null);
    for (const [seconds, text] of values) {
      const index = Math.round((seconds * 1000 - startMs) / stepMs);
      const value = parseValue(text);
      if (index >= 0 && index < count && Number.isFinite(value)) column[index] = value;
    }
    return column;
  });
  return { times, columns };
}

/** Indices of the `limit` series that reach highest (in size), in the order of the answer. */
export function tallest(series: readonly MatrixEntry[], limit: number): number[] {
  const indices = series.map((_, index) => index);
  if (series.length <= limit) return indices;
  const peaks = series.map(({ values }) => {
    let peak = -1;
    for (const [, text] of values) {
      const size = Math.abs(parseValue(text));
      if (Number.isFinite(size) && size > peak) peak = size;
    }
    return peak;
  });
  const chosen = indices.sort((a, b) => (peaks[b] as number) - (peaks[a] as number)).slice(0, limit);
  return chosen.sort((a, b) => a - b);
}

/** Points without a neighbour on either side: a line through one point is invisible, so these are drawn as dots. */
export function lonePoints(column: readonly (number | null | undefined)[], from: number, to: number): number[] {
  const lone: number[] = [];
  for (let i = from; i <= to; i++) {
    if (column[i] != null && column[i - 1] == null && column[i + 1] == null) lone.push(i);
  }
  return lone;
}
