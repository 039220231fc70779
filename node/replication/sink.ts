/**
 * The receiving end of a `Replicate` stream: records go to their shards in order, and are acknowledged once the shard's own
 * log has them: at once where somebody waits for that, else several in one answer. A shard that cannot take them says so, and what
 * follows of that attempt is passed over.
 */

import type { Env, Timer } from '../../core/env/env.ts';
import { messageOf, SilverbackError, wireCode } from '../../core/errors.ts';
import type { Duplex } from '../../core/grpc.ts';
import type {
  ReceivingLog,
  ReplicateReply,
  ReplicateRequest,
  ShardProgress,
  ShardRecords,
} from '../../core/protocol.ts';
import { toWire, type WireVersions } from '../../core/versions.ts';
import { type Greeted, greet } from '../hello.ts';
import type { Node } from '../node.ts';
import type { Replica } from '../shard/replica.ts';
import type { Shard } from '../shard/shard.ts';
import type { Frontiers } from './frontiers.ts';
import type { Origins } from './origins.ts';
import type { Pace } from './pace.ts';

export interface SinkContext {
  readonly env: Env;
  readonly node: Greeted & Pick<Node, 'find'>;
  readonly origins: Origins;
  readonly frontiers: Frontiers;
  readonly pace: Pick<Pace, 'spend'>;
}

/** An answer that nobody waits for is kept for others to go with it, so long ... */
const GATHER_MS = 20;
/** ... and no longer than until it is about so much, or the sender would run out of what it may have under way. */
const GATHER_BYTES = 256 * 1024;
/** How often the sender hears what survives a power cut. */
const DURABLE_MS = 250;

/** Serves a stream until its end. */
export function serveReplication(call: Duplex<ReplicateRequest, ReplicateReply>, context: SinkContext): void {
  new Sink(call, context).listen();
}

/** What the stream carries for one shard. */
interface Inlet {
  readonly id: number;
  shard: Shard | undefined;
  replica: Replica | undefined;
  attempt: number;
  run: number;
  /** What is left of this attempt and of those before is passed over. */
  refusedAttempt: number;
  /** Of the own log. */
  lastSequence: number;
  writtenSequence: number;
  durableSequence: number;
  /** When the sender heard of it last; monotonic. */
  repliedMs: number;
  /** The sender is to hear of it with the next answer. */
  hasNews: boolean;
  /** In the log, not known to survive a power cut. */
  readonly written: { readonly ownSequence: number; readonly endSequence: number }[];
  turn: Promise<void>;
}

class Sink {
  readonly #call: Duplex<ReplicateRequest, ReplicateReply>;
  readonly #context: SinkContext;
  readonly #inlets = new Map<number, Inlet>();
  readonly #ticker: Timer;
  /** Told once, in the first reply. */
  #speaks: readonly WireVersions[] = [];
  #gathers = false;
  #gathering: Timer | undefined;
  /** Of the records that are in the log, and not answered. */
  #gatheredBytes = 0;
  #source: { readonly name: string; readonly origin: Promise<number> } | undefined;
  /** The sender asks which logs there are: of others nothing is taken from it, nor believed. */
  #isAsking = false;
  /** Those that it was told of. */
  readonly #told = new Map<number, Shard>();

  constructor(call: Duplex<ReplicateRequest, ReplicateReply>, context: SinkContext) {
    this.#call = call;
    this.#context = context;
    this.#ticker = context.env.timers.every(DURABLE_MS, () => this.#tick());
  }

  listen(): void {
    this.#call.listen({ request: (request) => this.#take(request), end: () => this.#finish() });
    this.#call.signal.addEventListener('abort', () => this.#detach());
  }

