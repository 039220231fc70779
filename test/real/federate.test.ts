/** A real Prometheus scrapes `/federate` of a real cluster with `honor_labels`, and promtool reads what it says. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually, freeHttpPort, query, remoteWrite, Sandbox } from '../local/cluster.ts';

const PROMETHEUS = process.env['SILVERBACK_TEST_PROMETHEUS'];

describe.runIf(PROMETHEUS !== undefined)('federation with a real Prometheus', () => {
  const sandbox = new Sandbox();
  let nowMs = 0;
  let prometheus: ChildProcess | undefined;
  let output = '';
  let ours = '';
  let theirs = '';

  beforeAll(async () => {
    const directory = await sandbox.directory();
    ({ url: ours } = await sandbox.cluster(await sandbox.directory(), '--no-self-monitoring'));
    nowMs = Math.floor(Date.now() / 1000) * 1000;
    const answer = await remoteWrite(ours, [
      {
        labels: [
          ['__name__', 'job:requests:rate5m'],
          ['instance', 'host-1:80'],
          ['job', 'a "b" \\ ü'],
        ],
        samples: [[nowMs - 1_000, 41.5]],
      },
      {
        labels: [
          ['__name__', 'job:requests:rate5m'],
          ['job', 'sum'],
        ],
        samples: [[nowMs - 2_000, 1e-9]],
      },
      { labels: [['__name__', 'other']], samples: [[nowMs, 1]] },
    ]);
    expect(answer.status).toBe(204);

    const port = await freeHttpPort();
    theirs = `http://127.0.0.1:${port}`;
    const config = join(directory, 'prometheus.yml');
    await writeFile(
      config,
      `
scrape_configs:
  - job_name: federate
    scrape_interval: 1s
    honor_labels: true
    metrics_path: /federate
    params: { 'match[]': ['{__name__=~"job:.*"}', '{job="nobody"}'] }
    static_configs: [{ targets: ['${new URL(ours).host}'] }]
`,
    );
    prometheus = spawn(
      PROMETHEUS as string,
      [
        `--config.file=${config}`,
        `--storage.tsdb.path=${join(directory, 'data')}`,
        `--web.listen-address=127.0.0.1:${port}`,
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    for (const stream of [prometheus.stdout, prometheus.stderr]) {
      stream?.on('data', (bytes: Buffer) => {
        output += bytes.toString();
      });
    }
  });

  afterAll(async () => {
    if (prometheus !== undefined && prometheus.exitCode === null) {
      const ended = once(prometheus, 'exit');
      prometheus.kill('SIGTERM');
      await ended;
    }
    await sandbox.close();
  });

  test('it has our series as they are here, labels and times', async () => {
    const selector = 'last_over_time({__name__=~"job:.*"}[5m])';
    const found = await eventually(async () => {
      const all = await query(theirs, `timestamp(${selector.replace('last_over_time(', '').replace('[5m])', '')})`);
      expect(all, output.slice(-2_000)).toHaveLength(2);
      return all;
    });
    // Written once: while the scrapes repeat them the times stay theirs.
    expect(found.map(({ metric, value }) => [metric['job'], Number(value[1])]).sort()).toEqual([
      ['a "b" \\ ü', nowMs / 1000 - 1],
      ['sum', nowMs / 1000 - 2],
    ]);
    const series = (await query(theirs, selector)).map(({ metric, value }) => [metric, value[1]] as const);
    expect(series).toHaveLength(2);
    expect(series).toEqual(
      expect.arrayContaining([
        [{ __name__: 'job:requests:rate5m', instance: 'host-1:80', job: 'a "b" \\ ü' }, '41.5'],
        [{ __name__: 'job:requests:rate5m', job: 'sum' }, expect.stringMatching(/^(1e-9|1e-09)$/)],
      ]),
    );
    expect((await query(theirs, 'up{job="federate"}')).map(({ value }) => value[1])).toEqual(['1']);
  });

  test('promtool can read it', async () => {
    const text = await (await fetch(`${ours}/federate?match[]=${encodeURIComponent('{job=~".+"}')}`)).text();
    const { stdout, stderr } = spawnSync(join(dirname(PROMETHEUS as string), 'promtool'), ['check', 'metrics'], {
      input: text,
      encoding: 'utf8',
    });
    // What it has to say is of the names' style alone; federation has no help texts, Prometheus's neither.
    for (const line of `${stdout}${stderr}`.trim().split('\n'))
      expect(line).toMatch(/^$|no help text|should not contain ':'/);
  });
});
