/**
 * The coordinator's HTTP face: the Prometheus API, remote write and read, federation, health, metrics and the page. In and out only:
 * what an endpoint does stands in api.ts.
 */
import { createServer, type IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import fastifyCompress from '@fastify/compress';
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify';
import type { Connections } from '../../core/connections.ts';
import type { Env } from '../../core/env/env.ts';
import { compileMatcher } from '../../core/matchers.ts';
import { ADMIN_ROWS, type AdminOptions, type AdminRow, administer } from './admin.ts';
import { type Answer, failure } from './answer.ts';
import { API_ROWS, type Api, type ApiRow } from './api.ts';
import { federate } from './federate.ts';
import type { Metrics } from './metrics.ts';
import { Params } from './params.ts';
import { addRead, RemoteRead } from './read.ts';
import { WRITE_PATH, type WriteHandler } from './write.ts';

export interface HttpOptions {
  readonly env: Env;
  readonly api: Api;
  readonly write: WriteHandler;
  readonly metrics: Metrics;
  /** Undefined: ready. Else why not, in words. */
  readonly unready: () => Promise<string | undefined>;
  /** Undefined: the admin API is switched off. */
  readonly admin?: AdminOptions | undefined;
  /** Adds the web page. */
  readonly page: (app: FastifyInstance) => void;
  /** Longest form of a POST. Default 10 MiB, as Go has it. */
  readonly maxFormBytes?: number;
  /** Samples that a remote read's answer of samples may have. Default 10 million. */
  readonly maxReadSamples?: number;
  /** Origins whose pages may use the API: a regular expression that has to match as a whole. Default all. */
  readonly corsOrigin?: string;
  /** Counts and bounds the connections. Default: any number. */
  readonly connections?: Connections;
}

const API = '/api/v1';

/** Answers smaller than this go uncompressed: they fit into one packet. */
const COMPRESS_LEAST_BYTES = 1400;
/** Answers up to this size are compressed at once, larger ones in libuv's threads. */
const COMPRESS_NOW_BYTES = 8192;
/** The reader of an answer of samples holds them all at once. */
const MAX_READ_SAMPLES = 10_000_000;
/** Answers up to this size are sent in one piece, with their length. */
const WHOLE_MOST_BYTES = 1 << 20;
/** How long answers may be written without giving way. */
const SLICE_MS = 1;
/** Agents keep their connections between scrapes and flushes; closing one under them costs them a retry. */
const KEEP_ALIVE_MS = 600_000;

/** As Prometheus sends them with every answer of the API to whoever names an origin. */
const CORS = {
  'access-control-allow-headers': 'Accept, Authorization, Content-Type, Origin',
  'access-control-allow-methods': 'GET, POST, OPTIONS',
  'access-control-expose-headers': 'Date',
  vary: 'Origin',
} as const;

/** The value of Access-Control-Allow-Origin for an origin; undefined: it is not allowed. */
function originRule(pattern: string): (origin: string) => string | undefined {
  if (pattern === '.*') return () => '*';
  const { test } = compileMatcher({ name: 'origin', op: '=~', value: pattern });
  return (origin) => (test(origin) ? origin : undefined);
}

export interface HttpServer {
  /** Requests so far, but for those that only ask how the process is. */
  readonly requestCount: number;
  /** Resolves with the port; 0 takes a free one. Rejects when it cannot be had. */
  listen(host: string, port: number): Promise<number>;
  /** Takes no more connections; answers what is under way. */
  close(): Promise<void>;
}

export function createHttpServer(options: HttpOptions): HttpServer {
  const { api, env, metrics, write } = options;
  const maxFormBytes = options.maxFormBytes ?? 10 << 20;
  let requestCount = 0;
  const reads = new RemoteRead(api, options.maxReadSamples ?? MAX_READ_SAMPLES);
  const app = fastify({
    logger: false,
    bodyLimit: maxFormBytes,
    routerOptions: { maxParamLength: 4096 },
    forceCloseConnections: 'idle',
    serverFactory: (handler) => {
      const server = createServer(
        { keepAlive: true, noDelay: true, keepAliveTimeout: KEEP_ALIVE_MS },
        (request, response) => {
          if (request.url?.startsWith('/-/') !== true) requestCount++;
          if (isWrite(request)) write(request, response);
          else handler(request, response);
        },
      );
      options.connections?.bound(server);
      return server;
    },
  });
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) =>
    done(null, body),
  );
  const allowed = originRule(options.corsOrigin ?? '.*');
  app.addHook('onRequest', (request, reply, done) => {
    const { origin } = request.headers;
    if (origin !== undefined && request.url.startsWith(`${API}/`)) {
      reply.headers(CORS);
      const allow = allowed(origin);
      if (allow !== undefined) reply.header('access-control-allow-origin', allow);
    }
    done();
  });
  app.setErrorHandler(async (error: Error & { statusCode?: number }, request, reply) => {
    const status = error.statusCode ?? 500;
    metrics.request('refused', status);
    const words =
      status === 413 ? `the form is larger than ${maxFormBytes} bytes, the most that is taken` : error.message;
    await send(request, reply, { ...failure(error), status, pieces: [envelopeOf(status, words)] }, env);
  });
  app.setNotFoundHandler(async (_request, reply) => {
    metrics.request('unknown', 404);
    await reply.code(404).type('text/plain; charset=utf-8').send('404 page not found\n');
  });

  // gzip first: at its lowest level it costs the least. There is zstd where Node has it.
  app.register(fastifyCompress, {
    threshold: COMPRESS_LEAST_BYTES,
    syncThreshold: COMPRESS_NOW_BYTES,
    encodings: ['gzip', 'zstd', 'br', 'deflate', 'identity'],
    zlibOptions: { level: 1 },
    globalDecompression: false,
  });
  // The plugin sees the routes that are added after it has loaded.
  app.register(async (scope) => {
    addRoutes(scope);
  });

  metrics.watchGates(api.gate, reads.gate);
  return {
    get requestCount() {
      return requestCount;
    },
    async listen(host, port) {
      await app.listen({ host, port });
      const address = app.server.address();
      return address !== null && typeof address === 'object' ? address.port : port;
    },
    close: () => app.close(),
  };

  function addRoutes(scope: FastifyInstance): void {
    for (const row of API_ROWS) addRow(scope, options, row);
    for (const row of ADMIN_ROWS) addAdminRow(scope, row);
    addRead(scope, {
      url: `${API}/read`,
      reads,
      paramsOf,
      signalOf: goneSignal,
      count: (status, durationMs) => metrics.request('/read', status, durationMs),
      clock: env.clock,
    });
    scope.options(`${API}/*`, async (_request, reply) => reply.code(204).send());

    const text = async (reply: FastifyReply, status: number, words: string): Promise<void> => {
      await reply.code(status).type('text/plain; charset=utf-8').send(words);
    };
    scope.get('/-/healthy', async (_request, reply) => text(reply, 200, 'Silverback is healthy.\n'));
    scope.get('/-/ready', async (_request, reply) => {
      const why = await options.unready();
      await text(reply, why === undefined ? 200 : 503, why === undefined ? 'Silverback is ready.\n' : `${why}\n`);
    });
    scope.get('/federate', async (request, reply) => {
      const startedMs = env.clock.monotonicMs();
      const answer = await federate(api, paramsOf(request), goneSignal(reply));
      metrics.request('/federate', answer.status, env.clock.monotonicMs() - startedMs);
      await send(request, reply, answer, env);
      return reply;
    });
    scope.get('/metrics', async (_request, reply) => {
      await reply.type(metrics.registry.contentType).send(await metrics.registry.metrics());
    });
    options.page(scope);
  }

  function addAdminRow(server: FastifyInstance, row: AdminRow): void {
    server.route({
      method: ['POST', 'PUT'],
      url: `${API}${row.path}`,
      handler: async (request, reply) => {
        const startedMs = env.clock.monotonicMs();
        const answer = await administer(row, options.admin, paramsOf(request), goneSignal(reply));
        metrics.request(row.path, answer.status, env.clock.monotonicMs() - startedMs);
        if (answer.status === 204) return reply.code(204).send();
        await send(request, reply, answer, env);
        return reply;
      },
    });
  }

  function addRow(server: FastifyInstance, { api: rows }: HttpOptions, row: ApiRow): void {
    server.route({
      method: row.onlyPost === true ? ['POST'] : row.post ? ['GET', 'POST'] : ['GET'],
      url: `${API}${row.path}`,
      handler: async (request, reply) => {
        const startedMs = env.clock.monotonicMs();
        const answer = await rows.answer(row, {
          params: paramsOf(request),
          name: (request.params as { name?: string }).name ?? '',
          signal: goneSignal(reply),
        });
        metrics.request(row.path, answer.status, env.clock.monotonicMs() - startedMs);
        await send(request, reply, answer, env);
        return reply;
      },
    });
  }
}

