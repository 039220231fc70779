/**
 * A steady load, and what its clients see: writers through the SDK and one of remote write, each with a band of series that
 * follows the clock, and readers that ask over HTTP. Nothing here tries anything again that the SDK does not: what a client
 * is told is counted.
 */
import { type Client, SilverbackError } from '../client/index.ts';
import { remoteWrite } from '../test/local/cluster.ts';
import type { History, Span } from './history.ts';
import { METRIC, openClient, remoteSeries, samplesOf } from './load.ts';

export interface SteadyOptions {
  readonly history: History;
  /** Of the HTTP API. */
  readonly url: string;
  /** host:port of the coordinator's gRPC. */
  readonly grpc: string;
  /** Home regions of the SDK's writers, a writer each. */
  readonly regions: readonly string[];
  /** How long the SDK tries. */
  readonly retryMs: number;
  /** Between two questions of a reader. */
  readonly readPauseMs: number;
}

/** What one kind of client saw in a stretch of time. */
export interface Seen {
  readonly count: number;
  /** In words, each once, with how often. */
  readonly errors: ReadonlyMap<string, number>;
  readonly errorCount: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly mostMs: number;
}

export interface SeenWrites extends Seen {
  /** The longest time between two acknowledgements of one writer. */
  readonly longestGapMs: number;
}

export interface SeenAnswers extends Seen {
  /** By what they say that they cover. */
  readonly coverage: ReadonlyMap<string, number>;
  /** Why they were not complete, each reason once. */
  readonly reasons: ReadonlySet<string>;
}

export interface Sight {
  readonly sdk: SeenWrites;
  readonly remote: SeenWrites;
  readonly answers: SeenAnswers;
}

/** What a client tries to write at a time when it fell behind. */
const MAX_TICKS = 50;
const QUERY_MS = 30_000;

class Stretch {
  readonly tookMs: number[] = [];
  readonly errors = new Map<string, number>();
  readonly coverage = new Map<string, number>();
  readonly reasons = new Set<string>();
  longestGapMs = 0;

  fail(words: string): void {
    this.errors.set(words, (this.errors.get(words) ?? 0) + 1);
  }

  get seen(): SeenWrites & SeenAnswers {
    const { errors, coverage, reasons, longestGapMs } = this;
    const sorted = this.tookMs.toSorted((a, b) => a - b);
    const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
    const errorCount = [...errors.values()].reduce((sum, count) => sum + count, 0);
    return {
      ...{ count: sorted.length, errors, errorCount, coverage, reasons, longestGapMs },
      ...{ p50Ms: at(0.5), p99Ms: at(0.99), mostMs: sorted.at(-1) ?? 0 },
    };
  }
}

const KINDS = ['sdk', 'remote', 'answers'] as const;

export class Steady {
  readonly #options: SteadyOptions;
  readonly #clients: readonly Client[];
  #running: Promise<void>[] = [];
  #stopping = false;
  #stretches = fresh();

  constructor(options: SteadyOptions) {
    this.#options = options;
    const { grpc, regions, retryMs } = options;
    this.#clients = regions.map((region) => openClient(grpc, 'LOCAL', retryMs, region));
  }

