/**
 * Checkpoints of one shard: its state as a sequence of opaque pages, and the log position from which to replay on top.
 *
 * Invariants
 * - Two checkpoints are kept, and log records may go only before the position of the OLDER one. So the newest may turn out to
 *   be damaged at any time and nothing is lost: the older one and the log still hold everything. While there is only
 *   one, no log record may go.
 * - A file under its final name was complete, synced and verified from the disk before it got that name; what came before it
 *   is removed only after the rename is durable.
 * - Replaying the log onto a checkpoint whose pages hold some of those samples already is harmless: samples are a set. So the
 *   position is that of the START of the checkpoint, and pages may be taken while writes go on.
 *
 * What a crash leaves behind: a `.tmp` file, removed by the next load or write; or a new checkpoint beside two older ones, of
 * which the next commit removes the surplus. A damaged file is renamed to `.quarantine` and reported.
 *
 *     name     serial number in 16 hexadecimal digits, ".ckpt"; a later one has a greater number
 *     header   64 bytes
 *       0  8   magic "SILVCKP" and the version
 *       8  4   shard
 *      12  4   zero
 *      16  8   log incarnation
 *      24  8   log sequence
 *      32 28   zero
 *      60  4   CRC32 of the 60 bytes before
 *     pages, back to back
 *       0  4   bytes of the page as stored
 *       4  4   bytes of the page unpacked; packed by core/lz4.ts if greater than the bytes stored
 *       8  1   kind
 *       9  3   zero
 *      12  4   CRC32 of the 12 bytes before and the page as stored
 *      16      the page
 *     footer   24 bytes: a page header with length 0xffffffff
 *       0  4   0xffffffff
 *       4  4   zero
 *       8  8   count of pages
 *      16  4   zero
 *      20  4   CRC32 of the 20 bytes before, begun with the CRC32s of all pages, 4 bytes each
 */
import { crc32 } from 'node:zlib';
import type { Env, File } from '../../core/env/env.ts';
import { messageOf, SilverbackError } from '../../core/errors.ts';
import { pack, unpack } from '../../core/lz4.ts';
import { checkHeaderVersion, newest } from '../../core/versions.ts';
import { type Incarnation, isFull, type Position } from './segment.ts';

/** One opaque page. `kind` is the shard's own, 0 to 255. */
export interface Page {
  readonly kind: number;
  readonly bytes: Uint8Array;
}

/** A checkpoint that could not be used. */
export interface CheckpointProblem {
  readonly file: string;
  readonly reason: string;
  /** Where it is kept. */
  readonly quarantine: string;
}

export interface CheckpointInfo {
  readonly file: string;
  readonly position: Position;
  readonly pageCount: number;
  readonly byteCount: number;
}

/** A verified checkpoint. */
export interface Checkpoint extends CheckpointInfo {
  /** The pages in the order they were written. A page's bytes stay valid until the next one is asked for. */
  pages(): AsyncGenerator<Page>;
}

export interface Committed extends CheckpointInfo {
  /** Log records before this sequence are needed by no kept checkpoint; undefined while there is only one. */
  readonly release: number | undefined;
}

const MAGIC = Buffer.from('SILVCKP');
const HEADER_BYTES = 64;
const PAGE_HEADER_BYTES = 16;
const FOOTER_BYTES = 24;
const FOOTER_MARK = 0xffff_ffff;
const MAX_PAGE_BYTES = 1024 * 1024 * 1024;
const U32 = 0x1_0000_0000;
/** Pages are gathered into writes of this size. */
const WRITE_BYTES = 256 * 1024;
const READ_BYTES = 1024 * 1024;
const KEPT_COUNT = 2;

function putU64(target: Buffer, value: number, offset: number): void {
  target.writeUInt32LE(value % U32, offset);
  target.writeUInt32LE(Math.floor(value / U32), offset + 4);
}

function getU64(source: Buffer, offset: number): number {
  return source.readUInt32LE(offset) + source.readUInt32LE(offset + 4) * U32;
}

function serialOf(name: string): number | undefined {
  return /^00[0-9a-f]{14}\.ckpt$/.test(name) ? Number.parseInt(name.slice(0, 16), 16) : undefined;
}

