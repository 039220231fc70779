/**
 * Deletes in every copy of every shard that the placement names, and takes out there what is deleted. A copy that did not
 * do it is named in the error; asking again is harmless.
 */
import { Channels } from '../core/channels.ts';
import type { Env } from '../core/env/env.ts';
import { type ErrorCode, SilverbackError } from '../core/errors.ts';
import type { Channel, ChannelCredentials } from '../core/grpc.ts';
import type { Matcher } from '../core/matchers.ts';
import type { PlacementView } from '../core/placement.ts';
import { type EraseReply, shardsService } from '../core/protocol.ts';
import { type Hello, helloOf, SPOKEN } from '../core/versions.ts';
import { toWire } from './reader.ts';

export interface EraserOptions {
  readonly env: Env;
  readonly placement: PlacementView;
  readonly caller: string;
  readonly credentials?: ChannelCredentials;
}

export interface EraseContext {
  readonly signal: AbortSignal;
  /** How long a node may take. Default 2 minutes for a deletion, 30 for cleaning. */
  readonly timeoutMs?: number;
}

interface Failure {
  readonly shard: number;
  readonly address: string;
  readonly code: ErrorCode;
  readonly message: string;
}

const DELETE_TIMEOUT_MS = 120_000;
const CLEAN_TIMEOUT_MS = 1_800_000;
/** Failures that an error spells out. */
const MAX_NAMED = 8;

/** The door. Every method rejects with a SilverbackError. */
export class Eraser {
  readonly #options: EraserOptions;
  readonly #channels: Channels;

  constructor(options: EraserOptions) {
    this.#options = options;
    const { env, caller, credentials } = options;
    this.#channels = new Channels({ env, caller, ...(credentials && { credentials }) });
  }

  /**
   * Deletes what the series that match all of `matchers` hold, or will ever be given, from `fromMs` up to and with `toMs`.
   * Resolves once every copy has it on its disk.
   */
  delete(matchers: readonly Matcher[], fromMs: number, toMs: number, context: EraseContext): Promise<void> {
    const request = { matchers: matchers.map(toWire), fromMs, toMs };
    const { signal, timeoutMs = DELETE_TIMEOUT_MS } = context;
    return this.#everywhere('deleted', (channel, hello, shards) =>
      channel.unary(shardsService.Delete, { ...request, hello, shards }, { timeoutMs, signal }),
    );
  }

  /** Takes what is deleted out of the blocks of every copy. */
  clean({ signal, timeoutMs = CLEAN_TIMEOUT_MS }: EraseContext): Promise<void> {
    return this.#everywhere('cleaned', (channel, hello, shards) =>
      channel.unary(shardsService.Clean, { hello, shards }, { timeoutMs, signal }),
    );
  }

  close(): void {
    this.#channels.close();
  }

  async #everywhere(
    done: string,
    ask: (channel: Channel, hello: Hello, shards: readonly number[]) => Promise<EraseReply>,
  ): Promise<void> {
    const { clusterId, copies } = await this.#options.placement.refresh();
    const hello = helloOf(SPOKEN, clusterId, this.#options.caller);
    const failures: Failure[] = [];
    const shardsOf = new Map<string, number[]>();
    for (const [shard, places] of copies.entries()) {
      if (places.length === 0) {
        failures.push({ shard, address: 'nowhere', code: 'UNAVAILABLE', message: 'no node holds it' });
      }
      for (const { address } of places) {
        const shards = shardsOf.get(address);
        if (shards === undefined) shardsOf.set(address, [shard]);
        else shards.push(shard);
      }
    }
    await Promise.all(
      Array.from(shardsOf, async ([address, shards]) => {
        try {
          const reply = await ask(this.#channels.to(address), hello, shards);
          for (const failure of reply.failures) failures.push({ ...failure, code: failure.code as ErrorCode, address });
        } catch (error) {
          if (!(error instanceof SilverbackError)) throw error;
          for (const shard of shards) failures.push({ shard, address, code: error.code, message: error.message });
        }
      }),
    );
    if (failures.length > 0) throw notEverywhere(done, failures);
  }
}

function notEverywhere(done: string, failures: readonly Failure[]): SilverbackError {
  const refusal = failures.find(({ code }) => code === 'INVALID_ARGUMENT');
  // What is wrong with the request is wrong everywhere.
  if (refusal !== undefined) return new SilverbackError('INVALID_ARGUMENT', refusal.message);
  const named = failures
    .slice(0, MAX_NAMED)
    .map(({ shard, address, message }) => `shard ${shard} at ${address}: ${message}`);
  const more = failures.length > MAX_NAMED ? `; and ${failures.length - MAX_NAMED} more` : '';
  const message = `not ${done} in ${failures.length} copies (asking again is harmless): ${named.join('; ')}${more}`;
  return new SilverbackError('UNAVAILABLE', message, { retryAfterMs: 1000 });
}
