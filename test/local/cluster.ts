/** `npm start` as a test sees it: real processes on free loopback ports, with data in a temporary directory. */
import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { type Series, writeRequest } from '../ingest/message.ts';
import { compress } from '../ingest/snappy.ts';

const ROOT = resolve(import.meta.dirname, '../..');

/** Runs `check` until it no longer throws; fails with its last error after `withinMs`. */
export async function eventually<T>(check: () => T | Promise<T>, withinMs = 60_000): Promise<T> {
  const untilMs = performance.now() + withinMs;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (performance.now() > untilMs) throw error;
      await new Promise((wake) => setTimeout(wake, 100));
    }
  }
}

export function isFree(port: number): Promise<boolean> {
  return new Promise((answer) => {
    const server = createServer();
    server.once('error', () => answer(false));
    server.listen({ host: '127.0.0.1', port, exclusive: true }, () => server.close(() => answer(true)));
  });
}

/**
 * A free port below those that the system gives to outgoing connections: one of those, tried again and again while nobody
 * listens, ends up connected to itself, and whoever wants to listen there could not have it back.
 */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 200; tries++) {
    const port = 10_000 + Math.floor(Math.random() * 10_000);
    if (await isFree(port)) return port;
  }
  throw new Error('no free port was found');
}

/** A port P such that all that `npm start -- --http-port P` takes is free. */
export async function freeHttpPort(nodes = 4): Promise<number> {
  for (let tries = 0; tries < 200; tries++) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const wanted = [port, port + 5];
    for (let node = 1; node <= nodes; node++) wanted.push(port + 10 + node, port + 110 + node);
    if ((await Promise.all(wanted.map(isFree))).every(Boolean)) return port;
  }
  throw new Error('no free ports were found');
}

/** A started `npm start`. */
export class Run {
  output = '';
  readonly exited: Promise<number | null>;
  readonly #process: ChildProcess;

  constructor(args: readonly string[]) {
    // A process group of its own, so that a signal to the group is what Ctrl-C in a terminal is.
    this.#process = spawn('npm', ['start', '--silent', '--', ...args], {
      cwd: ROOT,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, npm_config_update_notifier: 'false' },
    });
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.on('data', (bytes: Buffer) => {
        this.output += bytes.toString();
      });
    }
    this.exited = new Promise((ended) => this.#process.on('close', (code) => ended(code)));
  }

  /** What was printed, without what npm itself says, and without what says only that this machine is slow. */
  get lines(): string[] {
    return this.output.split('\n').filter((line) => line !== '' && !/^(npm |waiting: )/.test(line));
  }

  /** Waits until it printed something that matches. Fails early when it ended instead. */
  async said(pattern: RegExp, withinMs = 120_000): Promise<RegExpExecArray> {
    let ended: number | null | undefined;
    this.exited.then((code) => {
      ended = code;
    });
    return await eventually(() => {
      const match = pattern.exec(this.output);
      if (match !== null) return match;
      throw new Error(`${ended === undefined ? 'still' : `ended with ${ended},`} without ${pattern}:\n${this.output}`);
    }, withinMs);
  }

  /** The process number of a part, as announced last. */
  pidOf(name: string): number {
    const matches = [...this.output.matchAll(new RegExp(`${name}\\s+pid (\\d+)|${name} runs again, pid (\\d+)`, 'g'))];
    const last = matches.at(-1);
    if (last === undefined) throw new Error(`${name} was not announced:\n${this.output}`);
    return Number(last[1] ?? last[2]);
  }

  /** From now on nobody reads what it prints: the pipes to it are closed. */
  deafen(): void {
    this.#process.stdout?.destroy();
    this.#process.stderr?.destroy();
  }

  signal(signal: NodeJS.Signals): void {
    try {
      process.kill(-this.#process.pid!, signal);
    } catch {
      // It has gone already.
    }
  }

  async interrupt(): Promise<number | null> {
    this.signal('SIGINT');
    return this.exited;
  }
}

export interface Cluster {
  readonly run: Run;
  readonly url: string;
  readonly httpPort: number;
}

/** Everything a test starts, ended after it. */
export class Sandbox {
  readonly #runs: Run[] = [];
  readonly #directories: string[] = [];

  async directory(): Promise<string> {
    const directory = await mkdtemp(join(tmpdir(), 'silverback-local-'));
    this.#directories.push(directory);
    return directory;
  }

  start(...args: string[]): Run {
    const run = new Run(args);
    this.#runs.push(run);
    return run;
  }

  /** Starts a cluster and waits until it is ready. */
  async cluster(dataDir: string, ...args: string[]): Promise<Cluster> {
    const httpPort = await freeHttpPort();
    const run = this.start('--data-dir', dataDir, '--http-port', String(httpPort), ...args);
    await run.said(/Silverback is ready/);
    return { run, httpPort, url: `http://127.0.0.1:${httpPort}` };
  }

  async close(): Promise<void> {
    for (const run of this.#runs) run.signal('SIGINT');
    const late = setTimeout(() => {
      for (const run of this.#runs) run.signal('SIGKILL');
    }, 40_000);
    await Promise.all(this.#runs.map((run) => run.exited));
    clearTimeout(late);
    for (const directory of this.#directories) await rm(directory, { recursive: true, force: true });
  }
}

interface Found {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

/** An instant query's vector. Throws for any other answer. */
export async function query(url: string, promql: string, timeMs = Date.now(), region = ''): Promise<Found[]> {
  const parameters = new URLSearchParams({ query: promql, time: String(timeMs / 1_000), region });
  const response = await fetch(`${url}/api/v1/query?${parameters}`);
  const body = (await response.json()) as { status: string; data?: { result: Found[] }; error?: string };
  if (body.status !== 'success' || body.data === undefined) throw new Error(`${promql}: ${body.error}`);
  return body.data.result;
}

/** Sends one remote write 1.0 body. */
export async function remoteWrite(url: string, series: readonly Series[]): Promise<Response> {
  return fetch(`${url}/api/v1/write`, {
    method: 'POST',
    headers: {
      'content-type': 'application/x-protobuf',
      'content-encoding': 'snappy',
      'x-prometheus-remote-write-version': '0.1.0',
    },
    body: Buffer.from(compress(writeRequest(series))),
  });
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

export interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs `silverback` against the coordinator at `url`, as an operator without a terminal does. */
export function silverback(url: string, args: readonly string[], input = ''): Promise<Ended> {
  const child = spawn(process.execPath, [join(ROOT, 'coordinator/cli/silverback.js'), ...args], {
    env: { ...process.env, SILVERBACK_URL: url },
  });
  child.stdin.end(input);
  return endOf(child);
}

/** Resolves when a process has ended, with what it said. */
export function endOf(child: ChildProcessByStdio<Writable | null, Readable, Readable>): Promise<Ended> {
  let out = '';
  let err = '';
  child.stdout.on('data', (bytes: Buffer) => {
    out += bytes.toString();
  });
  child.stderr.on('data', (bytes: Buffer) => {
    err += bytes.toString();
  });
  return new Promise((ended) => child.on('close', (code) => ended({ code, out, err })));
}