function encodeHeader(shard: number, position: Position): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(bytes);
  bytes[7] = newest('checkpoint');
  bytes.writeUInt32LE(shard, 8);
  putU64(bytes, position.incarnation, 16);
  putU64(bytes, position.sequence, 24);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, HEADER_BYTES - 4)), HEADER_BYTES - 4);
  return bytes;
}

function encodeFooter(pageCount: number, chain: number): Buffer {
  const bytes = Buffer.alloc(FOOTER_BYTES);
  bytes.writeUInt32LE(FOOTER_MARK, 0);
  putU64(bytes, pageCount, 8);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, FOOTER_BYTES - 4), chain), FOOTER_BYTES - 4);
  return bytes;
}

/** Continues the CRC over the pages' CRCs. */
function link(chain: number, crc: number): number {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32LE(crc, 0);
  return crc32(bytes, chain);
}

/** Reads a checkpoint file in order through a window. */
class PageReader {
  offset = HEADER_BYTES;
  private window: Buffer = Buffer.alloc(0);
  private windowStart = 0;
  private chain = 0;
  private pageCount = 0;

  constructor(
    private readonly file: File,
    private readonly path: string,
  ) {}

  async header(shard: number): Promise<Position> {
    const bytes = await this.take(0, HEADER_BYTES);
    const isCheckpoint = bytes.subarray(0, 7).equals(MAGIC);
    if (isCheckpoint) checkHeaderVersion('checkpoint', bytes, 60, this.path);
    const sound = isCheckpoint && crc32(bytes.subarray(0, 60)) === bytes.readUInt32LE(60);
    if (!sound) throw this.corrupt('header', 0);
    if (bytes.readUInt32LE(8) !== shard) {
      throw new SilverbackError(
        'INVALID_ARGUMENT',
        `${this.path} belongs to shard ${bytes.readUInt32LE(8)}, not to ${shard}`,
      );
    }
    return { incarnation: getU64(bytes, 16) as Incarnation, sequence: getU64(bytes, 24) };
  }

  /** The next page as it is stored, verified; undefined after a sound footer. */
  async next(): Promise<{ kind: number; rawBytes: number; stored: Buffer } | undefined> {
    const start = this.offset;
    const head = await this.take(start, PAGE_HEADER_BYTES);
    const storedBytes = head.readUInt32LE(0);
    if (storedBytes === FOOTER_MARK) {
      await this.footer(start);
      return undefined;
    }
    const rawBytes = head.readUInt32LE(4);
    const kind = head[8]!;
    const crc = head.readUInt32LE(12);
    const headCrc = crc32(head.subarray(0, 12));
    if (storedBytes > MAX_PAGE_BYTES || rawBytes > MAX_PAGE_BYTES) throw this.corrupt('page header', start);
    const stored = await this.take(start + PAGE_HEADER_BYTES, storedBytes);
    if (crc32(stored, headCrc) !== crc) throw this.corrupt(`page ${this.pageCount}`, start);
    this.chain = link(this.chain, crc);
    this.pageCount++;
    this.offset = start + PAGE_HEADER_BYTES + storedBytes;
    return { kind, rawBytes, stored };
  }

  /** Pages seen so far. */
  get count(): number {
    return this.pageCount;
  }

  private async footer(start: number): Promise<void> {
    const footer = await this.take(start, FOOTER_BYTES);
    if (!footer.equals(encodeFooter(this.pageCount, this.chain))) throw this.corrupt('footer', start);
    this.offset = start + FOOTER_BYTES;
    if ((await this.file.size()) !== this.offset) throw this.corrupt('end', this.offset);
  }

  private async take(offset: number, length: number): Promise<Buffer> {
    if (offset < this.windowStart || offset + length > this.windowStart + this.window.length) {
      // A page's length may be damaged: never take memory for more than there is.
      const want = Math.max(length, READ_BYTES);
      const read = await this.file.read(
        offset,
        want <= READ_BYTES ? want : Math.min(want, (await this.file.size()) - offset),
      );
      this.window = Buffer.from(read.buffer, read.byteOffset, read.byteLength);
      this.windowStart = offset;
      if (this.window.length < length) throw this.corrupt('end', offset + this.window.length);
    }
    const at = offset - this.windowStart;
    return this.window.subarray(at, at + length);
  }

