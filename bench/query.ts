/**
 * What queries cost over HTTP: a local cluster as `npm start` runs it (a coordinator and two nodes), loaded over the SDK,
 * asked with the query shapes of the peer harness. CPU by process is the figure to trust on a shared machine.
 *
 *     npm run bench -- query [--hosts N] [--hours N] [--runs N] [--seconds N] [--rounds N] [--only ID,ID] [--keep]
 *
 * Per host 100 series, one sample in 15 s. With `--keep` the cluster runs on until Ctrl-C. Linux only (/proc).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { Agent, get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Client } from '../client/index.ts';
import { Mix, STEP_MS } from './mix.ts';
import { cpuMs, freePort } from './server.ts';

const LOCAL = fileURLToPath(new URL('../coordinator/local/main.js', import.meta.url));
const WARM_UP = 3;

interface Shape {
  readonly id: string;
  /** Path and query of the run; runs differ, so that nothing is answered from a cache. */
  readonly path: (run: number) => string;
}

function shapes(hosts: number, endMs: number): readonly Shape[] {
  const end = endMs / 1000;
  const range = (query: string, seconds: number, step: number) =>
    `/api/v1/query_range?query=${encodeURIComponent(query)}&start=${end - seconds}&end=${end}&step=${step}&nocache=1`;
  const instant = (query: string) => `/api/v1/query?query=${encodeURIComponent(query)}&time=${end}&nocache=1`;
  const host = (run: number) => `host-${(run * 37 + 11) % hosts}`;
  const noisy = (run: number) => `node_noisy_${two((run * 7) % 25)}_percent`;
  const hour = `start=${end - 3600}&end=${end}`;
  return [
    { id: 'single_1h_15s', path: (run) => range(`${noisy(run)}{host="${host(run)}"}`, 3600, 15) },
    { id: 'sum_rate_1h_60s', path: () => range('sum by (region) (rate(node_counter_01_total[5m]))', 3600, 60) },
    { id: 'topk_instant', path: () => instant('topk(10, avg_over_time(node_noisy_00_percent[10m]))') },
    {
      id: 'max_by_host_12m_1h',
      path: () => range('max by (host) ({__name__=~"node_noisy_(0[0-9]|1[01])_percent"})', 3600, 60),
    },
    {
      id: 'quantile_instant',
      path: (run) => instant(`quantile_over_time(0.95, node_noisy_01_percent{region="region-${run % 5}"}[1h])`),
    },
    {
      id: 'avg_quantile_1h_60s',
      path: () => range('avg by (dc) (quantile_over_time(0.9, node_noisy_02_percent[5m]))', 3600, 60),
    },
    {
      id: 'quantile_of_rates_1h_60s',
      path: () => range('quantile by (dc) (0.9, rate(node_counter_04_total[5m]))', 3600, 60),
    },
    { id: 'label_values', path: () => `/api/v1/label/host/values?${hour}` },
    { id: 'series', path: (run) => `/api/v1/series?match[]=${noisy(run)}&${hour}` },
    {
      id: 'ratio_1h_60s',
      path: () =>
        range(
          'sum by (region) (rate(node_counter_02_total[5m])) / sum by (region) (rate(node_counter_03_total[5m]))',
          3600,
          60,
        ),
    },
    { id: 'all_counters_1h_60s', path: () => range('sum by (__name__) ({__name__=~"node_counter_.*"})', 3600, 60) },
  ];
}

function two(number: number): string {
  return String(number).padStart(2, '0');
}

/** Name and kind of value (bench/mix.ts) of a host's series. */
function metric(index: number): { name: string; kind: number } {
  if (index < 10) return { name: `node_constant_${two(index)}`, kind: 0 };
  if (index < 40) return { name: `node_gauge_${two(index - 10)}`, kind: 1 };
  if (index < 65) return { name: `node_noisy_${two(index - 40)}_percent`, kind: 2 };
  return { name: `node_counter_${two(index - 65)}_total`, kind: 3 };
}

export async function run(args: string[]): Promise<void> {
  const { values: flags } = parseArgs({
    args,
    options: {
      hosts: { type: 'string', default: '100' },
      hours: { type: 'string', default: '2' },
      runs: { type: 'string', default: '200' },
      seconds: { type: 'string', default: '5' },
      rounds: { type: 'string', default: '1' },
      only: { type: 'string' },
      keep: { type: 'boolean', default: false },
    },
  });
  const hosts = Number(flags.hosts);
  const folder = await mkdtemp(join(tmpdir(), 'silverback-query-'));
  const port = await freePort();
  const supervisor = spawn(
    process.execPath,
    [
      LOCAL,
      ...['--http-port', String(port), '--data-dir', join(folder, 'data')],
      ...['--regions', '1', '--nodes', '2', '--no-self-monitoring'],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  try {
    const endpoint = await announced(supervisor);
    const endMs = Math.floor(Date.now() / STEP_MS) * STEP_MS;
    await load(endpoint, hosts, Number(flags.hours), endMs);
    const processes = processesOf(supervisor.pid as number);
    await settled(processes);
    const limits = { runs: Number(flags.runs), seconds: Number(flags.seconds) };
    const wanted = flags.only?.split(',');
    for (let round = 1; round <= Number(flags.rounds); round++) {
      console.log(`| query | p50 ms | p99 ms | coordinator CPU ms | nodes CPU ms | bytes | runs |`);
      console.log('|---|---|---|---|---|---|---|');
      for (const shape of shapes(hosts, endMs)) {
        if (wanted !== undefined && !wanted.includes(shape.id)) continue;
        console.log(await measure(shape, `http://127.0.0.1:${port}`, processes, limits));
      }
    }
    if (flags.keep) {
      console.log(`http://127.0.0.1:${port}, end ${endMs / 1000}, pids ${JSON.stringify(processes)}; Ctrl-C stops it`);
      await new Promise((resolve) => process.once('SIGINT', resolve));
    }
  } finally {
    const ended = new Promise((resolve) => supervisor.once('exit', resolve));
    supervisor.kill('SIGTERM');
    await ended;
    await rm(folder, { recursive: true, force: true });
  }
}

/** Waits for what `npm start` says when it is ready; resolves with the coordinator's gRPC address. */
function announced(supervisor: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = '';
    supervisor.stdout?.on('data', (chunk) => {
      said += String(chunk);
      const found = /SDK \(gRPC\)\s+(\S+)/.exec(said);
      if (found?.[1] !== undefined) resolve(found[1]);
    });
    supervisor.once('exit', (code) => reject(new Error(`the cluster ended with ${code}:\n${said}`)));
  });
}

