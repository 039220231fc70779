/**
 * Checkpoints of one shard: the door (bodies follow).
 *
 * Two checkpoints are kept, and the log keeps everything from the older one's position on. So a checkpoint that turns out
 * to be damaged costs a longer replay and loses nothing.
 */
import type { Env } from '../../core/env/env.ts';
import type { Position } from './log.ts';

/** One opaque page. `kind` is the shard's own, 0 to 255. */
export interface Page {
  readonly kind: number;
  readonly bytes: Uint8Array;
}

export interface CheckpointProblem {
  readonly file: string;
  readonly reason: string;
  readonly quarantine: string;
}

export interface CheckpointInfo {
  readonly file: string;
  readonly position: Position;
  readonly pageCount: number;
  readonly byteCount: number;
}

/** A verified checkpoint. */
export interface Checkpoint extends CheckpointInfo {
  /** The pages in the order they were written; a page's bytes stay valid until the next one is asked for. */
  pages(): AsyncGenerator<Page>;
}

export interface CheckpointWriter {
  /** Adds a page (compresses and copies: `bytes` may be a view that goes stale). Awaiting it bounds memory. */
  page(kind: number, bytes: Uint8Array): Promise<void>;
  /**
   * Makes it durable, verifies it from the disk, renames it into place, and removes all but the newest two.
   * `release`: log records before this sequence are needed by no kept checkpoint; undefined while there is only one.
   */
  commit(): Promise<CheckpointInfo & { readonly release: number | undefined }>;
  abort(): Promise<void>;
}

/** Starts a checkpoint; `position` is `log.tail()` at the moment from which its pages hold the state. */
export declare function writeCheckpoint(
  env: Env,
  directory: string,
  options: { shard: number; position: Position },
): Promise<CheckpointWriter>;

/** The newest checkpoint that verifies from end to end; damaged ones are quarantined and reported, unfinished ones removed. */
export declare function loadCheckpoint(
  env: Env,
  directory: string,
  options: { shard: number },
): Promise<{ checkpoint: Checkpoint | undefined; problems: readonly CheckpointProblem[] }>;
