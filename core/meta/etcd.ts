/**
 * The meta store in an etcd cluster, through the `etcd3` package: of it the connections, endpoints, credentials and
 * typed calls, and nothing that retries or renews by itself. Its Election can have two leaders after a restart of etcd and
 * its Lease notices a cut too late; ours (election.ts, lease.ts) are built on conditions and on the holder's clock.
 *
 * No call is repeated that may have been carried out: a commit whose answer was lost is UNAVAILABLE, and never a
 * CONFLICT with itself. etcd keeps leases in whole seconds and no shorter than about one and a half of its elections: a
 * lease may live longer than asked, never less.
 */
import { type CallOptions, InterceptingCall, type InterceptorOptions, type NextCall } from '@grpc/grpc-js';
import { BrokenCircuitError, ConsecutiveBreaker, circuitBreaker, handleWhen, noop } from 'cockatiel';
import {
  ClientClosedError,
  Etcd3,
  EtcdAuthenticationFailedError,
  EtcdError,
  EtcdInvalidAuthTokenError,
  EtcdLeaseInvalidError,
  EtcdPermissionDeniedError,
  EtcdUserNotFoundError,
  GRPCGenericError,
  GRPCInvalidArgumentError,
  GRPCResourceExhastedError,
  type ICompare,
  type IEvent,
  type IKeyValue,
  type IRequestOp,
  type IWatchResponse,
  isRecoverableError,
} from 'etcd3';
import type { Env } from '../env/env.ts';
import { SilverbackError } from '../errors.ts';
import { checkSize, checkTtl } from './bounds.ts';
import {
  type Change,
  type Entry,
  type Event,
  type LeaseId,
  type MetaStore,
  StoreRefused,
  type Watch,
  type WatchHandler,
} from './store.ts';

export interface EtcdOptions {
  /** host:port of etcd's members, at least one. */
  readonly endpoints: readonly string[];
  /** What all keys begin with, so that an etcd can hold more than one cluster. */
  readonly prefix: string;
  /** PEM. Undefined: no TLS. */
  readonly tls?: { readonly ca: Uint8Array; readonly cert?: Uint8Array; readonly key?: Uint8Array };
  readonly auth?: { readonly user: string; readonly password: string };
  /** How long a call may take. */
  readonly timeoutMs?: number;
}

/** A watch may have to catch up on many placements at once. */
const MESSAGE_BYTES_MOST = 64 << 20;
/** A member that did not answer is not asked again for this long, where there are others. */
const AVOID_MS = 1_000;

/**
 * Connects on first use, and again whenever the connection broke. Calls while it is broken fail with UNAVAILABLE.
 * @throws SilverbackError INVALID_ARGUMENT for certificates and keys that cannot be used
 */
export function connectEtcd(env: Env, options: EtcdOptions): MetaStore {
  try {
    return new EtcdMeta(env, options);
  } catch (error) {
    const message = `--etcd-ca, --etcd-cert, --etcd-key: these files cannot be used: ${(error as Error).message}`;
    throw new SilverbackError('INVALID_ARGUMENT', message, { cause: error });
  }
}

class EtcdMeta implements MetaStore {
  readonly #env: Env;
  readonly #client: Etcd3;
  readonly #name: string;
  readonly #prefix: string;
  readonly #timeoutMs: number;
  readonly #triesMost: number;
  readonly #auth: EtcdOptions['auth'];
  /** Ends each watch that is open. */
  readonly #watches = new Set<(error: Error) => void>();
  /** Why there was no connection, as it was said when one was tried last: calls in between are told nothing. */
  #trouble = '';
  #closed = false;

