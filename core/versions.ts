/**
 * The versions of every byte format: one table, what both sides of a connection say to each other of it, and the one error
 * for what cannot be read.
 *
 * Whatever changes in a format, be it a new kind of record in it or a new meaning of a flag, is a new version of it. A version
 * is read as long as something of it may be on a disk or a program that writes it may still run: at least one release
 * longer than it is written. What is of a version that is not read is refused as it lies: nothing of it is set aside,
 * overwritten or left out.
 */
import { crc32 } from 'node:zlib';
import { SilverbackError } from './errors.ts';

/** Lowest and highest, both included. */
export type Versions = readonly [lowest: number, highest: number];

/** Which versions this program reads. Of a format on disk it writes the highest; `test/golden/` has a sample of each. */
export const FORMATS = {
  identity: [1, 1],
  tenure: [1, 1],
  origins: [1, 1],
  cursors: [1, 1],
  gaps: [1, 1],
  'log segment': [1, 1],
  'log record': [1, 1],
  checkpoint: [1, 1],
  block: [1, 1],
  'list of deletions': [1, 1],
  'list of exemplars': [1, 1],
  'list of metadata': [1, 1],
  'meta snapshot': [1, 1],
  'meta log': [1, 1],
  'meta value': [1, 2],
  layout: [1, 1],
} as const satisfies Readonly<Record<string, Versions>>;

export type Format = keyof typeof FORMATS;

/**
 * What goes from process to process, and of what this program speaks which versions. `protocol`: the messages of the streams
 * (proto/). In them: `batch`, the columns of a write; `log`, the records of a log segment; `page`, those of a select and of an
 * aggregation, and the chunks in them; `block`, the bytes of a block file.
 */
export const SPOKEN: Spoken = {
  protocol: [1, 1],
  batch: [1, 1],
  log: [1, 1],
  page: [1, 1],
  block: [1, 1],
};

export type Language = 'protocol' | 'batch' | 'log' | 'page' | 'block';
export type Spoken = Readonly<Record<Language, Versions>>;

/** As it travels, see the proto. */
export interface Hello {
  readonly version: number;
  /** Empty: any. */
  readonly clusterId: string;
  readonly caller: string;
  readonly speaks: readonly WireVersions[];
}

export interface WireVersions {
  readonly format: string;
  readonly lowest: number;
  readonly highest: number;
}

/** The version that a format is written in. */
export function newest(format: Format): number {
  return FORMATS[format][1];
}

/**
 * @param where names the file or the peer that it came from; undefined: who knows that adds it (`foundIn`)
 * @throws VERSION unless this program reads the version found
 */
export function checkVersion(format: Format, found: number, where?: string): void {
  const [lowest, highest] = FORMATS[format];
  if (found >= lowest && found <= highest) return;
  const reads = inWords(FORMATS[format]);
  const what = `${format} of version ${found}, this program reads ${reads}`;
  throw new SilverbackError('VERSION', where === undefined ? what : `${where}: ${what}`);
}

/** An error that says, if it is VERSION, where that was found; else as it is. */
export function foundIn(where: string, error: unknown): unknown {
  if (!(error instanceof SilverbackError) || error.code !== 'VERSION') return error;
  return new SilverbackError('VERSION', `${where}: ${error.message}`, { cause: error });
}

/**
 * The same of a file's header: 7 bytes magic, the version, and a checksum of what is before it at `crcAt`. A version that is
 * wrong only because that byte is damaged is left to the checksum.
 */
export function checkHeaderVersion(format: Format, header: Uint8Array, crcAt: number, where: string): void {
  const found = header[7] as number;
  if (found === newest(format)) return;
  if (header.length >= crcAt + 4) {
    const mended = Uint8Array.from(header.subarray(0, crcAt));
    mended[7] = newest(format);
    const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
    if (crc32(mended) === view.getUint32(crcAt, true)) return;
  }
  checkVersion(format, found, where);
}

/** The same of a text that begins with a magic of 7 characters and the version; false: it begins otherwise. */
export function hasMagic(format: Format, text: string, magic: string, where: string): boolean {
  if (text.length <= magic.length || !text.startsWith(magic)) return false;
  checkVersion(format, text.charCodeAt(magic.length), where);
  return true;
}

/** What a caller opens a stream with. */
export function helloOf(spoken: Spoken, clusterId: string, caller: string): Hello {
  return { version: spoken.protocol[0], clusterId, caller, speaks: toWire(spoken) };
}

export function toWire(spoken: Spoken): WireVersions[] {
  return Object.entries(spoken).map(([format, [lowest, highest]]) => ({ format, lowest, highest }));
}

/**
 * The highest version that both sides speak of each of these. A side that says nothing of one, because it is older than the
 * saying, speaks version 1.
 * @throws VERSION naming whom it is about, and each format that they have no version of in common
 */
export function agree<L extends Language>(
  ours: Spoken,
  theirs: readonly WireVersions[],
  languages: readonly L[],
  who: { readonly us: string; readonly them: string },
): Readonly<Record<L, number>> {
  const agreed = {} as Record<L, number>;
  const apart: string[] = [];
  for (const language of languages) {
    const { lowest = 1, highest = 1 } = theirs.find(({ format }) => format === language) ?? {};
    const [ownLowest, ownHighest] = ours[language];
    agreed[language] = Math.min(highest, ownHighest);
    if (agreed[language] >= Math.max(lowest, ownLowest)) continue;
    apart.push(`${language}: ${who.them} speaks ${inWords([lowest, highest])}, ${who.us} ${inWords(ours[language])}`);
  }
  if (apart.length > 0) throw new SilverbackError('VERSION', `no version in common of ${apart.join('; ')}`);
  return agreed;
}

/** `1`, or `1 to 3`. */
function inWords([lowest, highest]: Versions): string {
  return lowest === highest ? `version ${lowest}` : `versions ${lowest} to ${highest}`;
}
