/** Exemplars and metadata that the ingest kernel noted in a body: read here, message by message. */

import { SilverbackError } from '../errors.ts';
import { checkExemplarLabels, type Exemplar, MAX_LABEL_BYTES, tooLong } from '../exemplars.ts';
import {
  decodeIdentity,
  encodeIdentity,
  formatLabels,
  type Labels,
  labelValue,
  makeLabels,
  UNLIMITED,
} from '../labels.ts';
import type { MetricMetadata } from '../metadata.ts';
import { checkedFields, labelReferences } from './wire.ts';

/** An exemplar, and where its series is at home. */
export interface SeriesExemplar {
  readonly shard: number;
  readonly identity: Uint8Array;
  readonly exemplar: Exemplar;
}

/** What a slice held beside samples. */
export interface SliceNotes {
  readonly exemplars: readonly SeriesExemplar[];
  /** Texts may have any length. */
  readonly metadata: readonly MetricMetadata[];
  /** Exemplars that break a rule: a message for each, which names it and the rule. */
  readonly refusedExemplars: readonly string[];
}

export const NO_NOTES: SliceNotes = { exemplars: [], metadata: [], refusedExemplars: [] };

/** Where a slice's notes are. Views are good until the kernel's next call. */
export interface NoteSource {
  readonly version: 1 | 2;
  /** A stretch of the decompressed body. */
  bytes(at: number, length: number): Uint8Array;
  /** Copied. */
  identity(shard: number, ref: number): Uint8Array;
  /** A symbol of 2.0; throws INVALID_ARGUMENT for one that there is not. */
  symbol(reference: number): Uint8Array;
}

const NOTE_WORDS = 5;
const EXEMPLAR = 1;
/** Longest text of a series in a message. */
const SERIES_CHARS = 600;

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const text = new TextDecoder();

/** Reads notes (assembly/ingest/notes.ts). Throws INVALID_ARGUMENT for a malformed message. */
export function readNotes(words: Uint32Array, source: NoteSource): SliceNotes {
  const exemplars: SeriesExemplar[] = [];
  const metadata: MetricMetadata[] = [];
  const refusedExemplars: string[] = [];
  for (let i = 0; i < words.length; i += NOTE_WORDS) {
    const [kind, shard, ref, at, length] = words.subarray(i, i + NOTE_WORDS) as unknown as [
      number,
      number,
      number,
      number,
      number,
    ];
    if (kind !== EXEMPLAR) {
      const entry = source.version === 1 ? first(source.bytes(at, length)) : second(source, shard, ref, at, length);
      if (entry !== undefined) metadata.push(entry);
      continue;
    }
    // Naming the series calls the kernel, which ends the life of views.
    const identity = source.identity(shard, ref);
    try {
      exemplars.push({ shard, identity, exemplar: exemplarOf(source.bytes(at, length), source) });
    } catch (error) {
      if (!(error instanceof SilverbackError) || error.code !== 'INVALID_LABELS') throw error;
      refusedExemplars.push(`exemplar of series ${seriesText(identity)}: ${error.message}`);
    }
  }
  return { exemplars, metadata, refusedExemplars };
}

/** Of either version. Throws INVALID_LABELS for one that breaks a rule. */
function exemplarOf(message: Uint8Array, source: NoteSource): Exemplar {
  const pairs: Uint8Array[] = [];
  let value = 0;
  let timestampMs = 0;
  for (const { tag, bytes, number } of checkedFields(message)) {
    if (tag === 0x11) value = number;
    else if (tag === 0x18) timestampMs = number;
    else if (tag === 0x0a && source.version === 1) {
      let name: Uint8Array = NO_BYTES;
      let text: Uint8Array = NO_BYTES;
      for (const part of checkedFields(bytes)) {
        if (part.tag === 0x0a) name = part.bytes;
        if (part.tag === 0x12) text = part.bytes;
      }
      pairs.push(name, text);
    }
  }
  if (source.version === 2) for (const reference of labelReferences(message)) pairs.push(source.symbol(reference));
  if (pairs.length % 2 !== 0) {
    throw new SilverbackError(
      'INVALID_ARGUMENT',
      'an exemplar has an odd number of references to label names and values',
    );
  }
  if (!Number.isSafeInteger(timestampMs) || timestampMs < 0) {
    throw new SilverbackError('INVALID_LABELS', `its timestamp ${timestampMs} is not a number of ms since 1970`);
  }
  return { labels: encodeIdentity(labelsOf(pairs)), timestampMs, value };
}

