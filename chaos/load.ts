/**
 * Writers that record what was acknowledged: some through the SDK straight to the nodes, some as remote write through the
 * coordinator. They write the newest ticks of several windows, now and then fill a hole they left, or write something
 * again, and go on through every failure.
 */
import { Client, type Sample, SilverbackError } from '../client/index.ts';
import type { AckLevel } from '../core/protocol.ts';
import { remoteWrite } from '../test/local/cluster.ts';
import type { Seeded } from '../test/sim/random.ts';
import type { History, Span } from './history.ts';

export const METRIC = 'chaos';

/** Ticks of one window; each is written from its beginning on. */
const LANE_TICKS = 7_200;
const MAX_SPAN_SERIES = 40;
const MAX_SPAN_TICKS = 30;
const PAUSE_MS = 2;
/** A remote-write sender waits this long before it sends a body again. */
const RETRY_MS = 200;

export interface LoadOptions {
  readonly history: History;
  readonly random: Seeded;
  /** Of the HTTP API. */
  readonly url: string;
  readonly client: Client;
  readonly sdkWriters: number;
  readonly remoteWriters: number;
  /** Windows written to. */
  readonly laneCount: number;
}

/** The labels of a series of the history. */
export function labelsOf(series: number): Record<string, string> {
  return { __name__: METRIC, group: `g${series % 7}`, series: String(series) };
}

/** A client as chaos uses it. Losses are told to the writes themselves. */
export function openClient(endpoint: string, ack: AckLevel, retryMs: number, region?: string): Client {
  const home = region === undefined ? {} : { region };
  return new Client({ endpoints: [endpoint], ack, retryMs, caller: 'chaos', onDrop: () => undefined, ...home });
}

export class Load {
  readonly #options: LoadOptions;
  /** Per window: the next tick nobody wrote yet. */
  readonly #next: number[];
  readonly #holes: Span[] = [];
  #writers: Promise<void>[] = [];
  #stopping = false;
  /** Answers that no valid write may get, in words. */
  readonly refusals: string[] = [];
  failureCount = 0;

  constructor(options: LoadOptions) {
    this.#options = options;
    this.#next = Array.from({ length: options.laneCount }, () => 0);
  }

  start(): void {
    const { sdkWriters, remoteWriters } = this.#options;
    this.#stopping = false;
    this.#writers = [
      ...Array.from({ length: sdkWriters }, () => this.#run((span) => this.#writeSdk(span))),
      ...Array.from({ length: remoteWriters }, () => this.#run((span) => this.#writeRemote(span))),
    ];
  }

  /** Resolves when every write under way is acknowledged or given up. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#writers);
  }

  async #run(write: (span: Span) => Promise<boolean>): Promise<void> {
    const { history } = this.#options;
    while (!this.#stopping) {
      const span = this.#plan();
      history.send(span);
      if (await write(span)) history.acknowledge(span);
      else this.failureCount++;
      await new Promise((wake) => setTimeout(wake, PAUSE_MS));
    }
  }

  #plan(): Span {
    const { random, history } = this.#options;
    const seriesCount = random.int(1, Math.min(MAX_SPAN_SERIES, history.seriesCount) + 1);
    const fromSeries = random.int(0, history.seriesCount - seriesCount + 1);
    const series = { fromSeries, toSeries: fromSeries + seriesCount };
    const kind = random.next();
    if (kind < 0.15 && this.#holes.length > 0)
      return this.#holes.splice(random.int(0, this.#holes.length), 1)[0] as Span;
    const lane = random.int(0, this.#next.length);
    const next = this.#next[lane] as number;
    const length = random.int(1, MAX_SPAN_TICKS + 1);
    const base = lane * LANE_TICKS;
    if (kind < 0.25 && next > length) {
      // Something between the beginning and now: mostly written before, by some series.
      const from = base + random.int(0, next - length);
      return { ...series, fromTick: from, toTick: from + length };
    }
    const from = base + Math.min(next, LANE_TICKS - length);
    this.#next[lane] = from - base + length;
    const span = { ...series, fromTick: from, toTick: from + length };
    if (random.chance(0.1)) this.#holes.push(span);
    return span;
  }

  async #writeSdk(span: Span): Promise<boolean> {
    const { client } = this.#options;
    try {
      await client.write(samplesOf(this.#options.history, span));
      return true;
    } catch (error) {
      if (!(error instanceof SilverbackError)) throw error;
      if (!error.retryable) this.refusals.push(`the SDK: ${error.code} ${error.message}`);
      return false;
    }
  }

  /** As a remote-write sender does it: the same body again as long as the answer asks for that. */
  async #writeRemote(span: Span): Promise<boolean> {
    const { url } = this.#options;
    const body = remoteSeries(this.#options.history, span);
    while (!this.#stopping) {
      const response = await remoteWrite(url, body).catch(() => undefined);
      if (response?.ok) return true;
      const text = await response?.text().catch(() => '');
      if (response !== undefined && response.status !== 429 && response.status !== 503) {
        this.refusals.push(`remote write: ${response.status} ${text}`);
        return false;
      }
      await new Promise((wake) => setTimeout(wake, RETRY_MS));
    }
    return false;
  }
}

/** The samples of a span, for the SDK. */
export function samplesOf(history: History, { fromSeries, toSeries, fromTick, toTick }: Span): Sample[] {
  const samples: Sample[] = [];
  for (let series = fromSeries; series < toSeries; series++) {
    const labels = labelsOf(series);
    for (let tick = fromTick; tick < toTick; tick++) {
      samples.push({ labels, timestampMs: history.timeMs(tick), value: history.value(series, tick) });
    }
  }
  return samples;
}

/** The same, for a remote-write body. */
export function remoteSeries(history: History, { fromSeries, toSeries, fromTick, toTick }: Span) {
  return Array.from({ length: toSeries - fromSeries }, (_, i) => ({
    labels: Object.entries(labelsOf(fromSeries + i)),
    samples: Array.from({ length: toTick - fromTick }, (_, k) => {
      const tick = fromTick + k;
      return [history.timeMs(tick), history.value(fromSeries + i, tick)] as const;
    }),
  }));
}
