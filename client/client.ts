/**
 * The SDK: samples in, answers out, for a program that is not part of the cluster.
 *
 *     const client = new Client({ endpoints: ['127.0.0.1:9091'] });
 *     await client.write([{ labels: { __name__: 'temperature', room: 'kitchen' }, timestampMs: Date.now(), value: 21.5 }]);
 *     client.logCounter({ __name__: 'http_requests_total', route: '/login' }, 1);
 *     client.logLatency({ __name__: 'http_request_duration_seconds', route: '/login' }, 12.3);
 *     await client.close();
 */

import type { Env } from '../core/env/env.ts';
import type { ChannelCredentials } from '../core/grpc.ts';
import type { AckLevel } from '../core/protocol.ts';

/** Labels by name; `__name__` is the metric's name. Order does not matter, empty values are dropped. */
export type LabelSet = Readonly<Record<string, string>>;

/**
 * What a metric call counts under: a label set, or a metric name with the labels behind it.
 * `'http_requests_total'` and `['http_requests_total', { route: '/login' }]` are the short forms of
 * `{ __name__: 'http_requests_total', ... }`.
 */
export type Scopes = LabelSet | string | readonly [name: string, labels: LabelSet];

export interface Sample {
  readonly labels: LabelSet;
  /** Whole milliseconds since 1970. */
  readonly timestampMs: number;
  readonly value: number;
}

/** A series the client knows; makes `append` cheap. Valid for the client that gave it. */
export interface SeriesHandle {
  readonly labels: LabelSet;
}

export interface Dropped {
  readonly sampleCount: number;
  /** `buffer full`, `expired`, or the code the cluster gave. */
  readonly reason: string;
  readonly message: string;
}

export interface ClientOptions {
  /** host:port of coordinators' gRPC listeners; one that answers is enough. */
  readonly endpoints: readonly string[];
  /** Who writes, for the cluster's logs and metrics. Default: `sdk`. */
  readonly caller?: string;
  readonly region?: string;
  /** Default `LOCAL`. */
  readonly ack?: AckLevel;
  readonly credentials?: ChannelCredentials;
  /** Samples in a batch, over all shards, at which it goes out at once. Default 20,000. */
  readonly batchSamples?: number;
  /** The longest a sample waits for its batch to fill. Default 200 ms. */
  readonly batchAgeMs?: number;
  /** Samples held, sent or not, until they are acknowledged; more are dropped and reported. Default 2,000,000. */
  readonly bufferSamples?: number;
  /** How long a batch is retried before it is dropped and reported. Default 60 s. */
  readonly retryMs?: number;
  /** How often counters, latencies and gauges are written. Default 5 s. */
  readonly flushMs?: number;
  /** Upper bounds of the latency buckets, seconds, ascending, without +Inf. */
  readonly latencyBuckets?: readonly number[];
  /** Told of each loss. Default: a warning on stderr, at most one in 10 s. */
  readonly onDrop?: (dropped: Dropped) => void;
  /** The outside world. Default: the real one. */
  readonly env?: Env;
}