  start(): void {
    const { seriesCount } = this.#options.history;
    const writers = [
      ...this.#clients.map((client) => (span: Span) => this.#sdk(client, span)),
      (span: Span) => this.#remote(span),
    ];
    const band = Math.ceil(seriesCount / writers.length);
    this.#running = writers.map((write, i) =>
      this.#follow(i === writers.length - 1 ? 'remote' : 'sdk', i * band, Math.min(seriesCount, (i + 1) * band), write),
    );
    this.#running.push(this.#read());
  }

  /** What was seen since the start, or since the last call. */
  look(): Sight {
    const { sdk, remote, answers } = this.#stretches;
    this.#stretches = fresh();
    return { sdk: sdk.seen, remote: remote.seen, answers: answers.seen };
  }

  /** Resolves when nothing is under way any more. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
    await Promise.all(this.#clients.map((client) => client.close()));
  }

  /** Writes what its band has new, again and again. */
  async #follow(
    kind: 'sdk' | 'remote',
    fromSeries: number,
    toSeries: number,
    write: (span: Span) => Promise<string | undefined>,
  ): Promise<void> {
    const { history } = this.#options;
    let nextTick = this.#tick();
    let acknowledgedMs = performance.now();
    while (!this.#stopping) {
      const tick = this.#tick();
      if (tick <= nextTick) {
        await pause(history.stepMs / 4);
        continue;
      }
      const span = { fromSeries, toSeries, fromTick: nextTick, toTick: Math.min(tick, nextTick + MAX_TICKS) };
      history.send(span);
      const startedMs = performance.now();
      const problem = await write(span);
      const nowMs = performance.now();
      const stretch = this.#stretches[kind];
      if (problem === undefined) {
        history.acknowledge(span);
        stretch.tookMs.push(nowMs - startedMs);
        stretch.longestGapMs = Math.max(stretch.longestGapMs, nowMs - acknowledgedMs);
        acknowledgedMs = nowMs;
      } else stretch.fail(problem);
      nextTick = span.toTick;
    }
  }

  #tick(): number {
    const { originMs, stepMs } = this.#options.history;
    return Math.floor((Date.now() - originMs) / stepMs);
  }

  async #sdk(client: Client, span: Span): Promise<string | undefined> {
    try {
      await client.write(samplesOf(this.#options.history, span));
      return undefined;
    } catch (error) {
      if (!(error instanceof SilverbackError)) throw error;
      return `${error.code} ${error.message}`;
    }
  }

  async #remote(span: Span): Promise<string | undefined> {
    const { history, url } = this.#options;
    try {
      const response = await remoteWrite(url, remoteSeries(history, span));
      return response.ok ? undefined : `${response.status} ${await response.text()}`;
    } catch (error) {
      return (error as Error).message;
    }
  }

  async #read(): Promise<void> {
    const { url, history, readPauseMs } = this.#options;
    for (let turn = 0; !this.#stopping; turn++) {
      const end = Math.floor(Date.now() / 1_000);
      const start = Math.max(Math.floor(history.originMs / 1_000), end - 600);
      const ranged = {
        query: `sum by (group) (rate(${METRIC}[1m]))`,
        start: String(start),
        end: String(end),
        step: '15',
      };
      const single = { query: `${METRIC}{series="${turn % history.seriesCount}"}` };
      const question = turn % 4 === 3 ? ranged : turn % 4 === 1 ? { query: `count(${METRIC})` } : single;
      const path = 'start' in question ? 'query_range' : 'query';
      const startedMs = performance.now();
      try {
        const response = await fetch(`${url}/api/v1/${path}?${new URLSearchParams(question)}`, {
          signal: AbortSignal.timeout(QUERY_MS),
        });
        const body = (await response.json()) as QueryBody;
        const { answers } = this.#stretches;
        if (body.data === undefined) answers.fail(`${response.status} ${body.error}`);
        else {
          answers.tookMs.push(performance.now() - startedMs);
          const { state, ranges } = body.data.coverage;
          answers.coverage.set(state, (answers.coverage.get(state) ?? 0) + 1);
          for (const { reason } of ranges) if (reason) answers.reasons.add(reason);
        }
      } catch (error) {
        this.#stretches.answers.fail((error as Error).message);
      }
      await pause(readPauseMs);
    }
  }
}

interface QueryBody {
  readonly error?: string;
  readonly data?: {
    readonly coverage: { readonly state: string; readonly ranges: readonly { readonly reason?: string }[] };
  };
}

function fresh(): Record<(typeof KINDS)[number], Stretch> {
  return { sdk: new Stretch(), remote: new Stretch(), answers: new Stretch() };
}

function pause(delayMs: number): Promise<void> {
  return new Promise((wake) => setTimeout(wake, delayMs));
}
