/**
 * What a copy of a shard takes from another one: decided from digests alone, nothing is read or sent here.
 *
 * Sets only grow, so "all that stood behind this digest is here" stays true: what was taken once of a digest is not asked
 * for again, though the two copies differ until the other one has taken from here, too.
 */
import type { KnownFrontier } from '../../core/protocol.ts';
import type { TimeRange } from '../shard/gaps.ts';
import type { Buckets } from '../shard/window.ts';

const BUCKET_COUNT = 256;
/** Samples come this long before their acknowledgement at the most. */
const LATE_MS = 60_000;
/** An origin that was not heard of for so long is not waited for: what it never shipped is taken from whoever has it, ... */
const SILENT_MS = 5 * 60_000;
/** ... once it is this old. */
const OLD_MS = 30 * 60_000;

/** The time up to which all other copies' samples are here, or have to be brought by repair. `ages`: see `Frontiers.ages`. */
export function settledMs(ages: readonly { readonly ageMs: number | undefined }[], nowMs: number): number {
  let settled = nowMs - LATE_MS;
  for (const { ageMs } of ages) {
    const isSilent = ageMs === undefined || ageMs > SILENT_MS;
    settled = Math.min(settled, isSilent ? nowMs - OLD_MS : nowMs - ageMs - LATE_MS);
  }
  return Math.floor(settled);
}

/** What is known of a window at another copy. */
export interface Summary {
  readonly startMs: number;
  /** Empty: nothing is in it. */
  readonly digest: string;
}

/** Windows of which the other copy has something that is not here, most recent first. `taken`: digests of which everything is here. */
export function lacking(
  theirs: readonly Summary[],
  own: ReadonlyMap<number, string>,
  taken: ReadonlyMap<number, string>,
): number[] {
  return theirs
    .filter(({ startMs, digest }) => digest !== '' && own.get(startMs) !== digest && taken.get(startMs) !== digest)
    .map(({ startMs }) => startMs)
    .sort((a, b) => b - a);
}

/** How a window is taken. */
export type Way = 'block' | Buckets;

/** What of a window is to be taken: 256 low words of sums of each copy, and whether each has a block of it. */
export function wayOf(
  own: { readonly buckets: Uint8Array; readonly hasBlock: boolean },
  theirs: { readonly buckets: Uint8Array; readonly hasBlock: boolean },
): Way {
  const wanted = new Uint8Array(BUCKET_COUNT / 8);
  let wantedCount = 0;
  let heldCount = 0;
  for (let bucket = 0; bucket < BUCKET_COUNT; bucket++) {
    const [ours, other] = [wordOf(own.buckets, bucket), wordOf(theirs.buckets, bucket)];
    if (other !== 0) heldCount++;
    if (other === ours) continue;
    wanted[bucket >> 3] = (wanted[bucket >> 3] as number) | (1 << (bucket & 7));
    wantedCount++;
  }
  // The window differs, but no word of its sums does: one chance in four billion. Everything is looked at.
  if (wantedCount === 0) return everyBucket();
  // A block costs its bytes and nothing else; series have to be decoded, compared, logged and sealed.
  const isMost = wantedCount * 2 > heldCount;
  return theirs.hasBlock && !own.hasBlock && isMost ? 'block' : wanted;
}

export function everyBucket(): Buckets {
  return new Uint8Array(BUCKET_COUNT / 8).fill(0xff);
}

function wordOf(buckets: Uint8Array, bucket: number): number {
  const at = bucket * 4;
  return (
    ((buckets[at] as number) |
      ((buckets[at + 1] as number) << 8) |
      ((buckets[at + 2] as number) << 16) |
      ((buckets[at + 3] as number) << 24)) >>>
    0
  );
}

/** The parts of `ranges` that some of `others` cover, too. */
export function common<T extends TimeRange>(ranges: readonly T[], others: readonly TimeRange[]): T[] {
  return ranges.flatMap((range) =>
    others.flatMap((other) => {
      const fromMs = Math.max(range.fromMs, other.fromMs);
      const toMs = Math.min(range.toMs, other.toMs);
      return fromMs > toMs ? [] : [{ ...range, fromMs, toMs }];
    }),
  );
}

/** All of an origin's that was acknowledged before `atMs`, on this process's monotonic clock, was in the peer then, but for what it lacks. */
export interface Vouched extends Omit<KnownFrontier, 'ageMs'> {
  readonly atMs: number;
}

/** What several copies vouch for together, where each lacks something else: of every origin that all of them know, the least. */
export function jointly(copies: readonly (readonly Vouched[])[]): Vouched[] {
  const [first, ...others] = copies;
  return (first ?? []).flatMap((one) => {
    const same = others.map((list) => list.find(({ origin }) => origin === one.origin));
    const known = same.filter((other) => other !== undefined);
    if (known.length < same.length) return [];
    const least = known.reduce((a, b) => (b.atMs < a.atMs ? b : a), one);
    return [{ ...least, lostRecords: Math.max(one.lostRecords, ...known.map(({ lostRecords }) => lostRecords)) }];
  });
}
