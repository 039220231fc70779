/** The servers that are measured beside one another: each is started on an empty folder and stopped by its process. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

interface Target {
  readonly command: string;
  readonly args: readonly string[];
  readonly ready: string;
  /** Further arguments of the harness. */
  readonly harness: readonly string[];
}

interface Place {
  readonly port: number;
  readonly folder: string;
  readonly nodes: string;
}

const LOCAL = fileURLToPath(new URL('../coordinator/local/main.js', import.meta.url));

/** One row per server: how it is started on an empty folder, and how it is asked. */
export const SERVERS: Readonly<Record<string, (place: Place) => Target>> = {
  silverback: ({ port, folder, nodes }) => ({
    command: process.execPath,
    args: [
      LOCAL,
      ...[
        '--http-port',
        String(port),
        '--data-dir',
        join(folder, 'data'),
        '--regions',
        '1',
        '--nodes',
        nodes,
        '--no-self-monitoring',
      ],
    ],
    ready: '/-/ready',
    harness: ['--query-extra', 'nocache=1'],
  }),
  victoriametrics: ({ port, folder }) => ({
    command: 'victoria-metrics',
    args: [
      `-storageDataPath=${join(folder, 'data')}`,
      `-httpListenAddr=127.0.0.1:${port}`,
      '-retentionPeriod=3',
      '-search.latencyOffset=0s',
      '-loggerLevel=ERROR',
    ],
    ready: '/health',
    harness: ['--query-extra', 'nocache=1'],
  }),
  prometheus: ({ port, folder }) => {
    writeFileSync(join(folder, 'prometheus.yml'), 'global:\n  scrape_interval: 15s\n');
    return {
      command: 'prometheus',
      args: [
        `--config.file=${join(folder, 'prometheus.yml')}`,
        `--storage.tsdb.path=${join(folder, 'data')}`,
        '--storage.tsdb.retention.time=30d',
        `--web.listen-address=127.0.0.1:${port}`,
        '--web.enable-remote-write-receiver',
        '--log.level=warn',
      ],
      ready: '/-/ready',
      harness: [],
    };
  },
};

export interface Server {
  readonly base: string;
  readonly folder: string;
  readonly pid: number;
  readonly harness: readonly string[];
  stop(): Promise<void>;
}

/** Starts a server of the table and waits until it is ready. */
export async function startServer(name: string, nodes: string, extra: readonly string[] = []): Promise<Server> {
  const make = SERVERS[name];
  if (make === undefined) throw new Error(`server ${name} is none of ${Object.keys(SERVERS).join(', ')}`);
  const folder = mkdtempSync(join(tmpdir(), 'silverback-bench-'));
  const port = await freePort();
  const target = make({ port, folder, nodes });
  const child = spawn(target.command, [...target.args, ...extra], { stdio: ['ignore', 'ignore', 'inherit'] });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    await Promise.race([ended, sleep(20_000)]);
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const base = `http://127.0.0.1:${port}`;
    await untilReady(child, base + target.ready);
    return { base, folder, pid: child.pid as number, harness: target.harness, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

async function untilReady(child: ChildProcess, url: string): Promise<void> {
  for (let i = 0; i < 300; i++) {
    if (child.exitCode !== null) throw new Error(`${child.spawnfile} ended with ${child.exitCode}`);
    const answer = await fetch(url).catch(() => undefined);
    if (answer?.ok) return;
    await sleep(100);
  }
  throw new Error(`${url} does not answer`);
}

/** A process and all that it started. */
export function familyOf(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return [pid, ...(children === '' ? [] : children.split(' ').flatMap((child) => familyOf(Number(child))))];
}

/** CPU time of all threads, in milliseconds. */
export function cpuMs(pids: readonly number[]): number {
  let ns = 0;
  for (const pid of pids) {
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      try {
        ns += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
      } catch {
        // The thread has ended.
      }
    }
  }
  return ns / 1e6;
}
