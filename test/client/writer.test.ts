import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StaticPlacement } from '../../client/placement.ts';
import { type ColumnBatch, Writer, type WriterOptions } from '../../client/writer.ts';
import { ExemplarList } from '../../core/exemplars.ts';
import { encodeIdentity, makeLabels } from '../../core/labels.ts';
import { encodeMetadata } from '../../core/metadata.ts';
import type { PlacementView } from '../../core/placement.ts';
import { helloOf, SPOKEN } from '../../core/versions.ts';
import { env, FakeNode, placementOf } from './fake.ts';

/** Reference r of shard s is the series s{r="r"}. */
const source = {
  identity: (shard: number, ref: number) => encodeIdentity(makeLabels({ __name__: `s${shard}`, r: String(ref) })),
};

function batch(shard: number, runs: readonly (readonly [ref: number, ...timestamps: number[]])[]): ColumnBatch {
  const timestamps = runs.flatMap(([, ...own]) => own);
  return {
    shard,
    refs: Uint32Array.from(runs, ([ref]) => ref),
    counts: Uint32Array.from(runs, (run) => run.length - 1),
    timestamps: new Uint8Array(BigInt64Array.from(timestamps, BigInt).buffer),
    values: new Uint8Array(Float64Array.from(timestamps, (t) => t / 2).buffer),
  };
}

let nodes: FakeNode[];
let writers: Writer[];

beforeEach(async () => {
  nodes = [await FakeNode.start(), await FakeNode.start()];
  writers = [];
});

afterEach(() => {
  for (const writer of writers) writer.close();
  for (const node of nodes) node.stop();
});

function writerTo(placement: PlacementView, options: Partial<WriterOptions> = {}): Writer {
  const writer = new Writer({ env, placement, source, caller: 'test', ...options });
  writers.push(writer);
  return writer;
}

/** Shards 0 and 1, each on its own node. */
function pair(): [FakeNode, FakeNode, StaticPlacement] {
  const [a, b] = nodes as [FakeNode, FakeNode];
  return [a, b, new StaticPlacement(placementOf([[a.address], [b.address]]))];
}

/** Far more than any of these writes needs: not a limit, but an end. */
const BRIEF = { timeoutMs: 30_000 };

