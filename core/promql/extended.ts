/**
 * Windows of `anchored` and `smoothed` selectors (experimental): they hold samples of a lookback before the range, and
 * `smoothed` also after it, so that the change is taken between the range's edges and nothing is extrapolated.
 */
import type { Points, Windows } from './window.ts';

/** The last sample at or before the range's start, or the first there is; past the end when the range holds nothing. */
export function firstOfWindow(w: Windows, step: number): number {
  const start = w.end(step) - w.rangeMs;
  const last = (w.high[step] as number) - 1;
  if (last < (w.low[step] as number) || (w.timestamps[last] as number) <= start) return last + 1;
  let first = w.low[step] as number;
  while (first < last && (w.timestamps[first + 1] as number) <= start) first++;
  return first;
}

function interpolate(w: Windows, at: number, time: number, counter: boolean): number {
  let y1 = w.values[at] as number;
  const y2 = w.values[at + 1] as number;
  if (counter && y2 < y1) y1 = 0;
  const t1 = w.timestamps[at] as number;
  return y1 + ((y2 - y1) * (time - t1)) / ((w.timestamps[at + 1] as number) - t1);
}

/** Prometheus's `extendedRate`. */
export function extendedRate(w: Windows, points: Points, counter: boolean, perSecond: boolean): void {
  const { timestamps, values, low, high, rangeMs } = w;
  const smoothed = w.extent === 'smoothed';
  for (let i = w.from; i < w.to; i++) {
    points.present[i] = 0;
    let last = (high[i] as number) - 1;
    const lowest = low[i] as number;
    if (last < lowest) continue;
    const end = w.end(i);
    const start = end - rangeMs;
    let first = lowest;
    while (first < last && (timestamps[first + 1] as number) <= start) first++;
    if (smoothed) {
      let at = lowest;
      while (at < last && (timestamps[at] as number) < end) at++;
      last = at;
    }
    if ((timestamps[last] as number) <= start) continue;
    const left =
      smoothed && (timestamps[first] as number) < start
        ? interpolate(w, first, start, counter)
        : (values[first] as number);
    const right =
      smoothed && last > lowest && (timestamps[last] as number) > end
        ? interpolate(w, last - 1, end, counter)
        : (values[last] as number);
    let result = right - left;
    if (counter) {
      if ((timestamps[first] as number) <= start) first++;
      if ((timestamps[last] as number) >= end) last--;
      let previous = left;
      for (let k = first; k <= last; k++) {
        if ((values[k] as number) < previous) result += previous;
        previous = values[k] as number;
      }
      if (right < previous) result += previous;
    }
    points.values[i] = perSecond ? result / (rangeMs / 1000) : result;
    points.present[i] = 1;
    points.pointCount++;
  }
}