  private corrupt(what: string, offset: number): SilverbackError {
    return new SilverbackError('CORRUPT', `${this.path}: ${what} at offset ${offset} is damaged or incomplete`);
  }
}

/** Reads a checkpoint from end to end. @throws CORRUPT, VERSION, INVALID_ARGUMENT. */
export async function verifyCheckpoint(env: Env, path: string, shard: number): Promise<CheckpointInfo> {
  const file = await env.disk.open(path, 'read');
  try {
    const reader = new PageReader(file, path);
    const position = await reader.header(shard);
    while ((await reader.next()) !== undefined);
    return { file: path, position, pageCount: reader.count, byteCount: reader.offset };
  } finally {
    await file.close();
  }
}

async function* readPages(env: Env, path: string): AsyncGenerator<Page> {
  const file = await env.disk.open(path, 'read');
  try {
    const reader = new PageReader(file, path);
    for (;;) {
      const page = await reader.next();
      if (page === undefined) return;
      const bytes = page.rawBytes > page.stored.length ? unpack(page.stored, page.rawBytes) : page.stored;
      yield { kind: page.kind, bytes };
    }
  } finally {
    await file.close();
  }
}

/** The serial numbers of the checkpoints in a directory, oldest first. */
async function serials(env: Env, directory: string): Promise<number[]> {
  const found: number[] = [];
  for (const name of await env.disk.list(directory)) {
    const serial = serialOf(name);
    if (serial !== undefined) found.push(serial);
  }
  return found;
}

function pathOf(directory: string, serial: number): string {
  return `${directory}/${serial.toString(16).padStart(16, '0')}.ckpt`;
}

/** One checkpoint being written. It ends with `commit` or `abort`; after an error only `abort` is left. */
export class CheckpointWriter {
  private readonly pending: Uint8Array[] = [];
  private pendingBytes = 0;
  private offset = 0;
  private pageCount = 0;
  private chain = 0;

  constructor(
    private readonly env: Env,
    private readonly directory: string,
    private readonly options: { readonly shard: number; readonly position: Position },
    private readonly serial: number,
    private readonly file: File,
  ) {
    this.put(encodeHeader(options.shard, options.position));
  }

  /** Adds a page. Copies: `bytes` may be a view that goes stale as soon as this returns. Await it before the next. @throws DISK_FAILED, RESOURCE_EXHAUSTED. */
  async page(kind: number, bytes: Uint8Array): Promise<void> {
    const stored = pack(bytes) ?? bytes.slice();
    const head = Buffer.alloc(PAGE_HEADER_BYTES);
    head.writeUInt32LE(stored.length, 0);
    head.writeUInt32LE(bytes.length, 4);
    head[8] = kind;
    const crc = crc32(stored, crc32(head.subarray(0, 12)));
    head.writeUInt32LE(crc, 12);
    this.chain = link(this.chain, crc);
    this.pageCount++;
    this.put(head);
    this.put(stored);
    if (this.pendingBytes >= WRITE_BYTES) await this.guard(() => this.write());
  }

  /**
   * Makes the checkpoint durable, verifies it from the disk, gives it its name, and removes those beyond the newest two.
   * @throws DISK_FAILED; RESOURCE_EXHAUSTED on a full disk; CORRUPT if the disk gave back something else.
   */
  async commit(): Promise<Committed> {
    return this.guard(async () => {
      this.put(encodeFooter(this.pageCount, this.chain));
      await this.write();
      await this.file.sync();
      await this.file.close();
      const { disk } = this.env;
      await verifyCheckpoint(this.env, this.temporary, this.options.shard);
      const path = pathOf(this.directory, this.serial);
      await disk.rename(this.temporary, path);
      await disk.syncDirectory(this.directory);
      const kept = await serials(this.env, this.directory);
      while (kept.length > KEPT_COUNT) await disk.remove(pathOf(this.directory, kept.shift()!));
      const older = kept.length === KEPT_COUNT ? await this.positionOf(pathOf(this.directory, kept[0]!)) : undefined;
      const { position } = this.options;
      return { file: path, position, pageCount: this.pageCount, byteCount: this.offset, release: older?.sequence };
    });
  }

