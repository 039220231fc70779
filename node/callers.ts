/** Who brings new series: counts by the name that callers give of themselves, bounded in names. */
import type { CallerStatus } from '../core/protocol.ts';

/** Callers that are told apart; all further ones are counted together. */
const MAX_NAMES = 64;
const MAX_NAME_CHARS = 100;
const OTHERS = '(others)';

const SLOT_MS = 300_000;
/** An hour. */
const SLOT_COUNT = 12;

class Tally {
  newSeriesCount = 0;
  refusedSampleCount = 0;
  /** New series by slot of time; `#slotOf[i]` says which slot `#slots[i]` counts. */
  readonly #slots = new Uint32Array(SLOT_COUNT);
  readonly #slotOf = new Float64Array(SLOT_COUNT).fill(-1);

  add(seriesCount: number, monotonicMs: number): void {
    this.newSeriesCount += seriesCount;
    const slot = Math.floor(monotonicMs / SLOT_MS);
    const at = slot % SLOT_COUNT;
    if (this.#slotOf[at] !== slot) this.#slots[at] = 0;
    this.#slotOf[at] = slot;
    this.#slots[at] = (this.#slots[at] as number) + seriesCount;
  }

  lastHour(monotonicMs: number): number {
    const oldest = Math.floor(monotonicMs / SLOT_MS) - SLOT_COUNT + 1;
    return this.#slots.reduce((sum, count, at) => sum + ((this.#slotOf[at] as number) >= oldest ? count : 0), 0);
  }
}

export class Callers {
  readonly #tallies = new Map<string, Tally>();
  readonly #monotonicMs: () => number;

  constructor(monotonicMs: () => number) {
    this.#monotonicMs = monotonicMs;
  }

  /** A batch of `caller` made so many series; so many of its samples were refused because the shard is full of series. */
  count(caller: string, newSeriesCount: number, refusedSampleCount: number): void {
    if (newSeriesCount <= 0 && refusedSampleCount === 0) return;
    const tally = this.#tally(caller.slice(0, MAX_NAME_CHARS));
    if (newSeriesCount > 0) tally.add(newSeriesCount, this.#monotonicMs());
    tally.refusedSampleCount += refusedSampleCount;
  }

  status(): CallerStatus[] {
    const nowMs = this.#monotonicMs();
    return Array.from(this.#tallies, ([caller, tally]) => ({
      caller,
      newSeries: tally.newSeriesCount,
      newSeriesLastHour: tally.lastHour(nowMs),
      refusedSamples: tally.refusedSampleCount,
    }));
  }

  #tally(caller: string): Tally {
    const name = this.#tallies.has(caller) || this.#tallies.size < MAX_NAMES ? caller : OTHERS;
    let tally = this.#tallies.get(name);
    if (tally === undefined) {
      tally = new Tally();
      this.#tallies.set(name, tally);
    }
    return tally;
  }
}
