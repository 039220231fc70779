/** The envelope of the Prometheus HTTP API: an answer in pieces of bytes, or an error of one of its types. */
import { type ErrorCode, SilverbackError } from '../../core/errors.ts';
import { QueryError } from '../promql/error.ts';
import type { Coverage } from '../query/queryable.ts';
import { Ledger } from './coverage.ts';

export interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The body. Read once. */
  readonly pieces: Iterable<Buffer>;
}

const JSON_TYPE = 'application/json';

/** `errorType` and status by code; what is not here is `internal`, 500. */
const TYPES: Partial<Record<ErrorCode, readonly [type: string, status: number]>> = {
  INVALID_ARGUMENT: ['bad_data', 400],
  INVALID_LABELS: ['bad_data', 400],
  TOO_LARGE: ['execution', 422],
  NOT_FOUND: ['not_found', 404],
  CONFLICT: ['bad_data', 409],
  TIMEOUT: ['timeout', 503],
  CANCELLED: ['canceled', 499],
  RESOURCE_EXHAUSTED: ['unavailable', 503],
  UNAVAILABLE: ['unavailable', 503],
  NOT_OWNER: ['unavailable', 503],
  UNCONFIRMED: ['unavailable', 503],
  DISK_FAILED: ['unavailable', 503],
};

export function failure(error: unknown): Answer {
  const coded =
    error instanceof SilverbackError ? error : new SilverbackError('INTERNAL', String(error), { cause: error });
  const [type, status] =
    coded instanceof QueryError ? [coded.type, coded.httpStatus] : (TYPES[coded.code] ?? ['internal', 500]);
  return {
    status,
    contentType: JSON_TYPE,
    headers: coded.retryAfterMs === undefined ? {} : { 'retry-after': retryAfter(coded.retryAfterMs) },
    pieces: [Buffer.from(JSON.stringify({ status: 'error', errorType: type, error: coded.message }))],
  };
}

/** The value of a Retry-After header: whole seconds, at least one. */
export function retryAfter(delayMs: number): string {
  return String(Math.max(1, Math.ceil(delayMs / 1000)));
}

/** What an endpoint found. */
export interface Found {
  /** JSON, in pieces; `extra` are complete members to splice into its object, if it is one. */
  readonly data: (extra: readonly string[]) => Iterable<Buffer>;
  /** True: coverage goes into `data`. False (`data` is no object): beside it. */
  readonly dataIsObject: boolean;
  readonly coverage: readonly Coverage[];
  readonly warnings?: readonly string[];
  readonly infos?: readonly string[];
}

/** What an answer lacks, in words. Throws UNAVAILABLE when that is everything, or anything at all and `denyPartial`. */
export function refuseGaps(ledger: Ledger, denyPartial: boolean): string[] {
  const gaps = ledger.warnings();
  if (gaps.length > 0 && (denyPartial || ledger.isEmpty)) {
    throw new SilverbackError('UNAVAILABLE', gaps.join('; '), { retryAfterMs: 1000 });
  }
  return gaps;
}

/** Throws UNAVAILABLE as `refuseGaps` does. */
export function success(found: Found, denyPartial: boolean): Answer {
  const ledger = new Ledger(found.coverage);
  const gaps = refuseGaps(ledger, denyPartial);
  return {
    status: 200,
    contentType: JSON_TYPE,
    headers: found.coverage.length === 0 ? {} : { 'x-silverback-coverage': ledger.header() },
    pieces: envelope(found, found.coverage.length === 0 ? undefined : `"coverage":${ledger.json()}`, gaps),
  };
}

function* envelope(found: Found, coverage: string | undefined, gaps: readonly string[]): Generator<Buffer> {
  const inside = coverage !== undefined && found.dataIsObject ? [coverage] : [];
  yield Buffer.from('{"status":"success","data":');
  yield* found.data(inside);
  const warnings = [...(found.warnings ?? []), ...gaps];
  let tail = '';
  if (coverage !== undefined && !found.dataIsObject) tail += `,${coverage}`;
  if (warnings.length > 0) tail += `,"warnings":${JSON.stringify(warnings)}`;
  if (found.infos !== undefined && found.infos.length > 0) tail += `,"infos":${JSON.stringify(found.infos)}`;
  yield Buffer.from(`${tail}}`);
}

/** Data that is small, or a list of texts. */
export function plainData(data: unknown): Pick<Found, 'data' | 'dataIsObject' | 'coverage'> {
  return { data: () => [Buffer.from(JSON.stringify(data))], dataIsObject: false, coverage: [] };
}
