import { describe, expect, it } from 'vitest';
import { PointsPages } from '../../coordinator/query/points.ts';
import { SilverbackError } from '../../core/errors.ts';
import type { Duplex } from '../../core/grpc.ts';
import { encodeIdentity, makeLabels, NO_LABELS } from '../../core/labels.ts';
import { type Aggregator, Groups } from '../../core/promql/groups.ts';
import type { PointsWriter } from '../../core/promql/points.ts';
import { type ReadReply, type ReadRequest, shardsService } from '../../core/protocol.ts';
import { helloOf, SPOKEN } from '../../core/versions.ts';
import { Refused } from '../../node/hello.ts';
import { ReadBound, type ReadContext, serveReads } from '../../node/read.ts';
import type { Shard } from '../../node/shard/shard.ts';
import { ValuePages } from '../../node/values.ts';

const AGGREGATION = {
  operation: 'sum',
  grouping: ['shard'],
  without: false,
  function: '',
  rangeMs: 300_000,
  steps: 1,
  perStep: true,
  parameter: 0,
  limit: 0,
};

/** Shards that give one series each to an aggregation, of which some then fail. */
function nodeOf(broken: readonly number[], asked: number[]): ReadContext['node'] {
  const shard = (id: number) => ({
    aggregate: async (_: unknown, aggregator: Aggregator) => {
      asked.push(id);
      const identity = encodeIdentity(makeLabels({ shard: String(id) }));
      aggregator.add(identity, Float64Array.of(1000), Float64Array.of(id), 1);
      if (broken.includes(id)) throw new SilverbackError('CORRUPT', `shard ${id} is broken`);
    },
    async *points(_: unknown, writer: PointsWriter) {
      writer.begin();
      writer.add(encodeIdentity(makeLabels({ shard: String(id) })), Float64Array.of(1000), Float64Array.of(id), 1);
      if (id % 2 === 0) yield writer.take();
      if (broken.includes(id)) throw new SilverbackError('CORRUPT', `shard ${id} is broken`);
      if (writer.looked.series > 0) yield writer.take();
    },
  });
  return {
    find: (id) => shard(id) as unknown as Shard,
    gaps: () => [],
    heard: () => undefined,
    assigned: () => [1, 2, 3, 4],
    clusterId: 'c',
    name: 'n',
    spoken: SPOKEN,
    refused: new Refused(() => 0),
  };
}

const HELLO = helloOf(SPOKEN, 'c', 'test');

/** The request as it comes off the wire: with all fields. */
function received(request: Partial<ReadRequest>): ReadRequest {
  const { requestSerialize, requestDeserialize } = shardsService.Read;
  return requestDeserialize(requestSerialize(request as ReadRequest));
}

/** Resolves with the last reply. */
function ask(
  node: ReadContext['node'],
  request: Partial<ReadRequest>,
  see: (reply: ReadReply) => void = () => undefined,
  values = new ValuePages(),
): Promise<ReadReply> {
  return new Promise((resolve) => {
    const call: Duplex<ReadRequest, ReadReply> = {
      caller: { name: 'test', address: '' },
      signal: new AbortController().signal,
      listen: (events) => events.request(received({ hello: HELLO, id: 1, credit: 4, ...request })),
      send: (reply) => {
        see(reply);
        if (reply.done || reply.code !== 'OK') resolve(reply);
      },
      pause: () => undefined,
      resume: () => undefined,
      finish: () => undefined,
    };
    serveReads(call, { node, bound: new ReadBound(4), values });
  });
}

