import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SilverbackError } from '../../core/errors.ts';
import { IngestKernel, type IngestKernelOptions } from '../../core/kernel/ingest.ts';
import { decodeIdentity, encodeIdentity, formatLabels, makeLabels } from '../../core/labels.ts';
import { label, type Pairs, type Series, sample, timeSeries, Writer, writeRequest } from './message.ts';
import { compress } from './snappy.ts';

const OPTIONS: IngestKernelOptions = {
  shardCount: 16,
  maxBodyBytes: 1 << 20,
  maxRawBytes: 4 << 20,
  maxLabelCount: 16,
  maxNameBytes: 64,
  maxValueBytes: 256,
  seed: new Uint8Array(8).fill(7),
};

/** Series text -> its samples as `timestamp:bits`, in the order they came. */
type Content = Map<string, string[]>;

interface Read {
  readonly content: Content;
  readonly refused: string[];
  readonly refusedSampleCount: number;
  readonly slices: number;
}

const bits = new DataView(new ArrayBuffer(8));
function bitsOf(value: number): bigint {
  bits.setFloat64(0, value);
  return bits.getBigUint64(0);
}

function read(kernel: IngestKernel, raw: Uint8Array, chunkBytes = 1000): Read {
  const body = compress(raw);
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < body.length; at += chunkBytes) chunks.push(body.subarray(at, at + chunkBytes));
  return readChunks(kernel, chunks);
}

function readChunks(kernel: IngestKernel, chunks: readonly Uint8Array[]): Read {
  const content: Content = new Map();
  const refused: string[] = [];
  let refusedSampleCount = 0;
  let slices = 0;
  const buffer = new ArrayBuffer(kernel.sliceBytes);
  kernel.begin(chunks);
  for (let done = false; !done; slices++) {
    const slice = kernel.next(buffer);
    done = slice.done;
    for (const one of slice.refused) {
      refused.push(one.message);
      refusedSampleCount += one.sampleCount;
    }
    for (const { shard, refs, counts, timestamps, values } of slice.batches) {
      const times = new DataView(timestamps.buffer, timestamps.byteOffset, timestamps.length);
      const numbers = new DataView(values.buffer, values.byteOffset, values.length);
      let at = 0;
      refs.forEach((ref, run) => {
        const key = `${shard} ${formatLabels(decodeIdentity(kernel.identity(shard, ref)))}`;
        const samples = content.get(key) ?? [];
        content.set(key, samples);
        for (let i = counts?.[run] ?? 1; i > 0; i--, at += 8) {
          samples.push(`${times.getBigInt64(at, true)}:${numbers.getBigUint64(at, true)}`);
        }
      });
      expect(at).toBe(timestamps.length);
      expect(at).toBe(values.length);
    }
  }
  return { content, refused, refusedSampleCount, slices };
}

/** MurmurHash3_x64_128's h1, by the book (aappleby/smhasher). */
function murmur(bytes: Uint8Array): bigint {
  const mask = (1n << 64n) - 1n;
  const rotate = (x: bigint, r: bigint) => ((x << r) | (x >> (64n - r))) & mask;
  const times = (a: bigint, b: bigint) => (a * b) & mask;
  const word = (from: number, end: number) => {
    let out = 0n;
    for (let i = Math.min(end, bytes.length) - 1; i >= from; i--) out = (out << 8n) | BigInt(bytes[i] as number);
    return out;
  };
  const c1 = 0x87c37b91114253d5n;
  const c2 = 0x4cf5ad432745937fn;
  const mix1 = (k: bigint) => times(rotate(times(k, c1), 31n), c2);
  const mix2 = (k: bigint) => times(rotate(times(k, c2), 33n), c1);
  let h1 = 0n;
  let h2 = 0n;
  let at = 0;
  for (; at + 16 <= bytes.length; at += 16) {
    h1 = (times((rotate(h1 ^ mix1(word(at, at + 8)), 27n) + h2) & mask, 5n) + 0x52dce729n) & mask;
    h2 = (times((rotate(h2 ^ mix2(word(at + 8, at + 16)), 31n) + h1) & mask, 5n) + 0x38495ab5n) & mask;
  }
  if (bytes.length - at > 8) h2 ^= mix2(word(at + 8, at + 16));
  if (bytes.length > at) h1 ^= mix1(word(at, at + 8));
  const final = (k: bigint) => {
    k = times(k ^ (k >> 33n), 0xff51afd7ed558ccdn);
    k = times(k ^ (k >> 33n), 0xc4ceb9fe1a85ec53n);
    return k ^ (k >> 33n);
  };
  h1 ^= BigInt(bytes.length);
  h2 ^= BigInt(bytes.length);
  h1 = (h1 + h2) & mask;
  h2 = (h2 + h1) & mask;
  return (final(h1) + final(h2)) & mask;
}

