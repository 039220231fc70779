/**
 * Remote write 1.0 and 2.0 over HTTP, told apart by the content type. It goes around the router, straight from node:http: the body's chunks are
 * collected as they come and copied once, into the kernel.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { SilverbackError } from '../../core/errors.ts';
import { bodyTooLarge, type WriteVersion } from '../../core/kernel/ingest.ts';
import type { Receipt } from '../ingest/receipt.ts';
import type { Receiver } from '../ingest/receiver.ts';
import type { Admission } from '../ingest/senders.ts';
import { retryAfter } from './answer.ts';

export const WRITE_PATH = '/api/v1/write';

export type WriteHandler = (request: IncomingMessage, response: ServerResponse) => void;

export interface WriteOptions {
  readonly receiver: Pick<Receiver, 'admit' | 'receive' | 'maxBodyBytes'>;
  /** Told the status of each answer. */
  readonly count: (status: number) => void;
  /** Told of what is not a sender's fault. */
  readonly warn: (error: unknown) => void;
}

export function writeHandler({ receiver, count, warn }: WriteOptions): WriteHandler {
  return (request, response) => {
    const answer = (status: number, message: string, retryAfterMs?: number, close = false): void => {
      count(status);
      if (response.destroyed || response.headersSent) return;
      if (retryAfterMs !== undefined) response.setHeader('retry-after', retryAfter(retryAfterMs));
      if (close) response.setHeader('connection', 'close');
      response.statusCode = status;
      if (message === '') {
        response.end();
        return;
      }
      const body = Buffer.from(`${message}\n`);
      response.setHeader('content-type', 'text/plain; charset=utf-8');
      response.setHeader('content-length', body.length);
      response.end(body);
    };
    const fail = (error: unknown, close = false): void => {
      if (error instanceof SilverbackError) {
        answer(error.httpStatus, error.message, error.retryable ? (error.retryAfterMs ?? 1000) : undefined, close);
        return;
      }
      warn(error);
      answer(500, 'internal error', undefined, close);
    };
    const version = versionOf(request);
    if (typeof version === 'object') {
      const refusal = version;
      // The body is not read: the connection can carry no other request.
      if (refusal.status === 405) response.setHeader('allow', 'POST');
      answer(refusal.status, refusal.message, undefined, true);
      return;
    }
    const chunks: Buffer[] = [];
    let length = 0;
    let admission: Admission | undefined;
    let over = false;
    const admit = (bytes: number): void => {
      if (bytes > receiver.maxBodyBytes) throw bodyTooLarge(bytes, receiver.maxBodyBytes);
      if (admission === undefined) admission = receiver.admit(senderOf(request), bytes);
      else admission.grow(bytes);
    };
    const finish = (): void => {
      over = true;
      admission?.release();
    };
    const turnAway = (error: unknown): void => {
      finish();
      chunks.length = 0;
      fail(error, true);
      request.resume();
    };
    try {
      admit(Number(request.headers['content-length'] ?? 0));
    } catch (error) {
      turnAway(error);
      return;
    }
    request.on('data', (chunk: Buffer) => {
      if (over) return;
      chunks.push(chunk);
      length += chunk.length;
      try {
        admit(length);
      } catch (error) {
        turnAway(error);
      }
    });
    request.on('close', () => {
      if (!over && !request.complete) finish();
    });
    request.on('end', () => {
      if (over) return;
      over = true;
      receiver
        .receive(chunks, version)
        .then((receipt) => {
          if (version === 2) written(response, receipt);
          admission?.answered(receipt.writtenSampleCount, receipt.refusedSampleCount);
          answer(receipt.status, receipt.message, receipt.retryAfterMs);
        })
        .catch(fail)
        .finally(finish);
    });
  };
}

/** Who sent it: what it calls itself, and from where. */
function senderOf({ headers, socket }: IncomingMessage): string {
  return `${headers['user-agent'] ?? 'unknown'} at ${socket.remoteAddress ?? 'unknown'}`;
}

/** What 2.0 wants to be told with every answer that follows the storing. */
function written(response: ServerResponse, { writtenSampleCount, writtenExemplarCount }: Receipt): void {
  response.setHeader('x-prometheus-remote-write-samples-written', String(writtenSampleCount));
  response.setHeader('x-prometheus-remote-write-histograms-written', '0');
  response.setHeader('x-prometheus-remote-write-exemplars-written', String(writtenExemplarCount));
}

const V1 = 'prometheus.WriteRequest';
const V2 = 'io.prometheus.write.v2.Request';

interface Refusal {
  readonly status: number;
  readonly message: string;
}

function versionOf({ method, headers }: IncomingMessage): WriteVersion | Refusal {
  if (method !== 'POST') return { status: 405, message: `remote write wants POST, not ${method}` };
  const type = headers['content-type'] ?? 'application/x-protobuf';
  const [media = '', ...parameters] = type.split(';').map((part) => part.trim());
  const proto = parameters.find((part) => part.startsWith('proto='))?.slice('proto='.length) ?? V1;
  if (media.toLowerCase() !== 'application/x-protobuf' || (proto !== V1 && proto !== V2)) {
    const wanted = `application/x-protobuf with proto=${V1} or proto=${V2}`;
    return { status: 415, message: `remote write wants content type ${wanted}, not ${type}` };
  }
  const encoding = headers['content-encoding'] ?? 'snappy';
  if (encoding !== 'snappy') {
    return { status: 415, message: `remote write wants content encoding snappy, not ${encoding}` };
  }
  return proto === V2 ? 2 : 1;
}
