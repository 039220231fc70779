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
  #attempt: number;
  #run = 1;
  #inFlightBytes = 0;
  /** Ends of the log at times, oldest first; those before `durable` are gone, but for the last. */
  #marks: { readonly atMs: number; readonly sequence: number }[] = [];
  /** Ends of the log after writes that are not delivered yet, oldest first; of neighbours that were joined, the earlier time. */
  #writes: { readonly atMs: number; sequence: number }[] = [];
  /** Marks are at least this far apart, but for the last one. */
  #spacingMs = 0;

  /** `from`: everything before is durable at the destination. `attempt`: the first one. */
  constructor(from: Position, attempt = 1) {
    this.#read = from;
    this.#attempt = attempt;
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

  /** Everything before was sent, or need not be. */
  get read(): Position {
    return this.#read;
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
    return this.#marks.findLast((mark) => mark.sequence <= this.delivered.sequence)?.atMs;
  }

  /** The log ends at `endSequence` since `atMs`, of a monotonic clock. NaN: since a time that is not known. */
  wrote(atMs: number, endSequence: number): void {
    const writes = this.#writes;
    if (endSequence <= this.delivered.sequence) writes.length = 0;
    else if (writes.length < MAX_WRITES) writes.push({ atMs, sequence: endSequence });
    else {
      // Told in coarser steps: what came second of two is as old as what came first.
      const joined = writes.flatMap(({ atMs: firstMs }, i) =>
        i % 2 === 0 ? [{ atMs: firstMs, sequence: (writes[i + 1] ?? { sequence: endSequence }).sequence }] : [],
      );
      this.#writes = [...joined, { atMs, sequence: endSequence }];
    }
  }

  /** When the oldest record was written that is not delivered; NaN where it is not known, undefined where there is none. */
  get oldestMs(): number | undefined {
    const { sequence } = this.delivered;
    let count = 0;
    while (count < this.#writes.length && (this.#writes[count]?.sequence as number) <= sequence) count++;
    this.#writes.splice(0, count);
    return this.#writes[0]?.atMs;
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

  /** Begins again at `from`: what was sent counts no more. */
  restart(from: Position): void {
    const { sequence } = this.delivered;
    if (from.sequence < sequence) this.#writes.unshift({ atMs: Number.NaN, sequence });
    this.#sent.length = 0;
    this.#writtenCount = 0;
    this.#inFlightBytes = 0;
    this.#read = from;
    this.#attempt++;
    this.#run++;
  }

  /** Once a second, or so: `nowMs`, of a monotonic clock, is a time before `tailSequence`, the log's end, was looked up. */
  tick(nowMs: number, tailSequence: number): void {
    const past = this.#marks.findLastIndex((mark) => mark.sequence <= this.durable.sequence);
    if (past > 0) this.#marks.splice(0, past);
    if (this.#marks.length === 1) this.#spacingMs = 0;
    const [before, last] = this.#marks.slice(-2);
    const isClose = before !== undefined && last !== undefined && last.atMs - before.atMs < this.#spacingMs;
    if (isClose || this.#marks.at(-1)?.sequence === tailSequence) this.#marks.pop();
    this.#marks.push({ atMs: nowMs, sequence: tailSequence });
    if (this.#marks.length <= MAX_MARKS) return;
    // A lag of hours is told in coarser steps.
    this.#marks = this.#marks.filter((_, i) => i % 2 === 0);
    this.#spacingMs = Math.max(2 * this.#spacingMs, MIN_SPACING_MS);
  }
}

/** Even, so that the newest stays when every other one goes. */
const MAX_MARKS = 512;
/** Even, too. */
const MAX_WRITES = 256;
const MIN_SPACING_MS = 2_000;
