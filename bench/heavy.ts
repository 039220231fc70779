/**
 * What a heavy query does to everybody else, and what it costs: 10,000 series x 26 h at 15 s (62.4M samples), loaded by remote
 * write; then light queries and writes, alone and beside a query over all of it, turn by turn.
 *
 *     npm run bench -- heavy [--servers silverback,victoriametrics,prometheus] [--series N] [--hours N] [--rounds N] [--seconds N]
 *                            [--heavy QUERY] [--keep]
 *
 * A light query reads an hour of one series, a light write is a body of 100 series with a sample each; one of each every
 * 20 ms, one at a time of each kind. Linux only (/proc).
 */
import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { compressSync } from 'snappy';
import { labelFields, Writer } from '../test/ingest/message.ts';
import { STEP_MS } from './mix.ts';
import { cpuMs, familyOf, SERVERS, type Server, startServer } from './server.ts';

const METRIC = 'heavy_total';
const LIGHT_METRIC = 'light_value';
const LIGHT_SERIES = 100;
const PACE_MS = 20;
const BODY_TICKS = 20;
const BODY_SERIES = 500;
const SENDERS = 4;

interface Load {
  readonly seriesCount: number;
  readonly ticks: number;
  readonly endMs: number;
}

/** What a server wants beside what it is started with for every bench: samples a day old are let in. */
const EXTRA: Readonly<Record<string, readonly string[]>> = { silverback: ['--max-sample-age', 'off'] };

export async function run(args: string[]): Promise<void> {
  const { values: flags } = parseArgs({
    args,
    options: {
      servers: { type: 'string', default: Object.keys(SERVERS).join(',') },
      series: { type: 'string', default: '10000' },
      hours: { type: 'string', default: '26' },
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '8' },
      heavy: { type: 'string', default: `sum by (region) (rate(${METRIC}[5m]))` },
      keep: { type: 'boolean', default: false },
    },
  });
  for (const name of flags.servers.split(',')) {
    const server = await startServer(name, '2', EXTRA[name]);
    try {
      const load: Load = {
        seriesCount: Number(flags.series),
        ticks: Math.round((Number(flags.hours) * 3_600_000) / STEP_MS),
        endMs: Math.floor(Date.now() / STEP_MS) * STEP_MS,
      };
      await fill(server, load);
      await costs(name, server, load, flags.heavy);
      await protection(name, server, load, flags.heavy, Number(flags.rounds), Number(flags.seconds));
      if (flags.keep) {
        console.log(
          `${server.base}, end ${load.endMs / 1000}, pids ${familyOf(server.pid).join(' ')}; Ctrl-C stops it`,
        );
        await new Promise((resolve) => process.once('SIGINT', resolve));
      }
    } finally {
      await server.stop();
    }
  }
}

function labelsOf(series: number): Uint8Array {
  return labelFields([
    ['__name__', METRIC],
    ['host', `host-${series}`],
    ['instance', `10.0.${series >> 8}.${series & 255}:9100`],
    ['job', 'node'],
    ['rack', `rack-${series % 100}`],
    ['region', `region-${series % 5}`],
  ]);
}

