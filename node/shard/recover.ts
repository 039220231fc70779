/**
 * Opening a log: which segments there are, what is broken in them, where sequences go on. All that reads or mends the files
 * of a former life is here; log.ts only appends to a new segment after it.
 *
 * Segments are looked at newest first. Every one is synced before anything is told of it: what kill -9 left in the page
 * cache only is durable from then on. A tail that is no frame is cut (copied aside first unless it is what an interrupted
 * write leaves); a damaged range between frames is copied aside and overwritten by a VOID frame.
 */
import type { Env, File } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import {
  encodeSegmentHeader,
  FRAME_HEADER_BYTES,
  FrameFlag,
  type Incarnation,
  isFull,
  type Life,
  type LogProblem,
  MAX_LIVES,
  type Position,
  parseSegmentHeader,
  parseSegmentName,
  Scanner,
  SEGMENT_HEADER_BYTES,
  type Segment,
  type SegmentHeader,
  voidFrame,
} from './segment.ts';

/**
 * How far an open goes above the last record found when the end was unclean; no more sequences than this are handed out
 * ahead of an fsync. 2^53 / 2^30: it can happen eight million times.
 */
export const SEQUENCE_SKIP = 2 ** 30;

const COPY_BYTES = 1024 * 1024;

/** A log as it was found, and how it goes on. */
export interface RecoveredLog {
  /** Oldest first, closed. */
  readonly segments: Segment[];
  readonly clean: boolean;
  /** The last segment is clean and has no records: it can go on after losing its mark. */
  readonly reusable: boolean;
  /** One past the last record found. */
  readonly endSequence: number;
  readonly incarnation: Incarnation;
  readonly lives: readonly Life[];
  readonly nextSequence: number;
  readonly problems: readonly LogProblem[];
}

interface Damage {
  readonly offset: number;
  readonly byteCount: number;
  readonly atEnd: boolean;
  readonly torn: boolean;
  readonly firstSequence: number;
  endSequence: number;
}

interface Scan {
  readonly endSequence: number;
  readonly recordCount: number;
  /** The sequence in the mark of a clean end, if that is the last thing in the segment. */
  readonly closedAt: number | undefined;
  readonly damages: readonly Damage[];
}

export async function recoverLog(
  env: Env,
  directory: string,
  options: { readonly shard: number; readonly from?: Position },
): Promise<RecoveredLog> {
  await env.disk.makeDirectory(directory);
  const names = (await env.disk.list(directory)).filter((name) => parseSegmentName(name) !== undefined);
  const segments: Segment[] = [];
  const problems: LogProblem[] = [];
  let last: Scan | undefined;
  /** The first sequence of the segment after. */
  let next = Number.POSITIVE_INFINITY;
  for (let i = names.length - 1; i >= 0; i--) {
    const path = `${directory}/${names[i]!}`;
    const first = parseSegmentName(names[i]!)!;
    const file = await env.disk.open(path, 'append');
    try {
      const header = await segmentHeader(env, directory, path, file, { shard: options.shard, first, next }, problems);
      if (header === undefined) continue;
      const verify = last === undefined || options.from === undefined || next > options.from.sequence;
      const scan = verify ? await scanSegment(file, header) : undefined;
      if (scan) await mend(env, directory, path, file, header, scan, next, problems);
      await file.sync();
      segments.unshift({
        number: i + 1,
        path,
        header,
        file: undefined,
        byteCount: await file.size(),
        endSequence: scan?.endSequence ?? next,
      });
      last ??= scan;
      next = first;
    } finally {
      await file.close();
    }
  }
  problems.reverse();
  return goOn(env, directory, options.from, segments, last, problems);
}

/** Where sequences, incarnation and lives go on. */
function goOn(
  env: Env,
  directory: string,
  from: Position | undefined,
  segments: Segment[],
  last: Scan | undefined,
  problems: LogProblem[],
): RecoveredLog {
  const newest = segments.at(-1);
  const floor = from?.sequence ?? 1;
  if (newest === undefined || last === undefined) {
    // An empty directory is a new log, unless a checkpoint knows of an older one.
    const clean = from === undefined && problems.length === 0;
    if (from !== undefined) {
      const range = { firstSequence: from.sequence, endSequence: Number.POSITIVE_INFINITY };
      problems.push({ kind: 'missing', file: directory, offset: 0, byteCount: 0, ...range });
    }
    const found = Math.max(floor, ...problems.map((problem) => problem.firstSequence));
    return {
      segments,
      clean,
      reusable: false,
      endSequence: floor,
      incarnation: newIncarnation(env),
      lives: [],
      nextSequence: clean ? 1 : found + SEQUENCE_SKIP,
      problems,
    };
  }
  const { header } = newest;
  if (last.closedAt !== undefined && last.closedAt >= floor) {
    return {
      segments,
      clean: true,
      reusable: last.recordCount === 0,
      endSequence: last.closedAt,
      incarnation: header.incarnation,
      lives: header.lives,
      nextSequence: last.closedAt,
      problems,
    };
  }
  const endSequence = last.endSequence;
  const ended = { incarnation: header.incarnation, endSequence };
  const found = Math.max(endSequence, floor, ...problems.map((problem) => problem.firstSequence));
  return {
    segments,
    clean: false,
    reusable: false,
    endSequence,
    incarnation: newIncarnation(env),
    lives: [...header.lives, ended].slice(-MAX_LIVES),
    nextSequence: found + SEQUENCE_SKIP,
    problems,
  };
}

function newIncarnation(env: Env): Incarnation {
  let value = 0;
  for (const byte of env.random.bytes(6)) value = value * 256 + byte;
  return (value === 0 ? 1 : value) as Incarnation;
}

