import { DEFAULT_LABEL_LIMITS, type LabelLimits } from '../../core/labels.ts';
import type { Budget } from './budget.ts';

/** What a shard accepts. Each broken limit is answered with its own code and a message that names it. */
export interface ShardLimits extends LabelLimits {
  /** SERIES_LIMIT. Recovery is not bound by it. */
  readonly maxSeriesCount: number;
  /** INVALID_LABELS. At most 65,535. */
  readonly maxIdentityBytes: number;
  /** TOO_LARGE. A batch is stored in one synchronous step: 100,000 samples hold up the loop for some 3 ms. */
  readonly maxBatchSampleCount: number;
  /** RESOURCE_EXHAUSTED: intervals that are deleted, over all series. Recovery is not bound by it. */
  readonly maxDeletionCount: number;
  /** Metrics whose metadata is kept; see metadata.ts for what happens past it. */
  readonly maxMetadataCount: number;
  /** RESOURCE_EXHAUSTED, per sample: windows that may have open runs at a time. At most 1024. */
  readonly maxOpenWindowCount: number;
  /** RESOURCE_EXHAUSTED, per sample: the kernel's linear memory. At most 4 GiB. */
  readonly maxKernelBytes: number;
}

const DEFAULT_LIMITS: ShardLimits = {
  ...DEFAULT_LABEL_LIMITS,
  maxSeriesCount: 1_000_000,
  maxIdentityBytes: 32 * 1024,
  maxBatchSampleCount: 131_072,
  maxDeletionCount: 1_000_000,
  maxMetadataCount: 20_000,
  maxOpenWindowCount: 256,
  maxKernelBytes: 4 * 1024 ** 3,
};

export interface ShardOptions {
  /** The shard's number in its cluster. */
  readonly shard: number;
  /** Shared by the shards of a process. */
  readonly budget: Budget;
  readonly limits?: Partial<ShardLimits>;
  /** Oldest sample taken, and how long samples stay in memory. Infinity: any, for ever. Default 26 h. */
  readonly maxSampleAgeMs?: number;
  /** How far ahead of the clock a sample may lie. Default 10 min. */
  readonly maxFutureMs?: number;
  /** A window seals when its end is this long past (default 10 min) ... */
  readonly sealDelayMs?: number;
  /** ... and nothing was written to it for this long (default 2 min). */
  readonly sealIdleMs?: number;
  /** Time between checkpoints while there are writes; the first comes after a random part of it. Default 5 min. */
  readonly checkpointIntervalMs?: number;
  /** How long the files of blocks that left memory are kept. Default 7 days; without effect while `maxSampleAgeMs` is Infinity. */
  readonly diskRetentionMs?: number;
  /** Length of a slice of background work between yields. Default 1; 0 yields after every step. */
  readonly sliceMs?: number;
  /** How large the log may grow for copies that lag behind; what recovery needs stays in any case. Default: any size. */
  readonly logAllowanceBytes?: () => number;
  /** How much of the log may be younger than the newest checkpoint, about: what recovery replays. Default 32 MiB. */
  readonly replayAllowanceBytes?: () => number;
  /** Exemplars kept; past it those that came first go. Default 10,000. */
  readonly maxExemplarCount?: () => number;
  /** Told how long a batch that was not replicated here waited until the system had its log. */
  readonly committed?: (durationMs: number) => void;
  /** Log settings; the log's own defaults otherwise. */
  readonly log?: { readonly segmentBytes?: number; readonly syncDelayMs?: number; readonly maxPendingBytes?: number };
}

/** Options with every default filled in. */
export interface ShardSettings extends Required<Omit<ShardOptions, 'limits'>> {
  readonly limits: ShardLimits;
}

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

export function withDefaults(options: ShardOptions): ShardSettings {
  return {
    maxSampleAgeMs: 26 * HOUR_MS,
    maxFutureMs: 10 * MINUTE_MS,
    sealDelayMs: 10 * MINUTE_MS,
    sealIdleMs: 2 * MINUTE_MS,
    checkpointIntervalMs: 5 * MINUTE_MS,
    diskRetentionMs: 7 * 24 * HOUR_MS,
    sliceMs: 1,
    logAllowanceBytes: () => Number.POSITIVE_INFINITY,
    replayAllowanceBytes: () => 32 * 1024 ** 2,
    maxExemplarCount: () => 10_000,
    committed: () => undefined,
    log: {},
    ...options,
    limits: { ...DEFAULT_LIMITS, ...options.limits },
  };
}
