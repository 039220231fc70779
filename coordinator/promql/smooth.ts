/** A `smoothed` instant selector (experimental): between two samples its value lies on the line through them. */

import { stripStale } from '../../core/promql/stale.ts';
import type { Reference } from '../../core/promql/window.ts';
import type { SeriesSet } from '../query/queryable.ts';
import type { Context } from './context.ts';
import { BUSY, type Cursor, DONE, type Names, type Progress, SERIES, type Slot } from './vector.ts';

export class SmoothedCursor implements Cursor {
  readonly names: Names;
  readonly #set: SeriesSet;
  readonly #reference: Reference;
  readonly #context: Context;
  #at = 0;

  constructor(set: SeriesSet, names: Names, reference: Reference, context: Context) {
    this.names = names;
    this.#set = set;
    this.#reference = reference;
    this.#context = context;
  }

  next(slot: Slot): Progress {
    if (this.#at === this.#set.count) return DONE;
    const columns = this.#set.columns(this.#at);
    slot.labels = this.#set.labels(this.#at++);
    const { timestamps, values } = stripStale(columns.timestamps, columns.values);
    const { startMs, stepMs } = this.#reference;
    const { lookbackMs } = this.#context;
    let next = 0;
    slot.pointCount = 0;
    for (let i = 0; i < slot.values.length; i++) {
      const time = startMs + i * stepMs;
      while (next < timestamps.length && (timestamps[next] as number) < time) next++;
      slot.present[i] = 0;
      const after = timestamps[next];
      const before = next > 0 && (timestamps[next - 1] as number) > time - lookbackMs ? next - 1 : undefined;
      if (after === time) slot.values[i] = values[next] as number;
      else if (before === undefined) continue;
      else if (after === undefined || after > time + lookbackMs) slot.values[i] = values[before] as number;
      else {
        const y = values[before] as number;
        const t = timestamps[before] as number;
        slot.values[i] = y + (((values[next] as number) - y) * (time - t)) / (after - t);
      }
      slot.present[i] = 1;
      slot.pointCount++;
      this.#context.samples.add(i, 1);
    }
    return slot.pointCount === 0 ? BUSY : SERIES;
  }
}
