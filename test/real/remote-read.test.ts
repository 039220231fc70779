/**
 * A real Prometheus reads a real cluster through remote read, and answers remote reads of the same samples itself: the
 * answers are the same.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MAX_CHUNK_BYTES, XorEncoder } from '../../coordinator/remote/xor.ts';
import type { Series } from '../ingest/message.ts';
import { eventually, freeHttpPort, query, remoteWrite, Sandbox } from '../local/cluster.ts';
import { readFrames, readRequest, readSamples, readXor, seriesOf } from '../remote/wire.ts';

const PROMETHEUS = process.env['SILVERBACK_TEST_PROMETHEUS'];
const [SAMPLES, STREAMED_XOR_CHUNKS] = [0, 1];

describe.runIf(PROMETHEUS !== undefined)('remote read of a real Prometheus', () => {
  const sandbox = new Sandbox();
  const nowMs = Math.floor(Date.now() / 1000) * 1000;
  const startMs = nowMs - 30 * 60_000;
  /** No sample lies at the edge of a range then, of which this Prometheus has another opinion than later ones. */
  const askedMs = nowMs + 500;
  const children: ChildProcess[] = [];
  let output = '';
  let ours = '';
  let theirs = '';

  /** 30 minutes of three series at 5 s, with times and values of several kinds. */
  const series: Series[] = ['a', 'b', 'ü "x"'].map((job, k) => ({
    labels: [
      ['__name__', 'requests_total'],
      ['job', job],
      ['region', `r${k % 2}`],
    ],
    samples: Array.from({ length: 360 }, (_, i): [number, number] => [
      startMs + i * 5_000 + (k === 1 ? (i * 37) % 211 : 0),
      k === 0 ? i * 3 : Math.sin(i * k) * 1e3,
    ]),
  }));

  beforeAll(async () => {
    const directory = await sandbox.directory();
    ({ url: ours } = await sandbox.cluster(await sandbox.directory(), '--no-self-monitoring'));
    const port = await freeHttpPort();
    theirs = `http://127.0.0.1:${port}`;
    const config = join(directory, 'prometheus.yml');
    await writeFile(config, `remote_read: [{ url: '${ours}/api/v1/read?partial=deny', read_recent: true }]\n`);
    const child = spawn(
      PROMETHEUS as string,
      [
        `--config.file=${config}`,
        `--storage.tsdb.path=${join(directory, 'data')}`,
        `--web.listen-address=127.0.0.1:${port}`,
        '--web.enable-remote-write-receiver',
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    children.push(child);
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (bytes: Buffer) => {
        output += bytes.toString();
      });
    }
    expect((await remoteWrite(ours, series)).status).toBe(204);
    // Until each region has heard the other's frontier, answers are unconfirmed, and denied.
    await eventually(async () => {
      const asked = await fetch(`${ours}/api/v1/query?query=requests_total&time=${askedMs / 1000}&partial=deny`);
      expect(asked.status, await asked.text()).toBe(200);
    });
    await eventually(async () => {
      expect((await fetch(`${theirs}/-/ready`).catch(() => undefined))?.status, output.slice(-2_000)).toBe(200);
    });
  });

  afterAll(async () => {
    for (const child of children) {
      if (child.exitCode !== null) continue;
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    }
    await sandbox.close();
  });

  test('it answers queries from our samples', async () => {
    for (const promql of [
      'requests_total',
      'requests_total{job!="a"}[2m]',
      'sum by (region) (rate(requests_total{job=~"a|b"}[5m]))',
      'max_over_time(requests_total{region="r0",job!~"b.*"}[20m])',
      'timestamp(requests_total offset 10m)',
    ]) {
      const [expected, found] = await Promise.all([ours, theirs].map((url) => query(url, promql, askedMs)));
      expect(expected!.length, promql).toBeGreaterThan(0);
      const sorted = (all: typeof expected) => all!.map((one) => JSON.stringify(one)).sort();
      // Sums are taken in another order: the last bits may differ.
      const rounded = (texts: string[]) => texts.map((text) => text.replace(/(\d\.\d{10})\d+/g, '$1'));
      expect(rounded(sorted(found)), promql).toEqual(rounded(sorted(expected)));
    }
  });

  const read = async (
    url: string,
    type: number,
    ...matchers: readonly [type: number, name: string, value: string][]
  ) => {
    const body = readRequest({
      queries: [
        {
          startTimestampMs: startMs + 60_000,
          endTimestampMs: nowMs - 60_000,
          matchers: matchers.map(([type, name, value]) => ({ type, name, value })),
        },
      ],
      acceptedResponseTypes: [type],
    });
    const response = await fetch(`${url}/api/v1/read`, { method: 'POST', body });
    const bytes = Buffer.from(await response.arrayBuffer());
    expect(response.status, bytes.toString()).toBe(200);
    return { type: response.headers.get('content-type'), bytes };
  };

  test('it gives the same answers, in both forms', async () => {
    const own = await remoteWrite(theirs, series);
    expect(own.status, await own.text()).toBe(204);
    for (const matchers of [
      [[0, '__name__', 'requests_total']],
      [
        [2, '__name__', 'req.*'],
        [1, 'job', 'a'],
      ],
      [
        [3, 'job', 'a|b'],
        [2, 'region', '.+'],
      ],
      [[0, 'job', 'nobody']],
    ] as [number, string, string][][]) {
      const [expected, found] = await Promise.all([theirs, ours].map((url) => read(url, SAMPLES!, ...matchers)));
      expect(found!.type).toBe(expected!.type);
      expect(readSamples(found!.bytes)).toEqual(readSamples(expected!.bytes));
      const [expectedChunks, foundChunks] = await Promise.all(
        [theirs, ours].map((url) => read(url, STREAMED_XOR_CHUNKS!, ...matchers)),
      );
      expect(foundChunks!.type).toBe(expectedChunks!.type);
      const [expectedFrames, foundFrames] = [expectedChunks, foundChunks].map((answer) => readFrames(answer!.bytes));
      expect(seriesOf(foundFrames!)).toEqual(seriesOf(expectedFrames!));
      expect(seriesOf(foundFrames!)).toEqual(readSamples(found!.bytes)[0]);
      // Where its chunks begin depends on the time of day; of the same samples ours have the same bits. Its own may have a
      // byte more: it takes the next one before it knows that it needs it.
      for (const { chunks } of expectedFrames!) {
        for (const { data } of chunks) {
          const own = ownChunk(readXor(data));
          const same = [Buffer.from(own), Buffer.concat([own, Buffer.of(0)])].some((bytes) => bytes.equals(data));
          expect(same, Buffer.from(data).toString('hex')).toBe(true);
        }
      }
    }
  });
});

function ownChunk(samples: readonly (readonly [timeMs: number, bits: string])[]): Uint8Array {
  const values = Buffer.concat(samples.map(([, bits]) => Buffer.from(bits, 'hex').reverse()));
  const columns = {
    timestamps: Float64Array.from(samples, ([timeMs]) => timeMs),
    values: new Float64Array(new Uint8Array(values).buffer),
  };
  const out = new Uint8Array(MAX_CHUNK_BYTES);
  return out.subarray(0, new XorEncoder().encode(columns, 0, samples.length, out, 0));
}
