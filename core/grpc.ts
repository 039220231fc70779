/**
 * What every gRPC server and client of the house shares: bounded messages, keepalive, flow control
 * windows wide enough for streams of batches, our error codes on the wire, credentials and the
 * caller's identity.
 *
 * A coded error travels as a gRPC status whose trailers `silverback-code` and
 * `silverback-retry-after-ms` say the rest; `fromStatus` puts it together again.
 */
import type { Http2Server, ServerHttp2Session } from 'node:http2';
import {
  type CallOptions,
  type ChannelCredentials,
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  credentials as channelCredentials,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type ServiceError,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { Connections } from './connections.ts';
import type { Clock } from './env/env.ts';
import { type ErrorCode, isErrorCode, SilverbackError } from './errors.ts';
import type { Method } from './protocol.ts';

export type { ChannelCredentials, ClientDuplexStream, ServerCredentials } from '@grpc/grpc-js';

/** No message is larger, in either direction. Senders cut their batches far below it. */
export const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** HTTP/2 receive window, of a stream and of a connection. The default of 64 KiB halves the throughput of large messages. */
export const WINDOW_BYTES = 4 * 1024 * 1024;

/** Calls that a connection may have open at a time; its client holds back more. */
const MAX_CALLS = 1_024;

const CODE_KEY = 'silverback-code';
const RETRY_KEY = 'silverback-retry-after-ms';
const CALLER_KEY = 'silverback-caller';

const SHARED_OPTIONS: ChannelOptions = {
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.enable_channelz': 0,
};

const CHANNEL_OPTIONS: ChannelOptions = {
  ...SHARED_OPTIONS,
  'grpc-node.flow_control_window': WINDOW_BYTES,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2_000,
  // Retries are the caller's: it knows which batches are safe to repeat and where to send them next.
  'grpc.enable_retries': 0,
  // Traffic inside a cluster never goes through a proxy that the environment happens to name.
  'grpc.enable_http_proxy': 0,
};

/** Who calls, as the server established it. */
export interface Caller {
  readonly name: string;
  /** Of the peer's socket: host:port. */
  readonly address: string;
}

/** Establishes who calls from the call's metadata; throws a SilverbackError to refuse. */
export type Identify = (metadata: Metadata, address: string) => Caller;

/** Believes what the caller says its name is: for loopback and trusted networks. */
const identifyByName: Identify = (metadata, address) => {
  const name = metadata.get(CALLER_KEY)[0];
  return { name: typeof name === 'string' && name !== '' ? name : 'unknown', address };
};

/** What a handler knows about its call. */
export interface CallContext {
  readonly caller: Caller;
  /** Aborted when the caller went away, its deadline passed, or the server is stopping by force. */
  readonly signal: AbortSignal;
}

export interface ReplyStream<Reply> extends CallContext {
  /** Hands a message to the stream; resolves when it may take the next one. Rejects with CANCELLED once the caller is gone. */
  send(reply: Reply): Promise<void>;
}

/** A stream both ways. The handler gets requests as events, so that it can answer in any order. */
export interface Duplex<Request, Reply> extends CallContext {
  /** `end`: the caller has sent its last request; answer what is open, then call `finish`. */
  listen(events: { request(request: Request): void; end(): void }): void;
  /** Hands a reply to the stream. While the caller does not read its replies, no further request is taken off the wire. */
  send(reply: Reply): void;
  /** No further request is taken off the wire until `resume`: but for one or two, they stay with the caller. */
  pause(): void;
  resume(): void;
  /** Ends the stream, with a status if there is an error. */
  finish(error?: unknown): void;
}

export interface RpcServerOptions {
  /** Default: none. Listen on loopback only, then. */
  readonly credentials?: ServerCredentials;
  /** Default: `identifyByName`. */
  readonly identify?: Identify;
  /** Counts and bounds the connections. Default: any number. */
  readonly connections?: Connections;
  /** Told of what degrades but does not stop the server. */
  readonly warn?: (message: string) => void;
}

/** A gRPC server with typed handlers. Add methods, then `listen`. */
export class RpcServer {
  readonly #server = new Server({ ...SHARED_OPTIONS, 'grpc.max_concurrent_streams': MAX_CALLS });
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #credentials: ServerCredentials;
  readonly #identify: Identify;
  readonly #connections: Connections | undefined;
  readonly #warn: (message: string) => void;
  readonly #methods: Record<string, Method<never, never>> = {};
  readonly #handlers: UntypedServiceImplementation = {};

  constructor(options: RpcServerOptions = {}) {
    this.#credentials = options.credentials ?? ServerCredentials.createInsecure();
    this.#identify = options.identify ?? identifyByName;
    this.#connections = options.connections;
    this.#warn = options.warn ?? ignore;
  }

  /** One request, one reply. The handler's rejection becomes the call's status. */
  unary<Request, Reply>(
    method: Method<Request, Reply>,
    handle: (request: Request, call: CallContext) => Promise<Reply>,
  ): this {
    return this.#add(method, async (call: ServerUnaryCall<Request, Reply>, callback: sendUnaryData<Reply>) => {
      try {
        callback(null, await handle(call.request, this.#context(call)));
      } catch (error) {
        callback(toStatus(error));
      }
    });
  }

  /** One request, many replies. The stream ends when the handler's promise settles. */
  stream<Request, Reply>(
    method: Method<Request, Reply>,
    handle: (request: Request, call: ReplyStream<Reply>) => Promise<void>,
  ): this {
    return this.#add(method, async (call: ServerWritableStream<Request, Reply>) => {
      try {
        const context = this.#context(call);
        const send = (reply: Reply) =>
          context.signal.aborted
            ? Promise.reject(gone())
            : call.write(reply)
              ? Promise.resolve()
              : drained(call, context.signal);
        await handle(call.request, { ...context, send });
        call.end();
      } catch (error) {
        call.emit('error', toStatus(error));
      }
    });
  }

  /** A stream both ways; it ends when the handler calls `finish`. */
  duplex<Request, Reply>(method: Method<Request, Reply>, handle: (call: Duplex<Request, Reply>) => void): this {
    return this.#add(method, (call: ServerDuplexStream<Request, Reply>) => {
      let finished = false;
      let isPaused = false;
      let isDraining = false;
      readAheadOne(call);
      const readOn = () => {
        if (!isPaused && !isDraining) call.resume();
      };
      const finish = (error?: unknown) => {
        if (finished) return;
        finished = true;
        if (error === undefined) call.end();
        else call.emit('error', toStatus(error));
      };
      try {
        const context = this.#context(call);
        handle({
          ...context,
          listen(events) {
            call.on('data', (request: Request) => {
              if (finished) return;
              // A throw here would take the process down; it is this call's failure only.
              try {
                events.request(request);
              } catch (error) {
                finish(error);
              }
            });
            call.on('end', () => events.end());
          },
          send(reply) {
            if (finished || context.signal.aborted || call.write(reply) || isDraining) return;
            isDraining = true;
            call.pause();
            call.once('drain', () => {
              isDraining = false;
              readOn();
            });
          },
          pause() {
            isPaused = true;
            call.pause();
          },
          resume() {
            isPaused = false;
            readOn();
          },
          finish,
        });
      } catch (error) {
        finish(error);
      }
    });
  }

  /** Binds `address` (host:port; port 0: any free one) and serves. Resolves to the port. Rejects with UNAVAILABLE if it is taken. */
  async listen(address: string): Promise<number> {
    // grpc-js takes offence at a service without methods.
    if (Object.keys(this.#methods).length > 0) {
      this.#server.addService(this.#methods as unknown as ServiceDefinition, this.#handlers);
    }
    const port = await new Promise<number>((resolve, reject) => {
      this.#server.bindAsync(address, this.#credentials, (error, bound) => {
        if (error === null) resolve(bound);
        else
          reject(new SilverbackError('UNAVAILABLE', `cannot listen on ${address}: ${error.message}`, { cause: error }));
      });
    });
    const problem = tune(this.#server, this.#sessions, this.#connections);
    if (problem !== undefined)
      this.#warn(`HTTP/2 windows stay at their default, large batches will be slow, connections unbounded: ${problem}`);
    return port;
  }

  /** Takes no new connections and calls; resolves when the open calls have ended. */
  drain(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.tryShutdown(() => resolve());
    });
  }

  /** Ends everything now: open calls see UNAVAILABLE or CANCELLED. */
  stop(): void {
    this.#server.forceShutdown();
    // With channelz off, grpc-js 1.14 forgets to end the connections that stand.
    for (const session of this.#sessions) session.destroy();
  }

  #add(method: { readonly path: string }, handler: unknown): this {
    this.#methods[method.path] = method as Method<never, never>;
    this.#handlers[method.path] = handler as UntypedServiceImplementation[string];
    return this;
  }

  #context(call: AnyServerCall): CallContext {
    const controller = new AbortController();
    call.on('cancelled', () => controller.abort(gone()));
    return { caller: this.#identify(call.metadata, call.getPeer()), signal: controller.signal };
  }
}

