/**
 * A real Prometheus scrapes exemplars and metadata in OpenMetrics and remote-writes them into a real cluster: both give the
 * same answers, also after the nodes were killed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Cluster, eventually, isFree, Sandbox } from '../local/cluster.ts';

const PROMETHEUS = process.env['SILVERBACK_TEST_PROMETHEUS'];

interface Reply {
  readonly status: string;
  readonly data?: unknown;
  readonly errorType?: string;
}

async function ask(
  url: string,
  path: string,
  parameters: Readonly<Record<string, string>>,
  method = 'GET',
): Promise<Reply> {
  const query = new URLSearchParams(parameters);
  const response =
    method === 'GET'
      ? await fetch(`${url}/api/v1/${path}?${query}`)
      : await fetch(`${url}/api/v1/${path}`, { method, body: query });
  return (await response.json()) as Reply;
}

async function freePort(): Promise<number> {
  for (;;) {
    const port = 33_000 + Math.floor(Math.random() * 20_000);
    if (await isFree(port)) return port;
  }
}

/** A page of OpenMetrics whose exemplars are others each time, or, of one counter, the same for some scrapes. */
function openMetrics(scrape: number): string {
  const seconds = Date.now() / 1_000;
  return `# HELP req Requests, with "quotes", a \\\\ and ü.
# TYPE req counter
req_total{path="/a \\"b\\""} ${scrape} # {trace_id="t${scrape}",span="é"} 0.${scrape % 10} ${seconds.toFixed(3)}
req_total{path="/slow"} ${scrape} # {trace_id="s${scrape >> 2}"} 7
# HELP lat_seconds Latency.
# TYPE lat_seconds histogram
# UNIT lat_seconds seconds
lat_seconds_bucket{le="0.1"} ${scrape} # {trace_id="b${scrape}"} 0.05 ${(seconds - 0.25).toFixed(3)}
lat_seconds_bucket{le="1.0"} ${2 * scrape} # {} 1e-7 ${(seconds - 0.5).toFixed(3)}
lat_seconds_bucket{le="+Inf"} ${2 * scrape}
lat_seconds_count ${2 * scrape}
lat_seconds_sum ${scrape / 10}
# TYPE temp gauge
temp 21.5
# HELP build What it is.
# TYPE build info
build_info{version="1"} 1
# EOF
`;
}

