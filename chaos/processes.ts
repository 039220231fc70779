/**
 * A cluster of real processes that can be killed, kept down and started again at will: a coordinator and nodes, as
 * `npm start` runs them (coordinator/local/cluster.ts), but without the supervisor that would start them again.
 *
 * Ports stay the same over restarts; every process has a directory of its own, and its output is kept in `logs/`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NODE_FLAGS } from '../coordinator/local/child.ts';
import { nodeEnv } from '../core/env/node.ts';
import { Channel } from '../core/grpc.ts';
import { type ShardStatus, shardsService } from '../core/protocol.ts';
import { eventually, freeHttpPort } from '../test/local/cluster.ts';

const HOST = '127.0.0.1';
/** The compiled programs, seen from the sources and from where these are compiled to. */
const DIST = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? '../dist/' : '../', import.meta.url));
const READY_POLL_MS = 20;
const READY_MS = 120_000;
const STATUS_MS = 15_000;

export interface ProcessesOptions {
  /** Everything lies below it: `<name>/` per process, `logs/`. */
  readonly dataDir: string;
  readonly nodeCount: number;
  readonly shardCount: number;
  /** Further arguments of the nodes. */
  readonly nodeArgs?: readonly string[];
  /** And of the coordinator. */
  readonly coordinatorArgs?: readonly string[];
}

/** What a node says of one of its shards. */
export interface NodeShard extends ShardStatus {
  readonly node: string;
}

export class Processes {
  /** The coordinator first. */
  readonly names: readonly string[];
  /** Of the HTTP API. */
  readonly url: string;
  /** host:port of the coordinator's gRPC. */
  readonly grpc: string;
  readonly #options: ProcessesOptions;
  readonly #httpPort: number;
  readonly #running = new Map<string, { readonly child: ChildProcess; readonly exited: Promise<void> }>();
  /** Processes that ended without being asked to, and how. */
  readonly #casualties: string[] = [];

  /** Finds free ports. Starts nothing. */
  static async create(options: ProcessesOptions): Promise<Processes> {
    return new Processes(options, await freeHttpPort(options.nodeCount));
  }

  private constructor(options: ProcessesOptions, httpPort: number) {
    this.#options = options;
    this.#httpPort = httpPort;
    this.names = ['coordinator', ...Array.from({ length: options.nodeCount }, (_, i) => `node-${i + 1}`)];
    this.url = `http://${HOST}:${httpPort}`;
    this.grpc = `${HOST}:${httpPort + 5}`;
  }

  get nodes(): readonly string[] {
    return this.names.slice(1);
  }

  directoryOf(name: string): string {
    return join(this.#options.dataDir, name);
  }

  /** Of a running process. */
  pidOf(name: string): number {
    const pid = this.#running.get(name)?.child.pid;
    if (pid === undefined) throw new Error(`${name} does not run`);
    return pid;
  }

  /** Where a node serves its metrics. */
  metricsOf(node: string): string {
    return `http://${HOST}:${this.#httpPort + 110 + this.names.indexOf(node)}/metrics`;
  }

  /** Everything the process ever printed. */
  logOf(name: string): string {
    const path = this.#logPath(name);
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }

  /** Starts those of the processes that do not run (default: all). */
  start(names: readonly string[] = this.names): void {
    for (const name of names) if (!this.#running.has(name)) this.#spawn(name);
  }

  /** SIGKILL, all at once. Resolves when they are gone. */
  kill(names: readonly string[] = this.names): Promise<void> {
    return this.#end(names, 'SIGKILL');
  }

  /** SIGTERM: the processes close their files in order. Resolves when they are gone. */
  stop(names: readonly string[] = this.names): Promise<void> {
    return this.#end(names, 'SIGTERM');
  }

  /** Resolves when every shard is served. Rejects when a process ended by itself, or after two minutes. */
  async ready(): Promise<void> {
    const untilMs = performance.now() + READY_MS;
    for (;;) {
      const why = await fetch(`${this.url}/-/ready`, { signal: AbortSignal.timeout(5_000) }).then(
        async (response) => (response.ok ? undefined : (await response.text()).trim()),
        (error: Error) => error.message,
      );
      if (why === undefined) return;
      this.checkAlive();
      if (performance.now() > untilMs) throw new Error(`not ready after ${READY_MS / 1_000} s: ${why}`);
      await new Promise((wake) => setTimeout(wake, READY_POLL_MS));
    }
  }

  /** Throws if a process ended by itself since the cluster was made. */
  checkAlive(): void {
    if (this.#casualties.length > 0) throw new Error(this.#casualties.join('\n'));
  }

  /** How the shards of the running nodes are, by the nodes' own account. */
  async status(): Promise<NodeShard[]> {
    const found: NodeShard[] = [];
    for (const [i, node] of this.nodes.entries()) {
      if (!this.#running.has(node)) continue;
      const channel = new Channel(`${HOST}:${this.#httpPort + 11 + i}`, { clock: nodeEnv.clock, caller: 'chaos' });
      // A connection to a node that was down is tried again within two seconds; until then a call fails at once.
      const { shards } = await eventually(
        () => channel.unary(shardsService.Status, {}, { timeoutMs: 10_000 }),
        STATUS_MS,
      );
      channel.close();
      found.push(...shards.map((shard) => ({ ...shard, node })));
    }
    return found;
  }

  #spawn(name: string): void {
    mkdirSync(join(this.#options.dataDir, 'logs'), { recursive: true });
    const output = openSync(this.#logPath(name), 'a');
    const program = name === 'coordinator' ? 'coordinator' : 'node';
    const child = spawn(process.execPath, [...NODE_FLAGS, join(DIST, program, 'main.js'), ...this.#argsOf(name)], {
      // The channel is what tells a child that its supervisor is gone.
      stdio: ['ignore', output, output, 'ipc'],
    });
    closeSync(output);
    const exited = new Promise<void>((resolve) => {
      child.once('close', (code, signal) => {
        if (this.#running.get(name)?.child === child) {
          this.#running.delete(name);
          const tail = this.logOf(name).split('\n').slice(-6).join('\n');
          this.#casualties.push(`${name} ended by itself (${signal ?? `code ${code}`}):\n${tail}`);
        }
        resolve();
      });
    });
    this.#running.set(name, { child, exited });
  }

  #argsOf(name: string): string[] {
    const { nodeCount, shardCount, nodeArgs = [], coordinatorArgs = [] } = this.#options;
    const shared = ['--name', name, '--region', 'local', '--data-dir', this.directoryOf(name), '--http-host', HOST];
    const port = this.#httpPort;
    if (name === 'coordinator') {
      const counts = ['--nodes', String(nodeCount), '--shards', String(shardCount)];
      return [...shared, '--http-port', String(port), '--listen', this.grpc, ...counts, ...coordinatorArgs];
    }
    const number = this.names.indexOf(name);
    const ports = ['--listen', `${HOST}:${port + 10 + number}`, '--http-port', String(port + 110 + number)];
    return [...shared, ...ports, '--meta', this.grpc, '--zone', `zone-${number}`, ...nodeArgs];
  }

  async #end(names: readonly string[], signal: NodeJS.Signals): Promise<void> {
    const ended: Promise<void>[] = [];
    for (const name of names) {
      const running = this.#running.get(name);
      if (running === undefined) continue;
      this.#running.delete(name);
      running.child.kill(signal);
      ended.push(running.exited);
    }
    await Promise.all(ended);
  }

  #logPath(name: string): string {
    return join(this.#options.dataDir, 'logs', `${name}.log`);
  }
}
