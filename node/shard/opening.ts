/**
 * Opening a shard: blocks, then the newest sound checkpoint, then the log from the checkpoint's position on. The order does
 * not matter, since samples are a set; it is the one that needs the least memory.
 *
 * Nothing is refused here but what is another shard's or of another version: what is unsound is set aside, reported, and the
 * shard opens without it.
 */
import type { Env } from '../../core/env/env.ts';
import { messageOf } from '../../core/errors.ts';
import { ShardKernel } from '../../core/kernel/shard.ts';
import { Annex } from './annex.ts';
import { BlockStore } from './blocks.ts';
import { Catalogue } from './catalogue.ts';
import { type CheckpointInfo, loadCheckpoint } from './checkpoint.ts';
import { Cursors } from './cursors.ts';
import { Deletions } from './deletions.ts';
import { Gaps } from './gaps.ts';
import { Log, type Position } from './log.ts';
import type { ShardSettings } from './options.ts';
import { Problems } from './problems.ts';
import { Recorder } from './recorder.ts';
import { replayLog, restoreCheckpoint } from './restore.ts';
import { Room } from './room.ts';
import { sealWindow, type Windows } from './seal.ts';
import type { Incarnation } from './segment.ts';
import { Slicer } from './slicer.ts';

/** What a shard is made of. */
interface Parts {
  readonly env: Env;
  readonly directory: string;
  readonly settings: ShardSettings;
  /** Tells this opening of the shard from every other one. */
  readonly life: string;
  readonly kernel: ShardKernel;
  readonly catalogue: Catalogue;
  readonly blocks: BlockStore;
  readonly deletions: Deletions;
  readonly annex: Annex;
  readonly problems: Problems;
  readonly gaps: Gaps;
}

/** The same with what was on disk in them. */
export interface Opened extends Parts {
  readonly log: Log;
  readonly room: Room;
  readonly recorder: Recorder;
  readonly cursors: Cursors;
  readonly windows: Windows;
  readonly found: Found;
}

/** What there was to recover. */
interface Found {
  /** Nothing: a first start, or a lost disk. */
  readonly isNew: boolean;
  readonly recordCount: number;
  /** That the rest was replayed on, if there was one. */
  readonly checkpoint: CheckpointInfo | undefined;
  readonly tookMs: number;
}

/** Of the kernel's series table. */
const MAX_SLOT_COUNT = 16_777_216;
/** Before every record. */
const BEGINNING: Position = { incarnation: 0 as Incarnation, sequence: 0 };

/**
 * Opens or creates what lies in `directory`. After an error nothing stays open.
 * @throws DISK_FAILED, VERSION, INVALID_ARGUMENT (another shard's data), RESOURCE_EXHAUSTED (its open windows do not fit)
 */
export async function openParts(env: Env, directory: string, settings: ShardSettings): Promise<Opened> {
  const parts = createParts(env, directory, settings);
  const startedMs = env.clock.monotonicMs();
  let log: Log | undefined;
  try {
    const { blocks, problems } = parts;
    const slicer = new Slicer(env, [], settings.sliceMs);
    const nowMs = env.clock.nowMs();
    for (const problem of await blocks.open(nowMs - settings.maxSampleAgeMs, slicer)) problems.report(problem);
    const loaded = await loadCheckpoint(env, `${directory}/checkpoints`, { shard: settings.shard });
    for (const { file, reason, quarantine } of loaded.problems) {
      problems.report(`checkpoint ${file} is unsound and lies in ${quarantine} now: ${reason}`);
    }
    const from = loaded.checkpoint?.position;
    const opened = await Log.open(env, `${directory}/log`, {
      shard: settings.shard,
      ...settings.log,
      ...(from === undefined ? {} : { from }),
    });
    log = opened.log;
    return await recover(parts, opened, loaded.checkpoint, { nowMs, startedMs }, slicer);
  } catch (error) {
    parts.blocks.close();
    await log?.close().catch(() => undefined);
    throw error;
  }
}

