/**
 * A simulated network under gRPC's bidirectional streams: messages arrive in order, after random times; links can be cut in
 * one direction or both, and connections break, also at one end only. What was sent over a link that is cut is held, like
 * what TCP sends again, until the link heals or the connection is given up.
 */
import { EventEmitter } from 'node:events';
import { status } from '@grpc/grpc-js';
import type { Channel, ClientDuplexStream, Duplex } from '../../core/grpc.ts';
import type { Method } from '../../core/protocol.ts';
import type { Machine, Sim } from './sim.ts';

/** As gRPC's keepalive gives up a connection over which nothing comes. */
const GIVE_UP_MS = 30_000;
/** Between two looks whether a process goes on that has to hear something. */
const PAUSED_MS = 100;

type Serve = (call: Duplex<never, never>) => void;

interface Host {
  readonly name: string;
  readonly machine: Machine;
  /** By path of the method. */
  readonly methods: Map<string, { readonly method: Method<never, never>; readonly serve: Serve }>;
  isUp: boolean;
}

export class Network {
  /** How long a message takes: uniform from 0 to this, and now and then ten times as long. */
  delayMs = 5;
  readonly #sim: Sim;
  readonly #hosts = new Map<string, Host>();
  readonly #cuts = new Set<string>();
  #connections: Connection[] = [];

  constructor(sim: Sim) {
    this.#sim = sim;
  }

  /** A process starts on the machine: from now on it can connect and be connected to, at its name. */
  up(name: string, machine: Machine): void {
    this.#hosts.set(name, { name, machine, methods: new Map(), isUp: true });
  }

  serve<Request, Reply>(name: string, method: Method<Request, Reply>, serve: (call: Duplex<Request, Reply>) => void) {
    const host = this.#hosts.get(name) as Host;
    host.methods.set(method.path, {
      method: method as unknown as Method<never, never>,
      serve: serve as unknown as Serve,
    });
  }

