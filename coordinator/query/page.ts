/** Reads a select page (ARCHITECTURE.md, "Select page"): finds its series at once, looks into one when it is asked for. */
import { SilverbackError } from '../../core/errors.ts';
import { chunkInfo } from '../../core/kernel/codec.ts';
import { decodeIdentity, type Labels } from '../../core/labels.ts';

/** Bytes of a series besides its identity and its chunks: shard, identity length, chunk count. */
const HEADER_BYTES = 12;

export class Page {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** Where each series starts. */
  readonly #starts: number[] = [];

  /** Throws CORRUPT when the lengths in it do not add up. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
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
    const at = this.#starts[index] as number;
    return decodeIdentity(this.#bytes.subarray(at + 8, at + 8 + this.#view.getUint32(at + 4, true)));
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

function cutShort(at: number): SilverbackError {
  return new SilverbackError('CORRUPT', `a select page is cut short at byte ${at}`);
}
