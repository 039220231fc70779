/**
 * Metadata of metrics: type, unit and help, by the metric's name.
 *
 *     list of metadata: column of a batch, payload of a METADATA log record, checkpoint page
 *       0  1   format: 1
 *       1  3   zero
 *       4  4   count
 *       8      per entry: u16 type, u16 bytes of the name, u16 bytes of the unit, u16 bytes of the help; then these texts
 *
 * Metadata lies in the shard that a series with nothing but the metric's name would lie in.
 */
import { type ErrorCode, SilverbackError } from './errors.ts';
import { fingerprint, shardOf } from './fingerprint.ts';
import { encodeIdentity, makeLabels } from './labels.ts';
import { checkVersion, newest } from './versions.ts';

export interface MetricMetadata {
  /** Of the metric family. */
  readonly name: string;
  /** An index of METRIC_TYPES. */
  readonly type: number;
  readonly unit: string;
  readonly help: string;
}

/** By their numbers in remote write 1.0 and 2.0, as the HTTP API writes them. */
export const METRIC_TYPES = [
  'unknown',
  'counter',
  'gauge',
  'histogram',
  'gaugehistogram',
  'summary',
  'info',
  'stateset',
] as const;

/** Longer texts are cut: what they describe is no worse for it. UTF-8 bytes. */
const MAX_HELP_BYTES = 1024;
const MAX_UNIT_BYTES = 64;
/** An entry with a longer name is not kept: it would be another metric's. */
const MAX_NAME_BYTES = 1024;
const CUT = '...';

const HEADER_BYTES = 8;
const ENTRY_BYTES = 8;

/** The entries of one metric on their way to a reader. */
export function metadataText(entries: readonly MetricMetadata[]): string {
  return JSON.stringify(entries.map(({ name, type, unit, help }) => [name, type, unit, help]));
}

export function parseMetadataText(text: string): MetricMetadata[] {
  const entries = JSON.parse(text) as [name: string, type: number, unit: string, help: string][];
  return entries.map(([name, type, unit, help]) => ({ name, type, unit, help }));
}

const utf8 = new TextEncoder();
const text = new TextDecoder();

/** What is kept of an entry: texts that are too long end in dots. Undefined: nothing, its name is empty or too long. */
export function keptMetadata({ name, type, unit, help }: MetricMetadata): MetricMetadata | undefined {
  if (name === '' || utf8.encode(name).length > MAX_NAME_BYTES) return undefined;
  return {
    name,
    type: METRIC_TYPES[type] === undefined ? 0 : type,
    unit: cut(unit, MAX_UNIT_BYTES),
    help: cut(help, MAX_HELP_BYTES),
  };
}

function cut(whole: string, maxBytes: number): string {
  // Three bytes a unit is the most UTF-8 takes.
  if (whole.length * 3 <= maxBytes) return whole;
  const bytes = utf8.encode(whole.slice(0, maxBytes + 1));
  if (bytes.length <= maxBytes) return whole;
  let end = maxBytes - CUT.length;
  // Not within a character.
  while (((bytes[end] as number) & 0xc0) === 0x80) end--;
  return text.decode(bytes.subarray(0, end)) + CUT;
}

/** The shard that keeps a metric's metadata. Throws INVALID_LABELS for a name that cannot be a label's value. */
export function metadataShard(name: string, shardCount: number): number {
  return shardOf(fingerprint(encodeIdentity(makeLabels({ __name__: name }))).h1, shardCount);
}

/** Of entries as `keptMetadata` gives them. */
export function encodeMetadata(entries: readonly MetricMetadata[]): Uint8Array {
  const header = Buffer.alloc(HEADER_BYTES);
  header[0] = newest('list of metadata');
  header.writeUInt32LE(entries.length, 4);
  const parts: Uint8Array[] = [header];
  for (const { type, ...texts } of entries) {
    const [name, unit, help] = [texts.name, texts.unit, texts.help].map((one) => utf8.encode(one)) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    const head = Buffer.alloc(ENTRY_BYTES);
    head.writeUInt16LE(type, 0);
    head.writeUInt16LE(name.length, 2);
    head.writeUInt16LE(unit.length, 4);
    head.writeUInt16LE(help.length, 6);
    parts.push(head, name, unit, help);
  }
  return Buffer.concat(parts);
}

/** What a list holds. Throws `code` for bytes that are no list, or VERSION. */
export function readMetadata(bytes: Uint8Array, code: ErrorCode): MetricMetadata[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const broken = () => new SilverbackError(code, `a list of metadata of ${bytes.length} bytes is cut short or damaged`);
  if (bytes.length < HEADER_BYTES) throw broken();
  checkVersion('list of metadata', bytes[0] as number);
  const entries: MetricMetadata[] = [];
  let at = HEADER_BYTES;
  for (let i = view.getUint32(4, true); i > 0; i--) {
    if (at + ENTRY_BYTES > bytes.length) throw broken();
    const type = view.getUint16(at, true);
    const lengths = [2, 4, 6].map((offset) => view.getUint16(at + offset, true));
    at += ENTRY_BYTES;
    const [name, unit, help] = lengths.map((length) => {
      if (at + length > bytes.length) throw broken();
      at += length;
      return text.decode(bytes.subarray(at - length, at));
    }) as [string, string, string];
    if (name === '') throw broken();
    entries.push({ name, type, unit, help });
  }
  if (at !== bytes.length) throw broken();
  return entries;
}