const NO_BYTES = new Uint8Array(0);

function labelsOf(pairs: readonly Uint8Array[]): Labels {
  let byteCount = 0;
  for (const { length } of pairs) byteCount += length;
  if (byteCount > MAX_LABEL_BYTES) throw tooLong('too many');
  // Empty texts are no bytes: their number has a bound of its own.
  if (pairs.length > 2 * MAX_LABEL_BYTES)
    throw new SilverbackError('INVALID_LABELS', `it has ${pairs.length / 2} labels`);
  const texts = pairs.map((bytes) => {
    try {
      return strict.decode(bytes);
    } catch {
      throw new SilverbackError('INVALID_LABELS', `${JSON.stringify(text.decode(bytes))} in its labels is not UTF-8`);
    }
  });
  const made = makeLabels(
    Array.from({ length: texts.length / 2 }, (_, i) => [texts[2 * i], texts[2 * i + 1]] as [string, string]),
  );
  checkExemplarLabels(made);
  return made;
}

/** MetricMetadata { MetricType type = 1; string metric_family_name = 2; string help = 4; string unit = 5; } */
function first(message: Uint8Array): MetricMetadata {
  const entry = { name: '', type: 0, unit: '', help: '' };
  for (const { tag, bytes, number } of checkedFields(message)) {
    if (tag === 0x08) entry.type = number;
    else if (tag === 0x12) entry.name = shortened(bytes);
    else if (tag === 0x22) entry.help = shortened(bytes);
    else if (tag === 0x2a) entry.unit = shortened(bytes);
  }
  return entry;
}

/** Metadata { MetricType type = 1; uint32 help_ref = 3; uint32 unit_ref = 4; }, which the kernel has found well formed. */
function second(
  source: NoteSource,
  shard: number,
  ref: number,
  at: number,
  length: number,
): MetricMetadata | undefined {
  const name = labelValue(decodeIdentity(source.identity(shard, ref), UNLIMITED), '__name__');
  const entry = { name, type: 0, unit: '', help: '' };
  for (const { tag, number } of checkedFields(source.bytes(at, length))) {
    if (tag === 0x08) entry.type = number;
    else if (tag === 0x18) entry.help = shortened(source.symbol(number));
    else if (tag === 0x20) entry.unit = shortened(source.symbol(number));
  }
  return { ...entry, name: familyOf(name, entry.type) };
}

/** Far more than is kept, and a bound of what is decoded. */
const TEXT_BYTES = 8192;

function shortened(bytes: Uint8Array): string {
  return text.decode(bytes.subarray(0, TEXT_BYTES));
}

/** Suffixes of the series that a family of a type consists of; of other types each series is named like its family. */
const SUFFIXES: Readonly<Record<number, RegExp>> = {
  3: /_(bucket|sum|count)$/,
  4: /_(bucket|gsum|gcount)$/,
  5: /_(sum|count)$/,
};

function familyOf(name: string, type: number): string {
  const suffix = SUFFIXES[type];
  return suffix === undefined ? name : name.replace(suffix, '');
}

function seriesText(identity: Uint8Array): string {
  const whole = formatLabels(decodeIdentity(identity, UNLIMITED));
  return whole.length > SERIES_CHARS ? `${whole.slice(0, SERIES_CHARS)}...` : whole;
}
