/** What a row of the function table holds. */
import type { Call, ValueType } from '../ast.ts';
import type { Context } from '../context.ts';
import type { Kernel, KernelOptions } from '../range.ts';
import type { Cursor, Slot } from '../vector.ts';

interface Signature {
  readonly name: string;
  readonly args: readonly ValueType[];
  /** Absent: exactly `args`. Else the last argument may be missing, or occur up to so many times; -1: any number of times. */
  readonly variadic?: number;
  readonly experimental?: boolean;
  /** Its answer can differ from step to step though its arguments do not (Prometheus's AtModifierUnsafeFunctions). */
  readonly stepDependent?: boolean;
}

/** Value by value, with the scalar arguments of the step. Drops the metric name. */
export interface MapFunction extends Signature {
  readonly kind: 'map';
  readonly returns: 'vector';
  /** Changes the present values of `slot` in place; may make points absent. */
  readonly apply: (slot: Slot, scalars: readonly Float64Array[]) => void;
}

/** A series' window at each step to a value. */
export interface WindowFunction extends Signature, KernelOptions {
  readonly kind: 'window';
  readonly returns: 'vector';
  readonly kernel: Kernel;
}

/** Anything else that answers a vector. */
export interface VectorFunction extends Signature {
  readonly kind: 'vector';
  readonly returns: 'vector';
  readonly open: (call: Call, context: Context) => Promise<Cursor>;
}

export interface ScalarFunction extends Signature {
  readonly kind: 'scalar';
  readonly returns: 'scalar';
  readonly open: (call: Call, context: Context) => Promise<Float64Array>;
}

export type FunctionRow = MapFunction | WindowFunction | VectorFunction | ScalarFunction;
