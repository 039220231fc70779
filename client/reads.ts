/**
 * One `Read` stream to one node: many reads at a time, told apart by their ids, each with its own flow control. It is opened
 * by the first read, and again by the first one after it broke; a broken stream takes its open reads with it.
 */
import { SilverbackError } from '../core/errors.ts';
import { type Channel, type ClientDuplexStream, fromStatus, MAX_MESSAGE_BYTES } from '../core/grpc.ts';
import {
  BLANK_READ,
  type Method,
  type ReadReply,
  type ReadRequest,
  shardsService,
  type WireCoverage,
} from '../core/protocol.ts';
import { helloOf, SPOKEN, type Spoken } from '../core/versions.ts';

/** Replies with content that a node may send ahead of the receiver. */
const CREDIT = 4;

/** What is asked: one of them, and perhaps `wholeOnly`. */
export type Question = Partial<
  Pick<
    ReadRequest,
    | 'select'
    | 'series'
    | 'labelNames'
    | 'labelValues'
    | 'windowVersions'
    | 'cardinality'
    | 'aggregate'
    | 'exemplars'
    | 'metadata'
    | 'wholeOnly'
  >
>;

/** Takes a reply with content. While it returns an unsettled promise no further one is handed over. */
export type ReplyReceiver = (reply: ReadReply) => void | Promise<void>;

export interface ReadsOptions {
  readonly channel: Channel;
  readonly caller: string;
  /** Of the placement that named the node. */
  readonly clusterId: () => string;
  /** What the node may answer in. Default: all that this program speaks. */
  readonly spoken?: Spoken;
}

// Encoded here: a message that is too large must fail its read, not the stream.
const encodedRead: Method<Buffer, ReadReply> = {
  ...shardsService.Read,
  requestSerialize: (bytes) => bytes,
  requestDeserialize: (bytes) => bytes,
};

export class Reads {
  readonly #options: ReadsOptions;
  readonly #open = new Map<number, Asked>();
  #call: ClientDuplexStream<Buffer, ReadReply> | undefined;
  #lastId = 0;

  constructor(options: ReadsOptions) {
    this.#options = options;
  }

  /**
   * Asks the node. The answer's promise rejects with the node's refusal, with UNAVAILABLE when the stream broke, with what
   * `receive` threw, or with what the read was cancelled with.
   */
  ask(question: Question, receive: ReplyReceiver): Asked {
    do this.#lastId = (this.#lastId + 1) >>> 0;
    while (this.#open.has(this.#lastId));
    const id = this.#lastId;
    const asked = new Asked(receive, {
      grant: (credit) => this.#say(id, { credit }),
      over: (isNodeDone) => {
        this.#open.delete(id);
        if (!isNodeDone) this.#say(id, { cancel: true });
      },
    });
    const isFirst = this.#call === undefined;
    const { clusterId, caller, spoken = SPOKEN } = this.#options;
    const hello = isFirst ? helloOf(spoken, clusterId(), caller) : null;
    const bytes = shardsService.Read.requestSerialize({ ...BLANK_READ, ...question, hello, id, credit: CREDIT });
    if (bytes.length > MAX_MESSAGE_BYTES) {
      const message = `a request of ${bytes.length} bytes, at most ${MAX_MESSAGE_BYTES} are accepted`;
      asked.end(new SilverbackError('TOO_LARGE', message));
      return asked;
    }
    const call = this.#call ?? this.#start();
    this.#open.set(id, asked);
    call.write(bytes);
    return asked;
  }

  /** Ends the stream; open reads fail. */
  close(): void {
    this.#break('the reader was closed');
  }

  #start(): ClientDuplexStream<Buffer, ReadReply> {
    const call = this.#options.channel.duplex(encodedRead);
    this.#call = call;
    const broke = (reason: string) => {
      if (this.#call === call) this.#break(reason);
    };
    call.on('data', (reply: ReadReply) => {
      if (this.#call === call) this.#open.get(reply.id)?.take(reply);
    });
    call.on('error', (error) => broke(fromStatus(error).message));
    // A stream that ended well has no `error`; its node is stopping.
    call.on('status', () => broke('the node ended the stream'));
    return call;
  }

  #say(id: number, what: Partial<ReadRequest>): void {
    this.#call?.write(shardsService.Read.requestSerialize({ ...BLANK_READ, ...what, id }));
  }

  #break(reason: string): void {
    const call = this.#call;
    this.#call = undefined;
    const open = [...this.#open.values()];
    this.#open.clear();
    call?.cancel();
    for (const asked of open) asked.end(new SilverbackError('UNAVAILABLE', reason));
  }
}

/** A read under way. */
export class Asked {
  /** The node's ledger. */
  readonly answer: Promise<readonly WireCoverage[]>;
  readonly #receive: ReplyReceiver;
  readonly #tell: { grant(credit: number): void; over(isNodeDone: boolean): void };
  #resolve!: (coverage: readonly WireCoverage[]) => void;
  #reject!: (error: unknown) => void;
  #ended = false;
  #busy = false;
  /** Came while the receiver was busy. */
  #held: ReadReply[] | undefined;
  #takenCount = 0;

  constructor(receive: ReplyReceiver, tell: { grant(credit: number): void; over(isNodeDone: boolean): void }) {
    this.#receive = receive;
    this.#tell = tell;
    this.answer = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  take(reply: ReadReply): void {
    if (this.#busy) {
      this.#held ??= [];
      this.#held.push(reply);
      return;
    }
    if (reply.code !== 'OK') {
      const { code, message, retryAfterMs } = reply;
      this.end(new SilverbackError(code, message, retryAfterMs > 0 ? { retryAfterMs } : {}), true);
      return;
    }
    try {
      const hasContent = reply.page.length > 0 || reply.values.length > 0;
      const pending = hasContent ? this.#receive(reply) : undefined;
      if (pending === undefined) this.#took(reply);
      else {
        this.#busy = true;
        pending.then(
          () => {
            this.#busy = false;
            this.#took(reply);
            const held = this.#held ?? [];
            this.#held = undefined;
            for (const next of held) this.take(next);
          },
          (error: unknown) => this.end(error, reply.done),
        );
      }
    } catch (error) {
      this.end(error, reply.done);
    }
  }

  /** Ends the read with this error; what still comes of it is passed over. */
  cancel(error: SilverbackError): void {
    this.end(error);
  }

  /** Fails the read; `isNodeDone`: there is nothing to call off. */
  end(error: unknown, isNodeDone = false): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#held = undefined;
    this.#tell.over(isNodeDone);
    this.#reject(error);
  }

  #took(reply: ReadReply): void {
    if (this.#ended) return;
    if (reply.done) {
      this.#ended = true;
      this.#tell.over(true);
      this.#resolve(reply.coverage);
      return;
    }
    this.#takenCount++;
    // In halves: fewer messages, and the node seldom waits.
    if (this.#takenCount % (CREDIT / 2) === 0) this.#tell.grant(CREDIT / 2);
  }
}
