import { request } from 'node:http';
import { brotliDecompressSync, gunzipSync, inflateSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Fixture, serve, stored } from './fixture.ts';

const DECODE: Readonly<Record<string, (body: Buffer) => Buffer>> = {
  identity: (body) => body,
  gzip: (body) => gunzipSync(body),
  deflate: (body) => inflateSync(body),
  br: (body) => brotliDecompressSync(body),
};

let server: Fixture;

beforeEach(async () => {
  server = await serve();
  server.store.series_ = [
    stored({ __name__: 'up', job: 'a', instance: '1' }, [
      [1_000_000, 1],
      [1_015_000, 2],
      [1_030_000, 3],
    ]),
    stored({ __name__: 'up', job: 'b', instance: '2' }, [
      [1_000_000, 10],
      [1_015_000, 20],
    ]),
    stored({ __name__: 'weird.name', läbel: 'ü' }, [[1_000_000, 1]]),
  ];
});
afterEach(() => server.close());

async function get(path: string, init: RequestInit = {}) {
  const response = await fetch(`${server.url}${path}`, init);
  const text = await response.text();
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  return { status: response.status, headers: response.headers, text, json };
}

const form = (fields: Record<string, string> | [string, string][]): RequestInit => ({
  method: 'POST',
  body: new URLSearchParams(fields),
});

