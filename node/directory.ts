/**
 * A node's data directory: whose data it is, and that one process uses it.
 *
 * `identity`: 8 bytes magic with version, then JSON: the cluster and its shard count. Written once, never changed.
 * `lock`: core/lock.ts.
 */
import type { Disk, Env } from '../core/env/env.ts';
import { SilverbackError } from '../core/errors.ts';
import { lockDirectory } from '../core/lock.ts';
import { hasMagic } from '../core/versions.ts';

/** What a data directory belongs to. */
export interface DirectoryIdentity {
  readonly clusterId: string;
  readonly shardCount: number;
}

const MAGIC = 'SBIDENT\x01';

/** A data directory that this process has for itself. */
export interface Claim {
  readonly directory: string;
  /** Whose data lies here; undefined in a new directory. */
  readonly identity: DirectoryIdentity | undefined;
  /** Records whose directory this is from now on. Throws INVALID_ARGUMENT if it is another cluster's, or was made for another shard count. */
  record(identity: DirectoryIdentity): Promise<void>;
  /** Gives the directory up. */
  release(): Promise<void>;
}

/**
 * Takes the directory, making it if it is not there.
 * @throws CONFLICT while a living process has it; VERSION, CORRUPT if its identity cannot be read
 */
export async function claimDirectory(env: Env, directory: string): Promise<Claim> {
  const { disk } = env;
  const lock = await lockDirectory(env, directory);
  try {
    return {
      directory,
      identity: await readIdentity(disk, directory),
      record: (wanted) => recordIdentity(disk, directory, wanted),
      release: () => lock.release(),
    };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** Throws CORRUPT, VERSION. */
export async function readIdentity(disk: Disk, directory: string): Promise<DirectoryIdentity | undefined> {
  const path = `${directory}/identity`;
  if (!(await disk.exists(path))) return undefined;
  const text = Buffer.from(await disk.readFile(path)).toString('utf8');
  if (!hasMagic('identity', text, MAGIC.slice(0, -1), path)) {
    throw new SilverbackError('CORRUPT', `${path} is no identity of a data directory`);
  }
  return parse(path, text.slice(MAGIC.length));
}

async function recordIdentity(disk: Disk, directory: string, wanted: DirectoryIdentity): Promise<void> {
  const found = await readIdentity(disk, directory);
  if (found === undefined) {
    const path = `${directory}/identity`;
    const temporary = `${path}.new`;
    if (await disk.exists(temporary)) await disk.remove(temporary);
    await writeNew(disk, temporary, MAGIC + JSON.stringify(wanted));
    await disk.rename(temporary, path);
    await disk.syncDirectory(directory);
    return;
  }
  if (found.shardCount !== wanted.shardCount) {
    throw new SilverbackError(
      'INVALID_ARGUMENT',
      `data directory ${directory} was made for ${found.shardCount} shards, the cluster has ${wanted.shardCount}`,
    );
  }
  if (found.clusterId !== wanted.clusterId) {
    throw new SilverbackError(
      'INVALID_ARGUMENT',
      `data directory ${directory} belongs to cluster ${found.clusterId}, not to ${wanted.clusterId}`,
    );
  }
}

function parse(path: string, text: string): DirectoryIdentity {
  try {
    return JSON.parse(text) as DirectoryIdentity;
  } catch (cause) {
    throw new SilverbackError('CORRUPT', `${path} is damaged`, { cause });
  }
}

async function writeNew(disk: Disk, path: string, text: string): Promise<void> {
  const file = await disk.open(path, 'create');
  try {
    await file.write([Buffer.from(text)], 0);
    await file.sync();
  } finally {
    await file.close();
  }
}
