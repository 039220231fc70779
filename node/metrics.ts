/** A node's own metrics, in Prometheus's text format. What shards count is read off them when asked. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Connections } from '../core/connections.ts';
import type { ShardOutcome, ShardRepair } from '../core/protocol.ts';
import type { Versions } from '../core/versions.ts';
import type { Callers, Tally } from './callers.ts';
import type { WatchedDisk } from './disk.ts';
import type { Node } from './node.ts';
import type { Repair } from './repair/repair.ts';
import type { Pace } from './replication/pace.ts';
import type { Lag, Peer, Replication } from './replication/replication.ts';
import type { ShardStats } from './shard/stats.ts';
import type { InFlight, WriteObserver } from './write.ts';

/** One row per number of a shard; names that end in `_total` only grow while the shard is open. */
type Row<T> = readonly [name: string, help: string, of: (one: T) => number];

const SHARD_ROWS: readonly Row<ShardStats>[] = [
  ['series', 'Series that have samples in memory.', (stats) => stats.seriesCount],
  ['open_samples', 'Samples in open windows.', (stats) => stats.openSampleCount],
  ['sealed_samples', 'Samples in sealed blocks.', (stats) => stats.sealedSampleCount],
  ['accepted_samples_total', 'Samples stored, repeated ones included.', (stats) => stats.acceptedSampleCount],
  ['refused_samples_total', 'Samples refused.', (stats) => stats.refusedSampleCount],
  ['exemplars', 'Exemplars kept.', (stats) => stats.exemplarCount],
  ['exemplar_series', 'Series with exemplars.', (stats) => stats.exemplarSeriesCount],
  ['accepted_exemplars_total', 'Exemplars stored, repeated ones included.', (stats) => stats.acceptedExemplarCount],
  ['refused_exemplars_total', 'Exemplars refused.', (stats) => stats.refusedExemplarCount],
  ['metadata_metrics', 'Metrics whose metadata is kept.', (stats) => stats.metadataCount],
  ['kernel_bytes', 'Linear memory of the kernel.', (stats) => stats.kernelBytes],
  ['block_resident_bytes', 'Sealed blocks in memory.', (stats) => stats.residentBlockBytes],
  ['block_file_bytes', 'Sealed blocks on disk.', (stats) => stats.blockFileBytes],
  ['index_bytes', 'Indexes of series and blocks.', (stats) => stats.indexBytes + stats.blockIndexBytes],
  ['max_series', 'Series that the shard takes.', (stats) => stats.maxSeriesCount],
  ['log_pending_bytes', "Bytes that wait for the log's disk.", (stats) => stats.logPendingBytes],
  ['log_unsynced_bytes', 'Bytes of the log that no fsync has covered.', (stats) => stats.logUnsyncedBytes],
  ['log_bytes', 'Log on disk.', (stats) => stats.logBytes],
  ['seals_total', 'Windows sealed.', (stats) => stats.sealCount],
  ['last_seal_seconds', 'Duration of the last seal.', (stats) => stats.lastSealMs / 1_000],
  ['recovery_seconds', 'Duration of the recovery at the last start.', (stats) => stats.recoveryMs / 1_000],
  ['problems_total', 'Problems the shard lived with.', (stats) => stats.problemCount],
  ['failed', '1: the shard refuses writes.', (stats) => (stats.failure === undefined ? 0 : 1)],
];

/** One row per end of the versions that the node speaks of a format. */
const VERSION_ROWS: readonly Row<Versions>[] = [
  ['lowest_version', 'The lowest version of the format that the node speaks.', ([lowest]) => lowest],
  ['highest_version', 'The highest version of the format that the node speaks.', ([, highest]) => highest],
];

