/** Small disks for nodes, in memory, that can be filled. Mounting takes root. */
import { spawnSync } from 'node:child_process';
import { closeSync, cpSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const DISK_BYTES = 256 << 20;
const BALLAST = 'ballast';
const KEPT = '.kept';

export class Disks {
  readonly #directories: ReadonlyMap<string, string>;
  readonly #mounted: string[] = [];

  /** Where each node's disk is to be. */
  constructor(directories: ReadonlyMap<string, string>) {
    this.#directories = directories;
    for (const directory of directories.values()) {
      mkdirSync(directory, { recursive: true });
      const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'tmpfs', directory]);
      if (mount.status !== 0) {
        this.close();
        throw new Error(`a small disk at ${directory}: ${mount.stderr}`);
      }
      this.#mounted.push(directory);
    }
  }

  /** Not a byte is left. */
  fill(name: string): void {
    const file = openSync(this.#ballastOf(name), 'a');
    try {
      for (let size = 1 << 20; size > 0; ) {
        try {
          writeSync(file, Buffer.alloc(size));
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
          size >>= 4;
        }
      }
    } finally {
      closeSync(file);
    }
  }

  empty(name: string): void {
    rmSync(this.#ballastOf(name), { force: true });
  }

  /** `keeps`: what is on the disks is left where they were, but for what filled them. */
  close(keeps = false): void {
    for (const directory of this.#mounted.splice(0)) {
      rmSync(join(directory, BALLAST), { force: true });
      if (keeps) cpSync(directory, `${directory}${KEPT}`, { recursive: true });
      spawnSync('umount', ['-l', directory]);
      if (!keeps) continue;
      rmSync(directory, { recursive: true });
      renameSync(`${directory}${KEPT}`, directory);
    }
  }

  #ballastOf(name: string): string {
    const directory = this.#directories.get(name);
    if (directory === undefined) throw new Error(`${name} has no small disk`);
    return join(directory, BALLAST);
  }
}
