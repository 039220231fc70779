/** A sealed block whose chunks can leave memory because they lie on disk. */
export interface Evictable {
  readonly windowStartMs: number;
  readonly residentBytes: number;
  /** Drops the chunks from memory. Synchronous; readers that hold a view keep it alive. */
  evict(): void;
}

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