async function fill(server: Server, { seriesCount, ticks, endMs }: Load): Promise<void> {
  const startedMs = performance.now();
  const agent = new Agent({ keepAlive: true, maxSockets: SENDERS });
  const before = cpuMs(familyOf(server.pid));
  const values = Float64Array.from({ length: seriesCount }, (_, s) => (s * 7919) % 100_000);
  const heads = Array.from({ length: seriesCount }, (_, s) => labelsOf(s));
  let seed = 1;
  for (let tick = 0; tick < ticks; tick += BODY_TICKS) {
    const count = Math.min(BODY_TICKS, ticks - tick);
    const sending: Promise<unknown>[] = [];
    for (let from = 0; from < seriesCount; from += BODY_SERIES) {
      const body = new Writer();
      for (let s = from; s < Math.min(from + BODY_SERIES, seriesCount); s++) {
        const head = heads[s] as Uint8Array;
        body
          .varint(0x0a)
          .varint(head.length + 18 * count)
          .raw(head);
        for (let i = 0; i < count; i++) {
          seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
          values[s] = (values[s] as number) + (seed >>> 20);
          body
            .varint(0x12)
            .varint(16)
            .varint(0x09)
            .double(values[s] as number);
          body.varint(0x10).varint(endMs - (ticks - 1 - tick - i) * STEP_MS);
        }
      }
      sending.push(post(server.base, compressSync(Buffer.from(body.bytes)), agent));
      if (sending.length % SENDERS === 0) await Promise.all(sending);
    }
    // A series' samples come in order: the next ones are not sent before these are taken.
    await Promise.all(sending);
  }
  agent.destroy();
  const samples = seriesCount * ticks;
  const cpu = cpuMs(familyOf(server.pid)) - before;
  const seconds = (performance.now() - startedMs) / 1000;
  console.log(
    `${samples} samples of ${seriesCount} series in ${seconds.toFixed(0)} s, server CPU ${((cpu * 1000) / samples).toFixed(3)} us a sample`,
  );
  await settled(server.pid);
}

/** What was loaded is sealed, compacted, written first: that is no query's cost. */
async function settled(pid: number): Promise<void> {
  for (let quiet = 0, i = 0; quiet < 3 && i < 60; i++) {
    const before = cpuMs(familyOf(pid));
    await sleep(1000);
    quiet = cpuMs(familyOf(pid)) - before < 60 ? quiet + 1 : 0;
  }
}

function rangePath(query: string, { endMs, ticks }: Load, step: number, seconds = (ticks * STEP_MS) / 1000): string {
  const end = endMs / 1000;
  return `/api/v1/query_range?query=${encodeURIComponent(query)}&start=${end - seconds}&end=${end}&step=${step}&nocache=1`;
}

async function costs(name: string, server: Server, load: Load, heavy: string): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  console.log('| server | query | p50 ms | CPU ms | bytes | runs |');
  console.log('|---|---|---|---|---|---|');
  const rows: readonly (readonly [id: string, runs: number, path: (run: number) => string])[] = [
    [`${heavy}, all`, 5, () => rangePath(heavy, load, 60)],
    [
      `sum by (region) (rate(${METRIC}{host}[5m])), one series`,
      30,
      (run) =>
        rangePath(`sum by (region) (rate(${METRIC}{host="host-${(run * 37) % load.seriesCount}"}[5m]))`, load, 60),
    ],
    [`${METRIC} of 1 in 100 series, 1,000 steps`, 20, () => rangePath(`${METRIC}{rack="rack-7"}`, load, 15, 15 * 999)],
  ];
  for (const [id, runs, path] of rows) {
    let bytes = 0;
    for (let i = 0; i < 2; i++) bytes = await read(server.base + path(i), agent);
    const family = familyOf(server.pid);
    const before = cpuMs(family);
    const times: number[] = [];
    for (let i = 0; i < runs; i++) {
      const startedMs = performance.now();
      await read(server.base + path(i + 2), agent);
      times.push(performance.now() - startedMs);
    }
    const cpu = (cpuMs(family) - before) / runs;
    console.log(`| ${name} | ${id} | ${quantile(times, 0.5).toFixed(1)} | ${cpu.toFixed(1)} | ${bytes} | ${runs} |`);
  }
  agent.destroy();
}

/** Latencies of one kind of light work, ms. */
interface Times {
  readonly queries: number[];
  readonly writes: number[];
}

