/** Binary operators: between scalars, between a vector and a scalar, and between vectors, whose series are matched by labels. */
import { compareUtf8, type Labels, labelValue } from '../../core/labels.ts';
import { dropName, Keyer, keep, labelsKey, METRIC_NAME, withLabel, without } from '../../core/promql/labelset.ts';
import type { Binary, Matching } from './ast.ts';
import { typeOf } from './check.ts';
import { type Context, collect, fold } from './context.ts';
import { QueryError } from './error.ts';
import { labelString } from './literal.ts';
import { DUPLICATE, Mapped, mergeInto } from './map.ts';
import { OPERATORS, type OperatorRow } from './operators.ts';
import { type Cursor, Kept, type Names, Slot } from './vector.ts';

/** Both sides are scalars. */
export async function scalarBinary(expr: Binary, context: Context): Promise<Float64Array> {
  const row = OPERATORS.get(expr.op) as OperatorRow;
  const left = await context.scalar(expr.lhs);
  const right = await context.scalar(expr.rhs);
  const { arithmetic, comparison } = row;
  return left.map((a, i) => {
    const b = right[i] as number;
    return arithmetic ? arithmetic(a, b) : Number(comparison?.(a, b));
  });
}

/** At least one side is a vector. */
export async function vectorBinary(expr: Binary, context: Context): Promise<Cursor> {
  const row = OPERATORS.get(expr.op) as OperatorRow;
  if (typeOf(expr.lhs) === 'scalar') return withScalar(expr, row, context, 'left');
  if (typeOf(expr.rhs) === 'scalar') return withScalar(expr, row, context, 'right');
  const matching = expr.matching as Matching;
  if (row.set === 'or') return union(expr, matching, context);
  if (row.set !== undefined) return intersection(expr, matching, context, row.set === 'and');
  return new Match(expr, row, matching, context).run();
}

async function withScalar(
  expr: Binary,
  row: OperatorRow,
  context: Context,
  scalarSide: 'left' | 'right',
): Promise<Cursor> {
  const swapped = scalarSide === 'left';
  const vector = await context.vector(swapped ? expr.rhs : expr.lhs);
  const scalars = await context.scalar(swapped ? expr.lhs : expr.rhs);
  const { arithmetic, comparison } = row;
  if (arithmetic) {
    return Mapped.open(vector, context, ({ values, present }) => {
      for (let i = 0; i < values.length; i++) {
        if (present[i] === 0) continue;
        const v = values[i] as number;
        const s = scalars[i] as number;
        values[i] = swapped ? arithmetic(s, v) : arithmetic(v, s);
      }
    });
  }
  const holds = comparison as (a: number, b: number) => boolean;
  const apply = (slot: Slot): void => {
    const { values, present } = slot;
    for (let i = 0; i < values.length; i++) {
      if (present[i] === 0) continue;
      const v = values[i] as number;
      const s = scalars[i] as number;
      const holding = swapped ? holds(s, v) : holds(v, s);
      if (expr.bool) values[i] = holding ? 1 : 0;
      else if (!holding) {
        present[i] = 0;
        slot.pointCount--;
      }
    }
  };
  return expr.bool ? Mapped.open(vector, context, apply) : new Mapped(vector, apply, false);
}

function signer(matching: Matching): Keyer {
  return new Keyer(matching.labels, !matching.on);
}

/** `and` and `unless`: the left side, where the right side has, or has not, a partner. */
async function intersection(expr: Binary, matching: Matching, context: Context, wanted: boolean): Promise<Cursor> {
  const signature = signer(matching);
  const left = await context.vector(expr.lhs);
  const partners = new Map<string, Uint8Array>();
  await fold(await context.vector(expr.rhs), context, (slot) =>
    markPresence(partners, signature.key(slot.labels), slot),
  );
  return new Mapped(
    left,
    (slot) => {
      const present = partners.get(signature.key(slot.labels));
      for (let i = 0; i < slot.present.length; i++) {
        if (slot.present[i] === 1 && (present?.[i] === 1) !== wanted) {
          slot.present[i] = 0;
          slot.pointCount--;
        }
      }
    },
    false,
  );
}

function markPresence(marks: Map<string, Uint8Array>, key: string, slot: Slot): void {
  let mark = marks.get(key);
  if (mark === undefined) {
    mark = new Uint8Array(slot.present.length);
    marks.set(key, mark);
  }
  for (let i = 0; i < mark.length; i++) mark[i] = (mark[i] as number) | (slot.present[i] as number);
}

/** `or`: the left side, and of the right side what has no partner there. */
async function union(expr: Binary, matching: Matching, context: Context): Promise<Cursor> {
  const signature = signer(matching);
  const left = await context.vector(expr.lhs);
  const right = await context.vector(expr.rhs);
  const partners = new Map<string, Uint8Array>();
  const results = new Map<string, Slot>();
  for (const slot of await collect(left, context)) {
    markPresence(partners, signature.key(slot.labels), slot);
    results.set(labelsKey(slot.labels), slot);
  }
  for (const slot of await collect(right, context)) {
    const taken = partners.get(signature.key(slot.labels));
    if (taken) {
      for (let i = 0; i < taken.length; i++) {
        if (slot.present[i] === 0 || taken[i] === 0) continue;
        slot.present[i] = 0;
        slot.pointCount--;
      }
    }
    if (slot.pointCount === 0) continue;
    const key = labelsKey(slot.labels);
    const same = results.get(key);
    if (same === undefined) results.set(key, slot);
    else mergeInto(same, slot);
  }
  const names: Names = left.names === 'none' && right.names === 'none' ? 'none' : 'many';
  return new Kept([...results.values()], names);
}

