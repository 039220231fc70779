import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SilverbackError } from '../../core/errors.ts';
import { IngestKernel, type IngestKernelOptions, type WriteVersion } from '../../core/kernel/ingest.ts';
import { decodeIdentity, formatLabels } from '../../core/labels.ts';
import { label, type Series, sample, Writer, writeRequest } from './message.ts';
import { packed, Symbols, secondRequest, secondSeries } from './message2.ts';
import { compress } from './snappy.ts';

const OPTIONS: IngestKernelOptions = {
  shardCount: 16,
  maxBodyBytes: 1 << 20,
  maxRawBytes: 16 << 20,
  maxLabelCount: 16,
  maxNameBytes: 64,
  maxValueBytes: 256,
  seed: new Uint8Array(8).fill(7),
};

/** Shard, reference and labels -> timestamps and bits of the values. */
function read(kernel: IngestKernel, raw: Uint8Array, version: WriteVersion) {
  const content = new Map<string, string>();
  const refused: string[] = [];
  const buffer = new ArrayBuffer(kernel.sliceBytes);
  kernel.begin([compress(raw)], version);
  for (let done = false; !done; ) {
    const slice = kernel.next(buffer);
    done = slice.done;
    for (const { message } of slice.refused) refused.push(message);
    for (const { shard, refs, counts, timestamps, values } of slice.batches) {
      let at = 0;
      refs.forEach((ref, run) => {
        const key = `${shard} ${ref} ${formatLabels(decodeIdentity(kernel.identity(shard, ref)))}`;
        const end = at + 8 * (counts?.[run] ?? 1);
        const hex = (bytes: Uint8Array) => Buffer.from(bytes.subarray(at, end)).toString('hex');
        content.set(key, `${content.get(key) ?? ''} ${hex(timestamps)}=${hex(values)}`);
        at = end;
      });
    }
  }
  return { content, refused };
}

function failure(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(SilverbackError);
    expect((error as SilverbackError).code).toBe('INVALID_ARGUMENT');
    return (error as Error).message;
  }
  throw new Error('nothing was thrown');
}

const series = fc.array(
  fc.record({
    labels: fc
      .uniqueArray(fc.tuple(fc.string({ minLength: 1, maxLength: 4 }), fc.string({ maxLength: 200 })), {
        maxLength: 6,
        selector: ([name]) => name,
      })
      .map((list): Series['labels'] => [['id', 'i'], ...list.filter(([name]) => name !== 'id')]),
    samples: fc.array(fc.tuple(fc.integer({ min: -5, max: 2 ** 45 }), fc.double()), { minLength: 1, maxLength: 4 }),
  }),
  { maxLength: 20 },
);

