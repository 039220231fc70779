/** A real etcd of one member on free ports, in a directory of its own, that can be killed and started again. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Etcd3, type IOptions, Range } from 'etcd3';
import { freePort } from '../local/cluster.ts';
import { Authority, type Certificate } from './authority.ts';

/** Where the program is; undefined where there is none, and then `npm test` said so. */
export const ETCD = process.env['SILVERBACK_TEST_ETCD'];

interface Ports {
  readonly client: number;
  readonly peer: number;
  /** Health is asked there: without TLS or a user, whatever clients need. */
  readonly health: number;
}

export interface Secured {
  /** Signed etcd's certificate, and those that clients must show. */
  readonly authority: Authority;
  readonly client: Certificate;
}

export class EtcdServer {
  readonly #ports: Ports;
  readonly #directory: string;
  readonly #secured: Secured | undefined;
  #process: ChildProcess | undefined;
  #output = '';

  private constructor(directory: string, ports: Ports, secured: Secured | undefined) {
    this.#directory = directory;
    this.#ports = ports;
    this.#secured = secured;
  }

  static start(): Promise<EtcdServer> {
    return EtcdServer.#start(undefined);
  }

  /** With TLS that asks clients for a certificate. */
  static async startSecured(): Promise<{ server: EtcdServer; secured: Secured }> {
    const authority = await Authority.create('silverback test authority');
    const secured = { authority, client: await authority.sign('a client') };
    return { server: await EtcdServer.#start(secured), secured };
  }

  static async #start(secured: Secured | undefined): Promise<EtcdServer> {
    const directory = await mkdtemp(join(tmpdir(), 'silverback-etcd-'));
    const ports = { client: await freePort(), peer: await freePort(), health: await freePort() };
    const server = new EtcdServer(directory, ports, secured);
    if (secured !== undefined) {
      const { cert, key } = await secured.authority.sign('etcd');
      await writeFile(join(directory, 'ca.pem'), secured.authority.cert);
      await writeFile(join(directory, 'cert.pem'), cert);
      await writeFile(join(directory, 'key.pem'), key);
    }
    await server.restart();
    return server;
  }

  get port(): number {
    return this.#ports.client;
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
    const client = `${this.#secured === undefined ? 'http' : 'https'}://${this.address}`;
    const peer = `http://127.0.0.1:${this.#ports.peer}`;
    const health = `http://127.0.0.1:${this.#ports.health}`;
    const file = (name: string): string => join(this.#directory, name);
    const tls = [
      ...['--cert-file', file('cert.pem'), '--key-file', file('key.pem')],
      ...['--trusted-ca-file', file('ca.pem'), '--client-cert-auth'],
    ];
    const started = spawn(
      ETCD!,
      [
        ...['--data-dir', file('data'), '--name', 'one', '--initial-cluster', `one=${peer}`],
        ...['--listen-client-urls', client, '--advertise-client-urls', client, '--listen-metrics-urls', health],
        ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
        // Leases may be as short as one and a half elections; the default makes them two seconds.
        ...['--heartbeat-interval', '20', '--election-timeout', '200', '--logger', 'zap'],
        ...(this.#secured === undefined ? [] : tls),
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
      const answer = await fetch(`${health}/health`, { signal: AbortSignal.timeout(1_000) }).then(
        (response) => response.text(),
        () => '',
      );
      if (answer.includes('true')) return;
      if (started.exitCode !== null || tries > 600) throw new Error(`etcd did not start:\n${this.#output}`);
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }

  /** From now on it knows `root` and one user, who may use the keys under a prefix. */
  async enableAuth(user: string, password: string, prefix: string): Promise<void> {
    const client = this.#connect();
    await client.role('root').create();
    await client.user('root').create('the root of it');
    await client.user('root').addRole('root');
    await client.role(user).create();
    await client.role(user).grant({ permission: 'Readwrite', range: Range.prefix(prefix) });
    await client.user(user).create(password);
    await client.user(user).addRole(user);
    await client.auth.authEnable();
    client.close();
  }

  /** Every revision before the present one is no longer kept. */
  async compact(): Promise<void> {
    const client = this.#connect();
    const { header } = await client.kv.put({ key: Buffer.from('compacted'), value: Buffer.from('') });
    await client.kv.compact({ revision: header.revision, physical: true });
    client.close();
  }

  /** What lies under a prefix, as etcd itself tells it. */
  async values(prefix: string): Promise<{ value: string; revision: string }[]> {
    const client = this.#connect();
    const { kvs } = await client.getAll().prefix(prefix).exec();
    client.close();
    return kvs.map(({ value, mod_revision }) => ({ value: value.toString(), revision: mod_revision }));
  }

  async stop(): Promise<void> {
    await this.kill();
    await rm(this.#directory, { recursive: true, force: true });
  }

  #connect(): Etcd3 {
    const options: IOptions = { hosts: this.address };
    if (this.#secured === undefined) return new Etcd3(options);
    const { authority, client } = this.#secured;
    const credentials = {
      rootCertificate: Buffer.from(authority.cert),
      privateKey: Buffer.from(client.key),
      certChain: Buffer.from(client.cert),
    };
    return new Etcd3({ ...options, credentials });
  }
}