function ignore(): void {
  // On purpose: nobody asked to be told.
}

interface AnyServerCall {
  readonly metadata: Metadata;
  getPeer(): string;
  on(event: 'cancelled', listener: () => void): unknown;
}

function gone(): SilverbackError {
  return new SilverbackError('CANCELLED', 'the caller went away');
}

function drained(call: NodeJS.EventEmitter, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onDrain = () => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    };
    const onAbort = () => {
      call.removeListener('drain', onDrain);
      reject(gone());
    };
    call.once('drain', onDrain);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

/**
 * Raises the receive windows of every connection that the server accepts from now on, and bounds how many there are. grpc-js has
 * an option for the former on the client only, for the latter none, so this reaches for the server's HTTP/2 listeners in a
 * private field; where that has changed, the reason is returned and the defaults stay. Keeps the open connections in `sessions`.
 */
function tune(
  server: Server,
  sessions: Set<ServerHttp2Session>,
  connections: Connections | undefined,
): string | undefined {
  const { http2Servers } = server as unknown as { http2Servers?: unknown };
  if (!(http2Servers instanceof Map) || http2Servers.size === 0)
    return 'grpc-js keeps its listeners elsewhere in this version';
  for (const listener of http2Servers.keys() as Iterable<Http2Server>) {
    if (typeof listener.on !== 'function') return 'the listeners of grpc-js are no HTTP/2 servers in this version';
    connections?.bound(listener);
    listener.on('session', (session: ServerHttp2Session) => {
      session.settings({ initialWindowSize: WINDOW_BYTES });
      session.setLocalWindowSize(WINDOW_BYTES);
      sessions.add(session);
      session.once('close', () => sessions.delete(session));
    });
  }
  return undefined;
}

