/** The stale marker: a NaN with bits 0x7ff0000000000002 that ends a series. It is data, but never a value. */

const HIGH = 0x7ff00000;
const LOW = 2;

/** Whether the value at `at` is the stale marker. Looks at the bits: two NaNs are the same number. */
export function isStale(values: Float64Array, at: number): boolean {
  const words = new Uint32Array(values.buffer, values.byteOffset + 8 * at, 2);
  return words[0] === LOW && words[1] === HIGH;
}

/** The first `count` of the columns without stale markers: the columns themselves when there are none. */
export function stripStale(
  timestamps: Float64Array,
  values: Float64Array,
  count = values.length,
): { timestamps: Float64Array; values: Float64Array; count: number } {
  let first = 0;
  while (first < count && !(Number.isNaN(values[first] as number) && isStale(values, first))) first++;
  if (first === count) return { timestamps, values, count };
  const keptTimestamps = timestamps.slice(0, count);
  const keptValues = values.slice(0, count);
  let n = first;
  for (let i = first + 1; i < count; i++) {
    if (Number.isNaN(values[i] as number) && isStale(values, i)) continue;
    keptTimestamps[n] = timestamps[i] as number;
    keptValues[n++] = values[i] as number;
  }
  return { timestamps: keptTimestamps.subarray(0, n), values: keptValues.subarray(0, n), count: n };
}
