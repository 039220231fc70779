/**
 * Aggregations of a group of series, all steps at once. Those that nodes compute too are made of columns, so that what a
 * node has of a group travels as it is, and is merged with what others have.
 */
import type { Points } from './window.ts';

/** What becomes of a group, a series at a time. */
export interface Accumulator {
  add(points: Points): void;
  /** Writes values, presence and point count. `params` are the parameter's values by step. */
  finish(points: Points, params: Float64Array | undefined): void;
  /** The same where that may take long, in parts; each says how many values it looked at. */
  finishing?(points: Points, params: Float64Array | undefined): Iterable<number>;
}

type Column = Float64Array | Uint32Array | Uint8Array;

/** An aggregation whose parts can be computed apart. */
export interface Partial extends Accumulator {
  /** All there is to it, a value for each step and column. */
  readonly columns: readonly Column[];
  /** Adds what the columns of another of the same kind hold. */
  merge(columns: readonly Column[]): void;
}

/** Sums with Neumaier's compensation. */
export class Sum implements Partial {
  readonly #sums: Float64Array;
  readonly #compensations: Float64Array;
  readonly #counts: Uint32Array;

  constructor(steps: number) {
    this.#sums = new Float64Array(steps);
    this.#compensations = new Float64Array(steps);
    this.#counts = new Uint32Array(steps);
  }

  get columns(): [Float64Array, Float64Array, Uint32Array] {
    return [this.#sums, this.#compensations, this.#counts];
  }

  add({ values, present }: Points): void {
    const sums = this.#sums;
    const compensations = this.#compensations;
    const counts = this.#counts;
    for (let i = 0; i < sums.length; i++) {
      if (present[i] === 0) continue;
      const v = values[i] as number;
      const count = counts[i] as number;
      counts[i] = count + 1;
      if (count === 0) {
        sums[i] = v;
        continue;
      }
      const sum = sums[i] as number;
      const t = sum + v;
      sums[i] = t;
      if (t === Infinity || t === -Infinity) compensations[i] = 0;
      else if (Math.abs(sum) >= Math.abs(v)) compensations[i] = (compensations[i] as number) + (sum - t + v);
      else compensations[i] = (compensations[i] as number) + (v - t + sum);
    }
  }

  merge([otherSums, otherCompensations, otherCounts]: [Float64Array, Float64Array, Uint32Array]): void {
    for (let i = 0; i < otherCounts.length; i++) {
      if (otherCounts[i] === 0) continue;
      const v = otherSums[i] as number;
      const added = otherCompensations[i] as number;
      const count = this.#counts[i] as number;
      this.#counts[i] = count + (otherCounts[i] as number);
      if (count === 0) {
        this.#sums[i] = v;
        this.#compensations[i] = added;
        continue;
      }
      const sum = this.#sums[i] as number;
      const c = this.#compensations[i] as number;
      const t = sum + v;
      this.#sums[i] = t;
      if (t === Infinity || t === -Infinity) this.#compensations[i] = 0;
      else if (Math.abs(sum) >= Math.abs(v)) this.#compensations[i] = c + added + (sum - t + v);
      else this.#compensations[i] = c + added + (v - t + sum);
    }
  }

  finish(points: Points): void {
    for (let i = 0; i < points.values.length; i++) {
      if (this.#counts[i] === 0) continue;
      points.values[i] = (this.#sums[i] as number) + (this.#compensations[i] as number);
      points.present[i] = 1;
      points.pointCount++;
    }
  }
}

export class Average implements Partial {
  readonly #sums: Float64Array;
  readonly #compensations: Float64Array;
  readonly #counts: Uint32Array;
  /** 1 where `sums` holds the running mean, since the sum would overflow. */
  readonly #incremental: Uint8Array;

  constructor(steps: number) {
    this.#sums = new Float64Array(steps);
    this.#compensations = new Float64Array(steps);
    this.#counts = new Uint32Array(steps);
    this.#incremental = new Uint8Array(steps);
  }

  get columns(): [Float64Array, Float64Array, Uint32Array, Uint8Array] {
    return [this.#sums, this.#compensations, this.#counts, this.#incremental];
  }

  add({ values, present }: Points): void {
    const counts = this.#counts;
    for (let i = 0; i < counts.length; i++) {
      if (present[i] === 0) continue;
      const count = (counts[i] as number) + 1;
      counts[i] = count;
      const v = values[i] as number;
      if (count === 1) this.#sums[i] = v;
      else this.#addAt(i, v, count);
    }
  }

  #addAt(i: number, v: number, count: number): void {
    let sum = this.#sums[i] as number;
    let c = this.#compensations[i] as number;
    if (this.#incremental[i] === 0) {
      const t = sum + v;
      if (t !== Infinity && t !== -Infinity) {
        this.#compensations[i] = Math.abs(sum) >= Math.abs(v) ? c + (sum - t + v) : c + (v - t + sum);
        this.#sums[i] = t;
        return;
      }
      this.#incremental[i] = 1;
      sum /= count - 1;
      c /= count - 1;
    }
    const q = (count - 1) / count;
    this.#addMean(i, q * sum, q * c, v / count);
  }

  /** Makes the mean of two addends of it, the first with its compensation. */
  #addMean(i: number, mean: number, compensation: number, part: number): void {
    const t = mean + part;
    let c = compensation;
    if (t === Infinity || t === -Infinity) c = 0;
    else if (Math.abs(mean) >= Math.abs(part)) c += mean - t + part;
    else c += part - t + mean;
    this.#sums[i] = t;
    this.#compensations[i] = c;
  }

  merge(columns: [Float64Array, Float64Array, Uint32Array, Uint8Array]): void {
    const counts = columns[2];
    for (let i = 0; i < counts.length; i++) if (counts[i] !== 0) this.#mergeAt(i, columns);
  }

  #mergeAt(i: number, columns: [Float64Array, Float64Array, Uint32Array, Uint8Array]): void {
    let v = columns[0][i] as number;
    let added = columns[1][i] as number;
    const otherCount = columns[2][i] as number;
    const otherIncremental = columns[3][i] as number;
    const ownCount = this.#counts[i] as number;
    const count = ownCount + otherCount;
    this.#counts[i] = count;
    if (ownCount === 0) {
      this.#sums[i] = v;
      this.#compensations[i] = added;
      this.#incremental[i] = otherIncremental;
      return;
    }
    let sum = this.#sums[i] as number;
    let c = this.#compensations[i] as number;
    if (this.#incremental[i] === 0 && otherIncremental === 0) {
      const t = sum + v;
      if (t !== Infinity && t !== -Infinity) {
        this.#compensations[i] = c + added + (Math.abs(sum) >= Math.abs(v) ? sum - t + v : v - t + sum);
        this.#sums[i] = t;
        return;
      }
    }
    if (this.#incremental[i] === 0) {
      sum /= ownCount;
      c /= ownCount;
    }
    if (otherIncremental === 0) {
      v /= otherCount;
      added /= otherCount;
    }
    this.#incremental[i] = 1;
    const own = ownCount / count;
    const other = otherCount / count;
    this.#addMean(i, own * sum, own * c + other * added, other * v);
  }

  finish(points: Points): void {
    for (let i = 0; i < points.values.length; i++) {
      const count = this.#counts[i] as number;
      if (count === 0) continue;
      const sum = this.#sums[i] as number;
      const c = this.#compensations[i] as number;
      points.values[i] = this.#incremental[i] === 1 ? sum + c : sum / count + c / count;
      points.present[i] = 1;
      points.pointCount++;
    }
  }
}

/** A value for each step that the series' values replace when they are better. NaN gives way to anything. */
export class Extreme implements Partial {
  readonly #best: Float64Array;
  readonly #seen: Uint8Array;
  readonly #sign: 1 | -1;