describe('query', () => {
  it('answers an instant query with coverage in data and in a header', async () => {
    const { status, json, headers } = await get('/api/v1/query?query=up&time=1015');
    expect(status).toBe(200);
    expect(headers.get('content-type')).toBe('application/json');
    expect(headers.get('x-silverback-coverage')).toBe('complete');
    expect(json).toEqual({
      status: 'success',
      data: {
        resultType: 'vector',
        result: [
          { metric: { __name__: 'up', job: 'a', instance: '1' }, value: [1015, '2'] },
          { metric: { __name__: 'up', job: 'b', instance: '2' }, value: [1015, '20'] },
        ],
        coverage: { state: 'complete', ranges: [{ shards: '0', start: 0, end: 0.001, state: 'complete' }] },
      },
    });
  });

  it('takes a form, whose fields come before the URL', async () => {
    const { json } = await get(
      '/api/v1/query?query=bad(',
      form({ query: 'sum(up)', time: '1970-01-01T00:16:55.000Z' }),
    );
    expect(json).toMatchObject({ data: { result: [{ metric: {}, value: [1015, '22'] }] } });
  });

  it('answers a range query, by GET and by POST', async () => {
    const result = [
      {
        metric: { __name__: 'up', job: 'a', instance: '1' },
        values: [
          [1000, '1'],
          [1015, '2'],
          [1030, '3'],
        ],
      },
    ];
    const query = encodeURIComponent('up{job="a"}');
    const got = await get(`/api/v1/query_range?query=${query}&start=1000&end=1030&step=15s`);
    expect(got.json).toMatchObject({ status: 'success', data: { resultType: 'matrix', result } });
    const posted = await get(
      '/api/v1/query_range',
      form({ query: 'up{job="a"}', start: '1000', end: '1030', step: '15' }),
    );
    expect(posted.json).toEqual(got.json);
  });

  it.each([
    ['/api/v1/query', /^invalid parameter "query": .*no expression found in input/],
    ['/api/v1/query?query=up&time=x', /^invalid parameter "time": cannot parse "x" to a valid timestamp$/],
    ['/api/v1/query?query=up&time=2024-02-30T00:00:00Z', /^invalid parameter "time"/],
    ['/api/v1/query?query=up(', /^invalid parameter "query": 1:\d+: parse error/],
    ['/api/v1/query?query=up&timeout=x', /^invalid parameter "timeout": cannot parse "x" to a valid duration$/],
    ['/api/v1/query?query=up&limit=-1', /^invalid parameter "limit": limit must be non-negative$/],
    ['/api/v1/query_range?query=up&end=1&step=1', /^invalid parameter "start": cannot parse "" to a valid timestamp$/],
    [
      '/api/v1/query_range?query=up&start=2&end=1&step=1',
      /^invalid parameter "end": end timestamp must not be before start time$/,
    ],
    ['/api/v1/query_range?query=up&start=1&end=2', /^invalid parameter "step": cannot parse "" to a valid duration$/],
    [
      '/api/v1/query_range?query=up&start=1&end=2&step=0',
      /^invalid parameter "step": zero or negative query resolution step/,
    ],
    [
      '/api/v1/query_range?query=up&start=0&end=11001&step=1',
      /^exceeded maximum resolution of 11,000 points per timeseries/,
    ],
    [
      '/api/v1/query_range?query=up[5m]&start=0&end=1&step=1',
      /^invalid parameter "query": invalid expression type "range vector"/,
    ],
    ['/api/v1/series', /^no match\[\] parameter provided$/],
    ['/api/v1/series?match[]=up(', /^invalid parameter "match\[\]": /],
    ['/api/v1/labels?start=2&end=1', /^invalid parameter "end": end timestamp must not be before start time$/],
    ['/api/v1/format_query?query=(', /^invalid parameter "query": /],
    ['/api/v1/parse_query?query=(', /^invalid parameter "query": /],
  ])('refuses %s as bad_data', async (path, message) => {
    const { status, json } = await get(path);
    expect(json).toMatchObject({ status: 'error', errorType: 'bad_data' });
    expect((json as { error: string }).error).toMatch(message);
    expect(status).toBe(400);
  });

  it('answers 422 for a query that fails while it runs', async () => {
    server.store.series_.push(stored({ __name__: 'up', job: 'a', instance: '1', x: 'y' }, [[1_000_000, 1]]));
    const query = encodeURIComponent('up * on (job) up');
    const { status, json } = await get(`/api/v1/query?query=${query}&time=1000`);
    expect(json).toMatchObject({ status: 'error', errorType: 'execution' });
    expect(status).toBe(422);
  });

  it('gives stats when asked', async () => {
    const plain = await get('/api/v1/query_range?query=up&start=1000&end=1030&step=15&stats=1');
    expect(plain.json).toMatchObject({ data: { stats: { samples: { totalQueryableSamples: 6 } } } });
    const all = await get('/api/v1/query_range?query=up&start=1000&end=1030&step=15&stats=all');
    expect(all.json).toMatchObject({
      data: {
        stats: {
          samples: {
            totalQueryableSamplesPerStep: [
              [1000, 2],
              [1015, 2],
              [1030, 2],
            ],
          },
        },
      },
    });
  });

  it('limits series and says so', async () => {
    const { json } = await get('/api/v1/query?query=up&time=1015&limit=1');
    expect(json).toMatchObject({
      data: { result: [{ metric: { job: 'a' } }] },
      warnings: ['results truncated due to limit'],
    });
  });

  it('uses the asked lookback', async () => {
    const { json } = await get('/api/v1/query?query=up&time=1040&lookback_delta=15s');
    expect((json as { data: { result: unknown[] } }).data.result).toHaveLength(1);
  });
});

