/**
 * The one door to the outside world: clock, timers, disk, randomness. Core, node and every pure
 * part receive an `Env`; `core/env/node.ts` is the real one, `test/sim` holds the simulated one.
 * A lint rule forbids `Date.now`, timers, `Math.random`, `node:fs` and `node:net` elsewhere.
 */

export interface Clock {
  /** Wall clock, milliseconds since 1970. May jump. For sample ages and names only. */
  nowMs(): number;
  /** Monotonic milliseconds with fractions. For durations, leases and deadlines. */
  monotonicMs(): number;
}

export interface Timer {
  cancel(): void;
}

export interface Timers {
  /** Runs `task` once after at least `delayMs`. A timer never keeps the process alive. */
  after(delayMs: number, task: () => void): Timer;
  /** Runs `task` every `periodMs` until cancelled. */
  every(periodMs: number, task: () => void): Timer;
  /** Gives other work its turn; bounded work yields here between slices. */
  yield(): Promise<void>;
}

/** An open file. Offsets and lengths are bytes. Every method rejects with the system's error (`code` ENOSPC, EIO, ...). */
export interface File {
  /** Writes all of `parts`, in order, at `offset`. Resolves once the system has taken every byte; nothing is durable before `sync`. */
  write(parts: readonly Uint8Array[], offset: number): Promise<void>;
  /** Reads up to `length` bytes at `offset`; shorter only at the end of the file. */
  read(offset: number, length: number): Promise<Uint8Array>;
  size(): Promise<number>;
  truncate(length: number): Promise<void>;
  /** fdatasync. Resolves once everything written before the call survives a power cut. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface Disk {
  /** `append`: created if missing, read and write. `create`: must not exist. `read`: must exist. */
  open(path: string, mode: 'read' | 'append' | 'create'): Promise<File>;
  readFile(path: string): Promise<Uint8Array>;
  /** Names in a directory, sorted; an absent directory is empty. */
  list(path: string): Promise<string[]>;
  /** With its missing parents; durable when it resolves. Present already is fine. */
  makeDirectory(path: string): Promise<void>;
  /** Atomic replacement within one file system. Durable after `syncDirectory`. */
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** A directory with everything in it; absent already is fine. Durable some time later. */
  removeTree(path: string): Promise<void>;
  exists(path: string): Promise<boolean>;
  /** fsync of the directory: makes creations, renames and removals in it durable. */
  syncDirectory(path: string): Promise<void>;
}

export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
  /** `count` unpredictable bytes (incarnations, ids). */
  bytes(count: number): Uint8Array;
}

export interface Env {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly disk: Disk;
  readonly random: Random;
}
