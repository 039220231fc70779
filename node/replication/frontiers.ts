/**
 * What is known of the other copies' frontiers: all that a copy acknowledged before its frontier is in this node's log. On
 * this process's monotonic clock, so that clocks of machines need not agree.
 */
import type { Clock } from '../../core/env/env.ts';
import type { KnownFrontier } from '../../core/protocol.ts';
import type { ShardCoverage, TimeRange } from '../shard/gaps.ts';

/** How long before their acknowledgement samples are taken: those are unconfirmed, too. */
const LATE_MS = 60_000;
/** A copy that is expected for longer than this without a word is not there. */
const FIRST_WORD_MS = 10_000;

interface Frontier {
  readonly monotonicMs: number;
  /** The same moment on the origin's wall clock. */
  readonly wallMs: number;
  /** Records that the origin's log let go before they came here. */
  readonly lostRecordCount: number;
}

export class Frontiers {
  readonly #clock: Clock;
  readonly #boundMs: number;
  /**
   * Per shard, by origin (`region/node`): undefined before its first word. A shard that is not here: which other copies it has
   * is not known, as after a start, before a placement came.
   */
  readonly #origins = new Map<number, Map<string, Frontier | undefined>>();
  /** Of those, by shard, the ones that have taken no writes so far: what they say is noted, and nobody waits for it. */
  readonly #arriving = new Map<number, ReadonlySet<string>>();
  /** By shard, monotonic: when an origin was expected that had not been before, or that it was opened. */
  readonly #expectedMs = new Map<number, number>();

  /** An origin whose frontier is older than `boundMs` leaves newer samples unconfirmed. */
  constructor(clock: Clock, boundMs: number) {
    this.#clock = clock;
    this.#boundMs = boundMs;
  }

  /**
   * The shard's other copies, those first that have samples of their own, or may have. What is known of those that stay is kept,
   * and one that was waited for goes on to be.
   */
  expect(shard: number, origins: readonly string[], arriving: readonly string[] = []): void {
    const known = this.#origins.get(shard);
    const before = this.#arriving.get(shard);
    if (!origins.every((origin) => known?.has(origin))) this.#expectedMs.set(shard, this.#clock.monotonicMs());
    this.#origins.set(shard, new Map([...origins, ...arriving].map((origin) => [origin, known?.get(origin)])));
    this.#arriving.set(shard, new Set(arriving.filter((origin) => !known?.has(origin) || before?.has(origin))));
  }