/** A segment's header, put together again from its name and frames if it is damaged; undefined if the file is no segment. */
async function segmentHeader(
  env: Env,
  directory: string,
  path: string,
  file: File,
  known: { readonly shard: number; readonly first: number; readonly next: number },
  problems: LogProblem[],
): Promise<SegmentHeader | undefined> {
  const size = await file.size();
  const head = await file.read(0, SEGMENT_HEADER_BYTES);
  const header = parseSegmentHeader(head, path);
  if (header !== undefined) {
    if (header.shard === known.shard) return header;
    throw new SilverbackError('INVALID_ARGUMENT', `${path} belongs to shard ${header.shard}, not to ${known.shard}`);
  }
  const at = { file: path, offset: 0, firstSequence: known.first };
  const scanner = new Scanner(file, 0 as Incarnation);
  const found = await firstFrame(scanner, size);
  if (found === undefined) {
    // A file without a header and a frame: its creation was interrupted, or all of it is damaged.
    if (size < SEGMENT_HEADER_BYTES || head.every((byte) => byte === 0)) {
      await env.disk.remove(path);
      problems.push({ ...at, kind: 'torn', byteCount: size, endSequence: known.first });
    } else {
      const quarantine = `${path}.quarantine`;
      await env.disk.rename(path, quarantine);
      problems.push({ ...at, kind: 'damaged', byteCount: size, endSequence: known.next, quarantine });
    }
    await env.disk.syncDirectory(directory);
    return undefined;
  }
  const rescued: SegmentHeader = { shard: known.shard, firstSequence: known.first, incarnation: found, lives: [] };
  const quarantine = await setAside(env, directory, path, file, 0, SEGMENT_HEADER_BYTES);
  if (quarantine !== undefined) {
    await file.write([encodeSegmentHeader(rescued)], 0);
    await file.sync();
  }
  const problem = { ...at, kind: 'damaged' as const, byteCount: SEGMENT_HEADER_BYTES, endSequence: known.first };
  problems.push(quarantine === undefined ? problem : { ...problem, quarantine });
  return rescued;
}

async function firstFrame(scanner: Scanner, end: number): Promise<Incarnation | undefined> {
  for (;;) {
    const found = await scanner.next(end);
    if (found === undefined) return undefined;
    if (found.kind === 'frame') return scanner.incarnation;
  }
}

async function scanSegment(file: File, header: SegmentHeader): Promise<Scan> {
  const size = await file.size();
  const scanner = new Scanner(file, header.incarnation);
  const damages: Damage[] = [];
  let endSequence = header.firstSequence;
  let recordCount = 0;
  let closedAt: number | undefined;
  for (;;) {
    const found = await scanner.next(size);
    if (found === undefined) return { endSequence, recordCount, closedAt, damages };
    closedAt = undefined;
    if (found.kind === 'damage') {
      const { offset, byteCount, atEnd, torn } = found;
      damages.push({
        offset,
        byteCount,
        atEnd,
        torn,
        firstSequence: endSequence,
        endSequence: Number.POSITIVE_INFINITY,
      });
      continue;
    }
    const frame = found.header;
    for (let i = damages.length - 1; i >= 0 && damages[i]!.endSequence === Number.POSITIVE_INFINITY; i--) {
      damages[i]!.endSequence = frame.firstSequence;
    }
    endSequence = Math.max(endSequence, frame.firstSequence + frame.recordCount);
    recordCount += frame.recordCount;
    if (frame.flags & FrameFlag.CLOSE) closedAt = endSequence;
  }
}

async function mend(
  env: Env,
  directory: string,
  path: string,
  file: File,
  header: SegmentHeader,
  scan: Scan,
  next: number,
  problems: LogProblem[],
): Promise<void> {
  for (const damage of scan.damages.toReversed()) {
    const { offset, byteCount, firstSequence } = damage;
    const endSequence = Math.min(damage.endSequence, next);
    const problem = { file: path, offset, byteCount, firstSequence, endSequence };
    if (damage.torn) {
      await file.truncate(offset);
      problems.push({ kind: 'torn', ...problem });
      continue;
    }
    const quarantine = await setAside(env, directory, path, file, offset, byteCount);
    problems.push({ kind: 'damaged', ...problem, ...(quarantine === undefined ? {} : { quarantine }) });
    if (quarantine === undefined) continue;
    if (damage.atEnd) await file.truncate(offset);
    else await coverUp(file, offset, byteCount, firstSequence, header.incarnation);
  }
}

/** Puts a VOID frame over a range that was set aside. Synced by the caller's next sync at the latest. */
export async function coverUp(
  file: File,
  offset: number,
  byteCount: number,
  sequence: number,
  incarnation: Incarnation,
): Promise<void> {
  if (byteCount >= FRAME_HEADER_BYTES) await file.write([voidFrame(byteCount, sequence, incarnation)], offset);
}

/** Copies a range into a file beside and makes that durable; its path. Undefined if the disk has no space for it. */
export async function setAside(
  env: Env,
  directory: string,
  path: string,
  file: File,
  offset: number,
  byteCount: number,
): Promise<string | undefined> {
  const quarantine = `${path}.${offset}.quarantine`;
  const copy = await env.disk.open(quarantine, 'append');
  try {
    await copy.truncate(0);
    for (let done = 0; done < byteCount; done += COPY_BYTES) {
      const bytes = await file.read(offset + done, Math.min(COPY_BYTES, byteCount - done));
      await copy.write([bytes], done);
    }
    await copy.sync();
    await env.disk.syncDirectory(directory);
    return quarantine;
  } catch (error) {
    if (isFull(error)) return undefined;
    throw error;
  } finally {
    await copy.close();
  }
}