async function protection(
  name: string,
  server: Server,
  load: Load,
  heavy: string,
  rounds: number,
  seconds: number,
): Promise<void> {
  const alone: Times = { queries: [], writes: [] };
  const beside: Times = { queries: [], writes: [] };
  const heavyMs: number[] = [];
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  for (let round = 0; round < rounds; round++) {
    await light(server, load, performance.now() + seconds * 1000, alone);
    const untilMs = performance.now() + seconds * 1000;
    const heavies = (async () => {
      while (performance.now() < untilMs) {
        const startedMs = performance.now();
        await read(server.base + rangePath(heavy, load, 60), agent);
        heavyMs.push(performance.now() - startedMs);
      }
    })();
    await light(server, load, untilMs, beside);
    await heavies;
  }
  agent.destroy();
  console.log(`heavy query beside light work: p50 ${quantile(heavyMs, 0.5).toFixed(0)} ms, ${heavyMs.length} runs`);
  console.log('| server | light work | alone p50 / p99 ms | beside p50 / p99 ms | p99 ratio | runs |');
  console.log('|---|---|---|---|---|---|');
  for (const kind of ['queries', 'writes'] as const) {
    const [a, b] = [alone[kind], beside[kind]];
    const both = (times: number[]) => `${quantile(times, 0.5).toFixed(2)} / ${quantile(times, 0.99).toFixed(2)}`;
    const ratio = quantile(b, 0.99) / quantile(a, 0.99);
    console.log(`| ${name} | ${kind} | ${both(a)} | ${both(b)} | ${ratio.toFixed(2)} | ${a.length} + ${b.length} |`);
  }
}

/** Light queries and writes, side by side, until `untilMs`. */
async function light(server: Server, load: Load, untilMs: number, times: Times): Promise<void> {
  const paced = async (into: number[], work: (agent: Agent, turn: number) => Promise<unknown>): Promise<void> => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    for (let turn = 0; performance.now() < untilMs; turn++) {
      const startedMs = performance.now();
      await work(agent, turn);
      const tookMs = performance.now() - startedMs;
      // The first opens the connection.
      if (turn > 0) into.push(tookMs);
      await sleep(Math.max(1, PACE_MS - tookMs));
    }
    agent.destroy();
  };
  await Promise.all([
    paced(times.queries, (agent, turn) => {
      const one = `${METRIC}{host="host-${(turn * 37) % load.seriesCount}"}`;
      return read(server.base + rangePath(one, load, 15, 3600), agent);
    }),
    paced(times.writes, (agent) => post(server.base, lightBody(), agent)),
  ]);
}

function lightBody(): Buffer {
  const body = new Writer();
  const nowMs = Date.now();
  for (let s = 0; s < LIGHT_SERIES; s++) {
    const sample = new Writer()
      .varint(0x09)
      .double(nowMs % 1000)
      .varint(0x10)
      .varint(nowMs).bytes;
    const series = new Writer()
      .raw(
        labelFields([
          ['__name__', LIGHT_METRIC],
          ['host', `host-${s}`],
        ]),
      )
      .field(2, sample).bytes;
    body.field(1, series);
  }
  return compressSync(Buffer.from(body.bytes));
}

function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

const WRITE_HEADERS = {
  'content-type': 'application/x-protobuf',
  'content-encoding': 'snappy',
  'x-prometheus-remote-write-version': '0.1.0',
};

async function post(base: string, body: Buffer, agent: Agent): Promise<void> {
  await call(`${base}/api/v1/write`, agent, body);
}

function read(url: string, agent: Agent): Promise<number> {
  return call(url, agent);
}

/** Resolves with the length of the answer's body. */
function call(url: string, agent: Agent, body?: Buffer): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = request(url, {
      agent,
      ...(body === undefined
        ? {}
        : { method: 'POST', headers: { ...WRITE_HEADERS, 'content-length': String(body.length) } }),
    });
    asked.on('response', (response) => {
      let bytes = 0;
      let words = '';
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (words.length < 300) words += chunk.toString('latin1', 0, 300);
      });
      response.on('end', () => {
        const status = response.statusCode ?? 0;
        if (status >= 200 && status < 300) resolve(bytes);
        else reject(new Error(`${status} ${url}: ${words}`));
      });
      response.on('error', reject);
    });
    asked.on('error', reject);
    asked.end(body);
  });
}