  constructor(steps: number, sign: 1 | -1) {
    this.#best = new Float64Array(steps);
    this.#seen = new Uint8Array(steps);
    this.#sign = sign;
  }

  get columns(): [Float64Array, Uint8Array] {
    return [this.#best, this.#seen];
  }

  add({ values, present }: Points): void {
    this.merge([values, present]);
  }

  merge([values, present]: [Float64Array, Uint8Array]): void {
    const best = this.#best;
    const seen = this.#seen;
    const sign = this.#sign;
    for (let i = 0; i < best.length; i++) {
      if (present[i] === 0) continue;
      const v = values[i] as number;
      const b = best[i] as number;
      if (seen[i] === 0 || (sign === 1 ? b < v : b > v) || Number.isNaN(b)) best[i] = v;
      seen[i] = 1;
    }
  }

  finish(points: Points): void {
    points.values.set(this.#best);
    points.present.set(this.#seen);
    let count = 0;
    for (const seen of this.#seen) count += seen;
    points.pointCount = count;
  }
}

export class Count implements Partial {
  readonly #counts: Uint32Array;
  readonly #ones: boolean;

  /** `ones`: answers 1 wherever there is anything (`group`). */
  constructor(steps: number, ones: boolean) {
    this.#counts = new Uint32Array(steps);
    this.#ones = ones;
  }

  get columns(): [Uint32Array] {
    return [this.#counts];
  }

  add({ present }: Points): void {
    this.merge([present]);
  }

  merge([added]: [Column]): void {
    const counts = this.#counts;
    for (let i = 0; i < counts.length; i++) counts[i] = (counts[i] as number) + (added[i] as number);
  }

  finish(points: Points): void {
    for (let i = 0; i < points.values.length; i++) {
      const counted = this.#counts[i] as number;
      if (counted === 0) continue;
      points.values[i] = this.#ones ? 1 : counted;
      points.present[i] = 1;
      points.pointCount++;
    }
  }
}
