import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Exemplar, ExemplarList, readExemplars } from '../../core/exemplars.ts';
import { decodeIdentity, encodeIdentity, formatLabels, type Labels, makeLabels } from '../../core/labels.ts';
import { compileMatcher, type Matcher } from '../../core/matchers.ts';
import {
  encodeMetadata,
  keptMetadata,
  type MetricMetadata,
  parseMetadataText,
  readMetadata,
} from '../../core/metadata.ts';
import { Budget } from '../../node/shard/budget.ts';
import { Exemplars } from '../../node/shard/exemplars.ts';
import { RecordKind } from '../../node/shard/log.ts';
import { MetadataTable } from '../../node/shard/metadata.ts';
import type { ShardOptions } from '../../node/shard/options.ts';
import type { AppendOutcome } from '../../node/shard/sender.ts';
import { Shard } from '../../node/shard/shard.ts';
import { Slicer } from '../../node/shard/slicer.ts';
import { Sim } from '../sim/sim.ts';

const NOW = Date.UTC(2026, 0, 1);
const HOUR = 3_600_000;
const NO_BYTES = new Uint8Array(0);
const identityOf = (labels: Record<string, string>): Uint8Array => encodeIdentity(makeLabels(labels));
const series = (n: number): Uint8Array => identityOf({ __name__: 'm', n: `${n}` });
const one = (timestampMs: number, value = 1, labels: Record<string, string> = { t: 'a' }): Exemplar => ({
  labels: identityOf(labels),
  timestampMs,
  value,
});
const listOf = (...pairs: readonly (readonly [Uint8Array, Exemplar])[]): Uint8Array => {
  const list = new ExemplarList();
  for (const [identity, exemplar] of pairs) list.add(identity, exemplar);
  return list.take();
};
const described = (name: string, help: string, type = 1, unit = ''): MetricMetadata => ({ name, type, unit, help });

const text = (labels: Labels | Uint8Array): string =>
  formatLabels(labels instanceof Uint8Array ? decodeIdentity(labels) : labels);
/** `series labels@time=value`, in the order of the lists. */
function textsOf(lists: readonly Uint8Array[]): string[] {
  const out: string[] = [];
  for (const list of lists) {
    readExemplars(list, 'CORRUPT', (identity, { labels, timestampMs, value }) =>
      out.push(`${text(identity)} ${text(labels)}@${timestampMs}=${value}`),
    );
  }
  return out;
}

async function gathered<T>(from: AsyncIterable<T>): Promise<T[]> {
  const out: T[] = [];
  for await (const item of from) out.push(item);
  return out;
}

describe('the exemplars of a shard', () => {
  const slicer = () =>
    new Slicer({ timers: { yield: () => Promise.resolve() }, clock: { monotonicMs: () => 0 } } as never);
  const everything = [[compileMatcher({ name: '__name__', op: '=', value: 'm' })]];

  test('are the latest to arrive, of each series in order, each once, whatever came when', async () => {
    const arrival = fc.tuple(
      fc.integer({ min: 0, max: 3 }),
      fc.integer({ min: 0, max: 9 }),
      fc.constantFrom(0, -0, 1, Number.NaN),
      fc.constantFrom('a', 'b'),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(arrival, { maxLength: 80 }),
        fc.integer({ min: 1, max: 30 }),
        async (arrivals, most) => {
          const exemplars = new Exemplars();
          let model: string[] = [];
          for (const [n, timestampMs, value, t] of arrivals) {
            const exemplar = one(timestampMs, value, { t });
            const key = JSON.stringify([n, timestampMs, Object.is(value, -0) ? '-0' : String(value), t]);
            expect(exemplars.has(series(n), exemplar)).toBe(model.includes(key));
            exemplars.add(series(n), exemplar);
            if (!model.includes(key)) model.push(key);
            exemplars.trim(most);
            model = model.slice(-most);
          }
          expect(exemplars.count).toBe(model.length);
          const parsed = model.map((key) => JSON.parse(key) as [number, number, string, string]);
          expect(exemplars.seriesCount).toBe(new Set(parsed.map(([n]) => n)).size);
          const found = textsOf(await gathered(exemplars.select(everything, 2, 8, slicer())));
          expect(found.length).toBe(parsed.filter(([, timestampMs]) => timestampMs >= 2 && timestampMs <= 8).length);
          const times = found.map((line) => [line.split(' ')[0], Number(/@(\d+)/.exec(line)?.[1])] as const);
          times.forEach(([of, timeMs], i) => {
            const before = times[i - 1];
            if (before?.[0] === of) expect(before?.[1]).toBeLessThanOrEqual(timeMs);
          });
          // Arrival order is kept over a checkpoint: the same ones go next.
          const again = new Exemplars();
          for (const page of await gathered(exemplars.pages(slicer()))) again.restore(page);
          exemplars.trim(most >> 1);
          again.trim(most >> 1);
          expect(textsOf(await gathered(again.pages(slicer())))).toEqual(
            textsOf(await gathered(exemplars.pages(slicer()))),
          );
          expect(again.byteCount).toBe(exemplars.byteCount);
          exemplars.trim(0);
          expect([exemplars.count, exemplars.seriesCount, exemplars.byteCount]).toEqual([0, 0, 0]);
        },
      ),
      { numRuns: 200 },
    );
  });

  test('go on when there were more of them than ever are kept', async () => {
    const exemplars = new Exemplars();
    for (let i = 0; i < 10_000; i++) {
      exemplars.add(series(i % 7), one(i));
      exemplars.trim(100);
    }
    const left = textsOf(await gathered(exemplars.pages(slicer())));
    expect(left).toHaveLength(100);
    expect(left.at(0)).toContain('@9900=');
    expect(left.at(-1)).toContain('@9999=');
  });
});

