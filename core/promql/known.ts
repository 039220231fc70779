/**
 * Which group each series of a shard belongs to, kept from query to query: finding it from the identity's bytes costs as much as
 * a hundred samples.
 */
import type { Labels } from '../labels.ts';
import { Grouping } from './grouping.ts';

/** Labels that groups keep; with `isWithout`, those that they do not. */
export interface Clause {
  readonly names: readonly string[];
  readonly isWithout: boolean;
}

/** Clauses of a shard that are kept, two bytes a series each. */
const MAX_CLAUSES = 4;
/** Groups of a clause that are kept; series of others are looked up each time. */
const MAX_GROUPS = 4_096;

/** Of one shard. */
export class GroupCache {
  readonly #byClause = new Map<string, KnownGroups>();
  #releaseCount = 0;

  /** `releaseCount`: a series' number means the same series for as long as this does not change. */
  of({ names, isWithout }: Clause, releaseCount: number): KnownGroups {
    if (releaseCount !== this.#releaseCount) this.#byClause.clear();
    this.#releaseCount = releaseCount;
    const key = JSON.stringify([isWithout, names]);
    const known = this.#byClause.get(key) ?? new KnownGroups({ names, isWithout });
    // Last in the order is used last.
    this.#byClause.delete(key);
    this.#byClause.set(key, known);
    if (this.#byClause.size > MAX_CLAUSES) this.#byClause.delete(this.#byClause.keys().next().value as string);
    return known;
  }
}

/** The groups of one clause. */
export class KnownGroups {
  readonly #grouping: Grouping<number>;
  readonly #labels: Labels[] = [];
  /** By series: the number of its group, from 1. */
  #numbers = new Uint16Array(1_024);
  readonly #open = (labels: Labels): number => this.#labels.push(labels);

  constructor({ names, isWithout }: Clause) {
    this.#grouping = new Grouping(names, isWithout);
  }

  /** The number of the series' group, from 1; 0: it is none of those that are kept. */
  of(id: number, identityOf: (id: number) => Uint8Array): number {
    const known = id < this.#numbers.length ? (this.#numbers[id] as number) : 0;
    return known === 0 ? this.#find(id, identityOf) : known;
  }

  labels(number: number): Labels {
    return this.#labels[number - 1] as Labels;
  }

  #find(id: number, identityOf: (id: number) => Uint8Array): number {
    if (this.#labels.length === MAX_GROUPS) return 0;
    const number = this.#grouping.of(identityOf(id), this.#open);
    if (id >= this.#numbers.length) {
      const grown = new Uint16Array(Math.max(id + 1, 2 * this.#numbers.length));
      grown.set(this.#numbers);
      this.#numbers = grown;
    }
    this.#numbers[id] = number;
    return number;
  }
}
