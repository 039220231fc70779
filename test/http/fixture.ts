/** An HTTP server over a store in memory, for the tests of the API. */
import type { AdminOptions } from '../../coordinator/http/admin.ts';
import { Api } from '../../coordinator/http/api.ts';
import { Metrics } from '../../coordinator/http/metrics.ts';
import { createHttpServer, type HttpServer } from '../../coordinator/http/server.ts';
import { type WriteOptions, writeHandler } from '../../coordinator/http/write.ts';
import { Senders } from '../../coordinator/ingest/senders.ts';
import { Engine } from '../../coordinator/promql/engine.ts';
import type {
  AnnexQueryable,
  Coverage,
  Queryable,
  QueryContext,
  SelectRequest,
  SeriesSet,
} from '../../coordinator/query/queryable.ts';
import { Cardinality, ShardCardinality } from '../../core/cardinality.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { compareUtf8, type Labels, labelValue, makeLabels } from '../../core/labels.ts';
import type { Matcher } from '../../core/matchers.ts';

export interface StoredSeries {
  readonly labels: Labels;
  readonly timestamps: Float64Array;
  readonly values: Float64Array;
}

export function stored(labels: Record<string, string>, samples: readonly (readonly [number, number])[]): StoredSeries {
  return {
    labels: makeLabels(labels),
    timestamps: Float64Array.from(samples, ([t]) => t),
    values: Float64Array.from(samples, ([, v]) => v),
  };
}

/** Equality matchers only; what it is told to say of coverage; may be told to wait. */
export class FakeStore implements Queryable {
  series_: StoredSeries[] = [];
  coverage: Coverage[] = [{ shard: 0, fromMs: 0, toMs: 1, state: 'complete' }];
  hold: ((context: QueryContext) => Promise<void>) | undefined;
  readonly asked: (readonly [fromMs: number, toMs: number])[] = [];
  readonly askedRegions: (string | undefined)[] = [];

  #matching(selectors: readonly (readonly Matcher[])[]): StoredSeries[] {
    return this.series_.filter(
      ({ labels }) =>
        selectors.length === 0 ||
        selectors.some((matchers) => matchers.every(({ name, value }) => labelValue(labels, name) === value)),
    );
  }

  async select({ matchers, fromMs, toMs }: SelectRequest, context: QueryContext): Promise<SeriesSet> {
    await this.hold?.(context);
    this.askedRegions.push(context.region);
    const found = this.#matching([matchers]);
    return {
      count: found.length,
      labels: (i) => (found[i] as StoredSeries).labels,
      columns: (i) => {
        const { timestamps, values } = found[i] as StoredSeries;
        const from = timestamps.findIndex((t) => t >= fromMs);
        const to = timestamps.findLastIndex((t) => t <= toMs) + 1;
        if (from < 0) return { timestamps: new Float64Array(0), values: new Float64Array(0) };
        return { timestamps: timestamps.subarray(from, to), values: values.subarray(from, to) };
      },
      coverage: this.coverage,
      warnings: [],
      sampleCount: found.reduce((sum, { values }) => sum + values.length, 0),
    };
  }

  async labelNames(
    { fromMs, toMs }: { fromMs: number; toMs: number },
    selectors: readonly (readonly Matcher[])[],
    { region }: QueryContext,
  ) {
    this.askedRegions.push(region);
    this.asked.push([fromMs, toMs]);
    const names = new Set(this.#matching(selectors).flatMap(({ labels }) => labels.filter((_, i) => i % 2 === 0)));
    return { names: [...names].sort(compareUtf8), coverage: this.coverage, warnings: [] };
  }

  async labelValues(
    name: string,
    { fromMs, toMs }: { fromMs: number; toMs: number },
    selectors: readonly (readonly Matcher[])[],
    { region }: QueryContext,
  ) {
    this.askedRegions.push(region);
    this.asked.push([fromMs, toMs]);
    const values = new Set(this.#matching(selectors).map(({ labels }) => labelValue(labels, name)));
    values.delete('');
    return { values: [...values].sort(compareUtf8), coverage: this.coverage, warnings: [] };
  }

  async series(
    { fromMs, toMs }: { fromMs: number; toMs: number },
    selectors: readonly (readonly Matcher[])[],
    { region }: QueryContext,
  ) {
    this.askedRegions.push(region);
    this.asked.push([fromMs, toMs]);
    return { series: this.#matching(selectors).map(({ labels }) => labels), coverage: this.coverage, warnings: [] };
  }
}

export interface Fixture {
  readonly url: string;
  readonly port: number;
  readonly store: FakeStore;
  readonly api: Api;
  unready: string | undefined;
  close(): Promise<void>;
}

const noReceiver: WriteOptions['receiver'] = {
  maxBodyBytes: 1000,
  admit: (sender, bytes) => new Senders({ maxBytes: 1_000, maxCount: 1 }).admit(sender, bytes),
  receive: async () => ({
    status: 204,
    message: '',
    retryAfterMs: undefined,
    writtenSampleCount: 0,
    refusedSampleCount: 0,
    writtenExemplarCount: 0,
    refusedExemplarCount: 0,
  }),
};

export async function serve(
  options: {
    receiver?: WriteOptions['receiver'];
    concurrentQueries?: number;
    waitingQueries?: number;
    maxFormBytes?: number;
    corsOrigin?: string;
    annex?: AnnexQueryable;
    admin?: AdminOptions;
    timeoutMs?: number;
    maxReadSamples?: number;
  } = {},
): Promise<Fixture> {
  const store = new FakeStore();
  const {
    receiver = noReceiver,
    maxFormBytes,
    corsOrigin,
    admin,
    timeoutMs = 10_000,
    maxReadSamples,
    ...limits
  } = options;
  const api = new Api({
    env: nodeEnv,
    engine: new Engine(nodeEnv),
    queryable: store,
    timeoutMs,
    version: '0.0.0',
    regions: () => ['east', 'west'],
    cardinality: async () => {
      const shard = new ShardCardinality();
      for (const { labels } of store.series_) {
        for (let i = 0; i < labels.length; i += 2) shard.add(labels[i] as string, labels[i + 1] as string, 1);
      }
      return { found: new Cardinality(shard.texts(0, store.series_.length, 0, 7_199_999)), coverage: store.coverage };
    },
    settings: { 'http-port': '9090', lookback: '5m' },
    ...limits,
  });
  const metrics = new Metrics({ ofProcess: true });
  const server: HttpServer = createHttpServer({
    env: nodeEnv,
    api,
    metrics,
    write: writeHandler({ receiver, count: (status) => metrics.request('/write', status), warn: () => undefined }),
    unready: async () => fixture.unready,
    page: () => undefined,
    admin,
    ...(maxFormBytes === undefined ? {} : { maxFormBytes }),
    ...(maxReadSamples === undefined ? {} : { maxReadSamples }),
    ...(corsOrigin === undefined ? {} : { corsOrigin }),
  });
  const port = await server.listen('127.0.0.1', 0);
  const fixture: Fixture = {
    url: `http://127.0.0.1:${port}`,
    port,
    store,
    api,
    unready: undefined,
    close: () => server.close(),
  };
  return fixture;
}