  /** The process is gone: the other ends see it once the news has come. */
  down(name: string): void {
    const host = this.#hosts.get(name);
    if (host === undefined) return;
    host.isUp = false;
    for (const connection of this.#connections) connection.died(name);
  }

  /** A client's channel from one host to another. */
  channel(from: string, to: string): Pick<Channel, 'duplex' | 'close'> {
    return {
      duplex: <Request, Reply>(method: Method<Request, Reply>) => {
        const connection = new Connection(this, from, to, method as unknown as Method<never, never>);
        this.#connections.push(connection);
        return connection.client as unknown as ClientDuplexStream<Request, Reply>;
      },
      close: () => undefined,
    };
  }

  /** Messages from one to the other arrive no more. */
  cut(from: string, to: string): void {
    this.#cuts.add(`${from} ${to}`);
  }

  heal(): void {
    this.#cuts.clear();
    this.resumed();
  }

  /** A machine goes on after a pause. */
  resumed(): void {
    for (const connection of this.#connections) connection.resumed();
  }

  /** Breaks a connection: both ends hear of it, or only one, and the other after a long time. */
  breakOne(): void {
    const open = this.#connections.filter((connection) => connection.isOpen);
    if (open.length > 0) this.#sim.random.pick(open).fail(this.#sim.random.pick(['both', 'client', 'server']));
  }

  /** For `Connection` only. */
  host(name: string): Host | undefined {
    return this.#hosts.get(name);
  }

  /** For `Connection` only. */
  isCut(from: string, to: string): boolean {
    return this.#cuts.has(`${from} ${to}`);
  }

  /** For `Connection` only. */
  later(delayMs: number, run: () => void): void {
    this.#sim.later(delayMs, run);
  }

  /** For `Connection` only. */
  get nowMs(): number {
    return this.#sim.nowMs;
  }

  /** For `Connection` only. */
  transitMs(): number {
    const { random } = this.#sim;
    return random.next() * this.delayMs * (random.chance(0.02) ? 10 : 1);
  }

  /** For `Connection` only. */
  forget(connection: Connection): void {
    this.#connections = this.#connections.filter((other) => other !== connection);
  }
}

interface Way {
  readonly from: Host;
  readonly to: Host;
  readonly queue: { readonly atMs: number; readonly run: () => void }[];
  lastMs: number;
}

/** One stream, with a connection of its own. */
class Connection {
  readonly client: EventEmitter & { write(message: unknown): boolean; cancel(): void; end(): void };
  readonly #network: Network;
  readonly #there: Way | undefined;
  readonly #back: Way | undefined;
  readonly #abort = new AbortController();
  readonly #method: Method<never, never>;
  #clientOpen = true;
  #serverOpen = false;
  #isBroken = false;
  #request: ((request: never) => void) | undefined;
  #early: never[] = [];
  #ended: (() => void) | undefined;

  constructor(network: Network, from: string, to: string, method: Method<never, never>) {
    this.#network = network;
    this.#method = method;
    this.client = Object.assign(new EventEmitter(), {
      write: (message: unknown) => {
        const bytes = Buffer.from(method.requestSerialize(message as never));
        this.#send(this.#there, () => this.#arrive(bytes));
        return true;
      },
      cancel: () => {
        if (!this.#clientOpen) return;
        this.#clientOpen = false;
        this.#send(this.#there, () => this.#closeServer());
        this.#tidy();
      },
      end: () => this.#send(this.#there, () => this.#ended?.()),
    });
    const [here, there] = [network.host(from), network.host(to)];
    if (here === undefined || there === undefined || !there.isUp) {
      network.later(network.transitMs(), () => this.#failClient('no one listens'));
      return;
    }
    this.#there = { from: here, to: there, queue: [], lastMs: 0 };
    this.#back = { from: there, to: here, queue: [], lastMs: 0 };
    this.#send(this.#there, () => this.#accept());
    // A connection that never comes about.
    network.later(GIVE_UP_MS, () => {
      if (!this.#serverOpen && this.#clientOpen && this.#early.length === 0)
        this.#failClient('connecting took too long');
    });
  }

  get isOpen(): boolean {
    return this.#clientOpen || this.#serverOpen;
  }

  fail(ends: 'both' | 'client' | 'server'): void {
    const soon = this.#network.transitMs();
    this.#network.later(ends === 'server' ? GIVE_UP_MS : soon, () => this.#failClient('the connection broke'));
    this.#network.later(ends === 'client' ? GIVE_UP_MS : soon, () => this.#closeServer());
    // Nothing gets through any more: a stream has no holes.
    this.#isBroken = true;
    for (const way of [this.#there, this.#back]) way?.queue.splice(0);
  }

  died(name: string): void {
    if (this.#there?.from.name === name && !this.#there.from.isUp) {
      this.#clientOpen = false;
      this.client.removeAllListeners();
      const isCut = this.#network.isCut(name, this.#there.to.name);
      this.#network.later(isCut ? GIVE_UP_MS : this.#network.transitMs(), () => this.#closeServer());
    }
    if (this.#there?.to.name === name && !this.#there.to.isUp) {
      this.#serverOpen = false;
      const isCut = this.#network.isCut(name, this.#there.from.name);
      this.#network.later(isCut ? GIVE_UP_MS : this.#network.transitMs(), () => this.#failClient('the process died'));
    }
    this.#tidy();
  }

  resumed(): void {
    this.#deliver(this.#there);
    this.#deliver(this.#back);
  }

  #accept(): void {
    const served = this.#there?.to.methods.get(this.#method.path);
    if (served === undefined) {
      this.#send(this.#back, () => this.#failClient('no such method'));
      return;
    }
    this.#serverOpen = true;
    served.serve({
      caller: { name: this.#there?.from.name ?? '', address: '' },
      signal: this.#abort.signal,
      listen: ({ request, end }) => {
        this.#request = request;
        this.#ended = end;
        for (const one of this.#early.splice(0)) request(one);
      },
      send: (reply) => {
        if (!this.#serverOpen) return;
        const bytes = Buffer.from(this.#method.responseSerialize(reply));
        this.#send(this.#back, () => {
          if (this.#clientOpen) this.client.emit('data', this.#method.responseDeserialize(bytes));
        });
      },
      pause: () => undefined,
      resume: () => undefined,
      finish: () => {
        this.#serverOpen = false;
        this.#send(this.#back, () => this.#failClient('the node ended the stream'));
      },
    });
  }

  #arrive(bytes: Buffer): void {
    if (!this.#serverOpen) return;
    // The link's method encodes by itself; what is served decodes.
    const served = this.#there?.to.methods.get(this.#method.path);
    if (served === undefined) return;
    const request = served.method.requestDeserialize(bytes);
    if (this.#request === undefined) this.#early.push(request);
    else this.#request(request);
  }

  #send(way: Way | undefined, run: () => void): void {
    if (way === undefined || this.#isBroken) return;
    way.lastMs = Math.max(way.lastMs, this.#network.nowMs + this.#network.transitMs());
    way.queue.push({ atMs: way.lastMs, run });
    this.#network.later(way.lastMs - this.#network.nowMs, () => this.#deliver(way));
  }

  #deliver(way: Way | undefined): void {
    while (way !== undefined) {
      const next = way.queue[0];
      if (next === undefined || next.atMs > this.#network.nowMs) return;
      if (this.#network.isCut(way.from.name, way.to.name) || way.to.machine.isPaused) return;
      way.queue.shift();
      if (way.to.isUp) next.run();
    }
  }

  #failClient(details: string): void {
    if (!this.#clientOpen) return;
    if (this.#there?.from.machine.isPaused) {
      this.#network.later(PAUSED_MS, () => this.#failClient(details));
      return;
    }
    this.#clientOpen = false;
    this.client.emit('error', Object.assign(new Error(details), { code: status.UNAVAILABLE, details }));
    this.#tidy();
  }

  #closeServer(): void {
    if (this.#there?.to.machine.isPaused) {
      this.#network.later(PAUSED_MS, () => this.#closeServer());
      return;
    }
    this.#serverOpen = false;
    if (this.#there?.to.isUp) this.#abort.abort();
    this.#tidy();
  }

  #tidy(): void {
    if (this.isOpen) return;
    this.#network.forget(this);
  }
}
