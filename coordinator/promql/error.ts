/** What a query can fail with: the four kinds that Prometheus's HTTP API tells apart. */
import type { ErrorCode } from '../../core/errors.ts';
import { SilverbackError } from '../../core/errors.ts';

/** `errorType` of the HTTP API. */
export type QueryErrorType = 'bad_data' | 'execution' | 'timeout' | 'canceled';

const KINDS: Record<QueryErrorType, { code: ErrorCode; httpStatus: number }> = {
  bad_data: { code: 'INVALID_ARGUMENT', httpStatus: 400 },
  execution: { code: 'INVALID_ARGUMENT', httpStatus: 422 },
  timeout: { code: 'TIMEOUT', httpStatus: 503 },
  canceled: { code: 'CANCELLED', httpStatus: 499 },
};

/**
 * A query that cannot be answered. `bad_data`: it does not parse or type-check, or its range is refused;
 * `execution`: it failed while it ran; `timeout` and `canceled` say so themselves.
 */
export class QueryError extends SilverbackError {
  readonly type: QueryErrorType;

  constructor(type: QueryErrorType, message: string, options: { cause?: unknown } = {}) {
    super(KINDS[type].code, message, options);
    this.type = type;
  }

  override get httpStatus(): number {
    return KINDS[this.type].httpStatus;
  }
}
