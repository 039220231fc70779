/**
 * Too much at once, beside the ordinary traffic: thousands of series that nobody had before, or samples as fast as they are
 * taken. Most of it may be refused; what was acknowledged is held to like everything else.
 */
import { type Client, SilverbackError } from '../client/index.ts';
import { Check, History, type Span } from './history.ts';
import type { Region } from './places.ts';
import { nowMs } from './traffic.ts';

/** `series`: each series is new. `samples`: the same few series, all of their time. */
export type FloodOf = 'series' | 'samples';

export interface FloodOptions {
  readonly seed: number;
  readonly clients: ReadonlyMap<Region, Client>;
}

export const FLOOD = 'flood';
const STEP_MS = 100;
const HOUR_MS = 3_600_000;
/** New series of a whole run; then there are no more. */
const SERIES_COUNT = 60_000;
/** Series that are flooded with samples. They come first. */
const STEADY_COUNT = 100;
/** Of one flood, so that what comes after it can be borne: batches and what is in one. */
const BATCHES: Readonly<Record<FloodOf, { readonly count: number; readonly size: number }>> = {
  series: { count: 12, size: 500 },
  samples: { count: 20, size: 50 },
};
/** Batches under way at a time. */
const WRITERS = 4;

export class Flood {
  readonly #options: FloodOptions;
  readonly #history: History;
  #nextSeries = STEADY_COUNT;
  #nextTick = 0;
  readonly #running = new Map<Region, { isOver: boolean; readonly ended: Promise<void> }>();
  /** Answers that no valid write may get, in words. */
  readonly refusals: string[] = [];

  constructor(options: FloodOptions) {
    this.#options = options;
    const originMs = Math.floor((nowMs() - 3 * HOUR_MS) / 1_000) * 1_000;
    this.#history = new History({ seed: options.seed, seriesCount: SERIES_COUNT, originMs, stepMs: STEP_MS });
  }

  get acknowledgedCount(): number {
    return this.#history.acknowledgedCount;
  }

  /** To be told what a region gives back. */
  check(): Check {
    return new Check(this.#history);
  }

  start(region: Region, of: FloodOf): void {
    if (this.#running.has(region)) return;
    const flood = { isOver: false, ended: Promise.resolve() };
    let left = BATCHES[of].count;
    const write = async () => {
      for (; left > 0 && !flood.isOver; left--) await this.#send(region, this.#next(of));
    };
    flood.ended = Promise.all(Array.from({ length: WRITERS }, write)).then(() => undefined);
    this.#running.set(region, flood);
  }

  /** Resolves when every write under way is acknowledged or given up. */
  async stop(region: Region): Promise<void> {
    const flood = this.#running.get(region);
    if (flood === undefined) return;
    this.#running.delete(region);
    flood.isOver = true;
    await flood.ended;
  }

  #next(of: FloodOf): Span {
    const { size } = BATCHES[of];
    if (of === 'samples') {
      const nowTick = Math.floor((nowMs() - this.#history.originMs) / STEP_MS);
      // When all of the past is there, again from its beginning.
      const fromTick = this.#nextTick + size > nowTick ? 0 : this.#nextTick;
      this.#nextTick = fromTick + size;
      return { fromSeries: 0, toSeries: STEADY_COUNT, fromTick, toTick: fromTick + size };
    }
    const fromSeries = Math.min(this.#nextSeries, SERIES_COUNT - size);
    this.#nextSeries = fromSeries + size;
    const tick = Math.floor((nowMs() - this.#history.originMs) / STEP_MS);
    return { fromSeries, toSeries: fromSeries + size, fromTick: tick, toTick: tick + 1 };
  }

  async #send(region: Region, span: Span): Promise<void> {
    const samples = [];
    for (let series = span.fromSeries; series < span.toSeries; series++) {
      const labels = { __name__: FLOOD, series: String(series) };
      for (let tick = span.fromTick; tick < span.toTick; tick++) {
        samples.push({ labels, timestampMs: this.#history.timeMs(tick), value: this.#history.value(series, tick) });
      }
    }
    this.#history.send(span);
    try {
      await (this.#options.clients.get(region) as Client).write(samples);
      this.#history.acknowledge(span);
    } catch (error) {
      if (!(error instanceof SilverbackError)) throw error;
      if (!error.retryable) this.refusals.push(`a valid write was refused for good: ${error.code} ${error.message}`);
    }
  }
}