/** One row per number of a shard at a destination. */
const LAG_ROWS: readonly Row<Lag>[] = [
  ['lag_records', 'Records in the log not known to be in the copy.', (lag) => lag.recordCount],
  ['lag_bytes', 'About what these records take in the log.', (lag) => lag.byteCount],
  ['lag_seconds', 'How long ago the first of these records was written.', (lag) => lag.ageMs / 1_000],
  ['in_flight_bytes', 'Bytes sent to the copy and not answered.', (lag) => lag.inFlightBytes],
  [
    'catching_up',
    '1: the copy is caught up from the log; what is live goes first.',
    (lag) => (lag.isCatchingUp ? 1 : 0),
  ],
  ['lost_records', 'Records that left the log before the copy had them.', (lag) => lag.lostRecordCount],
];

/** One row per number of a node with copies of this one's shards: what holds of single shards would be many series more. */
const PEER_ROWS: readonly Row<Peer>[] = [
  ['connected', '1: the stream to the node is open.', (peer) => (peer.isConnected ? 1 : 0)],
  [
    'frontier_age_seconds',
    'The age of the oldest frontier heard from the node: up to it, all that the node acknowledged is here.',
    (peer) => peer.frontierAgeMs / 1_000,
  ],
  ['log_version', 'The version of the log records that go to the node; 0: none do.', (peer) => peer.logVersion],
  ['silent_shards', 'Shards of whose copy in the node nothing was heard for long.', (peer) => peer.silentCount],
];

/** Of catching up, in all directions together. */
const PACE_ROWS: readonly Row<Pace>[] = [
  ['throttled', '1: catching up is made to wait, for live writes.', (pace) => (pace.isThrottling ? 1 : 0)],
  ['throttled_seconds_total', 'How long it was made to wait.', (pace) => pace.waitedMs / 1_000],
  ['catch_up_bytes_per_second', 'What is done for copies that lag, at the most.', (pace) => pace.bytesPerSecond],
];

/** One row per number of a shard's repair; names that end in `_total` only grow. */
const REPAIR_ROWS: readonly Row<ShardRepair>[] = [
  ['rounds_total', 'Rounds of background repair.', (repair) => repair.rounds],
  ['windows_compared_total', 'Windows compared with another copy.', (repair) => repair.compared],
  ['differences_total', 'Windows that differed from another copy.', (repair) => repair.differing],
  ['healed_total', 'Windows that something was brought to.', (repair) => repair.healed],
  ['samples_total', 'Samples brought.', (repair) => repair.samples],
  ['fetched_bytes_total', 'Bytes fetched from other copies.', (repair) => repair.bytes],
  ['running', '1: the shard is being repaired or filled.', (repair) => (repair.running ? 1 : 0)],
  ['failed', '1: the last round could not take everything.', (repair) => (repair.lastError === '' ? 0 : 1)],
  ['fill_windows', 'While a new copy is filled: its windows.', (repair) => repair.fillWindows],
  ['filled_windows', 'Those of them that are done.', (repair) => repair.filledWindows],
];

/** One row per number of a caller: names that end in `_total` only grow. */
const CALLER_ROWS: readonly Row<Tally>[] = [
  ['requests_total', 'Write requests that came.', (tally) => tally.requestCount],
  ['bytes_total', 'Columns of the write requests that came.', (tally) => tally.byteCount],
  ['samples_total', 'Samples that came, whatever became of them.', (tally) => tally.sampleCount],
  ['new_series_total', 'Series that the caller was the first to write.', (tally) => tally.newSeriesCount],
  ['turned_away_total', 'Write requests for which there was no room.', (tally) => tally.turnedAwayCount],
  ['in_flight_bytes', 'Columns of its requests not yet answered.', (tally) => tally.inFlightBytes],
  ['in_flight_requests', 'Its requests not yet answered.', (tally) => tally.inFlightCount],
  ['streams', 'Write streams that it has open.', (tally) => tally.streamCount],
  ['paused_streams', 'Those that are not read for now: it sends more than is taken.', (tally) => tally.pausedCount],
  ['paused_seconds_total', 'How long they were not read.', (tally) => tally.pausedMs / 1_000],
];

