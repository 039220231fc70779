/** Bytes that were written once must be read for ever. The files are never changed; a new layout gets new ones. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ChunkCodec, chunkInfo } from '../../core/kernel/codec.ts';
import { Bench, pairs, type Sample } from './support.ts';

interface Golden {
  readonly name: string;
  /** Hexadecimal. */
  readonly bytes: string;
  /** ref, ms, bits (hexadecimal). */
  readonly samples: readonly (readonly [number, string, string])[];
}

function goldens(file: string): Golden[] {
  return JSON.parse(readFileSync(new URL(`../golden/${file}`, import.meta.url), 'utf8'));
}

const bytesOf = ({ bytes }: Golden): Uint8Array => new Uint8Array(Buffer.from(bytes, 'hex'));
const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('hex');
const samplesOf = ({ samples }: Golden): Sample[] =>
  samples.map(([ref, ms, bits]) => ({ ref, ms: BigInt(ms), bits: BigInt(`0x${bits}`) }));
const windowOf = (sample: Sample): number => Number(sample.ms - (sample.ms % 7_200_000n));

describe('chunks', () => {
  const codec = ChunkCodec.create();

  it.each(goldens('chunks-1.json'))('$name', (golden) => {
    const samples = samplesOf(golden);
    const chunk = bytesOf(golden);
    expect(pairs(codec.decode([chunk]))).toEqual(samples.map(({ ms, bits }) => [ms, bits]));
    const bench = new Bench(1);
    bench.append(samples);
    const startMs = windowOf(samples[0] as Sample);
    const written =
      chunkInfo(chunk).encoding === 'xor'
        ? bench.kernel.chunk(bench.id(0), startMs, undefined, 0, Number.POSITIVE_INFINITY)
        : bench.kernel.seal(bench.id(0), startMs, undefined);
    expect(hex(written)).toBe(golden.bytes);
  });

  it('cover both encodings and every layout of the columnar one', () => {
    const chunks = goldens('chunks-1.json').map(bytesOf);
    expect(new Set(chunks.map((chunk) => chunk[0]))).toEqual(new Set([1, 2]));
    const columnar = chunks.filter((chunk) => chunk[0] === 2);
    expect(new Set(columnar.map((chunk) => (chunk[3] as number) & 0x7f))).toEqual(new Set([0, 1, 2]));
    expect(columnar.some((chunk) => (chunk[3] as number) >= 0x80)).toBe(true);
    expect(columnar.some((chunk) => chunk[2] === 0)).toBe(true);
    expect(columnar.some((chunk) => chunk[2] === 255)).toBe(true);
    expect(columnar.some((chunk) => (chunk[2] as number) > 0 && (chunk[2] as number) <= 32)).toBe(true);
  });
});

describe('log records', () => {
  it.each(goldens('records-1.json'))('$name', (golden) => {
    const samples = samplesOf(golden);
    const seriesCount = Math.max(...samples.map(({ ref }) => ref)) + 1;
    const reader = new Bench(seriesCount);
    const slice = reader.kernel.appendRecord(reader.refs, bytesOf(golden), true);
    expect(slice.acceptedCount).toBe(samples.length);
    expect(hex(slice.record)).toBe(golden.bytes);
    const writer = new Bench(seriesCount);
    expect(writer.append(samples).map(({ record }) => hex(record))).toEqual([golden.bytes]);
    for (const { ref, ms, bits } of samples) {
      expect(reader.read(ref, windowOf({ ref, ms, bits }))).toContainEqual([BigInt(Number(ms)), bits]);
    }
  });
});
