/**
 * A simulated disk that knows what would survive a power cut.
 *
 * A file is its current bytes and a list of the writes and truncations that no `sync` has covered, each with what it
 * replaced: undoing them gives the durable bytes. Names work alike: `entries` is what a process sees, `durable` what the
 * directory would hold after a power cut, `changes` what lies between. Directories need not be made; a path is a name.
 *
 * A power cut keeps, per file, one of: nothing that was not synced, all of it, a prefix torn at any byte, or any subset of
 * its 4 KiB pages (with zeros between). Of the names, a prefix of the changes or any subset of them.
 */
import type { Disk, File } from '../../core/env/env.ts';
import type { Seeded } from './random.ts';

const PAGE_BYTES = 4096;

interface Change {
  readonly serial: number;
  readonly offset: number;
  /** The bytes written; undefined: truncated (or extended) to `offset`. */
  readonly data: Uint8Array | undefined;
  /** What lay from `offset` on, as far as it was replaced or cut off. */
  readonly before: Uint8Array;
  readonly sizeBefore: number;
}

class Inode {
  bytes = new Uint8Array(256);
  size = 0;
  unsynced: Change[] = [];

  resize(size: number): void {
    if (size > this.bytes.length) {
      const grown = new Uint8Array(Math.max(size, this.bytes.length * 2));
      grown.set(this.bytes.subarray(0, this.size));
      this.bytes = grown;
    }
    if (size < this.size) this.bytes.fill(0, size, this.size);
    this.size = size;
  }

  put(data: Uint8Array, offset: number): void {
    if (offset + data.length > this.size) this.resize(offset + data.length);
    this.bytes.set(data, offset);
  }

  write(data: Uint8Array, offset: number, serial: number): void {
    const before = this.bytes.slice(Math.min(offset, this.size), Math.min(offset + data.length, this.size));
    this.unsynced.push({ serial, offset, data, before, sizeBefore: this.size });
    this.put(data, offset);
  }

  truncate(length: number, serial: number): void {
    const before = this.bytes.slice(Math.min(length, this.size), this.size);
    this.unsynced.push({ serial, offset: length, data: undefined, before, sizeBefore: this.size });
    this.resize(length);
  }

  /** Back to what is durable. */
  revert(): void {
    for (let i = this.unsynced.length - 1; i >= 0; i--) {
      const change = this.unsynced[i]!;
      this.resize(change.sizeBefore);
      this.bytes.set(change.before, Math.min(change.offset, change.sizeBefore));
    }
  }
}

interface NameChange {
  readonly serial: number;
  readonly kind: 'create' | 'rename' | 'remove';
  readonly path: string;
  readonly from?: string;
  readonly inode: Inode;
}

interface WriteInFlight {
  readonly inode: Inode;
  readonly parts: readonly Uint8Array[];
  readonly offset: number;
}

/** What may be made to fail: return an errno such as 'EIO' to fail the operation on `path`. */
export type Fault = (
  operation: 'open' | 'write' | 'read' | 'sync' | 'rename' | 'remove',
  path: string,
) => string | undefined;

