/**
 * Decodes what a shard knows of a series, window by window, into one pair of columns in the kernel's memory: nothing but a
 * block's chunk is copied on the way.
 */
import { SilverbackError } from '../errors.ts';
import { Outcome, type ShardInstance } from './instance.ts';

export class SeriesColumns {
  readonly #instance: ShardInstance;
  #timestamps: Float64Array = new Float64Array(0);
  #values: Float64Array = new Float64Array(0);

  constructor(instance: ShardInstance) {
    this.#instance = instance;
  }

  /** Empties the columns: another series begins. */
  begin(): void {
    this.#instance.exports.beginColumns(0);
  }

  /**
   * Adds the samples in [fromMs, toMs] of a series (a SeriesId) in a window: those of its open run, merged with the block's chunk where
   * there is one, without what is `dead` (as for `ShardKernel.chunk`). Windows come in time order. Returns how many samples
   * had to be looked at, 0 when none is in the range. Throws CORRUPT when `block` is no chunk of the window, INTERNAL for a slot
   * that is not in use, RESOURCE_EXHAUSTED when memory is full.
   */
  add(
    id: number,
    windowStartMs: number,
    block: Uint8Array | undefined,
    fromMs: number,
    toMs: number,
    dead?: Uint32Array,
  ): number {
    const { exports } = this.#instance;
    if (exports.identityAt(id) === 0) throw new SilverbackError('INTERNAL', `series ${id} is not in use`);
    let count: number = Outcome.broken;
    if (block?.length !== 0) {
      if (block !== undefined) this.#instance.putInput(block);
      const deadPairs = this.#instance.putDead(dead);
      count = exports.addSeries(id, windowStartMs, block?.length ?? 0, fromMs, toMs, deadPairs);
    }
    if (count >= 0) return count;
    if (count !== Outcome.broken) throw this.#instance.full(`the samples of series ${id} in window ${windowStartMs}`);
    throw new SilverbackError('CORRUPT', `the block's chunk of series ${id} in window ${windowStartMs} is broken`);
  }

  /** Samples in the columns. */
  get count(): number {
    return this.#instance.exports.columnsLength();
  }

  /** A view of `count` timestamps and perhaps more, until the next call on the kernel. */
  get timestamps(): Float64Array {
    this.#timestamps = this.#viewed(this.#timestamps, this.#instance.exports.timestampsAt());
    return this.#timestamps;
  }

  /** The values, likewise. NaN payloads are kept: look at them as bits. */
  get values(): Float64Array {
    this.#values = this.#viewed(this.#values, this.#instance.exports.valuesAt());
    return this.#values;
  }

  /** The view itself where it will still do: making one costs more than decoding a few samples. */
  #viewed(view: Float64Array, address: number): Float64Array {
    const at = address >>> 0;
    const { count } = this;
    const { buffer } = this.#instance.bytes;
    if (view.buffer === buffer && view.byteOffset === at && view.length >= count) return view;
    return new Float64Array(buffer, at, count);
  }
}
