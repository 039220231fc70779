/** Functions that change values one by one. */
import type { Slot } from '../vector.ts';
import type { MapFunction } from './row.ts';

type Apply = MapFunction['apply'];

/** Applies `f` to every present value. */
function unary(f: (v: number) => number): Apply {
  return ({ values, present }) => {
    for (let i = 0; i < values.length; i++) if (present[i] === 1) values[i] = f(values[i] as number);
  };
}

/** Go's math.Max: an infinity wins over NaN. */
const goMax = (a: number, b: number): number => (a === Infinity || b === Infinity ? Infinity : Math.max(a, b));
const goMin = (a: number, b: number): number => (a === -Infinity || b === -Infinity ? -Infinity : Math.min(a, b));

/** Clamps to the step's bounds; no answer where they contradict each other. */
function clampTo(slot: Slot, min: Float64Array | undefined, max: Float64Array | undefined): void {
  const { values, present } = slot;
  for (let i = 0; i < values.length; i++) {
    if (present[i] === 0) continue;
    const lower = min === undefined ? -Infinity : (min[i] as number);
    const upper = max === undefined ? Infinity : (max[i] as number);
    if (upper < lower) {
      present[i] = 0;
      slot.pointCount--;
    } else {
      values[i] = goMax(lower, goMin(upper, values[i] as number));
    }
  }
}

const vector = { kind: 'map', returns: 'vector', args: ['vector'] } as const;

/** Go's math.Log2 is exact for powers of two, and so is V8's. */
export const MATH: readonly MapFunction[] = [
  { ...vector, name: 'abs', apply: unary(Math.abs) },
  { ...vector, name: 'ceil', apply: unary(Math.ceil) },
  { ...vector, name: 'floor', apply: unary(Math.floor) },
  { ...vector, name: 'exp', apply: unary(Math.exp) },
  { ...vector, name: 'sqrt', apply: unary(Math.sqrt) },
  { ...vector, name: 'ln', apply: unary(Math.log) },
  { ...vector, name: 'log2', apply: unary(Math.log2) },
  { ...vector, name: 'log10', apply: unary(Math.log10) },
  { ...vector, name: 'sin', apply: unary(Math.sin) },
  { ...vector, name: 'cos', apply: unary(Math.cos) },
  { ...vector, name: 'tan', apply: unary(Math.tan) },
  { ...vector, name: 'asin', apply: unary(Math.asin) },
  { ...vector, name: 'acos', apply: unary(Math.acos) },
  { ...vector, name: 'atan', apply: unary(Math.atan) },
  { ...vector, name: 'sinh', apply: unary(Math.sinh) },
  { ...vector, name: 'cosh', apply: unary(Math.cosh) },
  { ...vector, name: 'tanh', apply: unary(Math.tanh) },
  { ...vector, name: 'asinh', apply: unary(Math.asinh) },
  { ...vector, name: 'acosh', apply: unary(Math.acosh) },
  { ...vector, name: 'atanh', apply: unary(Math.atanh) },
  { ...vector, name: 'rad', apply: unary((v) => (v * Math.PI) / 180) },
  { ...vector, name: 'deg', apply: unary((v) => (v * 180) / Math.PI) },
  { ...vector, name: 'sgn', apply: unary((v) => (v < 0 ? -1 : v > 0 ? 1 : v)) },
  {
    ...vector,
    name: 'clamp',
    args: ['vector', 'scalar', 'scalar'],
    apply: (slot, [min, max]) => clampTo(slot, min, max),
  },
  { ...vector, name: 'clamp_min', args: ['vector', 'scalar'], apply: (slot, [min]) => clampTo(slot, min, undefined) },
  { ...vector, name: 'clamp_max', args: ['vector', 'scalar'], apply: (slot, [max]) => clampTo(slot, undefined, max) },
  {
    ...vector,
    name: 'round',
    args: ['vector', 'scalar'],
    variadic: 1,
    apply: ({ values, present }, [nearest]) => {
      for (let i = 0; i < values.length; i++) {
        if (present[i] === 0) continue;
        const inverse = 1 / (nearest === undefined ? 1 : (nearest[i] as number));
        values[i] = Math.floor((values[i] as number) * inverse + 0.5) / inverse;
      }
    },
  },
];
