/**
 * A real Prometheus scrapes a real node_exporter and remote-writes into a real cluster: the same queries, asked of both,
 * have the same answers. test/setup/parts.js fetches the two programs and says loudly when it cannot.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually, isFree, Sandbox } from '../local/cluster.ts';

const PROMETHEUS = process.env['SILVERBACK_TEST_PROMETHEUS'];
const NODE_EXPORTER = process.env['SILVERBACK_TEST_NODE_EXPORTER'];

type Labels = Readonly<Record<string, string>>;
type Point = readonly [seconds: number, value: string];

interface Data {
  readonly resultType: string;
  readonly result: readonly { readonly metric: Labels; readonly value?: Point; readonly values?: readonly Point[] }[];
}

async function get(url: string, path: string, parameters: Readonly<Record<string, string>>): Promise<unknown> {
  const response = await fetch(`${url}/api/v1/${path}?${new URLSearchParams(parameters)}`);
  const body = (await response.json()) as { status: string; data?: unknown; error?: string };
  if (body.status !== 'success') throw new Error(`${path} ${JSON.stringify(parameters)}: ${body.error}`);
  return body.data;
}

/** Series as text -> points, so that order does not matter. */
function bySeries(data: unknown): Map<string, readonly Point[]> {
  const { result } = data as Data;
  return new Map(
    result
      .map(({ metric, value, values }): [string, readonly Point[]] => [
        JSON.stringify(Object.entries(metric).sort(([a], [b]) => (a < b ? -1 : 1))),
        values ?? (value === undefined ? [] : [value]),
      ])
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

async function freePort(): Promise<number> {
  for (;;) {
    const port = 33_000 + Math.floor(Math.random() * 20_000);
    if (await isFree(port)) return port;
  }
}

describe.runIf(PROMETHEUS !== undefined && NODE_EXPORTER !== undefined)('a real Prometheus', () => {
  const sandbox = new Sandbox();
  const children: ChildProcess[] = [];
  let output = '';
  let ours = '';
  let theirs = '';
  let exporter: ChildProcess;

  const run = (program: string, args: readonly string[]): ChildProcess => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (bytes: Buffer) => {
        output += bytes.toString();
      });
    }
    children.push(child);
    return child;
  };

  const end = (child: ChildProcess, signal: NodeJS.Signals): Promise<unknown> => {
    if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    return ended;
  };

  beforeAll(async () => {
    const directory = await sandbox.directory();
    ({ url: ours } = await sandbox.cluster(await sandbox.directory(), '--no-self-monitoring'));
    const [exporterPort, prometheusPort] = [await freePort(), await freePort()];
    theirs = `http://127.0.0.1:${prometheusPort}`;
    exporter = run(NODE_EXPORTER!, [`--web.listen-address=127.0.0.1:${exporterPort}`]);
    const config = join(directory, 'prometheus.yml');
    await writeFile(
      config,
      `
global: { scrape_interval: 1s, external_labels: {} }
scrape_configs:
  - { job_name: node, static_configs: [{ targets: ['127.0.0.1:${exporterPort}'], labels: { room: 'a "b" \\ ü' } }] }
  - { job_name: prometheus, static_configs: [{ targets: ['127.0.0.1:${prometheusPort}'] }] }
remote_write:
  - url: ${ours}/api/v1/write
    queue_config: { batch_send_deadline: 200ms }
`,
    );
    run(PROMETHEUS!, [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(directory, 'data')}`,
      `--web.listen-address=127.0.0.1:${prometheusPort}`,
    ]);
  });

  afterAll(async () => {
    await Promise.all(children.map((child) => end(child, 'SIGTERM')));
    await sandbox.close();
  });

  /** A moment whose samples have arrived in both. */
  const settledMoment = async (least: number): Promise<string> => {
    await eventually(async () => {
      const counts = await Promise.all(
        [theirs, ours].map(async (url) =>
          bySeries(await get(url, 'query', { query: 'count_over_time(up{job="node"}[1m])' }))
            .values()
            .next(),
        ),
      );
      for (const { value } of counts) expect(Number(value?.[0]?.[1]), output.slice(-2_000)).toBeGreaterThan(least);
    });
    // Prometheus sends at its own pace: what is this old has been sent.
    const moment = Date.now() / 1_000;
    let scrapes: number[] = [];
    await eventually(async () => {
      const { result } = (await get(ours, 'query', { query: 'timestamp(up)' })) as Data;
      scrapes = result.map(({ value }) => Number(value?.[1]));
      expect(scrapes).toHaveLength(2);
      expect(Math.min(...scrapes)).toBeGreaterThan(moment);
    });
    // Ranges here are whole seconds, as the interval of scrapes is: a sample at a range's very start is in it for this
    // Prometheus, and not for later ones. So the moment lies between the scrapes.
    const isBetween = (fraction: number): boolean =>
      scrapes.every((scrape) => Math.abs(((((scrape - fraction) % 1) + 1.5) % 1) - 0.5) > 0.1);
    return String(Math.floor(moment) - 1 + ([0.1, 0.4, 0.7].find(isBetween) ?? 0));
  };

  test('the same selectors return the same series, sample by sample', async () => {
    const time = await settledMoment(12);
    for (const query of [
      '{job=~".+"}',
      '{job=~".+"}[10s]',
      'node_cpu_seconds_total',
      '{__name__=~"node_network_.*",device="lo"}[5s]',
      'up',
      'scrape_samples_scraped',
    ]) {
      const [expected, found] = [theirs, ours].map((url) => get(url, 'query', { query, time }));
      const series = bySeries(await expected);
      expect(series.size, query).toBeGreaterThan(0);
      expect(bySeries(await found), query).toEqual(series);
    }
  });

  test('the same expressions have the same values, at one moment and over a range', async () => {
    const end = await settledMoment(20);
    const start = String(Number(end) - 10);
    const queries = [
      'sum by (mode) (rate(node_cpu_seconds_total[10s]))',
      'topk(3, sum by (device) (irate(node_network_receive_bytes_total[10s])))',
      'node_filesystem_avail_bytes / node_filesystem_size_bytes',
      'histogram_quantile(0.9, sum by (le) (increase(prometheus_http_request_duration_seconds_bucket[10s])))',
      'count({__name__=~"node_.*"}) by (job, room)',
      'avg_over_time(node_load1[10s]) > 0 or vector(1)',
      'node_memory_MemTotal_bytes offset 3s',
    ];
    for (const query of queries) {
      for (const [path, times] of [
        ['query', { time: end }],
        ['query_range', { start, end, step: '1' }],
      ] as const) {
        const [expected, found] = await Promise.all(
          [theirs, ours].map(async (url) => bySeries(await get(url, path, { query, ...times }))),
        );
        expect([...found!.keys()], query).toEqual([...expected!.keys()]);
        for (const [key, points] of expected!) {
          const own = found!.get(key)!;
          expect(
            own.map(([seconds]) => seconds),
            query,
          ).toEqual(points.map(([seconds]) => seconds));
          for (const [i, [, value]] of points.entries()) {
            const [a, b] = [Number(own[i]![1]), Number(value)];
            // Sums are taken in another order: the last bits may differ.
            const same = Object.is(a, b) || Math.abs(a - b) <= 1e-12 * Math.max(Math.abs(a), Math.abs(b));
            expect(same, `${query}: ${key}: ${a}, Prometheus has ${b}`).toBe(true);
          }
        }
      }
    }
  });

  test('names, values and series are the same', async () => {
    const time = Number(await settledMoment(5));
    const window = { start: String(time - 300), end: String(time) };
    expect(await get(ours, 'labels', window)).toEqual(await get(theirs, 'labels', window));
    for (const label of ['__name__', 'job', 'instance', 'device', 'room']) {
      expect(await get(ours, `label/${label}/values`, window), label).toEqual(
        await get(theirs, `label/${label}/values`, window),
      );
    }
    const sorted = (data: unknown) =>
      (data as Labels[]).map((labels) => JSON.stringify(Object.entries(labels).sort())).sort();
    const match = { 'match[]': '{job="node"}', ...window };
    expect(sorted(await get(ours, 'series', match))).toEqual(sorted(await get(theirs, 'series', match)));
  });

  test('when the target goes away, its series end at the same moment', async () => {
    await end(exporter, 'SIGKILL');
    await eventually(async () => {
      for (const url of [theirs, ours]) {
        expect(bySeries(await get(url, 'query', { query: 'node_load1' })).size).toBe(0);
        const up = bySeries(await get(url, 'query', { query: 'up{job="node"}' }));
        expect([...up.values()].map((points) => points[0]?.[1])).toEqual(['0']);
      }
    });
    const time = await settledMoment(5);
    const query = 'count_over_time(node_load1[5m])';
    expect(bySeries(await get(ours, 'query', { query, time }))).toEqual(
      bySeries(await get(theirs, 'query', { query, time })),
    );
  });
});
