import { describe, expect, it } from 'vitest';
import type { ColumnBatch } from '../../client/columns.ts';
import type { ShardResult } from '../../client/writer.ts';
import { Receiver } from '../../coordinator/ingest/receiver.ts';
import type { Env } from '../../core/env/env.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { readExemplars } from '../../core/exemplars.ts';
import { decodeIdentity, formatLabels } from '../../core/labels.ts';
import { metadataShard, readMetadata } from '../../core/metadata.ts';
import { exemplar, metricMetadata, type Series, timeSeries, Writer } from './message.ts';
import { Symbols, secondExemplar, secondSeries } from './message2.ts';
import { compress } from './snappy.ts';

const SHARD_COUNT = 4;
const NOW = 1_700_000_000_000;

/** What nodes were sent, and what they say. */
class FakeNodes {
  readonly batches: ColumnBatch[] = [];
  judge: (batch: ColumnBatch) => Partial<ShardResult> = () => ({});

  readonly open = () => ({
    write: async (batches: readonly ColumnBatch[]) => {
      this.batches.push(...batches);
      const results = batches.map((batch): ShardResult => {
        let exemplarCount = 0;
        if (batch.exemplars !== undefined) readExemplars(batch.exemplars, 'CORRUPT', () => exemplarCount++);
        const acknowledgedCount = batch.timestamps.length / 8;
        const settled = { shard: batch.shard, code: 'OK' as const, message: '', retryAfterMs: 0, rejections: [] };
        return { ...settled, acknowledgedCount, exemplarCount, refusedExemplars: [], ...this.judge(batch) };
      });
      return { results, acknowledgedCount: results.reduce((sum, result) => sum + result.acknowledgedCount, 0) };
    },
    close: () => undefined,
  });

  /** `shard series@time=value`. */
  get exemplars(): string[] {
    const out: string[] = [];
    for (const { shard, exemplars = new Uint8Array(0) } of this.batches) {
      readExemplars(exemplars, 'CORRUPT', (identity, { timestampMs, value }) =>
        out.push(`${shard} ${formatLabels(decodeIdentity(identity))}@${timestampMs}=${value}`),
      );
    }
    return out;
  }

  get metadata(): string[] {
    return this.batches.flatMap(({ shard, metadata }) =>
      metadata === undefined
        ? []
        : readMetadata(metadata, 'CORRUPT').map(({ name, help }) => `${shard} ${name}: ${help}`),
    );
  }
}

function receiver(nodes: FakeNodes, env: Env = nodeEnv): Receiver {
  const kernel = {
    maxBodyBytes: 8 << 20,
    maxRawBytes: 64 << 20,
    maxLabelCount: 64,
    maxNameBytes: 64,
    maxValueBytes: 64_000,
  };
  return new Receiver({ env, kernel: { shardCount: SHARD_COUNT, ...kernel }, openWriter: nodes.open });
}

const one = (value: number, labels: readonly (readonly [string, string])[] = [['t', 'a']]) =>
  exemplar({ labels, timestampMs: NOW, value });
const named = (name: string, samples: Series['samples'] = []) => timeSeries({ labels: [['__name__', name]], samples });
const body = (out: Writer): Uint8Array[] => [compress(out.bytes)];
const told = (name: string, help = 'x') => metricMetadata({ name, type: 1, help, unit: '' });

