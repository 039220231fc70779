import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SilverbackError } from '../../core/errors.ts';
import { IngestKernel, type IngestKernelOptions, type WriteVersion } from '../../core/kernel/ingest.ts';
import { decodeIdentity, formatLabels, makeLabels } from '../../core/labels.ts';
import {
  exemplar,
  labelFields,
  metricMetadata,
  type Pairs,
  sample,
  type TestExemplar,
  type TestMetadata,
  timeSeries,
  Writer,
} from './message.ts';
import { Symbols, secondExemplar, secondMetadata, secondSeries } from './message2.ts';
import { compress } from './snappy.ts';

const OPTIONS: IngestKernelOptions = {
  shardCount: 16,
  maxBodyBytes: 4 << 20,
  maxRawBytes: 16 << 20,
  maxLabelCount: 16,
  maxNameBytes: 64,
  maxValueBytes: 256,
  seed: new Uint8Array(8).fill(7),
};

interface Read {
  /** Series -> samples as hexadecimal, in order. */
  readonly samples: Record<string, string>;
  /** `series labels@time=value`, in order. */
  readonly exemplars: string[];
  readonly metadata: TestMetadata[];
  readonly refused: string[];
  readonly sliceCount: number;
}

function read(kernel: IngestKernel, raw: Uint8Array, version: WriteVersion): Read {
  const out = { samples: {} as Record<string, string>, exemplars: [] as string[], metadata: [] as TestMetadata[] };
  const refused: string[] = [];
  const buffer = new ArrayBuffer(kernel.sliceBytes);
  kernel.begin([compress(raw)], version);
  for (let sliceCount = 1; ; sliceCount++) {
    const slice = kernel.next(buffer);
    for (const { shard, refs, counts, timestamps, values } of slice.batches) {
      let at = 0;
      refs.forEach((ref, run) => {
        const series = formatLabels(decodeIdentity(kernel.identity(shard, ref)));
        for (let i = counts?.[run] ?? 1; i > 0; i--, at += 8) {
          const hex = (bytes: Uint8Array) => Buffer.from(bytes.subarray(at, at + 8)).toString('hex');
          out.samples[series] = `${out.samples[series] ?? ''} ${hex(timestamps)}=${hex(values)}`;
        }
      });
    }
    for (const { identity, exemplar: one } of slice.notes.exemplars) {
      const [series, labels] = [identity, one.labels].map((bytes) => formatLabels(decodeIdentity(bytes)));
      out.exemplars.push(`${series} ${labels}@${one.timestampMs}=${one.value}`);
    }
    out.metadata.push(...slice.notes.metadata);
    refused.push(...slice.notes.refusedExemplars);
    if (slice.done) return { ...out, refused, sliceCount };
  }
}

/** What one series of a body has, in the order in which the message has it. */
type Part =
  | { readonly kind: 'sample'; readonly timestampMs: number; readonly value: number }
  | { readonly kind: 'exemplar'; readonly exemplar: TestExemplar }
  | { readonly kind: 'metadata'; readonly metadata: TestMetadata };

interface Made {
  readonly labels: Pairs;
  readonly parts: readonly Part[];
  /** Before which part the labels come, all of them or only the last. */
  readonly labelsAt: number;
  readonly isSplit: boolean;
}

const made = fc.record({
  id: fc.integer({ min: 0, max: 5 }),
  isSplit: fc.boolean(),
  labelsAt: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 6 })),
  parts: fc.array(
    fc.oneof(
      fc.record({
        kind: fc.constant('sample' as const),
        timestampMs: fc.integer({ min: 0, max: 2 ** 42 }),
        value: fc.double({ noNaN: true }),
      }),
      fc.record({
        kind: fc.constant('exemplar' as const),
        exemplar: fc.record({
          labels: fc.uniqueArray(
            fc.tuple(
              fc.string({ minLength: 1, maxLength: 5, unit: 'binary' }),
              fc.string({ minLength: 1, maxLength: 20, unit: 'binary' }),
            ),
            { maxLength: 3, selector: ([name]) => name },
          ),
          timestampMs: fc.integer({ min: 0, max: 2 ** 42 }),
          value: fc.double({ noNaN: true }),
        }),
      }),
      fc.record({
        kind: fc.constant('metadata' as const),
        metadata: fc.record({
          name: fc.string({ minLength: 1, maxLength: 10 }),
          type: fc.integer({ min: 0, max: 2 }),
          help: fc.string({ maxLength: 30, unit: 'binary' }),
          unit: fc.string({ maxLength: 5 }),
        }),
      }),
    ),
    { maxLength: 8 },
  ),
});
const bodies = fc.array(
  made.map(
    ({ id, ...rest }): Made => ({
      labels: [
        ['__name__', `m${id % 2}`],
        ['id', `${id}`],
      ],
      ...rest,
    }),
  ),
  { maxLength: 12 },
);

