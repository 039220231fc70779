/** The series a client knows: their identities, their shards and the references by which they travel. */

import { SilverbackError } from '../core/errors.ts';
import { fingerprint } from '../core/fingerprint.ts';
import { encodeIdentity, formatLabels, type Labels, makeLabels } from '../core/labels.ts';
import type { ReferenceSource } from './columns.ts';

/** Labels by name; `__name__` is the metric's name. Order does not matter, empty values are dropped. */
export type LabelSet = Readonly<Record<string, string>>;

/** A series that a client knows. Valid for the client that gave it. */
export interface Series {
  /** Its place in the client's table. */
  readonly index: number;
  readonly labels: Labels;
}

/**
 * Series get their index when they are first seen. Their shard and reference follow when the cluster's
 * shard count is known, which may be later; from then on it never changes.
 */
export class SeriesTable implements ReferenceSource {
  readonly #maxCount: number;
  readonly #byIdentity = new Map<string, Series>();
  readonly #series: Series[] = [];
  readonly #identities: Uint8Array[] = [];
  /** The upper half of h1, of which the top bits are the shard. */
  readonly #hashes: number[] = [];
  /** Series of each shard, by reference. */
  #refs: number[][] = [];
  #shardCount = 0;
  #shardOf = new Uint32Array(1024);
  #refOf = new Uint32Array(1024);
  #placedCount = 0;

  constructor(maxCount: number) {
    this.#maxCount = maxCount;
  }

  /** Throws INVALID_LABELS, or SERIES_LIMIT when the table is full. */
  intern(labelSet: LabelSet): Series {
    const labels = makeLabels(labelSet);
    const identity = encodeIdentity(labels);
    const key = Buffer.from(identity.buffer, identity.byteOffset, identity.length).toString('latin1');
    const known = this.#byIdentity.get(key);
    if (known !== undefined) return known;
    if (labels.length === 0) throw new SilverbackError('INVALID_LABELS', 'a series needs at least one label');
    if (this.#identities.length >= this.#maxCount) {
      throw new SilverbackError('SERIES_LIMIT', `the client knows ${this.#maxCount} series, its limit (maxSeries)`);
    }
    const series = { index: this.#identities.length, labels };
    this.#byIdentity.set(key, series);
    this.#series.push(series);
    this.#identities.push(identity);
    this.#hashes.push(Number(fingerprint(identity).h1 >> 32n));
    return series;
  }

  /** Throws INVALID_ARGUMENT for a series of another client: its index would mean another series here. */
  check(series: Series): void {
    if (this.#series[series.index] === series) return;
    throw new SilverbackError('INVALID_ARGUMENT', `${formatLabels(series.labels)} is a series of another client`);
  }

  /** Gives shards and references to the series that have none. Throws INVALID_ARGUMENT if the cluster's shard count changed. */
  place(shardCount: number): void {
    if (this.#shardCount === 0) {
      this.#shardCount = shardCount;
      this.#refs = Array.from({ length: shardCount }, () => []);
    } else if (this.#shardCount !== shardCount) {
      throw new SilverbackError(
        'INVALID_ARGUMENT',
        `the cluster has ${shardCount} shards where it had ${this.#shardCount}: this is another cluster`,
      );
    }
    const count = this.#identities.length;
    if (count > this.#shardOf.length) {
      this.#shardOf = grown(this.#shardOf, 2 * count);
      this.#refOf = grown(this.#refOf, 2 * count);
    }
    // The top bits of a 32-bit number: a division, because a shift by 32 is none.
    const span = 2 ** 32 / shardCount;
    for (; this.#placedCount < count; this.#placedCount++) {
      const shard = Math.floor((this.#hashes[this.#placedCount] as number) / span);
      const refs = this.#refs[shard] as number[];
      this.#shardOf[this.#placedCount] = shard;
      this.#refOf[this.#placedCount] = refs.length;
      refs.push(this.#placedCount);
    }
  }

  /** By series index. Views, valid until the next `place`. */
  get places(): { readonly shardCount: number; readonly shardOf: Uint32Array; readonly refOf: Uint32Array } {
    return { shardCount: this.#shardCount, shardOf: this.#shardOf, refOf: this.#refOf };
  }

  /** The index of the series behind a reference. */
  indexOf(shard: number, ref: number): number {
    return this.#refs[shard]?.[ref] ?? -1;
  }

  identity(shard: number, ref: number): Uint8Array {
    const identity = this.#identities[this.indexOf(shard, ref)];
    if (identity === undefined) throw new SilverbackError('INTERNAL', `shard ${shard} has no reference ${ref}`);
    return identity;
  }
}

function grown(words: Uint32Array, length: number): Uint32Array<ArrayBuffer> {
  const result = new Uint32Array(length);
  result.set(words);
  return result;
}