describe('what an answer covers', () => {
  const missing = { shard: 3, fromMs: 0, toMs: 60_000, state: 'missing', reason: 'node-2: not reachable' } as const;

  it('warns of a gap', async () => {
    server.store.coverage.push(missing, { ...missing, shard: 4 });
    const { status, json, headers } = await get('/api/v1/query?query=up&time=1015');
    expect(status).toBe(200);
    expect(headers.get('x-silverback-coverage')).toBe('missing; shards=3-4');
    expect(json).toMatchObject({
      status: 'success',
      data: {
        coverage: {
          state: 'missing',
          ranges: [
            { shards: '0' },
            { shards: '3-4', start: 0, end: 60, state: 'missing', reason: 'node-2: not reachable' },
          ],
        },
      },
      warnings: [
        'the answer is not complete: shards 3-4 from 1970-01-01T00:00:00.000Z to 1970-01-01T00:01:00.000Z missing: node-2: not reachable',
      ],
    });
  });

  it.each(['/api/v1/query?query=up&time=1015', '/api/v1/labels?', '/api/v1/series?match[]=up'])(
    'turns a gap into 503 with partial=deny: %s',
    async (path) => {
      server.store.coverage.push(missing);
      expect((await get(path)).status).toBe(200);
      const { status, json } = await get(`${path}&partial=deny`);
      expect(status).toBe(503);
      expect(json).toMatchObject({ status: 'error', errorType: 'unavailable' });
      server.store.coverage.pop();
      expect((await get(`${path}&partial=deny`)).status).toBe(200);
    },
  );

  it('reads one region when asked to, and says whose copies it read', async () => {
    const { store, url } = server;
    store.coverage = [3, 4, 5].map((shard) => ({
      ...{ shard, fromMs: 0, toMs: 1000, state: 'complete' as const },
      copy: `west/west-${shard % 2}`,
    }));
    const paths = [
      'query?query=up',
      'query_range?query=up&start=0&end=1&step=1',
      'series?match[]=up',
      'labels?',
      'label/job/values?',
    ];
    for (const path of paths) {
      expect((await fetch(`${url}/api/v1/${path}&region=west`)).status).toBe(200);
      expect((await fetch(`${url}/api/v1/${path}`)).status).toBe(200);
      expect(store.askedRegions.splice(0)).toEqual(['west', undefined]);
      const refused = await fetch(`${url}/api/v1/${path}&region=mars`);
      expect(refused.status).toBe(400);
      expect(await refused.json()).toMatchObject({
        errorType: 'bad_data',
        error: 'invalid parameter "region": there is no region "mars", there are east, west',
      });
    }
    expect(store.askedRegions).toEqual([]);
    const answer = await fetch(`${url}/api/v1/query?query=up&region=west`);
    expect(answer.headers.get('x-silverback-coverage')).toBe('complete');
    expect(await answer.json()).toMatchObject({
      data: { coverage: { ranges: [{ shards: '3-5', copies: ['west/west-0', 'west/west-1'] }] } },
    });
  });

  it('answers 503 when nothing at all is known', async () => {
    server.store.coverage = [missing];
    expect((await get('/api/v1/query?query=up')).status).toBe(503);
  });
});

describe('labels and series', () => {
  it('lists names, values and series, with matchers, times and limits', async () => {
    expect((await get('/api/v1/labels')).json).toMatchObject({
      status: 'success',
      data: ['__name__', 'instance', 'job', 'läbel'],
    });
    expect(
      (
        await get(
          '/api/v1/labels',
          form([
            ['match[]', 'up'],
            ['match[]', '{job="b"}'],
          ]),
        )
      ).json,
    ).toMatchObject({
      data: ['__name__', 'instance', 'job'],
    });
    expect((await get('/api/v1/label/job/values')).json).toMatchObject({ data: ['a', 'b'] });
    expect((await get('/api/v1/label/job/values?limit=1')).json).toMatchObject({
      data: ['a'],
      warnings: ['results truncated due to limit'],
    });
    expect(
      (await get('/api/v1/series?match[]=up{job="b"}&start=10&end=1970-01-01T01:01:00%2B01:00')).json,
    ).toMatchObject({
      data: [{ __name__: 'up', job: 'b', instance: '2' }],
      coverage: { state: 'complete' },
    });
    expect(server.store.asked.at(-1)).toEqual([10_000, 60_000]);
  });

  it('takes UTF-8 label names, in the path as they are and escaped', async () => {
    expect((await get(`/api/v1/label/${encodeURIComponent('läbel')}/values`)).json).toMatchObject({ data: ['ü'] });
    expect((await get('/api/v1/label/U__l_e4_bel/values')).json).toMatchObject({ data: ['ü'] });
  });
});