async function load(endpoint: string, hosts: number, hours: number, endMs: number): Promise<void> {
  const client = new Client({ endpoints: [endpoint], caller: 'bench' });
  const ticks = Math.round((hours * 3_600_000) / STEP_MS);
  if (!(ticks >= 1)) throw new Error(`--hours ${hours} has no sample: there is one in ${STEP_MS / 1000} s`);
  const mix = new Mix({ ticks });
  const courses: number[][] = [[], [], [], []];
  for (let i = 0; courses.some((found) => found.length < 50); i++) courses[mix.kind(i)]?.push(i);
  const series = Array.from({ length: hosts * 100 }, (_, i) => {
    const host = Math.floor(i / 100);
    const { name, kind } = metric(i % 100);
    const found = courses[kind] as number[];
    return {
      series: client.series({
        __name__: name,
        dc: `dc-${host % 3}`,
        host: `host-${host}`,
        instance: `10.0.${host >> 8}.${host & 255}:9100`,
        job: 'node',
        region: `region-${host % 5}`,
      }),
      course: found[(i * 7) % found.length] as number,
    };
  });
  const startMs = endMs - (ticks - 1) * STEP_MS;
  const chunk = 20;
  for (let first = 0; first < ticks; first += chunk) {
    for (const [i, one] of series.entries()) {
      const count = Math.min(chunk, ticks - first);
      const timestamps = Float64Array.from({ length: count }, (_, k) => startMs + (first + k) * STEP_MS);
      const values = Float64Array.from({ length: count }, (_, k) => mix.value(one.course, first + k));
      client.appendColumns(one.series, timestamps, values);
      if (i % 500 === 0) await client.room();
    }
  }
  await client.flush();
  const { acknowledgedCount } = client.stats();
  await client.close();
  console.log(`${series.length} series, ${acknowledgedCount} samples acknowledged`);
  if (acknowledgedCount !== series.length * ticks) throw new Error(`wrote ${series.length * ticks}`);
}

interface Processes {
  readonly coordinator: readonly number[];
  readonly nodes: readonly number[];
}

function processesOf(supervisor: number): Processes {
  const children = readFileSync(`/proc/${supervisor}/task/${supervisor}/children`, 'utf8')
    .trim()
    .split(' ')
    .map(Number);
  const isNode = (pid: number) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('node/main.js');
  return { coordinator: children.filter((pid) => !isNode(pid)), nodes: children.filter(isNode) };
}

/** What was loaded is sealed and checkpointed first: that is not a query's cost. */
async function settled({ coordinator, nodes }: Processes): Promise<void> {
  for (let quiet = 0, i = 0; quiet < 2 && i < 60; i++) {
    const before = cpuMs([...coordinator, ...nodes]);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    quiet = cpuMs([...coordinator, ...nodes]) - before < 50 ? quiet + 1 : 0;
  }
}

async function measure(
  { id, path }: Shape,
  base: string,
  { coordinator, nodes }: Processes,
  limits: { runs: number; seconds: number },
): Promise<string> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  let bytes = 0;
  let index = 0;
  for (; index < WARM_UP; index++) bytes = await fetchAll(base + path(index), agent);
  const times: number[] = [];
  const before = { coordinator: cpuMs(coordinator), nodes: cpuMs(nodes) };
  const untilMs = performance.now() + limits.seconds * 1000;
  while (times.length < 5 || (times.length < limits.runs && performance.now() < untilMs)) {
    const startedMs = performance.now();
    await fetchAll(base + path(index++), agent);
    times.push(performance.now() - startedMs);
  }
  const cpu = { coordinator: cpuMs(coordinator) - before.coordinator, nodes: cpuMs(nodes) - before.nodes };
  agent.destroy();
  times.sort((a, b) => a - b);
  const at = (q: number) => (times[Math.min(times.length - 1, Math.floor(times.length * q))] as number).toFixed(2);
  const each = (ms: number) => (ms / times.length).toFixed(3);
  return `| ${id} | ${at(0.5)} | ${at(0.99)} | ${each(cpu.coordinator)} | ${each(cpu.nodes)} | ${bytes} | ${times.length} |`;
}

/** Resolves with the length of the body. */
function fetchAll(url: string, agent: Agent): Promise<number> {
  return new Promise((resolve, reject) => {
    get(url, { agent }, (response) => {
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
      });
      response.on('end', () => {
        if (response.statusCode === 200) resolve(bytes);
        else reject(new Error(`${response.statusCode} ${url}`));
      });
      response.on('error', reject);
    }).on('error', reject);
  });
}