/** The series of the "one" side that share a signature. At most one of them may be present at a step. */
interface Ones {
  readonly slots: Slot[];
  /** Which of `slots` a step belongs to, plus 1; undefined while there is only one. */
  owner: Uint32Array | undefined;
  /** Steps at which a series of the other side met this signature: of the result's labels when there may be many. */
  readonly matched: Map<string, Uint8Array>;
}

/** An arithmetic operator or a comparison between two vectors. */
class Match {
  readonly #expr: Binary;
  readonly #row: OperatorRow;
  readonly #matching: Matching;
  readonly #context: Context;
  readonly #steps: number;
  /** The left side is the "one". */
  readonly #swapped: boolean;
  readonly #signature: Keyer;
  readonly #results = new Map<string, Slot>();
  /** Steps with two series of the same signature on the "one" side, and what to say of them. */
  readonly #clashes = new Map<number, string>();

  constructor(expr: Binary, row: OperatorRow, matching: Matching, context: Context) {
    this.#expr = expr;
    this.#row = row;
    this.#matching = matching;
    this.#context = context;
    this.#steps = context.grid.count;
    this.#swapped = matching.card === 'one-to-many';
    this.#signature = signer(matching);
  }

  async run(): Promise<Cursor> {
    const context = this.#context;
    const left = await context.vector(this.#expr.lhs);
    const right = await context.vector(this.#expr.rhs);
    const [manySide, oneSide] = this.#swapped ? [right, left] : [left, right];
    const ones = new Map<string, Ones>();
    const oneSlots = await collect(oneSide, context);
    for (const slot of oneSlots) this.#addOne(ones, slot);
    const many = await collect(manySide, context);
    this.#throwClashes(many);
    // Prometheus does not turn the fill values around when group_right turns the sides.
    const { fillRight: fillOne, fillLeft: fillMany } = this.#matching;
    for (const slot of many) {
      const key = this.#signature.key(slot.labels);
      let partner = ones.get(key);
      if (partner === undefined && fillOne !== undefined) {
        partner = { slots: [], owner: undefined, matched: new Map() };
        ones.set(key, partner);
      }
      if (partner) this.#pair(slot, partner, fillOne);
      if (context.budget.due()) await context.budget.pause();
    }
    if (fillMany !== undefined) for (const partner of ones.values()) this.#fill(partner, fillMany);
    return new Kept([...this.#results.values()], this.#resultNames(manySide.names));
  }

  #resultNames(many: Names): Names {
    const { card, on, labels, include } = this.#matching;
    if (include.includes(METRIC_NAME)) return 'many';
    if (this.#row.arithmetic !== undefined || this.#expr.bool) return 'none';
    return card === 'one-to-one' && on && !labels.includes(METRIC_NAME) ? 'none' : many;
  }

  #addOne(ones: Map<string, Ones>, slot: Slot): void {
    const key = this.#signature.key(slot.labels);
    const group = ones.get(key);
    if (group === undefined) {
      ones.set(key, { slots: [slot], owner: undefined, matched: new Map() });
      return;
    }
    group.owner ??= Uint32Array.from((group.slots[0] as Slot).present);
    group.slots.push(slot);
    for (let i = 0; i < this.#steps; i++) {
      if (slot.present[i] === 0) continue;
      const before = group.owner[i] as number;
      if (before === 0) group.owner[i] = group.slots.length;
      else if (!this.#clashes.has(i)) this.#clashes.set(i, this.#clash(slot, group.slots[before - 1] as Slot));
    }
  }

  #clash(slot: Slot, other: Slot): string {
    const { on, labels } = this.#matching;
    const group = on ? keep(slot.labels, labels) : without(slot.labels, [...labels, METRIC_NAME]);
    const side = this.#swapped ? 'left' : 'right';
    const [first, second] = [labelString(slot.labels), labelString(other.labels)].sort(compareUtf8);
    return (
      `found duplicate series for the match group ${labelString(group)} on the ${side} hand-side of the operation: ` +
      `[${first}, ${second}]` +
      ';many-to-many matching not allowed: matching labels must be unique on one side'
    );
  }

  /** Two series of one signature only matter at steps where the other side has anything. */
  #throwClashes(many: readonly Slot[]): void {
    for (const [step, message] of this.#clashes) {
      if (many.some((slot) => slot.present[step] === 1)) throw new QueryError('execution', message);
    }
  }

  /** Works out one series of the "many" side against its partners, and where there is none against `fill`. */
  #pair(many: Slot, partner: Ones, fill: number | undefined): void {
    const [only] = partner.slots;
    if (only !== undefined && partner.owner === undefined && fill === undefined) {
      this.#combine(many, only, only.present, partner, many);
      return;
    }
    partner.slots.forEach((one, index) => {
      const mask = partner.owner ? partner.owner.map((o) => Number(o === index + 1)) : one.present;
      this.#combine(many, one, mask, partner);
    });
    if (fill === undefined) return;
    const free = partner.owner ?? partner.slots[0]?.present;
    const mask = Uint8Array.from({ length: this.#steps }, (_, i) => Number((free?.[i] ?? 0) === 0));
    this.#combine(many, this.#constant(fill, many.labels), mask, partner);
  }

  /** A fill value against the points of the "one" side that nothing matched. */
  #fill(partner: Ones, fill: number): void {
    const matched = [...partner.matched.values()];
    for (const one of partner.slots) {
      const mask = one.present.map((p, i) => Number(p === 1 && matched.every((m) => m[i] === 0)));
      this.#combine(this.#constant(fill, one.labels), one, mask, { slots: [], owner: undefined, matched: new Map() });
    }
  }

  /** A series that stands in for a missing partner of one with `labels`. */
  #constant(value: number, labels: Labels): Slot {
    const slot = new Slot(this.#steps);
    const { on, labels: names } = this.#matching;
    slot.labels = on ? keep(labels, names) : without(labels, [...names, METRIC_NAME]);
    slot.values.fill(value);
    slot.present.fill(1);
    return slot;
  }

  /** The steps of `mask` at which `many` is present: computes, checks that the match is unique, adds to the results, or takes `reuse` for a new one. */
  #combine(many: Slot, one: Slot, mask: Uint8Array | Uint32Array, partner: Ones, reuse?: Slot): void {
    const labels = this.#resultLabels(many.labels, one.labels);
    const key = labelsKey(labels);
    const grouped = this.#matching.card !== 'one-to-one';
    const matchedKey = grouped ? key : '';
    let matched = partner.matched.get(matchedKey);
    if (matched === undefined) {
      matched = new Uint8Array(this.#steps);
      partner.matched.set(matchedKey, matched);
    }
    let result = this.#results.get(key);
    if (result === undefined && reuse !== undefined) {
      this.#overwrite(reuse, one, matched);
      if (reuse.pointCount === 0) return;
      reuse.labels = labels;
      this.#results.set(key, reuse);
      return;
    }
    const { arithmetic, comparison } = this.#row;
    const [left, right] = this.#swapped ? [one.values, many.values] : [many.values, one.values];
    for (let i = 0; i < mask.length; i++) {
      if (mask[i] === 0 || many.present[i] === 0) continue;
      if (matched[i] === 1) throw new QueryError('execution', grouped ? NOT_UNIQUE : NOT_EXPLICIT);
      matched[i] = 1;
      const a = left[i] as number;
      const b = right[i] as number;
      let value = a;
      if (arithmetic) value = arithmetic(a, b);
      else {
        const holding = comparison?.(a, b) === true;
        if (this.#expr.bool) value = holding ? 1 : 0;
        else if (!holding) continue;
      }
      if (result === undefined) {
        result = new Slot(this.#steps);
        result.labels = labels;
        this.#results.set(key, result);
        this.#context.budget.hold(this.#steps);
      }
      if (result.present[i] === 1) throw new QueryError('execution', DUPLICATE);
      result.values[i] = value;
      result.present[i] = 1;
      result.pointCount++;
    }
  }

  /** The same into `many` itself, which nobody needs any more. */
  #overwrite(many: Slot, one: Slot, matched: Uint8Array): void {
    const { arithmetic, comparison } = this.#row;
    const { values, present } = many;
    for (let i = 0; i < present.length; i++) {
      if (present[i] === 0) continue;
      if (one.present[i] === 0) {
        present[i] = 0;
        many.pointCount--;
        continue;
      }
      if (matched[i] === 1)
        throw new QueryError('execution', this.#matching.card === 'one-to-one' ? NOT_EXPLICIT : NOT_UNIQUE);
      matched[i] = 1;
      const a = (this.#swapped ? one.values[i] : values[i]) as number;
      const b = (this.#swapped ? values[i] : one.values[i]) as number;
      if (arithmetic) {
        values[i] = arithmetic(a, b);
        continue;
      }
      const holding = comparison?.(a, b) === true;
      if (this.#expr.bool) values[i] = holding ? 1 : 0;
      else if (holding) values[i] = a;
      else {
        present[i] = 0;
        many.pointCount--;
      }
    }
  }

  #resultLabels(many: Labels, one: Labels): Labels {
    const { card, on, labels, include } = this.#matching;
    let result = many;
    if (this.#row.arithmetic) result = dropName(result);
    if (card === 'one-to-one') result = on ? keep(result, labels) : without(result, labels);
    for (const name of include) result = withLabel(result, name, labelValue(one, name));
    return this.#expr.bool ? dropName(result) : result;
  }
}

const NOT_EXPLICIT = 'multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)';
const NOT_UNIQUE = 'multiple matches for labels: grouping labels must ensure unique matches';
