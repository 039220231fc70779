/** Between scalars and vectors, absence, timestamps, time. */
import { type Labels, NO_LABELS } from '../../../core/labels.ts';
import { METRIC_NAME, withLabel } from '../../../core/promql/labelset.ts';
import { type Call, type Expr, unwrap, type VectorSelector } from '../ast.ts';
import { type Context, fold } from '../context.ts';
import { Mapped } from '../map.ts';
import { CallWindows, InstantCursor } from '../range.ts';
import { BUSY, type Cursor, DONE, EMPTY, Kept, Slot } from '../vector.ts';
import type { FunctionRow } from './row.ts';

/** A vector of one series without labels. */
function single(values: Float64Array): Cursor {
  const slot = new Slot(values.length);
  slot.labels = NO_LABELS;
  slot.values.set(values);
  slot.present.fill(1);
  slot.pointCount = values.length;
  return new Kept([slot], 'none');
}

/** A series of ones where `seen` is 0. */
function absence(seen: Uint8Array, labels: Labels): Cursor {
  const slot = new Slot(seen.length);
  slot.labels = labels;
  slot.values.fill(1);
  for (let i = 0; i < seen.length; i++) {
    slot.present[i] = 1 - (seen[i] as number);
    slot.pointCount += slot.present[i] as number;
  }
  return slot.pointCount === 0 ? EMPTY : new Kept([slot], 'none');
}

/** Labels that a selector's equality matchers pin down; none for other expressions. A label matched twice is left out. */
function pinnedLabels(expr: Expr): Labels {
  const selector: VectorSelector | undefined =
    expr.kind === 'selector' ? expr : expr.kind === 'matrix' ? expr.selector : undefined;
  let labels = NO_LABELS;
  const seen = new Set<string>();
  for (const { name, op, value } of selector?.matchers ?? []) {
    if (name === METRIC_NAME) continue;
    const first = op === '=' && !seen.has(name);
    labels = withLabel(labels, name, first ? value : '');
    if (first) seen.add(name);
  }
  return labels;
}

async function absent(call: Call, context: Context): Promise<Cursor> {
  const arg = unwrap(call.args[0] as Expr);
  const seen = new Uint8Array(context.grid.count);
  await fold(await context.vector(arg), context, ({ present }) => {
    for (let i = 0; i < seen.length; i++) seen[i] = (seen[i] as number) | (present[i] as number);
  });
  return absence(seen, pinnedLabels(arg));
}

async function absentOverTime(call: Call, context: Context): Promise<Cursor> {
  const arg = unwrap(call.args[0] as Expr);
  if (arg.kind !== 'matrix' && arg.kind !== 'subquery') return EMPTY;
  const input = await context.range(arg);
  const windows = new CallWindows(input, call, [], context);
  const seen = new Uint8Array(context.grid.count);
  for (;;) {
    const progress = input.next(windows);
    if (progress === DONE) break;
    if (progress !== BUSY) {
      context.samples.total += windows.sweep(context.samples.perStep);
      for (let i = 0; i < seen.length; i++) if ((windows.high[i] as number) > (windows.low[i] as number)) seen[i] = 1;
    }
    if (context.budget.due()) await context.budget.pause();
  }
  return absence(seen, pinnedLabels(arg));
}

async function scalar(call: Call, context: Context): Promise<Float64Array> {
  const values = new Float64Array(context.grid.count).fill(Number.NaN);
  const counts = new Uint8Array(context.grid.count);
  await fold(await context.vector(call.args[0] as Expr), context, (slot) => {
    for (let i = 0; i < values.length; i++) {
      if (slot.present[i] === 0) continue;
      values[i] = counts[i] === 0 ? (slot.values[i] as number) : Number.NaN;
      counts[i] = 1;
    }
  });
  return values;
}

async function timestamp(call: Call, context: Context): Promise<Cursor> {
  const arg = unwrap(call.args[0] as Expr);
  const { startMs, stepMs } = context.grid;
  if (arg.kind === 'selector') {
    const reference = context.reference(arg);
    const cursor = new InstantCursor(context.select(arg), namesOf(arg), reference, context, 'timestamps');
    return Mapped.open(cursor, context, () => undefined);
  }
  return Mapped.open(await context.vector(arg), context, ({ values }) => {
    for (let i = 0; i < values.length; i++) values[i] = (startMs + i * stepMs) / 1000;
  });
}

/** How many metric names a selector can find. */
export function namesOf(selector: VectorSelector): 'one' | 'many' {
  return selector.matchers.some((m) => m.name === METRIC_NAME && m.op === '=' && m.value !== '') ? 'one' : 'many';
}

/** A scalar that is known from the grid alone. */
function given(name: string, of: (context: Context, step: number) => number, flags: object = {}): FunctionRow {
  return {
    kind: 'scalar',
    returns: 'scalar',
    name,
    args: [],
    ...flags,
    open: async (_, context) => Float64Array.from({ length: context.grid.count }, (_, step) => of(context, step)),
  };
}

const experimental = { experimental: true };

export const MISC: readonly FunctionRow[] = [
  given('time', ({ grid }, step) => (grid.startMs + step * grid.stepMs) / 1000, { stepDependent: true }),
  given('pi', () => Math.PI),
  given('start', ({ query }) => query.startMs / 1000, experimental),
  given('end', ({ query }) => query.endMs / 1000, experimental),
  given('range', ({ query }) => (query.endMs - query.startMs) / 1000, experimental),
  given('step', ({ query }) => query.stepMs / 1000, experimental),
  { kind: 'scalar', returns: 'scalar', name: 'scalar', args: ['vector'], open: scalar },
  {
    kind: 'vector',
    returns: 'vector',
    name: 'vector',
    args: ['scalar'],
    open: async (call, context) => single(await context.scalar(call.args[0] as Expr)),
  },
  { kind: 'vector', returns: 'vector', name: 'absent', args: ['vector'], open: absent },
  { kind: 'vector', returns: 'vector', name: 'absent_over_time', args: ['matrix'], open: absentOverTime },
  { kind: 'vector', returns: 'vector', name: 'timestamp', args: ['vector'], stepDependent: true, open: timestamp },
];
