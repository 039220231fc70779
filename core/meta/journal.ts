/**
 * The embedded meta store's durable half: a snapshot and the log of what came after it.
 *
 * Files, `g` counting up with each snapshot:
 *   snapshot-<g>   magic "SILVMSN" 0x01, one frame: the state at the start of log-<g>  (absent for g = 0)
 *   log-<g>        magic "SILVMLG" 0x01, frames: each a JSON array of effects that became durable together
 * Frame: u32 payload length, u32 CRC-32 of the payload, u32 CRC-32 of the eight bytes before, payload. Little-endian.
 *
 * A frame is synced before the next is written, so a crash can tear only the last. A bad frame with no good frame
 * after it is a torn tail: nothing in it was acknowledged, and it is cut. A bad frame with good ones after it is
 * corruption: the store refuses to open, because a placement with a hole in its past must not be acted on.
 *
 * A snapshot is written beside, synced, renamed, and only then is its log begun and the older generation removed; at
 * every point in between, the highest whole snapshot and its log (empty when absent) are the state.
 */
import { crc32 } from 'node:zlib';
import type { Disk, File } from '../env/env.ts';
import { SilverbackError } from '../errors.ts';
import { checkVersion, type Format } from '../versions.ts';

const SNAPSHOT_MAGIC = Buffer.from('SILVMSN\x01', 'latin1');
const LOG_MAGIC = Buffer.from('SILVMLG\x01', 'latin1');
const HEADER_BYTES = 12;

export interface Recovered {
  /** The last snapshot's JSON. */
  readonly snapshot: string | undefined;
  /** Payloads of the log after it. */
  readonly frames: readonly string[];
  /** Bytes of a torn tail that were cut. */
  readonly cutBytes: number;
}

export class Journal {
  readonly #disk: Disk;
  readonly #directory: string;
  #generation: number;
  #log: File;
  #logBytes: number;
  /** Size of the log at which a snapshot pays. */
  #snapshotAtBytes: number;

  private constructor(
    disk: Disk,
    directory: string,
    generation: number,
    log: File,
    logBytes: number,
    leastBytes: number,
  ) {
    this.#disk = disk;
    this.#directory = directory;
    this.#generation = generation;
    this.#log = log;
    this.#logBytes = logBytes;
    this.#snapshotAtBytes = leastBytes;
  }

  /**
   * Opens or begins the journal in `directory`.
   * @param snapshotLeastBytes the log is never snapshotted below this size
   * @throws SilverbackError CORRUPT naming the file and the place, VERSION for a file of another version
   */
  static async open(
    disk: Disk,
    directory: string,
    snapshotLeastBytes: number,
  ): Promise<{ journal: Journal; recovered: Recovered }> {
    await disk.makeDirectory(directory);
    const names = await disk.list(directory);
    const numbers = (prefix: string): number[] =>
      names.flatMap((name) =>
        name.startsWith(prefix) && /^\d+$/.test(name.slice(prefix.length)) ? [Number(name.slice(prefix.length))] : [],
      );
    const generation = Math.max(0, ...numbers('snapshot-'));
    let snapshot: string | undefined;
    if (generation > 0) snapshot = await readSnapshot(disk, `${directory}/snapshot-${generation}`);
    else if (numbers('log-').some((number) => number > 0)) {
      throw new SilverbackError('CORRUPT', `${directory}: there is a log without the snapshot it continues`);
    }

    const path = `${directory}/log-${generation}`;
    const log = await disk.open(path, 'append');
    const { frames, wholeBytes, sizeBytes } = await readLog(log, path);
    let logBytes = wholeBytes;
    if (wholeBytes === 0) {
      await log.truncate(0);
      await log.write([LOG_MAGIC], 0);
      logBytes = LOG_MAGIC.length;
    } else if (wholeBytes < sizeBytes) {
      await log.truncate(wholeBytes);
    }
    await log.sync();
    await disk.syncDirectory(directory);

    const journal = new Journal(disk, directory, generation, log, logBytes, snapshotLeastBytes);
    await journal.#removeOthers(names);
    return { journal, recovered: { snapshot, frames, cutBytes: sizeBytes - wholeBytes } };
  }

  /** Resolves once `payload` is durable. One call at a time. */
  async append(payload: string): Promise<void> {
    const frame = encodeFrame(payload);
    await this.#log.write([frame], this.#logBytes);
    await this.#log.sync();
    this.#logBytes += frame.length;
  }

  /** True when the log has grown enough that a snapshot would shorten recovery. */
  get wantsSnapshot(): boolean {
    return this.#logBytes > this.#snapshotAtBytes;
  }

