/**
 * The SDK: samples in, answers out, for a program that is not part of the cluster.
 *
 *     const client = new Client({ endpoints: ['127.0.0.1:9095'] });
 *     await client.write([{ labels: { __name__: 'temperature', room: 'kitchen' }, timestampMs: Date.now(), value: 21.5 }]);
 *     client.logCounter(['http_requests_total', { route: '/login' }], 1);
 *     client.logLatency(['http_request_duration_seconds', { route: '/login' }], 12.3);
 *     client.setGauge('queue_length', 7);
 *     await client.close();
 *
 * Samples wait in a bounded buffer until the cluster has acknowledged them. What does not fit, or is not
 * taken for so long, or is refused for good, is dropped, counted in `stats()` and told to `onDrop`.
 */

import { hostname } from 'node:os';
import type { Env } from '../core/env/env.ts';
import { nodeEnv } from '../core/env/node.ts';
import { type ErrorCode, SilverbackError } from '../core/errors.ts';
import { Channel, type ChannelCredentials } from '../core/grpc.ts';
import { formatLabels } from '../core/labels.ts';
import { viewReachedAt } from '../core/peers.ts';
import type { PlacementView } from '../core/placement.ts';
import type { AckLevel, QueryRequest } from '../core/protocol.ts';
import { backoffMs } from './backoff.ts';
import { Collector } from './batch.ts';
import { Metrics, type Scopes } from './metrics.ts';
import { FollowedPlacement } from './placement.ts';
import { ask, type QueryOptions, type QueryResult } from './query.ts';
import { type LabelSet, type Series, SeriesTable } from './series.ts';
import { type Unconfirmed, Writer, type WriterStats } from './writer.ts';

export interface Sample {
  readonly labels: LabelSet;
  /** Whole milliseconds since 1970. */
  readonly timestampMs: number;
  readonly value: number;
}

/** Samples the client gave up. */
export interface Dropped {
  readonly sampleCount: number;
  /** `BUFFER_FULL`: there was no room. Else the code that the cluster or the client gave last; UNCONFIRMED ones may be stored. */
  readonly reason: 'BUFFER_FULL' | ErrorCode;
  readonly message: string;
}

export interface ClientOptions {
  /** host:port of coordinators' gRPC listeners; one that answers is enough. */
  readonly endpoints: readonly string[];
  /** Who writes, for the cluster's logs and metrics. Default: `sdk`. */
  readonly caller?: string;
  /** The home region: its nodes are preferred. */
  readonly region?: string;
  /** Default `LOCAL`. */
  readonly ack?: AckLevel;
  /** With `PEER`, of what no second failure zone has: `wait` (default) tries for `retryMs`, `settle` gives UNCONFIRMED after 5 s. */
  readonly unconfirmed?: Unconfirmed;
  readonly credentials?: ChannelCredentials;
  /** Samples in a batch, over all shards, at which it goes out at once. Default 20,000. */
  readonly batchSamples?: number;
  /** The longest a sample waits for its batch to fill. Default 200 ms. */
  readonly batchAgeMs?: number;
  /** Samples held until they are acknowledged; those that come on top are dropped. Default 2,000,000 (about 50 MB). */
  readonly bufferSamples?: number;
  /** How long a batch is tried before it is dropped. Default 60 s. */
  readonly retryMs?: number;
  /** How often counters, latencies and gauges are written. Default 5 s. */
  readonly flushMs?: number;
  /** Upper bounds of the latency buckets: seconds, ascending, without +Inf. Default: 1 ms to 10 s. */
  readonly latencyBuckets?: readonly number[];
  /** Labels of every metric (not of `write` and `append`). Default: `instance` = host:pid. */
  readonly metricLabels?: LabelSet;
  /** Series the client may know at a time. Default 1,000,000. */
  readonly maxSeries?: number;
  /** Told of each loss. Default: a process warning, at most one in 10 s. */
  readonly onDrop?: (dropped: Dropped) => void;
  /** host:port by `region/node`, for nodes that are to be reached elsewhere than where they registered. */
  readonly peerAddresses?: Readonly<Record<string, string>>;
  /** Where the shards are. Default: asked of `endpoints`. */
  readonly placement?: PlacementView;
  /** The outside world. Default: the real one. */
  readonly env?: Env;
}

