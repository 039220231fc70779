/** Queries as a program asks them, and the answers as it gets them: those of Prometheus's HTTP API, over gRPC. */
import { type ErrorCode, SilverbackError } from '../core/errors.ts';
import type { Channel } from '../core/grpc.ts';
import { clusterService, type QueryReply, type QueryRequest } from '../core/protocol.ts';
import type { LabelSet } from './series.ts';

export interface QueryOptions {
  /** Default 2 minutes. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Answer from copies in this region only. Default: the nearest that answer. */
  readonly region?: string;
}

/** [Unix seconds, value as text]: as Prometheus's HTTP API gives samples. */
export type Point = readonly [timeSeconds: number, value: string];

/** How much of what was asked for the answer is known to cover; times are Unix seconds. */
export interface QueryCoverage {
  readonly state: 'complete' | 'unconfirmed' | 'missing';
  readonly ranges: readonly {
    /** As `0-7,9`. */
    readonly shards: string;
    readonly start: number;
    readonly end: number;
    readonly state: 'complete' | 'unconfirmed' | 'missing';
    readonly reason?: string;
    /** Whose samples these are: `region/node`. */
    readonly copies?: readonly string[];
  }[];
}

/** The `data` of Prometheus's HTTP API, and what the cluster had to say about it. */
export type QueryResult = { readonly warnings: readonly string[]; readonly coverage?: QueryCoverage } & (
  | { readonly resultType: 'vector'; readonly result: readonly { readonly metric: LabelSet; readonly value: Point }[] }
  | {
      readonly resultType: 'matrix';
      readonly result: readonly { readonly metric: LabelSet; readonly values: readonly Point[] }[];
    }
  | { readonly resultType: 'scalar' | 'string'; readonly result: Point }
);

/** As /api/v1/query and /api/v1/query_range answer. */
type ReplyBody =
  | ({ readonly status: 'success'; readonly warnings?: readonly string[] } & { readonly data: QueryResult })
  | { readonly status: 'error'; readonly errorType: string; readonly error: string };

const CODE_OF_ERROR_TYPE: Readonly<Record<string, ErrorCode>> = {
  bad_data: 'INVALID_ARGUMENT',
  execution: 'INVALID_ARGUMENT',
  canceled: 'CANCELLED',
  timeout: 'TIMEOUT',
  unavailable: 'UNAVAILABLE',
  not_found: 'NOT_FOUND',
};

/** Asks one coordinator after the other until one answers. Rejects with the query's own error, or UNAVAILABLE when none did. */
export async function ask(
  coordinators: Iterable<Channel>,
  asked: Omit<QueryRequest, 'region'>,
  options: QueryOptions,
): Promise<QueryResult> {
  const { timeoutMs = 120_000, region = '' } = options;
  const request = { ...asked, region };
  let failure = new SilverbackError('UNAVAILABLE', 'there are no endpoints to ask');
  for (const channel of coordinators) {
    try {
      const reply = await channel.unary(clusterService.Query, request, {
        timeoutMs,
        ...(options.signal !== undefined && { signal: options.signal }),
      });
      return parseReply(reply);
    } catch (error) {
      if (!(error instanceof SilverbackError) || error.code !== 'UNAVAILABLE') throw error;
      failure = error;
    }
  }
  throw failure;
}

function parseReply(reply: QueryReply): QueryResult {
  const body = JSON.parse(Buffer.from(reply.body).toString('utf8')) as ReplyBody;
  if (body.status === 'success') return { ...body.data, warnings: body.warnings ?? [] };
  throw new SilverbackError(CODE_OF_ERROR_TYPE[body.errorType] ?? 'INTERNAL', body.error);
}
