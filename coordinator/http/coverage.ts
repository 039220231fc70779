/** What an answer covers, for its three readers: programs (JSON), proxies (a header) and people (warnings). */
import type { Coverage, CoverageState } from '../query/queryable.ts';

const RANK: Readonly<Record<CoverageState, number>> = { complete: 0, unconfirmed: 1, missing: 2 };

/** Entries that say the same of several shards. */
interface Group {
  readonly fromMs: number;
  readonly toMs: number;
  readonly state: CoverageState;
  readonly reason: string;
  readonly shards: Set<number>;
  readonly copies: Set<string>;
}

export class Ledger {
  /** The worst state of any shard. */
  readonly state: CoverageState;
  /** Every shard is missing: nothing at all is known. */
  readonly isEmpty: boolean;
  readonly #groups: Group[];

  constructor(coverage: readonly Coverage[]) {
    const groups = new Map<string, Group>();
    let worst: CoverageState = 'complete';
    let group: Group | undefined;
    for (const { shard, fromMs, toMs, state, reason = '', copy } of coverage) {
      if (RANK[state] > RANK[worst]) worst = state;
      // Mostly all shards say the same.
      const isSame =
        group?.fromMs === fromMs && group.toMs === toMs && group.state === state && group.reason === reason;
      if (group === undefined || !isSame) {
        const key = `${fromMs} ${toMs} ${state} ${reason}`;
        group = groups.get(key) ?? { fromMs, toMs, state, reason, shards: new Set(), copies: new Set() };
        groups.set(key, group);
      }
      group.shards.add(shard);
      if (copy !== undefined) group.copies.add(copy);
    }
    this.state = worst;
    this.isEmpty = coverage.length > 0 && coverage.every(({ state }) => state === 'missing');
    this.#groups = [...groups.values()];
  }

  /** `missing; shards=3,5-7`, or `complete`. */
  header(): string {
    const worst = this.#groups.filter(({ state }) => state === this.state);
    if (this.state === 'complete' || worst.length === 0) return 'complete';
    return `${this.state}; shards=${spans(new Set(worst.flatMap(({ shards }) => [...shards])))}`;
  }

  /** A JSON object: the worst state, which shards and times (seconds) are in which, and whose samples they are. */
  json(): string {
    const ranges = this.#groups.map(({ fromMs, toMs, state, reason, shards, copies }) => ({
      shards: spans(shards),
      start: fromMs / 1000,
      end: toMs / 1000,
      state,
      ...(reason === '' ? {} : { reason }),
      ...(copies.size === 0 ? {} : { copies: [...copies].sort() }),
    }));
    return JSON.stringify({ state: this.state, ranges });
  }

  warnings(): string[] {
    return this.#groups
      .filter(({ state }) => state !== 'complete')
      .map(({ fromMs, toMs, state, reason, shards }) => {
        const which = `${shards.size === 1 ? 'shard' : 'shards'} ${spans(shards)}`;
        return `the answer is not complete: ${which} from ${when(fromMs)} to ${when(toMs)} ${state}${reason && `: ${reason}`}`;
      });
  }
}

function when(timeMs: number): string {
  return new Date(timeMs).toISOString();
}

/** `0,2-5` */
function spans(shards: ReadonlySet<number>): string {
  const sorted = [...shards].sort((a, b) => a - b);
  const out: string[] = [];
  for (let i = 0; i < sorted.length; ) {
    const first = sorted[i] as number;
    let last = first;
    while (sorted[++i] === last + 1) last++;
    out.push(first === last ? `${first}` : `${first}-${last}`);
  }
  return out.join(',');
}
