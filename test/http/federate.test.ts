import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Coverage } from '../../coordinator/query/queryable.ts';
import { type Fixture, serve, stored } from './fixture.ts';

let server: Fixture;
let nowMs: number;

beforeEach(async () => {
  server = await serve();
  // The lookback is long beside what a test takes.
  nowMs = Date.now();
  server.store.series_ = [
    stored({ __name__: 'up', job: 'b', instance: '2' }, [
      [nowMs - 30_000, 1],
      [nowMs - 15_000, 0],
    ]),
    stored({ __name__: 'up', job: 'a', path: 'C:\\x "y"\nz' }, [[nowMs - 1_000, 1.5e-7]]),
    stored({ __name__: 'long', job: 'a' }, [[nowMs - 310_000, 1]]),
    stored({ __name__: 'ended', job: 'a' }, [
      [nowMs - 20_000, 1],
      [nowMs - 10_000, Number.NaN],
    ]),
    stored({ __name__: 'infinite', job: 'a' }, [[nowMs - 1_000, Number.NEGATIVE_INFINITY]]),
    stored({ __name__: 'real:nan', job: 'a' }, [[nowMs - 1_000, Number.NaN]]),
    stored({ __name__: '3.odd-näme', job: 'a', 'a.b': 'ü' }, [[nowMs - 1_000, -0]]),
    stored({ job: 'a', nameless: 'yes' }, [[nowMs - 1_000, 1]]),
    stored({ __name__: 'ahead', job: 'a' }, [[nowMs + 3_600_000, 1]]),
  ];
  new Uint32Array(server.store.series_[3]!.values.buffer).set([2, 0x7ff00000], 2);
});
afterEach(() => server.close());

async function scrape(...parameters: [string, string][]) {
  const response = await fetch(`${server.url}/federate?${new URLSearchParams(parameters)}`);
  return { status: response.status, headers: response.headers, text: await response.text() };
}

describe('federation', () => {
  it('has the newest sample of each series within the lookback, sorted, as text', async () => {
    const { status, headers, text } = await scrape(['match[]', '{job="a"}'], ['match[]', 'up'], ['match[]', 'up']);
    expect(status).toBe(200);
    expect(headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(headers.get('x-silverback-coverage')).toBe('complete');
    expect(text.split('\n')).toEqual([
      '# TYPE _3_odd_n_me untyped',
      `_3_odd_n_me{a_b="ü",job="a",instance=""} -0 ${nowMs - 1_000}`,
      '# TYPE infinite untyped',
      `infinite{job="a",instance=""} -Inf ${nowMs - 1_000}`,
      '# TYPE real:nan untyped',
      `real:nan{job="a",instance=""} NaN ${nowMs - 1_000}`,
      '# TYPE up untyped',
      `up{instance="2",job="b"} 0 ${nowMs - 15_000}`,
      `up{job="a",path="C:\\\\x \\"y\\"\\nz",instance=""} 1.5e-07 ${nowMs - 1_000}`,
      '',
    ]);
  });

  it('is empty without selectors, and refuses bad ones', async () => {
    expect(await scrape()).toMatchObject({ status: 200, text: '' });
    const refused = await scrape(['match[]', 'up'], ['match[]', '{job=']);
    expect(refused).toMatchObject({ status: 400, text: expect.stringContaining('invalid parameter "match[]"') });
    expect(refused.headers.get('content-type')).toBe('text/plain; charset=utf-8');
  });

  it('says what is missing, or is refused then', async () => {
    const missing: Coverage = { shard: 1, fromMs: 0, toMs: 1, state: 'missing', reason: 'node-2 does not answer' };
    server.store.coverage = [{ shard: 0, fromMs: 0, toMs: 1, state: 'complete' }, missing];
    expect((await scrape(['match[]', 'up'])).headers.get('x-silverback-coverage')).toBe('missing; shards=1');
    expect(await scrape(['match[]', 'up'], ['match[]', 'x'], ['partial', 'deny'])).toMatchObject({
      status: 503,
      text: expect.stringMatching(/^the answer is not complete: shard 1 from .* missing: node-2 does not answer\n$/),
    });
  });

  it('has many series in many pieces', async () => {
    server.store.series_ = Array.from({ length: 20_000 }, (_, i) =>
      stored({ __name__: `m${i % 7}`, host: `host-${String((i * 7919) % 20_000).padStart(5, '0')}`, job: 'x' }, [
        [nowMs - 1_000, i],
      ]),
    );
    const lines = (await scrape(['match[]', '{job="x"}'])).text.split('\n').filter((line) => /^m/.test(line));
    expect(lines).toHaveLength(20_000);
    expect(lines).toEqual([...lines].sort());
  });
});
