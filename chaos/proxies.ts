/**
 * The network between real processes: one proxy of a real Toxiproxy for each link, on loopback, and what can be wrong with it.
 * Everything stays as it is until it is healed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { type Toxic, type Proxy as ToxicProxy, Toxiproxy } from 'toxiproxy-node-client';
import { eventually, freePort } from '../test/local/cluster.ts';

const HOST = '127.0.0.1';
const START_MS = 60_000;

/** Upstream is what goes from who connected to who listens. */
type Direction = 'upstream' | 'downstream';

export type Fault =
  /** Connections break, new ones are refused. */
  | { readonly kind: 'cut' }
  /** One direction swallows everything, connections stand; those that were struck break when it heals. */
  | { readonly kind: 'one-way'; readonly direction: Direction }
  /** The same in both directions. */
  | { readonly kind: 'half-open' }
  /** Everything comes later, in both directions; what is held comes through when it heals. */
  | { readonly kind: 'latency'; readonly latencyMs: number; readonly jitterMs: number }
  | { readonly kind: 'bandwidth'; readonly kilobytesPerSecond: number }
  /** Who closes a connection is still connected to for so long. */
  | { readonly kind: 'slow-close'; readonly delayMs: number }
  /** Connections are reset so long after they were made or struck. */
  | { readonly kind: 'reset'; readonly afterMs: number };

interface Poison {
  readonly type: 'latency' | 'bandwidth' | 'slow_close' | 'timeout' | 'reset_peer';
  readonly attributes: object;
  readonly streams: readonly Direction[];
}

const BOTH = ['upstream', 'downstream'] as const;

/** What Toxiproxy is told of each fault; a cut is none of its toxics. */
function poisonOf(fault: Exclude<Fault, { readonly kind: 'cut' }>): Poison {
  switch (fault.kind) {
    case 'one-way':
      return { type: 'timeout', attributes: { timeout: 0 }, streams: [fault.direction] };
    case 'half-open':
      return { type: 'timeout', attributes: { timeout: 0 }, streams: BOTH };
    case 'latency':
      return { type: 'latency', attributes: { latency: fault.latencyMs, jitter: fault.jitterMs }, streams: BOTH };
    case 'bandwidth':
      return { type: 'bandwidth', attributes: { rate: fault.kilobytesPerSecond }, streams: BOTH };
    case 'slow-close':
      return { type: 'slow_close', attributes: { delay: fault.delayMs }, streams: BOTH };
    case 'reset':
      return { type: 'reset_peer', attributes: { timeout: fault.afterMs }, streams: BOTH };
  }
}

interface Link {
  readonly proxy: ToxicProxy;
  readonly toxics: Toxic<object>[];
  isCut: boolean;
}

export class Proxies {
  readonly #program: string;
  readonly #args: readonly string[];
  readonly #client: Toxiproxy;
  #process: ChildProcess | undefined;
  readonly #links = new Map<string, Link>();

  /** Starts `program`, a Toxiproxy server. `seed`: of its jitter. */
  static async start(program: string, seed: number): Promise<Proxies> {
    const port = await freePort();
    const proxies = new Proxies(program, port, seed);
    await proxies.#run();
    return proxies;
  }

  private constructor(program: string, port: number, seed: number) {
    this.#program = program;
    this.#args = ['-host', HOST, '-port', String(port), '-seed', String(seed)];
    this.#client = new Toxiproxy(`http://${HOST}:${port}`);
  }

  get names(): string[] {
    return [...this.#links.keys()];
  }

  /** A proxy before host:port `upstream`, which need not listen yet. Returns its own host:port. The name becomes a part of URLs. */
  async open(name: string, upstream: string): Promise<string> {
    // Not one of Toxiproxy's choice: it must be had again after a cut.
    const proxy = await this.#client.createProxy({ name, listen: `${HOST}:${await freePort()}`, upstream });
    this.#links.set(name, { proxy, toxics: [], isCut: false });
    return proxy.listen;
  }

  /** On top of what the link suffers already; of two faults that are alike, the first stays. */
  async strike(name: string, fault: Fault): Promise<void> {
    this.#find(name);
    try {
      await this.#strike(name, fault);
    } catch {
      await this.#renew();
      await this.#strike(name, fault);
    }
  }

  async #strike(name: string, fault: Fault): Promise<void> {
    const link = this.#find(name);
    if (fault.kind === 'cut') {
      await this.#enable(link, false);
      return;
    }
    const { type, attributes, streams } = poisonOf(fault);
    for (const stream of streams) {
      const toxic = { name: `${type}.${stream}`, type, stream, toxicity: 1, attributes };
      if (!link.toxics.some(({ name: known }) => known === toxic.name)) {
        link.toxics.push(await link.proxy.addToxic(toxic));
      }
    }
  }

  /** Enables everything and takes all toxics away (default: of all links). */
  async heal(names: readonly string[] = this.names): Promise<void> {
    for (const name of names) {
      const link = this.#find(name);
      try {
        for (const toxic of link.toxics.splice(0)) await toxic.remove();
        if (link.isCut) await this.#enable(link, true);
      } catch {
        await this.#renew();
        return;
      }
    }
  }

  close(): void {
    this.#process?.kill('SIGKILL');
  }

  async #run(): Promise<void> {
    const started = spawn(this.#program, this.#args, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#process = started;
    // Nothing else ends it when this process ends.
    process.once('exit', () => started.kill('SIGKILL'));
    let output = '';
    started.stderr.on('data', (bytes: Buffer) => {
      output = (output + bytes.toString()).slice(-4_000);
    });
    await eventually(async () => {
      if (started.exitCode !== null) return;
      await this.#client.getVersion();
    }, START_MS);
    if (started.exitCode !== null) throw new Error(`${this.#program} did not start:\n${output}`);
  }

  /**
   * Toxiproxy (2.12) hangs for good when it takes a toxic off a connection that just broke while the toxic held some of its data.
   * A new one has the same links, at the same addresses, all of them whole. So it is after whatever else it fails with.
   */
  async #renew(): Promise<void> {
    const gone = new Promise((resolve) => this.#process?.once('close', resolve));
    this.#process?.kill('SIGKILL');
    await gone;
    await this.#run();
    for (const [name, { proxy }] of this.#links) {
      const { listen, upstream } = proxy;
      // Somebody else may have its port for a while.
      await eventually(async () => {
        const renewed = await this.#client.createProxy({ name, listen, upstream });
        this.#links.set(name, { proxy: renewed, toxics: [], isCut: false });
      }, START_MS);
    }
  }

  async #enable(link: Link, enabled: boolean): Promise<void> {
    const { listen, upstream } = link.proxy;
    await link.proxy.update({ enabled, listen, upstream });
    link.isCut = !enabled;
  }

  #find(name: string): Link {
    const link = this.#links.get(name);
    if (link === undefined) throw new Error(`there is no link ${name}`);
    return link;
  }
}
