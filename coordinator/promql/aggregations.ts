/** The aggregations: one row each, with what folds a group's series into one, or chooses among them. */
import { type Accumulator, Average, Count, Extreme, Sum } from '../../core/promql/accumulate.ts';
import { selectQuantile } from '../../core/promql/quantile.ts';
import type { ValueType } from './ast.ts';
import { bottomk, type Choose, limitk, limitRatio, topk } from './choose.ts';
import { Slot } from './vector.ts';

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
    for (const _ of this.finishing(slot, params));
  }

  *finishing(slot: Slot, params: Float64Array | undefined): Generator<number> {
    const { length } = this.#slots;
    const columns = Array.from({ length: BLOCK_STEPS }, () => new Float64Array(length));
    const counts = new Uint32Array(BLOCK_STEPS);
    for (let first = 0; first < slot.values.length; first += BLOCK_STEPS) {
      const steps = Math.min(BLOCK_STEPS, slot.values.length - first);
      counts.fill(0);
      for (let s = 0; s < length; s++) {
        const { values, present } = this.#slots[s] as Slot;
        for (let k = 0; k < steps; k++) {
          if (present[first + k] === 0) continue;
          const n = counts[k] as number;
          (columns[k] as Float64Array)[n] = values[first + k] as number;
          counts[k] = n + 1;
        }
      }
      for (let k = 0; k < steps; k++) {
        const n = counts[k] as number;
        if (n === 0) continue;
        slot.values[first + k] = selectQuantile(params?.[first + k] as number, columns[k] as Float64Array, n);
        slot.present[first + k] = 1;
        slot.pointCount++;
        yield n * VALUE_COST;
      }
    }
  }
}

/** Steps whose values are gathered together: they lie in one cache line of each series. */
const BLOCK_STEPS = 8;
/** Finding a quantile among values takes so much longer than a decoded sample. */
const VALUE_COST = 4;

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
