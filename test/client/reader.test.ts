import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StaticPlacement } from '../../client/placement.ts';
import { type Coverage, type ReadContext, Reader } from '../../client/reader.ts';
import { SilverbackError } from '../../core/errors.ts';
import type { SelectRequest } from '../../core/protocol.ts';
import { complete, env, FakeNode, placementOf, type SentReply } from './fake.ts';

let a: FakeNode;
let b: FakeNode;
let readers: Reader[];

beforeEach(async () => {
  a = await FakeNode.start();
  b = await FakeNode.start();
  readers = [];
});

afterEach(() => {
  for (const reader of readers) reader.close();
  a.stop();
  b.stop();
});

const RANGE = { fromMs: 1_000, toMs: 2_000 };
const never = new AbortController().signal;

function readerOf(placement: StaticPlacement): Reader {
  const reader = new Reader({ env, placement, caller: 'test' });
  readers.push(reader);
  return reader;
}

/** Answers with a page of one byte. */
function gives(byte: number) {
  return async (request: SelectRequest, send: (reply: SentReply) => void) => {
    send({ page: Buffer.of(byte) });
    send({ done: true, coverage: complete(request) });
  };
}

async function select(reader: Reader, context: Partial<ReadContext> = {}) {
  const pages: number[] = [];
  const request = { ...RANGE, matchers: [{ name: 'a', op: '!~' as const, value: 'b' }], maxSeries: 7 };
  const receive = (page: Uint8Array) => void pages.push(page[0] as number);
  const { coverage } = await reader.select(request, receive, { signal: never, ...context });
  const ledger = [...coverage].sort((x, y) => x.shard - y.shard);
  return { pages: pages.sort(), ledger };
}

function brief({ shard, state, reason }: Coverage): unknown[] {
  return [shard, state, reason];
}