/** What the kernel must give for a request, slowly. */
function reference(series: readonly Series[]): Content {
  const content: Content = new Map();
  for (const { labels, samples } of series) {
    if (samples.length === 0) continue;
    const made = makeLabels(labels);
    const shard = murmur(encodeIdentity(made)) >> 60n;
    const key = `${shard} ${formatLabels(made)}`;
    const list = content.get(key) ?? [];
    content.set(key, list);
    for (const [t, v] of samples) list.push(`${t}:${typeof v === 'bigint' ? v : bitsOf(v)}`);
  }
  return content;
}

function failure(run: () => unknown): SilverbackError {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(SilverbackError);
    return error as SilverbackError;
  }
  throw new Error('nothing was thrown');
}

const name = fc.oneof(
  fc.constantFrom('a', 'b', 'ab', 'job', '__name__', 'é', '日本', '😀'),
  fc.string({ minLength: 1, maxLength: 8, unit: 'binary' }),
);
const value = fc.oneof(fc.constantFrom('', 'x', 'y'), fc.string({ maxLength: 40, unit: 'binary' }));
const pairs: fc.Arbitrary<Pairs> = fc
  .uniqueArray(fc.tuple(name, value), { minLength: 0, maxLength: 8, selector: ([n]) => n })
  .map((list) => [['id', 'i'], ...list.filter(([n]) => n !== 'id')]);
const number = fc.oneof(fc.double({ noDefaultInfinity: false }), fc.constantFrom(0, -0, 1, Number.NaN, 5e-324));
const time = fc.oneof(
  fc.constantFrom(0, 1, 127, 128, -1, -1_000),
  fc.integer({ min: 0, max: 2 ** 45 }),
  fc.integer({ min: 1_700_000_000_000, max: 1_800_000_000_000 }),
);
const requests = fc
  .array(fc.record({ labels: pairs, samples: fc.array(fc.tuple(time, number), { maxLength: 5 }) }), {
    minLength: 1,
    maxLength: 12,
  })
  .chain((series) =>
    // The same series again and again, in changing order: what the prediction lives on.
    fc.array(fc.array(fc.constantFrom(...series), { maxLength: 30 }), { minLength: 1, maxLength: 4 }),
  );

