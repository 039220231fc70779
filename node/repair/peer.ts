/** Another copy of a shard, as repair sees it, and how it is reached over gRPC. */
import type { Env } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import { Channel } from '../../core/grpc.ts';
import type { Copy } from '../../core/placement.ts';
import {
  type CompareReply,
  type CompareRequest,
  type FetchReply,
  type FetchRequest,
  type Method,
  shardsService,
} from '../../core/protocol.ts';
import { helloOf, SPOKEN, type Spoken } from '../../core/versions.ts';

export type Question = Omit<CompareRequest, 'hello' | 'region' | 'node'>;
export type Wish = Omit<FetchRequest, 'hello'>;

/** Replies come one at a time: the next when what `receive` returned is settled. Both reject with a SilverbackError. */
export interface Peer {
  /** `region/node`. */
  readonly name: string;
  compare(question: Question, signal: AbortSignal, receive: (reply: CompareReply) => void): Promise<void>;
  fetch(wish: Wish, signal: AbortSignal, receive: (reply: FetchReply) => Promise<void>): Promise<void>;
  close(): void;
}

/** Who asks. */
export interface Asker {
  readonly env: Env;
  readonly region: string;
  readonly node: string;
  readonly clusterId: string;
  /** Default: all that this program speaks. */
  readonly spoken?: Spoken;
}

/** Without a reply for this long, a peer hangs. It may have to digest a large window. */
const SILENCE_MS = 60_000;

export function connectPeer(asker: Asker, copy: Copy): Peer {
  const { env, region, node, clusterId } = asker;
  const caller = `${region}/${node}`;
  const hello = helloOf(asker.spoken ?? SPOKEN, clusterId, caller);
  const channel = new Channel(copy.address, { clock: env.clock, caller });
  const name = `${copy.region}/${copy.node}`;

  async function stream<Request, Reply>(
    method: Method<Request, Reply>,
    request: Request,
    signal: AbortSignal,
    receive: (reply: Reply) => void | Promise<void>,
  ): Promise<void> {
    const silence = new AbortController();
    const startTimer = () => env.timers.after(SILENCE_MS, () => silence.abort());
    let timer = startTimer();
    try {
      await channel.stream(method, request, { signal: AbortSignal.any([signal, silence.signal]) }, async (reply) => {
        timer.cancel();
        await receive(reply);
        timer = startTimer();
      });
    } catch (error) {
      signal.throwIfAborted();
      if (!silence.signal.aborted) throw error;
      throw new SilverbackError('UNAVAILABLE', `${name} at ${copy.address} said nothing for ${SILENCE_MS / 1_000} s`);
    } finally {
      timer.cancel();
    }
  }

  return {
    name,
    compare: (question, signal, receive) =>
      stream(shardsService.Compare, { ...question, hello, region, node }, signal, receive),
    fetch: (wish, signal, receive) => stream(shardsService.Fetch, { ...wish, hello }, signal, receive),
    close: () => channel.close(),
  };
}
