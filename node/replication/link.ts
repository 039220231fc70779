/**
 * The stream to one other node, for all shards that both have copies of. It sends what the logs hold for that node, shards
 * in turn, with a bounded number of bytes under way, and moves the cursors as the node answers. A broken stream is opened
 * again with growing waits, and everything that is not durable there is sent again: repeats change nothing.
 *
 * A message costs both nodes about as much as a thousand samples in it, most of that in system calls. So what is written is held
 * back for a moment, in which the logs of all shards get what is to go with it; only what somebody waits for goes at once.
 */
import type { Env, Timer } from '../../core/env/env.ts';
import { type Channel, type ClientDuplexStream, fromStatus } from '../../core/grpc.ts';
import { Backoff } from '../../core/meta/backoff.ts';
import {
  type Method,
  type ReceivingLog,
  type ReplicateReply,
  type ReplicateRequest,
  type ShardProgress,
  type ShardRecords,
  shardsService,
  type WireFrontier,
} from '../../core/protocol.ts';
import { agree, helloOf, SPOKEN, type Spoken } from '../../core/versions.ts';
import type { Destination } from '../shard/cursors.ts';
import type { Shard } from '../shard/shard.ts';
import { Lane } from './lane.ts';
import type { Pace } from './pace.ts';

export interface LinkOptions {
  readonly env: Env;
  /** Closed with the link. */
  readonly channel: Pick<Channel, 'duplex' | 'close'>;
  readonly destination: Destination;
  /** The other node lies in another failure zone. */
  readonly elsewhere: boolean;
  readonly self: Destination;
  readonly clusterId: string;
  readonly pace: Pick<Pace, 'spend'>;
  /** See `Lane`. */
  readonly behindBytes: number;
  /** What this node speaks. Default: all that this program does. */
  readonly spoken?: Spoken;
  readonly log: { info(fields: object, message: string): void; warn(fields: object, message: string): void };
}

const MAX_IN_FLIGHT_BYTES = 4 * 1024 * 1024;
/** Of lanes that catch up: the others find room at any time. */
const MAX_PATIENT_BYTES = 1024 * 1024;
const RECONNECT = { firstMs: 100, mostMs: 5_000 };
const REFUSED_MS = { first: 100, most: 5_000 };
/** A message is sent once it has so much. */
const MESSAGE_BYTES = 128 * 1024;
/** What nobody waits for is held back this long at the most. */
const HOLD_MS = 25;
const FRONTIER_MS = 1_000;
/** So long after a shard was added, or the stream opened, the first word of its frontier goes out. */
const FIRST_FRONTIER_MS = 50;
/** For so long after that, it is asked so often whether the shard is open there. */
const EAGER_MS = 10_000;
const ASK_MS = 250;
/** Shards asked for in one word. */
const MAX_ASKED = 1_024;
/** Every word of the ticker is answered. With no answer for this long, the node hangs or the connection is dead: it is opened anew. */
const SILENCE_MS = 30_000;
const NO_BYTES = new Uint8Array(0);

type Agreed = ReturnType<typeof agree<'protocol' | 'log'>>;

const BLANK: ReplicateRequest = {
  hello: null,
  region: '',
  node: '',
  shard: 0,
  attempt: 0,
  run: 0,
  incarnation: 0,
  firstSequence: 0,
  endSequence: 0,
  records: NO_BYTES,
  frontiers: [],
  stampMs: 0,
  catchingUp: false,
  asked: [],
  awaited: false,
  gathers: false,
  others: [],
};

// Encoded here, not by the call when its queue gets to it: records are views of a reader's buffer.
const encodedReplicate: Method<Buffer, ReplicateReply> = {
  ...shardsService.Replicate,
  requestSerialize: (bytes) => bytes,
  requestDeserialize: (bytes) => bytes,
};

