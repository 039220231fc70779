/** The real `Env`: Node's clock, timers, file system and random bytes. */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { performance } from 'node:perf_hooks';
import type { Disk, Env, File, Random, Timer } from './env.ts';

/**
 * fsyncs under way at once. libuv has three or four threads and an fsync holds one for milliseconds: with a log per
 * shard, unbounded syncs would leave no thread for the writes that acknowledgements wait for.
 */
const SYNC_CONCURRENCY = 2;

/** Runs at most `limit` tasks at a time, in order of arrival. */
class Gate {
  private running = 0;
  private readonly waiting: (() => void)[] = [];

  constructor(private readonly limit: number) {}

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.running >= this.limit) await new Promise<void>((resolve) => this.waiting.push(resolve));
    else this.running++;
    try {
      return await task();
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.running--;
    }
  }
}

const syncGate = new Gate(SYNC_CONCURRENCY);

function fdatasync(fd: number): Promise<void> {
  return syncGate.run(
    () => new Promise((resolve, reject) => fs.fdatasync(fd, (error) => (error ? reject(error) : resolve()))),
  );
}

/** Writes all of `bytes` at `offset`; a short write goes on where it stopped (a full disk then answers ENOSPC). */
function writeFully(
  fd: number,
  bytes: Uint8Array,
  start: number,
  offset: number,
  done: (error: Error | null) => void,
): void {
  fs.write(fd, bytes, start, bytes.length - start, offset, (error, count) => {
    if (error || start + count === bytes.length) done(error);
    else writeFully(fd, bytes, start + count, offset + count, done);
  });
}

function writevFully(
  fd: number,
  parts: readonly Uint8Array[],
  offset: number,
  done: (error: Error | null) => void,
): void {
  fs.writev(fd, parts, offset, (error, count) => {
    if (error) return done(error);
    let first = 0;
    let rest = count;
    while (first < parts.length && rest >= parts[first]!.length) rest -= parts[first++]!.length;
    if (first === parts.length) return done(null);
    writevFully(fd, [parts[first]!.subarray(rest), ...parts.slice(first + 1)], offset + count, done);
  });
}

class NodeFile implements File {
  constructor(private readonly fd: number) {}

  write(parts: readonly Uint8Array[], offset: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (error: Error | null) => (error ? reject(error) : resolve());
      if (parts.length === 0) done(null);
      else if (parts.length === 1) writeFully(this.fd, parts[0]!, 0, offset, done);
      else writevFully(this.fd, parts, offset, done);
    });
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = Buffer.allocUnsafeSlow(length);
    let filled = 0;
    while (filled < length) {
      const count = await new Promise<number>((resolve, reject) =>
        fs.read(this.fd, bytes, filled, length - filled, offset + filled, (error, n) =>
          error ? reject(error) : resolve(n),
        ),
      );
      if (count === 0) break;
      filled += count;
    }
    return bytes.subarray(0, filled);
  }

  size(): Promise<number> {
    return new Promise((resolve, reject) =>
      fs.fstat(this.fd, (error, stats) => (error ? reject(error) : resolve(stats.size))),
    );
  }

  truncate(length: number): Promise<void> {
    return new Promise((resolve, reject) =>
      fs.ftruncate(this.fd, length, (error) => (error ? reject(error) : resolve())),
    );
  }

  sync(): Promise<void> {
    return fdatasync(this.fd);
  }

  close(): Promise<void> {
    return new Promise((resolve, reject) => fs.close(this.fd, (error) => (error ? reject(error) : resolve())));
  }
}

const FLAGS = {
  read: fs.constants.O_RDONLY,
  // Not O_APPEND: Linux would then ignore the offset of every write.
  append: fs.constants.O_RDWR | fs.constants.O_CREAT,
  create: fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL,
} as const;

function open(file: string, flags: number): Promise<number> {
  return new Promise((resolve, reject) =>
    fs.open(file, flags, 0o644, (error, fd) => (error ? reject(error) : resolve(fd))),
  );
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}

class NodeDisk implements Disk {
  async open(file: string, mode: 'read' | 'append' | 'create'): Promise<File> {
    return new NodeFile(await open(file, FLAGS[mode]));
  }

  readFile(file: string): Promise<Uint8Array> {
    return fs.promises.readFile(file);
  }

  async list(directory: string): Promise<string[]> {
    try {
      return (await fs.promises.readdir(directory)).sort();
    } catch (error) {
      if (isMissing(error)) return [];
      throw error;
    }
  }

  async makeDirectory(directory: string): Promise<void> {
    const first = await fs.promises.mkdir(directory, { recursive: true });
    if (first === undefined) return;
    const top = path.dirname(first);
    for (let parent = path.dirname(path.resolve(directory)); ; parent = path.dirname(parent)) {
      await this.syncDirectory(parent);
      if (parent === top || parent === path.dirname(parent)) return;
    }
  }

  rename(from: string, to: string): Promise<void> {
    return fs.promises.rename(from, to);
  }

  remove(file: string): Promise<void> {
    return fs.promises.unlink(file);
  }

  removeTree(directory: string): Promise<void> {
    return fs.promises.rm(directory, { recursive: true, force: true });
  }

  async exists(file: string): Promise<boolean> {
    try {
      await fs.promises.access(file);
      return true;
    } catch (error) {
      if (isMissing(error)) return false;
      throw error;
    }
  }

  async syncDirectory(directory: string): Promise<void> {
    const fd = await open(directory, fs.constants.O_RDONLY);
    try {
      await syncGate.run(
        () => new Promise<void>((resolve, reject) => fs.fsync(fd, (error) => (error ? reject(error) : resolve()))),
      );
    } finally {
      fs.closeSync(fd);
    }
  }
}

const random: Random = {
  next: () => Math.random(),
  bytes: (count) => randomBytes(count),
};

/** The process's own clock, timers, disk and randomness. */
export const nodeEnv: Env = {
  clock: { nowMs: () => Date.now(), monotonicMs: () => performance.now() },
  timers: {
    after(delayMs: number, task: () => void): Timer {
      const timer = setTimeout(task, delayMs).unref();
      return { cancel: () => clearTimeout(timer) };
    },
    every(periodMs: number, task: () => void): Timer {
      const timer = setInterval(task, periodMs).unref();
      return { cancel: () => clearInterval(timer) };
    },
    yield: () => new Promise((resolve) => setImmediate(resolve)),
  },
  disk: new NodeDisk(),
  random,
};
