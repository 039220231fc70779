/** A coordinator's meta store from another process: the same interface over gRPC. */
import type { Env } from '../env/env.ts';
import { SilverbackError } from '../errors.ts';
import { Channel, type ChannelCredentials } from '../grpc.ts';
import type { Method } from '../protocol.ts';
import { fromWireEntry, fromWireEvent, metaMethods, toWireChange } from './protocol.ts';
import type { LeaseId, MetaStore, WatchHandler } from './store.ts';

export interface RemoteMetaOptions {
  /** host:port of a coordinator. */
  readonly address: string;
  /** How this process names itself. */
  readonly caller: string;
  readonly credentials?: ChannelCredentials;
  /** How long a call may take. */
  readonly timeoutMs?: number;
}

/** Connects on first use, and again whenever the connection broke. Calls while it is broken fail with UNAVAILABLE. */
export function connectMeta(env: Env, options: RemoteMetaOptions): MetaStore {
  const channel = new Channel(options.address, {
    clock: env.clock,
    caller: options.caller,
    ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
  });
  const timeoutMs = options.timeoutMs ?? 3_000;
  const closing = new AbortController();

  const call = async <Request, Reply>(method: Method<Request, Reply>, request: Request): Promise<Reply> => {
    if (closing.signal.aborted) throw closedError();
    try {
      return await channel.unary(method, request, { timeoutMs, signal: closing.signal });
    } catch (error) {
      throw unreachable(error, options.address);
    }
  };

  return {
    async commit(conditions, changes) {
      return (await call(metaMethods.Commit, { conditions, changes: changes.map(toWireChange) })).revision;
    },
    async get(key) {
      const { entry } = await call(metaMethods.Get, { key });
      return entry === null ? undefined : fromWireEntry(entry);
    },
    async range(prefix) {
      const { revision, entries } = await call(metaMethods.Range, { prefix });
      return { revision, entries: entries.map(fromWireEntry) };
    },
    async grantLease(ttlMs) {
      return (await call(metaMethods.GrantLease, { ttlMs })).lease as LeaseId;
    },
    async renewLease(lease) {
      await call(metaMethods.RenewLease, { lease });
    },
    async revokeLease(lease) {
      await call(metaMethods.RevokeLease, { lease });
    },
    watch(prefix, fromRevision, handler: WatchHandler) {
      const stop = new AbortController();
      const { signal } = stop;
      const end = (error: unknown): void => {
        if (signal.aborted) return;
        stop.abort();
        handler.ended(unreachable(error, options.address));
      };
      const closed = (): void => end(closedError());
      closing.signal.addEventListener('abort', closed, { once: true });
      channel
        .stream(metaMethods.Watch, { prefix, fromRevision }, { signal }, ({ revision, events }) => {
          if (events.length > 0 && !signal.aborted) handler.events(events.map(fromWireEvent), revision);
        })
        .then(() => end(new SilverbackError('UNAVAILABLE', `meta store at ${options.address}: the watch ended`)), end)
        .finally(() => closing.signal.removeEventListener('abort', closed));
      return { close: () => stop.abort() };
    },
    async close() {
      closing.abort();
      channel.close();
    },
  };
}

function closedError(): SilverbackError {
  return new SilverbackError('UNAVAILABLE', 'meta store: closed');
}

/** Out of time, broken off and unreachable are one thing to a caller: whether the call was carried out is unknown. */
function unreachable(error: unknown, address: string): Error {
  if (!(error instanceof SilverbackError)) return error as Error;
  if (error.code !== 'TIMEOUT' && error.code !== 'CANCELLED' && error.code !== 'UNAVAILABLE') return error;
  return new SilverbackError('UNAVAILABLE', `meta store at ${address}: ${error.message}`, { cause: error });
}
