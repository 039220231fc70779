/** topk, bottomk, limitk, limit_ratio: which series of each group a step keeps. */
import { compareLabels, type Labels } from '../../core/labels.ts';
import { sortSlices } from '../../core/order.ts';
import { Heap } from '../../core/promql/heap.ts';
import type { Annotations } from './annotations.ts';
import type { Span } from './ast.ts';
import type { Budget } from './budget.ts';
import { QueryError } from './error.ts';
import type { Slot } from './vector.ts';

export interface ChooseInput {
  /** All series, kept; choosing clears the presence of what is not chosen. */
  readonly slots: readonly Slot[];
  /** The group of each. */
  readonly groups: Int32Array;
  readonly groupCount: number;
  readonly steps: number;
  readonly params: Float64Array;
  readonly paramSpan: Span;
  readonly annotations: Annotations;
  readonly budget: Budget;
}

/** Clears what is not chosen, and answers the series in the order in which an instant query shows them. */
export type Choose = (input: ChooseInput) => Promise<readonly Slot[]>;

/** What the steps choose. */
class Chosen {
  readonly #steps: number;
  readonly #presence = new Map<Slot, Uint8Array>();

  constructor(steps: number) {
    this.#steps = steps;
  }

  add(slot: Slot, step: number): void {
    let present = this.#presence.get(slot);
    if (present === undefined) {
      present = new Uint8Array(this.#steps);
      this.#presence.set(slot, present);
    }
    present[step] = 1;
  }

  /** The series with any point left. */
  async finish(budget: Budget): Promise<readonly Slot[]> {
    for (const [slot, present] of this.#presence) {
      slot.present.set(present);
      slot.pointCount = present.reduce((sum, p) => sum + p, 0);
      budget.spend(present.length);
      if (budget.due()) await budget.pause();
    }
    return [...this.#presence.keys()];
  }
}

/** Runs `pick` for every step, which calls `choose` for what stays. Returns the series with any point left. */
async function perStep(
  { steps, slots, budget }: ChooseInput,
  pick: (step: number, choose: (slot: Slot) => void) => void,
): Promise<readonly Slot[]> {
  const chosen = new Chosen(steps);
  for (let step = 0; step < steps; step++) {
    pick(step, (slot) => chosen.add(slot, step));
    budget.spend(slots.length);
    if (budget.due()) await budget.pause();
  }
  return chosen.finish(budget);
}

/** Past the largest count that Go's int64 holds (Prometheus's bound differs by rounding that no float64 shows). */
const MAX_INT64 = 2 ** 63;

/** Throws for parameters that are no count; false when no step keeps anything. */
function checkCounts(params: Float64Array): boolean {
  const max = Math.max(...minMax(params));
  if (max < 1) return false;
  if (params.some(Number.isNaN)) throw new QueryError('execution', 'Parameter value is NaN');
  for (const v of params) {
    if (v <= -MAX_INT64) throw new QueryError('execution', `Scalar value ${v} underflows int64`);
    if (v >= MAX_INT64) throw new QueryError('execution', `Scalar value ${v} overflows int64`);
  }
  return true;
}

function minMax(params: Float64Array): [number, number] {
  let min = Infinity;
  let max = -Infinity;
  for (const v of params) {
    min = Math.min(min, v);
    max = Math.max(max, v);
  }
  return [min, max];
}

/** Steps that are chosen for together: their values lie in one cache line of each series. */
const BLOCK_STEPS = 8;
/** Heaps that are worth having for that. */
const MAX_HEAPS = 4_096;

const compareSlots = (a: Slot, b: Slot): number => compareLabels(a.labels, b.labels);

function best(sign: 1 | -1): Choose {
  return async ({ slots, groups, groupCount, steps, params, budget }) => {
    if (!checkCounts(params)) return [];
    const block = Math.max(1, Math.min(BLOCK_STEPS, steps, Math.floor(MAX_HEAPS / groupCount)));
    const heaps = Array.from({ length: block }, () =>
      Array.from({ length: groupCount }, () => new Heap(sign, compareSlots)),
    );
    const limits = new Float64Array(block);
    const chosen = new Chosen(steps);
    for (let first = 0; first < steps; first += block) {
      const count = Math.min(block, steps - first);
      for (let k = 0; k < count; k++) limits[k] = Math.min(Math.trunc(params[first + k] as number), slots.length);
      for (const [i, slot] of slots.entries()) {
        const { values, present } = slot;
        const group = groups[i] as number;
        for (let k = 0; k < count; k++) {
          const limit = limits[k] as number;
          if (present[first + k] === 0 || limit < 1) continue;
          ((heaps[k] as Heap<Slot>[])[group] as Heap<Slot>).offer(slot, values[first + k] as number, limit);
        }
        if (budget.due()) await budget.pause();
      }
      for (let k = 0; k < count; k++) {
        for (const heap of heaps[k] as Heap<Slot>[]) {
          for (const slot of steps === 1 ? heap.sorted() : heap.items) chosen.add(slot, first + k);
          heap.clear();
        }
        if (budget.due()) await budget.pause();
      }
    }
    return chosen.finish(budget);
  };
}

export const topk: Choose = best(1);
export const bottomk: Choose = best(-1);

/** The first few of each group by labels, whatever their values. */
export const limitk: Choose = async (input) => {
  if (!checkCounts(input.params)) return [];
  const byLabels = await sortSlices(
    input.slots.map((slot, i) => ({ slot, group: input.groups[i] as number })),
    (a, b) => compareLabels(a.slot.labels, b.slot.labels),
    input.budget,
  );
  return perStep(input, (step, choose) => {
    const limit = Math.trunc(input.params[step] as number);
    const counts = new Uint32Array(input.groupCount);
    for (const { slot, group } of byLabels) {
      if (slot.present[step] === 0 || (counts[group] as number) >= limit) continue;
      counts[group] = (counts[group] as number) + 1;
      choose(slot);
    }
  });
};

/** A part of the series, by a hash of their labels: negative ratios choose just those that the positive complement leaves. */
export const limitRatio: Choose = async (input) => {
  const { params, annotations, paramSpan } = input;
  const [min, max] = minMax(params);
  if (min === 0 && max === 0) return [];
  if (params.some(Number.isNaN)) throw new QueryError('execution', 'Ratio value is NaN');
  if (max > 1) annotations.invalidRatio(max, 1, paramSpan);
  if (min < -1) annotations.invalidRatio(min, -1, paramSpan);
  const offsets = input.slots.map((slot) => hashFraction(slot.labels));
  return perStep(input, (step, choose) => {
    const ratio = Math.max(-1, Math.min(1, params[step] as number));
    for (let i = 0; i < input.slots.length; i++) {
      if ((input.slots[i] as Slot).present[step] === 0) continue;
      const offset = offsets[i] as number;
      if (ratio > 0 ? offset < ratio : ratio < 0 && offset >= 1 + ratio) choose(input.slots[i] as Slot);
    }
  });
};

/** A number in [0, 1) that depends on the labels alone (FNV-1a, then a final mix). */
function hashFraction(labels: Labels): number {
  let h = 2166136261;
  for (const text of labels) {
    for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 16777619);
    h = Math.imul(h ^ 0xff, 16777619);
  }
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return ((h ^ (h >>> 16)) >>> 0) / 2 ** 32;
}
