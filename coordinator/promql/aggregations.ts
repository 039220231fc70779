/** The aggregations: one row each, with what folds a group's series into one, or chooses among them. */
import type { ValueType } from './ast.ts';
import { bottomk, type Choose, limitk, limitRatio, topk } from './choose.ts';
import { quantile, sortNanFirst } from './quantile.ts';
import { Slot } from './vector.ts';

/** What becomes of a group, a series at a time, all steps at once. */
export interface Accumulator {
  add(slot: Slot): void;
  /** Writes values, presence and point count. `params` are the parameter's values by step. */
  finish(slot: Slot, params: Float64Array | undefined): void;
}

interface Row {
  readonly name: string;
  readonly param?: Extract<ValueType, 'scalar' | 'string'>;
  readonly experimental?: boolean;
}

/** One series for each group. */
export interface FoldRow extends Row {
  readonly kind: 'fold';
  readonly accumulate: (steps: number) => Accumulator;
}

/** Some of the series of each group, step by step. */
export interface ChooseRow extends Row {
  readonly kind: 'choose';
  readonly choose: Choose;
}

/** count_values: one series for each group and value. */
export interface CountRow extends Row {
  readonly kind: 'count';
}

export type AggregationRow = FoldRow | ChooseRow | CountRow;

/** Sums with Neumaier's compensation. */
class Sum implements Accumulator {
  readonly #sums: Float64Array;
  readonly #compensations: Float64Array;
  readonly #counts: Uint32Array;

  constructor(steps: number) {
    this.#sums = new Float64Array(steps);
    this.#compensations = new Float64Array(steps);
    this.#counts = new Uint32Array(steps);
  }