export class Link {
  readonly #options: LinkOptions;
  readonly #lanes = new Map<number, { readonly lane: Lane; readonly shard: Shard; readonly unwatch: () => void }>();
  /** Of lanes that were taken away: the destination remembers on which attempts it refused, as long as the stream lasts. */
  readonly #nextAttempts = new Map<number, number>();
  readonly #backoff: Backoff;
  readonly #ticker: Timer;
  #call: ClientDuplexStream<Buffer, ReplicateReply> | undefined;
  #retry: Timer | undefined;
  /** Ends the holding back. */
  #holding: Timer | undefined;
  #pumping: Promise<void> | undefined;
  #answeredMs = 0;
  /** The destination's latest stamp on this stream, and when it came; monotonic, each on its own clock. */
  #stamp: { readonly theirMs: number; readonly atMs: number } | undefined;
  /** Messages of this stream that are no records, hello and frontiers: they are answered in order. */
  #words = { sent: 0, answered: 0 };
  /** By shard: which of these words was the first with its frontier. */
  readonly #told = new Map<number, number>();
  #soon: Timer | undefined;
  /** The version of the records on this stream; nothing is sent before it is known. */
  #agreed: Agreed | undefined;
  /** The destination says which logs it has. */
  #tellsLogs = false;
  /** Monotonic. */
  #eagerUntilMs = 0;
  /** The destination takes messages of several shards. */
  #gathers = false;
  #saidProblem = '';
  #closed = false;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.env, RECONNECT);
    this.#ticker = options.env.timers.every(FRONTIER_MS, () => this.#tick());
  }

  get isConnected(): boolean {
    return this.#call !== undefined && this.#saidProblem === '';
  }

  /** Of the records on the open stream; undefined before it is known. */
  get logVersion(): number | undefined {
    return this.#agreed?.log;
  }

  get destination(): Destination {
    return this.#options.destination;
  }

  get lanes(): Lane[] {
    return [...this.#lanes.values()].map(({ lane }) => lane);
  }

  lane(id: number): Lane | undefined {
    return this.#lanes.get(id)?.lane;
  }

  /** On this stream it is known that the destination's log of the shard is the one that the cursor is about. */
  isMet(id: number): boolean {
    const lane = this.#lanes.get(id)?.lane;
    return lane !== undefined && this.#isMet(lane);
  }

  /** The destination has heard of the shard's frontier, on this stream. */
  hasTold(id: number): boolean {
    const word = this.#told.get(id);
    return word !== undefined && word <= this.#words.answered;
  }

  /** Ships the shard from its cursor on. */
  add(id: number, shard: Shard): void {
    if (this.#lanes.get(id)?.shard === shard) return;
    this.remove(id);
    const { destination, elsewhere } = this.#options;
    const cursor = shard.cursors.open(destination, elsewhere);
    const attempt = this.#nextAttempts.get(id) ?? 1;
    const lane = new Lane(id, shard.cursors, cursor, this.#options.behindBytes, attempt);
    const unwatch = shard.cursors.log.onWritten(() => {
      this.#written(lane);
    });
    this.#lanes.set(id, { lane, shard, unwatch });
    const nowMs = this.#options.env.clock.monotonicMs();
    lane.progress.tick(nowMs, shard.cursors.log.tail().sequence);
    this.#eagerUntilMs = nowMs + EAGER_MS;
    if (this.#call === undefined && this.#retry === undefined) this.#open();
    this.#pump();
    this.#tellSoon();
  }

  /** The cursor stays. */
  remove(id: number): void {
    const known = this.#lanes.get(id);
    if (known === undefined) return;
    this.#lanes.delete(id);
    this.#told.delete(id);
    known.unwatch();
    known.lane.close();
    this.#nextAttempts.set(id, known.lane.progress.attempt);
  }

  close(): void {
    this.#closed = true;
    this.#ticker.cancel();
    this.#retry?.cancel();
    this.#holding?.cancel();
    this.#soon?.cancel();
    const call = this.#call;
    this.#call = undefined;
    for (const id of [...this.#lanes.keys()]) this.remove(id);
    call?.cancel();
    this.#options.channel.close();
  }

  // ---- the stream -------------------------------------------------------------------------------

  #open(): void {
    const { channel, clusterId, self, spoken = SPOKEN } = this.#options;
    const call = channel.duplex(encodedReplicate);
    this.#call = call;
    this.#answeredMs = this.#options.env.clock.monotonicMs();
    this.#eagerUntilMs = this.#answeredMs + EAGER_MS;
    this.#stamp = undefined;
    this.#words = { sent: 1, answered: 0 };
    this.#told.clear();
    this.#agreed = undefined;
    this.#tellsLogs = false;
    call.on('data', (reply) => {
      if (this.#call === call) this.#take(reply);
    });
    call.on('error', (error) => this.#broke(call, fromStatus(error).message));
    call.on('status', () => this.#broke(call, 'the node ended the stream'));
    for (const { lane } of this.#lanes.values()) lane.restart();
    const caller = `${self.region}/${self.node}`;
    const asked = this.#unmet();
    this.#write({ hello: helloOf(spoken, clusterId, caller), ...self, gathers: true, asked });
    this.#pump();
  }

  #broke(call: ClientDuplexStream<Buffer, ReplicateReply>, problem: string): void {
    if (this.#call !== call || this.#closed) return;
    this.#call = undefined;
    this.#agreed = undefined;
    const { region, node } = this.#options.destination;
    if (problem !== this.#saidProblem) this.#options.log.warn({ region, node, problem }, 'replication is interrupted');
    this.#saidProblem = problem;
    call.cancel();
    this.#retry = this.#options.env.timers.after(this.#backoff.nextMs(), () => {
      this.#retry = undefined;
      if (!this.#closed) this.#open();
    });
  }

  #write(message: Partial<ReplicateRequest>): void {
    this.#call?.write(shardsService.Replicate.requestSerialize({ ...BLANK, ...message }));
  }

  #take(reply: ReplicateReply): void {
    const { env, destination, log } = this.#options;
    if (this.#agreed === undefined && !this.#agree(reply)) return;
    this.#answeredMs = env.clock.monotonicMs();
    if (this.#stamp === undefined) this.#tellSoon();
    this.#stamp = { theirMs: reply.stampMs, atMs: this.#answeredMs };
    if (reply.attempt === 0) this.#words.answered++;
    this.#backoff.reset();
    if (this.#saidProblem !== '') log.info({ ...destination }, 'replication goes on');
    this.#saidProblem = '';
    for (const told of reply.logs) this.#meet(told);
    for (const one of reply.others) this.#progressed({ ...one, code: 'OK', message: '' });
    this.#progressed(reply);
    this.#pump();
  }

  #progressed(reply: ShardProgress & Pick<ReplicateReply, 'code' | 'message'>): void {
    const { env } = this.#options;
    const lane = this.#lanes.get(reply.shard)?.lane;
    if (lane === undefined || reply.attempt !== lane.progress.attempt) return;
    lane.progress.take(reply.attempt, reply.writtenSequence, reply.durableSequence);
    lane.settle();
    if (reply.code === 'OK') {
      lane.problem = '';
      lane.refusalCount = 0;
    } else {
      this.#say(lane, { problem: reply.message, code: reply.code });
      const waitMs = Math.min(REFUSED_MS.most, REFUSED_MS.first * 2 ** Math.min(10, lane.refusalCount++));
      lane.blockedUntilMs = this.#answeredMs + waitMs * (0.5 + env.random.next() / 2);
      lane.restart();
      this.#tellSoon();
      env.timers.after(waitMs, () => this.#pump());
    }
  }

  /** At the first reply. False: there is nothing to agree on, and the stream is over. */
  #agree({ speaks, tellsLogs, gathers }: ReplicateReply): boolean {
    const { destination, self, spoken = SPOKEN } = this.#options;
    const who = { us: `${self.region}/${self.node}`, them: `${destination.region}/${destination.node}` };
    try {
      this.#agreed = agree(spoken, speaks, ['protocol', 'log'], who);
      this.#tellsLogs = tellsLogs;
      this.#gathers = gathers;
      return true;
    } catch (error) {
      if (this.#call !== undefined) this.#broke(this.#call, (error as Error).message);
      return false;
    }
  }

  #meet({ shard, incarnations, problem }: ReceivingLog): void {
    const lane = this.#lanes.get(shard)?.lane;
    if (lane === undefined) return;
    if (incarnations.length === 0) {
      this.#say(lane, { problem });
      return;
    }
    if (!lane.cursor.meet(incarnations)) {
      this.#told.delete(shard);
      lane.restart();
    }
    if (lane.isMet) return;
    lane.isMet = true;
    this.#tellSoon();
    this.#pump();
  }

  /** Why the destination does not take the shard's records. */
  #say(lane: Lane, { problem, ...facts }: { readonly problem: string; readonly code?: string }): void {
    const { destination, log } = this.#options;
    if (problem !== lane.problem) {
      log.info({ ...destination, shard: lane.shard, ...facts }, `not replicated for now: ${problem}`);
    }
    lane.problem = problem;
  }

  /** Of one that does not say which logs it has, the cursors are believed. */
  #isMet(lane: Lane): boolean {
    return this.#agreed !== undefined && (lane.isMet || !this.#tellsLogs);
  }

  /** Shards to ask for. */
  #unmet(): number[] {
    const unmet: number[] = [];
    for (const [id, { lane }] of this.#lanes) if (!lane.isMet && unmet.length < MAX_ASKED) unmet.push(id);
    return unmet;
  }

  // ---- sending ----------------------------------------------------------------------------------

  #written(lane: Lane): void {
    const { clock, timers } = this.#options.env;
    if (!lane.written(clock.monotonicMs())) {
      lane.settle();
      return;
    }
    if (lane.isHeld) this.#holding ??= timers.after(HOLD_MS, () => this.#release());
    if (!lane.isHeld || lane.isAwaited) this.#pump();
  }

  #release(): void {
    this.#holding = undefined;
    for (const { lane } of this.#lanes.values()) lane.isHeld = false;
    this.#pump();
  }

  #pump(): void {
    if (this.#pumping !== undefined || this.#closed || !this.#hasWork()) return;
    this.#pumping = this.#send()
      .catch((error: unknown) => this.#options.log.warn({ err: error }, 'reading a log for replication failed'))
      .finally(() => {
        this.#pumping = undefined;
        // What was written while the loop was ending.
        if (this.#hasWork()) this.#options.env.timers.after(1, () => this.#pump());
      });
  }

  /** Sends until every lane is at its log's end, or enough is under way. */
  async #send(): Promise<void> {
    // What is written in one turn is read together.
    await this.#options.env.timers.yield();
    while (this.#hasWork()) {
      await this.#sendRound();
      await this.#options.env.timers.yield();
    }
  }

  /** Each lane that is due has its turn. */
  async #sendRound(): Promise<void> {
    const call = this.#call;
    const gathered: ShardRecords[] = [];
    let byteCount = 0;
    const flush = () => {
      const [first, ...others] = gathered.splice(0);
      byteCount = 0;
      if (first !== undefined) this.#write({ ...first, others });
    };
    try {
      for (const lane of this.lanes) {
        if (this.#agreed === undefined || this.#closed || !this.#hasRoom()) return;
        if (!this.#isDue(lane)) continue;
        const parcels = await this.#read(lane);
        if (this.#call !== call) return;
        const catchingUp = lane.isPatient;
        for (const parcel of parcels) {
          if (byteCount + parcel.records.length > MESSAGE_BYTES) flush();
          gathered.push({ shard: lane.shard, ...parcel, catchingUp });
          byteCount += parcel.records.length;
          if (!this.#gathers || parcel.awaited) flush();
        }
        lane.settle();
        if (catchingUp) this.#wait(lane);
      }
    } finally {
      // They count as sent, whatever happened to the lane after theirs; on another stream all is sent again.
      if (this.#call === call) flush();
    }
  }

  #hasWork(): boolean {
    if (this.#agreed === undefined || !this.#hasRoom()) return false;
    for (const { lane } of this.#lanes.values()) if (this.#isDue(lane)) return true;
    return false;
  }

  async #read(lane: Lane): ReturnType<Lane['next']> {
    try {
      return await lane.next();
    } catch (error) {
      lane.blockedUntilMs = this.#options.env.clock.monotonicMs() + REFUSED_MS.most;
      lane.restart();
      throw error;
    }
  }

  /** A lane that catches up goes on when what it did is paid for. */
  #wait(lane: Lane): void {
    const { env, pace } = this.#options;
    const waitMs = pace.spend(lane.readBytes);
    if (waitMs === 0) return;
    lane.blockedUntilMs = Math.max(lane.blockedUntilMs, env.clock.monotonicMs() + waitMs);
    env.timers.after(waitMs, () => this.#pump());
  }

  #isDue(lane: Lane): boolean {
    if (lane.isIdle || (lane.isHeld && !lane.isAwaited) || !this.#isMet(lane)) return false;
    if (this.#options.env.clock.monotonicMs() < lane.blockedUntilMs) return false;
    return !lane.isPatient || this.#inFlightBytes(true) < MAX_PATIENT_BYTES;
  }

  #hasRoom(): boolean {
    return this.#inFlightBytes() < MAX_IN_FLIGHT_BYTES;
  }

  /** `patient`: only of lanes that may be slowed. */
  #inFlightBytes(patient = false): number {
    let bytes = 0;
    for (const { lane } of this.#lanes.values()) if (!patient || lane.isPatient) bytes += lane.progress.inFlightBytes;
    return bytes;
  }

  #tellSoon(delayMs = FIRST_FRONTIER_MS): void {
    this.#soon ??= this.#options.env.timers.after(delayMs, () => {
      this.#soon = undefined;
      this.#tell();
    });
  }

  #tick(): void {
    const { clock } = this.#options.env;
    // Monotonic: the wall clock may jump between a frontier and its telling.
    const nowMs = clock.monotonicMs();
    for (const { lane, shard } of this.#lanes.values()) {
      const { progress, cursor } = lane;
      progress.tick(nowMs, shard.cursors.log.tail().sequence);
      lane.look();
      if (progress.frontierMs !== undefined) cursor.caughtUpMs = clock.nowMs() - (nowMs - progress.frontierMs);
    }
    if (this.#call === undefined) return;
    if (nowMs - this.#answeredMs > SILENCE_MS) {
      this.#broke(this.#call, `no answer for ${SILENCE_MS / 1_000} s`);
      return;
    }
    this.#tell();
    this.#pump();
  }

  /** Says what frontiers there are, and asks which logs the destination has of shards where it did not say so. */
  #tell(): void {
    if (this.#call === undefined) return;
    const { clock } = this.#options.env;
    const nowMs = clock.monotonicMs();
    const frontiers: WireFrontier[] = [];
    const wallNowMs = clock.nowMs();
    for (const { lane } of this.#lanes.values()) {
      const { frontierMs } = lane.progress;
      if (frontierMs === undefined || this.#stamp === undefined || !this.#isMet(lane)) continue;
      frontiers.push({
        shard: lane.shard,
        afterMs: Math.floor(frontierMs - this.#stamp.atMs),
        lostRecords: lane.cursor.lostRecordCount,
        wallMs: Math.floor(wallNowMs - (nowMs - frontierMs)),
      });
    }
    const asked = this.#tellsLogs ? this.#unmet() : [];
    this.#write({ frontiers, stampMs: this.#stamp?.theirMs ?? 0, asked });
    this.#words.sent++;
    for (const { shard } of frontiers) if (!this.#told.has(shard)) this.#told.set(shard, this.#words.sent);
    if (asked.length > 0 && nowMs < this.#eagerUntilMs) this.#tellSoon(ASK_MS);
  }
}
