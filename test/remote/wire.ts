/** Reads and writes Prometheus's remote read as the other side does, sharing only the proto with what is tested. */
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { compressSync, uncompressSync } from 'snappy';

const root = protobuf.loadSync(join(import.meta.dirname, '../../proto/prometheus.proto'));
const LONGS = { longs: Number, defaults: true } as const;

export interface Asked {
  readonly queries: readonly {
    readonly startTimestampMs: number;
    readonly endTimestampMs: number;
    readonly matchers: readonly { readonly type: number; readonly name: string; readonly value: string }[];
  }[];
  readonly acceptedResponseTypes?: readonly number[];
}

export function readRequest(asked: Asked): Buffer {
  return compressSync(Buffer.from(root.lookupType('prometheus.ReadRequest').encode(asked).finish()));
}

/** A series as text and its samples; values as the hexadecimal digits of their bits, so that NaNs can be told apart. */
export interface Series {
  readonly labels: string;
  readonly samples: (readonly [timeMs: number, bits: string])[];
}

interface RawLabel {
  readonly name: string;
  readonly value: string;
}

const labelText = (labels: readonly RawLabel[]) => labels.map(({ name, value }) => `${name}=${value}`).join(',');

export function bits(value: number): string {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value);
  return bytes.toString('hex');
}

/** The series of each query of a SAMPLES answer. */
export function readSamples(body: Buffer): Series[][] {
  const type = root.lookupType('prometheus.ReadResponse');
  const { results } = type.toObject(type.decode(uncompressSync(body) as Buffer), LONGS) as {
    results: { timeseries: { labels: RawLabel[]; samples: { value: number; timestamp: number }[] }[] }[];
  };
  return results.map(({ timeseries }) =>
    timeseries.map(({ labels, samples }) => ({
      labels: labelText(labels),
      samples: samples.map(({ timestamp, value }) => [timestamp, bits(value)] as const),
    })),
  );
}

export interface Chunk {
  readonly minTimeMs: number;
  readonly maxTimeMs: number;
  readonly type: number;
  readonly data: Uint8Array;
}

export interface Frame {
  readonly bytes: number;
  readonly queryIndex: number;
  readonly labels: string;
  readonly chunks: readonly Chunk[];
}

/** CRC-32C, bit by bit. */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let k = 0; k < 8; k++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

export function readFrames(body: Buffer): Frame[] {
  const type = root.lookupType('prometheus.ChunkedReadResponse');
  const frames: Frame[] = [];
  for (let at = 0; at < body.length; ) {
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = body[at++] as number;
      length += (byte & 127) << shift;
      if (byte < 128) break;
    }
    const message = body.subarray(at + 4, at + 4 + length);
    if (message.length !== length) throw new Error(`a frame of ${length} bytes is cut short`);
    if (body.readUInt32BE(at) !== crc32c(message)) throw new Error('a frame has another checksum');
    at += 4 + length;
    const { chunkedSeries, queryIndex } = type.toObject(type.decode(message), LONGS) as {
      chunkedSeries: { labels: RawLabel[]; chunks: Chunk[] }[];
      queryIndex: number;
    };
    for (const { labels, chunks } of chunkedSeries) {
      frames.push({ bytes: length, queryIndex, labels: labelText(labels), chunks });
    }
  }
  return frames;
}

/** The samples of an XOR chunk, as prometheus/tsdb/chunkenc/xor.go reads them. */
export function readXor(data: Uint8Array): (readonly [timeMs: number, bits: string])[] {
  let at = 16;
  const bit = (): bigint => {
    if (at >= data.length * 8) throw new Error('a chunk is cut short');
    const value = ((data[at >> 3] as number) >> (7 - (at & 7))) & 1;
    at++;
    return BigInt(value);
  };
  const take = (count: number): bigint => {
    let value = 0n;
    for (let i = 0; i < count; i++) value = (value << 1n) | bit();
    return value;
  };
  const uvarint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = take(8);
      value |= (byte & 127n) << shift;
      if (byte < 128n) return value;
    }
  };
  const text = (value: bigint) => value.toString(16).padStart(16, '0');
  const samples: (readonly [number, string])[] = [];
  const count = ((data[0] as number) << 8) | (data[1] as number);
  const zigzag = uvarint();
  let time = zigzag & 1n ? -(zigzag >> 1n) - 1n : zigzag >> 1n;
  let value = take(64);
  samples.push([Number(time), text(value)]);
  let step = 0n;
  let leading = 0n;
  let length = 0n;
  for (let i = 1; i < count; i++) {
    if (i === 1) step = uvarint();
    else {
      let ones = 0;
      while (ones < 4 && bit() === 1n) ones++;
      const width = [0, 14, 17, 20, 64][ones] as number;
      let change = take(width);
      if (width === 64) change = BigInt.asIntN(64, change);
      // Not two's complement: 2^(width - 1) itself is positive.
      else if (width > 0 && change > 1n << BigInt(width - 1)) change -= 1n << BigInt(width);
      step += change;
    }
    time += step;
    if (bit() === 1n) {
      if (bit() === 1n) {
        leading = take(5);
        length = take(6) || 64n;
      }
      value ^= take(Number(length)) << (64n - leading - length);
    }
    samples.push([Number(time), text(value)]);
  }
  return samples;
}

/** The series of the frames of a query, put together. */
export function seriesOf(frames: readonly Frame[], queryIndex = 0): Series[] {
  const out: Series[] = [];
  for (const { labels, chunks, ...frame } of frames) {
    if (frame.queryIndex !== queryIndex) continue;
    let series = out.at(-1);
    if (series?.labels !== labels) {
      series = { labels, samples: [] };
      out.push(series);
    }
    for (const { data } of chunks) series.samples.push(...readXor(data));
  }
  return out;
}
