/** An API with canned answers behind the page, so that every answer the page can get is at hand. */
import { resolve } from 'node:path';
import { type FastifyInstance, fastify } from 'fastify';
import { registerPage } from '../../coordinator/web/page.ts';

/** Where the build puts the page. */
export const BUILT = resolve(import.meta.dirname, '../../dist/coordinator/web');

type Json = Record<string, unknown>;
type Metric = Record<string, string>;

/** What was asked: path, and parameters of the address or the form. */
export interface Asked {
  readonly path: string;
  readonly parameters: URLSearchParams;
}

export interface Canned {
  readonly url: string;
  /** All API calls but `/-/ready` and `up`, oldest first. */
  readonly asked: Asked[];
  metrics: string[];
  /** Undefined: ready. */
  unready: string | undefined;
  /** Nodes that self-monitoring knows, and how many are up. */
  nodes: { all: number; up: number };
  /** Held back until this resolves. */
  until: Promise<void>;
  close(): Promise<void>;
}

const COMPLETE = { state: 'complete', ranges: [] };

/** A wave that differs by series; `index` and `seconds` decide it, so that a refresh changes nothing. */
function wave(index: number, seconds: number): number {
  return 50 + 40 * Math.sin(seconds / 600 + index) + index;
}

function matrix(metrics: readonly Metric[], parameters: URLSearchParams): unknown[] {
  const [start, end, step] = ['start', 'end', 'step'].map((name) => Number(parameters.get(name))) as [
    number,
    number,
    number,
  ];
  return metrics.map((metric, index) => {
    const values: [number, string][] = [];
    for (let t = start; t <= end + 1e-6; t += step) values.push([t, String(wave(index, t))]);
    return { metric, values };
  });
}

function vector(metrics: readonly Metric[], parameters: URLSearchParams): unknown[] {
  const time = Number(parameters.get('time'));
  return metrics.map((metric, index) => ({ metric, value: [time, String(index === 2 ? Number.NaN : wave(index, 0))] }));
}

/** Answers of the two query endpoints by query; what is not here finds no series. */
const ANSWERS: Readonly<
  Record<string, (range: boolean, parameters: URLSearchParams) => Json | { status: number; body: Json }>
> = {
  cpu_seconds_total: (range, parameters) => data(range, parameters, cores(4)),
  one: (range, parameters) => data(range, parameters, [{ __name__: 'one', job: 'node', instance: 'a:9100' }]),
  many: (range, parameters) => data(range, parameters, cores(1000)),
  hostile: (range, parameters) =>
    data(range, parameters, [
      { __name__: 'hostile', text: '<img src=x onerror=document.title="owned">' },
      { __name__: 'hostile', text: '"quoted" \\ and \n more' },
    ]),
  gaps: (_, parameters) => {
    const start = Number(parameters.get('start'));
    const step = Number(parameters.get('step'));
    const values = [1, 2, 3, 10, 20, 21, 22].map((i) => [
      start + i * step,
      i === 21 ? 'NaN' : i === 22 ? '+Inf' : String(i),
    ]);
    return { data: { resultType: 'matrix', result: [{ metric: { __name__: 'gaps' }, values }], coverage: COMPLETE } };
  },
  'scalar(1)': (_, parameters) => ({
    data: { resultType: 'scalar', result: [Number(parameters.get('time')), '1'], coverage: COMPLETE },
  }),
  'cpu_seconds_total[1m]': (_, parameters) => {
    const time = Number(parameters.get('time'));
    const values = [3, 2, 1].map((age) => [time - age * 15, String(age)]);
    return {
      data: {
        resultType: 'matrix',
        result: [{ metric: { __name__: 'cpu_seconds_total' }, values }],
        coverage: COMPLETE,
      },
    };
  },
  partial: (range, parameters) => ({
    ...data(range, parameters, cores(2), {
      state: 'missing',
      ranges: [
        { shards: '0-2,5', start: 1_790_000_000, end: 1_790_003_600, state: 'complete' },
        { shards: '3-4', start: 1_790_000_000, end: 1_790_003_600, state: 'missing', reason: 'node-2 does not answer' },
      ],
    }),
    warnings: ['the answer is not complete: shards 3-4 missing', 'this may not be a counter'],
    infos: ['metric might not be a counter, name does not end in _total: "partial"'],
  }),
  'broken(': () => ({
    status: 400,
    body: {
      status: 'error',
      errorType: 'bad_data',
      error: 'invalid parameter "query": 1:8: parse error: unclosed left parenthesis',
    },
  }),
};

function cores(count: number): Metric[] {
  return Array.from({ length: count }, (_, i) => ({
    __name__: 'cpu_seconds_total',
    cpu: String(i),
    instance: 'host-a:9100',
    job: 'node',
  }));
}

function data(
  range: boolean,
  parameters: URLSearchParams,
  metrics: readonly Metric[],
  coverage: Json = COMPLETE,
): Json {
  return range
    ? { data: { resultType: 'matrix', result: matrix(metrics, parameters), coverage } }
    : { data: { resultType: 'vector', result: vector(metrics, parameters), coverage } };
}

/** Starts it on a free port. The page must have been built: `npm test` does that first. */
export async function startCanned(): Promise<Canned> {
  const app: FastifyInstance = fastify({ forceCloseConnections: true });
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) =>
    done(null, body),
  );
  registerPage(app, BUILT);
  const canned: Omit<Canned, 'url'> = {
    asked: [],
    metrics: ['cpu_seconds_total', 'disk_free_bytes', 'disk_size_bytes', 'http_requests_total', 'up'],
    unready: undefined,
    nodes: { all: 2, up: 2 },
    until: Promise.resolve(),
    close: () => app.close(),
  };
  app.get('/-/ready', async (_request, reply) => {
    const why = canned.unready;
    return reply.code(why === undefined ? 200 : 503).send(`${why ?? 'Silverback is ready.'}\n`);
  });
  app.route({
    method: ['GET', 'POST'],
    url: '/api/v1/*',
    handler: async (request, reply) => {
      const { pathname, search } = new URL(request.url, 'http://localhost');
      const parameters = new URLSearchParams(typeof request.body === 'string' ? request.body : search);
      const query = parameters.get('query') ?? '';
      if (query.startsWith('up{job="node"}')) {
        const result = Array.from({ length: canned.nodes.all }, (_, i) => ({
          metric: { __name__: 'up', instance: `node-${i + 1}` },
          value: [0, i < canned.nodes.up ? '1' : '0'],
        }));
        return { status: 'success', data: { resultType: 'vector', result, coverage: COMPLETE } };
      }
      canned.asked.push({ path: pathname, parameters });
      if (pathname === '/api/v1/label/__name__/values') return { status: 'success', data: canned.metrics };
      if (pathname === '/api/v1/labels') return { status: 'success', data: ['__name__', 'cpu', 'instance', 'job'] };
      if (pathname === '/api/v1/label/cpu/values') return { status: 'success', data: ['0', '1', '10', 'a"b'] };
      await canned.until;
      const answer =
        ANSWERS[query]?.(pathname.endsWith('_range'), parameters) ?? data(pathname.endsWith('_range'), parameters, []);
      if ('status' in answer) return reply.code(answer['status'] as number).send(answer['body']);
      return { status: 'success', ...answer };
    },
  });
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  return Object.assign(canned, { url });
}
