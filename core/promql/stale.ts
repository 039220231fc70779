/** The stale marker: a NaN with bits 0x7ff0000000000002 that ends a series. It is data, but never a value. */

const HIGH = 0x7ff00000;
const LOW = 2;

/** Whether the value at `at` is the stale marker. Looks at the bits: two NaNs are the same number. */
export function isStale(values: Float64Array, at: number): boolean {
  const words = new Uint32Array(values.buffer, values.byteOffset + 8 * at, 2);
  return words[0] === LOW && words[1] === HIGH;
}

/** The columns without stale markers: themselves when there are none. */
export function stripStale(
  timestamps: Float64Array,
  values: Float64Array,
): { timestamps: Float64Array; values: Float64Array } {
  let first = 0;
  while (first < values.length && !(Number.isNaN(values[first] as number) && isStale(values, first))) first++;
  if (first === values.length) return { timestamps, values };
  const keptTimestamps = timestamps.slice();
  const keptValues = values.slice();
  let n = first;
  for (let i = first + 1; i < values.length; i++) {
    if (Number.isNaN(values[i] as number) && isStale(values, i)) continue;
    keptTimestamps[n] = timestamps[i] as number;
    keptValues[n++] = values[i] as number;
  }
  return { timestamps: keptTimestamps.subarray(0, n), values: keptValues.subarray(0, n) };
}
