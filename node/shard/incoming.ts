import type { Disk, File } from '../../core/env/env.ts';

/** A file that a block of another copy is put into. */
export class Incoming {
  readonly windowStartMs: number;
  readonly path: string;
  readonly #disk: Disk;
  #file: File | undefined;
  #used = 0;

  /** Made by `BlockStore.receive`. */
  constructor(disk: Disk, windowStartMs: number, path: string, file: File) {
    this.#disk = disk;
    this.windowStartMs = windowStartMs;
    this.path = path;
    this.#file = file;
  }

  async write(part: Uint8Array): Promise<void> {
    await this.#file?.write([part], this.#used);
    this.#used += part.length;
  }

  /** For `BlockStore` only: nothing more comes. */
  async finish(): Promise<void> {
    await this.#file?.sync();
    await this.#close();
  }

  /** Removes the file, if it still has this name. */
  async discard(): Promise<void> {
    await this.#close();
    if (await this.#disk.exists(this.path)) await this.#disk.remove(this.path);
  }

  async #close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }
}
