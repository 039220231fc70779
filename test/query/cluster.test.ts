import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Reader } from '../../client/reader.ts';
import { Cluster, type ClusterOptions } from '../../coordinator/query/cluster.ts';
import { Page } from '../../coordinator/query/page.ts';
import { SilverbackError } from '../../core/errors.ts';
import { ChunkCodec } from '../../core/kernel/codec.ts';
import { encodeIdentity, makeLabels } from '../../core/labels.ts';

const codec = ChunkCodec.create();
const context = { signal: new AbortController().signal };

interface Entry {
  readonly labels: Record<string, string>;
  /** The samples of each chunk. */
  readonly chunks: readonly (readonly (readonly [number, number])[])[];
}

function page(entries: readonly Entry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const word = (value: number) => parts.push(new Uint8Array(Uint32Array.of(value).buffer));
  for (const { labels, chunks } of entries) {
    const identity = encodeIdentity(makeLabels(labels));
    word(3);
    word(identity.length);
    parts.push(identity);
    word(chunks.length);
    for (const samples of chunks) {
      const chunk = codec
        .encode(
          Float64Array.from(samples, ([t]) => t),
          Float64Array.from(samples, ([, v]) => v),
        )
        .slice();
      word(chunk.length);
      parts.push(chunk);
    }
  }
  return Buffer.concat(parts);
}

type Asked = Parameters<Reader['select']>[0];

function cluster(pages: readonly Uint8Array[], options: Partial<ClusterOptions> = {}) {
  const asked: Asked[] = [];
  const reader: ClusterOptions['reader'] = {
    async select(request, receive) {
      asked.push(request);
      for (const bytes of pages) await receive(bytes);
      return {
        coverage: [
          { shard: 0, fromMs: 0, toMs: 1, state: 'complete', reason: '' },
          { shard: 1, fromMs: 0, toMs: 1, state: 'missing', reason: 'node-1: gone' },
        ],
      };
    },
    aggregate: async () => ({ coverage: [] }),
    async series(_request, receive) {
      for (const bytes of pages) await receive(bytes);
      return { coverage: [] };
    },
    labelNames: async () => ({ values: ['a'], coverage: [] }),
    labelValues: async (name) => ({ values: [name], coverage: [] }),
    cardinality: async () => ({ values: [], coverage: [] }),
    exemplars: async () => ({ coverage: [] }),
    metadata: async () => ({ values: [], coverage: [] }),
    windowVersions: async () => ({ values: ['0 1 a', '0 2 b', '7200000 1 c'], coverage: [] }),
  };
  return { asked, cluster: new Cluster({ reader, codec, ...options }) };
}

const HOUR_MS = 3_600_000;
const samplesAt = (startMs: number, count: number) =>
  Array.from({ length: count }, (_, i) => [startMs + i * 15_000, i] as const);

describe('cluster', () => {
  const pages = [
    page([
      { labels: { n: 'a' }, chunks: [samplesAt(0, 100), samplesAt(2 * HOUR_MS, 100)] },
      { labels: { n: 'b', m: 'ü' }, chunks: [samplesAt(HOUR_MS, 10)] },
    ]),
    page([]),
    page([
      { labels: { n: 'c' }, chunks: [] },
      { labels: { n: 'd' }, chunks: [[[5, Number.NaN]]] },
    ]),
  ];

  it('gives the series of all pages, decoded when asked, in any order', async () => {
    const { cluster: one } = cluster(pages);
    const set = await one.select({ matchers: [], fromMs: 0, toMs: 10 * HOUR_MS }, context);
    expect(set.count).toBe(4);
    expect(set.sampleCount).toBe(211);
    for (const order of [
      [0, 1, 2, 3],
      [3, 0, 2, 1],
    ]) {
      for (const i of order) {
        expect(set.labels(i)).toEqual(
          [
            ['n', 'a'],
            ['m', 'ü', 'n', 'b'],
            ['n', 'c'],
            ['n', 'd'],
          ][i],
        );
        const { timestamps, values } = set.columns(i);
        expect(timestamps.length).toBe([200, 10, 0, 1][i]);
        expect(values.length).toBe(timestamps.length);
        if (i === 0) expect([timestamps[0], timestamps[199], values[199]]).toEqual([0, 2 * HOUR_MS + 99 * 15_000, 99]);
      }
    }
    expect(set.coverage).toEqual([
      { shard: 0, fromMs: 0, toMs: 1, state: 'complete' },
      { shard: 1, fromMs: 0, toMs: 1, state: 'missing', reason: 'node-1: gone' },
    ]);
  });

  it('cuts samples to the range, both ends inclusive', async () => {
    const { cluster: one, asked } = cluster(pages);
    const set = await one.select({ matchers: [], fromMs: 15_000, toMs: 45_000 }, context);
    expect([...set.columns(0).timestamps]).toEqual([15_000, 30_000, 45_000]);
    await one.select({ matchers: [], fromMs: -5, toMs: -1 }, context);
    expect(asked.map(({ fromMs, toMs }) => [fromMs, toMs])).toEqual([
      [15_000, 45_000],
      [0, 0],
    ]);
  });

  it('keeps the columns of one set while another is read', async () => {
    const { cluster: one } = cluster(pages);
    const request = { matchers: [], fromMs: 0, toMs: 10 * HOUR_MS };
    const [a, b] = await Promise.all([one.select(request, context), one.select(request, context)]);
    const kept = a.columns(0);
    const before = [...kept.values];
    b.columns(3);
    b.columns(1);
    expect([...kept.values]).toEqual(before);
  });

  it('refuses more series than may be, and has the nodes refuse samples', async () => {
    const request = { matchers: [], fromMs: 0, toMs: 1 };
    await expect(cluster(pages, { maxSeries: 3 }).cluster.select(request, context)).rejects.toThrow(
      'the selection has 4 series, at most 3 are allowed',
    );
    const { cluster: one, asked } = cluster(pages, { maxSamples: 210 });
    await one.select(request, context);
    expect(asked[0]).toMatchObject({ maxSamples: 210 });
  });

  it('lists series', async () => {
    const { series } = await cluster(pages).cluster.series({ fromMs: 0, toMs: 1 }, [], context);
    expect(series).toHaveLength(4);
  });

  it('reads every label set as it was written', () => {
    const text = fc.oneof(
      fc.string({ minLength: 1, maxLength: 150 }),
      fc.string({ minLength: 1, maxLength: 60, unit: 'binary' }),
    );
    fc.assert(
      fc.property(fc.array(fc.dictionary(text, text, { maxKeys: 6 }), { maxLength: 6 }), (sets) => {
        const read = new Page(page(sets.map((labels) => ({ labels, chunks: [] }))));
        expect(sets.map((_, i) => read.labels(i))).toEqual(sets.map((labels) => makeLabels(labels)));
      }),
    );
  });

  it('refuses a page that is cut short, wherever', () => {
    const whole = pages[0] as Uint8Array;
    const ends = new Set<number>();
    for (let length = 1; length < whole.length; length++) {
      try {
        expect(new Page(whole.subarray(0, length)).count).toBe(1);
        ends.add(length);
      } catch (error) {
        expect(error).toBeInstanceOf(SilverbackError);
        expect((error as SilverbackError).code).toBe('CORRUPT');
      }
    }
    expect(ends.size).toBe(1);
  });
});
