/** What a query is answered with: the shapes of the Prometheus HTTP API. */

/** Label names and values of a series; `__name__` is the metric. */
export type Metric = Readonly<Record<string, string>>;

/** Seconds since 1970, and the value as Prometheus writes it. */
export type Point = readonly [seconds: number, value: string];

export interface MatrixEntry {
  readonly metric: Metric;
  readonly values: readonly Point[];
}

export interface VectorEntry {
  readonly metric: Metric;
  readonly value: Point;
}

export type Result =
  | { readonly resultType: 'matrix'; readonly result: readonly MatrixEntry[] }
  | { readonly resultType: 'vector'; readonly result: readonly VectorEntry[] }
  | { readonly resultType: 'scalar'; readonly result: Point }
  | { readonly resultType: 'string'; readonly result: Point };

export type CoverageState = 'complete' | 'unconfirmed' | 'missing';

/** What is known to be in an answer: the worst state, and which shards (`0,2-5`) and seconds (inclusive) are in which. */
export interface Coverage {
  readonly state: CoverageState;
  readonly ranges: readonly {
    readonly shards: string;
    readonly start: number;
    readonly end: number;
    readonly state: CoverageState;
    readonly reason?: string;
  }[];
}

export interface Answer {
  readonly result: Result;
  readonly warnings: readonly string[];
  readonly infos: readonly string[];
  /** Undefined when the server did not say. */
  readonly coverage: Coverage | undefined;
  /** From asking until the answer was parsed. */
  readonly tookMs: number;
}