function createParts(env: Env, directory: string, settings: ShardSettings): Parts {
  const { limits } = settings;
  const life = Buffer.from(env.random.bytes(8)).toString('base64url');
  const kernel = ShardKernel.create({
    // Recovery takes more series than the limit, if there are more: somebody lowered it.
    maxSeriesCount: Math.min(MAX_SLOT_COUNT, limits.maxSeriesCount * 4),
    maxRefCount: MAX_SLOT_COUNT,
    maxMemoryBytes: limits.maxKernelBytes,
    maxOpenWindows: limits.maxOpenWindowCount,
  });
  const catalogue = new Catalogue(kernel, limits, settings.budget);
  const blocks = new BlockStore(env, `${directory}/blocks`, settings.shard, settings.budget, (identity) =>
    catalogue.restore(identity),
  );
  const problems = new Problems(env.clock);
  const gaps = new Gaps(env, directory, settings, blocks, problems);
  const annex = new Annex(env.clock, settings);
  const deletions = new Deletions();
  return { env, directory, settings, life, kernel, catalogue, blocks, deletions, annex, problems, gaps };
}

/** Brings back what checkpoint and log hold, and says what they should hold and do not. */
async function recover(
  parts: Parts,
  { log, recovered }: Awaited<ReturnType<typeof Log.open>>,
  checkpoint: Awaited<ReturnType<typeof loadCheckpoint>>['checkpoint'],
  { nowMs, startedMs }: { readonly nowMs: number; readonly startedMs: number },
  slicer: Slicer,
): Promise<Opened> {
  const { env, directory, settings, kernel, catalogue, blocks, deletions, problems, gaps } = parts;
  await gaps.load();
  const recorder = new Recorder(kernel, catalogue, log);
  const cursors = await Cursors.load(env, directory, log, (message) => problems.report(message));
  const windows: Windows = {
    kernel,
    blocks,
    deletions,
    shard: settings.shard,
    // What recovery finds in log and checkpoint is durable.
    deletionsDurable: () => recorder.deletionsDurable(),
  };
  const target = {
    ...parts,
    makeRoom: (done: Set<number>) => makeRoom(windows, done, new Slicer(env, [], settings.sliceMs)),
  };
  if (checkpoint !== undefined) {
    const losses = await restoreCheckpoint(target, checkpoint, slicer);
    const count = losses.unnamedCount + losses.unsoundCount;
    if (count > 0) gaps.lost(`${count} pages or runs of checkpoint ${checkpoint.file} cannot be used`, nowMs);
  }
  const replayed = await replayLog(target, log, checkpoint?.position ?? BEGINNING, slicer);
  const isNew = checkpoint === undefined && replayed.recordCount === 0 && blocks.all.length === 0;
  // What was recovered holds definitions under other ids: the rule of one meaning per id and segment wants a new one.
  log.startSegment();
  for (const problem of new Set([...recovered.problems, ...log.problems])) {
    const records = `records ${problem.firstSequence} up to ${problem.endSequence}`;
    const what = `${problem.file} at byte ${problem.offset}: ${problem.byteCount} bytes, ${records}`;
    if (problem.kind === 'torn') problems.report(`an unfinished tail was cut off the log: ${what}`);
    else if (problem.kind === 'missing') gaps.lost(`the log lacks ${records} (${problem.file})`, nowMs);
    else gaps.lost(`the log is damaged (set aside in ${problem.quarantine ?? 'place'}): ${what}`, nowMs);
  }
  if (replayed.unsoundCount > 0) gaps.lost(`${replayed.unsoundCount} log records cannot be used`, nowMs);
  if (replayed.unnamedCount > 0) gaps.lost(`${replayed.unnamedCount} runs in the log lack their series`, nowMs);
  // What was set aside now is not found again.
  await gaps.save().catch((error: unknown) => problems.report(`writing down gaps failed: ${messageOf(error)}`));
  const found = {
    isNew,
    recordCount: replayed.recordCount,
    checkpoint,
    tookMs: env.clock.monotonicMs() - startedMs,
  };
  const room = new Room(log, settings.shard);
  return { ...parts, log, room, recorder, cursors, windows, found };
}

/** The window with the most open runs that is not in `done` leaves the kernel. */
async function makeRoom(windows: Windows, done: Set<number>, slicer: Slicer): Promise<boolean> {
  const open = windows.kernel.windows().filter((window) => !done.has(window.startMs));
  if (open.length === 0) return false;
  const { startMs } = open.reduce((a, b) => (b.runCount > a.runCount ? b : a));
  done.add(startMs);
  await sealWindow(windows, startMs, slicer);
  return true;
}
