/**
 * A small file of a shard that is replaced as a whole: 8 bytes of magic, the last of them the version, u32 length and u32 CRC
 * of what follows, JSON.
 */
import { crc32 } from 'node:zlib';
import type { Disk } from '../../core/env/env.ts';
import { checkVersion } from '../../core/versions.ts';

export interface JsonFile {
  readonly directory: string;
  readonly name: 'cursors' | 'gaps';
  /** 8 characters. */
  readonly magic: string;
}

const HEADER_BYTES = 16;

/** Undefined where there is none; `damaged` where it is not as it was written. @throws VERSION */
export async function readJson(disk: Disk, { directory, name, magic }: JsonFile): Promise<unknown> {
  const path = `${directory}/${name}`;
  if (!(await disk.exists(path))) return undefined;
  const bytes = Buffer.from(await disk.readFile(path));
  const found = bytes.subarray(0, 8).toString('latin1');
  if (found.length === 8 && found.slice(0, 7) === magic.slice(0, 7)) checkVersion(name, found.charCodeAt(7), path);
  const body = bytes.subarray(HEADER_BYTES);
  const isSound =
    bytes.length >= HEADER_BYTES &&
    found === magic &&
    bytes.readUInt32LE(8) === body.length &&
    bytes.readUInt32LE(12) === crc32(body);
  return isSound ? (JSON.parse(body.toString()) as unknown) : DAMAGED;
}

export const DAMAGED = Symbol('damaged');

/** A power cut may bring the older file back, until the directory is synced; never another one. */
export async function writeJson(disk: Disk, { directory, name, magic }: JsonFile, content: unknown): Promise<void> {
  const body = Buffer.from(JSON.stringify(content));
  const header = Buffer.alloc(HEADER_BYTES);
  header.write(magic, 'latin1');
  header.writeUInt32LE(body.length, 8);
  header.writeUInt32LE(crc32(body), 12);
  const path = `${directory}/${name}`;
  const file = await disk.open(`${path}.new`, 'append');
  try {
    await file.truncate(0);
    await file.write([header, body], 0);
    // Else a power cut could leave the new name on bytes that never came to the disk, and the old file is gone.
    await file.sync();
  } finally {
    await file.close();
  }
  await disk.rename(`${path}.new`, path);
}