/** Aborted when the client goes away before it has its answer. */
function goneSignal(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) gone.abort();
  });
  return gone.signal;
}

function isWrite({ url = '' }: IncomingMessage): boolean {
  return url.startsWith(WRITE_PATH) && (url.length === WRITE_PATH.length || url[WRITE_PATH.length] === '?');
}

function paramsOf(request: FastifyRequest): Params {
  const { url } = request;
  const mark = url.indexOf('?');
  return new Params(mark < 0 ? '' : url.slice(mark + 1), typeof request.body === 'string' ? request.body : '');
}

function envelopeOf(status: number, error: string): Buffer {
  return Buffer.from(JSON.stringify({ status: 'error', errorType: status < 500 ? 'bad_data' : 'internal', error }));
}

/** Sends an answer: small ones in one piece, large ones as they are made. */
async function send(
  request: FastifyRequest,
  reply: FastifyReply,
  answer: Answer,
  { clock, timers }: Pick<Env, 'clock' | 'timers'>,
): Promise<void> {
  reply.code(answer.status).headers(answer.headers).type(answer.contentType);
  reply.header('vary', request.headers.origin === undefined ? 'accept-encoding' : 'Origin, accept-encoding');
  const pieces = answer.pieces[Symbol.iterator]();
  const first: Buffer[] = [];
  let bytes = 0;
  let ended = false;
  let sliceEndMs = clock.monotonicMs() + SLICE_MS;
  while (!ended && bytes <= WHOLE_MOST_BYTES) {
    const { value, done } = pieces.next();
    if (done === true) ended = true;
    else {
      first.push(value);
      bytes += value.length;
    }
    // Writing a piece takes about a millisecond.
    if (ended || clock.monotonicMs() < sliceEndMs) continue;
    await timers.yield();
    sliceEndMs = clock.monotonicMs() + SLICE_MS;
  }
  if (ended) await reply.send(first.length === 1 ? (first[0] as Buffer) : Buffer.concat(first, bytes));
  else await reply.send(Readable.from(chain(first, pieces), { objectMode: false }));
}

function* chain(first: readonly Buffer[], rest: Iterator<Buffer>): Generator<Buffer> {
  yield* first;
  for (let next = rest.next(); next.done !== true; next = rest.next()) yield next.value;
}