const isSample = ({ kind }: Part): boolean => kind === 'sample';

/** `bare`: without what the body has beside samples. */
function body(version: WriteVersion, list: readonly Made[], bare: boolean): Uint8Array {
  const symbols = new Symbols();
  const out = new Writer();
  for (const { labels, parts, labelsAt, isSplit } of list) {
    const message = new Writer();
    const before = new Writer();
    const kept = parts.filter((part) => !bare || isSample(part));
    const fieldsOf = (pairs: Pairs): Uint8Array =>
      version === 1 ? labelFields(pairs) : secondSeries(symbols, { labels: pairs, samples: [] }).bytes;
    const early = isSplit ? labels.slice(0, 1) : [];
    const labelBytes = fieldsOf(labels.slice(early.length));
    if (early.length > 0) message.raw(fieldsOf(early));
    for (const [i, part] of parts.entries()) {
      if (i === Math.min(labelsAt, parts.length - 1)) message.raw(labelBytes);
      if (!kept.includes(part)) continue;
      if (part.kind === 'sample') message.field(2, sample(part.timestampMs, part.value));
      else if (version === 1) {
        if (part.kind === 'exemplar') message.field(3, exemplar(part.exemplar));
        else before.field(3, metricMetadata(part.metadata));
      } else if (part.kind === 'exemplar') message.field(4, secondExemplar(symbols, part.exemplar));
      else message.field(5, secondMetadata(symbols, part.metadata));
    }
    if (parts.length === 0) message.raw(labelBytes);
    out.raw(before.bytes).field(version === 1 ? 1 : 5, message.bytes);
  }
  return version === 1 ? out.bytes : new Writer().raw(symbols.fields).raw(out.bytes).bytes;
}

