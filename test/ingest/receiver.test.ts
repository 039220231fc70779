import { describe, expect, it } from 'vitest';
import type { ColumnBatch, ReferenceSource, SeriesRejection, WriteOutcome } from '../../client/writer.ts';
import { Receiver, type ReceiverOptions } from '../../coordinator/ingest/receiver.ts';
import type { Env } from '../../core/env/env.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { type ErrorCode, SilverbackError } from '../../core/errors.ts';
import { decodeIdentity, labelValue } from '../../core/labels.ts';
import { type Series, writeRequest } from './message.ts';
import { compress } from './snappy.ts';

const env: Env = nodeEnv;

/** Nodes in memory: what each series holds, owners that are down, rules that refuse. */
class FakeNodes {
  readonly stored = new Map<string, Set<string>>();
  readonly sources: ReferenceSource[] = [];
  readonly down = new Set<number>();
  refuse: ((name: string) => ErrorCode | undefined) | undefined;
  closed = 0;
  hold: Promise<void> | undefined;

  readonly open = (source: ReferenceSource) => {
    this.sources.push(source);
    return {
      write: async (batches: readonly ColumnBatch[]): Promise<WriteOutcome> => {
        await this.hold;
        const results = batches.map((batch) => this.#store(source, batch));
        return {
          results,
          acknowledgedCount: results.reduce((sum, { acknowledgedCount }) => sum + acknowledgedCount, 0),
        };
      },
      close: () => {
        this.closed++;
      },
    };
  };

  #store(source: ReferenceSource, batch: ColumnBatch): WriteOutcome['results'][number] {
    const { shard, refs, counts, timestamps, values } = batch;
    const base = {
      shard,
      message: '',
      retryAfterMs: 0,
      acknowledgedCount: 0,
      rejections: [],
      exemplarCount: 0,
      refusedExemplars: [],
    };
    if (this.down.has(shard))
      return { ...base, code: 'UNAVAILABLE', message: 'node-1 is not there', retryAfterMs: 3500 };
    const rejections: SeriesRejection[] = [];
    let at = 0;
    let acknowledgedCount = 0;
    refs.forEach((ref, run) => {
      const labels = decodeIdentity(source.identity(shard, ref));
      const name = labelValue(labels, 'n');
      const count = counts?.[run] ?? 1;
      const code = this.refuse?.(name);
      if (code !== undefined) {
        rejections.push({
          ref,
          labels,
          code,
          message: `series {n="${name}"}: ${code}`,
          sampleCount: count,
          retryAfterMs: 0,
        });
        at += count;
        return;
      }
      const times = new DataView(timestamps.buffer, timestamps.byteOffset);
      const numbers = new DataView(values.buffer, values.byteOffset);
      for (let i = 0; i < count; i++, at++) {
        const set = this.stored.get(name) ?? new Set();
        this.stored.set(name, set);
        set.add(`${times.getBigInt64(at * 8, true)}=${numbers.getFloat64(at * 8, true)}`);
        acknowledgedCount++;
      }
    });
    return { ...base, code: 'OK', acknowledgedCount, rejections };
  }
}

function receiver(nodes: FakeNodes, options: Partial<ReceiverOptions> = {}): Receiver {
  return new Receiver({
    env,
    kernel: {
      shardCount: 4,
      maxBodyBytes: 1 << 20,
      maxRawBytes: 8 << 20,
      maxLabelCount: 8,
      maxNameBytes: 64,
      maxValueBytes: 64,
    },
    openWriter: nodes.open,
    ...options,
  });
}

const body = (series: readonly Series[]): Uint8Array[] => [compress(writeRequest(series))];
const named = (name: string): Series => ({
  labels: [['n', name]],
  samples: [
    [1_700_000_000_000, 1],
    [1_700_000_015_000, 2],
  ],
});
const many = (count: number): Series[] => Array.from({ length: count }, (_, i) => named(`s${i}`));