describe('exemplars and metadata in the receiver', () => {
  it('go to the shards they are at home in, with the samples or without', async () => {
    const nodes = new FakeNodes();
    const out = new Writer();
    for (let i = 0; i < 20; i++) {
      out.field(1, new Writer().raw(named(`m${i}`, i % 2 === 0 ? [[NOW, i]] : [])).field(3, one(i)).bytes);
      out.field(3, told(`m${i}`)).field(3, told(`other${i}`));
    }
    const receipt = await receiver(nodes).receive(body(out.field(3, told(''))));
    expect(receipt).toMatchObject({ status: 204, writtenSampleCount: 10, writtenExemplarCount: 20 });
    expect(nodes.batches).toHaveLength(SHARD_COUNT);
    const home = (name: string) => metadataShard(name, SHARD_COUNT);
    const numbers = Array.from({ length: 20 }, (_, i) => i);
    expect(nodes.exemplars.sort()).toEqual(numbers.map((i) => `${home(`m${i}`)} m${i}@${NOW}=${i}`).sort());
    const names = numbers.flatMap((i) => [`m${i}`, `other${i}`]);
    expect(nodes.metadata.sort()).toEqual(names.map((name) => `${home(name)} ${name}: x`).sort());
  });

  it('are refused one by one: 400 names them, the rest is stored', async () => {
    const nodes = new FakeNodes();
    nodes.judge = () => ({ refusedExemplars: [{ code: 'TOO_FAR_AHEAD', message: 'exemplar of series m: too far' }] });
    const symbols = new Symbols();
    const second = secondSeries(symbols, { labels: [['__name__', 'm']], samples: [[NOW, 1]] });
    for (const labels of [[['t', 'a']], [['t', 'x'.repeat(200)]]] as const) {
      second.field(4, secondExemplar(symbols, { labels, timestampMs: NOW, value: 1 }));
    }
    const raw = new Writer().raw(symbols.fields).field(5, second.bytes);
    const one = receiver(nodes);
    const receipt = await one.receive(body(raw), 2);
    expect(receipt).toMatchObject({
      status: 400,
      writtenSampleCount: 1,
      writtenExemplarCount: 1,
      refusedExemplarCount: 2,
    });
    expect(receipt.message).toBe(
      '2 exemplars can never be stored: exemplar of series m: the names and values of its labels have 201 characters together, at most 128 are allowed; exemplar of series m: too far',
    );
    expect(one.stats()).toMatchObject({ exemplarCount: 1, refusedExemplarCount: 2 });
  });

  it('are asked for again when no node took them', async () => {
    const nodes = new FakeNodes();
    nodes.judge = () => ({ code: 'UNAVAILABLE', message: 'not there', exemplarCount: 0, acknowledgedCount: 0 });
    const raw = body(new Writer().field(1, new Writer().raw(named('m')).field(3, one(1)).bytes).field(3, told('m')));
    const receiving = receiver(nodes);
    expect(await receiving.receive(raw)).toMatchObject({
      status: 503,
      message: `exemplars or metadata are not stored, send them again: shard ${metadataShard('m', SHARD_COUNT)}: not there`,
    });
    nodes.judge = () => ({});
    expect(await receiving.receive(raw)).toMatchObject({ status: 204, writtenExemplarCount: 1 });
    // Metadata that failed is sent on again, what was taken is not.
    expect(nodes.metadata).toHaveLength(2);
    await receiving.receive(raw);
    expect(nodes.metadata).toHaveLength(2);
  });

  it('metadata is sent on again after ten minutes', async () => {
    const nodes = new FakeNodes();
    let nowMs = 0;
    const env: Env = { ...nodeEnv, clock: { ...nodeEnv.clock, monotonicMs: () => nowMs } };
    const receiving = receiver(nodes, env);
    const raw = body(new Writer().field(3, told('m')));
    for (const [atMs, count] of [
      [0, 1],
      [599_000, 1],
      [601_000, 2],
      [1_100_000, 2],
      [1_300_000, 3],
    ] as const) {
      nowMs = atMs;
      expect(await receiving.receive(raw)).toMatchObject({ status: 204 });
      expect(nodes.metadata).toHaveLength(count);
    }
    expect(receiving.stats().metadataCount).toBe(3);
  });

  it('of series with long labels travel in lists that fit into messages', async () => {
    const nodes = new FakeNodes();
    const out = new Writer();
    const labels = [
      ['__name__', 'm'],
      ['a', 'x'.repeat(30_000)],
    ] as const;
    for (let i = 0; i < 200; i++)
      out.field(1, new Writer().raw(timeSeries({ labels, samples: [[NOW, i]] })).field(3, one(i)).bytes);
    const receipt = await receiver(nodes).receive(body(out));
    expect(receipt).toMatchObject({ status: 204, writtenSampleCount: 200, writtenExemplarCount: 200 });
    const sizes = nodes.batches.map(({ exemplars }) => exemplars?.length ?? 0);
    expect(Math.max(...sizes)).toBeLessThan(1.1 * 2 ** 20);
    expect(sizes.length).toBeGreaterThan(5);
  });
});
