/** Finds the group of a series by the bytes of its identity: nothing is made for a series but for the first of its group. */
import { decodeIdentity, type Labels } from '../labels.ts';
import { METRIC_NAME } from './labelset.ts';

/** Identities come from a node, which has checked them. */
const ANY_LABELS = {
  maxLabelCount: Number.POSITIVE_INFINITY,
  maxNameBytes: Number.POSITIVE_INFINITY,
  maxValueBytes: Number.POSITIVE_INFINITY,
};

/** The label set of an identity that was checked when it came in. */
export function trustedLabels(identity: Uint8Array): Labels {
  return decodeIdentity(identity, ANY_LABELS);
}

const NAME = new TextEncoder().encode(METRIC_NAME);

/**
 * Orders identities that were checked as `compareLabels` orders their labels: text by text, by their bytes, a prefix first. With
 * `isNameless`, as if they had no metric name.
 */
export function compareIdentities(isNameless: boolean): (a: Uint8Array, b: Uint8Array) => number {
  const left = new Texts();
  const right = new Texts();
  return (a, b) => {
    left.begin(a, isNameless);
    right.begin(b, isNameless);
    for (;;) {
      const isLeft = left.next();
      const isRight = right.next();
      if (!isLeft || !isRight) return Number(isLeft) - Number(isRight);
      const lengthA = left.to - left.from;
      const lengthB = right.to - right.from;
      const shared = Math.min(lengthA, lengthB);
      for (let i = 0; i < shared; i++) {
        const order = (a[left.from + i] as number) - (b[right.from + i] as number);
        if (order !== 0) return order;
      }
      if (lengthA !== lengthB) return lengthA - lengthB;
    }
  };
}

/** Goes through the texts of an identity, names and values in turn. */
class Texts {
  from = 0;
  to = 0;
  #identity: Uint8Array = NAME;
  #isNameless = false;
  #isName = false;

  begin(identity: Uint8Array, isNameless: boolean): void {
    this.#identity = identity;
    this.#isNameless = isNameless;
    this.#isName = false;
    this.to = 0;
  }

  next(): boolean {
    if (!this.#step()) return false;
    this.#isName = !this.#isName;
    if (!this.#isNameless || !this.#isName || !this.#isMetricName()) return true;
    // The name and its value.
    this.#step();
    return this.#step();
  }

  #step(): boolean {
    const identity = this.#identity;
    let at = this.to;
    if (at >= identity.length) return false;
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = identity[at++] as number;
      length |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    this.from = at;
    this.to = at + length;
    return true;
  }

  #isMetricName(): boolean {
    if (this.to - this.from !== NAME.length) return false;
    let i = 0;
    while (i < NAME.length && this.#identity[this.from + i] === NAME[i]) i++;
    return i === NAME.length;
  }
}

interface Entry<Group> {
  /** Identity bytes of the group's labels: what is kept of a member's. */
  readonly identity: Uint8Array;
  readonly group: Group;
  /** Another with the same hash. */
  readonly next: Entry<Group> | undefined;
}

export class Grouping<Group> {
  /** As they stand in an identity, each with its length. */
  readonly #names: readonly Uint8Array[];
  readonly #keepsNamed: boolean;
  readonly #byHash = new Map<number, Entry<Group>>();
  /** Where labels that are kept begin and end in the identity under way, and how many such stretches there are. */
  #stretches = new Int32Array(32);
  #stretchCount = 0;
  /** After a varint: where it ended. */
  #at = 0;

  /** Groups keep the labels in `names`; with `isWithout`, all others. */
  constructor(names: readonly string[], isWithout: boolean) {
    this.#names = names.map((name) => new TextEncoder().encode(name));
    this.#keepsNamed = !isWithout;
  }

  /** The group of a series; `open` makes it for the first one of its labels. */
  of(identity: Uint8Array, open: (labels: Labels) => Group): Group {
    const hash = this.#look(identity);
    const first = this.#byHash.get(hash);
    for (let entry = first; entry !== undefined; entry = entry.next) {
      if (this.#isKept(identity, entry.identity)) return entry.group;
    }
    const kept = this.#kept(identity);
    const group = open(trustedLabels(kept));
    this.#byHash.set(hash, { identity: kept, group, next: first });
    return group;
  }

  /** Finds the labels that are kept; returns a hash of their bytes. */
  #look(identity: Uint8Array): number {
    let hash = 0;
    let count = 0;
    for (let at = 0; at < identity.length; ) {
      const start = at;
      let length = this.#varint(identity, at);
      const nameAt = this.#at;
      const nameEnd = nameAt + length;
      length = this.#varint(identity, nameEnd);
      const valueAt = this.#at;
      at = valueAt + length;
      if (this.#isNamed(identity, nameAt, nameEnd) !== this.#keepsNamed) continue;
      if (count > 0 && this.#stretches[count - 1] === start) count--;
      else {
        if (count + 2 > this.#stretches.length) this.#moreStretches();
        this.#stretches[count++] = start;
      }
      this.#stretches[count++] = at;
      for (let i = valueAt; i < at; i++) hash = (Math.imul(hash, 31) + (identity[i] as number)) | 0;
    }
    this.#stretchCount = count;
    return hash;
  }

  #isNamed(identity: Uint8Array, from: number, to: number): boolean {
    for (const name of this.#names) {
      if (name.length !== to - from) continue;
      let i = 0;
      while (i < name.length && identity[from + i] === name[i]) i++;
      if (i === name.length) return true;
    }
    return false;
  }

  /** Are the labels that are kept these? */
  #isKept(identity: Uint8Array, kept: Uint8Array): boolean {
    let k = 0;
    for (let s = 0; s < this.#stretchCount; s += 2) {
      const to = this.#stretches[s + 1] as number;
      for (let i = this.#stretches[s] as number; i < to; i++) if (identity[i] !== kept[k++]) return false;
    }
    return k === kept.length;
  }

  #kept(identity: Uint8Array): Uint8Array {
    const parts: Uint8Array[] = [];
    for (let s = 0; s < this.#stretchCount; s += 2) {
      parts.push(identity.subarray(this.#stretches[s], this.#stretches[s + 1]));
    }
    return new Uint8Array(Buffer.concat(parts));
  }

  #moreStretches(): void {
    const more = new Int32Array(2 * this.#stretches.length);
    more.set(this.#stretches);
    this.#stretches = more;
  }

  #varint(bytes: Uint8Array, from: number): number {
    let at = from;
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] as number;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    this.#at = at;
    return value;
  }
}
