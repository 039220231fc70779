/** A client that writes new series without end, into real processes: these are refused and named, all others go on. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { Processes } from '../../chaos/processes.ts';
import { Client, SilverbackError } from '../../client/index.ts';
import { remoteWrite, silverback } from '../local/cluster.ts';
import { PoliteWriter, residentBytes, rowsOf, sumOf } from './support.ts';

const SERIES_PER_SHARD = 2_000;
const SHARD_COUNT = 2;
const MIB = 2 ** 20;

const closers: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function start(...nodeArgs: string[]): Promise<Processes> {
  const dataDir = await mkdtemp(join(tmpdir(), 'silverback-overload-'));
  closers.push(() => rm(dataDir, { recursive: true }));
  const processes = await Processes.create({ dataDir, nodeCount: 1, shardCount: SHARD_COUNT, nodeArgs });
  closers.push(() => processes.kill());
  processes.start();
  await processes.ready();
  return processes;
}

/** Writes new series by the thousand; resolves to what each batch was answered. */
class Exploder {
  readonly client: Client;
  seriesCount = 0;

  constructor(endpoint: string) {
    this.client = new Client({ endpoints: [endpoint], caller: 'exploder', onDrop: () => undefined });
    closers.push(() => this.client.close(0));
  }

  async explode(count: number): Promise<SilverbackError | undefined> {
    const timestampMs = Date.now();
    const samples = Array.from({ length: count }, () => ({
      labels: { __name__: 'runaway_total', job: 'api', id: `request-${this.seriesCount++}` },
      timestampMs,
      value: 1,
    }));
    try {
      await this.client.write(samples);
      return undefined;
    } catch (error) {
      if (!(error instanceof SilverbackError)) throw error;
      return error;
    }
  }
}

test('series past the limit are refused with series, rule and limit; those that are there lose nothing', async () => {
  const processes = await start('--series-per-shard', String(SERIES_PER_SHARD));
  const [node] = processes.nodes as [string];
  const metrics = processes.metricsOf(node);
  const polite = new PoliteWriter(processes.grpc);
  closers.push(() => polite.client.close(0));
  await polite.tick();
  polite.start();
  const exploder = new Exploder(processes.grpc);
  const errors: SilverbackError[] = [];
  // One batch of more series than a sender's refusals are remembered of, too.
  for (const count of [...Array(10).fill(2_000), 40_000]) {
    const error = await exploder.explode(count);
    if (error !== undefined) errors.push(error);
  }
  expect(errors.length).toBeGreaterThan(7);
  for (const { code, message } of errors) {
    expect(code).toBe('SERIES_LIMIT');
    expect(message).toMatch(
      /series runaway_total\{id="request-\d+", job="api"\}: the shard holds 2000 series, at most 2000 are accepted/,
    );
  }
  // A remote write body with both kinds: what is known is stored, the answer says what is not, and not to come again with it.
  const nowMs = Date.now();
  const politeLabels: [string, string][] = [
    ['__name__', 'polite'],
    ['i', '7'],
  ];
  const fresh = Array.from({ length: 500 }, (_, i) => ({
    labels: [
      ['__name__', 'other_total'],
      ['id', String(i)],
    ] as [string, string][],
    samples: [[nowMs, 1] as const],
  }));
  const answer = await remoteWrite(processes.url, [
    { labels: politeLabels, samples: [[nowMs - 600_000, 7]] },
    ...fresh,
  ]);
  const words = await answer.text();
  expect({ status: answer.status, words, after: answer.headers.get('retry-after') }).toMatchObject({
    status: 400,
    after: null,
  });
  expect(words).toMatch(
    /^\d+ samples of new series are refused: series other_total\{id="\d+"\}: the shard holds 2000 series/,
  );
  expect(words.length).toBeLessThan(4_000);
  await polite.stop();
  expect(polite.failures).toEqual([]);
  expect(await polite.storedCount(processes.url)).toBe(polite.sentCount + 1);
  // Who and what causes it.
  for (const { value } of await rowsOf(metrics, 'silverback_shard_series'))
    expect(value).toBeLessThanOrEqual(SERIES_PER_SHARD);
  const refused = 'silverback_node_caller_refused_samples_total';
  expect(await sumOf(metrics, refused, { caller: 'exploder', code: 'SERIES_LIMIT' })).toBeGreaterThan(50_000);
  expect(await sumOf(metrics, refused, { caller: 'polite' })).toBe(0);
  const named = await rowsOf(metrics, 'silverback_node_refused_new_series');
  expect(named[0]?.labels['metric']).toBe('runaway_total');
  const { code, out } = await silverback(processes.url, ['cardinality', '--top', '3']);
  expect(code).toBe(0);
  for (const word of ['runaway_total', 'exploder', 'Full shards', 'new ones are refused']) expect(out).toContain(word);
});

test('series that the memory budget has no room for are refused, and memory stays under it', async () => {
  const budget = 64 * MIB;
  const processes = await start('--memory-budget', '64MiB');
  const [node] = processes.nodes as [string];
  const metrics = processes.metricsOf(node);
  const polite = new PoliteWriter(processes.grpc);
  closers.push(() => polite.client.close(0));
  await polite.tick();
  const emptyBytes = residentBytes(processes.pidOf(node));
  polite.start();
  const exploder = new Exploder(processes.grpc);
  let refusal: SilverbackError | undefined;
  let mostUsed = 0;
  let mostResident = 0;
  for (let after = 0; after < 10 && exploder.seriesCount < 600_000; ) {
    const error = await exploder.explode(10_000);
    refusal ??= error;
    if (error !== undefined) after++;
    mostUsed = Math.max(mostUsed, await sumOf(metrics, 'silverback_node_memory_used_bytes'));
    mostResident = Math.max(mostResident, residentBytes(processes.pidOf(node)));
  }
  await polite.stop();
  expect(refusal?.code).toBe('SERIES_LIMIT');
  expect(refusal?.message).toMatch(
    /series runaway_total\{.*\}: the node holds \d+ bytes of series and open windows, new series are accepted up to 50331648 of its memory budget of 67108864/,
  );
  expect(polite.failures).toEqual([]);
  expect(await polite.storedCount(processes.url)).toBe(polite.sentCount);
  expect(mostUsed).toBeLessThanOrEqual(budget);
  // Beside the budget: garbage of the runtime, and requests under way (at most 128 MiB).
  expect(mostResident - emptyBytes).toBeLessThan(budget + 192 * MIB);
});