function diskError(code: string, operation: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${operation} '${path}'`), { code });
}

function directoryOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const joined = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

export class SimDisk {
  /** Bytes the disk holds; a write past it takes what fits, then fails with ENOSPC. */
  capacityBytes = Number.POSITIVE_INFINITY;
  fault: Fault | undefined;
  /** Counts, for tests of cost. */
  readonly counts = { write: 0, read: 0, sync: 0, syncDirectory: 0 };
  private entries = new Map<string, Inode>();
  private durable = new Map<string, Inode>();
  private changes: NameChange[] = [];
  private readonly inFlight = new Set<WriteInFlight>();
  private serial = 0;
  /** Processes that have ended. */
  private ended = 0;

  constructor(private readonly random: Seeded) {}

  /** The paths of all files, sorted. */
  paths(): string[] {
    return [...this.entries.keys()].sort();
  }

  /** A file's current bytes. */
  bytes(path: string): Uint8Array {
    const inode = this.inode(path, 'read');
    return inode.bytes.slice(0, inode.size);
  }

  /** Turns bits over, durably: a disk that lies. */
  flip(path: string, offset: number, mask = 1): void {
    const inode = this.inode(path, 'flip');
    if (offset >= inode.size) throw new Error(`flip at ${offset} of ${path}, which has ${inode.size} bytes`);
    inode.bytes[offset]! ^= mask;
  }

  /** Replaces a file's bytes, durably. */
  replace(path: string, bytes: Uint8Array): void {
    const inode = new Inode();
    inode.put(bytes, 0);
    this.entries.set(path, inode);
    this.durable.set(path, inode);
  }

  usedBytes(): number {
    let used = 0;
    for (const inode of this.entries.values()) used += inode.size;
    return used;
  }

  /** kill -9: what the system took stays; of what was in flight, nothing, all, or a part. */
  killProcess(): void {
    this.ended++;
    for (const write of this.inFlight) {
      const data = join(write.parts);
      const kept = this.random.pick([0, data.length, this.random.int(0, data.length + 1)]);
      if (kept > 0) write.inode.write(data.slice(0, kept), write.offset, ++this.serial);
    }
    this.inFlight.clear();
  }

  /** A power cut: what was not synced is lost, kept or torn, at random. Everything left is durable afterwards. */
  cutPower(): void {
    this.ended++;
    for (const write of this.inFlight) write.inode.write(join(write.parts), write.offset, ++this.serial);
    this.inFlight.clear();
    const inodes = new Set([...this.entries.values(), ...this.durable.values()]);
    for (const inode of inodes) {
      const lost = inode.unsynced;
      if (lost.length === 0) continue;
      inode.revert();
      inode.unsynced = [];
      this.survive(inode, lost);
    }
    const names = new Map(this.durable);
    const prefix = this.random.chance(0.5) ? this.random.int(0, this.changes.length + 1) : -1;
    this.changes.forEach((change, index) => {
      if (prefix >= 0 ? index >= prefix : this.random.chance(0.5)) return;
      apply(names, change);
    });
    this.entries = names;
    this.durable = new Map(names);
    this.changes = [];
  }

  private survive(inode: Inode, changes: readonly Change[]): void {
    const mode = this.random.int(0, 4);
    if (mode === 0) return;
    const whole = mode === 1 ? changes.length : this.random.int(0, changes.length);
    changes.forEach((change, index) => {
      const { data, offset } = change;
      if (data === undefined) {
        if (mode === 3 ? this.random.chance(0.5) : index < whole) inode.resize(offset);
      } else if (mode === 3) {
        for (let at = 0; at < data.length; ) {
          const end = Math.min(data.length, at + PAGE_BYTES - ((offset + at) % PAGE_BYTES));
          if (this.random.chance(0.5)) inode.put(data.subarray(at, end), offset + at);
          at = end;
        }
      } else if (index < whole) {
        inode.put(data, offset);
      } else if (index === whole) {
        inode.put(data.subarray(0, this.random.int(0, data.length + 1)), offset);
      }
    });
  }

  /** A process's view. `later` runs an operation some time after it was asked for, or never if the process is gone. */
  view(later: <T>(operation: () => T) => Promise<T>): Disk {
    const { ended } = this;
    // Code of a process that is gone may still be called by what outlives it: its writes are not on their way.
    const begin = (write: WriteInFlight) => {
      if (this.ended === ended) this.inFlight.add(write);
    };
    return {
      open: (path, mode) =>
        later(() => {
          this.check('open', path);
          let inode = this.entries.get(path);
          if (inode === undefined) {
            if (mode === 'read') throw diskError('ENOENT', 'open', path);
            inode = new Inode();
            this.entries.set(path, inode);
            this.changes.push({ serial: ++this.serial, kind: 'create', path, inode });
          } else if (mode === 'create') throw diskError('EEXIST', 'open', path);
          return this.file(path, inode, later, begin);
        }),
      readFile: (path) =>
        later(() => {
          this.check('read', path);
          return this.bytes(path);
        }),
      list: (directory) =>
        later(() => {
          const names: string[] = [];
          for (const path of this.entries.keys()) {
            if (directoryOf(path) === directory) names.push(path.slice(directory.length + 1));
          }
          return names.sort();
        }),
      makeDirectory: () => later(() => undefined),
      rename: (from, path) =>
        later(() => {
          this.check('rename', from);
          const below = this.below(from);
          // There are no directories here, only names.
          for (const [name, inode] of below.length > 0 ? below : [[from, this.inode(from, 'rename')] as const]) {
            const to = path + name.slice(from.length);
            const change: NameChange = { serial: ++this.serial, kind: 'rename', path: to, from: name, inode };
            apply(this.entries, change);
            this.changes.push(change);
          }
        }),
      remove: (path) =>
        later(() => {
          this.check('remove', path);
          const change: NameChange = { serial: ++this.serial, kind: 'remove', path, inode: this.inode(path, 'remove') };
          apply(this.entries, change);
          this.changes.push(change);
        }),
      removeTree: (path) =>
        later(() => {
          for (const [name, inode] of this.below(path)) {
            this.check('remove', name);
            const change: NameChange = { serial: ++this.serial, kind: 'remove', path: name, inode };
            apply(this.entries, change);
            this.changes.push(change);
          }
        }),
      exists: (path) => later(() => this.entries.has(path)),
      syncDirectory: (directory) => {
        const mark = this.serial;
        this.counts.syncDirectory++;
        return later(() => {
          this.check('sync', directory);
          this.changes = this.changes.filter((change) => {
            if (change.serial > mark || directoryOf(change.path) !== directory) return true;
            apply(this.durable, change);
            return false;
          });
        });
      },
    };
  }

  private file(
    path: string,
    inode: Inode,
    later: <T>(operation: () => T) => Promise<T>,
    begin: (write: WriteInFlight) => void,
  ): File {
    let open = true;
    const check = (operation: 'write' | 'read' | 'sync') => {
      if (!open) throw diskError('EBADF', operation, path);
      this.check(operation, path);
    };
    return {
      write: (parts, offset) => {
        this.counts.write++;
        const write = { inode, parts, offset };
        begin(write);
        // The bytes are taken when the operation ends: whoever reuses a buffer too early is found out.
        return later(() => {
          this.inFlight.delete(write);
          check('write');
          const data = join(parts);
          const room = Math.max(0, this.capacityBytes - this.usedBytes());
          const grows = Math.max(0, offset + data.length - inode.size);
          const taken = grows <= room ? data.length : data.length - (grows - room);
          if (taken > 0) inode.write(data.subarray(0, taken), offset, ++this.serial);
          if (taken < data.length) throw diskError('ENOSPC', 'write', path);
        });
      },
      read: (offset, length) => {
        this.counts.read++;
        return later(() => {
          check('read');
          return inode.bytes.slice(Math.min(offset, inode.size), Math.min(offset + length, inode.size));
        });
      },
      size: () => later(() => inode.size),
      truncate: (length) =>
        later(() => {
          check('write');
          inode.truncate(length, ++this.serial);
        }),
      sync: () => {
        const mark = this.serial;
        this.counts.sync++;
        return later(() => {
          check('sync');
          inode.unsynced = inode.unsynced.filter((change) => change.serial > mark);
        });
      },
      close: () =>
        later(() => {
          open = false;
        }),
    };
  }

  private below(directory: string): [string, Inode][] {
    return [...this.entries].filter(([path]) => path.startsWith(`${directory}/`));
  }

  private inode(path: string, operation: string): Inode {
    const inode = this.entries.get(path);
    if (inode === undefined) throw diskError('ENOENT', operation, path);
    return inode;
  }

  private check(operation: Parameters<Fault>[0], path: string): void {
    const code = this.fault?.(operation, path);
    if (code !== undefined) throw diskError(code, operation, path);
  }
}

function apply(names: Map<string, Inode>, change: NameChange): void {
  if (change.kind === 'create') names.set(change.path, change.inode);
  else if (change.kind === 'rename') {
    if (names.get(change.from!) === change.inode) names.delete(change.from!);
    names.set(change.path, change.inode);
  } else if (names.get(change.path) === change.inode) names.delete(change.path);
}
