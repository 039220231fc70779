/** Whether the copies of a shard hold the same samples: what their digests say, window by window. Pure. */
import { fingerprint } from '../../core/fingerprint.ts';
import type { DigestReply } from '../../core/protocol.ts';

/** Of one shard. */
export interface VerifyReport {
  readonly shard: number;
  /** Windows that some copy has. */
  readonly windows: number;
  /** Copies that could be compared; with fewer than two there is nothing to compare. */
  readonly compared: number;
  readonly differing: readonly WindowDifference[];
  /** Copies that could not. */
  readonly unasked: readonly { readonly region: string; readonly node: string; readonly reason: string }[];
}

export interface WindowDifference {
  /** Its start, in seconds since 1970. */
  readonly start: number;
  /** False: it is being written, and copies differ by what is on its way. */
  readonly settled: boolean;
  /** Of the 256 parts of its series, those that differ. */
  readonly buckets: number;
  /** Copies with equal digests have equal samples; empty: nothing in the window. */
  readonly copies: readonly { readonly region: string; readonly node: string; readonly digest: string }[];
}

export interface CopyDigests {
  readonly region: string;
  readonly node: string;
  /** Undefined: it was not told, for this reason. */
  readonly digests: DigestReply | undefined;
  readonly reason: string;
}

const WINDOW_MS = 7_200_000;
/** A window is written to until its end, and for as long as samples are late by habit. */
const SETTLED_MS = 10 * 60_000;
const SUM_BYTES = 16;
const NOTHING = Buffer.alloc(256 * SUM_BYTES);

export function compareDigests(shard: number, copies: readonly CopyDigests[], nowMs: number): VerifyReport {
  const told = copies.flatMap(({ region, node, digests }) => {
    if (digests === undefined) return [];
    return [{ region, node, sums: new Map(digests.windows.map(({ startMs, sums }) => [startMs, Buffer.from(sums)])) }];
  });
  const starts = [...new Set(told.flatMap(({ sums }) => [...sums.keys()]))].sort((a, b) => a - b);
  const differing = starts.flatMap((startMs): WindowDifference[] => {
    const all = told.map(({ sums }) => sums.get(startMs) ?? NOTHING);
    const buckets = differingBuckets(all);
    if (buckets === 0) return [];
    return [
      {
        start: startMs / 1_000,
        settled: startMs + WINDOW_MS + SETTLED_MS < nowMs,
        buckets,
        copies: told.map(({ region, node }, i) => ({ region, node, digest: shortOf(all[i] as Buffer) })),
      },
    ];
  });
  return {
    shard,
    windows: starts.length,
    compared: told.length,
    differing,
    unasked: copies
      .filter(({ digests }) => digests === undefined)
      .map(({ region, node, reason }) => ({ region, node, reason })),
  };
}

function differingBuckets([first = NOTHING, ...others]: readonly Buffer[]): number {
  if (others.every((sums) => sums.equals(first))) return 0;
  let count = 0;
  for (let at = 0; at < NOTHING.length; at += SUM_BYTES) {
    if (others.some((sums) => first.compare(sums, at, at + SUM_BYTES, at, at + SUM_BYTES) !== 0)) count++;
  }
  return count;
}

function shortOf(sums: Buffer): string {
  return sums.equals(NOTHING) ? '' : fingerprint(sums).h1.toString(16).padStart(16, '0');
}
