/** Functions of counters' and gauges' change: rate, increase, delta and their relatives. */
import { extendedRate, firstOfWindow } from './extended.ts';
import type { Points, WindowKernel, Windows } from './window.ts';

/** Where the values of a series fall, that is, where a counter was reset; reused from series to series. */
let resets = new Int32Array(64);

/** Fills `resets` with the indices of values lower than the one before, and an end mark. */
function findResets(values: Float64Array, count: number): void {
  let n = 0;
  let previous = count > 0 ? (values[0] as number) : 0;
  for (let i = 1; i < count; i++) {
    const value = values[i] as number;
    if (value < previous) {
      if (n + 1 >= resets.length) {
        const grown = new Int32Array(2 * resets.length);
        grown.set(resets);
        resets = grown;
      }
      resets[n++] = i;
    }
    previous = value;
  }
  resets[n] = 0x7fffffff;
}

/**
 * Prometheus's `extrapolatedRate`: the difference over the window, corrected for resets, stretched to the window's
 * edges where the samples come close to them. Resets are found once a series, so a step costs a handful of
 * operations however wide its window is.
 */
export function extrapolated(counter: boolean, perSecond: boolean): WindowKernel {
  return (w: Windows, points: Points): void => {
    if (w.extent !== undefined) {
      extendedRate(w, points, counter, perSecond);
      return;
    }
    const { timestamps, values, low, high, rangeMs } = w;
    const out = points.values;
    const present = points.present;
    if (counter) findResets(values, w.count);
    const falls = resets;
    let reset = 0;
    let found = 0;
    const rangeSeconds = rangeMs / 1000;
    for (let i = w.from; i < w.to; i++) {
      const first = low[i] as number;
      const last = (high[i] as number) - 1;
      if (last <= first) {
        present[i] = 0;
        continue;
      }
      const firstValue = values[first] as number;
      let result = (values[last] as number) - firstValue;
      if (counter) {
        while ((falls[reset] as number) <= first) reset++;
        for (let r = reset; (falls[r] as number) <= last; r++) result += values[(falls[r] as number) - 1] as number;
      }
      const firstTime = timestamps[first] as number;
      const lastTime = timestamps[last] as number;
      const end = w.end(i);
      let toStart = (firstTime - (end - rangeMs)) / 1000;
      let toEnd = (end - lastTime) / 1000;
      const sampled = (lastTime - firstTime) / 1000;
      const average = sampled / (last - first);
      const threshold = average * 1.1;
      if (toStart >= threshold) toStart = average / 2;
      if (counter && result > 0 && firstValue >= 0) {
        const toZero = sampled * (firstValue / result);
        if (toZero < toStart) toStart = toZero;
      }
      if (toEnd >= threshold) toEnd = average / 2;
      let factor = (sampled + toStart + toEnd) / sampled;
      if (perSecond) factor /= rangeSeconds;
      out[i] = result * factor;
      present[i] = 1;
      found++;
    }
    points.pointCount += found;
  };
}

/** The change between the last two samples. */
export function instantaneous(counter: boolean): WindowKernel {
  return (w, points) => {
    const { timestamps, values, low, high } = w;
    for (let i = w.from; i < w.to; i++) {
      const last = (high[i] as number) - 1;
      if (last - 1 < (low[i] as number)) {
        points.present[i] = 0;
        continue;
      }
      const value = values[last] as number;
      const before = values[last - 1] as number;
      let result = counter && value < before ? value : value - before;
      if (counter) result /= ((timestamps[last] as number) - (timestamps[last - 1] as number)) / 1000;
      points.values[i] = result;
      points.present[i] = 1;
      points.pointCount++;
    }
  };
}

let pairs = new Int32Array(64);

/** Counts neighbours in the window for which `differs` holds, as a difference of running counts. */
function countPairs(differs: (before: number, value: number) => boolean): WindowKernel {
  return (w, points) => {
    const { values, low, high, count } = w;
    if (w.from === 0) {
      if (pairs.length < count) pairs = new Int32Array(2 * count);
      pairs[0] = 0;
      for (let i = 1; i < count; i++) {
        pairs[i] = (pairs[i - 1] as number) + (differs(values[i - 1] as number, values[i] as number) ? 1 : 0);
      }
    }
    for (let i = w.from; i < w.to; i++) {
      const last = (high[i] as number) - 1;
      const first = w.extent === undefined ? (low[i] as number) : firstOfWindow(w, i);
      if (last < first) {
        points.present[i] = 0;
        continue;
      }
      points.values[i] = (pairs[last] as number) - (pairs[first] as number);
      points.present[i] = 1;
      points.pointCount++;
    }
  };
}

export const countResets = countPairs((before, value) => value < before);
export const countChanges = countPairs(
  (before, value) => before !== value && !(Number.isNaN(before) && Number.isNaN(value)),
);