describe('remote write 2.0 in the ingest kernel', () => {
  it('gives the same columns and references as 1.0, in one table of series', () => {
    fc.assert(
      fc.property(fc.array(series, { minLength: 1, maxLength: 3 }), (bodies) => {
        const kernel = new IngestKernel(OPTIONS);
        for (const body of bodies) {
          const first = read(kernel, writeRequest(body), 1);
          const known = kernel.seriesCount;
          expect(read(kernel, secondRequest(body), 2)).toEqual(first);
          expect(kernel.seriesCount).toBe(known);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('takes symbols behind the series, references that are not packed or come last, and a series over many slices', () => {
    const symbols = new Symbols();
    const labels = [
      ['__name__', 'up'],
      ['job', 'api'],
    ] as const;
    const samples = Array.from({ length: 40_000 }, (_, i) => [1_700_000_000_000 + i, i] as const);
    const odd = new Writer();
    for (const [t, v] of samples) odd.field(2, sample(t, v));
    for (const reference of symbols.references(labels)) odd.varint(0x08).varint(reference);
    const raw = new Writer().field(5, odd.bytes).raw(symbols.fields).bytes;
    const kernel = new IngestKernel(OPTIONS);
    expect(read(kernel, raw, 2).content.size).toBe(1);
    const joined = (version: WriteVersion, bytes: Uint8Array) =>
      [...read(kernel, bytes, version).content.values()].join().length;
    expect(joined(2, raw)).toBe(joined(1, writeRequest([{ labels, samples }])));
  });

  it('indexes a table of symbols that is longer than a slice', () => {
    const many = Array.from(
      { length: 60_000 },
      (_, i): Series => ({ labels: [['n', `${i}-${'x'.repeat(90)}`]], samples: [[1_700_000_000_000, i]] }),
    );
    const kernel = new IngestKernel(OPTIONS);
    expect(read(kernel, secondRequest(many), 2).content.size).toBe(60_000);
  });

  it('counts histograms and exemplars, and leaves out a series with nothing in it', () => {
    const symbols = new Symbols();
    const full = secondSeries(symbols, { labels: [['n', 'a']], samples: [[1, 1]] })
      .field(3, new Uint8Array(0))
      .field(4, new Uint8Array(0))
      .field(4, new Uint8Array(0))
      .field(5, new Writer().varint(0x08).varint(1).bytes);
    const empty = secondSeries(symbols, { labels: [['n', 'b']], samples: [] });
    const kernel = new IngestKernel(OPTIONS);
    const raw = new Writer().raw(symbols.fields).field(5, full.bytes).field(5, empty.bytes).bytes;
    expect(read(kernel, raw, 2).content.size).toBe(1);
    expect(kernel.beside()).toMatchObject({ exemplarCount: 2, histogramCount: 1 });
    expect(kernel.seriesCount).toBe(1);
  });

  it('refuses a series whose labels break a rule, by name, and keeps the others', () => {
    const good: Series = { labels: [['n', 'good']], samples: [[1, 1]] };
    const bad: Series = {
      labels: [
        ['a', '1'],
        ['b', '2'],
        ['a', '3'],
      ],
      samples: [[1, 1]],
    };
    const long: Series = {
      labels: Array.from({ length: 400 }, (_, i) => [`l${i}`, 'x'.repeat(200)] as const),
      samples: [[1, 1]],
    };
    const { content, refused } = read(new IngestKernel(OPTIONS), secondRequest([bad, good, long]), 2);
    expect(content.size).toBe(1);
    expect(refused[0]).toContain('series {a="1", b="2", a="3"}: the label name "a" occurs more than once');
    expect(refused[1]).toContain('at most 65536 are allowed');
  });

  it.each<[string, Uint8Array, string]>([
    [
      'a reference past the symbols',
      new Writer().field(4, new Uint8Array(0)).field(5, new Writer().field(1, packed([0, 1])).bytes).bytes,
      'a reference is past the end of the symbols',
    ],
    [
      'an odd number of references',
      new Writer().field(4, new Uint8Array(0)).field(5, new Writer().field(1, packed([0])).bytes).bytes,
      'an odd number of references',
    ],
    ['a body of 1.0', writeRequest([{ labels: [['n', 'a']], samples: [[1, 1]] }]), 'the body may be of 1.0'],
    ['a number where a series should be', new Writer().varint(0x28).varint(1).bytes, 'a wire type'],
    [
      'a text where samples should be',
      new Writer().field(5, new Writer().varint(0x10).varint(1).bytes).bytes,
      'wire type',
    ],
    [
      'labels of 1.0',
      new Writer().field(5, new Writer().field(1, label('a', 'b')).bytes).bytes,
      'past the end of the symbols',
    ],
  ])('refuses %s', (_, raw, words) => {
    expect(failure(() => read(new IngestKernel(OPTIONS), raw, 2))).toContain(words);
  });

  it('is refused as a body of 1.0, unless that has something of 1.0 too', () => {
    const raw = secondRequest([{ labels: [['n', 'a']], samples: [[1, 1]] }]);
    const kernel = new IngestKernel(OPTIONS);
    expect(failure(() => read(kernel, raw, 1))).toMatch(
      /not a WriteRequest: it has a field of 2.0 .*, at byte 0 of the/,
    );
    for (const field of [4, 5]) {
      const only = new Writer().field(field, new Uint8Array(3)).bytes;
      expect(failure(() => read(kernel, only, 1))).toContain('the body may be of 2.0');
      const both = new Writer().raw(only).raw(writeRequest([{ labels: [['n', 'a']], samples: [[1, 1]] }])).bytes;
      expect(read(kernel, both, 1).content.size).toBe(1);
      expect(read(kernel, new Writer().raw(only).field(3, new Uint8Array(0)).bytes, 1).content.size).toBe(0);
    }
    // What neither has may come some day.
    expect(read(kernel, new Writer().field(9, new Uint8Array(3)).bytes, 1).content.size).toBe(0);
    expect(read(kernel, new Uint8Array(0), 1).content.size).toBe(0);
  });

  it('refuses a body cut anywhere, or with a byte changed, or takes it, but never falls', () => {
    const body: Series[] = Array.from({ length: 5 }, (_, i) => ({
      labels: [['n', `a${i}`]],
      samples: [[1_700_000_000_000, i + 0.5]],
    }));
    const raw = secondRequest(body);
    const kernel = new IngestKernel(OPTIONS);
    const attempt = (bytes: Uint8Array): void => {
      try {
        read(kernel, bytes, 2);
      } catch (error) {
        expect((error as SilverbackError).code).toBe('INVALID_ARGUMENT');
      }
    };
    for (let end = 0; end < raw.length; end++) attempt(raw.slice(0, end));
    for (let at = 0; at < raw.length; at++) {
      for (const change of [0x01, 0x80, 0xff]) {
        const changed = raw.slice();
        changed[at] = (changed[at] as number) ^ change;
        attempt(changed);
      }
    }
    expect(read(kernel, raw, 2).content.size).toBe(5);
  });
});