describe('receiver', () => {
  it('stores a body and answers 204', async () => {
    const nodes = new FakeNodes();
    const one = receiver(nodes);
    expect(await one.receive(body(many(50)))).toEqual({
      status: 204,
      message: '',
      retryAfterMs: undefined,
      writtenSampleCount: 100,
      refusedSampleCount: 0,
      writtenExemplarCount: 0,
      refusedExemplarCount: 0,
    });
    expect(nodes.stored.size).toBe(50);
    expect([...(nodes.stored.get('s7') ?? [])]).toEqual(['1700000000000=1', '1700000015000=2']);
    expect(one.stats()).toMatchObject({ bodyCount: 1, sampleCount: 100, seriesCount: 50 });
  });

  it('keeps the good samples of a partly bad body, and names the bad series', async () => {
    const nodes = new FakeNodes();
    const answer = await receiver(nodes).receive(body([...many(5), { labels: [['', 'x']], samples: [[1, 1]] }]));
    expect(answer.status).toBe(400);
    expect(answer.message).toContain(
      '1 samples can never be stored: series {="x"}: the label with the value "x" has an empty name',
    );
    expect(nodes.stored.size).toBe(5);
  });

  it('answers 503 while an owner is down and 400 for the bad series once it is back', async () => {
    const nodes = new FakeNodes();
    const one = receiver(nodes);
    const bodies = body([...many(50), { labels: [['bad', 'x'.repeat(65)]], samples: [[1, 1]] }]);
    nodes.down.add(2);
    const first = await one.receive(bodies);
    expect(first.status).toBe(503);
    expect(first.retryAfterMs).toBe(3500);
    expect(first.message).toContain('shard 2: node-1 is not there');
    expect(first.message).toContain('the value of label "bad" is 65 bytes long');
    expect(nodes.stored.size).toBeLessThan(50);
    nodes.down.clear();
    const second = await one.receive(bodies);
    expect(second.status).toBe(400);
    expect(second.retryAfterMs).toBeUndefined();
    expect(second.message).toContain('series {bad=');
    expect(nodes.stored.size).toBe(50);
  });

  it.each<[ErrorCode, number]>([
    ['TOO_OLD', 400],
    ['TOO_FAR_AHEAD', 400],
    ['SERIES_LIMIT', 400],
    ['RESOURCE_EXHAUSTED', 429],
    ['UNCONFIRMED', 503],
    ['DISK_FAILED', 503],
    ['INTERNAL', 500],
  ])('answers a rejection with %s by %i', async (code, status) => {
    const nodes = new FakeNodes();
    nodes.refuse = (name) => (name === 's3' ? code : undefined);
    const answer = await receiver(nodes).receive(body(many(10)));
    expect(answer.status).toBe(status);
    expect(answer.message).toContain(`series {n="s3"}: ${code}`);
    expect(answer.retryAfterMs === undefined).toBe(status === 400 || status === 500);
    expect(nodes.stored.size).toBe(9);
  });

  it('reads a large body in slices, and other bodies after it', async () => {
    const nodes = new FakeNodes();
    const one = receiver(nodes);
    const large: Series = { labels: [['n', 'large']], samples: Array.from({ length: 100_000 }, (_, i) => [i + 1, i]) };
    const answers = await Promise.all([
      one.receive(body([large])),
      one.receive(body(many(3))),
      one.receive(body([large])),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([204, 204, 204]);
    expect(nodes.stored.get('large')?.size).toBe(100_000);
    expect(nodes.stored.size).toBe(4);
  });

  it('does not mix the columns of bodies that are under way together', async () => {
    const nodes = new FakeNodes();
    const one = receiver(nodes);
    let open: () => void = () => undefined;
    nodes.hold = new Promise((resolve) => {
      open = resolve;
    });
    const writes = Array.from({ length: 40 }, (_, i) =>
      one.receive(body([{ labels: [['n', `b${i % 20}`]], samples: [[1000 + i, i]] }])),
    );
    await new Promise((resolve) => setImmediate(resolve));
    open();
    await Promise.all(writes);
    for (let i = 0; i < 20; i++) {
      expect([...(nodes.stored.get(`b${i}`) ?? [])].sort()).toEqual([`${1000 + i}=${i}`, `${1020 + i}=${i + 20}`]);
    }
  });

  it('starts a new generation when the table is full, and closes the old writer after its last write', async () => {
    const nodes = new FakeNodes();
    const one = receiver(nodes, { maxTableBytes: 40_000 });
    let open: () => void = () => undefined;
    nodes.hold = new Promise((resolve) => {
      open = resolve;
    });
    const first = one.receive(body(many(500)));
    await new Promise((resolve) => setImmediate(resolve));
    expect(one.stats().generationCount).toBe(2);
    expect(nodes.closed).toBe(0);
    const second = one.receive(body([named('later')]));
    open();
    expect((await first).status).toBe(204);
    expect((await second).status).toBe(204);
    expect(nodes.closed).toBe(1);
    expect(nodes.sources).toHaveLength(2);
    expect(nodes.stored.size).toBe(501);
  });

  it('refuses a malformed body as such and goes on', async () => {
    const nodes = new FakeNodes();
    const one = receiver(nodes);
    await expect(one.receive([new Uint8Array([3, 0x20])])).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect((await one.receive(body([named('a')]))).status).toBe(204);
    expect(one.stats().malformedCount).toBe(1);
  });

  it('bounds what is under way', () => {
    const one = receiver(new FakeNodes(), { maxHeldBytes: 1000 });
    const large = one.admit('a', 5000);
    expect(() => one.admit('b', 1)).toThrow(SilverbackError);
    large.release();
    const half = one.admit('a', 600);
    expect(() => one.admit('b', 600)).toThrow(/600 bytes are under way.*at most 4096 and 1000 bytes may be, 600 more/);
    // Room is left, but not for who has the most of it already.
    expect(() => one.admit('a', 300)).toThrow(
      /1 of 600 bytes are of a: .* nobody may have more than is left to others/,
    );
    const other = one.admit('b', 100);
    expect(() => other.grow(450)).toThrow(SilverbackError);
    expect(one.stats()).toMatchObject({ turnedAwayCount: 4, heldBytes: 700 });
    half.release();
    other.grow(450);
    other.release();
    other.release();
    expect(one.stats().heldBytes).toBe(0);
  });
});
