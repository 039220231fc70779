/** A sealed block whose chunks can leave memory because they lie on disk. */
export interface Evictable {
  readonly windowStartMs: number;
  readonly residentBytes: number;
  /** Drops the chunks from memory. Synchronous; readers that hold a view keep it alive. */
  evict(): void;
}

/**
 * Parts of the limit that may be held for good. Past the first no new series are taken, so that those that are there have
 * room for their samples; past the second kernels seal what they can, and use again what that frees; past all of it they
 * no longer grow.
 */
const SERIES_SHARE = 3 / 4;
const TIGHT_SHARE = 7 / 8;
/** What a shard may hold however small the budget is: its empty tables and a little more. */
const SHARD_FLOOR_BYTES = 1 << 20;

/**
 * The memory budget of a process, shared by its shards: what they hold for good (kernels, indexes) and the blocks they
 * hold in memory. Past the limit the oldest blocks of any shard leave memory and are read from disk.
 */
export class Budget {
  readonly limitBytes: number;
  readonly #fixed = new Map<object, number>();
  readonly #blocks = new Set<Evictable>();
  #fixedBytes = 0;
  #blockBytes = 0;

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  get usedBytes(): number {
    return this.#fixedBytes + this.#blockBytes;
  }

  get blockBytes(): number {
    return this.#blockBytes;
  }

  /** States what `owner` holds beside blocks; 0 forgets it. */
  hold(owner: object, bytes: number): void {
    this.#fixedBytes += bytes - (this.#fixed.get(owner) ?? 0);
    if (bytes === 0) this.#fixed.delete(owner);
    else this.#fixed.set(owner, bytes);
  }

  /** A block came into memory. */
  add(block: Evictable): void {
    if (this.#blocks.has(block)) return;
    this.#blocks.add(block);
    this.#blockBytes += block.residentBytes;
  }

  /** A block is about to leave memory; its `residentBytes` are still what they were when it came. */
  delete(block: Evictable): void {
    if (this.#blocks.delete(block)) this.#blockBytes -= block.residentBytes;
  }

  /** What no block can make room for. */
  get fixedBytes(): number {
    return this.#fixedBytes;
  }

  /** So much may be held for good while new series are taken. */
  get seriesBytes(): number {
    return this.#part(SERIES_SHARE);
  }

  /** Little is left that blocks could make room for. */
  get isTight(): boolean {
    return this.#fixedBytes > this.#part(TIGHT_SHARE);
  }

  /** Nothing is. */
  get isFull(): boolean {
    return this.#fixedBytes > this.#part(1);
  }

  #part(share: number): number {
    return Math.max(this.limitBytes * share, this.#fixed.size * SHARD_FLOOR_BYTES);
  }

  /** Would `bytes` more fit? */
  fits(bytes: number): boolean {
    return this.usedBytes + bytes <= this.limitBytes;
  }

  /** Evicts the oldest blocks until the limit holds. False: nothing is left to evict and it still does not. */
  enforce(): boolean {
    while (this.usedBytes > this.limitBytes) {
      let oldest: Evictable | undefined;
      for (const block of this.#blocks) {
        if (oldest === undefined || block.windowStartMs < oldest.windowStartMs) oldest = block;
      }
      if (oldest === undefined) return false;
      this.delete(oldest);
      oldest.evict();
    }
    return true;
  }
}