it.each([
  { broken: [], found: ['1', '2', '3', '4'] },
  { broken: [2], found: ['1', '3', '4'] },
  { broken: [1, 4], found: ['2', '3'] },
  { broken: [1, 2, 3, 4], found: [] },
])(
  'shards $broken, found damaged after they gave something, leave nothing in the groups',
  async ({ broken, found }) => {
    const asked: number[] = [];
    const select = { shards: [], matchers: [], fromMs: 0, toMs: 1000, maxSeries: 0, maxSamples: 0 };
    const { page, coverage, code } = await ask(nodeOf(broken, asked), {
      aggregate: { ...AGGREGATION, startMs: 1000, stepMs: 1000, select },
    });
    expect(code).toBe('OK');
    const groups = new Groups({ ...AGGREGATION, reference: { startMs: 1000, stepMs: 1000 } });
    groups.take(page);
    expect([...groups.values()].map(({ labels }) => labels[1]).sort()).toEqual(found);
    expect(groups.looked.series).toBe(found.length);
    expect(groups.looked.perStep).toEqual(Float64Array.of(found.length));
    const missing = coverage.filter(({ state }) => state === 'MISSING');
    expect(missing.map(({ shards, reason }) => [shards, reason])).toEqual(
      broken.map((id) => [[id], `shard ${id} is broken`]),
    );
    // No shard is asked more often than there are shards that break.
    for (const id of [1, 2, 3, 4]) {
      expect(asked.filter((other) => other === id).length).toBeLessThanOrEqual(broken.length + 1);
    }
  },
);

it.each([
  { operation: 'values', broken: [], found: ['1', '2', '3', '4'] },
  { operation: 'values', broken: [2, 3], found: ['1', '4'] },
  { operation: 'topk', broken: [], found: ['3', '4'] },
  { operation: 'topk', broken: [4], found: ['2', '3'] },
  { operation: 'bottomk', broken: [1, 3], found: ['2', '4'] },
])(
  'shards $broken, found damaged midway, leave nothing among the points: $operation',
  async ({ operation, broken, found }) => {
    const select = { shards: [], matchers: [], fromMs: 0, toMs: 1000, maxSeries: 0, maxSamples: 0 };
    const aggregation = { ...AGGREGATION, operation, grouping: [], limit: 2 };
    const { page, coverage } = await ask(nodeOf(broken, []), {
      aggregate: { ...aggregation, startMs: 1000, stepMs: 1000, select },
    });
    const points = new PointsPages({ ...aggregation, reference: { startMs: 1000, stepMs: 1000 } });
    points.take(page);
    const reader = points.read(false);
    const into = { labels: NO_LABELS, values: new Float64Array(1), present: new Uint8Array(1), pointCount: 0 };
    const shards: string[] = [];
    while (reader.next(into)) shards.push(into.labels[1] as string);
    expect(shards.sort()).toEqual(found);
    expect(points.looked.series).toBe(4 - broken.length);
    expect(coverage.filter(({ state }) => state === 'MISSING').map(({ shards: [id] }) => id)).toEqual(broken);
  },
);

it.each([
  { what: { operation: 'mode' }, message: 'aggregation "mode" is not computed by nodes' },
  { what: { operation: 'values', function: 'guess' }, message: 'function "guess" is not computed by nodes' },
  { what: { operation: 'topk', limit: 0 }, message: 'topk of 0 series, must be at least 1' },
  { what: { operation: 'values', steps: 0 }, message: 'an aggregation has 0 steps, must have from 1 to 100000' },
  { what: { operation: 'topk', limit: 1, rangeMs: 0 }, message: "an aggregation's range is 0 ms, must be more than 0" },
])('what nodes do not compute is refused: $message', async ({ what, message }) => {
  const select = { shards: [], matchers: [], fromMs: 0, toMs: 1000, maxSeries: 0, maxSamples: 0 };
  const reply = await ask(nodeOf([], []), {
    aggregate: { ...AGGREGATION, ...what, startMs: 1000, stepMs: 1000, select },
  });
  expect([reply.code, reply.message]).toEqual(['INVALID_ARGUMENT', message]);
});

/** Shards that give `count` pages, whose first byte is their number; shard 2 fails then, shard 3 knows that it lacks all. */
function pagesOf(count: number, bytes: number): ReadContext['node'] {
  const shard = (id: number) => ({
    async *select() {
      for (let i = 0; i < count; i++) yield new Uint8Array(bytes).fill(id);
      if (id === 2) throw new SilverbackError('UNAVAILABLE', 'shard 2 is closing');
    },
  });
  return {
    ...nodeOf([], []),
    find: (id) => shard(id) as unknown as Shard,
    gaps: (id, range) => (id === 3 ? [{ ...range, state: 'missing', reason: 'being filled' }] : []),
  };
}