describe('a writer', () => {
  it('brings each shard to its owner and acknowledges', async () => {
    const [a, b, placement] = pair();
    const writer = writerTo(placement);
    const outcome = await writer.write(
      [
        batch(0, [
          [1, 10, 20],
          [2, 10],
        ]),
        batch(1, [[1, 30]]),
      ],
      BRIEF,
    );
    expect(outcome.acknowledgedCount).toBe(4);
    expect(outcome.results.map(({ code, acknowledgedCount }) => [code, acknowledgedCount])).toEqual([
      ['OK', 3],
      ['OK', 1],
    ]);
    expect([...a.samples.keys()]).toEqual(['s0{r="1"}', 's0{r="2"}']);
    expect([...(a.samples.get('s0{r="1"}') ?? [])]).toEqual(['10=4014000000000000', '20=4024000000000000']);
    expect([...b.samples.keys()]).toEqual(['s1{r="1"}']);
    expect(a.hellos).toEqual([helloOf(SPOKEN, 'c', 'test')]);
    expect(a.requests[0]?.shards[0]?.epoch).toBe(1);
  });

  it('defines a reference once per stream', async () => {
    const [a, , placement] = pair();
    const writer = writerTo(placement);
    for (let i = 0; i < 3; i++)
      await writer.write(
        [
          batch(0, [
            [5, i],
            [6, i],
          ]),
        ],
        BRIEF,
      );
    expect(a.requests.map((request) => (request.shards[0]?.definitions.length ?? 0) > 0)).toEqual([true, false, false]);
    writer.redefine(0, 6);
    await writer.write(
      [
        batch(0, [
          [5, 9],
          [6, 9],
        ]),
      ],
      BRIEF,
    );
    expect(a.requests[3]?.shards[0]?.definitions).toHaveLength(8 + source.identity(0, 6).length);
  });

  it('tells a node again what it has forgotten, and sends only those runs again', async () => {
    const [a, , placement] = pair();
    const writer = writerTo(placement);
    await writer.write(
      [
        batch(0, [
          [5, 1],
          [6, 1],
        ]),
      ],
      BRIEF,
    );
    a.forget();
    const outcome = await writer.write(
      [
        batch(0, [
          [5, 2, 3],
          [6, 2],
          [7, 2, 3, 4],
        ]),
      ],
      BRIEF,
    );
    expect(outcome.acknowledgedCount).toBe(6);
    expect(a.sampleCount).toBe(8);
    // 7 was new and therefore known.
    expect([...(a.requests[2]?.shards[0]?.refs ?? [])]).toEqual([5, 0, 0, 0, 6, 0, 0, 0]);
    expect(writer.stats().unknownRefCount).toBe(1);
  });

  it('brings what is beside the samples with them or without, once', async () => {
    const [a, , placement] = pair();
    const writer = writerTo(placement);
    const list = new ExemplarList();
    const identity = source.identity(0, 5);
    for (let i = 0; i < 3; i++) list.add(identity, { labels: new Uint8Array(0), timestampMs: i, value: i });
    const annex = { exemplars: list.take(), metadata: encodeMetadata([{ name: 'm', type: 1, unit: '', help: '' }]) };
    let attempts = 0;
    a.judge = () => (++attempts === 1 ? { code: 'UNAVAILABLE', message: 'opening', retryAfterMs: 1 } : undefined);
    const alone = await writer.write([{ ...batch(0, []), ...annex }], BRIEF);
    expect(alone).toMatchObject({ acknowledgedCount: 0, results: [{ code: 'OK', exemplarCount: 3 }] });
    await writer.write([batch(0, [[5, 1]])], BRIEF);
    a.forget();
    a.requests.length = 0;
    const timestamps = Array.from({ length: 70_000 }, (_, i) => i);
    const outcome = await writer.write([{ ...batch(0, [[5, ...timestamps]]), ...annex }], BRIEF);
    expect(outcome).toMatchObject({ acknowledgedCount: 70_000, results: [{ code: 'OK', exemplarCount: 3 }] });
    const sent = a.requests.flatMap(({ shards }) => shards);
    // Two pieces, each sent again for the reference that was forgotten.
    expect(sent.map((one) => one.exemplars.length > 0 && one.metadata.length > 0).sort()).toEqual([
      ...Array(sent.length - 1).fill(false),
      true,
    ]);
    expect(sent.length).toBeGreaterThan(2);
  });

  it('takes a broken stream up again, with definitions', async () => {
    const [a, , placement] = pair();
    const writer = writerTo(placement);
    await writer.write([batch(0, [[1, 1]])], BRIEF);
    a.hangUp();
    expect((await writer.write([batch(0, [[1, 2]])], BRIEF)).acknowledgedCount).toBe(1);
    a.stop();
    const during = writer.write([batch(0, [[1, 3]])], { timeoutMs: 20_000 });
    await new Promise((resolve) => setTimeout(resolve, 300));
    await a.start();
    expect((await during).acknowledgedCount).toBe(1);
    expect(a.sampleCount).toBe(3);
    expect(writer.stats().reconnectCount).toBeGreaterThanOrEqual(2);
    // A new stream is told everything at once, not when it asks.
    expect(writer.stats().unknownRefCount).toBe(0);
  });

  it('asks for the placement again on NOT_OWNER and follows it', async () => {
    const [a, b, placement] = pair();
    const moved = placementOf([[b.address], [b.address]], 2);
    let refreshCount = 0;
    const view: PlacementView = {
      current: () => placement.current(),
      refresh: async () => {
        refreshCount++;
        placement.set(moved);
        return moved;
      },
      onChange: (listener) => placement.onChange(listener),
    };
    a.judge = () => ({ code: 'NOT_OWNER', message: 'not mine' });
    const writer = writerTo(view);
    const outcome = await writer.write([batch(0, [[1, 1]]), batch(1, [[1, 1]])], BRIEF);
    expect(outcome.acknowledgedCount).toBe(2);
    expect([...b.samples.keys()].sort()).toEqual(['s0{r="1"}', 's1{r="1"}']);
    expect(refreshCount).toBe(1);
    expect(writer.stats().notOwnerCount).toBe(1);
  });

  it('goes on to the next copy when the first is gone, home region first', async () => {
    const [a, b] = pair();
    const copy = (address: string, region: string) => ({
      region,
      zone: 'a',
      node: address,
      address,
      state: 'active' as const,
      epoch: 1,
    });
    const placement = new StaticPlacement({
      clusterId: '',
      shardCount: 1,
      revision: 1,
      copies: [[copy(a.address, 'far'), copy(b.address, 'home')]],
    });
    const writer = writerTo(placement, { region: 'home' });
    await writer.write([batch(0, [[1, 1]])], BRIEF);
    expect([a.sampleCount, b.sampleCount]).toEqual([0, 1]);
    b.stop();
    expect((await writer.write([batch(0, [[1, 2]])], BRIEF)).acknowledgedCount).toBe(1);
    expect(a.sampleCount).toBe(1);
  });

  it('waits out an overload', async () => {
    const [a, , placement] = pair();
    let refusals = 2;
    a.judge = () => (refusals-- > 0 ? { code: 'RESOURCE_EXHAUSTED', message: 'full', retryAfterMs: 20 } : undefined);
    const writer = writerTo(placement);
    expect((await writer.write([batch(0, [[1, 1]])], BRIEF)).acknowledgedCount).toBe(1);
    // Two refused, with definitions that were not taken in; one that the node does not know; one stored.
    expect(a.requests).toHaveLength(4);
    // One refusal, and then out of time while it waits: with more of them the last might be out when time is up.
    a.judge = () => ({ code: 'RESOURCE_EXHAUSTED', message: 'full', retryAfterMs: 60_000 });
    const { results } = await writer.write([batch(0, [[1, 2]])], { timeoutMs: 2_000 });
    expect(results[0]).toMatchObject({ code: 'RESOURCE_EXHAUSTED', retryAfterMs: 60_000, acknowledgedCount: 0 });
    expect(results[0]?.message).toContain('full');
  });

  it('sends runs that found no room again, and gives up on those refused for good', async () => {
    const [a, , placement] = pair();
    let fullTimes = 2;
    a.reject = (series) => {
      if (series === 's0{r="1"}') return { code: 'TOO_OLD', message: 'series s0{r="1"} is too old' };
      return series === 's0{r="2"}' && fullTimes-- > 0
        ? { code: 'RESOURCE_EXHAUSTED', message: 'no window' }
        : undefined;
    };
    const { results, acknowledgedCount } = await writerTo(placement).write(
      [
        batch(0, [
          [1, 1, 2],
          [2, 1, 2, 3],
          [3, 1],
        ]),
      ],
      BRIEF,
    );
    expect(acknowledgedCount).toBe(4);
    expect(results[0]).toMatchObject({ code: 'OK', acknowledgedCount: 4 });
    expect(results[0]?.rejections).toEqual([
      {
        ref: 1,
        labels: ['__name__', 's0', 'r', '1'],
        code: 'TOO_OLD',
        message: 'series s0{r="1"} is too old',
        sampleCount: 2,
        retryAfterMs: 0,
      },
    ]);
    expect(a.requests.map((request) => request.shards[0]?.refs.length)).toEqual([12, 4, 4]);
  });

  it('keeps shards apart: one refused, one down, one stored', async () => {
    const [a, b] = pair();
    const placement = new StaticPlacement(placementOf([[a.address], [b.address], [a.address], []]));
    b.stop();
    a.judge = ({ shard }) => (shard === 2 ? { code: 'TOO_LARGE', message: 'too many samples' } : undefined);
    const batches = [0, 1, 2, 3, 4].map((shard) => batch(shard, [[1, 1]]));
    const { results, acknowledgedCount } = await writerTo(placement).write(batches, { timeoutMs: 3000 });
    expect(results.map(({ code }) => code)).toEqual([
      'OK',
      'UNAVAILABLE',
      'TOO_LARGE',
      'UNAVAILABLE',
      'INVALID_ARGUMENT',
    ]);
    expect(results[1]?.message).toContain(b.address);
    expect(results[3]?.message).toContain('no node takes shard 3');
    expect(acknowledgedCount).toBe(1);
  });

  it('says UNCONFIRMED for what was sent and not answered in time', async () => {
    const [a, , placement] = pair();
    const held: (() => void)[] = [];
    a.hold = (answer) => held.push(answer);
    const writer = writerTo(placement, { maxInFlightPerNode: 1 });
    const [sent, unsent] = await Promise.all([
      writer.write([batch(0, [[1, 1]])], { timeoutMs: 2_000 }),
      writer.write([batch(0, [[1, 2]])], { timeoutMs: 2_000 }),
    ]);
    expect(sent.results[0]).toMatchObject({ code: 'UNCONFIRMED', acknowledgedCount: 0 });
    expect(unsent.results[0]).toMatchObject({ code: 'UNAVAILABLE', acknowledgedCount: 0 });
    // What was given up is not sent later: its columns are the caller's again.
    a.hold = undefined;
    for (const answer of held) answer();
    await writer.write([batch(0, [[1, 3]])], BRIEF);
    expect([...(a.samples.get('s0{r="1"}') ?? [])].map((sample) => sample.split('=')[0])).toEqual(['1', '3']);
  });

  it('gives up a stream whose node hangs, and sends again what was on it', async () => {
    const [a, , placement] = pair();
    a.hold = () => undefined;
    let passedMs = 0;
    const clock = { nowMs: () => env.clock.nowMs(), monotonicMs: () => env.clock.monotonicMs() + passedMs };
    const writer = writerTo(placement, { env: { ...env, clock } });
    const written = writer.write([batch(0, [[1, 1]])], { timeoutMs: 20_000 });
    while (a.requests.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    a.hold = undefined;
    passedMs = 60_000;
    expect((await written).acknowledgedCount).toBe(1);
    expect(a.streamCount).toBe(2);
  });

  it('keeps a window of requests per node', async () => {
    const [a, , placement] = pair();
    const held: (() => void)[] = [];
    a.hold = (answer) => held.push(answer);
    const writer = writerTo(placement, { maxInFlightPerNode: 4 });
    const writes = Array.from({ length: 10 }, (_, i) => writer.write([batch(0, [[1, i]])], BRIEF));
    while (held.length < 4) await new Promise((resolve) => setTimeout(resolve, 10));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(a.requests).toHaveLength(4);
    a.hold = undefined;
    for (const answer of held.reverse()) answer();
    expect((await Promise.all(writes)).every(({ acknowledgedCount }) => acknowledgedCount === 1)).toBe(true);
    expect(a.sampleCount).toBe(10);
  });

  it('holds no more bytes than it may', async () => {
    const [a, , placement] = pair();
    const held: (() => void)[] = [];
    a.hold = (answer) => held.push(answer);
    const writer = writerTo(placement, { maxHeldBytes: 100 });
    const first = writer.write([batch(0, [[1, 1, 2, 3]])], BRIEF);
    const { results } = await writer.write([batch(0, [[1, 4, 5, 6]])], BRIEF);
    expect(results[0]?.code).toBe('RESOURCE_EXHAUSTED');
    expect(results[0]?.message).toContain('100');
    while (held.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    held[0]?.();
    expect((await first).acknowledgedCount).toBe(3);
    expect(writer.stats().heldBytes).toBe(0);
  });

  it('cuts large batches into messages, runs included', async () => {
    const [a, , placement] = pair();
    const long = Array.from({ length: 150_000 }, (_, i) => i);
    const { acknowledgedCount } = await writerTo(placement).write(
      [
        batch(0, [
          [1, ...long.slice(0, 10)],
          [2, ...long],
          [3, 1],
        ]),
      ],
      { timeoutMs: 20_000 },
    );
    expect(acknowledgedCount).toBe(150_011);
    expect(a.requests.length).toBeGreaterThan(2);
    expect(a.samples.get('s0{r="2"}')?.size).toBe(150_000);
    expect(a.sampleCount).toBe(150_011);
  });

  it('refuses columns that do not fit together', () => {
    const [, , placement] = pair();
    const writer = writerTo(placement);
    const good = batch(0, [[1, 1, 2]]);
    for (const bad of [{ counts: undefined }, { counts: Uint32Array.of(3) }, { values: good.values.subarray(8) }]) {
      expect(() => writer.write([{ ...good, ...bad }], BRIEF)).toThrow(/shard 0/);
    }
  });

  it('gives up at once when it is closed', async () => {
    const [a, , placement] = pair();
    a.hold = () => undefined;
    const writer = writerTo(placement);
    const sent = writer.write([batch(0, [[1, 1]])], { timeoutMs: 60_000 });
    while (a.requests.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    writer.close();
    expect((await sent).results[0]?.code).toBe('UNCONFIRMED');
    expect((await writer.write([batch(0, [[1, 1]])], BRIEF)).results[0]?.code).toBe('UNAVAILABLE');
  });

  it('refuses to write to another cluster', async () => {
    const [a, , placement] = pair();
    a.judge = () => ({ code: 'INVALID_ARGUMENT', message: 'this is cluster x' });
    const { results } = await writerTo(placement).write([batch(0, [[1, 1]])], BRIEF);
    expect(results[0]).toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  it('stores every acknowledged sample, whatever the nodes answer', async () => {
    const runs = fc.array(fc.tuple(fc.nat(6), fc.nat(1000), fc.nat(1000)), { minLength: 1, maxLength: 6 });
    const writes = fc.array(fc.tuple(fc.nat(1), runs, fc.constantFrom('store', 'forget', 'full', 'hang up')), {
      minLength: 1,
      maxLength: 8,
    });
    await fc.assert(
      fc.asyncProperty(writes, async (plan) => {
        const node = await FakeNode.start();
        const writer = writerTo(new StaticPlacement(placementOf([[node.address], [node.address]])));
        const expected = new Set<string>();
        for (const [shard, own, event] of plan) {
          if (event === 'forget') node.forget();
          if (event === 'hang up') node.hangUp();
          let full = event === 'full';
          node.judge = () => {
            const verdict = full ? ({ code: 'RESOURCE_EXHAUSTED', retryAfterMs: 1 } as const) : undefined;
            full = false;
            return verdict;
          };
          const { acknowledgedCount } = await writer.write([batch(shard, own)], { timeoutMs: 20_000 });
          expect(acknowledgedCount).toBe(2 * own.length);
          for (const [ref, ...timestamps] of own)
            for (const t of timestamps) expected.add(`s${shard}{r="${ref}"} ${t}`);
        }
        const stored = [...node.samples].flatMap(([series, samples]) =>
          [...samples].map((sample) => `${series} ${sample.split('=')[0]}`),
        );
        expect(new Set(stored)).toEqual(expected);
        writer.close();
        node.stop();
      }),
      { numRuns: 25 },
    );
  });
});
