/**
 * The PromQL engine's door: text or tree in, columns out. It sees data only through a `Queryable`.
 */
import type { Env } from '../../core/env/env.ts';
import type { Coverage, Queryable } from '../query/queryable.ts';
import type { Expr } from './ast.ts';
import { QueryError } from './error.ts';
import type { Value } from './value.ts';

export interface EngineOptions {
  /** How far back an instant selector looks for a sample: `(t - lookback, t]`. Default 5 minutes. */
  readonly lookbackMs?: number;
  /** Samples a query may hold in memory at once. Default 50 million. */
  readonly maxSamples?: number;
  /** Default 2 minutes. */
  readonly timeoutMs?: number;
  /** Points a range query may return per series. Default 11,000. */
  readonly maxPoints?: number;
  /** Step of a subquery that names none. Default 1 minute. */
  readonly subqueryStepMs?: number;
  /** Allows the functions, aggregations and duration arithmetic that Prometheus calls experimental. */
  readonly experimental?: boolean;
}

/** Steps of a range query, both ends inclusive, or the one moment of an instant query. Whole milliseconds. */
export type QueryTime =
  | { readonly startMs: number; readonly endMs: number; readonly stepMs: number }
  | { readonly timeMs: number };

export interface QueryOptions {
  readonly signal?: AbortSignal;
  /** Override the engine's, for this query. */
  readonly lookbackMs?: number;
  readonly timeoutMs?: number;
  /** Also count samples for each step (`stats=all`). */
  readonly perStepStats?: boolean;
}

export interface QueryStats {
  /** Samples that were looked at, as Prometheus counts them: a window's samples count at every step. */
  readonly totalQueryableSamples: number;
  /** The most samples held at once. */
  readonly peakSamples: number;
  /** With `perStepStats`: samples of each step. */
  readonly samplesPerStep?: Float64Array;
  readonly seriesCount: number;
  /** Durations, milliseconds. */
  readonly parseMs: number;
  readonly selectMs: number;
  readonly evalMs: number;
  readonly totalMs: number;
}

export interface QueryResult {
  readonly value: Value;
  /** Texts as in the API's `warnings` and `infos`, storage warnings among them. */
  readonly warnings: readonly string[];
  readonly infos: readonly string[];
  readonly coverage: readonly Coverage[];
  readonly stats: QueryStats;
}

export class Engine {
  readonly #env: Pick<Env, 'clock' | 'timers'>;
  readonly #options: Required<EngineOptions>;

  constructor(env: Pick<Env, 'clock' | 'timers'>, options: EngineOptions = {}) {
    this.#env = env;
    this.#options = {
      lookbackMs: 300_000,
      maxSamples: 50_000_000,
      timeoutMs: 120_000,
      maxPoints: 11_000,
      subqueryStepMs: 60_000,
      experimental: false,
      ...options,
    };
  }

  /** Evaluates `query` over `time`. Rejects with a `QueryError`, or with the SilverbackError of the Queryable. */
  async query(
    _queryable: Queryable,
    _query: string | Expr,
    _time: QueryTime,
    _options: QueryOptions = {},
  ): Promise<QueryResult> {
    throw new QueryError(
      'execution',
      `the engine is being built ${this.#env.clock.nowMs()} ${this.#options.maxPoints}`,
    );
  }
}
