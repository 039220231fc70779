/**
 * How a node holds a shard: the state that the placement gave its copy, and whether it holds the past. A copy that is not
 * simply active remembers it on disk, so that a node that starts again without its meta store neither takes a copy for whole
 * that is not, nor takes writes that are another's.
 *
 * `tenure` in the shard's directory: magic "SILVTEN" and version 1, then JSON. None: active.
 */
import type { Disk } from '../core/env/env.ts';
import type { CopyState } from '../core/placement.ts';
import { hasMagic } from '../core/versions.ts';

export interface Tenure {
  readonly state: CopyState;
  /** Of the copy in the placement; 0: not known. */
  readonly epoch: number;
  /** It holds of the past what the other copies do. */
  readonly isFilled: boolean;
  /** Wall clock: what was written before is not here until it is filled. */
  readonly sinceMs: number;
  /** It takes no writes: the copy that it is to take the place of does (core/placement.ts). */
  readonly isArriving?: true;
}

/** What a placement says of a copy. */
export interface Grant {
  readonly state: CopyState;
  readonly epoch: number;
  readonly fill?: true;
  readonly isArriving?: true;
}

const MAGIC = 'SILVTEN\x01';
/** Of a shard that lies in a data directory, when nobody says otherwise. */
export const PLAIN: Tenure = { state: 'active', epoch: 0, isFilled: true, sinceMs: 0 };

/** `before`: undefined where there was nothing of the shard. */
export function nextTenure(before: Tenure | undefined, grant: Grant, nowMs: number): Tenure {
  const { state, epoch, isArriving } = grant;
  if (state === 'active') return { state, epoch, isFilled: true, sinceMs: 0 };
  const since = (isFilled: boolean) => ({
    state,
    epoch,
    isFilled,
    sinceMs: isFilled ? 0 : before === undefined || before.isFilled ? nowMs : before.sinceMs,
    ...(isArriving && { isArriving }),
  });
  if (state === 'leaving') return since(before?.isFilled ?? false);
  // Joined anew, it lacks what was written meanwhile.
  return since(before?.state === 'joining' && before.epoch === epoch && before.isFilled);
}

/** Undefined: nothing of the shard is there. */
export async function readTenure(disk: Disk, directory: string): Promise<Tenure | undefined> {
  const path = `${directory}/tenure`;
  if (!(await disk.exists(path))) return (await disk.list(`${directory}/log`)).length > 0 ? PLAIN : undefined;
  const text = Buffer.from(await disk.readFile(path)).toString();
  const isTenure = hasMagic('tenure', text, MAGIC.slice(0, -1), path);
  try {
    if (isTenure) return JSON.parse(text.slice(MAGIC.length)) as Tenure;
  } catch {
    // As below.
  }
  // Torn by a power cut. What it cannot be is simply active.
  return { state: 'leaving', epoch: 0, isFilled: false, sinceMs: Number.MAX_SAFE_INTEGER };
}

/** Durable when it resolves. */
export async function writeTenure(disk: Disk, directory: string, tenure: Tenure): Promise<void> {
  const path = `${directory}/tenure`;
  if (tenure.state === 'active') {
    if (!(await disk.exists(path))) return;
    await disk.remove(path);
  } else {
    await disk.makeDirectory(directory);
    const file = await disk.open(`${path}.new`, 'append');
    try {
      await file.truncate(0);
      await file.write([Buffer.from(MAGIC + JSON.stringify(tenure))], 0);
      await file.sync();
    } finally {
      await file.close();
    }
    await disk.rename(`${path}.new`, path);
  }
  await disk.syncDirectory(directory);
}
