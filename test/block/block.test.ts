import { readFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Block, bytesSource, createBlock, openBlock } from '../../core/block.ts';
import { Seeded } from '../sim/random.ts';

const HEADER = { shard: 5, windowStartMs: 1_767_225_600_000, windowLengthMs: 7_200_000 };

interface Series {
  readonly identity: Uint8Array;
  readonly chunks: readonly Uint8Array[];
}

function build(series: readonly Series[], digests: Uint8Array): Uint8Array {
  const writer = createBlock(HEADER);
  for (const { identity, chunks } of series) {
    writer.series(identity);
    for (const chunk of chunks) writer.chunk(chunk, 3);
  }
  const { parts, byteLength } = writer.finish(digests);
  const bytes = Buffer.concat(parts);
  expect(bytes.length).toBe(byteLength);
  return bytes;
}

async function readBack(block: Block): Promise<Series[]> {
  const { firstChunk, chunkStart } = await block.index();
  const chunks = await block.chunks();
  expect(chunks.buffer).toBeInstanceOf(SharedArrayBuffer);
  const series: Series[] = [];
  for await (const identities of block.identities()) {
    for (const identity of identities) {
      const own: Uint8Array[] = [];
      for (let c = firstChunk[series.length]!; c < firstChunk[series.length + 1]!; c++) {
        own.push(Uint8Array.from(chunks.subarray(chunkStart[c], chunkStart[c + 1])));
      }
      series.push({ identity: Uint8Array.from(identity), chunks: own });
    }
  }
  return series;
}

/** Short enough to be compared and printed. */
function brief(series: readonly Series[]): string[] {
  return series.map(
    (s) => `${Buffer.from(s.identity).toString('hex')}: ${s.chunks.map((c) => `${c.length}/${crc32(c)}`)}`,
  );
}

function generate(seed: number, seriesCount: number, chunkBytes: number): { series: Series[]; digests: Uint8Array } {
  const random = new Seeded(seed);
  const series: Series[] = [];
  for (let i = 0; i < seriesCount; i++) {
    const identity = Buffer.concat([Buffer.from(`name${String(i).padStart(8, '0')}`), random.bytes(random.int(0, 20))]);
    const count = random.chance(0.9) ? 1 : random.int(2, 5);
    const chunks = Array.from({ length: count }, () => random.bytes(random.int(0, chunkBytes)));
    series.push({ identity: Uint8Array.from(identity), chunks });
  }
  const digests = new Uint8Array(4096);
  for (let b = 0; b < 256; b++) if (random.chance(0.5)) digests.set(random.bytes(16), b * 16);
  return { series, digests };
}

/** The content of the golden file. The 16-byte words are the digests of buckets 0, 7, 8 and 255. */
function golden(): Uint8Array {
  const series = ['a', 'ab', 'b\xff'].map((name, i) => ({
    identity: Uint8Array.from(Buffer.from(name, 'latin1')),
    chunks: Array.from({ length: i + 1 }, (_, c) => new Uint8Array(40 * (c + 1)).fill(i * 16 + c)),
  }));
  const digests = new Uint8Array(4096);
  for (const bucket of [0, 7, 8, 255]) digests.fill(bucket + 1, bucket * 16, bucket * 16 + 16);
  return build(series, digests);
}

describe('block', () => {
  test('what goes in comes out, over pages, slabs and label slices', async () => {
    for (const [seed, count, bytes] of [
      [1, 0, 1],
      [2, 1, 10],
      [3, 300, 3000],
      [4, 9000, 60],
    ] as const) {
      const { series, digests } = generate(seed, count, bytes);
      const block = await openBlock(bytesSource(build(series, digests)), 'x.block');
      expect(block).toMatchObject({ ...HEADER, seriesCount: count });
      expect(block.sampleCount).toBe(3 * series.reduce((sum, s) => sum + s.chunks.length, 0));
      expect(brief(await readBack(block))).toEqual(brief(series));
      expect(Buffer.compare(await block.digests(), digests)).toBe(0);
      await block.verify();
    }
  });

  test('a part of the chunks is read without the rest', async () => {
    const { series, digests } = generate(5, 400, 2000);
    const block = await openBlock(bytesSource(build(series, digests)), 'x.block');
    const all = await block.chunks();
    await fc.assert(
      fc.asyncProperty(fc.nat(all.length), fc.nat(all.length), async (a, b) => {
        const [start, end] = a < b ? [a, b] : [b, a];
        expect(Buffer.compare(await block.readChunks(start, end), all.subarray(start, end))).toBe(0);
      }),
      { numRuns: 100 },
    );
  });

  test('the same content gives the same bytes', () => {
    const { series, digests } = generate(6, 50, 100);
    expect(Buffer.compare(build(series, digests), build(series, digests))).toBe(0);
  });

  test('every flipped bit and every cut is found, and the message names file and offset', async () => {
    const { series, digests } = generate(7, 40, 300);
    const bytes = build(series, digests);
    const check = async (damaged: Uint8Array) => (await openBlock(bytesSource(damaged), 'w.block')).verify();
    const random = new Seeded(8);
    for (let i = 0; i < 600; i++) {
      const damaged = Uint8Array.from(bytes);
      damaged[i < 200 ? i % bytes.length : random.int(0, bytes.length)]! ^= 1 << random.int(0, 8);
      await expect(check(damaged)).rejects.toMatchObject({
        code: 'CORRUPT',
        message: expect.stringMatching(/^w\.block: .*offset \d+/),
      });
    }
    for (let i = 0; i < 50; i++) {
      await expect(check(bytes.subarray(0, random.int(0, bytes.length)))).rejects.toMatchObject({ code: 'CORRUPT' });
    }
  });

  test('series out of order, or without a chunk, are a broken invariant', () => {
    const writer = createBlock(HEADER);
    writer.series(Uint8Array.of(2));
    expect(() => writer.series(Uint8Array.of(3))).toThrow(/without a chunk/);
    writer.chunk(Uint8Array.of(1), 1);
    expect(() => writer.series(Uint8Array.of(2))).toThrow(/out of order/);
  });

  test('the golden block decodes, and is made again bit for bit', async () => {
    const bytes = readFileSync(new URL('../golden/block-1.bin', import.meta.url));
    const block = await openBlock(bytesSource(bytes), 'block-1.bin');
    await block.verify();
    const series = await readBack(block);
    expect(
      series.map((s) => [Buffer.from(s.identity).toString('latin1'), s.chunks.map((c) => `${c.length}x${c[0]}`)]),
    ).toEqual([
      ['a', ['40x0']],
      ['ab', ['40x16', '80x17']],
      ['b\xff', ['40x32', '80x33', '120x34']],
    ]);
    expect((await block.digests())[255 * 16]).toBe(0);
    expect((await block.digests())[8 * 16]).toBe(9);
    expect(Buffer.compare(golden(), bytes)).toBe(0);
  });
});
