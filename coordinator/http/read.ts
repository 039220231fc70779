/**
 * Prometheus's remote read: a snappy-compressed ReadRequest in, the samples of its selectors out, in one of the two forms
 * of coordinator/remote/. Errors are plain text, which Prometheus shows.
 */

import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Env, Timer } from '../../core/env/env.ts';
import { messageOf } from '../../core/errors.ts';
import { Budget } from '../promql/budget.ts';
import type { SeriesSet } from '../query/queryable.ts';
import { chunkFrames } from '../remote/chunks.ts';
import { type ResponseType, readReadRequest } from '../remote/messages.ts';
import { sampleResponse } from '../remote/samples.ts';
import { failure, refuseGaps } from './answer.ts';
import { type Api, contextOf } from './api.ts';
import { Ledger } from './coverage.ts';
import { Gate } from './gate.ts';
import type { Params } from './params.ts';

/** Fewer than queries: each holds what it selected until its reader has taken it. */
const RUNNING_MOST = 4;
const WAITING_MOST = 200;
const MAX_BODY_BYTES = 1 << 20;
const MAX_RAW_BYTES = 4 << 20;

const HEADERS: Readonly<Record<ResponseType, Readonly<Record<string, string>>>> = {
  SAMPLES: { 'content-type': 'application/x-protobuf', 'content-encoding': 'snappy' },
  STREAMED_XOR_CHUNKS: { 'content-type': 'application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse' },
};

interface ReadCall {
  readonly body: Uint8Array;
  readonly params: Params;
  /** Aborted when the reader goes away. */
  readonly signal: AbortSignal;
}

interface ReadAnswer {
  readonly headers: Readonly<Record<string, string>>;
  readonly pieces: Iterable<Buffer> | AsyncIterable<Buffer>;
}

export class RemoteRead {
  readonly gate = new Gate(RUNNING_MOST, WAITING_MOST);
  readonly #api: Api;
  readonly #maxSamples: number;

  /** `maxSamples`: those that an answer of samples may have. */
  constructor(api: Api, maxSamples: number) {
    this.#api = api;
    this.#maxSamples = maxSamples;
  }

  /** Answers a call through `send`, whose promise says that the answer is over. Rejects when there is none. */
  async answer(call: ReadCall, send: (answer: ReadAnswer) => Promise<void>): Promise<void> {
    const { env, queryable, timeoutMs } = this.#api.options;
    const context = contextOf(this.#api, call);
    const request = readReadRequest(call.body, MAX_RAW_BYTES);
    await this.gate.run(call.signal, async () => {
      const deadlineMs = env.clock.monotonicMs() + timeoutMs;
      const budget = new Budget(env, { signal: call.signal, deadlineMs, maxSamples: Number.POSITIVE_INFINITY });
      const sets: SeriesSet[] = [];
      for (const query of request.queries) sets.push(await queryable.select(query, context));
      const ledger = new Ledger(sets.flatMap(({ coverage }) => coverage));
      refuseGaps(ledger, call.params.text('partial') === 'deny');
      const pieces =
        request.type === 'SAMPLES' ? await sampleResponse(sets, budget, this.#maxSamples) : chunkFrames(sets, budget);
      const sent = send({ headers: { ...HEADERS[request.type], 'x-silverback-coverage': ledger.header() }, pieces });
      // A reader that takes nothing must not keep its turn.
      let timer: Timer | undefined;
      const late = new Promise<void>((resolve) => {
        timer = env.timers.after(Math.max(0, deadlineMs - env.clock.monotonicMs()), resolve);
      });
      try {
        await Promise.race([sent, late]);
      } finally {
        timer?.cancel();
      }
    });
  }
}

export interface ReadRoute {
  readonly url: string;
  readonly reads: RemoteRead;
  readonly paramsOf: (request: FastifyRequest) => Params;
  readonly signalOf: (reply: FastifyReply) => AbortSignal;
  /** Told the status of each answer, and how long it took. */
  readonly count: (status: number, durationMs: number) => void;
  readonly clock: Env['clock'];
}

export function addRead(app: FastifyInstance, { url, reads, paramsOf, signalOf, count, clock }: ReadRoute): void {
  // In a scope of its own: here, and here only, any body is bytes.
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
    const fail = async (reply: FastifyReply, status: number, words: string): Promise<void> => {
      await reply.code(status).type('text/plain; charset=utf-8').send(`${words}\n`);
    };
    scope.setErrorHandler(async (error: Error & { statusCode?: number }, _request, reply) => {
      const status = error.statusCode ?? 500;
      count(status, 0);
      const words = `remote read body is larger than ${MAX_BODY_BYTES} bytes, the most that is taken`;
      await fail(reply, status, status === 413 ? words : error.message);
    });
    scope.route({
      method: 'POST',
      url,
      bodyLimit: MAX_BODY_BYTES,
      // Both forms are compressed in themselves.
      compress: false,
      handler: async (request, reply) => {
        const startedMs = clock.monotonicMs();
        const call = {
          body: Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0),
          params: paramsOf(request),
          signal: signalOf(reply),
        };
        try {
          await reads.answer(call, async ({ headers, pieces }) => {
            const closed = new Promise((resolve) => reply.raw.once('close', resolve));
            await reply.headers(headers).send(Readable.from(pieces, { objectMode: false }));
            await closed;
          });
          // Still under way: it ran out of time.
          if (!reply.raw.writableFinished) reply.raw.destroy();
          count(200, clock.monotonicMs() - startedMs);
        } catch (error) {
          const { status, headers } = failure(error);
          count(status, clock.monotonicMs() - startedMs);
          reply.headers(headers);
          await fail(reply, status, messageOf(error));
        }
        return reply;
      },
    });
  });
}