it.each([
  { what: 'small', count: 2, bytes: 10, found: [1, 1, 3, 3, 4, 4], given: false },
  { what: 'large', count: 1, bytes: 200_000, found: [1, 2, 3, 4], given: true },
  { what: 'no', count: 0, bytes: 0, found: [], given: false },
])('$what pages of a shard that fails midway are given or taken back, and the ledger says which', async (row) => {
  const replies: ReadReply[] = [];
  const select = { shards: [1, 2, 3, 4], matchers: [], fromMs: 0, toMs: 1000, maxSeries: 0, maxSamples: 0 };
  await ask(pagesOf(row.count, row.bytes), { select, credit: 100 }, (reply) => replies.push(reply));
  const pages = Buffer.concat(replies.map(({ page }) => page));
  const found = Array.from({ length: row.bytes === 0 ? 0 : pages.length / row.bytes }, (_, i) => pages[i * row.bytes]);
  expect(found).toEqual(row.found);
  const ledger = replies.at(-1)?.coverage ?? [];
  const missing = ledger.filter(({ state }) => state === 'MISSING').map(({ shards, given }) => [shards, given]);
  expect(missing).toEqual([
    [[2], row.given],
    [[3], row.count > 0],
  ]);
});

describe('values of a label as pages', () => {
  /** Shards that have their values at hand, or have to look for them where these are undefined. */
  const holding = (shards: readonly (readonly string[] | undefined)[], sought: readonly string[] = []) => ({
    ...nodeOf([], []),
    assigned: () => [...shards.keys()],
    find: (id: number) =>
      ({
        allValues: () => shards[id],
        labelValues: async (_name: string, _range: object, _selectors: object, found: Set<string>) => {
          for (const value of sought) found.add(value);
        },
      }) as unknown as Shard,
  });
  const labelValues = { shards: [], fromMs: 0, toMs: 1000, selectors: [], name: 'host', asJson: true };

  async function pagesOf(node: ReadContext['node'], values?: ValuePages): Promise<string[][]> {
    const pages: string[][] = [];
    const { coverage } = await ask(
      node,
      { labelValues, credit: 100 },
      ({ page }) => {
        if (page.length > 0) pages.push(JSON.parse(Buffer.from(page).toString()));
      },
      values,
    );
    expect(coverage.map(({ state }) => state)).toEqual(['COMPLETE']);
    return pages;
  }

  it('are those of all shards, each once and in order', async () => {
    expect(await pagesOf(holding([['a', 'c'], ['a', 'b"', 'c'], []]))).toEqual([['a', 'b"', 'c']]);
    expect(await pagesOf(holding([['a', 'c'], undefined], ['d', 'b']))).toEqual([['a', 'b', 'c', 'd']]);
    expect(await pagesOf(holding([[], []]))).toEqual([]);
  });

  it('are kept as long as every shard has the same', async () => {
    const kept = new ValuePages();
    const [some, others] = [
      ['a', 'b'],
      ['b', 'c'],
    ];
    expect(await pagesOf(holding([some, others]), kept)).toEqual([['a', 'b', 'c']]);
    expect(kept.of('host', [some, others])).toBe(kept.of('host', [some, others]));
    expect(await pagesOf(holding([some, ['b', 'd']]), kept)).toEqual([['a', 'b', 'd']]);
    expect(await pagesOf(holding([some, undefined], ['e']), kept)).toEqual([['a', 'b', 'e']]);
    expect(await pagesOf(holding([some]), kept)).toEqual([['a', 'b']]);
  });

  it('come in several pages when they are many', async () => {
    const many = Array.from({ length: 20_000 }, (_, i) => `host-${String(i).padStart(6, '0')}`);
    const pages = await pagesOf(holding([many]));
    expect(pages.length).toBeGreaterThan(2);
    expect(pages.flat()).toEqual(many);
  });
});