/**
 * Has a stream that is paused keep one request, not the 16 that Node's streams of objects keep: each may have
 * MAX_MESSAGE_BYTES. Neither Node nor grpc-js has an option for it; were the field to change, they keep 16.
 */
function readAheadOne(call: object): void {
  const { _readableState: state } = call as { _readableState?: { highWaterMark?: unknown } };
  if (typeof state?.highWaterMark === 'number') state.highWaterMark = 1;
}

export interface ChannelSettings {
  readonly clock: Clock;
  /** Default: none (loopback). */
  readonly credentials?: ChannelCredentials;
  /** How this process names itself to the server. */
  readonly caller: string;
}

/** A connection to one server, made on first use, and typed calls over it. */
export class Channel {
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #metadata = new Metadata();

  /** `address` is host:port. */
  constructor(address: string, settings: ChannelSettings) {
    this.#client = new Client(address, settings.credentials ?? channelCredentials.createInsecure(), CHANNEL_OPTIONS);
    this.#clock = settings.clock;
    this.#metadata.set(CALLER_KEY, settings.caller);
  }

  /** Rejects with a SilverbackError. `timeoutMs` counts from now. */
  unary<Request, Reply>(
    method: Method<Request, Reply>,
    request: Request,
    options: { timeoutMs: number; signal?: AbortSignal },
  ): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        this.#metadata,
        this.#deadline(options.timeoutMs),
        (error, reply) => {
          stopListening();
          if (error !== null) reject(fromStatus(error));
          else resolve(reply as Reply);
        },
      );
      const stopListening = cancelOn(options.signal, call);
    });
  }

  /**
   * Calls `receive` for each reply, one at a time: while it returns an unsettled promise, the server is
   * held back. Resolves at the end of the stream; rejects with a SilverbackError, or with what `receive` threw.
   * `timeoutMs` undefined: no deadline.
   */
  stream<Request, Reply>(
    method: Method<Request, Reply>,
    request: Request,
    options: { timeoutMs?: number; signal?: AbortSignal },
    receive: (reply: Reply) => void | Promise<void>,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const call = this.#client.makeServerStreamRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        this.#metadata,
        options.timeoutMs === undefined ? {} : this.#deadline(options.timeoutMs),
      );
      const stopListening = cancelOn(options.signal, call);
      let thrown: { error: unknown } | undefined;
      /** Settled when what came last is taken. */
      let taken: Promise<unknown> = Promise.resolve();
      const fail = (error: unknown) => {
        thrown ??= { error };
        call.cancel();
      };
      call.on('data', (reply: Reply) => {
        if (thrown !== undefined) return;
        try {
          const pending = receive(reply);
          if (pending === undefined) return;
          call.pause();
          taken = pending.then(undefined, fail).then(() => call.resume());
        } catch (error) {
          fail(error);
        }
      });
      call.on('error', (error: ServiceError) => {
        stopListening();
        reject(thrown === undefined ? fromStatus(error) : thrown.error);
      });
      call.on('end', async () => {
        // A stream that has ended says so with its last reply, paused or not.
        await taken;
        stopListening();
        if (thrown === undefined) resolve();
        else reject(thrown.error);
      });
    });
  }

  /** A stream both ways, as grpc-js gives it. Turn what its `error` event carries into a coded error with `fromStatus`. */
  duplex<Request, Reply>(method: Method<Request, Reply>): ClientDuplexStream<Request, Reply> {
    return this.#client.makeBidiStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      this.#metadata,
    );
  }

  close(): void {
    this.#client.close();
  }

  #deadline(timeoutMs: number): CallOptions {
    // gRPC wants a time of the wall clock; it makes a duration of it at once, here and on the wire.
    return { deadline: this.#clock.nowMs() + timeoutMs };
  }
}

