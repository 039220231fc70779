/**
 * The processes of a local cluster: a coordinator and its nodes, each with a directory of its own under the data directory.
 *
 * Ports follow from the HTTP port P: the HTTP API has P, the coordinator's gRPC P + 5, the gRPC of node i (from 1, over all
 * regions) P + 10 + i, its metrics P + 110 + i.
 */
import { existsSync, mkdirSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SilverbackError } from '../../core/errors.ts';
import { Child } from './child.ts';
import { type Layout, nodesOf } from './layout.ts';
import { whyTaken } from './ports.ts';

const HOST = '127.0.0.1';
/** How long a process may take to end on SIGTERM. */
const GRACE_MS = 15_000;
const READY_POLL_MS = 100;
/** While it waits, the terminal hears why about this often. */
const READY_SAY_MS = 5_000;
const LOG_MOST_BYTES = 16 << 20;

export interface LocalOptions {
  readonly dataDir: string;
  readonly httpPort: number;
  readonly layout: Layout;
  /** Arguments for every process. */
  readonly shared: readonly string[];
  readonly coordinatorArgs: readonly string[];
  readonly nodeArgs: readonly string[];
  /** Takes lines for the terminal. */
  readonly say: (line: string) => void;
  /** Told when a process cannot run as it was started. */
  readonly failed: (reason: string) => void;
}

/** A process as people and scrapers find it. */
export interface Part {
  readonly name: string;
  readonly pid: number | undefined;
  /** For people. */
  readonly where: string;
  readonly metricsUrl: string;
}

export class LocalCluster {
  /** Of the HTTP API. */
  readonly url: string;
  /** host:port of the coordinator's gRPC. */
  readonly grpc: string;
  readonly #options: LocalOptions;
  /** The coordinator first. */
  readonly #children: Child[] = [];
  #stopping = false;

  constructor(options: LocalOptions) {
    this.#options = options;
    this.url = `http://${HOST}:${options.httpPort}`;
    this.grpc = `${HOST}:${options.httpPort + 5}`;
  }

  /** @throws SilverbackError UNAVAILABLE naming the first port that cannot be had */
  async checkPorts(): Promise<void> {
    const { httpPort } = this.#options;
    const nodeCount = nodesOf(this.#options.layout).length;
    const ports = [httpPort, httpPort + 5];
    for (let number = 1; number <= nodeCount; number++) ports.push(httpPort + 10 + number, httpPort + 110 + number);
    for (const port of ports) {
      const why = await whyTaken(HOST, port);
      if (why === undefined) continue;
      const message = `${why}: choose other ports with --http-port (the others follow from it)`;
      throw new SilverbackError('UNAVAILABLE', message);
    }
  }

  start(): void {
    const { httpPort, layout, coordinatorArgs, nodeArgs } = this.#options;
    const { regions, nodeCount } = layout;
    this.#start('coordinator', 'coordinator', [
      ...['--http-host', HOST, '--http-port', String(httpPort), '--listen', this.grpc, '--nodes', String(nodeCount)],
      ...['--region', regions[0] as string, '--place-regions', regions.join(',')],
      ...coordinatorArgs,
    ]);
    for (const [i, { name, region }] of nodesOf(layout).entries()) {
      const number = i + 1;
      this.#start(name, 'node', [
        ...[
          '--region',
          region,
          '--listen',
          `${HOST}:${httpPort + 10 + number}`,
          '--meta',
          this.grpc,
          '--zone',
          `zone-${number}`,
        ],
        ...['--http-host', HOST, '--http-port', String(httpPort + 110 + number)],
        ...nodeArgs,
      ]);
    }
  }

  /** Waits until the cluster takes writes and answers; from then on a process that dies is started again. Never gives up: recovery takes what it takes. */
  async ready(): Promise<void> {
    let saidMs = performance.now();
    while (!this.#stopping) {
      const why = await fetch(`${this.url}/-/ready`, { signal: AbortSignal.timeout(5_000) }).then(
        async (response) => (response.ok ? undefined : (await response.text()).trim()),
        () => 'the coordinator does not answer yet',
      );
      if (why === undefined) break;
      if (performance.now() - saidMs > READY_SAY_MS) {
        this.#options.say(`waiting: ${why}`);
        saidMs = performance.now();
      }
      await new Promise((wake) => setTimeout(wake, READY_POLL_MS));
    }
    for (const child of this.#children) child.keep();
  }

  get parts(): Part[] {
    const { httpPort } = this.#options;
    return this.#children.map(({ name, pid }, i) =>
      i === 0
        ? { name, pid, where: `HTTP ${HOST}:${httpPort}, gRPC ${this.grpc}`, metricsUrl: `${this.url}/metrics` }
        : {
            name,
            pid,
            where: `gRPC ${HOST}:${httpPort + 10 + i}`,
            metricsUrl: `http://${HOST}:${httpPort + 110 + i}/metrics`,
          },
    );
  }

  /** Ends the coordinator, so that nothing new comes in, then the nodes. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const [coordinator, ...nodes] = this.#children;
    await coordinator?.stop(GRACE_MS);
    await Promise.all(nodes.map((node) => node.stop(GRACE_MS)));
  }

  /** Ends everything at once. */
  kill(): void {
    for (const child of this.#children) child.kill();
  }

  #start(name: string, program: string, args: readonly string[]): void {
    const { dataDir, shared, say, failed } = this.#options;
    this.#children.push(
      new Child({
        name,
        script: fileURLToPath(new URL(`../../${program}/main.js`, import.meta.url)),
        args: [...shared, '--name', name, '--data-dir', join(dataDir, name), ...args],
        logFile: logFile(dataDir, name),
        say,
        failed: (reason) => {
          if (!this.#stopping) failed(reason);
        },
      }),
    );
  }
}

/** Where a child's output goes. A log that has grown large becomes the old one. */
function logFile(dataDir: string, name: string): string {
  const path = join(dataDir, 'logs', `${name}.log`);
  mkdirSync(join(dataDir, 'logs'), { recursive: true });
  if (existsSync(path) && statSync(path).size > LOG_MOST_BYTES) renameSync(path, `${path}.old`);
  return path;
}
