/**
 * How far one shard's log has come at one destination: a pure account of what was read, sent, written there and is durable
 * there. Sequences rise over all incarnations of a log, so they alone say what is before what.
 */
import type { Position } from '../shard/log.ts';

interface Entry {
  /** Everything before it was read. */
  readonly from: Position;
  /** One past its last record. */
  readonly endSequence: number;
  readonly byteCount: number;
}

export class Progress {
  /** Sent, and not known to be durable at the destination; oldest first. */
  readonly #sent: Entry[] = [];
  /** How many of them are in the destination's log. */
  #writtenCount = 0;
  #read: Position;
  #attempt = 1;
  #run = 1;
  #inFlightBytes = 0;
  #mark: { readonly atMs: number; readonly sequence: number } | undefined;
  #frontierMs: number | undefined;

  /** `from`: everything before is durable at the destination. */
  constructor(from: Position) {
    this.#read = from;
  }

  /** Grows with each restart. Replies to earlier ones count no more. */
  get attempt(): number {
    return this.#attempt;
  }

  /** Number of the run of messages that goes on: within one, references mean the same. */
  get run(): number {
    return this.#run;
  }

  /** Bytes sent and not known to be in the destination's log. */
  get inFlightBytes(): number {
    return this.#inFlightBytes;
  }

  /** Everything before is in the destination's log, or need not be. */
  get delivered(): Position {
    return this.#sent[this.#writtenCount]?.from ?? this.#read;
  }

  /** Everything before survives a power cut at the destination, or need not be there. */
  get durable(): Position {
    return this.#sent[0]?.from ?? this.#read;
  }

  /** All that was acknowledged before this time is delivered; undefined while that is not known of any time. */
  get frontierMs(): number | undefined {
    return this.#frontierMs;
  }

  /** The log was read up to `to`, and there was nothing to send. */
  skip(to: Position): void {
    if (to.sequence > this.#read.sequence) this.#read = to;
  }

  /** A message went out; with it, the log is read up to `to`. A part of a record has `endSequence` at that record. */
  send(to: Position, endSequence: number, byteCount: number): void {
    this.#sent.push({ from: this.#read, endSequence, byteCount });
    this.#inFlightBytes += byteCount;
    this.skip(to);
  }

  /** References begin anew; what was sent with the old ones stands. */
  startRun(): void {
    this.#run++;
  }

  /** The destination answered. Returns whether that says anything new. */
  take(attempt: number, writtenSequence: number, durableSequence: number): boolean {
    if (attempt !== this.#attempt) return false;
    const before = this.#inFlightBytes + this.#sent.length;
    for (let next = this.#sent[this.#writtenCount]; next !== undefined && next.endSequence <= writtenSequence; ) {
      this.#inFlightBytes -= next.byteCount;
      next = this.#sent[++this.#writtenCount];
    }
    while (this.#writtenCount > 0 && (this.#sent[0] as Entry).endSequence <= durableSequence) {
      this.#sent.shift();
      this.#writtenCount--;
    }
    return before !== this.#inFlightBytes + this.#sent.length;
  }

  /** Begins again at `from`: what was sent counts no more, and neither does the frontier. */
  restart(from: Position): void {
    this.#sent.length = 0;
    this.#writtenCount = 0;
    this.#inFlightBytes = 0;
    this.#read = from;
    this.#attempt++;
    this.#run++;
    this.#mark = undefined;
    this.#frontierMs = undefined;
  }

  /** Once a second, or so: `nowMs`, of a monotonic clock, is a time before `tailSequence`, the log's end, was looked up. */
  tick(nowMs: number, tailSequence: number): void {
    const { sequence } = this.delivered;
    if (sequence >= tailSequence) {
      this.#frontierMs = nowMs;
      this.#mark = undefined;
      return;
    }
    if (this.#mark !== undefined && sequence >= this.#mark.sequence) {
      this.#frontierMs = this.#mark.atMs;
      this.#mark = undefined;
    }
    this.#mark ??= { atMs: nowMs, sequence: tailSequence };
  }
}