describe('exemplars and metadata in the ingest kernel', () => {
  it.each([1, 2] as const)('are found wherever they lie in a body of %s.0, and change no sample', (version) => {
    fc.assert(
      fc.property(fc.array(bodies, { minLength: 1, maxLength: 3 }), (lists) => {
        const kernel = new IngestKernel(OPTIONS);
        for (const list of lists) {
          kernel.forgetMetadata();
          const { samples, exemplars, metadata, refused } = read(kernel, body(version, list, false), version);
          expect(samples).toEqual(read(kernel, body(version, list, true), version).samples);
          expect(refused).toEqual([]);
          const expected = list.flatMap(({ labels, parts }) =>
            parts.flatMap((part) => {
              if (part.kind !== 'exemplar') return [];
              const { labels: own, timestampMs, value } = part.exemplar;
              return [`${formatLabels(makeLabels(labels))} ${formatLabels(makeLabels(own))}@${timestampMs}=${value}`];
            }),
          );
          expect(exemplars).toEqual(expected);
          const looked = new Set<string>();
          const told = list.flatMap(({ labels, parts }) =>
            parts.flatMap((part) => {
              if (part.kind !== 'metadata') return [];
              if (version === 1) return [part.metadata];
              // A series with nothing but metadata is none, and the first word of the others is enough.
              const key = JSON.stringify(labels);
              if (looked.has(key) || parts.every(({ kind }) => kind === 'metadata')) return [];
              looked.add(key);
              return [{ ...part.metadata, name: (labels[0] as readonly [string, string])[1] }];
            }),
          );
          const texts = (entries: readonly TestMetadata[]) =>
            [...new Set(entries.map(({ name, type, help, unit }) => JSON.stringify([name, type, help, unit])))].sort();
          expect(texts(metadata)).toEqual(texts(told));
        }
      }),
      { numRuns: 150 },
    );
  });

  it.each([1, 2] as const)('end a slice of %s.0 early when there are many, and none is lost', (version) => {
    const symbols = new Symbols();
    const labels = [['__name__', 'm']] as const;
    const message =
      version === 1 ? new Writer().raw(labelFields(labels)) : secondSeries(symbols, { labels, samples: [] });
    const count = 10_000;
    for (let i = 0; i < count; i++) {
      const one = { labels: [['n', `${i}`]] as const, timestampMs: i, value: i };
      message.field(2, sample(i, i));
      message.field(version === 1 ? 3 : 4, version === 1 ? exemplar(one) : secondExemplar(symbols, one));
    }
    const raw =
      version === 1
        ? new Writer().field(1, message.bytes).bytes
        : new Writer().raw(symbols.fields).field(5, message.bytes).bytes;
    const { samples, exemplars, sliceCount } = read(new IngestKernel(OPTIONS), raw, version);
    expect(sliceCount).toBe(3);
    expect(exemplars).toEqual(Array.from({ length: count }, (_, i) => `m {n="${i}"}@${i}=${i}`));
    expect(samples['m']?.split(' ')).toHaveLength(count + 1);
  });

  it('a body of 1.0 with nothing but metadata, more than a slice notes, gives each entry once', () => {
    const out = new Writer();
    const entries = Array.from({ length: 9_000 }, (_, i) => ({
      name: `m${i}`,
      type: i % 8,
      help: `Help ${i}`,
      unit: '',
    }));
    for (const one of entries) out.field(3, metricMetadata(one)).field(3, metricMetadata(one));
    const kernel = new IngestKernel(OPTIONS);
    const { metadata } = read(kernel, out.bytes, 1);
    const key = ({ name, type, help, unit }: TestMetadata) => JSON.stringify([name, type, help, unit]);
    expect(new Set(metadata.map(key))).toEqual(new Set(entries.map(key)));
    // But for those that share a slot with another.
    expect(metadata.length).toBeLessThan(9_000 + 1_500);
    expect(read(kernel, out.bytes, 1).metadata.length).toBeLessThan(3_000);
    kernel.forgetMetadata();
    expect(read(kernel, out.bytes, 1).metadata).toHaveLength(metadata.length);
    expect(kernel.beside().metadataCount).toBe(18_000);
  });

  it('metadata of 2.0 is that of the family of a series', () => {
    const symbols = new Symbols();
    const out = new Writer();
    for (const [name, type] of [
      ['h_bucket', 3],
      ['h_count', 3],
      ['s_sum', 5],
      ['c_total', 1],
      ['g_sum', 2],
      ['gh_gcount', 4],
      ['n', 99],
    ] as const) {
      const series = secondSeries(symbols, { labels: [['__name__', name]], samples: [[1, 1]] });
      out.field(5, series.field(5, secondMetadata(symbols, { type, help: 'H', unit: 'u' })).bytes);
    }
    const nameless = secondSeries(symbols, { labels: [['a', 'b']], samples: [[1, 1]] });
    out.field(5, nameless.field(5, secondMetadata(symbols, { type: 1, help: 'H', unit: '' })).bytes);
    const { metadata } = read(new IngestKernel(OPTIONS), new Writer().raw(symbols.fields).raw(out.bytes).bytes, 2);
    expect(metadata.map(({ name, type }) => [name, type])).toEqual([
      ['h', 3],
      ['h', 3],
      ['s', 5],
      ['c_total', 1],
      ['g_sum', 2],
      ['gh', 4],
      ['n', 99],
    ]);
  });

  const series = (message: Uint8Array): Uint8Array => {
    const one = timeSeries({ labels: [['__name__', 'm']], samples: [[1, 1]] });
    return new Writer().field(1, new Writer().raw(one).field(3, message).bytes).bytes;
  };

  it.each<[string, Uint8Array, string]>([
    ['128 characters of four bytes', exemplar({ labels: [['n', '𝛼'.repeat(127)]], timestampMs: 1, value: 1 }), ''],
    [
      '129 characters',
      exemplar({ labels: [['n', 'x'.repeat(128)]], timestampMs: 1, value: 1 }),
      'exemplar of series m: the names and values of its labels have 129 characters together, at most 128 are allowed',
    ],
    ['a megabyte', exemplar({ labels: [['n', 'x'.repeat(1e6)]], timestampMs: 1, value: 1 }), 'at most 128 are allowed'],
    ['an empty name', exemplar({ labels: [['', 'x']], timestampMs: 1, value: 1 }), 'has an empty name'],
    [
      'a name twice',
      exemplar({
        labels: [
          ['n', 'x'],
          ['n', 'y'],
        ],
        timestampMs: 1,
        value: 1,
      }),
      'label name "n" occurs twice',
    ],
    ['a time before 1970', exemplar({ labels: [], timestampMs: -1, value: 1 }), 'its timestamp -1 is not'],
    [
      'bytes that are no UTF-8',
      new Writer().field(1, new Writer().field(1, Uint8Array.of(0xff)).field(2, Uint8Array.of(65)).bytes).bytes,
      'is not UTF-8',
    ],
  ])('an exemplar with %s', (_, message, words) => {
    const { samples, exemplars, refused } = read(new IngestKernel(OPTIONS), series(message), 1);
    expect(Object.keys(samples)).toEqual(['m']);
    expect(exemplars).toHaveLength(words === '' ? 1 : 0);
    expect(refused).toHaveLength(words === '' ? 0 : 1);
    if (words !== '') expect(refused[0]).toContain(words);
  });

  it.each([1, 2] as const)('a body of %s.0 with a byte changed is refused, or taken, but nothing falls', (version) => {
    const list: Made[] = [0, 1, 2].map((i) => ({
      labels: [
        ['__name__', `m${i}`],
        ['id', `${i}`],
      ],
      labelsAt: i,
      isSplit: false,
      parts: [
        { kind: 'sample', timestampMs: 1_700_000_000_000, value: i },
        { kind: 'exemplar', exemplar: { labels: [['t', 'a']], timestampMs: 1_700_000_000_000, value: 1 } },
        { kind: 'metadata', metadata: { name: 'm', type: 1, help: 'Help.', unit: 's' } },
      ],
    }));
    const raw = body(version, list, false);
    const kernel = new IngestKernel(OPTIONS);
    for (let at = 0; at < raw.length; at++) {
      for (const change of [0x01, 0x04, 0x80, 0xff]) {
        const changed = raw.slice();
        changed[at] = (changed[at] as number) ^ change;
        kernel.forgetMetadata();
        try {
          read(kernel, changed, version);
        } catch (error) {
          if (!(error instanceof SilverbackError)) throw error;
          expect(error.code).toBe('INVALID_ARGUMENT');
        }
      }
    }
    kernel.forgetMetadata();
    const { exemplars, metadata } = read(kernel, raw, version);
    expect([exemplars.length, metadata.length]).toEqual([3, version === 1 ? 1 : 3]);
  });

  it('an exemplar or metadata that is no message makes the body none', () => {
    for (const broken of [
      Uint8Array.of(0x0a),
      Uint8Array.of(0x0a, 5, 1),
      Uint8Array.of(0x11, 1, 2),
      Uint8Array.of(0x18, 0x80),
      Uint8Array.of(0x0b),
      new Uint8Array(12).fill(0x80),
    ]) {
      for (const raw of [series(broken), new Writer().field(3, broken).bytes]) {
        const attempt = () => read(new IngestKernel(OPTIONS), raw, 1);
        expect(attempt).toThrow(SilverbackError);
        expect(attempt).toThrow(
          /remote write body is not a WriteRequest: a message of \d+ bytes is malformed at its byte/,
        );
      }
    }
    const symbols = new Symbols();
    const odd = secondSeries(symbols, { labels: [['n', 'a']], samples: [[1, 1]] }).field(4, Uint8Array.of(0x0a, 1, 1));
    const far = secondSeries(symbols, { labels: [['n', 'a']], samples: [[1, 1]] }).field(
      4,
      Uint8Array.of(0x0a, 2, 1, 99),
    );
    const help = secondSeries(symbols, { labels: [['n', 'a']], samples: [[1, 1]] }).field(5, Uint8Array.of(0x18, 99));
    for (const [one, words] of [
      [odd, 'an odd number of references'],
      [far, 'a reference is past the end of the symbols'],
      [help, 'a reference is past the end of the symbols'],
    ] as const) {
      const raw = new Writer().raw(symbols.fields).field(5, one.bytes).bytes;
      expect(() => read(new IngestKernel(OPTIONS), raw, 2)).toThrow(words);
    }
  });
});
