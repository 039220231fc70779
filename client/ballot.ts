/** Which copy of a shard gives the answer of a read, where the one that was asked first is not complete: the best by their words. */
import type { WireCoverage } from '../core/protocol.ts';

const RANKS: Readonly<Record<WireCoverage['state'], number>> = { COMPLETE: 0, UNCONFIRMED: 1, MISSING: 2 };
/** Of a copy that says nothing of the shard. */
const WORST = 3;

export class Ballot {
  /** The others have been asked. */
  isClosed = false;
  #best: string;
  #rank: number;

  /** `entries`: what the copy says of the asked range. */
  constructor(address: string, entries: readonly WireCoverage[]) {
    this.#best = address;
    this.#rank = rankOf(entries);
  }

  /** The address of the copy; of several that are as good, the one that was entered first. */
  get best(): string {
    return this.#best;
  }

  enter(address: string, entries: readonly WireCoverage[]): void {
    const rank = rankOf(entries);
    if (rank >= this.#rank) return;
    this.#best = address;
    this.#rank = rank;
  }
}

/** By the worst part of the range. */
function rankOf(entries: readonly WireCoverage[]): number {
  return entries.length === 0 ? WORST : Math.max(...entries.map(({ state }) => RANKS[state]));
}
