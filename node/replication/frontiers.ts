/**
 * What is known of the other copies' frontiers: all that a copy acknowledged before its frontier is in this node's log. On
 * this process's monotonic clock, so that clocks of machines need not agree.
 */
import type { Clock } from '../../core/env/env.ts';
import type { ShardCoverage, TimeRange } from '../shard/shard.ts';

/** An origin whose frontier is older than this leaves newer samples unconfirmed. */
const STALE_MS = 30_000;
/** How long before their acknowledgement samples are taken: those are unconfirmed, too. */
const LATE_MS = 60_000;

export class Frontiers {
  readonly #clock: Clock;
  /** Per shard, by origin (`region/node`): the monotonic time of its frontier, undefined before the first. */
  readonly #origins = new Map<number, Map<string, number | undefined>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The shard's other copies. What is known of those that stay is kept. */
  expect(shard: number, origins: readonly string[]): void {
    const known = this.#origins.get(shard);
    this.#origins.set(shard, new Map(origins.map((origin) => [origin, known?.get(origin)])));
  }

  /** The origin says that its frontier was `ageMs` ago when it sent this. */
  take(shard: number, origin: string, ageMs: number): void {
    const origins = this.#origins.get(shard);
    // Of a copy that the placement does not name, or not yet: nobody waits for it.
    if (origins?.has(origin)) origins.set(origin, this.#clock.monotonicMs() - ageMs);
  }

  /** How old each origin's frontier is; undefined: nothing was heard of it. */
  ages(shard: number): { readonly origin: string; readonly ageMs: number | undefined }[] {
    const nowMs = this.#clock.monotonicMs();
    return [...(this.#origins.get(shard) ?? [])].map(([origin, atMs]) => ({
      origin,
      ageMs: atMs === undefined ? undefined : nowMs - atMs,
    }));
  }

  /** The parts of the range in which samples of a silent origin may be missing. */
  unconfirmed(shard: number, range: TimeRange): ShardCoverage[] {
    const nowMs = this.#clock.nowMs();
    const found: ShardCoverage[] = [];
    for (const { origin, ageMs } of this.ages(shard)) {
      if (ageMs !== undefined && ageMs <= STALE_MS) continue;
      const fromMs = ageMs === undefined ? range.fromMs : Math.max(range.fromMs, Math.floor(nowMs - ageMs - LATE_MS));
      if (fromMs > range.toMs) continue;
      const since =
        ageMs === undefined ? 'nothing was heard of it' : `its last word is ${Math.round(ageMs / 1_000)} s old`;
      found.push({
        fromMs,
        toMs: range.toMs,
        state: 'unconfirmed',
        reason: `the copy in ${origin} may have more: ${since}`,
      });
    }
    return found;
  }
}
