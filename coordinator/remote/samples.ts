/**
 * The SAMPLES answer: one ReadResponse, snappy-compressed. It is compressed piece by piece while it is made, so that never more
 * than a piece of it is there uncompressed: a snappy block is its length and then elements, which refer to nothing before
 * their own piece.
 */
import { compress } from 'snappy';
import { SilverbackError } from '../../core/errors.ts';
import type { Budget } from '../promql/budget.ts';
import type { Columns, SeriesSet } from '../query/queryable.ts';
import { seriesHead } from './messages.ts';
import { orderSeries } from './order.ts';

/** A piece is compressed when it is this long: four of snappy's own blocks. */
const PIECE_BYTES = 1 << 18;
/** A sample with its tag and length: 2 + 9 bytes of the value + at most 11 of the time. */
const SAMPLE_MOST_BYTES = 22;

// Tags: field number * 8 + wire type.
const RESULTS = 0x0a;
const TIMESERIES = 0x0a;
const SAMPLES = 0x12;
const VALUE = 0x09;
const TIMESTAMP = 0x10;

/** The body for the sets of a request's queries, in order. Throws TOO_LARGE past `maxSamples`. */
export async function sampleResponse(
  sets: readonly SeriesSet[],
  budget: Budget,
  maxSamples: number,
): Promise<Buffer[]> {
  const elements: Buffer[] = [];
  let length = 0;
  let sampleCount = 0;
  for (const set of sets) {
    const result = new Pieces();
    for (const { index, labels } of await orderSeries(set, budget)) {
      const columns = set.columns(index);
      if (columns.timestamps.length === 0) continue;
      sampleCount += columns.timestamps.length;
      if (sampleCount > maxSamples) {
        throw new SilverbackError(
          'TOO_LARGE',
          `exceeded sample limit (${maxSamples}) of an answer of samples: ask for a shorter time or fewer series, or accept STREAMED_XOR_CHUNKS, which has no such limit`,
        );
      }
      await result.add(timeSeries(seriesHead(labels), columns));
      if (budget.due()) await budget.pause();
    }
    await result.flush();
    const head = Buffer.concat([Buffer.of(RESULTS), uvarint(result.length)]);
    elements.push(await elementsOf(head), ...result.elements);
    length += head.length + result.length;
  }
  return [uvarint(length), ...elements];
}

/** A message that is compressed as it grows. */
class Pieces {
  readonly elements: Buffer[] = [];
  length = 0;
  #pending: Buffer[] = [];
  #pendingBytes = 0;

  async add(bytes: Buffer): Promise<void> {
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.length;
    this.length += bytes.length;
    if (this.#pendingBytes >= PIECE_BYTES) await this.flush();
  }

  async flush(): Promise<void> {
    if (this.#pendingBytes === 0) return;
    const piece = Buffer.concat(this.#pending, this.#pendingBytes);
    this.#pending = [];
    this.#pendingBytes = 0;
    this.elements.push(await elementsOf(piece));
  }
}

/** A snappy block without its length. Compressed in one of libuv's threads. */
async function elementsOf(raw: Buffer): Promise<Buffer> {
  const block = await compress(raw);
  return block.subarray(uvarint(raw.length).length);
}

/** A TimeSeries with tag and length. */
function timeSeries(head: Uint8Array, { timestamps, values }: Columns): Buffer {
  const count = timestamps.length;
  const samples = Buffer.allocUnsafe(count * SAMPLE_MOST_BYTES);
  // As bytes: a NaN may lose its payload on the way through a number.
  const bits = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  let at = 0;
  for (let i = 0; i < count; i++) {
    samples[at] = SAMPLES;
    const start = at + 2;
    samples[start] = VALUE;
    samples[start + 9] = TIMESTAMP;
    for (let k = 0; k < 8; k++) samples[start + 1 + k] = bits[8 * i + k] as number;
    const end = putUvarint(samples, start + 10, timestamps[i] as number);
    samples[at + 1] = end - start;
    at = end;
  }
  return Buffer.concat([Buffer.of(TIMESERIES), uvarint(head.length + at), head, samples.subarray(0, at)]);
}

function uvarint(value: number): Buffer {
  const bytes = Buffer.alloc(10);
  return bytes.subarray(0, putUvarint(bytes, 0, value));
}

/** LEB128 of a number below 2^53. Returns where it ends. */
export function putUvarint(bytes: Uint8Array, start: number, value: number): number {
  let at = start;
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes[at++] = (rest % 0x80) | 0x80;
  bytes[at++] = rest;
  return at;
}
