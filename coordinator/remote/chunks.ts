/**
 * The STREAMED_XOR_CHUNKS answer: frames, each `uvarint length, u32 CRC-32C of the message (big-endian), message`, where the
 * message is a ChunkedReadResponse with chunks of one series. Made as the reader takes them.
 */
import { crc32c } from '@node-rs/crc32';
import type { Budget } from '../promql/budget.ts';
import type { SeriesSet } from '../query/queryable.ts';

import { chunkedResponse, type WireChunk, XOR } from './messages.ts';
import { orderSeries } from './order.ts';
import { putUvarint } from './samples.ts';
import { MAX_CHUNK_BYTES, MAX_CHUNK_SAMPLES, XorEncoder } from './xor.ts';

/** The longest message of a frame, which is also what Prometheus makes by default. */
const MAX_FRAME_BYTES = 1 << 20;
/** What a chunk takes in a message beside its data: tags, lengths, two times, the encoding. */
const CHUNK_EXTRA_BYTES = 36;
/** Small frames go out together. */
const PIECE_BYTES = 1 << 16;

/** The frames of the sets of a request's queries, in order, in pieces of one or several. */
export async function* chunkFrames(sets: readonly SeriesSet[], budget: Budget): AsyncGenerator<Buffer> {
  const encoder = new XorEncoder();
  const data = new Uint8Array(MAX_FRAME_BYTES);
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  for (const [queryIndex, set] of sets.entries()) {
    for (const { index, labels } of await orderSeries(set, budget)) {
      // The columns are valid until the set is asked again, so the series' frames may be made in slices.
      const columns = set.columns(index);
      const { timestamps } = columns;
      // Labels take at most 64 * 5,120 bytes, a third of a frame.
      const labelBytes = chunkedResponse(queryIndex, labels, []).length;
      let chunks: WireChunk[] = [];
      let frameBytes = labelBytes;
      let at = 0;
      for (let from = 0; from < timestamps.length; ) {
        const to = Math.min(from + MAX_CHUNK_SAMPLES, timestamps.length);
        const end = encoder.encode(columns, from, to, data, at);
        chunks.push({
          minTimeMs: timestamps[from] as number,
          maxTimeMs: timestamps[to - 1] as number,
          type: XOR,
          data: data.subarray(at, end),
        });
        frameBytes += end - at + CHUNK_EXTRA_BYTES;
        at = end;
        from = to;
        if (from < timestamps.length && frameBytes + MAX_CHUNK_BYTES + CHUNK_EXTRA_BYTES <= MAX_FRAME_BYTES) continue;
        const frame = frameOf(chunkedResponse(queryIndex, labels, chunks));
        pending.push(frame);
        pendingBytes += frame.length;
        chunks = [];
        frameBytes = labelBytes;
        at = 0;
        if (pendingBytes >= PIECE_BYTES) {
          yield Buffer.concat(pending, pendingBytes);
          pending = [];
          pendingBytes = 0;
          budget.check('an answer of chunks');
        }
        if (budget.due()) await budget.pause();
      }
    }
  }
  if (pendingBytes > 0) yield Buffer.concat(pending, pendingBytes);
}

function frameOf(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(14 + message.length);
  let at = putUvarint(frame, 0, message.length);
  at = frame.writeUInt32BE(crc32c(message), at);
  frame.set(message, at);
  return frame.subarray(0, at + message.length);
}
