/** Who writes what: counts by the name that callers give of themselves, bounded in names. */
import type { WireErrorCode } from '../core/errors.ts';
import type { CallerStatus } from '../core/protocol.ts';

/** Callers that are told apart; all further ones are counted together. */
const MAX_NAMES = 64;
const MAX_NAME_CHARS = 100;
const OTHERS = '(others)';

const SLOT_MS = 300_000;
/** An hour. */
const SLOT_COUNT = 12;

/** One caller's counts since the node started, and what it has under way. */
export class Tally {
  readonly caller: string;
  requestCount = 0;
  /** Of requests; their columns. */
  byteCount = 0;
  /** That came, whatever became of them. */
  sampleCount = 0;
  newSeriesCount = 0;
  /** Samples by the reason why they were refused; those of requests that were turned away, too. */
  readonly refused = new Map<WireErrorCode, number>();
  /** Requests for which there was no room. */
  turnedAwayCount = 0;
  inFlightBytes = 0;
  inFlightCount = 0;
  streamCount = 0;
  /** Streams that are not read for now; see brakes.ts. */
  pausedCount = 0;
  /** How long its streams were not read, over its hosts. */
  pausedMs = 0;
  readonly #monotonicMs: () => number;
  /** New series by slot of time; `#slotOf[i]` says which slot `#slots[i]` counts. */
  readonly #slots = new Uint32Array(SLOT_COUNT);
  readonly #slotOf = new Float64Array(SLOT_COUNT).fill(-1);

  constructor(caller: string, monotonicMs: () => number) {
    this.caller = caller;
    this.#monotonicMs = monotonicMs;
  }

  addSeries(count: number): void {
    if (count <= 0) return;
    this.newSeriesCount += count;
    const slot = Math.floor(this.#monotonicMs() / SLOT_MS);
    const at = slot % SLOT_COUNT;
    if (this.#slotOf[at] !== slot) this.#slots[at] = 0;
    this.#slotOf[at] = slot;
    this.#slots[at] = (this.#slots[at] as number) + count;
  }

  refuse(code: WireErrorCode, sampleCount: number): void {
    this.refused.set(code, (this.refused.get(code) ?? 0) + sampleCount);
  }

  newSeriesInLastHour(): number {
    const oldest = Math.floor(this.#monotonicMs() / SLOT_MS) - SLOT_COUNT + 1;
    return this.#slots.reduce((sum, count, at) => sum + ((this.#slotOf[at] as number) >= oldest ? count : 0), 0);
  }
}

export class Callers {
  readonly #tallies = new Map<string, Tally>();
  readonly #monotonicMs: () => number;

  constructor(monotonicMs: () => number) {
    this.#monotonicMs = monotonicMs;
  }

  /** Where to count what this caller does, for as long as it likes. */
  of(caller: string): Tally {
    const cut = caller.slice(0, MAX_NAME_CHARS);
    const name = this.#tallies.has(cut) || this.#tallies.size < MAX_NAMES ? cut : OTHERS;
    let tally = this.#tallies.get(name);
    if (tally === undefined) {
      tally = new Tally(name, this.#monotonicMs);
      this.#tallies.set(name, tally);
    }
    return tally;
  }

  get streamCount(): number {
    let count = 0;
    for (const tally of this.#tallies.values()) count += tally.streamCount;
    return count;
  }

  all(): Iterable<Tally> {
    return this.#tallies.values();
  }

  /** Of those that brought new series, or were refused any. */
  status(): CallerStatus[] {
    const found: CallerStatus[] = [];
    for (const tally of this.#tallies.values()) {
      const { caller, newSeriesCount: newSeries } = tally;
      const refusedSamples = tally.refused.get('SERIES_LIMIT') ?? 0;
      if (newSeries === 0 && refusedSamples === 0) continue;
      found.push({ caller, newSeries, newSeriesLastHour: tally.newSeriesInLastHour(), refusedSamples });
    }
    return found;
  }
}
