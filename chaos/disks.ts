/** Small disks for nodes, in memory, that can be filled. Mounting takes root. */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const DISK_BYTES = 256 << 20;
const BALLAST = 'ballast';

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

  close(): void {
    for (const directory of this.#mounted.splice(0)) spawnSync('umount', ['-l', directory]);
  }

  #ballastOf(name: string): string {
    const directory = this.#directories.get(name);
    if (directory === undefined) throw new Error(`${name} has no small disk`);
    return join(directory, BALLAST);
  }
}