function cancelOn(signal: AbortSignal | undefined, call: { cancel(): void }): () => void {
  if (signal === undefined) return ignore;
  const cancel = () => call.cancel();
  if (signal.aborted) cancel();
  signal.addEventListener('abort', cancel, { once: true });
  return () => signal.removeEventListener('abort', cancel);
}

type Status = { code: status; details: string; metadata: Metadata } & Error;

/** A thrown value as a gRPC status. What is not a coded error is a bug and becomes INTERNAL. */
function toStatus(error: unknown): Status {
  const metadata = new Metadata();
  const coded =
    error instanceof SilverbackError ? error : new SilverbackError('INTERNAL', String(error), { cause: error });
  metadata.set(CODE_KEY, coded.code);
  if (coded.retryAfterMs !== undefined) metadata.set(RETRY_KEY, String(Math.ceil(coded.retryAfterMs)));
  return Object.assign(new Error(coded.message), {
    code: coded.grpcStatus as status,
    details: coded.message,
    metadata,
  });
}

/** Codes for statuses that grpc itself made, without our trailers. */
const CODE_OF_STATUS: Partial<Record<status, ErrorCode>> = {
  [status.CANCELLED]: 'CANCELLED',
  [status.DEADLINE_EXCEEDED]: 'TIMEOUT',
  [status.INVALID_ARGUMENT]: 'INVALID_ARGUMENT',
  [status.NOT_FOUND]: 'NOT_FOUND',
  [status.UNAVAILABLE]: 'UNAVAILABLE',
  [status.UNIMPLEMENTED]: 'VERSION',
  // grpc-js answers so when a message is over the limit, at either end.
  [status.RESOURCE_EXHAUSTED]: 'TOO_LARGE',
};

/**
 * Whether a call's error says that not a byte of it left this process. grpc-js tells this in words only; were they
 * to change, the answer becomes false, which claims less.
 */
export function wasNeverSent(error: Error): boolean {
  return /^(No connection established|Name resolution failed)/.test((error as Partial<ServiceError>).details ?? '');
}

/** A gRPC status as the coded error it stands for. */
export function fromStatus(error: Error): SilverbackError {
  // Every error of a call is a ServiceError; streams type it as Error.
  const { code: grpcCode, details, metadata } = error as Partial<ServiceError>;
  const code = metadata?.get(CODE_KEY)[0];
  const retry = Number(metadata?.get(RETRY_KEY)[0] ?? Number.NaN);
  const message = details ?? error.message;
  if (typeof code === 'string' && isErrorCode(code)) {
    return new SilverbackError(code, message, { cause: error, ...(retry >= 0 ? { retryAfterMs: retry } : {}) });
  }
  const known = grpcCode === undefined ? undefined : CODE_OF_STATUS[grpcCode];
  return new SilverbackError(known ?? 'INTERNAL', message, { cause: error });
}

/**
 * The error of a stream that this side did not end. Statuses that grpc made itself for it, such as one that ended without a status
 * because its server stopped, say that the connection is gone, whatever they are called.
 */
export function brokenBy(error: Error): SilverbackError {
  const known = fromStatus(error);
  const isCoded = (error as Partial<ServiceError>).metadata?.get(CODE_KEY)[0] !== undefined;
  if (isCoded || (known.code !== 'INTERNAL' && known.code !== 'CANCELLED')) return known;
  return new SilverbackError('UNAVAILABLE', known.message, { cause: error });
}
