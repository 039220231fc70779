/** What a checkpoint and the log hold, back in memory, in slices. What is unsound is counted and left out. */
import { SilverbackError } from '../../core/errors.ts';
import type { AppendSlice, RefTable, SeriesId, ShardKernel } from '../../core/kernel/shard.ts';
import { checkVersion, foundIn } from '../../core/versions.ts';
import type { Annex } from './annex.ts';
import type { Catalogue } from './catalogue.ts';
import type { Checkpoint } from './checkpoint.ts';
import { readDefinitions } from './definitions.ts';
import { type Deletions, readDeletions } from './deletions.ts';
import { type Log, RecordKind } from './log.ts';
import { PageKind } from './pages.ts';
import { unknownKind } from './segment.ts';
import type { Slicer } from './slicer.ts';

/** What replaying found missing. */
export interface Losses {
  /** Samples, runs or deletions whose series' definition was lost. */
  unnamedCount: number;
  /** Records that could not be read. */
  unsoundCount: number;
}

interface Target {
  readonly kernel: ShardKernel;
  readonly catalogue: Catalogue;
  readonly deletions: Deletions;
  readonly annex: Annex;
  /** Seals a window that is not in `done`, puts it there, and so frees its open runs. False: there is none. */
  readonly makeRoom: (done: Set<number>) => Promise<boolean>;
}

/** Brings back what a checkpoint holds. Throws RESOURCE_EXHAUSTED when memory does not suffice, VERSION. */
export async function restoreCheckpoint(target: Target, checkpoint: Checkpoint, slicer: Slicer): Promise<Losses> {
  const losses: Losses = { unnamedCount: 0, unsoundCount: 0 };
  const refs = target.kernel.createRefs();
  for await (const page of checkpoint.pages()) {
    try {
      if (page.kind === PageKind.DEFINITIONS) define(target, refs, page.bytes);
      else if (page.kind === PageKind.RUNS) {
        const unnamed = await retry(target, () => target.kernel.restoreRuns(refs, page.bytes).length);
        losses.unnamedCount += unnamed;
      } else if (page.kind === PageKind.DELETIONS) losses.unnamedCount += remove(target, refs, page.bytes);
      else if (page.kind === PageKind.METADATA || page.kind === PageKind.EXEMPLARS) {
        target.annex.restore(page.kind, page.bytes);
      } else throw unknownKind('a page', page.kind);
    } catch (error) {
      if (!isCorrupt(error)) throw foundIn(checkpoint.file, error);
      losses.unsoundCount++;
    }
    await slicer.pause();
  }
  target.kernel.dropRefs(refs);
  return losses;
}

/** Brings back what the log holds from `from` on. Throws RESOURCE_EXHAUSTED, VERSION. Series ids are good within a segment, so each has its own table. */
export async function replayLog(
  target: Target,
  log: Log,
  from: Parameters<Log['read']>[0],
  slicer: Slicer,
): Promise<Losses & { recordCount: number; sampleCount: number }> {
  const result = { unnamedCount: 0, unsoundCount: 0, recordCount: 0, sampleCount: 0 };
  const { kernel } = target;
  let refs: RefTable | undefined;
  let segment = -1;
  const reader = log.read(from);
  for await (const frame of reader) {
    if (refs === undefined || frame.segment !== segment) {
      if (refs !== undefined) kernel.dropRefs(refs);
      refs = kernel.createRefs();
      segment = frame.segment;
    }
    const table = refs;
    while (frame.next()) {
      result.recordCount++;
      try {
        if (frame.kind === RecordKind.DEFINITION) define(target, table, frame.payload);
        else if (frame.kind === RecordKind.DELETION) result.unnamedCount += remove(target, table, frame.payload);
        else if (frame.kind === RecordKind.METADATA || frame.kind === RecordKind.EXEMPLAR) {
          target.annex.restore(frame.kind, frame.payload);
        } else if (frame.kind !== RecordKind.SAMPLES) throw unknownKind('a record', frame.kind);
        else {
          const { payload } = frame;
          checkVersion('log record', payload[0] as number);
          // Giving the record again opens its own windows again: each is sealed once, so that the others get their turn.
          const sealed = new Set<number>();
          for (;;) {
            const slice: AppendSlice = kernel.appendRecord(table, payload, false);
            if (slice.rejections.length === 0) {
              result.sampleCount += slice.acceptedCount;
              result.unnamedCount += slice.unknownRefs.length;
              break;
            }
            if (!(await target.makeRoom(sealed))) throw noRoom();
          }
        }
      } catch (error) {
        if (!isCorrupt(error)) {
          const file = log.segments().find(({ endSequence }) => endSequence > frame.sequence)?.file;
          throw foundIn(`${file}: record ${frame.sequence}`, error);
        }
        result.unsoundCount++;
      }
      slicer.spend(200);
      if (slicer.due()) await slicer.pause();
    }
  }
  await reader.close();
  if (refs !== undefined) kernel.dropRefs(refs);
  return result;
}

function define(target: Target, refs: RefTable, list: Uint8Array): void {
  readDefinitions(list, 'CORRUPT', (number, identity) => {
    const id: SeriesId = target.catalogue.restore(identity);
    target.kernel.defineRef(refs, number, id);
  });
}

/** Takes a list of deletions in; returns how many name a series that is not defined. */
function remove({ kernel, deletions }: Target, refs: RefTable, list: Uint8Array): number {
  let unnamedCount = 0;
  readDeletions(list, (number, fromMs, toMs) => {
    const id = kernel.resolveRef(refs, number);
    if (id === undefined) unnamedCount++;
    else deletions.add({ id, fromMs, toMs });
  });
  return unnamedCount;
}

/** Runs an idempotent task again after making room, as often as that helps. */
async function retry<T>(target: Target, task: () => T): Promise<T> {
  const sealed = new Set<number>();
  for (;;) {
    try {
      return task();
    } catch (error) {
      if (!(error instanceof SilverbackError && error.code === 'RESOURCE_EXHAUSTED')) throw error;
      if (!(await target.makeRoom(sealed))) throw error;
    }
  }
}

function noRoom(): SilverbackError {
  return new SilverbackError('RESOURCE_EXHAUSTED', 'the open windows in the log do not fit into memory');
}

function isCorrupt(error: unknown): boolean {
  return error instanceof SilverbackError && (error.code === 'CORRUPT' || error.code === 'INVALID_LABELS');
}
