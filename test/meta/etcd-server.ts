/** A real etcd of one member on free ports, in a directory of its own, that can be killed and started again. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Etcd3 } from 'etcd3';
import { freePort } from '../local/cluster.ts';

/** Where the program is; undefined where there is none, and then `npm test` said so. */
export const ETCD = process.env['SILVERBACK_TEST_ETCD'];

export class EtcdServer {
  readonly port: number;
  readonly #peerPort: number;
  readonly #directory: string;
  #process: ChildProcess | undefined;
  #output = '';

  private constructor(directory: string, port: number, peerPort: number) {
    this.#directory = directory;
    this.port = port;
    this.#peerPort = peerPort;
  }

  static async start(): Promise<EtcdServer> {
    const directory = await mkdtemp(join(tmpdir(), 'silverback-etcd-'));
    const server = new EtcdServer(directory, await freePort(), await freePort());
    await server.restart();
    return server;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  get pid(): number {
    return this.#process!.pid!;
  }

  /** kill -9. */
  async kill(): Promise<void> {
    const killed = this.#process;
    this.#process = undefined;
    if (killed === undefined || killed.exitCode !== null) return;
    const gone = new Promise((resolve) => killed.once('close', resolve));
    killed.kill('SIGKILL');
    await gone;
  }

  /** Resolves once it answers. */
  async restart(): Promise<void> {
    const client = `http://${this.address}`;
    const peer = `http://127.0.0.1:${this.#peerPort}`;
    const started = spawn(
      ETCD!,
      [
        ...['--data-dir', this.#directory, '--name', 'one', '--initial-cluster', `one=${peer}`],
        ...['--listen-client-urls', client, '--advertise-client-urls', client],
        ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
        // Leases may be as short as one and a half elections; the default makes them two seconds.
        ...['--heartbeat-interval', '20', '--election-timeout', '200', '--logger', 'zap'],
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    this.#process = started;
    for (const stream of [started.stdout, started.stderr]) {
      stream.on('data', (bytes: Buffer) => {
        this.#output = (this.#output + bytes.toString()).slice(-20_000);
      });
    }
    for (let tries = 0; ; tries++) {
      const health = await fetch(`${client}/health`, { signal: AbortSignal.timeout(1_000) }).then(
        (response) => response.text(),
        () => '',
      );
      if (health.includes('true')) return;
      if (started.exitCode !== null || tries > 600) throw new Error(`etcd did not start:\n${this.#output}`);
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }

  /** Every revision before the present one is no longer kept. */
  async compact(): Promise<void> {
    const client = new Etcd3({ hosts: this.address });
    const { header } = await client.kv.put({ key: Buffer.from('compacted'), value: Buffer.from('') });
    await client.kv.compact({ revision: header.revision, physical: true });
    client.close();
  }

  /** What lies under a prefix, as etcd itself tells it. */
  async values(prefix: string): Promise<{ value: string; revision: string }[]> {
    const client = new Etcd3({ hosts: this.address });
    const { kvs } = await client.getAll().prefix(prefix).exec();
    client.close();
    return kvs.map(({ value, mod_revision }) => ({ value: value.toString(), revision: mod_revision }));
  }

  async stop(): Promise<void> {
    await this.kill();
    await rm(this.#directory, { recursive: true, force: true });
  }
}
