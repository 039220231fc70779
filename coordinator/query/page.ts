/** Reads a select page (ARCHITECTURE.md, "Select page"): finds its series at once, looks into one when it is asked for. */
import { SilverbackError } from '../../core/errors.ts';
import { chunkInfo } from '../../core/kernel/codec.ts';
import { type Labels, NO_LABELS } from '../../core/labels.ts';
import { trustedLabels } from '../../core/promql/grouping.ts';
import { dropName, METRIC_NAME } from '../../core/promql/labelset.ts';

/** Bytes of a series besides its identity and its chunks: shard, identity length, chunk count. */
const HEADER_BYTES = 12;

export class Page {
  readonly #bytes: Uint8Array;
  readonly #text: Buffer;
  readonly #view: DataView;
  /** Where each series starts. */
  readonly #starts: number[] = [];

  /** Throws CORRUPT when the lengths in it do not add up. */
  constructor(bytes: Uint8Array) {
    // Not as a Buffer: views of those are dearer.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at < bytes.length; ) {
      this.#starts.push(at);
      if (at + HEADER_BYTES > bytes.length) throw cutShort(at);
      at += 8 + this.#view.getUint32(at + 4, true);
      if (at + 4 > bytes.length) throw cutShort(at);
      const chunkCount = this.#view.getUint32(at, true);
      at += 4;
      for (let i = 0; i < chunkCount; i++) {
        if (at + 4 > bytes.length) throw cutShort(at);
        at += 4 + this.#view.getUint32(at, true);
      }
      if (at > bytes.length) throw cutShort(bytes.length);
    }
  }

  get count(): number {
    return this.#starts.length;
  }

  /** Samples in all chunks, read off their headers. */
  get sampleCount(): number {
    let count = 0;
    for (let i = 0; i < this.count; i++) {
      for (const chunk of this.chunks(i)) count += chunkInfo(chunk).sampleCount;
    }
    return count;
  }

  labels(index: number): Labels {
    const at = (this.#starts[index] as number) + 8;
    const end = at + this.#view.getUint32(at - 4, true);
    return labelsAt(this.#bytes, this.#text, at, end);
  }

  /** Views, in time order. */
  chunks(index: number): Uint8Array[] {
    let at = this.#starts[index] as number;
    at += 8 + this.#view.getUint32(at + 4, true);
    const chunks: Uint8Array[] = [];
    const count = this.#view.getUint32(at, true);
    at += 4;
    for (let i = 0; i < count; i++) {
      const length = this.#view.getUint32(at, true);
      at += 4;
      chunks.push(this.#bytes.subarray(at, at + length));
      at += length;
    }
    return chunks;
  }
}

/**
 * The labels of an identity in a page, of which `text` is the same bytes. They come from a node, which has checked them. Without
 * the metric name when `isNameless`.
 */
export function labelsAt(bytes: Uint8Array, text: Buffer, from: number, to: number, isNameless = false): Labels {
  const identity = text.toString('latin1', from, to);
  if (!OTHER_THAN_ASCII.test(identity)) return asciiLabels(identity, isNameless);
  const labels = trustedLabels(bytes.subarray(from, to));
  return isNameless ? dropName(labels) : labels;
}

/** Characters, or lengths of more than one byte. */
const OTHER_THAN_ASCII = /[\x80-\xff]/;

/** Names of the label set read last: series after one another mostly have the same, and share the strings then. */
const lastNames: string[] = [];

/**
 * The labels of identity bytes that are all below 128, so that each length is one character. Only what would lead astray is
 * checked.
 */
function asciiLabels(identity: string, isNameless: boolean): Labels {
  const flat: string[] = [];
  for (let at = 0; at < identity.length; ) {
    let end = at + 1 + identity.charCodeAt(at);
    let name = identity.slice(at + 1, end);
    const known = lastNames[flat.length >> 1];
    if (known === name) name = known;
    else lastNames[flat.length >> 1] = name;
    at = end + 1;
    end = at + identity.charCodeAt(end);
    if (!(end <= identity.length)) throw new SilverbackError('CORRUPT', 'an identity in a select page is cut short');
    if (!isNameless || name !== METRIC_NAME) flat.push(name, identity.slice(at, end));
    at = end;
  }
  return flat.length === 0 ? NO_LABELS : (flat as readonly string[] as Labels);
}

function cutShort(at: number): SilverbackError {
  return new SilverbackError('CORRUPT', `a select page is cut short at byte ${at}`);
}
