/** Silverback's SDK. */

export type { ErrorCode } from '../core/errors.ts';
export { SilverbackError } from '../core/errors.ts';
export type { AckLevel } from '../core/protocol.ts';
export type { ClientOptions, ClientStats, Dropped, Sample } from './client.ts';
export { Client } from './client.ts';
export type { Scopes } from './metrics.ts';
export type { Point, QueryCoverage, QueryOptions, QueryResult } from './query.ts';
export type { LabelSet, Series } from './series.ts';
