/**
 * The closed set of coded errors. Every failure that can be expected carries one of these codes;
 * anything else that is thrown is a bug. A code says whether the same call may succeed later
 * (`retryable`), and which HTTP status and gRPC status stand for it at the edges.
 */

/** One row per code. gRPC numbers are those of grpc/grpc `doc/statuscodes.md`. */
const CODES = {
  /** The request breaks a rule that no retry can mend. */
  INVALID_ARGUMENT: { retryable: false, http: 400, grpc: 3 },
  /** Labels break a rule (order, duplicates, length, UTF-8). */
  INVALID_LABELS: { retryable: false, http: 400, grpc: 3 },
  /** The sample is older than the accepted age. */
  TOO_OLD: { retryable: false, http: 400, grpc: 3 },
  /** The sample lies further ahead than the accepted clock difference. */
  TOO_FAR_AHEAD: { retryable: false, http: 400, grpc: 3 },
  /** The shard holds as many series as it may. Old series leave, so a later try can succeed. */
  SERIES_LIMIT: { retryable: true, http: 429, grpc: 8 },
  /** A message, batch or answer is larger than its limit. */
  TOO_LARGE: { retryable: false, http: 413, grpc: 3 },
  /** A reference was used that this node does not know: send its labels again. */
  UNKNOWN_REF: { retryable: true, http: 503, grpc: 9 },
  /** The shard is not served here: refresh the placement. */
  NOT_OWNER: { retryable: true, http: 503, grpc: 9 },
  /** A queue or the memory budget is full: try again after the delay. */
  RESOURCE_EXHAUSTED: { retryable: true, http: 429, grpc: 8 },
  /** The peer cannot be reached, or is starting or stopping. */
  UNAVAILABLE: { retryable: true, http: 503, grpc: 14 },
  /** Stored at least once, but not confirmed to the asked level in time. */
  UNCONFIRMED: { retryable: true, http: 503, grpc: 4 },
  /** The shard's disk failed: it refuses writes until the node restarts. */
  DISK_FAILED: { retryable: true, http: 503, grpc: 14 },
  /** The asked thing does not exist. */
  NOT_FOUND: { retryable: false, http: 404, grpc: 5 },
  /** A compare-and-put or a lease lost against somebody else. */
  CONFLICT: { retryable: true, http: 409, grpc: 10 },
  /** The asked revision of the meta store is no longer kept: read again from the present. */
  COMPACTED: { retryable: false, http: 503, grpc: 11 },
  /** The query ran longer than it may. */
  TIMEOUT: { retryable: true, http: 503, grpc: 4 },
  /** The caller went away. */
  CANCELLED: { retryable: false, http: 499, grpc: 1 },
  /** Stored bytes do not match their checksum or their format. */
  CORRUPT: { retryable: false, http: 500, grpc: 15 },
  /** The data was written by a version this program does not read. */
  VERSION: { retryable: false, http: 500, grpc: 9 },
  /** A broken invariant. */
  INTERNAL: { retryable: false, http: 500, grpc: 13 },
} as const satisfies Record<string, { retryable: boolean; http: number; grpc: number }>;

export type ErrorCode = keyof typeof CODES;

/** Codes that a write or a read does not end with: on the wire they would be bugs. */
const LOCAL_CODES = ['NOT_FOUND', 'CONFLICT', 'COMPACTED', 'TIMEOUT', 'CANCELLED', 'CORRUPT', 'VERSION'] as const;

/** The codes that travel in the replies of a node. */
export type WireErrorCode = Exclude<ErrorCode, (typeof LOCAL_CODES)[number]>;

/** What a code is called there. */
export function wireCode(code: ErrorCode): WireErrorCode {
  return (LOCAL_CODES as readonly ErrorCode[]).includes(code) ? 'INTERNAL' : (code as WireErrorCode);
}

export class SilverbackError extends Error {
  override readonly name = 'SilverbackError';
  readonly code: ErrorCode;
  /** How long to wait before the next try, where the thrower knows. */
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; retryAfterMs?: number } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryAfterMs = options.retryAfterMs;
  }

  get retryable(): boolean {
    return CODES[this.code].retryable;
  }

  get httpStatus(): number {
    return CODES[this.code].http;
  }

  get grpcStatus(): number {
    return CODES[this.code].grpc;
  }
}

export function isRetryable(code: ErrorCode): boolean {
  return CODES[code].retryable;
}

/** Whether a word from outside is one of the codes. */
export function isErrorCode(word: string): word is ErrorCode {
  return Object.hasOwn(CODES, word);
}

/** What a caught value says, whatever it is. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