describe('a reader', () => {
  it('asks each node once, for its shards', async () => {
    const requests: SelectRequest[] = [];
    for (const [node, byte] of [
      [a, 1],
      [b, 2],
    ] as const) {
      node.select = (request, send) => {
        requests.push(request);
        return gives(byte)(request, send);
      };
    }
    const { pages, ledger } = await select(
      readerOf(new StaticPlacement(placementOf([[a.address], [b.address], [a.address]]))),
    );
    expect(pages).toEqual([1, 2]);
    expect(ledger.map(brief)).toEqual([0, 1, 2].map((shard) => [shard, 'complete', '']));
    expect(requests.map(({ shards }) => shards).sort()).toEqual([[0, 2], [1]]);
    expect(requests[0]).toMatchObject({
      ...RANGE,
      matchers: [{ name: 'a', op: 'NRE', value: 'b' }],
      maxSeries: 7,
      maxSamples: 0,
    });
  });

  it('reports the shards of a node it cannot reach, with the reason', async () => {
    b.stop();
    a.select = gives(1);
    const { pages, ledger } = await select(readerOf(new StaticPlacement(placementOf([[a.address], [b.address], []]))));
    expect(pages).toEqual([1]);
    expect(ledger[0]).toMatchObject({ state: 'complete' });
    expect(ledger[1]).toMatchObject({ shard: 1, state: 'missing', ...RANGE });
    expect(ledger[1]?.reason).toContain(b.address);
    expect(ledger[1]?.reason).toContain('ECONNREFUSED');
    expect(ledger[2]).toMatchObject({ shard: 2, state: 'missing', reason: 'no node holds shard 2' });
  });

  it('asks copies of one region only when told to, and names the copy whose samples they are', async () => {
    a.select = gives(1);
    b.select = gives(2);
    const copyOf = (region: string, node: string, address: string) =>
      ({ region, zone: 'z', node, address, state: 'active', epoch: 1 }) as const;
    const both = [copyOf('east', 'a', a.address), copyOf('west', 'b', b.address)];
    const copies = [both, both, [copyOf('east', 'a', a.address)]];
    const reader = readerOf(new StaticPlacement({ ...placementOf([[], [], []]), copies }));
    const nearest = await select(reader);
    expect(nearest.ledger.map(({ copy }) => copy)).toEqual(['east/a', 'east/a', 'east/a']);
    const { pages, ledger } = await select(reader, { region: 'west' });
    expect(pages).toEqual([2]);
    expect(ledger.map(({ state, copy, reason }) => [state, copy, reason])).toEqual([
      ['complete', 'west/b', ''],
      ['complete', 'west/b', ''],
      ['missing', undefined, 'no node of region west holds shard 2'],
    ]);
    b.stop();
    const alone = await select(reader, { region: 'west' });
    expect(alone.pages).toEqual([]);
    expect(alone.ledger.map(({ state }) => state)).toEqual(['missing', 'missing', 'missing']);
    a.stop();
  });

  it('asks the next copy where the first is gone or has nothing', async () => {
    a.select = async (request, send) => {
      const coverage = request.shards.flatMap((shard) =>
        complete({ ...request, shards: [shard] }).map((entry) =>
          shard === 0 ? { ...entry, state: 'MISSING' as const, reason: 'recovering' } : entry,
        ),
      );
      send({ page: Buffer.of(1), done: true, coverage });
    };
    b.select = gives(2);
    const reader = readerOf(new StaticPlacement(placementOf([[a.address, b.address], [a.address]])));
    const first = await select(reader);
    expect(first.pages).toEqual([1, 2]);
    expect(first.ledger.map(brief)).toEqual([
      [0, 'complete', ''],
      [1, 'complete', ''],
    ]);
    a.stop();
    const second = await select(reader);
    expect(second.pages).toEqual([2]);
    expect(second.ledger.map(({ state }) => state)).toEqual(['complete', 'missing']);
    b.stop();
    expect((await select(reader)).ledger.map(({ state }) => state)).toEqual(['missing', 'missing']);
  });

  it('does not ask another copy for what came in part', async () => {
    a.select = async (_, send) => {
      send({ page: Buffer.of(1) });
      throw new SilverbackError('UNAVAILABLE', 'the shard is closing');
    };
    b.select = gives(2);
    const { pages, ledger } = await select(readerOf(new StaticPlacement(placementOf([[a.address, b.address]]))));
    expect(pages).toEqual([1]);
    expect(ledger.map(({ state }) => state)).toEqual(['missing']);
    expect(ledger[0]?.reason).toContain('the shard is closing');
  });

  it('does not ask another copy for a shard of which something came, though all of it may lack some', async () => {
    a.select = async (request, send) => {
      const coverage = request.shards.flatMap((shard) =>
        complete({ ...request, shards: [shard] }).map((entry) => ({
          ...entry,
          ...{ state: 'MISSING' as const, reason: 'being filled', given: shard === 0 },
        })),
      );
      send({ page: Buffer.of(1), done: true, coverage });
    };
    b.select = gives(2);
    const copies = [a.address, b.address];
    const { pages, ledger } = await select(readerOf(new StaticPlacement(placementOf([copies, copies]))));
    expect(pages).toEqual([1, 2]);
    expect(ledger.map(brief).sort()).toEqual([
      [0, 'missing', 'being filled'],
      [1, 'complete', ''],
    ]);
  });

  describe('of a copy that is not complete', () => {
    /** Gives nothing while another copy may be complete, as nodes do. */
    const wavering = (node: FakeNode, byte: number, state: 'UNCONFIRMED' | 'MISSING') => {
      const ledger = (request: { shards: readonly number[]; fromMs: number; toMs: number }) =>
        complete(request).map((entry) => ({ ...entry, state, reason: `${byte} knows no better` }));
      node.weigh = ledger;
      node.select = async (request, send) => {
        const isFirst = node.reads.at(-1)?.wholeOnly;
        if (!isFirst) send({ page: Buffer.of(byte) });
        send({ done: true, coverage: ledger(request).map((entry) => ({ ...entry, given: !isFirst })) });
      };
    };
    const both = () => readerOf(new StaticPlacement(placementOf([[a.address, b.address]])));
    /** Which of its questions each was to answer in full. */
    const asked = (node: FakeNode) =>
      node.reads.flatMap(({ select, wholeOnly }) => (select === null ? [] : [wholeOnly === true ? 'whole' : 'any']));

    it('asks the one that is', async () => {
      wavering(a, 1, 'UNCONFIRMED');
      b.select = gives(2);
      const { pages, ledger } = await select(both());
      expect(pages).toEqual([2]);
      expect(ledger.map(brief)).toEqual([[0, 'complete', '']]);
      expect([asked(a), asked(b)]).toEqual([['whole'], ['any']]);
    });

    it('takes the best there is, each series once', async () => {
      wavering(a, 1, 'MISSING');
      wavering(b, 2, 'UNCONFIRMED');
      const better = await select(both());
      expect(better.pages).toEqual([2]);
      expect(better.ledger.map(brief)).toEqual([[0, 'unconfirmed', '2 knows no better']]);
      wavering(b, 2, 'MISSING');
      const equal = await select(both());
      expect(equal.pages).toEqual([1]);
      expect(equal.ledger.map(brief)).toEqual([[0, 'missing', '1 knows no better']]);
    });

    it('takes the first where the other one is gone, hangs, or goes just then', async () => {
      wavering(a, 1, 'UNCONFIRMED');
      b.weigh = () => undefined;
      const reader = both();
      const hung = await select(reader);
      expect(hung.pages).toEqual([1]);
      expect(hung.ledger.map(brief)).toEqual([[0, 'unconfirmed', '1 knows no better']]);
      b.weigh = complete;
      b.select = async () => {
        throw new SilverbackError('UNAVAILABLE', 'the node is stopping');
      };
      expect((await select(both())).pages).toEqual([1]);
      b.stop();
      expect((await select(both())).pages).toEqual([1]);
    });

    it('asks no further where there is no other', async () => {
      wavering(a, 1, 'UNCONFIRMED');
      const { pages } = await select(readerOf(new StaticPlacement(placementOf([[a.address]]))));
      expect(pages).toEqual([1]);
      expect(asked(a)).toEqual(['any']);
    });
  });

  it('asks the next copy for all of it where pages are held back and the node breaks off', async () => {
    a.select = async (_, send) => {
      send({ page: Buffer.of(1) });
      throw new SilverbackError('UNAVAILABLE', 'the shard is closing');
    };
    b.select = gives(2);
    const reader = readerOf(new StaticPlacement(placementOf([[a.address, b.address]])));
    const { pages, ledger } = await select(reader, { holdsBack: true });
    expect(pages).toEqual([2]);
    expect(ledger.map(brief)).toEqual([[0, 'complete', '']]);
  });

  it('does not take an answer without an end for a whole one', async () => {
    a.select = async (_, send) => {
      send({ page: Buffer.of(1) });
      setTimeout(() => a.stop(), 50);
    };
    const { ledger } = await select(readerOf(new StaticPlacement(placementOf([[a.address]]))));
    expect(ledger[0]).toMatchObject({ state: 'missing' });
    await a.start();
    a.select = async (_, send) => send({ page: Buffer.of(1), done: true });
    const forgotten = await select(readerOf(new StaticPlacement(placementOf([[a.address]]))));
    expect(forgotten.ledger[0]).toMatchObject({ state: 'missing' });
  });

  it('follows a placement that changed', async () => {
    const placement = new StaticPlacement(placementOf([[a.address]]));
    a.stop();
    b.select = gives(2);
    const moved = {
      current: () => placement.current(),
      onChange: placement.onChange.bind(placement),
      refresh: async () => placementOf([[b.address]], 2),
    };
    const reader = new Reader({ env, placement: moved, caller: 'test' });
    readers.push(reader);
    const { pages, ledger } = await select(reader);
    expect(pages).toEqual([2]);
    expect(ledger.map(brief)).toEqual([[0, 'complete', '']]);
  });

  it('fails as a whole when the request is at fault, and stops the others', async () => {
    let stopped: (() => void) | undefined;
    const isStopped = new Promise<void>((resolve) => {
      stopped = resolve;
    });
    a.select = async () => {
      throw new SilverbackError('TOO_LARGE', 'more than 7 series match');
    };
    b.select = (_request, _send, signal) =>
      new Promise((resolve) => {
        signal.addEventListener('abort', () => {
          stopped?.();
          resolve();
        });
      });
    const reading = select(readerOf(new StaticPlacement(placementOf([[a.address], [b.address]]))));
    await expect(reading).rejects.toMatchObject({ code: 'TOO_LARGE', message: 'more than 7 series match' });
    await isStopped;
  });

  it('fails with what the receiver throws', async () => {
    a.select = gives(1);
    const reader = readerOf(new StaticPlacement(placementOf([[a.address]])));
    const reading = reader.select(
      { ...RANGE, matchers: [] },
      () => {
        throw new RangeError('bad page');
      },
      { signal: never },
    );
    await expect(reading).rejects.toThrow(new RangeError('bad page'));
  });

  it('asks over one stream, which it opens again after a break', async () => {
    a.select = gives(1);
    const reader = readerOf(new StaticPlacement(placementOf([[a.address]])));
    for (let i = 0; i < 3; i++) expect((await select(reader)).pages).toEqual([1]);
    expect(a.reads.map(({ hello }) => hello?.clusterId)).toEqual(['c', undefined, undefined]);
    expect(new Set(a.reads.map(({ id }) => id)).size).toBe(3);
    a.stop();
    await a.start();
    for (let i = 0; ; i++) {
      const { pages } = await select(reader);
      if (pages.length > 0) break;
      expect(i).toBeLessThan(100);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(a.reads.filter(({ hello }) => hello !== null)).toHaveLength(2);
  });

  it('gives credit for what was taken, so that a slow receiver holds up its own read only', async () => {
    const credits = () => a.reads.filter(({ id }) => id === 1).reduce((sum, { credit }) => sum + credit, 0);
    let sent = 0;
    a.select = async (request, send) => {
      if (request.maxSeries === 7) return gives(9)(request, send);
      for (; sent < 20; sent++) {
        while (sent === credits()) await new Promise((resolve) => setTimeout(resolve, 5));
        send({ page: Buffer.of(sent) });
      }
      send({ done: true, coverage: complete(request) });
    };
    const reader = readerOf(new StaticPlacement(placementOf([[a.address]])));
    const pages: number[] = [];
    let release: (() => void) | undefined;
    const receive = ([page]: Uint8Array) => {
      pages.push(page as number);
      return page === 2 ? new Promise<void>((resolve) => (release = resolve)) : undefined;
    };
    const slow = reader.select({ ...RANGE, matchers: [] }, receive, { signal: never });
    while (release === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
    expect((await select(reader)).pages).toEqual([9]);
    expect(pages).toEqual([0, 1, 2]);
    expect(credits()).toBe(6);
    release();
    expect((await slow).coverage.map(brief)).toEqual([[0, 'complete', '']]);
    expect(pages).toEqual(Array.from({ length: 20 }, (_, i) => i));
  });

  it('keeps a request that is too large for the wire away from the others', async () => {
    a.select = gives(1);
    const reader = readerOf(new StaticPlacement(placementOf([[a.address]])));
    const huge = { ...RANGE, matchers: [{ name: 'a', op: '=' as const, value: 'x'.repeat(17 * 2 ** 20) }] };
    await select(reader);
    const reading = reader.select(huge, () => undefined, { signal: never });
    await expect(reading).rejects.toMatchObject({ code: 'TOO_LARGE' });
    expect((await select(reader)).pages).toEqual([1]);
    expect(a.reads.filter(({ hello }) => hello !== null)).toHaveLength(1);
  });

  it('does not fail a read because a node is of another cluster', async () => {
    a.refusal = new SilverbackError('INVALID_ARGUMENT', 'node n belongs to cluster d');
    b.select = gives(2);
    const { pages, ledger } = await select(
      readerOf(new StaticPlacement(placementOf([[a.address, b.address], [a.address]]))),
    );
    expect(pages).toEqual([2]);
    expect(ledger.map(({ state }) => state)).toEqual(['complete', 'missing']);
    expect(ledger[1]?.reason).toContain('belongs to cluster d');
  });

  it('stops when it is told to', async () => {
    const controller = new AbortController();
    a.select = (_request, _send, signal) => new Promise((resolve) => signal.addEventListener('abort', () => resolve()));
    const reading = select(readerOf(new StaticPlacement(placementOf([[a.address]]))), { signal: controller.signal });
    setTimeout(() => controller.abort(), 50);
    await expect(reading).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  it('does not wait for a node for ever', async () => {
    a.select = gives(1);
    b.select = (_request, _send, signal) => new Promise((resolve) => signal.addEventListener('abort', () => resolve()));
    const { pages, ledger } = await select(readerOf(new StaticPlacement(placementOf([[a.address], [b.address]]))), {
      timeoutMs: 2_000,
    });
    expect(pages).toEqual([1]);
    expect(ledger.map(({ state }) => state)).toEqual(['complete', 'missing']);
  });

  it.each([{ old: [] }, { old: ['a'] }, { old: ['a', 'b'] }])(
    'merges label values, as pages or, of old nodes $old, as they are',
    async ({ old }) => {
      a.isOld = old.includes('a');
      b.isOld = old.includes('b');
      a.labels = async () => ['b', '\u{1F600}'];
      b.labels = async () => ['a', 'b', '\uFFFD'];
      const reader = readerOf(new StaticPlacement(placementOf([[a.address], [b.address]])));
      const { values, coverage } = await reader.labelValues('x', { ...RANGE, selectors: [] }, { signal: never });
      // By UTF-8 bytes: not as JavaScript sorts them.
      expect(values).toEqual(['a', 'b', '\uFFFD', '\u{1F600}']);
      expect(coverage).toHaveLength(2);
    },
  );

  it('takes label values that all nodes have as they come', async () => {
    for (const node of [a, b]) node.labels = async () => ['b', '\uFFFD', '\u{1F600}'];
    const reader = readerOf(new StaticPlacement(placementOf([[a.address], [b.address]])));
    const { values } = await reader.labelValues('x', { ...RANGE, selectors: [] }, { signal: never });
    expect(values).toEqual(['b', '\uFFFD', '\u{1F600}']);
  });
});