  add({ values, present }: Slot): void {
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

  finish(slot: Slot): void {
    for (let i = 0; i < slot.values.length; i++) {
      if (this.#counts[i] === 0) continue;
      slot.values[i] = (this.#sums[i] as number) + (this.#compensations[i] as number);
      slot.present[i] = 1;
      slot.pointCount++;
    }
  }
}

class Average implements Accumulator {
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

  add({ values, present }: Slot): void {
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
    const mean = q * sum;
    const part = v / count;
    c *= q;
    const t = mean + part;
    if (t === Infinity || t === -Infinity) c = 0;
    else if (Math.abs(mean) >= Math.abs(part)) c += mean - t + part;
    else c += part - t + mean;
    this.#sums[i] = t;
    this.#compensations[i] = c;
  }

  finish(slot: Slot): void {
    for (let i = 0; i < slot.values.length; i++) {
      const count = this.#counts[i] as number;
      if (count === 0) continue;
      const sum = this.#sums[i] as number;
      const c = this.#compensations[i] as number;
      slot.values[i] = this.#incremental[i] === 1 ? sum + c : sum / count + c / count;
      slot.present[i] = 1;
      slot.pointCount++;
    }
  }
}

/** A value for each step that the series' values replace when they are better. NaN gives way to anything. */
class Extreme implements Accumulator {
  readonly #best: Float64Array;
  readonly #seen: Uint8Array;
  readonly #sign: 1 | -1;

  constructor(steps: number, sign: 1 | -1) {
    this.#best = new Float64Array(steps);
    this.#seen = new Uint8Array(steps);
    this.#sign = sign;
  }

  add({ values, present }: Slot): void {
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

  finish(slot: Slot): void {
    slot.values.set(this.#best);
    slot.present.set(this.#seen);
    slot.pointCount = count(this.#seen);
  }
}

class Count implements Accumulator {
  readonly #counts: Uint32Array;
  readonly #ones: boolean;

  /** `ones`: answers 1 wherever there is anything (`group`). */
  constructor(steps: number, ones: boolean) {
    this.#counts = new Uint32Array(steps);
    this.#ones = ones;
  }

  add({ present }: Slot): void {
    const counts = this.#counts;
    for (let i = 0; i < counts.length; i++) counts[i] = (counts[i] as number) + (present[i] as number);
  }

  finish(slot: Slot): void {
    for (let i = 0; i < slot.values.length; i++) {
      const counted = this.#counts[i] as number;
      if (counted === 0) continue;
      slot.values[i] = this.#ones ? 1 : counted;
      slot.present[i] = 1;
      slot.pointCount++;
    }
  }
}

/** Welford's running variance. */
class Variance implements Accumulator {
  readonly #counts: Uint32Array;
  readonly #means: Float64Array;
  readonly #squares: Float64Array;
  readonly #root: boolean;

  constructor(steps: number, root: boolean) {
    this.#counts = new Uint32Array(steps);
    this.#means = new Float64Array(steps);
    this.#squares = new Float64Array(steps);
    this.#root = root;
  }

  add({ values, present }: Slot): void {
    for (let i = 0; i < this.#counts.length; i++) {
      if (present[i] === 0) continue;
      const v = values[i] as number;
      const n = (this.#counts[i] as number) + 1;
      this.#counts[i] = n;
      if (n === 1) {
        this.#means[i] = v;
        this.#squares[i] = Number.isFinite(v) ? 0 : Number.NaN;
        continue;
      }
      const delta = v - (this.#means[i] as number);
      const mean = (this.#means[i] as number) + delta / n;
      this.#means[i] = mean;
      this.#squares[i] = (this.#squares[i] as number) + delta * (v - mean);
    }
  }

  finish(slot: Slot): void {
    for (let i = 0; i < slot.values.length; i++) {
      const n = this.#counts[i] as number;
      if (n === 0) continue;
      const variance = (this.#squares[i] as number) / n;
      slot.values[i] = this.#root ? Math.sqrt(variance) : variance;
      slot.present[i] = 1;
      slot.pointCount++;
    }
  }
}

/** Keeps all values of a group, since a quantile needs them. */
class Quantile implements Accumulator {
  readonly #slots: Slot[] = [];

  add(slot: Slot): void {
    const kept = new Slot(slot.values.length);
    kept.values.set(slot.values);
    kept.present.set(slot.present);
    this.#slots.push(kept);
  }

  finish(slot: Slot, params: Float64Array | undefined): void {
    const values = new Float64Array(this.#slots.length);
    for (let i = 0; i < slot.values.length; i++) {
      let n = 0;
      for (const kept of this.#slots) if (kept.present[i] === 1) values[n++] = kept.values[i] as number;
      if (n === 0) continue;
      sortNanFirst(values, n);
      slot.values[i] = quantile(params?.[i] as number, values, n);
      slot.present[i] = 1;
      slot.pointCount++;
    }
  }
}

function count(present: Uint8Array): number {
  let n = 0;
  for (let i = 0; i < present.length; i++) n += present[i] as number;
  return n;
}

const ROWS: readonly AggregationRow[] = [
  { kind: 'fold', name: 'sum', accumulate: (steps) => new Sum(steps) },
  { kind: 'fold', name: 'avg', accumulate: (steps) => new Average(steps) },
  { kind: 'fold', name: 'max', accumulate: (steps) => new Extreme(steps, 1) },
  { kind: 'fold', name: 'min', accumulate: (steps) => new Extreme(steps, -1) },
  { kind: 'fold', name: 'count', accumulate: (steps) => new Count(steps, false) },
  { kind: 'fold', name: 'group', accumulate: (steps) => new Count(steps, true) },
  { kind: 'fold', name: 'stddev', accumulate: (steps) => new Variance(steps, true) },
  { kind: 'fold', name: 'stdvar', accumulate: (steps) => new Variance(steps, false) },
  { kind: 'fold', name: 'quantile', param: 'scalar', accumulate: () => new Quantile() },
  { kind: 'choose', name: 'topk', param: 'scalar', choose: topk },
  { kind: 'choose', name: 'bottomk', param: 'scalar', choose: bottomk },
  { kind: 'choose', name: 'limitk', param: 'scalar', experimental: true, choose: limitk },
  { kind: 'choose', name: 'limit_ratio', param: 'scalar', experimental: true, choose: limitRatio },
  { kind: 'count', name: 'count_values', param: 'string' },
];

export const AGGREGATIONS: ReadonlyMap<string, AggregationRow> = new Map(ROWS.map((row) => [row.name, row]));