/** One row per number of a listener's connections. */
const CONNECTION_ROWS: readonly Row<Connections>[] = [
  ['connections', 'Connections that are open.', (connections) => connections.count],
  ['max_connections', 'Connections that may be.', (connections) => connections.maxCount],
  ['refused_connections_total', 'Connections closed at once: too many were open.', ({ refusedCount }) => refusedCount],
];

/** Metrics that are named as those of new series which found no room. */
const MAX_REFUSED_METRICS = 16;

interface Watched {
  readonly node: Node;
  readonly inFlight: InFlight;
  readonly callers: Callers;
  /** By listener. */
  readonly connections?: Readonly<Record<string, Connections>>;
  readonly disk?: WatchedDisk;
  readonly replication?: Pick<Replication, 'lags' | 'peers' | 'pace'>;
  readonly repair?: Pick<Repair, 'status'>;
}

export class Metrics implements WriteObserver {
  readonly registry = new Registry();
  readonly #requestMs: Histogram;
  readonly #samples = new Map<string, number>();

  constructor({ node, inFlight, callers, connections = {}, disk, replication, repair }: Watched) {
    const registers = [this.registry];
    const samples = this.#samples;
    collectDefaultMetrics({ register: this.registry });
    this.#requestMs = new Histogram({
      name: 'silverback_node_write_request_duration_seconds',
      help: 'Time from a write request to its reply.',
      buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
      registers,
    });
    new Counter({
      name: 'silverback_node_write_samples_total',
      help: 'Samples of shard batches by the outcome of the batch.',
      labelNames: ['code'],
      registers,
      collect() {
        this.reset();
        for (const [code, count] of samples) this.inc({ code }, count);
      },
    });
    gauge('silverback_node_write_in_flight_bytes', 'Columns of requests not yet answered.', () => inFlight.bytes);
    gauge('silverback_node_write_in_flight_requests', 'Write requests not yet answered.', () => inFlight.count);
    gauge('silverback_node_memory_budget_bytes', 'What the node may hold.', () => node.budget.limitBytes);
    gauge('silverback_node_memory_used_bytes', 'What it holds of that.', () => node.budget.usedBytes);
    gauge(
      'silverback_node_memory_fixed_bytes',
      'What it holds of that and cannot move to disk: series and open windows.',
      () => node.budget.fixedBytes,
    );
    gauge(
      'silverback_node_memory_series_limit_bytes',
      'New series are refused while more than this is fixed.',
      () => node.budget.seriesBytes,
    );
    gauge('silverback_node_ready', '1: all shards are open.', () => (node.ready ? 1 : 0));
    new Counter({
      name: 'silverback_node_refused_versions_total',
      help: 'Streams and calls of those who have no version in common with the node.',
      registers,
      collect() {
        this.reset();
        this.inc(node.refused.count);
      },
    });
    this.#watch('silverback_node_', VERSION_ROWS, ['format'], () =>
      Object.entries(node.spoken).map(([format, versions]) => [{ format }, versions]),
    );
    this.#watch('silverback_node_', CONNECTION_ROWS, ['listener'], () =>
      Object.entries(connections).map(([listener, one]) => [{ listener }, one]),
    );
    this.#watchShards(node);
    this.#watchCallers(callers);
    if (disk !== undefined) this.#watchDisk(disk);
    this.#watchRefusedMetrics(node);
    if (replication !== undefined) this.#watchReplication(replication);
    if (repair !== undefined) this.#watchRepair(repair);

    function gauge(name: string, help: string, value: () => number): void {
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(value());
        },
      });
    }
  }

  batch(sampleCount: number, { code }: ShardOutcome): void {
    this.#samples.set(code, (this.#samples.get(code) ?? 0) + sampleCount);
  }

  request(durationMs: number): void {
    this.#requestMs.observe(durationMs / 1_000);
  }

  #watchReplication(replication: Pick<Replication, 'lags' | 'peers' | 'pace'>): void {
    this.#watch('silverback_replication_', PACE_ROWS, [], () => [[{}, replication.pace]]);
    this.#watch('silverback_replication_', LAG_ROWS, ['shard', 'region', 'node'], () =>
      replication.lags().map((lag) => [{ shard: lag.shard, region: lag.region, node: lag.node }, lag]),
    );
    this.#watch('silverback_replication_', PEER_ROWS, ['region', 'node'], () =>
      replication.peers().map((peer) => [{ region: peer.region, node: peer.node }, peer]),
    );
  }

  #watchRepair(repair: Pick<Repair, 'status'>): void {
    this.#watch('silverback_repair_', REPAIR_ROWS, ['shard'], () =>
      repair.status().map((one) => [{ shard: one.shard }, one]),
    );
  }

  #watchCallers(callers: Callers): void {
    this.#watch('silverback_node_caller_', CALLER_ROWS, ['caller'], () =>
      Array.from(callers.all(), (tally) => [{ caller: tally.caller }, tally]),
    );
    new Counter({
      name: 'silverback_node_caller_refused_samples_total',
      help: 'Samples that were refused, by caller and reason.',
      labelNames: ['caller', 'code'],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const { caller, refused } of callers.all()) {
          for (const [code, count] of refused) this.inc({ caller, code }, count);
        }
      },
    });
  }

  #watchDisk(disk: WatchedDisk): void {
    const registers = [this.registry];
    const buckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
    const [writes, syncs] = ['write', 'sync'].map((what) => {
      const help = `What a${what === 'sync' ? 'n f' : ' '}${what} of one of the node's files takes, waiting for others included.`;
      return new Histogram({ name: `silverback_node_disk_${what}_seconds`, help, buckets, registers });
    }) as [Histogram, Histogram];
    disk.observer = {
      wrote: (durationMs) => writes.observe(durationMs / 1_000),
      synced: (durationMs) => syncs.observe(durationMs / 1_000),
    };
    new Gauge({
      name: 'silverback_node_disk_oldest_seconds',
      help: 'How long the oldest write or fsync under way has taken so far: a disk that hangs shows here first.',
      registers,
      collect() {
        this.set(disk.oldestMs / 1_000);
      },
    });
  }

  #watchRefusedMetrics(node: Node): void {
    new Gauge({
      name: 'silverback_node_refused_new_series',
      help: 'Definitions of new series that found no room, by metric: those that had most, each an upper bound.',
      labelNames: ['metric'],
      registers: [this.registry],
      collect() {
        this.reset();
        const counts = new Map<string, number>();
        for (const { stats } of node.serving()) {
          for (const { name, count } of stats.refusedMetrics) counts.set(name, (counts.get(name) ?? 0) + count);
        }
        const most = [...counts].sort(([, a], [, b]) => b - a).slice(0, MAX_REFUSED_METRICS);
        for (const [metric, count] of most) this.set({ metric }, count);
      },
    });
  }

  #watchShards(node: Node): void {
    this.#watch('silverback_shard_', SHARD_ROWS, ['shard'], () =>
      Array.from(node.serving(), ({ id, stats }) => [{ shard: id }, stats]),
    );
  }

  /** A metric for each row, over what there is when they are asked for: a counter if its name ends in `_total`, else a gauge. */
  #watch<T>(
    prefix: string,
    rows: readonly Row<T>[],
    labelNames: readonly string[],
    all: () => readonly (readonly [labels: Record<string, string | number>, of: T])[],
  ): void {
    for (const [suffix, help, of] of rows) {
      const about = { name: prefix + suffix, help, labelNames: [...labelNames], registers: [this.registry] };
      if (suffix.endsWith('_total')) {
        new Counter({
          ...about,
          collect() {
            this.reset();
            for (const [labels, one] of all()) this.inc(labels, of(one));
          },
        });
      } else {
        new Gauge({
          ...about,
          collect() {
            this.reset();
            for (const [labels, one] of all()) this.set(labels, of(one));
          },
        });
      }
    }
  }
}