  /** Gives up; what was written is removed, now or by the next load. */
  async abort(): Promise<void> {
    await this.file.close().catch(() => undefined);
    await this.env.disk.remove(this.temporary).catch(() => undefined);
  }

  private get temporary(): string {
    return `${pathOf(this.directory, this.serial)}.tmp`;
  }

  /** The position in a kept checkpoint's header; undefined if even that is damaged, and so releases nothing. */
  private async positionOf(path: string): Promise<Position | undefined> {
    const file = await this.env.disk.open(path, 'read');
    try {
      return await new PageReader(file, path).header(this.options.shard);
    } catch (error) {
      if (error instanceof SilverbackError) return undefined;
      throw error;
    } finally {
      await file.close();
    }
  }

  private put(bytes: Uint8Array): void {
    this.pending.push(bytes);
    this.pendingBytes += bytes.length;
  }

  private async write(): Promise<void> {
    await this.file.write(this.pending, this.offset);
    this.offset += this.pendingBytes;
    this.pending.length = 0;
    this.pendingBytes = 0;
  }

  private async guard<T>(task: () => Promise<T>): Promise<T> {
    try {
      return await task();
    } catch (cause) {
      if (cause instanceof SilverbackError) throw cause;
      const message = `shard ${this.options.shard}: writing ${this.temporary} failed: ${messageOf(cause)}`;
      throw new SilverbackError(isFull(cause) ? 'RESOURCE_EXHAUSTED' : 'DISK_FAILED', message, { cause });
    }
  }
}

/** Starts a checkpoint; `position` is `log.tail()` at the moment from which on its pages are taken. One at a time. */
export async function writeCheckpoint(
  env: Env,
  directory: string,
  options: { readonly shard: number; readonly position: Position },
): Promise<CheckpointWriter> {
  try {
    await env.disk.makeDirectory(directory);
    await removeUnfinished(env, directory);
    const serial = ((await serials(env, directory)).at(-1) ?? 0) + 1;
    const file = await env.disk.open(`${pathOf(directory, serial)}.tmp`, 'create');
    return new CheckpointWriter(env, directory, options, serial, file);
  } catch (cause) {
    const message = `shard ${options.shard}: starting a checkpoint in ${directory} failed: ${messageOf(cause)}`;
    throw new SilverbackError(isFull(cause) ? 'RESOURCE_EXHAUSTED' : 'DISK_FAILED', message, { cause });
  }
}

async function removeUnfinished(env: Env, directory: string): Promise<void> {
  for (const name of await env.disk.list(directory)) {
    if (name.endsWith('.ckpt.tmp')) await env.disk.remove(`${directory}/${name}`);
  }
}

/**
 * The newest checkpoint that verifies from end to end. Damaged ones are quarantined and reported, unfinished ones removed.
 * @throws VERSION, INVALID_ARGUMENT (another shard's); errors of the disk as the system gives them.
 */
export async function loadCheckpoint(
  env: Env,
  directory: string,
  options: { readonly shard: number },
): Promise<{ readonly checkpoint: Checkpoint | undefined; readonly problems: readonly CheckpointProblem[] }> {
  const problems: CheckpointProblem[] = [];
  await removeUnfinished(env, directory);
  for (const serial of (await serials(env, directory)).toReversed()) {
    const file = pathOf(directory, serial);
    try {
      const info = await verifyCheckpoint(env, file, options.shard);
      return { checkpoint: { ...info, pages: () => readPages(env, file) }, problems };
    } catch (error) {
      if (!(error instanceof SilverbackError && error.code === 'CORRUPT')) throw error;
      const quarantine = `${file}.quarantine`;
      await env.disk.rename(file, quarantine);
      await env.disk.syncDirectory(directory);
      problems.push({ file, reason: error.message, quarantine });
    }
  }
  return { checkpoint: undefined, problems };
}