  #take(request: ReplicateRequest): void {
    if (this.#source === undefined) {
      greet(request.hello, this.#context.node, ['log']);
      const name = `${request.region}/${request.node}`;
      this.#source = { name, origin: this.#context.origins.index(name) };
      this.#source.origin.catch((error: unknown) => this.#call.finish(error));
      this.#speaks = toWire(this.#context.node.spoken);
      this.#gathers = request.gathers;
    }
    const { frontiers } = this.#context;
    const asked = [...request.asked];
    this.#isAsking ||= asked.length > 0;
    for (const { shard, afterMs, lostRecords, wallMs } of request.frontiers) {
      if (!this.#isTold(shard)) asked.push(shard);
      else frontiers.take(shard, this.#source.name, request.stampMs + afterMs, lostRecords, wallMs);
    }
    if (request.records.length === 0) {
      // To the hello, for the first stamp; to frontiers, for the next.
      this.#send({ shard: 0, attempt: 0, code: 'OK', logs: this.#logs(asked) });
      return;
    }
    const { origin } = this.#source;
    for (const one of [request, ...request.others]) {
      const inlet = this.#inlet(one.shard);
      inlet.turn = inlet.turn.then(() => this.#store(inlet, one, origin));
    }
  }

  #logs(asked: readonly number[]): ReceivingLog[] {
    return asked.map((id) => {
      try {
        const shard = this.#context.node.find(id);
        this.#told.set(id, shard);
        return { shard: id, incarnations: shard.cursors.log.incarnations, problem: '' };
      } catch (error) {
        return { shard: id, incarnations: [], problem: messageOf(error) };
      }
    });
  }

  /** Opened anew, a shard may be another one. */
  #isTold(id: number): boolean {
    if (!this.#isAsking) return true;
    const told = this.#told.get(id);
    try {
      return told !== undefined && told === this.#context.node.find(id);
    } catch {
      return false;
    }
  }

  #inlet(id: number): Inlet {
    let inlet = this.#inlets.get(id);
    if (inlet === undefined) {
      inlet = {
        id,
        shard: undefined,
        replica: undefined,
        attempt: 0,
        run: 0,
        refusedAttempt: 0,
        lastSequence: 0,
        writtenSequence: 0,
        durableSequence: 0,
        repliedMs: 0,
        hasNews: false,
        written: [],
        turn: Promise.resolve(),
      };
      this.#inlets.set(id, inlet);
    }
    return inlet;
  }

  /** Never rejects. */
  async #store(inlet: Inlet, request: ShardRecords, origin: Promise<number>): Promise<void> {
    const { attempt, endSequence, awaited } = request;
    const byteCount = request.records.length;
    if (attempt <= inlet.refusedAttempt || this.#call.signal.aborted) return;
    try {
      if (request.catchingUp) await this.#wait(byteCount);
      if (attempt <= inlet.refusedAttempt || this.#call.signal.aborted) return;
      const replica = await this.#replica(inlet, request, origin);
      inlet.lastSequence = (await replica.apply(request.records)) || inlet.lastSequence;
      const ownSequence = inlet.lastSequence;
      // Not waited for: the next message is taken in meanwhile. Waits end in order.
      (ownSequence === 0 ? Promise.resolve() : replica.written(ownSequence)).then(
        () => {
          if (attempt !== inlet.attempt || attempt === inlet.refusedAttempt) return;
          inlet.writtenSequence = endSequence;
          inlet.written.push({ ownSequence, endSequence });
          inlet.hasNews = true;
          this.#gatheredBytes += byteCount;
          if (awaited || !this.#gathers || this.#gatheredBytes >= GATHER_BYTES) this.#reply();
          else this.#gathering ??= this.#context.env.timers.after(GATHER_MS, () => this.#reply());
        },
        (error: unknown) => this.#refuse(inlet, attempt, error),
      );
    } catch (error) {
      this.#refuse(inlet, attempt, error);
    }
  }

  /** Until it is paid for: what is live goes first. */
  async #wait(byteCount: number): Promise<void> {
    const { env, pace } = this.#context;
    const waitMs = pace.spend(byteCount);
    if (waitMs > 0) await new Promise<void>((resolve) => void env.timers.after(waitMs, resolve));
  }

  async #replica(inlet: Inlet, { attempt, run }: ShardRecords, origin: Promise<number>): Promise<Replica> {
    const shard = this.#context.node.find(inlet.id);
    const isSame = inlet.shard === shard;
    if (isSame && inlet.attempt === attempt && inlet.run === run && inlet.replica !== undefined) return inlet.replica;
    // Opened anew in the middle of an attempt: its references are gone, and its sequences are others.
    if ((!isSame && inlet.attempt === attempt) || !this.#isTold(inlet.id)) {
      throw new SilverbackError('UNKNOWN_REF', `shard ${inlet.id} was opened again`);
    }
    const index = await origin;
    inlet.replica?.detach();
    if (inlet.attempt !== attempt) {
      inlet.written.length = 0;
      inlet.lastSequence = 0;
      inlet.writtenSequence = 0;
      inlet.durableSequence = 0;
    }
    const replica = shard.replica(index);
    inlet.shard = shard;
    inlet.attempt = attempt;
    inlet.run = run;
    inlet.replica = replica;
    return replica;
  }

  /** Says of all shards what there is to say. */
  #reply(): void {
    this.#gathering?.cancel();
    this.#gathering = undefined;
    this.#gatheredBytes = 0;
    const nowMs = this.#context.env.clock.monotonicMs();
    const news: ShardProgress[] = [];
    for (const inlet of this.#inlets.values()) {
      if (!inlet.hasNews) continue;
      inlet.hasNews = false;
      this.#noteDurable(inlet);
      inlet.repliedMs = nowMs;
      const { id, attempt, writtenSequence, durableSequence } = inlet;
      news.push({ shard: id, attempt, writtenSequence, durableSequence });
    }
    const [first, ...others] = news;
    if (first === undefined) return;
    this.#send({ ...first, code: 'OK', ...(this.#gathers && { others }) });
    if (!this.#gathers) for (const one of others) this.#send({ ...one, code: 'OK' });
  }

  #refuse(inlet: Inlet, attempt: number, error: unknown): void {
    if (attempt <= inlet.refusedAttempt) return;
    // What came before it stands.
    this.#reply();
    inlet.refusedAttempt = attempt;
    inlet.replica?.detach();
    inlet.replica = undefined;
    const isCoded = error instanceof SilverbackError;
    this.#send({
      shard: inlet.id,
      attempt,
      code: isCoded ? wireCode(error.code) : 'INTERNAL',
      message: isCoded ? error.message : String(error),
      retryAfterMs: (isCoded ? error.retryAfterMs : undefined) ?? 0,
    });
  }

  #send(reply: Pick<ReplicateReply, 'shard' | 'attempt' | 'code'> & Partial<ReplicateReply>): void {
    const stampMs = Math.floor(this.#context.env.clock.monotonicMs());
    const speaks = this.#speaks;
    const isFirst = speaks.length > 0;
    if (isFirst) this.#speaks = [];
    this.#call.send({
      message: '',
      retryAfterMs: 0,
      writtenSequence: 0,
      durableSequence: 0,
      logs: [],
      others: [],
      ...reply,
      stampMs,
      speaks,
      tellsLogs: isFirst,
      gathers: isFirst,
    });
  }

  /** Returns whether more survives a power cut than before. */
  #noteDurable(inlet: Inlet): boolean {
    const synced = inlet.replica?.syncedSequence ?? 0;
    let count = 0;
    while (count < inlet.written.length && (inlet.written[count]?.ownSequence as number) < synced) {
      inlet.durableSequence = inlet.written[count++]?.endSequence as number;
    }
    inlet.written.splice(0, count);
    return count > 0;
  }

  #tick(): void {
    const nowMs = this.#context.env.clock.monotonicMs();
    for (const inlet of this.#inlets.values()) {
      // While records come, every answer says it anyway.
      if (nowMs - inlet.repliedMs >= DURABLE_MS && this.#noteDurable(inlet)) inlet.hasNews = true;
    }
    this.#reply();
  }

  #finish(): void {
    this.#detach();
    this.#call.finish();
  }

  #detach(): void {
    this.#ticker.cancel();
    this.#gathering?.cancel();
    for (const { replica } of this.#inlets.values()) replica?.detach();
  }
}
