/** Prometheus's own command-line client (promtool, of the package test/setup/parts.js unpacks) asks a real cluster. */
import { execFile } from 'node:child_process';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { query, remoteWrite, Sandbox } from '../local/cluster.ts';

const PROMETHEUS = process.env['SILVERBACK_TEST_PROMETHEUS'];

const run = promisify(execFile);

describe.runIf(PROMETHEUS !== undefined)('promtool', () => {
  const sandbox = new Sandbox();
  const nowMs = Math.floor(Date.now() / 1000) * 1000;
  const seconds = (agoSeconds: number) => String(nowMs / 1000 - agoSeconds);
  let url = '';

  const promtool = async (...args: string[]): Promise<string[]> => {
    const { stdout } = await run(join(dirname(PROMETHEUS as string), 'promtool'), args);
    return stdout.trim().split('\n').sort();
  };

  beforeAll(async () => {
    ({ url } = await sandbox.cluster(await sandbox.directory(), '--no-self-monitoring'));
    const series = ['a', 'b'].map((job, i) => ({
      labels: [
        ['__name__', 'requests_total'],
        ['job', job],
        ['path', '/ü "x"'],
      ] as const,
      samples: [60, 45, 30, 15, 0].map((ago, n): [number, number] => [nowMs - ago * 1000, (i + 1) * 10 * n]),
    }));
    expect((await remoteWrite(url, series)).status).toBe(204);
    expect(await query(url, 'requests_total', nowMs)).toHaveLength(2);
  });
  afterAll(() => sandbox.close());

  test('query instant', async () => {
    expect(await promtool('query', 'instant', `--time=${seconds(0)}`, url, 'requests_total')).toEqual([
      `requests_total{job="a", path="/ü \\"x\\""} => 40 @[${seconds(0)}]`,
      `requests_total{job="b", path="/ü \\"x\\""} => 80 @[${seconds(0)}]`,
    ]);
    expect(await promtool('query', 'instant', `--time=${seconds(0)}`, url, 'scalar(sum(requests_total))')).toEqual([
      `scalar: 120 @[${seconds(0)}]`,
    ]);
  });

  test('query range', async () => {
    const times = [`--start=${seconds(30)}`, `--end=${seconds(0)}`, '--step=15s'];
    const expr = 'sum(rate(requests_total[30s]))';
    const [line, ...points] = (
      await run(join(dirname(PROMETHEUS as string), 'promtool'), ['query', 'range', ...times, url, expr])
    ).stdout
      .trim()
      .split('\n');
    expect(line).toBe('{} =>');
    expect(points).toEqual([30, 15, 0].map((ago) => `2 @[${seconds(ago)}]`));
  });

  test('query series and query labels', async () => {
    const times = [`--start=${seconds(60)}`, `--end=${seconds(0)}`];
    expect(await promtool('query', 'series', ...times, '--match={job="b"}', url)).toEqual([
      '{__name__="requests_total", job="b", path="/ü \\"x\\""}',
    ]);
    expect(await promtool('query', 'labels', ...times, url, 'job')).toEqual(['a', 'b']);
    expect(await promtool('query', 'labels', ...times, '--match={job="b"}', url, 'job')).toEqual(['b']);
  });

  test('an error reaches the person, in words', async () => {
    const failed = promtool('query', 'instant', url, 'sum(');
    await expect(failed).rejects.toMatchObject({ code: 1, stderr: expect.stringMatching(/parse error/) });
  });
});
