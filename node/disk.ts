/**
 * A disk that is watched: how long its writes and fsyncs take, and how long the oldest under way has taken so far, which is what
 * a disk that hangs is known by. Waiting for one another is part of it.
 */
import type { Clock, Disk, File } from '../core/env/env.ts';

/** Told how long each took, whether it succeeded or not. */
export interface DiskObserver {
  wrote(durationMs: number): void;
  synced(durationMs: number): void;
}

export class WatchedDisk implements Disk {
  readonly #disk: Disk;
  readonly #clock: Clock;
  /** When each write or fsync under way began, oldest first. */
  readonly #begun = new Map<object, number>();
  observer: DiskObserver | undefined;

  constructor(disk: Disk, clock: Clock) {
    this.#disk = disk;
    this.#clock = clock;
  }

  /** 0: nothing is under way. */
  get oldestMs(): number {
    for (const begunMs of this.#begun.values()) return this.#clock.monotonicMs() - begunMs;
    return 0;
  }

  async open(path: string, mode: 'read' | 'append' | 'create'): Promise<File> {
    const file = await this.#disk.open(path, mode);
    return {
      write: (parts, offset) => this.#timed(file.write(parts, offset), (ms) => this.observer?.wrote(ms)),
      sync: () => this.#timed(file.sync(), (ms) => this.observer?.synced(ms)),
      read: (offset, length) => file.read(offset, length),
      size: () => file.size(),
      truncate: (length) => file.truncate(length),
      close: () => file.close(),
    };
  }

  readFile(path: string): Promise<Uint8Array> {
    return this.#disk.readFile(path);
  }

  list(path: string): Promise<string[]> {
    return this.#disk.list(path);
  }

  makeDirectory(path: string): Promise<void> {
    return this.#disk.makeDirectory(path);
  }

  rename(from: string, to: string): Promise<void> {
    return this.#disk.rename(from, to);
  }

  remove(path: string): Promise<void> {
    return this.#disk.remove(path);
  }

  removeTree(path: string): Promise<void> {
    return this.#disk.removeTree(path);
  }

  exists(path: string): Promise<boolean> {
    return this.#disk.exists(path);
  }

  syncDirectory(path: string): Promise<void> {
    return this.#timed(this.#disk.syncDirectory(path), (ms) => this.observer?.synced(ms));
  }

  async #timed(operation: Promise<void>, observe: (durationMs: number) => void): Promise<void> {
    const key = {};
    const begunMs = this.#clock.monotonicMs();
    this.#begun.set(key, begunMs);
    try {
      await operation;
    } finally {
      this.#begun.delete(key);
      observe(this.#clock.monotonicMs() - begunMs);
    }
  }
}
