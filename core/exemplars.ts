/**
 * Exemplars: single observations with a label set of their own, mostly a trace's id, that stand for what a series counted.
 *
 *     list of exemplars: column of a batch, payload of an EXEMPLAR log record, checkpoint page, read page
 *       0  1   format: 1
 *       1  3   zero
 *       4  4   count
 *       8      per exemplar: u32 length, identity of the series; u32 length, the exemplar's labels in the form of an
 *              identity; u64 timestamp, ms since 1970; u64 bits of the value
 *
 * Each names its series by its labels: so a list means the same everywhere, and an exemplar is at home without a sample of
 * its series. Lists may lie back to back.
 */
import { type ErrorCode, SilverbackError } from './errors.ts';
import { decodeIdentity, type LabelLimits, type Labels } from './labels.ts';
import { checkVersion, newest } from './versions.ts';

export interface Exemplar {
  /** In the form of an identity. */
  readonly labels: Uint8Array;
  readonly timestampMs: number;
  readonly value: number;
}

/** Characters (code points) of all names and values of an exemplar: OpenMetrics' limit, which Prometheus keeps too. */
const MAX_LABEL_CHARS = 128;
/** The same for bytes: text that is longer need not be looked into. */
export const MAX_LABEL_BYTES = 4 * MAX_LABEL_CHARS;

const LIMITS: LabelLimits = {
  maxLabelCount: MAX_LABEL_CHARS,
  maxNameBytes: MAX_LABEL_BYTES,
  maxValueBytes: MAX_LABEL_BYTES,
};

const HEADER_BYTES = 8;
const ENTRY_BYTES = 24;
const U32 = 0x1_0000_0000;

/** The labels of an exemplar from outside. Throws INVALID_LABELS for what is no label set, or a too long one. */
export function decodeExemplarLabels(labels: Uint8Array): Labels {
  const decoded = decodeIdentity(labels, LIMITS);
  checkExemplarLabels(decoded);
  return decoded;
}

/** Throws INVALID_LABELS when they have too many characters. */
export function checkExemplarLabels(labels: Labels): void {
  let chars = 0;
  for (const text of labels) for (const _ of text) chars++;
  if (chars > MAX_LABEL_CHARS) throw tooLong(String(chars));
}

/** `chars`: how many there are, as far as they were counted. */
export function tooLong(chars: string): SilverbackError {
  return new SilverbackError(
    'INVALID_LABELS',
    `the names and values of its labels have ${chars} characters together, at most ${MAX_LABEL_CHARS} are allowed`,
  );
}

/** Gathers exemplars into a list. */
export class ExemplarList {
  #bytes = Buffer.allocUnsafe(1024);
  #used = HEADER_BYTES;
  count = 0;

  get byteCount(): number {
    return this.#used;
  }

  add(identity: Uint8Array, { labels, timestampMs, value }: Exemplar): void {
    const end = this.#used + ENTRY_BYTES + identity.length + labels.length;
    if (end > this.#bytes.length) {
      const grown = Buffer.allocUnsafe(Math.max(end, 2 * this.#bytes.length));
      this.#bytes.copy(grown, 0, 0, this.#used);
      this.#bytes = grown;
    }
    const bytes = this.#bytes;
    let at = bytes.writeUInt32LE(identity.length, this.#used);
    bytes.set(identity, at);
    at = bytes.writeUInt32LE(labels.length, at + identity.length);
    bytes.set(labels, at);
    at = bytes.writeUInt32LE(timestampMs % U32, at + labels.length);
    at = bytes.writeUInt32LE(Math.floor(timestampMs / U32), at);
    this.#used = bytes.writeDoubleLE(value, at);
    this.count++;
  }

  /** The list so far; the next one begins. */
  take(): Uint8Array {
    const bytes = this.#bytes.subarray(0, this.#used);
    bytes.writeUInt32LE(newest('list of exemplars'), 0);
    bytes.writeUInt32LE(this.count, 4);
    this.#bytes = Buffer.allocUnsafe(1024);
    this.#used = HEADER_BYTES;
    this.count = 0;
    return bytes;
  }
}

/**
 * Hands out what lists hold, in order; identity and labels are views. Throws `code` for bytes that are no list, before
 * anything of that list is handed out, or VERSION.
 */
export function readExemplars(
  bytes: Uint8Array,
  code: ErrorCode,
  take: (identity: Uint8Array, exemplar: Exemplar) => void,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const timeMs = (at: number) => view.getUint32(at, true) + view.getUint32(at + 4, true) * U32;
  for (let start = 0; start < bytes.length; ) {
    checkVersion('list of exemplars', bytes[start] as number);
    const broken = () =>
      new SilverbackError(code, `a list of exemplars is cut short or damaged, at byte ${start} of ${bytes.length}`);
    if (start + HEADER_BYTES > bytes.length) throw broken();
    const count = view.getUint32(start + 4, true);
    const found: (readonly [Uint8Array, Exemplar])[] = [];
    let at = start + HEADER_BYTES;
    for (let i = 0; i < count; i++) {
      const identityEnd = at + 4 <= bytes.length ? at + 4 + view.getUint32(at, true) : Number.POSITIVE_INFINITY;
      if (identityEnd + 4 > bytes.length) throw broken();
      const labelsEnd = identityEnd + 4 + view.getUint32(identityEnd, true);
      if (labelsEnd + 16 > bytes.length) throw broken();
      const timestampMs = timeMs(labelsEnd);
      if (!Number.isSafeInteger(timestampMs)) throw broken();
      found.push([
        bytes.subarray(at + 4, identityEnd),
        {
          labels: bytes.subarray(identityEnd + 4, labelsEnd),
          timestampMs,
          value: view.getFloat64(labelsEnd + 8, true),
        },
      ]);
      at = labelsEnd + 16;
    }
    for (const [identity, exemplar] of found) take(identity, exemplar);
    start = at;
  }
}