describe('ingest kernel', () => {
  it('reads what a slow parser reads, whatever came before', () => {
    fc.assert(
      fc.property(requests, fc.integer({ min: 1, max: 2000 }), (bodies, chunkBytes) => {
        const kernel = new IngestKernel(OPTIONS);
        for (const body of bodies) {
          const { content, refused } = read(kernel, writeRequest(body), chunkBytes);
          expect(refused).toEqual([]);
          expect(content).toEqual(reference(body));
        }
      }),
      { numRuns: 300 },
    );
  });

  it('gives a series one reference, from 0 on in each shard', () => {
    const kernel = new IngestKernel({ ...OPTIONS, shardCount: 1 });
    const series = Array.from(
      { length: 20_000 },
      (_, i): Series => ({ labels: [['n', String(i)]], samples: [[1, i]] }),
    );
    const refs = () => {
      const seen: number[] = [];
      const buffer = new ArrayBuffer(kernel.sliceBytes);
      kernel.begin([compress(writeRequest(series))]);
      for (let done = false; !done; ) {
        const slice = kernel.next(buffer);
        for (const batch of slice.batches) seen.push(...batch.refs);
        done = slice.done;
      }
      return seen;
    };
    const first = refs();
    expect(first).toEqual(series.map((_, i) => i));
    expect(refs()).toEqual(first);
    expect(kernel.seriesCount).toBe(20_000);
    series.reverse();
    expect(refs()).toEqual(first.reverse());
    expect(kernel.seriesCount).toBe(20_000);
    expect(failure(() => kernel.identity(0, 20_000)).code).toBe('INTERNAL');
  });

  it('reads one series that is longer than a slice', () => {
    const samples = Array.from({ length: 50_000 }, (_, i) => [1_700_000_000_000 + i, i] as const);
    const body: Series[] = [
      { labels: [['n', 'a']], samples },
      { labels: [['n', 'b']], samples: samples.slice(0, 10) },
    ];
    const { content, slices } = read(new IngestKernel(OPTIONS), writeRequest(body));
    expect(content).toEqual(reference(body));
    expect(slices).toBe(4);
  });

  it('takes fields in any order, labels last, and passes unknown fields over', () => {
    const unknown = new Writer()
      .varint(15 * 8)
      .varint(5)
      .field(16, new Uint8Array(3))
      .varint(17 * 8 + 5)
      .raw(new Uint8Array(4));
    const samples = Array.from({ length: 20_000 }, (_, i) => [1_700_000_000_000 + i, i] as const);
    const odd = new Writer().field(1, label('b', '2')).raw(unknown.bytes);
    for (const [t, v] of samples) {
      odd.field(
        2,
        new Writer().varint(0x10).varint(1).varint(0x10).varint(t).raw(unknown.bytes).varint(0x09).double(v).bytes,
      );
    }
    odd.field(3, new Uint8Array([0x11, 0, 0, 0, 0, 0, 0, 0, 0])).field(4, new Uint8Array(0));
    odd.field(1, new Writer().field(2, new Uint8Array([0x31])).field(1, new Uint8Array([0x61])).bytes);
    const body = new Writer()
      .raw(unknown.bytes)
      .field(1, odd.bytes)
      .field(3, new Uint8Array([8, 1]))
      .raw(unknown.bytes);
    const kernel = new IngestKernel(OPTIONS);
    for (let i = 0; i < 2; i++) {
      const { content } = read(kernel, body.bytes);
      expect(content).toEqual(
        reference([
          {
            labels: [
              ['a', '1'],
              ['b', '2'],
            ],
            samples,
          },
        ]),
      );
      expect(kernel.beside()).toEqual({ exemplarCount: 1, histogramCount: 1, metadataCount: 1 });
    }
  });

  it.each([
    ['no labels', [], 'series {}: it has no label with a value'],
    ['only empty values', [['a', '']], 'series {a=""}: it has no label with a value'],
    ['an empty name', [['', 'x']], 'the label with the value "x" has an empty name'],
    ['a long name', [['n'.repeat(65), 'x']], 'is 65 bytes long, at most 64 are allowed'],
    ['a long value', [['a', 'é'.repeat(129)]], 'the value of label "a" is 258 bytes long, at most 256 are allowed'],
    ['too many', Array.from({ length: 17 }, (_, i) => [`l${i}`, 'x']), 'it has 17 labels, at most 16 are allowed'],
    [
      'a repeated name',
      [
        ['a', '1'],
        ['b', '2'],
        ['a', '1'],
      ],
      'series {a="1", b="2", a="1"}: the label name "a" occurs more than once',
    ],
  ] as [string, Pairs, string][])('refuses a series with %s, and keeps the others', (_, labels, words) => {
    const good: Series = { labels: [['n', 'good']], samples: [[1, 1]] };
    const bad: Series = {
      labels,
      samples: [
        [1, 1],
        [2, 2],
        [3, 3],
      ],
    };
    const kernel = new IngestKernel(OPTIONS);
    for (let i = 0; i < 2; i++) {
      const out = read(kernel, writeRequest([bad, good, bad]));
      expect(out.content).toEqual(reference([good]));
      expect(out.refused).toHaveLength(2);
      expect(out.refused[0]).toContain(words);
      expect(out.refusedSampleCount).toBe(6);
      expect(kernel.seriesCount).toBe(1);
    }
  });

  it.each([
    ['a cut sequence', [0xe2, 0x82]],
    ['an overlong slash', [0xc0, 0xaf]],
    ['an overlong euro', [0xf0, 0x82, 0x82, 0xac]],
    ['a surrogate', [0xed, 0xa0, 0x80]],
    ['a code point past the last', [0xf4, 0x90, 0x80, 0x80]],
    ['a lone continuation', [0x61, 0x80]],
  ])('refuses %s in a name and in a value', (_, bytes) => {
    const text = new Uint8Array(bytes);
    for (const [field, words] of [
      [label(text, 'x'), 'the label name'],
      [label('ok', text), 'the value of label "ok"'],
    ] as const) {
      const series = new Writer().field(1, field).field(2, sample(1, 1)).bytes;
      const { refused } = read(new IngestKernel(OPTIONS), new Writer().field(1, series).bytes);
      expect(refused).toHaveLength(1);
      expect(refused[0]).toContain(words);
      expect(refused[0]).toContain('is not valid UTF-8');
    }
  });

  it('agrees with TextDecoder on what is UTF-8', () => {
    const decoder = new TextDecoder('utf-8', { fatal: true });
    const valid = (bytes: Uint8Array) => {
      try {
        decoder.decode(bytes);
        return true;
      } catch {
        return false;
      }
    };
    const lead = fc.constantFrom(
      0x41,
      0x7f,
      0x80,
      0xbf,
      0xc1,
      0xc2,
      0xdf,
      0xe0,
      0xed,
      0xef,
      0xf0,
      0xf4,
      0xf5,
      0xff,
      0x9f,
      0xa0,
      0x8f,
      0x90,
    );
    const kernel = new IngestKernel(OPTIONS);
    fc.assert(
      fc.property(fc.array(lead, { minLength: 1, maxLength: 12 }), (list) => {
        const bytes = new Uint8Array(list);
        const series = new Writer().field(1, label('a', bytes)).field(2, sample(1, 1)).bytes;
        const { refused } = read(kernel, new Writer().field(1, series).bytes);
        expect(refused.length === 0).toBe(valid(bytes));
      }),
      { numRuns: 500 },
    );
  });

  it.each<[string, Uint8Array, RegExp]>([
    ['nothing', new Uint8Array(0), /not snappy: the preamble.* at byte 0/],
    ['no preamble', new Uint8Array([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), /not snappy: the preamble/],
    ['less than declared', new Uint8Array([10, 0x04, 1, 2]), /not snappy: the body ends before .* at byte 4/],
    ['a literal past the end', new Uint8Array([10, 0x20, 1, 2]), /not snappy: a literal runs past .* at byte 1/],
    ['a copy before the start', new Uint8Array([10, 0x00, 1, 0x09, 5]), /not snappy: a copy reaches back .* at byte 3/],
    ['a copy of offset 0', new Uint8Array([10, 0x00, 1, 0x09, 0]), /not snappy: a copy reaches back/],
    ['more than declared', new Uint8Array([1, 0x04, 1, 2]), /not snappy: there is more data/],
    ['bytes after the end', new Uint8Array([1, 0x00, 0x78, 0, 0]), /not (snappy: bytes follow|a WriteRequest)/],
  ])('refuses a body of %s', (_, body, words) => {
    const error = failure(() => readChunks(new IngestKernel(OPTIONS), [body]));
    expect(error.code).toBe('INVALID_ARGUMENT');
    expect(error.message).toMatch(words);
  });

  it('takes a body without series', () => {
    expect(readChunks(new IngestKernel(OPTIONS), [new Uint8Array([0])]).content.size).toBe(0);
  });

  it.each<[string, Uint8Array, RegExp]>([
    ['a length past the end', new Uint8Array([0x0a, 5, 0x0a]), /a length runs past .* at byte 1 of the 3 decompressed/],
    ['a length with an endless varint', new Uint8Array([0x0a, ...new Array(12).fill(0xff)]), /varint/],
    ['series as a number', new Uint8Array([0x08, 1]), /wire type .* at byte 0/],
    ['field number 0', new Uint8Array([0x02, 0]), /number 0/],
    ['a group', new Uint8Array([0x7b, 0]), /wire type/],
    [
      'a sample with a cut value',
      new Writer().field(1, new Writer().field(1, label('a', 'b')).field(2, new Uint8Array([0x09, 1])).bytes).bytes,
      /length/,
    ],
    [
      'a label with a cut name',
      new Writer().field(1, new Writer().field(1, new Uint8Array([0x0a, 9])).field(2, sample(1, 1)).bytes).bytes,
      /length/,
    ],
    [
      'a timestamp as text',
      new Writer().field(1, new Writer().field(1, label('a', 'b')).field(2, new Uint8Array([0x12, 0])).bytes).bytes,
      /wire type/,
    ],
  ])('refuses a message with %s', (_, raw, words) => {
    const error = failure(() => read(new IngestKernel(OPTIONS), raw));
    expect(error.code).toBe('INVALID_ARGUMENT');
    expect(error.message).toMatch(/not a WriteRequest/);
    expect(error.message).toMatch(words);
  });

  it('bounds the body, compressed and not', () => {
    const kernel = new IngestKernel(OPTIONS);
    expect(failure(() => kernel.begin([new Uint8Array(OPTIONS.maxBodyBytes + 1)])).code).toBe('TOO_LARGE');
    const bomb = new Writer().varint(OPTIONS.maxRawBytes + 1).raw(new Uint8Array(10));
    const error = failure(() => kernel.begin([bomb.bytes]));
    expect(error.code).toBe('TOO_LARGE');
    expect(error.message).toContain(
      `${OPTIONS.maxRawBytes + 1} bytes once decompressed, at most ${OPTIONS.maxRawBytes}`,
    );
    expect(read(kernel, writeRequest([{ labels: [['a', 'b']], samples: [[1, 1]] }])).content.size).toBe(1);
  });

  it('survives hostile bytes, compressed and not, and reads well afterwards', () => {
    const kernel = new IngestKernel(OPTIONS);
    const good: Series[] = Array.from({ length: 40 }, (_, i) => ({
      labels: [
        ['__name__', 'm'],
        ['i', String(i)],
      ],
      samples: [
        [1_700_000_000_000, i],
        [1_700_000_015_000, 0],
      ],
    }));
    const raw = writeRequest(good);
    const wire = compress(raw);
    const flips = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(flips, fc.boolean(), fc.option(fc.nat()), (changes, inside, cut) => {
        const bytes = (inside ? raw : wire).slice();
        for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
        const body = cut === null ? bytes : bytes.subarray(0, cut % bytes.length);
        try {
          if (inside) read(kernel, body);
          else readChunks(kernel, [body]);
        } catch (error) {
          expect(error).toBeInstanceOf(SilverbackError);
          expect((error as SilverbackError).httpStatus).toBeLessThan(500);
        }
        expect(read(kernel, raw).content).toEqual(reference(good));
      }),
      { numRuns: 1500 },
    );
  });

  it('finds every series again while its table grows', () => {
    const kernel = new IngestKernel({ ...OPTIONS, maxRawBytes: 64 << 20, maxBodyBytes: 64 << 20 });
    const series = Array.from(
      { length: 30_000 },
      (_, i): Series => ({ labels: [['n', `value ${i}`]], samples: [[i, i]] }),
    );
    const identities = new Map<string, string>();
    let wrong = 0;
    for (let step = 0; step < 30; step++) {
      const some = series.filter((_, i) => i < (step + 1) * 1000);
      if (step % 2 === 1) some.reverse();
      const buffer = new ArrayBuffer(kernel.sliceBytes);
      kernel.begin([compress(writeRequest(some))]);
      for (let done = false; !done; ) {
        const slice = kernel.next(buffer);
        done = slice.done;
        for (const { shard, refs, values } of slice.batches) {
          const numbers = new Float64Array(values.buffer, values.byteOffset, refs.length);
          refs.forEach((ref, i) => {
            const key = `${shard}/${ref}`;
            const known = identities.get(key) ?? String(numbers[i]);
            identities.set(key, known);
            if (known !== String(numbers[i])) wrong++;
          });
        }
      }
      expect(wrong).toBe(0);
      expect(kernel.seriesCount).toBe((step + 1) * 1000);
    }
  });

  it('describes all refused series of a body of nothing else', () => {
    const bad: Series[] = Array.from({ length: 200 }, (_, i) => ({ labels: [['', `v${i}`]], samples: [[1, 1]] }));
    const out = read(new IngestKernel(OPTIONS), timeSeriesList(bad));
    expect(out.refused).toHaveLength(200);
    expect(out.refusedSampleCount).toBe(200);
  });
});

function timeSeriesList(series: readonly Series[]): Uint8Array {
  const out = new Writer();
  for (const one of series) out.field(1, timeSeries(one));
  return out.bytes;
}