  constructor(env: Env, { endpoints, prefix, tls, auth, timeoutMs = 3_000 }: EtcdOptions) {
    this.#env = env;
    this.#name = `meta store: etcd at ${endpoints.join(', ')}`;
    this.#prefix = prefix;
    this.#timeoutMs = timeoutMs;
    this.#triesMost = endpoints.length;
    this.#auth = auth;
    const alone = endpoints.length === 1;
    this.#client = new Etcd3({
      hosts: [...endpoints],
      ...(tls === undefined
        ? {}
        : {
            credentials: {
              rootCertificate: Buffer.from(tls.ca),
              ...(tls.key === undefined ? {} : { privateKey: Buffer.from(tls.key) }),
              ...(tls.cert === undefined ? {} : { certChain: Buffer.from(tls.cert) }),
            },
          }),
      ...(auth === undefined
        ? {}
        : { auth: { username: auth.user, password: auth.password, callOptions: () => this.#deadline() } }),
      grpcOptions: {
        'grpc.max_receive_message_length': MESSAGE_BYTES_MOST,
        // A cut connection closes no watch: only pings find out.
        'grpc.keepalive_time_ms': 10_000,
        'grpc.keepalive_timeout_ms': 5_000,
        'grpc.initial_reconnect_backoff_ms': 100,
        'grpc.max_reconnect_backoff_ms': 2_000,
        'grpc.enable_retries': 0,
        'grpc.enable_http_proxy': 0,
      },
      defaultCallOptions: ({ isStream }) => (isStream ? { interceptors: [requireLeader] } : this.#deadline()),
      faultHandling: {
        global: noop,
        host: () =>
          alone
            ? noop
            : circuitBreaker(handleWhen(isRecoverableError), {
                halfOpenAfter: AVOID_MS,
                breaker: new ConsecutiveBreaker(1),
              }),
      },
    });
  }

  async commit(conditions: Parameters<MetaStore['commit']>[0], changes: readonly Change[]): Promise<number> {
    for (const change of changes) checkSize(change);
    const compare: ICompare[] = conditions.map(({ key, revision }) => ({
      key: this.#key(key),
      target: 'Mod',
      result: 'Equal',
      mod_revision: revision,
    }));
    const success = this.#requests(changes);
    // When a condition fails, the same transaction says which.
    const failure = conditions.map(({ key }) => ({ request_range: { key: this.#key(key), keys_only: true } }));
    const { succeeded, header, responses } = await this.#call(
      (client) => client.kv.txn({ compare, success, failure }),
      {
        repeatable: false,
      },
    );
    if (succeeded) return Number(header.revision);
    const found = responses.map(({ response_range }) => Number(response_range.kvs[0]?.mod_revision ?? 0));
    const at = conditions.findIndex(({ revision }, i) => revision !== found[i]);
    const { key, revision } = conditions[at]!;
    throw new SilverbackError('CONFLICT', `meta store: ${key} is at revision ${found[at]}, expected ${revision}`);
  }

  async get(key: string): Promise<Entry | undefined> {
    const { kvs } = await this.#call((client) => client.kv.range({ key: this.#key(key) }));
    return kvs[0] === undefined ? undefined : this.#entry(kvs[0]);
  }

  async range(prefix: string): Promise<{ revision: number; entries: Entry[] }> {
    const { header, kvs } = await this.#call((client) => client.kv.range(this.#under(prefix)));
    return { revision: Number(header.revision), entries: kvs.map((kv) => this.#entry(kv)) };
  }

  async grantLease(ttlMs: number): Promise<LeaseId> {
    checkTtl(ttlMs);
    // A grant whose answer is lost leaves a lease that nobody knows, which ends by itself.
    const granted = await this.#call((client) => client.leaseClient.leaseGrant({ TTL: Math.ceil(ttlMs / 1_000) }));
    return toLeaseId(granted.ID);
  }

  async renewLease(lease: LeaseId): Promise<void> {
    const id = fromLeaseId(lease);
    const renew = async (): Promise<number> => (id === undefined ? 0 : await this.#keepAlive(id));
    const ttl = await this.#call(renew);
    if (ttl <= 0) throw new SilverbackError('NOT_FOUND', `lease ${lease} has ended`);
  }

  async revokeLease(lease: LeaseId): Promise<void> {
    const id = fromLeaseId(lease);
    if (id === undefined) return;
    try {
      await this.#call((client) => client.leaseClient.leaseRevoke({ ID: id }));
    } catch (error) {
      if (!(error instanceof SilverbackError && error.code === 'NOT_FOUND')) throw error;
    }
  }

  watch(prefix: string, fromRevision: number, handler: WatchHandler): Watch {
    let over = false;
    let close: () => void = () => undefined;
    const finish = (): void => {
      over = true;
      this.#watches.delete(end);
      unanswered.cancel();
      close();
    };
    const end = (error: Error): void => {
      if (over) return;
      finish();
      handler.ended(error);
    };
    const unanswered = this.#env.timers.after(this.#timeoutMs, () =>
      end(this.#away('a watch was not answered in time')),
    );
    const receive = ({ created, canceled, cancel_reason, compact_revision, events }: IWatchResponse): void => {
      if (over) return;
      if (created) unanswered.cancel();
      if (Number(compact_revision) > 0) {
        const message = `meta store: revision ${fromRevision} is gone, ${compact_revision} is the first kept`;
        end(new SilverbackError('COMPACTED', message));
      } else if (canceled) {
        end(this.#away(`a watch was ended: ${cancel_reason}`));
      } else if (events.length > 0) {
        const told = events.map((event) => this.#event(event));
        handler.events(told, told.at(-1)!.revision);
      }
    };
    this.#watches.add(end);
    const opening = this.#closed ? Promise.reject(this.#closedError()) : this.#client.watchClient.watch();
    opening.then(
      (stream) => {
        close = () => abandon(stream);
        if (over) return close();
        stream.on('data', receive);
        stream.on('error', (error) => end(this.#coded(error)));
        stream.on('end', () => end(this.#away('a watch ended')));
        // etcd takes 0 for "from now on".
        stream.write({ create_request: { ...this.#under(prefix), start_revision: Math.max(1, fromRevision) } });
      },
      (error: Error) => end(this.#coded(error)),
    );
    return {
      close() {
        if (!over) finish();
      },
    };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const end of [...this.#watches]) end(this.#closedError());
    this.#client.close();
  }

  /**
   * Makes a call; where there are more members, again over another one when that is safe: when it does no harm to do
   * it twice, or when it was never sent.
   */
  async #call<T>(call: (client: Etcd3) => Promise<T>, { repeatable } = { repeatable: true }): Promise<T> {
    for (let tries = 1; ; tries++) {
      if (this.#closed) throw this.#closedError();
      try {
        const answer = await call(this.#client);
        this.#trouble = '';
        return answer;
      } catch (error) {
        const again = repeatable || /No connection established|Name resolution failed/.test((error as Error).message);
        const away = error instanceof Error && isRecoverableError(error);
        if (!(away && again && tries < this.#triesMost)) throw this.#coded(error);
      }
    }
  }

  /** @returns the seconds that the lease has now; 0 when it has ended */
  async #keepAlive(id: string): Promise<number> {
    const stream = await this.#client.leaseClient.leaseKeepAlive();
    let late: { cancel(): void } | undefined;
    try {
      return await new Promise((resolve, reject) => {
        late = this.#env.timers.after(this.#timeoutMs, () => reject(this.#away('a renewal was not answered in time')));
        stream.on('data', ({ TTL }) => resolve(Number(TTL)));
        stream.on('error', reject);
        stream.on('end', () => reject(this.#away('a renewal was not answered')));
        stream.write({ ID: id });
      });
    } finally {
      late?.cancel();
      abandon(stream);
    }
  }

  #requests(changes: readonly Change[]): IRequestOp[] {
    return changes.map((change) =>
      'put' in change
        ? {
            request_put: {
              key: this.#key(change.put),
              value: Buffer.from(change.value),
              // An id that none of etcd's leases can have is sent as one that none has.
              ...(change.lease === undefined ? {} : { lease: fromLeaseId(change.lease) ?? '-1' }),
            },
          }
        : { request_delete_range: { key: this.#key(change.remove) } },
    );
  }

  #deadline(): CallOptions {
    return { deadline: this.#env.clock.nowMs() + this.#timeoutMs };
  }

  #key(key: string): Buffer {
    return Buffer.from(this.#prefix + key);
  }

  #under(prefix: string): { key: Buffer; range_end: Buffer } {
    const key = this.#key(prefix);
    const end = Buffer.from(key);
    // No byte of UTF-8 is 0xff.
    end[end.length - 1]! += 1;
    return { key, range_end: end };
  }

  #entry({ key, value, mod_revision, lease }: IKeyValue): Entry {
    return {
      key: key.toString().slice(this.#prefix.length),
      value: value.toString(),
      revision: Number(mod_revision),
      lease: lease === '0' ? undefined : toLeaseId(lease),
    };
  }

  #event({ type, kv }: IEvent): Event {
    const entry = this.#entry(kv);
    return { key: entry.key, revision: entry.revision, entry: type === 'Delete' ? undefined : entry };
  }

  /** @returns why etcd will not have us, or we not it, in words; undefined for any other error, of which `#trouble` may know more */
  #refusal(error: Error): string | undefined {
    const who = this.#auth === undefined ? 'who gives no --etcd-user' : `user ${this.#auth.user}`;
    if (error instanceof EtcdAuthenticationFailedError || error instanceof EtcdUserNotFoundError) {
      return `it does not take ${who} with this password`;
    }
    if (error instanceof EtcdPermissionDeniedError) return `${who} may not use the keys under ${this.#prefix}`;
    if (/authentication is not enabled/.test(error.message)) return `it knows no users, and ${who} was given`;
    const reason = /No connection established\. Last error: (.*?)( \([^)]*Z\))?\. Resolution note/s.exec(
      error.message,
    )?.[1];
    if (reason === undefined) {
      this.#trouble = '';
      return undefined;
    }
    if (reason !== 'null')
      this.#trouble = `no connection: ${reason.replace(/^Error: |^[0-9A-F]+:error:[0-9A-F]+:/, '').trim()}`;
    const meaning = TLS_TROUBLE.find(([pattern]) => pattern.test(this.#trouble))?.[1];
    return meaning && `${meaning} (${this.#trouble})`;
  }

  #away(what: string): SilverbackError {
    return new SilverbackError('UNAVAILABLE', `${this.#name}: ${what}`);
  }

  #closedError(): SilverbackError {
    return new SilverbackError('UNAVAILABLE', 'meta store: closed');
  }

  /** What is not etcd's own answer to this call says that it is away, or away for us; whether the call was carried out is unknown. */
  #coded(error: unknown): Error {
    if (!(error instanceof Error) || error instanceof SilverbackError) return error as Error;
    const refusal = this.#refusal(error);
    if (refusal !== undefined) return new StoreRefused(`${this.#name}: ${refusal}`, error);
    const message = `${this.#name}: ${this.#trouble || error.message}`;
    if (error instanceof EtcdLeaseInvalidError) {
      return new SilverbackError('NOT_FOUND', `${this.#name}: the lease has ended`, { cause: error });
    }
    if (error instanceof GRPCInvalidArgumentError) {
      return new SilverbackError('INVALID_ARGUMENT', message, { cause: error });
    }
    if (error instanceof GRPCResourceExhastedError) {
      return new SilverbackError('RESOURCE_EXHAUSTED', message, { cause: error });
    }
    if (AWAY.some((kind) => error instanceof kind) || 'code' in error) {
      return new SilverbackError('UNAVAILABLE', message, { cause: error });
    }
    return error;
  }
}

/** What TLS libraries say when one side will not have the other, and what it means. */
const TLS_TROUBLE: readonly (readonly [RegExp, string])[] = [
  [/unable to (verify|get)|self-signed/i, 'its certificate is not signed by the authority in --etcd-ca'],
  [/altnames|does not match/i, 'its certificate is for another name'],
  [/alert/i, 'it does not take the certificate in --etcd-cert, or wants one'],
  [/before secure TLS|wrong version number/i, 'it does not speak TLS'],
  [/certificate|SSL routines/i, 'its certificate is not good'],
];
const AWAY = [GRPCGenericError, EtcdError, EtcdInvalidAuthTokenError, BrokenCircuitError, ClientClosedError];

/** A member that lost its leader ends the stream, instead of keeping it open and silent. */
function requireLeader(options: InterceptorOptions, nextCall: NextCall): InterceptingCall {
  return new InterceptingCall(nextCall(options), {
    start(metadata, listener, next) {
      // etcd3 keeps one metadata object for all of its calls.
      const own = metadata.clone();
      own.set('hasleader', 'true');
      next(own, listener);
    },
  });
}

/** etcd3 takes the error of a stream that can still be written to for a failure of its member. */
function abandon(stream: { end(): unknown; cancel(): void }): void {
  stream.end();
  stream.cancel();
}

/** etcd's ids are 64-bit numbers, which it prints as hexadecimal; so do we. */
function toLeaseId(decimal: string): LeaseId {
  return BigInt.asUintN(64, BigInt(decimal)).toString(16).padStart(16, '0') as LeaseId;
}

function fromLeaseId(lease: LeaseId): string | undefined {
  return /^[0-9a-f]{16}$/.test(lease) ? BigInt.asIntN(64, BigInt(`0x${lease}`)).toString() : undefined;
}