describe('the metadata of a shard', () => {
  const entries = (table: MetadataTable, name = ''): MetricMetadata[] => table.texts(name).flatMap(parseMetadataText);

  test('has the latest entry of a metric first, and the latest eight', () => {
    const table = new MetadataTable(10);
    for (let i = 0; i < 12; i++) table.add(described('m', `${i}`), 0);
    table.add(described('m', '7'), 0);
    expect(entries(table, 'm').map(({ help }) => help)).toEqual(['7', '11', '10', '9', '8', '6', '5', '4']);
    expect(table.hear(described('m', '8'), 0)).toBe(false);
    expect(table.hear(described('m', '8', 2), 0)).toBe(true);
    const copy = new MetadataTable(10);
    for (const entry of table.history()) copy.add(entry, 0);
    expect(entries(copy)).toEqual(entries(table));
    expect(copy.byteCount).toBe(table.byteCount);
    expect(entries(table, 'other')).toEqual([]);
  });

  test('a new metric takes the place of one that nobody told of for an hour, else none', () => {
    const table = new MetadataTable(2);
    for (const name of ['a', 'b']) table.add(described(name, 'x'), 0);
    expect(table.hear(described('c', 'x'), HOUR)).toBe(false);
    expect(table.hear(described('a', 'x'), HOUR)).toBe(false);
    expect(table.hear(described('c', 'x'), HOUR + 1)).toBe(true);
    table.add(described('c', 'x'), HOUR + 1);
    expect(entries(table).map(({ name }) => name)).toEqual(['a', 'c']);
    expect(table.count).toBe(2);
  });

  test('texts that are too long are cut at a character, with dots', () => {
    expect(keptMetadata(described('m', 'x'.repeat(1024)))?.help).toBe('x'.repeat(1024));
    expect(keptMetadata(described('m', 'x'.repeat(1025)))?.help).toBe(`${'x'.repeat(1021)}...`);
    const cut = keptMetadata(described('m', '𝛼'.repeat(300), 1, 'é'.repeat(40)));
    expect(cut).toEqual(described('m', `${'𝛼'.repeat(255)}...`, 1, `${'é'.repeat(30)}...`));
    expect(keptMetadata(described('', 'x'))).toBeUndefined();
    expect(keptMetadata(described('x'.repeat(1025), 'x'))).toBeUndefined();
    expect(keptMetadata(described('m', 'x', 99))?.type).toBe(0);
  });
});