export interface ClientStats extends WriterStats {
  /** Samples in the buffer: waiting, or sent and not yet acknowledged. */
  readonly heldCount: number;
  readonly acknowledgedCount: number;
  readonly droppedCount: number;
}

const LATENCY_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Batches on their way at a time; the writer's own window per node is below this. */
const MAX_ACTIVE_BATCHES = 16;

const DROP_WARNING_MS = 10_000;

/** What became of a batch: how to tell for each of its series whether its samples are stored. */
interface BatchReport {
  failureOf(series: Series): SilverbackError | undefined;
}

/** A batch that is full, or old enough. */
interface Sealed {
  readonly samples: Collector;
  readonly sampleCount: number;
  readonly sealedMs: number;
  readonly report: (report: BatchReport) => void;
  readonly reported: Promise<BatchReport>;
}

export class Client {
  readonly #env: Env;
  readonly #placement: PlacementView;
  readonly #ownPlacement: FollowedPlacement | undefined;
  readonly #writer: Writer;
  readonly #table: SeriesTable;
  readonly #metrics: Metrics;
  readonly #endpoints: readonly Channel[];
  readonly #ack: AckLevel;
  readonly #unconfirmed: Unconfirmed;
  readonly #batchSamples: number;
  readonly #batchAgeMs: number;
  readonly #bufferSamples: number;
  readonly #retryMs: number;
  readonly #onDrop: (dropped: Dropped) => void;
  readonly #stopFlushing: () => void;
  #collector: Collector;
  /** The report of the batch that is being filled. */
  #filling = makeReport();
  /** Emptied collectors, to be filled again. */
  readonly #spare: Collector[] = [];
  readonly #sealed: Sealed[] = [];
  readonly #active = new Set<Sealed>();
  /** Of producers that wait for room. */
  readonly #waiting: (() => void)[] = [];
  #sealTimer: { cancel(): void } | undefined;
  #yielded = false;
  /** The batch being filled should have gone out, but others wait before it. */
  #isDue = false;
  /** Samples in sealed and active batches. */
  #sealedCount = 0;
  #acknowledgedCount = 0;
  #droppedCount = 0;
  #overflowCount = 0;
  #lastWarningMs = Number.NEGATIVE_INFINITY;
  /** Takes nothing any more. */
  #closed = false;
  /** Sends nothing any more either. */
  #disconnected = false;

