/** Sorting: it only shows in an instant query, and only in its last step. */
import { compareLabels, labelValue } from '../../../core/labels.ts';
import { sortSlices } from '../../../core/order.ts';
import type { Call, Expr } from '../ast.ts';
import { type Context, collect } from '../context.ts';
import { type Cursor, Kept, type Slot } from '../vector.ts';
import { text } from './label.ts';
import type { VectorFunction } from './row.ts';

async function sortSlots(call: Call, context: Context, order: (a: Slot, b: Slot) => number): Promise<Cursor> {
  const inner = await context.vector(call.args[0] as Expr);
  if (context.grid.count > 1) context.annotations.sortInRange(call.span);
  const slots = [...(await collect(inner, context))];
  return new Kept(await sortSlices(slots, order, context.budget), inner.names);
}

/** By the value at the only step; NaN last, whichever way it goes. */
function byValue(sign: 1 | -1): VectorFunction['open'] {
  return (call, context) =>
    sortSlots(call, context, (a, b) => {
      const x = a.values[0] as number;
      const y = b.values[0] as number;
      if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y));
      return x < y ? -sign : x > y ? sign : 0;
    });
}

/** Runs of digits compare as numbers, the rest as text ("natural" order). */
function naturalOrder(a: string, b: string): number {
  const x = a.match(/\d+|\D+/g) ?? [];
  const y = b.match(/\d+|\D+/g) ?? [];
  for (let i = 0; i < Math.min(x.length, y.length); i++) {
    const p = x[i] as string;
    const q = y[i] as string;
    if (p === q) continue;
    if (/^\d/.test(p) && /^\d/.test(q)) {
      const difference = BigInt(p) - BigInt(q);
      if (difference !== 0n) return difference < 0n ? -1 : 1;
      return p.length - q.length;
    }
    return p < q ? -1 : 1;
  }
  return x.length - y.length;
}

function byLabel(sign: 1 | -1): VectorFunction['open'] {
  return (call, context) => {
    const names = call.args.slice(1).map((_, i) => text(call, 1 + i));
    return sortSlots(call, context, (a, b) => {
      for (const name of names) {
        const order = naturalOrder(labelValue(a.labels, name), labelValue(b.labels, name));
        if (order !== 0) return sign * order;
      }
      return sign * compareLabels(a.labels, b.labels);
    });
  };
}

const vector = { kind: 'vector', returns: 'vector', args: ['vector'] } as const;
const labelled = { ...vector, args: ['vector', 'string'], variadic: -1, experimental: true } as const;

export const SORT: readonly VectorFunction[] = [
  { ...vector, name: 'sort', open: byValue(1) },
  { ...vector, name: 'sort_desc', open: byValue(-1) },
  { ...labelled, name: 'sort_by_label', open: byLabel(1) },
  { ...labelled, name: 'sort_by_label_desc', open: byLabel(-1) },
];