  /** Replaces everything so far by `json`. */
  async snapshot(json: string): Promise<void> {
    const next = this.#generation + 1;
    const frame = encodeFrame(json);
    const beside = `${this.#directory}/new-snapshot`;
    if (await this.#disk.exists(beside)) await this.#disk.remove(beside);
    const file = await this.#disk.open(beside, 'create');
    await file.write([SNAPSHOT_MAGIC, frame], 0);
    await file.sync();
    await file.close();
    await this.#disk.rename(beside, `${this.#directory}/snapshot-${next}`);
    await this.#disk.syncDirectory(this.#directory);

    const log = await this.#disk.open(`${this.#directory}/log-${next}`, 'create');
    await log.write([LOG_MAGIC], 0);
    await log.sync();
    await this.#disk.syncDirectory(this.#directory);
    await this.#log.close();
    this.#log = log;
    this.#logBytes = LOG_MAGIC.length;
    this.#generation = next;
    this.#snapshotAtBytes = Math.max(this.#snapshotAtBytes, 4 * frame.length);
    await this.#removeOthers(await this.#disk.list(this.#directory));
  }

  async close(): Promise<void> {
    await this.#log.close();
  }

  async #removeOthers(names: readonly string[]): Promise<void> {
    const current = [`snapshot-${this.#generation}`, `log-${this.#generation}`];
    for (const name of names) {
      if (/^(snapshot-\d+|log-\d+|new-snapshot)$/.test(name) && !current.includes(name)) {
        await this.#disk.remove(`${this.#directory}/${name}`);
      }
    }
  }
}

function encodeFrame(payload: string): Buffer {
  const bytes = Buffer.from(payload);
  const frame = Buffer.alloc(HEADER_BYTES + bytes.length);
  frame.writeUInt32LE(bytes.length, 0);
  frame.writeUInt32LE(crc32(bytes), 4);
  frame.writeUInt32LE(crc32(frame.subarray(0, 8)), 8);
  bytes.copy(frame, HEADER_BYTES);
  return frame;
}

/** @returns the payload of the frame at `at`, or undefined when there is no whole, right frame */
function decodeFrame(bytes: Buffer, at: number): Buffer | undefined {
  if (at + HEADER_BYTES > bytes.length) return undefined;
  if (crc32(bytes.subarray(at, at + 8)) !== bytes.readUInt32LE(at + 8)) return undefined;
  const end = at + HEADER_BYTES + bytes.readUInt32LE(at);
  if (end > bytes.length) return undefined;
  const payload = bytes.subarray(at + HEADER_BYTES, end);
  return crc32(payload) === bytes.readUInt32LE(at + 4) ? payload : undefined;
}

function checkMagic(format: Format, bytes: Buffer, magic: Buffer, path: string): void {
  if (bytes.length < 8 || !bytes.subarray(0, 7).equals(magic.subarray(0, 7))) {
    throw new SilverbackError('CORRUPT', `${path}: not a file of the meta store`);
  }
  checkVersion(format, bytes[7] as number, path);
}

async function readSnapshot(disk: Disk, path: string): Promise<string> {
  const bytes = Buffer.from(await disk.readFile(path));
  checkMagic('meta snapshot', bytes, SNAPSHOT_MAGIC, path);
  const payload = decodeFrame(bytes, SNAPSHOT_MAGIC.length);
  if (payload === undefined) throw new SilverbackError('CORRUPT', `${path}: its checksum does not match`);
  return payload.toString();
}

async function readLog(log: File, path: string): Promise<{ frames: string[]; wholeBytes: number; sizeBytes: number }> {
  const sizeBytes = await log.size();
  const bytes = Buffer.from(await log.read(0, sizeBytes));
  const frames: string[] = [];
  // The magic is synced before the first frame: a file that is shorter never held one.
  if (sizeBytes < LOG_MAGIC.length) return { frames, wholeBytes: 0, sizeBytes };
  // Nor did one whose magic is all zeros: a file system may bring the length to disk before the bytes.
  if (bytes.every((byte) => byte === 0)) return { frames, wholeBytes: 0, sizeBytes };
  checkMagic('meta log', bytes, LOG_MAGIC, path);
  let at = LOG_MAGIC.length;
  for (let payload = decodeFrame(bytes, at); payload !== undefined; payload = decodeFrame(bytes, at)) {
    frames.push(payload.toString());
    at += HEADER_BYTES + payload.length;
  }
  for (let later = at + 1; later + HEADER_BYTES <= sizeBytes; later++) {
    if (decodeFrame(bytes, later) !== undefined) {
      throw new SilverbackError('CORRUPT', `${path}: bad bytes at offset ${at}, with whole records after them`);
    }
  }
  return { frames, wholeBytes: at, sizeBytes };
}