describe('the server', () => {
  it('formats a query and says what it is', async () => {
    expect((await get('/api/v1/format_query?query=sum(up)by(job)')).json).toEqual({
      status: 'success',
      data: 'sum by (job) (up)',
    });
    expect((await get('/api/v1/status/buildinfo')).json).toMatchObject({ data: { application: 'silverback' } });
  });

  it('gives the tree of a query', async () => {
    const tree = async (query: string) => {
      const { json } = await get('/api/v1/parse_query', form({ query }));
      return (json as { data: unknown }).data;
    };
    const up = { name: '__name__', value: 'up', type: '=' };
    const plain = { offset: 0, timestamp: null, startOrEnd: null, anchored: false, smoothed: false };
    expect(await tree('sum by (job) (rate(up{a!~"b"}[5m] offset 1m @ end()))')).toEqual({
      type: 'aggregation',
      op: 'sum',
      grouping: ['job'],
      without: false,
      param: null,
      expr: {
        type: 'call',
        func: { name: 'rate', argTypes: ['matrix'], variadic: 0, returnType: 'vector' },
        args: [
          {
            ...plain,
            type: 'matrixSelector',
            name: 'up',
            range: 300_000,
            offset: 60_000,
            matchers: [{ name: 'a', value: 'b', type: '!~' }, up],
            startOrEnd: 'end',
          },
        ],
      },
    });
    expect(await tree('up > bool on (job) group_left (x) (up @ 1.5)')).toMatchObject({
      type: 'binaryExpr',
      op: '>',
      bool: true,
      matching: { card: 'many-to-one', labels: ['job'], on: true, include: ['x'] },
      lhs: { ...plain, type: 'vectorSelector', name: 'up', matchers: [up] },
      rhs: { type: 'parenExpr', expr: { timestamp: 1500 } },
    });
    expect(await tree('topk(2, -(up))')).toMatchObject({
      param: { type: 'numberLiteral', val: '2' },
      expr: { type: 'unaryExpr', op: '-', expr: { type: 'parenExpr' } },
    });
    expect(await tree('max_over_time(up[1h:30s])')).toMatchObject({
      args: [{ type: 'subquery', range: 3_600_000, step: 30_000, offset: 0, expr: { type: 'vectorSelector' } }],
    });
    expect(await tree('up[5m + step()]')).toMatchObject({
      range: 0,
      rangeExpr: { type: 'durationExpr', op: '+', lhs: { val: '300' }, rhs: { op: 'step' }, wrapped: false },
    });
    expect(await tree('1 + Inf')).toMatchObject({ matching: null, rhs: { type: 'numberLiteral', val: '+Inf' } });
    expect(await tree('"ü"')).toEqual({ type: 'stringLiteral', val: 'ü' });
  });

  it.each([
    ['/metadata?limit=1', {}],
    ['/query_exemplars?query=up&start=1&end=2', []],
    ['/rules', { groups: [] }],
    ['/alerts', { alerts: [] }],
    ['/alertmanagers', { activeAlertmanagers: [], droppedAlertmanagers: [] }],
    ['/targets', { activeTargets: [], droppedTargets: [], droppedTargetCounts: {} }],
    ['/scrape_pools', { scrapePools: [] }],
  ])('says that it has no %s', async (path, data) => {
    expect((await get(`/api/v1${path}`)).json).toEqual({ status: 'success', data });
  });

  it('is healthy at once and ready when the nodes are', async () => {
    expect(await get('/-/healthy')).toMatchObject({ status: 200 });
    expect(await get('/-/ready')).toMatchObject({ status: 200 });
    server.unready = 'not ready: 3 of 16 shards are not served yet';
    expect(await get('/-/ready')).toMatchObject({
      status: 503,
      text: 'not ready: 3 of 16 shards are not served yet\n',
    });
  });

  it('counts its requests', async () => {
    await get('/api/v1/query?query=up(');
    const { text } = await get('/metrics');
    expect(text).toContain('silverback_http_requests_total{handler="/query",code="400"} 1');
    expect(text).toContain('silverback_queries_running 0');
  });

  it('knows CORS as Prometheus does', async () => {
    expect((await get('/api/v1/labels')).headers.get('access-control-allow-origin')).toBeNull();
    const asked = await get('/api/v1/query', { method: 'OPTIONS', headers: { origin: 'http://a.example' } });
    expect(asked.status).toBe(204);
    expect(asked.headers.get('access-control-allow-origin')).toBe('*');
    expect(asked.headers.get('access-control-allow-methods')).toBe('GET, POST, OPTIONS');
    expect(asked.headers.get('access-control-allow-headers')).toBe('Accept, Authorization, Content-Type, Origin');
    expect(asked.headers.get('access-control-expose-headers')).toBe('Date');
    expect(asked.headers.get('vary')).toBe('Origin');
    const got = await get('/api/v1/query?query=up', { headers: { origin: 'http://a.example' } });
    expect(got.headers.get('access-control-allow-origin')).toBe('*');
    expect(got.headers.get('vary')).toBe('Origin, accept-encoding');
  });

  it('allows the origins that it is told, as a whole', async () => {
    await server.close();
    server = await serve({ corsOrigin: 'https?://(a|b)\\.example' });
    const allowed = async (origin: string) =>
      (await get('/api/v1/labels', { headers: { origin } })).headers.get('access-control-allow-origin');
    expect(await allowed('https://b.example')).toBe('https://b.example');
    expect(await allowed('https://b.example.evil')).toBeNull();
    expect(await allowed('https://c.example')).toBeNull();
  });

  it('says how large a form may be', async () => {
    await server.close();
    server = await serve({ maxFormBytes: 1000 });
    const { status, json } = await get('/api/v1/query', form({ query: 'x'.repeat(2000) }));
    expect(status).toBe(413);
    expect(json).toMatchObject({
      status: 'error',
      error: 'the form is larger than 1000 bytes, the most that is taken',
    });
  });

  it('counts series by their labels', async () => {
    server.store.series_ = [
      stored({ __name__: 'up', job: 'abc' }, []),
      stored({ __name__: 'up_total', x: 'abcdef' }, []),
    ];
    const { json } = await get('/api/v1/status/tsdb?limit=1');
    expect(json).toMatchObject({
      status: 'success',
      data: {
        headStats: { numSeries: 2, numLabelPairs: 4, minTime: 0, maxTime: 7_199_999 },
        seriesCountByMetricName: [{ name: 'up', value: 1 }],
        labelValueCountByLabelName: [{ name: '__name__', value: 2 }],
        memoryInBytesByLabelName: [{ name: '__name__', value: 10 }],
        seriesCountByLabelValuePair: [{ name: '__name__=up', value: 1 }],
      },
      coverage: { state: 'complete' },
    });
    for (const limit of ['0', '-1', '501', 'x']) {
      expect((await get(`/api/v1/status/tsdb?limit=${limit}`)).status, limit).toBe(400);
    }
  });

  it('shows its settings and how it runs', async () => {
    expect((await get('/api/v1/status/config')).json).toMatchObject({
      data: { yaml: 'http-port: "9090"\nlookback: 5m\n' },
    });
    expect((await get('/api/v1/status/flags')).json).toMatchObject({ data: { 'http-port': '9090', lookback: '5m' } });
    const { json } = await get('/api/v1/status/runtimeinfo');
    const { startTime, serverTime } = (json as { data: { startTime: string; serverTime: string } }).data;
    expect(Date.parse(serverTime)).toBeGreaterThanOrEqual(Date.parse(startTime));
  });

  it('answers 404 and errors of its own in words', async () => {
    expect((await get('/nowhere')).status).toBe(404);
    expect(
      (await get('/api/v1/query', { method: 'POST', body: '{}', headers: { 'content-type': 'application/json5' } }))
        .status,
    ).toBe(415);
  });

  it('compresses what is worth it, small, whole and streamed', async () => {
    const raw = (path: string, accepted = 'gzip'): Promise<{ encoding: string | undefined; text: string }> =>
      new Promise((resolve, reject) => {
        const call = request(`${server.url}${path}`, { headers: { 'accept-encoding': accepted } }, (response) => {
          const parts: Buffer[] = [];
          response.on('data', (part: Buffer) => parts.push(part));
          response.on('end', () => {
            const encoding = response.headers['content-encoding'];
            const body = Buffer.concat(parts);
            resolve({ encoding, text: DECODE[encoding ?? 'identity']?.(body).toString() ?? '' });
          });
        });
        call.on('error', reject);
        call.end();
      });
    expect((await raw('/api/v1/label/job/values')).encoding).toBeUndefined();
    for (const count of [100, 20_000]) {
      server.store.series_ = Array.from({ length: count }, (_, i) =>
        stored({ __name__: 'up', instance: `an instance with a long name ${i}` }, [[1_000_000, i]]),
      );
      const zipped = await raw('/api/v1/query?query=up&time=1000');
      expect(zipped.encoding).toBe('gzip');
      expect(zipped.text).toBe(
        (await get('/api/v1/query?query=up&time=1000', { headers: { 'accept-encoding': 'identity' } })).text,
      );
      expect((JSON.parse(zipped.text) as { data: { result: unknown[] } }).data.result).toHaveLength(count);
      for (const [accepted, encoding] of [
        ['br;q=0.5, deflate;q=0.9', 'deflate'],
        ['br', 'br'],
        ['gzip;q=0, identity', undefined],
      ] as const) {
        const got = await raw('/api/v1/query?query=up&time=1000', accepted);
        expect([accepted, got.encoding]).toEqual([accepted, encoding]);
        expect(got.text).toBe(zipped.text);
      }
    }
  });
});

