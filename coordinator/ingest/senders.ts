/**
 * Who sends remote write: how much of what may be under way each may have, and what came of it. A sender is what its
 * requests call themselves (their user agent) at their address; of more than MAX_NAMES, all further ones are one.
 */
import { Pool, type Share } from '../../core/pool.ts';

const MAX_NAMES = 64;
const MAX_NAME_CHARS = 100;
const OTHERS = '(others)';

/** Counts since the start. */
export interface SenderTally {
  readonly sender: string;
  bodyCount: number;
  byteCount: number;
  sampleCount: number;
  refusedSampleCount: number;
  turnedAwayCount: number;
}

/** A body on its way in, from before it is read until it is answered. */
export class Admission {
  readonly #pool: Pool;
  readonly #share: Share;
  readonly #tally: SenderTally;
  #bytes: number;
  #isOver = false;

  /** Made by `Senders`. Throws RESOURCE_EXHAUSTED. */
  constructor(pool: Pool, tally: SenderTally, bytes: number) {
    this.#pool = pool;
    this.#tally = tally;
    this.#share = pool.open(tally.sender);
    this.#bytes = bytes;
    try {
      pool.enter(this.#share, bytes);
    } catch (error) {
      tally.turnedAwayCount++;
      pool.close(this.#share);
      throw error;
    }
    tally.bodyCount++;
    tally.byteCount += bytes;
  }

  /** It has so many bytes by now, or more. Throws RESOURCE_EXHAUSTED; what it had before stays admitted. */
  grow(bytes: number): void {
    if (this.#isOver || bytes <= this.#bytes) return;
    try {
      this.#pool.resize(this.#share, this.#bytes, bytes);
    } catch (error) {
      this.#tally.turnedAwayCount++;
      throw error;
    }
    this.#tally.byteCount += bytes - this.#bytes;
    this.#bytes = bytes;
  }

  answered(storedSampleCount: number, refusedSampleCount: number): void {
    this.#tally.sampleCount += storedSampleCount;
    this.#tally.refusedSampleCount += refusedSampleCount;
  }

  /** It is answered, or its sender has gone. */
  release(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#pool.leave(this.#share, this.#bytes);
    this.#pool.close(this.#share);
  }
}

export class Senders {
  readonly #pool: Pool;
  readonly #tallies = new Map<string, SenderTally>();

  constructor(limits: { readonly maxBytes: number; readonly maxCount: number }) {
    this.#pool = new Pool({ what: 'bodies', retryAfterMs: 1_000, ...limits });
  }

  /** Bytes of bodies under way. */
  get heldBytes(): number {
    return this.#pool.bytes;
  }

  get turnedAwayCount(): number {
    let count = 0;
    for (const tally of this.#tallies.values()) count += tally.turnedAwayCount;
    return count;
  }

  /** Throws RESOURCE_EXHAUSTED when too much is under way, or too much of this sender. */
  admit(sender: string, bytes: number): Admission {
    return new Admission(this.#pool, this.#tallyOf(sender.slice(0, MAX_NAME_CHARS)), bytes);
  }

  all(): Iterable<SenderTally> {
    return this.#tallies.values();
  }

  #tallyOf(cut: string): SenderTally {
    const sender = this.#tallies.has(cut) || this.#tallies.size < MAX_NAMES ? cut : OTHERS;
    let tally = this.#tallies.get(sender);
    if (tally === undefined) {
      tally = { sender, bodyCount: 0, byteCount: 0, sampleCount: 0, refusedSampleCount: 0, turnedAwayCount: 0 };
      this.#tallies.set(sender, tally);
    }
    return tally;
  }
}
