/**
 * Where shards live, as a client sees it: the stream of placements that a coordinator keeps sending,
 * or a fixed one.
 */

import type { Env } from '../core/env/env.ts';
import { SilverbackError } from '../core/errors.ts';
import { Channel, type ChannelCredentials } from '../core/grpc.ts';
import type { Copy, CopyState, Placement, PlacementView } from '../core/placement.ts';
import { clusterService, type PlacementReply } from '../core/protocol.ts';
import { backoffMs } from './backoff.ts';

export interface FollowOptions {
  readonly env: Env;
  /** host:port of coordinators, tried in turn. At least one. */
  readonly endpoints: readonly string[];
  readonly caller: string;
  readonly credentials?: ChannelCredentials;
  /** How long `refresh` waits for an answer. Default 5 s. */
  readonly refreshMs?: number;
}

/**
 * Follows the placement over `Cluster.Placement`. A broken stream is taken up again at the next
 * endpoint, with backoff; meanwhile the last placement stays in force: a cluster without
 * coordinators still takes writes from clients that know it.
 */
export class FollowedPlacement implements PlacementView {
  readonly #options: FollowOptions;
  readonly #channels: Channel[];
  readonly #listeners = new Set<(placement: Placement) => void>();
  readonly #stop = new AbortController();
  #placement: Placement | undefined;
  #refreshing: Promise<Placement> | undefined;
  #problem = 'no answer yet';

  constructor(options: FollowOptions) {
    if (options.endpoints.length === 0) {
      throw new SilverbackError('INVALID_ARGUMENT', 'endpoints: at least one host:port of a coordinator is needed');
    }
    this.#options = options;
    this.#channels = options.endpoints.map(
      (address) =>
        new Channel(address, { clock: options.env.clock, caller: options.caller, ...credentialsOf(options) }),
    );
    this.#follow(0, 0);
  }

  current(): Placement | undefined {
    return this.#placement;
  }

  /** Rejects with UNAVAILABLE when no endpoint answers in time. Calls made meanwhile share one request. */
  refresh(): Promise<Placement> {
    this.#refreshing ??= this.#ask().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  onChange(listener: (placement: Placement) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#stop.abort();
    for (const channel of this.#channels) channel.close();
  }

  #follow(endpoint: number, failures: number): void {
    const channel = this.#channels[endpoint % this.#channels.length] as Channel;
    let answered = false;
    const again = (problem: string) => {
      if (this.#stop.signal.aborted) return;
      this.#problem = problem;
      const count = answered ? 0 : failures + 1;
      this.#options.env.timers.after(backoffMs(this.#options.env.random, count), () => {
        if (!this.#stop.signal.aborted) this.#follow(endpoint + 1, count);
      });
    };
    channel
      .stream(clusterService.Placement, {}, { signal: this.#stop.signal }, (reply) => {
        answered = true;
        this.#take(reply);
      })
      .then(
        () => again('the coordinator ended the stream'),
        (error: Error) => again(error.message),
      );
  }

  async #ask(): Promise<Placement> {
    const timeoutMs = this.#options.refreshMs ?? 5_000;
    // Every endpoint at once, the first answer counts: a coordinator that hangs costs nothing.
    const found = new AbortController();
    const asked = this.#channels.map(async (channel) => {
      let placement: Placement | undefined;
      const signal = AbortSignal.any([found.signal, this.#stop.signal]);
      const stream = channel.stream(clusterService.Placement, {}, { timeoutMs, signal }, (reply) => {
        placement = this.#take(reply);
        found.abort();
      });
      await stream.catch((error: unknown) => {
        if (placement === undefined) throw error;
      });
      if (placement === undefined) throw new SilverbackError('UNAVAILABLE', 'the coordinator ended the stream');
      return placement;
    });
    try {
      return await Promise.any(asked);
    } catch (error) {
      const reason = error instanceof AggregateError ? (error.errors[0] as Error).message : this.#problem;
      throw new SilverbackError('UNAVAILABLE', `no placement from ${this.#options.endpoints.join(', ')}: ${reason}`);
    }
  }

  /** Keeps the newest: the streams of two coordinators may overtake one another. */
  #take(reply: PlacementReply): Placement {
    const known = this.#placement;
    if (known !== undefined && known.clusterId === reply.clusterId && known.revision >= reply.revision) return known;
    const placement = fromReply(reply);
    this.#placement = placement;
    for (const listener of this.#listeners) listener(placement);
    return placement;
  }
}

/** A placement that does not change by itself: for tests and for a program that drives nodes without a coordinator. */
export class StaticPlacement implements PlacementView {
  readonly #listeners = new Set<(placement: Placement) => void>();
  #placement: Placement;

  constructor(placement: Placement) {
    this.#placement = placement;
  }

  current(): Placement {
    return this.#placement;
  }

  refresh(): Promise<Placement> {
    return Promise.resolve(this.#placement);
  }

  onChange(listener: (placement: Placement) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Puts another placement in force and tells the listeners. */
  set(placement: Placement): void {
    this.#placement = placement;
    for (const listener of this.#listeners) listener(placement);
  }
}

/** A placement as it travels. */
export function toReply(placement: Placement): PlacementReply {
  return {
    clusterId: placement.clusterId,
    shardCount: placement.shardCount,
    revision: placement.revision,
    shards: placement.copies.map((copies) => ({ copies: copies.map((copy) => ({ ...copy, from: copy.from ?? '' })) })),
  };
}

/** The copies of a shard in the order in which to try them: the home region first, whole copies before joining ones. */
export function preferred(copies: readonly Copy[], region: string | undefined, states: readonly CopyState[]): Copy[] {
  const rank = (copy: Copy) =>
    (region !== undefined && copy.region !== region ? states.length : 0) + states.indexOf(copy.state);
  return copies.filter((copy) => states.includes(copy.state)).sort((a, b) => rank(a) - rank(b));
}

function fromReply(reply: PlacementReply): Placement {
  return {
    clusterId: reply.clusterId,
    shardCount: reply.shardCount,
    revision: reply.revision,
    copies: reply.shards.map((shard) =>
      shard.copies.map(({ from, ...copy }) => ({
        ...copy,
        state: stateOf(copy.state),
        ...(from !== '' && { from }),
      })),
    ),
  };
}

/** A state this version does not know is one it must not write to or count on. */
function stateOf(word: string): CopyState {
  return word === 'active' || word === 'joining' ? word : 'leaving';
}

function credentialsOf(options: FollowOptions): { credentials?: ChannelCredentials } {
  return options.credentials === undefined ? {} : { credentials: options.credentials };
}
