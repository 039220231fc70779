/** topk, bottomk, limitk, limit_ratio: which series of each group a step keeps. */
import { compareLabels, type Labels } from '../../core/labels.ts';
import type { Annotations } from './annotations.ts';
import type { Span } from './ast.ts';
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
}

/** Clears what is not chosen, and answers the series in the order in which an instant query shows them. */
export type Choose = (input: ChooseInput) => readonly Slot[];

/** The series that a group keeps at one step: a heap with the next to go on top. Of equal ones the first by labels stays. */
class Heap {
  readonly slots: Slot[] = [];
  readonly #step: () => number;
  readonly #sign: 1 | -1;

  constructor(step: () => number, sign: 1 | -1) {
    this.#step = step;
    this.#sign = sign;
  }

  /** Order of going: negative when `a` has to go before `b`. NaN goes before everything. */
  #order(a: Slot, b: Slot): number {
    const step = this.#step();
    const x = a.values[step] as number;
    const y = b.values[step] as number;
    if (x < y) return -this.#sign;
    if (x > y) return this.#sign;
    return Number(Number.isNaN(y)) - Number(Number.isNaN(x)) || compareLabels(b.labels, a.labels);
  }

  /** Takes a series in; with `limit` in it already, only in the place of a worse one. */
  offer(slot: Slot, limit: number): void {
    const slots = this.slots;
    if (slots.length < limit) {
      slots.push(slot);
      this.#up(slots.length - 1);
      return;
    }
    if (this.#order(slots[0] as Slot, slot) < 0) {
      slots[0] = slot;
      this.#down();
    }
  }

  #up(at: number): void {
    const slots = this.slots;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.#order(slots[at] as Slot, slots[parent] as Slot) >= 0) return;
      this.#swap(at, parent);
      at = parent;
    }
  }

  #down(): void {
    const slots = this.slots;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= slots.length) return;
      if (child + 1 < slots.length && this.#order(slots[child + 1] as Slot, slots[child] as Slot) < 0) child++;
      if (this.#order(slots[child] as Slot, slots[at] as Slot) >= 0) return;
      this.#swap(at, child);
      at = child;
    }
  }

  #swap(a: number, b: number): void {
    const slots = this.slots;
    const slot = slots[a] as Slot;
    slots[a] = slots[b] as Slot;
    slots[b] = slot;
  }

  /** Best first, NaN last. */
  sorted(): Slot[] {
    return [...this.slots].sort((a, b) => this.#order(b, a));
  }
}

/** Runs `pick` for every step; what it leaves out loses its point. Returns the series with any point left. */
function perStep(input: ChooseInput, pick: (step: number, chosen: Set<Slot>) => void): readonly Slot[] {
  const chosen = new Set<Slot>();
  for (let step = 0; step < input.steps; step++) {
    chosen.clear();
    pick(step, chosen);
    for (const slot of input.slots) {
      if (slot.present[step] === 1 && !chosen.has(slot)) {
        slot.present[step] = 0;
        slot.pointCount--;
      }
    }
    if (input.steps === 1) return [...chosen];
  }
  return input.slots.filter((slot) => slot.pointCount > 0);
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

function best(sign: 1 | -1): Choose {
  return (input) => {
    if (!checkCounts(input.params)) return [];
    let current = 0;
    return perStep(input, (step, chosen) => {
      current = step;
      const limit = Math.min(Math.trunc(input.params[step] as number), input.slots.length);
      if (limit < 1) return;
      const heaps = Array.from({ length: input.groupCount }, () => new Heap(() => current, sign));
      for (let i = 0; i < input.slots.length; i++) {
        const slot = input.slots[i] as Slot;
        if (slot.present[step] === 1) (heaps[input.groups[i] as number] as Heap).offer(slot, limit);
      }
      for (const heap of heaps) for (const slot of input.steps === 1 ? heap.sorted() : heap.slots) chosen.add(slot);
    });
  };
}

export const topk: Choose = best(1);
export const bottomk: Choose = best(-1);

/** The first few of each group by labels, whatever their values. */
export const limitk: Choose = (input) => {
  if (!checkCounts(input.params)) return [];
  const byLabels = input.slots
    .map((slot, i) => ({ slot, group: input.groups[i] as number }))
    .sort((a, b) => compareLabels(a.slot.labels, b.slot.labels));
  return perStep(input, (step, chosen) => {
    const limit = Math.trunc(input.params[step] as number);
    const counts = new Uint32Array(input.groupCount);
    for (const { slot, group } of byLabels) {
      if (slot.present[step] === 0 || (counts[group] as number) >= limit) continue;
      counts[group] = (counts[group] as number) + 1;
      chosen.add(slot);
    }
  });
};

/** A part of the series, by a hash of their labels: negative ratios choose just those that the positive complement leaves. */
export const limitRatio: Choose = (input) => {
  const { params, annotations, paramSpan } = input;
  const [min, max] = minMax(params);
  if (min === 0 && max === 0) return [];
  if (params.some(Number.isNaN)) throw new QueryError('execution', 'Ratio value is NaN');
  if (max > 1) annotations.invalidRatio(max, 1, paramSpan);
  if (min < -1) annotations.invalidRatio(min, -1, paramSpan);
  const offsets = input.slots.map((slot) => hashFraction(slot.labels));
  return perStep(input, (step, chosen) => {
    const ratio = Math.max(-1, Math.min(1, params[step] as number));
    for (let i = 0; i < input.slots.length; i++) {
      const offset = offsets[i] as number;
      if (ratio > 0 ? offset < ratio : ratio < 0 && offset >= 1 + ratio) chosen.add(input.slots[i] as Slot);
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