  /** The shard was opened: which other copies it has is said soon, if the meta store is there. */
  begin(shard: number): void {
    if (!this.#origins.has(shard)) this.#expectedMs.set(shard, this.#clock.monotonicMs());
  }

  /** The origin said not long ago that nothing of what it acknowledged is lacking here. */
  isCurrent(shard: number, origin: string): boolean {
    const frontier = this.#origins.get(shard)?.get(origin);
    if (frontier === undefined || frontier.lostRecordCount > 0) return false;
    return !this.isSilent(this.#clock.monotonicMs() - frontier.monotonicMs);
  }

  /** The shard is closed. What was there before may be gone when it opens again: the words about it count no more. */
  forget(shard: number): void {
    this.#origins.delete(shard);
    this.#expectedMs.delete(shard);
  }

  /**
   * An origin that is waited for was not heard of so far, and is expected since a moment ago only: its first word is on its way.
   * So is the placement that names the origins, at first.
   */
  isListening(shard: number): boolean {
    const expectedMs = this.#expectedMs.get(shard);
    if (expectedMs === undefined || this.#clock.monotonicMs() - expectedMs >= FIRST_WORD_MS) return false;
    return !this.#origins.has(shard) || this.ages(shard).some(({ ageMs }) => ageMs === undefined);
  }

  /**
   * The origin's frontier was not before `atMs`, of this process's monotonic clock, but for `lostRecordCount` records; the
   * origin's wall clock showed `wallMs` then.
   */
  take(shard: number, origin: string, atMs: number, lostRecordCount: number, wallMs: number): void {
    const origins = this.#origins.get(shard);
    // Of a copy that the placement does not name, or not yet: nobody waits for it.
    if (origins?.has(origin)) origins.set(origin, { monotonicMs: atMs, wallMs, lostRecordCount });
  }

  /** As another copy may be told of them. */
  known(shard: number): KnownFrontier[] {
    const nowMs = this.#clock.monotonicMs();
    return [...(this.#origins.get(shard) ?? [])].flatMap(([origin, frontier]) =>
      frontier === undefined
        ? []
        : [
            {
              origin,
              // Rounded up: it may be older than it is said to be, never younger.
              ageMs: Math.max(0, Math.ceil(nowMs - frontier.monotonicMs)),
              lostRecords: frontier.lostRecordCount,
              wallMs: Math.floor(frontier.wallMs),
            },
          ],
    );
  }

  /**
   * Another copy, of which everything is here now, knew this of an origin when that was begun: `atMs` is not after the frontier,
   * on this process's monotonic clock. What the origin itself said is kept where it says more.
   */
  relay(shard: number, { origin, lostRecords, wallMs }: Omit<KnownFrontier, 'ageMs'>, atMs: number): void {
    const origins = this.#origins.get(shard);
    const known = origins?.get(origin);
    if (!origins?.has(origin) || (known !== undefined && known.monotonicMs >= atMs)) return;
    const lostRecordCount = Math.max(lostRecords, known?.lostRecordCount ?? 0);
    origins.set(origin, { monotonicMs: atMs, wallMs, lostRecordCount });
  }

  /** How many records each origin's log let go before they came here, where there are any. */
  lost(shard: number): { readonly origin: string; readonly recordCount: number }[] {
    return [...(this.#origins.get(shard) ?? [])].flatMap(([origin, frontier]) =>
      frontier === undefined || frontier.lostRecordCount === 0
        ? []
        : [{ origin, recordCount: frontier.lostRecordCount }],
    );
  }

  /** So many of them are here now. */
  recovered(shard: number, origin: string, recordCount: number): void {
    const frontier = this.#origins.get(shard)?.get(origin);
    if (frontier === undefined) return;
    const lostRecordCount = Math.max(0, frontier.lostRecordCount - recordCount);
    this.#origins.get(shard)?.set(origin, { ...frontier, lostRecordCount });
  }

  /** How old the frontier is of each origin that is waited for; undefined: nothing was heard of it. */
  ages(shard: number): { readonly origin: string; readonly ageMs: number | undefined }[] {
    const nowMs = this.#clock.monotonicMs();
    const arriving = this.#arriving.get(shard);
    return [...(this.#origins.get(shard) ?? [])].flatMap(([origin, frontier]) =>
      arriving?.has(origin)
        ? []
        : [{ origin, ageMs: frontier === undefined ? undefined : nowMs - frontier.monotonicMs }],
    );
  }

  /** Whether a frontier of this age says too little. */
  isSilent(ageMs: number | undefined): boolean {
    return ageMs === undefined || ageMs > this.#boundMs;
  }

  /**
   * The parts of the range in which samples of a silent origin may be missing, or of one that let records go are. `except`: an
   * origin that knows itself what it has.
   */
  unconfirmed(shard: number, range: TimeRange, except?: string): ShardCoverage[] {
    const origins = this.#origins.get(shard);
    if (origins?.size === 0) return [];
    if (origins === undefined) {
      return [{ ...range, state: 'unconfirmed', reason: 'which other copies there are is not known yet' }];
    }
    const lost = this.lost(shard).filter(({ origin }) => origin !== except);
    const found: ShardCoverage[] = lost.map(({ origin, recordCount }) => ({
      ...range,
      state: 'missing',
      reason: `up to ${recordCount} records of the copy in ${origin} left its log before they came: not repaired yet`,
    }));
    for (const { origin, ageMs } of this.ages(shard)) {
      if (origin === except || !this.isSilent(ageMs)) continue;
      const fromMs = ageMs === undefined ? range.fromMs : Math.max(range.fromMs, this.#since(shard, origin, ageMs));
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

  /** What is unconfirmed begins here. Either wall clock may be ahead; the other then says what is safe. */
  #since(shard: number, origin: string, ageMs: number): number {
    const wallMs = this.#origins.get(shard)?.get(origin)?.wallMs ?? 0;
    return Math.floor(Math.min(wallMs, this.#clock.nowMs() - ageMs) - LATE_MS);
  }
}
