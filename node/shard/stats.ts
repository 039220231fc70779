/** What a shard says about itself: gathered from those who own it, when asked. */
import type { SealedBlock } from './blocks.ts';
import type { Keeper } from './keeper.ts';
import type { Opened } from './opening.ts';
import type { ShardSettings } from './options.ts';
import type { Problem } from './problems.ts';
import type { Retention } from './retention.ts';
import type { Sealer } from './sealer.ts';
import type { Intake } from './sender.ts';

export interface ShardStats {
  readonly maxSeriesCount: number;
  readonly seriesCount: number;
  /** In open runs; late ones that are not yet merged count each. */
  readonly openSampleCount: number;
  readonly sealedSampleCount: number;
  readonly openWindowCount: number;
  readonly blockCount: number;
  readonly residentBlockCount: number;
  readonly senderCount: number;
  /** Metrics of new series that found no room, those with most of them: upper bounds. */
  readonly refusedMetrics: readonly { readonly name: string; readonly count: number }[];
  /** Since the shard was opened. */
  readonly acceptedSampleCount: number;
  readonly refusedSampleCount: number;
  /** What the kernel uses now, and the most it used so far: what was once touched stays resident. */
  readonly kernelBytes: number;
  readonly kernelPeakBytes: number;
  readonly residentBlockBytes: number;
  readonly blockIndexBytes: number;
  /** Postings; an estimate. */
  readonly indexBytes: number;
  readonly blockFileBytes: number;
  readonly logBytes: number;
  readonly logPendingBytes: number;
  readonly logUnsyncedBytes: number;
  /** Undefined before the first one. */
  readonly checkpointAgeMs: number | undefined;
  /** Intervals, over all series. */
  readonly deletionCount: number;
  readonly exemplarCount: number;
  readonly exemplarSeriesCount: number;
  /** Since the shard was opened; repeated ones count. */
  readonly acceptedExemplarCount: number;
  readonly refusedExemplarCount: number;
  /** Metrics whose metadata is kept. */
  readonly metadataCount: number;
  readonly sealCount: number;
  readonly lastSealMs: number;
  readonly recoveryMs: number;
  readonly recoveredRecordCount: number;
  /** Why writes are refused. */
  readonly failure: string | undefined;
  /** The latest ones. */
  readonly problems: readonly Problem[];
  readonly problemCount: number;
}

interface StatsParts
  extends Pick<Opened, 'kernel' | 'catalogue' | 'blocks' | 'deletions' | 'annex' | 'log' | 'problems' | 'found'> {
  readonly intake: Intake;
  readonly sealer: Sealer;
  readonly keeper: Keeper;
  readonly retention: Retention;
  readonly settings: ShardSettings;
}

export function shardStats(parts: StatsParts): ShardStats {
  const { kernel, catalogue, deletions, annex, log, problems, found, intake, sealer, keeper, retention } = parts;
  const blocks = parts.blocks.all;
  const sum = (of: (block: SealedBlock) => number) => blocks.reduce((total, block) => total + of(block), 0);
  return {
    maxSeriesCount: parts.settings.limits.maxSeriesCount,
    seriesCount: catalogue.seriesCount,
    openSampleCount: kernel.sampleCount,
    sealedSampleCount: sum((block) => block.sampleCount),
    openWindowCount: kernel.windows().length,
    blockCount: blocks.length,
    residentBlockCount: sum((block) => (block.resident ? 1 : 0)),
    senderCount: intake.senderCount,
    refusedMetrics: intake.refusedMetrics.list(),
    acceptedSampleCount: intake.acceptedCount,
    refusedSampleCount: intake.refusedCount,
    kernelBytes: kernel.usedBytes,
    kernelPeakBytes: retention.kernelPeakBytes,
    residentBlockBytes: sum((block) => block.residentBytes),
    blockIndexBytes: sum((block) => block.indexBytes),
    indexBytes: catalogue.indexBytes,
    blockFileBytes: sum((block) => block.fileBytes),
    logBytes: log.byteCount,
    logPendingBytes: log.pendingBytes,
    logUnsyncedBytes: log.unsyncedBytes,
    checkpointAgeMs: keeper.checkpointAgeMs,
    deletionCount: deletions.count,
    exemplarCount: annex.exemplars.count,
    exemplarSeriesCount: annex.exemplars.seriesCount,
    acceptedExemplarCount: annex.acceptedCount,
    refusedExemplarCount: annex.refusedCount,
    metadataCount: annex.metadata.count,
    sealCount: sealer.count,
    lastSealMs: sealer.lastMs,
    recoveryMs: found.tookMs,
    recoveredRecordCount: found.recordCount,
    failure: log.failure?.message,
    problems: [...problems.latest],
    problemCount: problems.count,
  };
}