  /** Throws INVALID_ARGUMENT for options that make no sense. Connects in the background. */
  constructor(options: ClientOptions) {
    const env = options.env ?? nodeEnv;
    const caller = options.caller ?? 'sdk';
    const credentials = options.credentials === undefined ? {} : { credentials: options.credentials };
    this.#env = env;
    this.#ack = options.ack ?? 'LOCAL';
    this.#unconfirmed = options.unconfirmed ?? 'wait';
    this.#batchSamples = atLeastOne('batchSamples', options.batchSamples ?? 20_000);
    this.#batchAgeMs = atLeastOne('batchAgeMs', options.batchAgeMs ?? 200);
    this.#bufferSamples = atLeastOne('bufferSamples', options.bufferSamples ?? 2_000_000);
    this.#retryMs = atLeastOne('retryMs', options.retryMs ?? 60_000);
    const flushMs = atLeastOne('flushMs', options.flushMs ?? 5_000);
    this.#table = new SeriesTable(atLeastOne('maxSeries', options.maxSeries ?? 1_000_000));
    this.#onDrop = options.onDrop ?? ((dropped) => this.#warn(dropped));
    this.#metrics = new Metrics({
      sink: {
        series: (labels) => this.series(labels),
        append: (series, timestampMs, value) => this.append(series, timestampMs, value),
      },
      constantLabels: options.metricLabels ?? { instance: `${hostname()}:${process.pid}` },
      latencyBuckets: options.latencyBuckets ?? LATENCY_BUCKETS,
    });
    this.#collector = new Collector(this.#batchSamples);
    this.#endpoints = options.endpoints.map(
      (address) => new Channel(address, { clock: env.clock, caller, ...credentials }),
    );
    this.#ownPlacement =
      options.placement === undefined
        ? new FollowedPlacement({ env, endpoints: options.endpoints, caller, ...credentials })
        : undefined;
    const known = options.placement ?? (this.#ownPlacement as FollowedPlacement);
    const { peerAddresses } = options;
    this.#placement =
      peerAddresses === undefined ? known : viewReachedAt(known, new Map(Object.entries(peerAddresses)));
    this.#writer = new Writer({
      env,
      placement: this.#placement,
      source: this.#table,
      caller,
      ...(options.region !== undefined && { region: options.region }),
      ...credentials,
    });
    const flushing = env.timers.every(flushMs, () => this.#writeMetrics());
    this.#stopFlushing = () => flushing.cancel();
  }

  // ---- samples ------------------------------------------------------------------------------------

  /**
   * Writes samples, any mix of series and times, and resolves when the cluster has acknowledged all of them. Rejects
   * with a SilverbackError when any was refused or given up; writing the same samples again is harmless.
   */
  async write(samples: readonly Sample[]): Promise<void> {
    this.#checkOpen();
    // Everything is checked before anything is taken, so that a bad sample leaves nothing half done.
    const series = samples.map((sample) => {
      checkTimestamp(sample.timestampMs);
      return this.series(sample.labels);
    });
    const touched = new Map<Promise<BatchReport>, Set<Series>>();
    let takenCount = 0;
    for (const [i, { timestampMs, value }] of samples.entries()) {
      // A batch that this sample fills is no longer the one being filled afterwards.
      const { reported } = this.#filling;
      if (!this.append(series[i] as Series, timestampMs, value)) break;
      takenCount++;
      const known = touched.get(reported);
      if (known === undefined) touched.set(reported, new Set([series[i] as Series]));
      else known.add(series[i] as Series);
    }
    if (takenCount < samples.length) this.#drop(samples.length - takenCount - 1, 'BUFFER_FULL', this.#fullMessage());
    this.#sealSoon();
    let failure: SilverbackError | undefined;
    for (const [reported, ownSeries] of touched) {
      const report = await reported;
      for (const one of ownSeries) failure ??= report.failureOf(one);
    }
    if (takenCount < samples.length) failure ??= new SilverbackError('RESOURCE_EXHAUSTED', this.#fullMessage());
    if (failure !== undefined) throw failure;
  }

  /** The series of these labels, for `append`. The same labels give the same series. Throws INVALID_LABELS or SERIES_LIMIT. */
  series(labels: LabelSet): Series {
    return this.#table.intern(labels);
  }

  /**
   * Puts a sample into the buffer; it goes out with its batch. Samples of one series that follow one another travel
   * best. Returns false if there was no room and it was dropped. Throws INVALID_ARGUMENT for a timestamp that is none.
   */
  append(series: Series, timestampMs: number, value: number): boolean {
    checkTimestamp(timestampMs);
    this.#table.check(series);
    if (!this.#hasRoom()) return false;
    this.#collector.push(series.index, timestampMs, value);
    this.#collected();
    return true;
  }

  /**
   * Puts a run of one series' samples into the buffer, from columns of equal length. Returns how many found room; the
   * rest was dropped. Throws INVALID_ARGUMENT, before taking any, for a timestamp that is none.
   */
  appendColumns(series: Series, timestampsMs: ArrayLike<number>, values: ArrayLike<number>): number {
    const count = timestampsMs.length;
    if (values.length !== count) {
      throw new SilverbackError('INVALID_ARGUMENT', `${count} timestamps, but ${values.length} values`);
    }
    this.#table.check(series);
    for (let i = 0; i < count; i++) checkTimestamp(timestampsMs[i] as number);
    for (let i = 0; i < count; i++) {
      if (!this.#hasRoom()) {
        this.#drop(count - i - 1, 'BUFFER_FULL', this.#fullMessage());
        return i;
      }
      this.#collector.push(series.index, timestampsMs[i] as number, values[i] as number);
      this.#collected();
    }
    return count;
  }

  /** Resolves when the buffer is less than half full, at once if it is: for a producer that can wait rather than lose samples. */
  room(): Promise<void> {
    if (this.#heldCount() < this.#bufferSamples / 2) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  // ---- metrics ------------------------------------------------------------------------------------

  /** Adds to a counter: a total that only grows, written every `flushMs`. Query it with `rate` or `increase`. */
  logCounter(scopes: Scopes, value = 1): void {
    this.#measure(() => this.#metrics.count(scopes, value, this.#env.clock.nowMs()));
  }

  /** Counts a duration into a histogram: `<name>_bucket`, `_sum` and `_count`, in seconds, written every `flushMs`. */
  logLatency(scopes: Scopes, durationMs: number): void {
    this.#measure(() => this.#metrics.observe(scopes, durationMs, this.#env.clock.nowMs()));
  }

  /** Sets a gauge: its last value is written every `flushMs`. */
  setGauge(scopes: Scopes, value: number): void {
    this.#measure(() => this.#metrics.set(scopes, value, this.#env.clock.nowMs()));
  }

  // ---- queries ------------------------------------------------------------------------------------

  /** Evaluates PromQL at one moment (default: now). Rejects with a SilverbackError; INVALID_ARGUMENT names what is wrong with the query. */
  query(query: string, options: QueryOptions & { readonly timeMs?: number } = {}): Promise<QueryResult> {
    const timeMs = options.timeMs ?? this.#env.clock.nowMs();
    return this.#ask({ query, timeMs, startMs: 0, endMs: 0, stepMs: 0 }, options);
  }

  /** Evaluates PromQL at `startMs`, `startMs + stepMs`, ... up to `endMs`. Rejects as `query` does. */
  queryRange(
    query: string,
    options: QueryOptions & { readonly startMs: number; readonly endMs: number; readonly stepMs: number },
  ): Promise<QueryResult> {
    const { startMs, endMs, stepMs } = options;
    if (!(stepMs > 0))
      return Promise.reject(new SilverbackError('INVALID_ARGUMENT', `stepMs: ${stepMs} must be above 0`));
    return this.#ask({ query, timeMs: 0, startMs, endMs, stepMs }, options);
  }

  // ---- life ---------------------------------------------------------------------------------------

  stats(): ClientStats {
    return {
      ...this.#writer.stats(),
      heldCount: this.#heldCount(),
      acknowledgedCount: this.#acknowledgedCount,
      droppedCount: this.#droppedCount,
    };
  }

  /** Writes the metrics and sends what is buffered; resolves when all of it is acknowledged or dropped. */
  async flush(): Promise<void> {
    this.#writeMetrics();
    this.#seal();
    while (this.#heldCount() > 0) {
      const reports = [...this.#sealed, ...this.#active].map((batch) => batch.reported);
      if (reports.length === 0) this.#seal();
      await Promise.all(reports);
    }
  }

  /** Flushes for at most `timeoutMs`, drops and reports what is left, and disconnects. The client takes nothing afterwards. */
  async close(timeoutMs = 10_000): Promise<void> {
    if (this.#closed) return;
    this.#stopFlushing();
    const timer = this.#env.timers.after(timeoutMs, () => this.#disconnect());
    const flushed = this.flush();
    this.#closed = true;
    await flushed;
    timer.cancel();
    this.#disconnect();
  }

  #disconnect(): void {
    if (this.#disconnected) return;
    this.#disconnected = true;
    this.#writer.close();
    this.#ownPlacement?.close();
    for (const channel of this.#endpoints) channel.close();
    const error = new SilverbackError('UNAVAILABLE', 'the client was closed before these were acknowledged');
    // The batch being filled takes its turn after those that wait.
    for (; this.#sealed.length > 0 || this.#collector.sampleCount > 0; this.#seal()) {
      for (const batch of this.#sealed.splice(0)) {
        this.#settle(batch, 0, [{ count: batch.sampleCount, error }], () => error);
      }
    }
  }

  // ---- the buffer ---------------------------------------------------------------------------------

  #heldCount(): number {
    return this.#sealedCount + this.#collector.sampleCount;
  }

  #hasRoom(): boolean {
    if (this.#heldCount() < this.#bufferSamples && !this.#closed) return true;
    // A producer that runs ahead drops in a tight loop: losses are told once per turn, not one by one.
    if (this.#overflowCount++ === 0) void this.#env.timers.yield().then(() => this.#tellOverflow());
    return false;
  }

  #tellOverflow(): void {
    const count = this.#overflowCount;
    this.#overflowCount = 0;
    this.#drop(
      count,
      this.#closed ? 'UNAVAILABLE' : 'BUFFER_FULL',
      this.#closed ? 'the client is closed' : this.#fullMessage(),
    );
  }

  #fullMessage(): string {
    return `the buffer holds ${this.#bufferSamples} samples (bufferSamples), none of them acknowledged yet`;
  }

  #collected(): void {
    const { sampleCount } = this.#collector;
    if (sampleCount >= this.#batchSamples) this.#seal();
    else if (sampleCount === 1) this.#sealTimer = this.#env.timers.after(this.#batchAgeMs, () => this.#seal());
  }

  /** At the end of this turn of the event loop: writes of one turn share a batch. */
  #sealSoon(): void {
    if (this.#yielded) return;
    this.#yielded = true;
    void this.#env.timers.yield().then(() => {
      this.#yielded = false;
      this.#seal();
    });
  }

  #seal(): void {
    this.#sealTimer?.cancel();
    this.#sealTimer = undefined;
    const samples = this.#collector;
    if (samples.sampleCount === 0) return;
    const { sampleCount } = samples;
    // While batches queue up, this one may as well fill: small ones would each hold a whole collector.
    this.#isDue = sampleCount < this.#batchSamples && this.#sealed.length > 0;
    if (this.#isDue) return;
    this.#sealed.push({ samples, sampleCount, sealedMs: this.#env.clock.monotonicMs(), ...this.#filling });
    this.#sealedCount += sampleCount;
    this.#collector = this.#spare.pop() ?? new Collector(this.#batchSamples);
    this.#filling = makeReport();
    this.#pump();
  }

  #pump(): void {
    while (!this.#disconnected && this.#active.size < MAX_ACTIVE_BATCHES && this.#sealed.length > 0) {
      const batch = this.#sealed.shift() as Sealed;
      this.#active.add(batch);
      this.#send(batch).catch((thrown: unknown) => {
        const error =
          thrown instanceof SilverbackError
            ? thrown
            : new SilverbackError('INTERNAL', String(thrown), { cause: thrown });
        this.#settle(batch, 0, [{ count: batch.sampleCount, error }], () => error);
      });
    }
    if (this.#isDue && this.#sealed.length === 0) this.#seal();
  }

  async #send(batch: Sealed): Promise<void> {
    const deadlineMs = batch.sealedMs + this.#retryMs;
    const placement = this.#placement.current() ?? (await this.#firstPlacement(deadlineMs));
    this.#table.place(placement.shardCount);
    const columns = batch.samples.take(this.#table);
    this.#spare.push(batch.samples);
    const timeoutMs = Math.max(1, deadlineMs - this.#env.clock.monotonicMs());
    const { results, acknowledgedCount } = await this.#writer.write(columns, {
      ack: this.#ack,
      unconfirmed: this.#unconfirmed,
      timeoutMs,
    });
    const losses: { count: number; error: SilverbackError }[] = [];
    const byShard = new Map<number, SilverbackError>();
    const bySeries = new Map<number, SilverbackError>();
    for (const [i, { shard, code, message, rejections, acknowledgedCount: stored }] of results.entries()) {
      let openCount = (columns[i] as (typeof columns)[number]).timestamps.length / 8 - stored;
      for (const rejection of rejections) {
        const error = new SilverbackError(rejection.code, rejection.message || formatLabels(rejection.labels));
        bySeries.set(this.#table.indexOf(shard, rejection.ref), error);
        losses.push({ count: rejection.sampleCount, error });
        openCount -= rejection.sampleCount;
      }
      if (code === 'OK') continue;
      const error = new SilverbackError(code, message);
      byShard.set(shard, error);
      losses.push({ count: openCount, error });
    }
    const { shardOf } = this.#table.places;
    this.#settle(
      batch,
      acknowledgedCount,
      losses,
      ({ index }) => bySeries.get(index) ?? byShard.get(shardOf[index] as number),
    );
  }

  async #firstPlacement(deadlineMs: number): ReturnType<PlacementView['refresh']> {
    for (let failures = 1; ; failures++) {
      try {
        return await this.#placement.refresh();
      } catch (error) {
        const waitMs = backoffMs(this.#env.random, failures);
        if (this.#disconnected || this.#env.clock.monotonicMs() + waitMs > deadlineMs) throw error;
        await new Promise<void>((resolve) => void this.#env.timers.after(waitMs, resolve));
      }
    }
  }

  #settle(
    batch: Sealed,
    acknowledgedCount: number,
    losses: readonly { readonly count: number; readonly error: SilverbackError }[],
    failureOf: BatchReport['failureOf'],
  ): void {
    this.#active.delete(batch);
    this.#sealedCount -= batch.sampleCount;
    this.#acknowledgedCount += acknowledgedCount;
    for (const { count, error } of losses) this.#drop(count, error.code, error.message);
    batch.report({ failureOf });
    this.#pump();
    if (this.#heldCount() < this.#bufferSamples / 2) for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #drop(sampleCount: number, reason: Dropped['reason'], message: string): void {
    if (sampleCount <= 0) return;
    this.#droppedCount += sampleCount;
    this.#onDrop({ sampleCount, reason, message });
  }

  #warn({ sampleCount, reason, message }: Dropped): void {
    const nowMs = this.#env.clock.monotonicMs();
    if (nowMs - this.#lastWarningMs < DROP_WARNING_MS) return;
    this.#lastWarningMs = nowMs;
    process.emitWarning(
      `${sampleCount} samples dropped (${reason}): ${message}; ${this.#droppedCount} in all`,
      'SilverbackDrop',
    );
  }

  // ---- the rest -----------------------------------------------------------------------------------

  /** Measuring must not bring the measured program down: what is wrong with a call is reported like any loss. */
  #measure(call: () => void): void {
    try {
      call();
    } catch (error) {
      if (!(error instanceof SilverbackError)) throw error;
      this.#drop(1, error.code, error.message);
    }
  }

  #writeMetrics(): void {
    this.#metrics.write(Math.floor(this.#env.clock.nowMs()));
  }

  async #ask(asked: Omit<QueryRequest, 'region'>, options: QueryOptions): Promise<QueryResult> {
    this.#checkOpen();
    return ask(this.#endpoints, asked, options);
  }

  #checkOpen(): void {
    if (this.#closed) throw new SilverbackError('UNAVAILABLE', 'the client is closed');
  }
}

function makeReport(): Pick<Sealed, 'report' | 'reported'> {
  let report: Sealed['report'] | undefined;
  const reported = new Promise<BatchReport>((resolve) => {
    report = resolve;
  });
  return { report: report as unknown as Sealed['report'], reported };
}

function checkTimestamp(timestampMs: number): void {
  if (Number.isSafeInteger(timestampMs) && timestampMs >= 0) return;
  throw new SilverbackError(
    'INVALID_ARGUMENT',
    `timestamp ${timestampMs} is not a whole number of milliseconds since 1970`,
  );
}

function atLeastOne(name: string, value: number): number {
  if (Number.isFinite(value) && value >= 1) return value;
  throw new SilverbackError('INVALID_ARGUMENT', `${name}: ${value} must be a number of at least 1`);
}
