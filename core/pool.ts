/**
 * A bound of what is under way, shared by whoever comes. A holder may have as much as it leaves free to others: one alone
 * gets half of it, two get a third each, and somebody new always finds room ("dynamic thresholds", Choudhury and Hahne 1998).
 */
import { SilverbackError } from './errors.ts';

/** What one of those who share a pool has of it. */
export class Share {
  /** For messages. */
  readonly holder: string;
  bytes = 0;
  count = 0;
  /** Uses of `Shares.open` not yet closed. */
  openCount = 0;

  constructor(holder: string) {
    this.holder = holder;
  }
}

/** Who has a share, each one once. */
export class Shares {
  readonly #shares = new Map<string, Share>();

  /** The share of this holder: the same one for all that have it open. To be closed. */
  open(holder: string): Share {
    let share = this.#shares.get(holder);
    if (share === undefined) {
      share = new Share(holder);
      this.#shares.set(holder, share);
    }
    share.openCount++;
    return share;
  }

  /** What is under way of it is given back as before. */
  close(share: Share): void {
    if (--share.openCount === 0) this.#shares.delete(share.holder);
  }
}

export interface PoolOptions {
  /** Of what there is a bound, for messages: "requests". */
  readonly what: string;
  readonly maxBytes: number;
  readonly maxCount: number;
  /** When whoever finds no room should come again. */
  readonly retryAfterMs: number;
}

export class Pool extends Shares {
  readonly #options: PoolOptions;
  #bytes = 0;
  #count = 0;

  constructor(options: PoolOptions) {
    super();
    this.#options = options;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get count(): number {
    return this.#count;
  }

  /** Throws RESOURCE_EXHAUSTED where there is no room. What is larger than all of it passes when it is alone. */
  enter(share: Share, bytes: number): void {
    const { what, maxBytes, maxCount, retryAfterMs } = this.#options;
    const freeBytes = maxBytes - this.#bytes - bytes;
    const freeCount = maxCount - this.#count - 1;
    const isFull = freeBytes < 0 || freeCount < 0;
    if (this.#count > 0 && (isFull || (share.count > 0 && (share.bytes > freeBytes || share.count > freeCount)))) {
      const all = `${this.#count} ${what} of ${this.#bytes} bytes are under way`;
      const own = `${share.count} of ${share.bytes} bytes are of ${share.holder}`;
      const rule = isFull
        ? `at most ${maxCount} and ${maxBytes} bytes may be`
        : `of ${maxCount} and ${maxBytes} bytes nobody may have more than is left to others`;
      throw new SilverbackError('RESOURCE_EXHAUSTED', `${all}, ${own}: ${rule}, ${bytes} more have to wait`, {
        retryAfterMs,
      });
    }
    this.#add(share, bytes);
  }

  /** What has entered with `bytes` has `newBytes` now. Where there is no room for that, throws as `enter` does and changes nothing. */
  resize(share: Share, bytes: number, newBytes: number): void {
    this.leave(share, bytes);
    try {
      this.enter(share, newBytes);
    } catch (error) {
      this.#add(share, bytes);
      throw error;
    }
  }

  leave(share: Share, bytes: number): void {
    this.#bytes -= bytes;
    this.#count--;
    share.bytes -= bytes;
    share.count--;
  }

  #add(share: Share, bytes: number): void {
    this.#bytes += bytes;
    this.#count++;
    share.bytes += bytes;
    share.count++;
  }
}