describe('protection', () => {
  it('cancels a query whose client has gone', async () => {
    let aborted = false;
    const started = new Promise<void>((resolve) => {
      server.store.hold = ({ signal }) =>
        new Promise((_, reject) => {
          signal.addEventListener('abort', () => {
            aborted = true;
            reject(new Error('aborted'));
          });
          resolve();
        });
    });
    const client = new AbortController();
    const answer = get('/api/v1/query?query=up', { signal: client.signal });
    await started;
    expect(server.api.gate.running).toBe(1);
    client.abort();
    await expect(answer).rejects.toThrow();
    await expect.poll(() => aborted).toBe(true);
    await expect.poll(() => server.api.gate.running).toBe(0);
  });

  it('times a query out', async () => {
    server.store.hold = ({ signal }) =>
      new Promise((_, reject) => {
        signal.addEventListener('abort', () => reject(new Error('aborted')));
      });
    const { status, json } = await get('/api/v1/query?query=up&timeout=20ms');
    expect(json).toMatchObject({ status: 'error', errorType: 'timeout' });
    expect(status).toBe(503);
  });

  it('lets so many queries run and wait, and turns the others away', async () => {
    await server.close();
    server = await serve({ concurrentQueries: 2, waitingQueries: 1 });
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    server.store.hold = () => gate;
    const calls = Array.from({ length: 3 }, () => get('/api/v1/query?query=up'));
    await expect.poll(() => server.api.gate.waiting).toBe(1);
    const turnedAway = await get('/api/v1/query?query=up');
    expect(turnedAway.status).toBe(503);
    expect(turnedAway.json).toMatchObject({ errorType: 'unavailable' });
    expect(turnedAway.headers.get('retry-after')).toBe('1');
    open();
    for (const call of calls) expect((await call).status).toBe(200);
    expect(server.api.gate.running).toBe(0);
  });
});
