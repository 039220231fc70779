/**
 * The log of one shard: the door (bodies follow).
 *
 * Rules for its one user, the shard:
 * - `segment` changes only in `startSegment()` and between event-loop turns, never inside `append`. So a synchronous step
 *   that reads `segment`, appends the definitions that this segment still lacks and then the records using them, has
 *   definitions and uses in one segment, definitions first.
 * - Within one segment a log series id must never be defined twice for different series: after a quarantined range an id
 *   whose definition was lost is then unknown (and its records can be counted as lost) instead of wrong.
 */
import type { Env } from '../../core/env/env.ts';
import type { SilverbackError } from '../../core/errors.ts';

declare const incarnationBrand: unique symbol;

/** One unbroken life of a log: a random 48-bit number. A new one starts with each open after an unclean end. 0: none. */
export type Incarnation = number & { readonly [incarnationBrand]: true };

/** A place in a log: `sequence` is that of the next record to be read. Sequences start at 1, only grow and are never reused. */
export interface Position {
  readonly incarnation: Incarnation;
  readonly sequence: number;
}

/** What a record holds. The log looks only at DEFINITION (the reader repeats those of the segment it starts in). */
export const RecordKind = {
  DEFINITION: 1,
  SAMPLES: 2,
  DELETION: 3,
  METADATA: 4,
  EXEMPLAR: 5,
  HISTOGRAM: 6,
} as const;
export type RecordKind = (typeof RecordKind)[keyof typeof RecordKind];

/** Bytes that each record costs beyond its payload, before compression. */
export const RECORD_OVERHEAD_BYTES = 6;

export interface LogOptions {
  readonly shard: number;
  /** A segment that holds this much is followed by a new one. Default 16 MiB. */
  readonly segmentBytes?: number;
  /** fdatasync at most this long after a write. Default 100. */
  readonly syncDelayMs?: number;
  /** Bound of the bytes appended but not yet taken by the system. Default 8 MiB. */
  readonly maxPendingBytes?: number;
  /**
   * Where the shard will replay from (its checkpoint's position). Segments wholly before it are verified only when read,
   * and new sequences start above it. Default: the beginning.
   */
  readonly from?: Position;
}

/** Something was wrong with the stored log. The log goes on; the caller reports it. */
export interface LogProblem {
  /** `torn`: an unfinished tail was cut. `damaged`: bytes failed their checksum and were set aside in `quarantine`. */
  readonly kind: 'torn' | 'damaged';
  readonly file: string;
  readonly offset: number;
  readonly byteCount: number;
  /** The records that may be missing: from `firstSequence` up to, not including, `endSequence`. */
  readonly firstSequence: number;
  readonly endSequence: number;
  /** The file that keeps the damaged bytes. */
  readonly quarantine?: string;
}

export interface Recovered {
  /** The log before this open was closed in order; its incarnation goes on. A new, empty log is clean, too. */
  readonly clean: boolean;
  /** One past the last record found; 0 for a new log. */
  readonly endSequence: number;
  readonly segmentCount: number;
  readonly byteCount: number;
  readonly problems: readonly LogProblem[];
}

export interface SegmentInfo {
  readonly file: string;
  readonly firstSequence: number;
  /** One past its last record. */
  readonly endSequence: number;
  readonly byteCount: number;
}

/**
 * The records of one frame, as a cursor: `next()` moves to the next record and fills the fields. The bytes are views that
 * stay valid until the reader is asked for its next frame.
 *
 *     for await (const frame of log.read(from)) while (frame.next()) apply(frame.kind, frame.payload);
 */
export interface Frame {
  readonly incarnation: Incarnation;
  /** Tells segments apart; log series ids are only good within one segment. */
  readonly segment: number;
  /** Records that were in the log between the frame before and this one are lost (quarantined). */
  readonly afterGap: boolean;
  readonly firstSequence: number;
  readonly endSequence: number;
  next(): boolean;
  sequence: number;
  kind: RecordKind;
  /** Region in which the record entered the cluster: an index, 0 is this one's own. */
  origin: number;
  /** The current record's payload lies in `bytes` from `start` to `end`. */
  readonly bytes: Uint8Array;
  start: number;
  end: number;
  /** A view of the current record's payload. */
  readonly payload: Uint8Array;
}

/**
 * Reads records in order, up to what was handed to the system when it looks. Iterating ends at the tail; iterating again
 * goes on from there. Records before the start are passed over, except DEFINITION records of the segment that the
 * start lies in.
 */
export interface Reader extends AsyncIterable<Frame> {
  /** The next frame; undefined at the tail, for now. */
  next(): Promise<Frame | undefined>;
  /** Where the next record will be read. */
  position(): Position;
  close(): Promise<void>;
}

export interface Log {
  /** The active segment. Records appended now go into it. Changes only between turns and in `startSegment`. */
  readonly segment: number;
  /** Why the log takes no more, if it failed. */
  readonly failure: SilverbackError | undefined;
  /** Bytes of all segments on disk, with those pending. */
  readonly byteCount: number;
  readonly pendingBytes: number;
  /**
   * Throws what `append` would throw for `byteCount` more bytes (with RECORD_OVERHEAD_BYTES a record): so that a step that
   * appends several records is refused before its first. What it admits, appends in the same synchronous step are taken.
   * @throws RESOURCE_EXHAUSTED past maxPendingBytes or while the disk is full; DISK_FAILED; UNAVAILABLE after close.
   */
  admit(byteCount: number): void;
  /**
   * Takes a record (copies the payload) and returns its sequence. Synchronous.
   * @throws as `admit`; TOO_LARGE for a record above 64 MiB.
   */
  append(kind: RecordKind, origin: number, payload: Uint8Array | readonly Uint8Array[]): number;
  /**
   * Resolves when the system has taken every record up to and with `sequence` (they survive kill -9).
   * @throws DISK_FAILED; RESOURCE_EXHAUSTED when the disk is full: the record stays queued and is tried again, so
   * whoever sees this may send again, harmlessly.
   */
  written(sequence: number): Promise<void>;
  /** Resolves when every record up to and with `sequence` survives a power cut. Asks for an fsync now. @throws DISK_FAILED. */
  synced(sequence: number): Promise<void>;
  /** Where the next record will go. A checkpoint of what was appended so far carries this. */
  tail(): Position;
  /** Ends the active segment; what is appended from now on goes into a new one. */
  startSegment(): void;
  read(from: Position): Reader;
  /** Where a reader at `from` would really go on: clamped to what was recovered; the oldest record for an unknown incarnation. */
  clamp(from: Position): Position;
  /** Removes whole segments all of whose records are before `sequence`; never the active one. */
  release(sequence: number): Promise<void>;
  segments(): SegmentInfo[];
  /** Writes what is pending, syncs, marks a clean end. */
  close(): Promise<void>;
}

export declare const Log: {
  /** Opens or creates the log in `directory` (made if missing), cutting and quarantining what is broken. */
  open(env: Env, directory: string, options: LogOptions): Promise<{ log: Log; recovered: Recovered }>;
};
