/**
 * The messages of Prometheus's remote read (proto/prometheus.proto): requests are read, series and frames written. Samples
 * are not written here: a message of its own for each would make an object per sample.
 */
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';
import { uncompressSync } from 'snappy';
import { SilverbackError } from '../../core/errors.ts';
import type { Labels } from '../../core/labels.ts';
import { compileMatcher, type Matcher, type MatchOp } from '../../core/matchers.ts';
import type { SelectRequest } from '../query/queryable.ts';

export type ResponseType = 'SAMPLES' | 'STREAMED_XOR_CHUNKS';

export interface ReadRequest {
  readonly queries: readonly SelectRequest[];
  readonly type: ResponseType;
}

/** One chunk of a series in a frame. Views: they are copied when the frame is made. */
export interface WireChunk {
  readonly minTimeMs: number;
  readonly maxTimeMs: number;
  readonly type: typeof XOR;
  readonly data: Uint8Array;
}

/** `Chunk.Encoding` of the bytes that `XorEncoder` writes. */
export const XOR = 1;

// The sources lie in coordinator/remote/, the compiled program in dist/coordinator/remote/; the proto lies in proto/ for both.
const root = new protobuf.Root();
root.resolvePath = (_origin, target) => fileURLToPath(new URL(`../../proto/${target}`, import.meta.url));
root.loadSync('prometheus.proto');
const readRequest = root.lookupType('prometheus.ReadRequest');
const timeSeries = root.lookupType('prometheus.TimeSeries');
const chunkedReadResponse = root.lookupType('prometheus.ChunkedReadResponse');

/** As the wire has them: what proto3 calls an open enum may hold any number. */
interface RawRequest {
  readonly queries: readonly {
    readonly startTimestampMs: number;
    readonly endTimestampMs: number;
    readonly matchers: readonly { readonly type: number; readonly name: string; readonly value: string }[];
  }[];
  readonly acceptedResponseTypes: readonly number[];
}

const OPS: readonly MatchOp[] = ['=', '!=', '=~', '!~'];
const TYPES: readonly ResponseType[] = ['SAMPLES', 'STREAMED_XOR_CHUNKS'];

/** Reads a body. Throws INVALID_ARGUMENT, and TOO_LARGE for one of more than `maxRawBytes` once decompressed. */
export function readReadRequest(body: Uint8Array, maxRawBytes: number): ReadRequest {
  const declaredBytes = declaredLength(body);
  if (declaredBytes > maxRawBytes) {
    throw new SilverbackError(
      'TOO_LARGE',
      `remote read body declares ${declaredBytes} bytes once decompressed, at most ${maxRawBytes} are allowed`,
    );
  }
  const { queries, acceptedResponseTypes } = decoded(uncompressed(body));
  const type =
    acceptedResponseTypes.length === 0 ? 'SAMPLES' : TYPES[acceptedResponseTypes.find((n) => n in TYPES) ?? -1];
  if (type === undefined) {
    throw invalid(
      `none of the accepted response types ${acceptedResponseTypes.join(', ')} is known here: 0 (SAMPLES) and 1 (STREAMED_XOR_CHUNKS) are`,
    );
  }
  return {
    type,
    queries: queries.map(({ startTimestampMs, endTimestampMs, matchers }) => ({
      fromMs: startTimestampMs,
      toMs: endTimestampMs,
      matchers: matchers.map(matcherOf),
    })),
  };
}

function matcherOf({ type, name, value }: RawRequest['queries'][number]['matchers'][number]): Matcher {
  const op = OPS[type];
  if (op === undefined) {
    throw invalid(
      `matcher type ${type} of label ${JSON.stringify(name)} is unknown: there are 0 (EQ), 1 (NEQ), 2 (RE) and 3 (NRE)`,
    );
  }
  const matcher = { name, op, value };
  // A bad expression is the asker's fault, and is told so before any node is asked.
  compileMatcher(matcher);
  return matcher;
}

/** What a snappy block says of its length; 0 when it does not. */
function declaredLength(body: Uint8Array): number {
  let length = 0;
  for (let i = 0; i < 5; i++) {
    const byte = body[i] ?? 0;
    length += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80) break;
  }
  return length;
}

function uncompressed(body: Uint8Array): Uint8Array {
  try {
    return uncompressSync(Buffer.from(body.buffer, body.byteOffset, body.length)) as Buffer;
  } catch (cause) {
    throw invalid(`the body is not snappy: ${(cause as Error).message}`, cause);
  }
}

function decoded(raw: Uint8Array): RawRequest {
  try {
    return readRequest.toObject(readRequest.decode(raw), { longs: Number, defaults: true }) as RawRequest;
  } catch (cause) {
    throw invalid(`the body is not a ReadRequest: ${(cause as Error).message}`, cause);
  }
}

/** The labels of a TimeSeries; its samples may follow. */
export function seriesHead(labels: Labels): Uint8Array {
  return timeSeries.encode({ labels: pairs(labels) }).finish();
}

/** A ChunkedReadResponse with chunks of one series. */
export function chunkedResponse(queryIndex: number, labels: Labels, chunks: readonly WireChunk[]): Uint8Array {
  return chunkedReadResponse.encode({ chunkedSeries: [{ labels: pairs(labels), chunks }], queryIndex }).finish();
}

function pairs(labels: Labels): { readonly name: string; readonly value: string }[] {
  const out: { readonly name: string; readonly value: string }[] = [];
  for (let i = 0; i < labels.length; i += 2) out.push({ name: labels[i] as string, value: labels[i + 1] as string });
  return out;
}

function invalid(why: string, cause?: unknown): SilverbackError {
  return new SilverbackError('INVALID_ARGUMENT', `remote read: ${why}`, { cause });
}
