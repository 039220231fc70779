/**
 * The room before a log's disk, and whose what waits there is. It is bounded in bytes, and in the time that the disk needs for
 * them: whoever waits longer than its patience for an answer sends again, and waits as long again. Nobody may have more of it
 * than is left to others (see core/pool.ts), so a caller that sends little finds room whatever others send.
 */
import { SilverbackError } from '../../core/errors.ts';
import { Share, Shares } from '../../core/pool.ts';
import type { Log } from './log.ts';

type Queue = Pick<Log, 'admit' | 'written' | 'tail' | 'pendingBytes' | 'maxPendingBytes' | 'lastWrite'>;

/** How long what waits may wait, at the pace of the last write. Senders give a node up after 15 s. */
const WAIT_MS = 2_000;
/** However slow the disk is: a batch and another. */
const MIN_BYTES = 2 * 1024 * 1024;
const RETRY_MS = { least: 100, most: 1_000 };

export class Room extends Shares {
  /** Of what comes from other copies. */
  readonly copies = new Share('other copies');
  readonly #log: Queue;
  readonly #shard: number;

  constructor(log: Queue, shard: number) {
    super();
    this.#log = log;
    this.#shard = shard;
  }

  /**
   * Does a step that appends about `byteCount` to the log, synchronously. What it appended is the holder's until it is written.
   * @throws what the step throws; before it, what `Log.admit` throws, and RESOURCE_EXHAUSTED where the holder has its share.
   */
  take<T>(share: Share, byteCount: number, step: () => T): T {
    this.#admit(share, byteCount);
    const log = this.#log;
    const before = log.pendingBytes;
    try {
      return step();
    } finally {
      const bytes = log.pendingBytes - before;
      if (bytes > 0) {
        const leave = () => {
          share.bytes -= bytes;
        };
        share.bytes += bytes;
        log.written(log.tail().sequence - 1).then(leave, leave);
      }
    }
  }

  #admit(share: Share, byteCount: number): void {
    const log = this.#log;
    log.admit(byteCount);
    const { bytes, durationMs } = log.lastWrite;
    const maxBytes = Math.min(log.maxPendingBytes, Math.max(MIN_BYTES, (bytes / durationMs) * WAIT_MS));
    const freeBytes = maxBytes - log.pendingBytes - byteCount;
    if (log.pendingBytes === 0 || (freeBytes >= 0 && (share.bytes === 0 || share.bytes <= freeBytes))) return;
    const waiting = `${log.pendingBytes} bytes wait for the log's disk, ${share.bytes} of them of ${share.holder}`;
    const rule = `nobody may have more of ${Math.floor(maxBytes)} than is left to others`;
    throw new SilverbackError(
      'RESOURCE_EXHAUSTED',
      `shard ${this.#shard}: ${waiting}: ${rule}, ${byteCount} more have to wait`,
      {
        retryAfterMs: Math.ceil(Math.min(RETRY_MS.most, Math.max(RETRY_MS.least, durationMs))),
      },
    );
  }
}
