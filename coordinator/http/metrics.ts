/** The coordinator's own metrics, in Prometheus's text format at `/metrics`. Counters are read off their owners when asked. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Connections } from '../../core/connections.ts';
import type { Placer, PlacerStatus } from '../../core/meta/placer.ts';
import type { Receiver, ReceiverStats } from '../ingest/receiver.ts';
import type { Senders, SenderTally } from '../ingest/senders.ts';
import type { ResultCache, ResultCacheStats } from '../query/cache.ts';
import type { Gate } from './gate.ts';

export class Metrics {
  readonly registry = new Registry();
  readonly #requests: Counter<'handler' | 'code'>;
  readonly #durations: Histogram<'handler'>;

  /** `ofProcess`: with Node's own, which one registry of a process should have. */
  constructor({ ofProcess }: { readonly ofProcess: boolean }) {
    if (ofProcess) collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: 100 });
    this.#requests = new Counter({
      name: 'silverback_http_requests_total',
      help: 'HTTP requests answered, by endpoint and status.',
      labelNames: ['handler', 'code'],
      registers: [this.registry],
    });
    this.#durations = new Histogram({
      name: 'silverback_http_request_duration_seconds',
      help: 'Time from a request to the end of its answer, remote write apart.',
      labelNames: ['handler'],
      buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
      registers: [this.registry],
    });
  }

  request(handler: string, status: number, durationMs?: number): void {
    this.#requests.inc({ handler, code: status });
    if (durationMs !== undefined) this.#durations.observe({ handler }, durationMs / 1000);
  }

  watchReceiver(receiver: Pick<Receiver, 'stats' | 'senders'>): void {
    this.#watchSenders(receiver.senders);
    const rows: readonly [name: string, help: string, key: keyof ReceiverStats][] = [
      ['bodies_total', 'Remote write bodies taken.', 'bodyCount'],
      ['samples_total', 'Samples acknowledged.', 'sampleCount'],
      ['refused_samples_total', 'Samples of series whose labels break a rule.', 'refusedSampleCount'],
      ['malformed_bodies_total', 'Bodies that are no snappy or no remote write.', 'malformedCount'],
      ['turned_away_bodies_total', 'Bodies refused because too many were under way.', 'turnedAwayCount'],
      ['exemplars_total', 'Exemplars acknowledged.', 'exemplarCount'],
      ['refused_exemplars_total', 'Exemplars that break a rule.', 'refusedExemplarCount'],
      ['skipped_histograms_total', 'Native histograms that were not stored.', 'histogramCount'],
      ['metadata_total', 'Metadata entries taken; what is repeated within some minutes counts once.', 'metadataCount'],
      [
        'table_generations_total',
        'Times the table of known series was started, the first included.',
        'generationCount',
      ],
      ['table_series', 'Series in the table of known series.', 'seriesCount'],
      ['table_bytes', 'Memory of the table of known series.', 'tableBytes'],
      ['held_bytes', 'Bytes of bodies under way.', 'heldBytes'],
    ];
    for (const [name, help, key] of rows)
      this.#read(`silverback_remote_write_${name}`, help, () => receiver.stats()[key]);
  }

  #watchSenders(senders: Pick<Senders, 'all'>): void {
    const rows: readonly [name: string, help: string, key: Exclude<keyof SenderTally, 'sender'>][] = [
      ['bodies_total', 'Remote write bodies taken, by sender.', 'bodyCount'],
      ['bytes_total', 'Compressed bytes of the bodies taken.', 'byteCount'],
      ['samples_total', 'Samples stored.', 'sampleCount'],
      [
        'refused_samples_total',
        'Samples refused for good: no room for new series, or a rule is broken.',
        'refusedSampleCount',
      ],
      [
        'turned_away_total',
        'Bodies refused because too many were under way, or too many of this sender.',
        'turnedAwayCount',
      ],
    ];
    for (const [name, help, key] of rows) {
      new Counter({
        name: `silverback_remote_write_sender_${name}`,
        help,
        labelNames: ['sender'],
        registers: [this.registry],
        collect() {
          this.reset();
          for (const tally of senders.all()) this.inc({ sender: tally.sender }, tally[key]);
        },
      });
    }
  }

  watchGates(queries: Gate, remoteReads: Gate): void {
    this.#read('silverback_queries_running', 'Queries that are being answered.', () => queries.running);
    this.#read('silverback_queries_waiting', 'Queries that wait for their turn.', () => queries.waiting);
    this.#read('silverback_remote_reads_running', 'Remote reads under way.', () => remoteReads.running);
    this.#read('silverback_remote_reads_waiting', 'Remote reads that wait for their turn.', () => remoteReads.waiting);
  }

  watchCache(cache: Pick<ResultCache, 'stats'>): void {
    const rows: readonly [name: string, help: string, key: keyof ResultCacheStats][] = [
      ['bytes', 'Memory of the kept answers of range queries.', 'bytes'],
      ['stretches', 'Kept answers, each of the steps of one query in one window.', 'stretchCount'],
      ['hit_steps_total', 'Steps of range queries that a kept answer held.', 'hitSteps'],
      ['missed_steps_total', 'Steps that were evaluated, of range queries that could have been kept.', 'missedSteps'],
      ['stale_total', 'Kept answers dropped because a window they were made of had changed.', 'staleCount'],
      ['evicted_total', 'Kept answers dropped for want of room.', 'evictedCount'],
    ];
    for (const [name, help, key] of rows) this.#read(`silverback_query_cache_${name}`, help, () => cache.stats()[key]);
  }

  /** Of the regions whose placement this process keeps now; another coordinator has the others'. */
  watchPlacers(placers: readonly Pick<Placer, 'status'>[]): void {
    const rows: readonly [name: string, help: string, of: (status: PlacerStatus) => number][] = [
      [
        'takeover_stopped',
        '1: too many nodes vanished at once, nothing is moved.',
        ({ alarm }) => (alarm === '' ? 0 : 1),
      ],
      ['gone_nodes', 'Nodes with copies that are not registered.', ({ goneNodes }) => goneNodes.length],
      ['idle_shards', 'Shards of which no copy takes writes.', ({ idleShardCount }) => idleShardCount],
      ['active_copies', 'Copies that hold the past and take writes.', ({ copyCounts }) => copyCounts.active],
      [
        'joining_copies',
        'Copies that take writes and do not hold the past yet.',
        ({ copyCounts }) => copyCounts.joining,
      ],
      ['leaving_copies', 'Copies that take no writes and may have to deliver.', ({ copyCounts }) => copyCounts.leaving],
    ];
    for (const [name, help, of] of rows) {
      new Gauge({
        name: `silverback_placement_${name}`,
        help,
        labelNames: ['region'],
        registers: [this.registry],
        collect() {
          this.reset();
          for (const placer of placers) {
            const status = placer.status();
            if (status.isLeading) this.set({ region: status.region }, of(status));
          }
        },
      });
    }
  }

  /** By listener, `grpc` or `http`. */
  watchConnections(listeners: Readonly<Record<string, Connections>>): void {
    const rows: readonly [name: string, help: string, of: (connections: Connections) => number][] = [
      ['connections', 'Connections that are open.', ({ count }) => count],
      ['max_connections', 'Connections that may be.', ({ maxCount }) => maxCount],
      [
        'refused_connections_total',
        'Connections closed at once: too many were open.',
        ({ refusedCount }) => refusedCount,
      ],
    ];
    for (const [listener, connections] of Object.entries(listeners)) {
      for (const [name, help, of] of rows) this.#read(`silverback_${listener}_${name}`, help, () => of(connections));
    }
  }

  /** A metric whose value somebody else keeps. What is named `_total` only grows. */
  #read(name: string, help: string, value: () => number): void {
    const registers = [this.registry];
    if (!name.endsWith('_total')) {
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(value());
        },
      });
      return;
    }
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  }
}