describe('lists', () => {
  const golden = (name: string) => new Uint8Array(readFileSync(new URL(`../golden/${name}`, import.meta.url)));
  const exemplars = [
    [series(1), one(1_700_000_000_123, 0.25, { trace_id: 'abc', span: 'ü' })],
    [series(1), one(0, Number.NEGATIVE_INFINITY, {})],
    [identityOf({ a: '𝛼' }), one(2 ** 43, -0)],
  ] as const;
  const metadata = [described('m', 'Help, ü.', 3, 'seconds'), described('n', '', 0)];

  test('of exemplars are read for ever as they were written once', () => {
    const bytes = golden('exemplars-1.bin');
    expect(textsOf([bytes])).toEqual(textsOf([listOf(...exemplars)]));
    expect(Buffer.from(listOf(...exemplars))).toEqual(Buffer.from(bytes));
    expect(textsOf([Buffer.concat([bytes, bytes])])).toHaveLength(6);
  });

  test('of metadata are read for ever as they were written once', () => {
    const bytes = golden('metadata-1.bin');
    expect(readMetadata(bytes, 'CORRUPT')).toEqual(metadata);
    expect(Buffer.from(encodeMetadata(metadata))).toEqual(Buffer.from(bytes));
  });

  test('that are cut short or of another format are refused, and nothing of them is taken', () => {
    const [first, second] = [listOf(...exemplars), encodeMetadata(metadata)];
    for (let end = 1; end < first.length; end++) expect(() => textsOf([first.subarray(0, end)])).toThrow('cut short');
    for (let end = 0; end < second.length; end++) {
      expect(() => readMetadata(second.subarray(0, end), 'CORRUPT')).toThrow('cut short');
    }
    for (const list of [first, second]) list[0] = 2;
    expect(() => textsOf([first])).toThrow(expect.objectContaining({ code: 'VERSION' }));
    expect(() => readMetadata(second, 'CORRUPT')).toThrow(expect.objectContaining({ code: 'VERSION' }));
  });
});

class Bench {
  readonly sim = new Sim(1);
  readonly options: ShardOptions;
  shard!: Shard;

  constructor(options: Partial<ShardOptions> = {}) {
    this.options = { shard: 3, budget: new Budget(1 << 30), ...options };
  }

  async open(): Promise<this> {
    this.shard = await this.sim.settle(Shard.open(this.sim.boot(), '/d', this.options));
    return this;
  }

  append(
    beside: { exemplars?: Uint8Array; metadata?: Uint8Array },
    ack: 'LOCAL' | 'FSYNC' = 'LOCAL',
  ): Promise<AppendOutcome> {
    const columns = { definitions: NO_BYTES, refs: NO_BYTES, counts: NO_BYTES, timestamps: NO_BYTES, values: NO_BYTES };
    return this.sim.settle(this.shard.attach().append({ ...columns, ...beside }, ack));
  }

  async exemplars(matchers: readonly Matcher[] = [{ name: '__name__', op: '=', value: 'm' }]): Promise<string[]> {
    return textsOf(await this.sim.settle(gathered(this.shard.exemplars({ fromMs: 0, toMs: 2 ** 45 }, [matchers]))));
  }

  metadata(name = ''): MetricMetadata[] {
    return this.shard.metadata(name).flatMap(parseMetadataText);
  }
}