describe.runIf(PROMETHEUS !== undefined)('exemplars and metadata of a real Prometheus', () => {
  const sandbox = new Sandbox();
  let output = '';
  let scrapeCount = 0;
  let target: Server;
  let cluster: Cluster;
  let ours = '';
  let theirs = '';
  let prometheus: ChildProcess;

  beforeAll(async () => {
    const directory = await sandbox.directory();
    cluster = await sandbox.cluster(await sandbox.directory(), '--no-self-monitoring');
    ours = cluster.url;
    target = createServer((_request, response) => {
      response.setHeader('content-type', 'application/openmetrics-text; version=1.0.0; charset=utf-8');
      response.end(openMetrics(++scrapeCount));
    });
    await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
    const { port } = target.address() as AddressInfo;
    const own = await freePort();
    theirs = `http://127.0.0.1:${own}`;
    const config = join(directory, 'prometheus.yml');
    await writeFile(
      config,
      `
global: { scrape_interval: 1s }
scrape_configs:
  - { job_name: open, static_configs: [{ targets: ['127.0.0.1:${port}'] }] }
remote_write:
  - url: ${ours}/api/v1/write
    send_exemplars: true
    queue_config: { batch_send_deadline: 200ms }
    metadata_config: { send: true, send_interval: 1s }
`,
    );
    prometheus = spawn(
      PROMETHEUS!,
      [
        `--config.file=${config}`,
        `--storage.tsdb.path=${join(directory, 'data')}`,
        `--web.listen-address=127.0.0.1:${own}`,
        '--enable-feature=exemplar-storage',
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    for (const stream of [prometheus.stdout, prometheus.stderr]) {
      stream?.on('data', (bytes: Buffer) => {
        output += bytes.toString();
      });
    }
  });

  afterAll(async () => {
    if (prometheus.exitCode === null) {
      const ended = new Promise((resolve) => prometheus.once('exit', resolve));
      prometheus.kill('SIGTERM');
      await ended;
    }
    target.close();
    await sandbox.close();
  });

  const everything = '{job="open"}';

  /** Both have so many exemplars of a series, and what is older than the moment has been sent. */
  const settled = async (least: number): Promise<string> => {
    const newest = async (url: string): Promise<number> => {
      const { data } = await ask(url, 'query_exemplars', { query: 'req_total{path!="/slow"}' });
      const { exemplars } = (data as { exemplars: { timestamp: number }[] }[])[0] ?? { exemplars: [] };
      expect(exemplars.length, output.slice(-2_000)).toBeGreaterThanOrEqual(least);
      return exemplars.at(-1)?.timestamp as number;
    };
    await eventually(async () => void (await Promise.all([theirs, ours].map(newest))));
    const moment = Date.now() / 1_000;
    await eventually(async () => expect(await newest(ours)).toBeGreaterThan(moment + 1));
    return String(moment - 1);
  };

  const compare = async (end: string): Promise<void> => {
    for (const [query, count] of [
      [everything, 4],
      ['sum by (path) (rate(req_total[5m])) / on () group_left () temp', 2],
      ['histogram_quantile(0.9, sum by (le) (rate(lat_seconds_bucket[1m] offset 1h)))', 2],
      ['lat_seconds_bucket{le="0.1"} or max_over_time(req_total{path="/slow"}[5m:10s])', 2],
      ['temp', 0],
    ] as const) {
      for (const method of ['GET', 'POST']) {
        for (const start of ['0', String(Number(end) - 3)]) {
          const [expected, found] = await Promise.all(
            [theirs, ours].map((url) => ask(url, 'query_exemplars', { query, start, end }, method)),
          );
          expect(expected?.status, JSON.stringify(expected)).toBe('success');
          if (start === '0') expect(expected?.data, query).toHaveLength(count);
          expect(found?.data, query).toEqual(expected?.data);
        }
      }
    }
  };

  test('the same exemplars answer the same expressions, in the same JSON', async () => {
    await compare(await settled(6));
  });

  test('the same metadata, with the same limits', async () => {
    await eventually(async () => {
      const [expected, found] = await Promise.all([theirs, ours].map((url) => ask(url, 'metadata', {})));
      expect(Object.keys(expected?.data as object)).toContain('lat_seconds');
      expect(found?.data).toEqual(expected?.data);
    });
    for (const parameters of [
      { metric: 'lat_seconds' },
      { metric: 'nothing' },
      { limit: '0' },
      { metric: 'temp', limit_per_metric: '1', limit: '5' },
    ]) {
      const [expected, found] = await Promise.all([theirs, ours].map((url) => ask(url, 'metadata', parameters)));
      expect(found?.data, JSON.stringify(parameters)).toEqual(expected?.data);
    }
    expect(Object.keys((await ask(ours, 'metadata', { limit: '2' })).data as object)).toHaveLength(2);
  });

  test('the same questions are refused', async () => {
    for (const [path, parameters] of [
      ['query_exemplars', { query: 'up{' }],
      ['query_exemplars', { query: 'up', start: '5', end: '4' }],
      ['query_exemplars', { query: 'up', start: 'soon' }],
      ['metadata', { limit: 'x' }],
    ] as const) {
      const [expected, found] = await Promise.all([theirs, ours].map((url) => ask(url, path, parameters)));
      expect([found?.status, found?.errorType], JSON.stringify(parameters)).toEqual(['error', expected?.errorType]);
    }
    // Prometheus 2 does not know this one.
    expect(await ask(ours, 'metadata', { limit_per_metric: 'x' })).toMatchObject({ errorType: 'bad_data' });
  });

  test('nodes that are killed have them still', async () => {
    const end = await settled(10);
    for (const name of ['east-1', 'east-2', 'west-1', 'west-2']) {
      const pid = cluster.run.pidOf(name);
      process.kill(pid, 'SIGKILL');
      await eventually(() => expect(cluster.run.pidOf(name)).not.toBe(pid));
    }
    await eventually(async () => {
      const { data, ...rest } = (await ask(ours, 'query_exemplars', { query: everything, end })) as Reply & {
        coverage?: { state: string };
      };
      expect(rest.coverage?.state).not.toBe('missing');
      expect(data).toEqual((await ask(theirs, 'query_exemplars', { query: everything, end })).data);
    });
    await compare(end);
    const [expected, found] = await Promise.all([theirs, ours].map((url) => ask(url, 'metadata', {})));
    expect(found?.data).toEqual(expected?.data);
  });
});