describe('a shard', () => {
  test('takes exemplars and metadata without a sample, and repeats change nothing', async () => {
    const bench = await new Bench().open();
    const list = listOf([series(1), one(NOW)], [series(2), one(NOW - 1, 2)], [series(1), one(NOW - 5)]);
    const told = encodeMetadata([described('m', 'Help.')]);
    for (let i = 0; i < 2; i++) {
      const { code, exemplarCount, refusedExemplars } = await bench.append({ exemplars: list, metadata: told });
      expect([code, exemplarCount, refusedExemplars]).toEqual(['OK', 3, []]);
    }
    expect(await bench.exemplars()).toEqual([
      `m{n="1"} {t="a"}@${NOW - 5}=1`,
      `m{n="1"} {t="a"}@${NOW}=1`,
      `m{n="2"} {t="a"}@${NOW - 1}=2`,
    ]);
    expect(await bench.exemplars([{ name: 'n', op: '!=', value: '1' }])).toHaveLength(1);
    expect(bench.metadata()).toEqual([described('m', 'Help.')]);
    expect(bench.shard.stats()).toMatchObject({
      exemplarCount: 3,
      exemplarSeriesCount: 2,
      metadataCount: 1,
      seriesCount: 0,
    });
  });

  test('refuses exemplars for what they are, and stores the others', async () => {
    const bench = await new Bench().open();
    await bench.append({ exemplars: listOf([series(1), one(NOW)]) });
    const { code, exemplarCount, refusedExemplars } = await bench.append({
      exemplars: listOf(
        [series(1), one(NOW - 26 * HOUR)],
        [series(2), one(NOW - 26 * HOUR)],
        [series(1), one(NOW - 26 * HOUR + 1)],
        [series(3), one(NOW + 11 * 60_000)],
        [series(3), one(NOW, 1, { t: 'x'.repeat(128) })],
        [NO_BYTES, one(NOW)],
        [Uint8Array.of(1), one(NOW)],
        [series(3), { ...one(NOW), labels: Uint8Array.of(1, 2) }],
      ),
    });
    expect([code, exemplarCount]).toEqual(['OK', 2]);
    expect(refusedExemplars.map((refusal) => [refusal.code, refusal.message])).toEqual([
      [
        'TOO_OLD',
        expect.stringContaining(
          'series m{n="1"}: at 1767132000000 ms, out of order: more than the accepted 26 h before',
        ),
      ],
      ['TOO_FAR_AHEAD', expect.stringContaining('more than the accepted 10 min ahead')],
      ['INVALID_LABELS', expect.stringContaining('129 characters together, at most 128 are allowed')],
      ['INVALID_LABELS', expect.stringContaining('its series has no labels')],
      ['INVALID_LABELS', expect.stringContaining('exemplar of series (unreadable)')],
      ['INVALID_LABELS', expect.stringContaining('exemplar of series m{n="3"}')],
    ]);
    expect(bench.shard.stats()).toMatchObject({ exemplarCount: 3, refusedExemplarCount: 6 });
    expect(await bench.append({ exemplars: Uint8Array.of(1, 0) })).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await bench.append({ metadata: Uint8Array.of(1, 0) })).toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  test('has what it acknowledged after kill -9 and a restart, with and without a checkpoint, and after a power cut what was fsynced', async () => {
    const bench = await new Bench({ maxExemplarCount: () => 50, checkpointIntervalMs: 60_000 }).open();
    let metadata: MetricMetadata[] = [];
    let exemplars: string[] = [];
    for (let round = 0; round < 12; round++) {
      const fresh = Array.from(
        { length: 7 },
        (_, i) => [series(i % 3), one(NOW - 1000 + 10 * round + i, round)] as const,
      );
      const ack = round % 3 === 2 ? 'FSYNC' : 'LOCAL';
      const told = encodeMetadata([described('m', `Help ${round % 5}`), described(`m${round}`, 'x')]);
      expect(await bench.append({ exemplars: listOf(...fresh), metadata: told }, ack)).toMatchObject({
        code: 'OK',
        exemplarCount: 7,
      });
      exemplars = await bench.exemplars();
      metadata = bench.metadata();
      expect(exemplars).toHaveLength(Math.min(50, 7 * (round + 1)));
      if (round % 4 === 1) {
        await bench.sim.advance(120_000);
        await bench.sim.settle(bench.shard.tick());
        expect(bench.shard.stats().checkpointAgeMs).toBeLessThan(10_000);
      }
      if (round % 3 === 0) bench.sim.kill();
      else if (round % 3 === 1) await bench.sim.settle(bench.shard.close());
      else bench.sim.crash();
      await bench.open();
      expect((await bench.exemplars()).sort()).toEqual(exemplars.sort());
      expect(bench.metadata().toSorted(byText)).toEqual(metadata.toSorted(byText));
      expect(bench.metadata('m')).toEqual(metadata.filter(({ name }) => name === 'm'));
      expect(bench.shard.stats().problems).toEqual([]);
    }
  });

  test("gives its exemplars and metadata to a copy, which logs them as another's, once", async () => {
    const bench = await new Bench().open();
    const record = (kind: number, payload: Uint8Array): Uint8Array => {
      const head = Buffer.alloc(6);
      head[0] = kind;
      head.writeUInt32LE(payload.length, 2);
      return Buffer.concat([head, payload]);
    };
    // What admission would refuse is taken: it was decided elsewhere.
    const list = listOf([series(1), one(NOW)], [series(1), one(NOW - 100 * HOUR)]);
    const records = Buffer.concat([
      record(RecordKind.EXEMPLAR, list),
      record(RecordKind.METADATA, encodeMetadata([described('m', 'Help.')])),
    ]);
    const replica = bench.shard.replica(1);
    expect(await bench.sim.settle(replica.apply(records))).toBeGreaterThan(0);
    expect(await bench.sim.settle(replica.apply(records))).toBe(0);
    await bench.sim.settle(replica.written(2));
    bench.sim.kill();
    await bench.open();
    expect(await bench.exemplars()).toHaveLength(2);
    expect(bench.metadata()).toEqual([described('m', 'Help.')]);
    expect(bench.shard.stats().recoveredRecordCount).toBe(2);
  });
});

const byText = (a: MetricMetadata, b: MetricMetadata): number => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1);
