/** `npm start`, end to end, on real processes. */
import { existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Client } from '../../client/index.ts';
import type { NodeReport } from '../../coordinator/cluster/report.ts';
import { eventually, freeHttpPort, isAlive, isFree, query, remoteWrite, Sandbox } from './cluster.ts';

/** What npm ends with after a Ctrl-C: by SIGINT itself (no code) where the shell between npm and us ends so, else our 0. */
const ENDED = [0, null];

/** What runs unless told otherwise. */
const PARTS = ['coordinator', 'east-1', 'east-2', 'west-1', 'west-2'];

let sandbox: Sandbox;
beforeEach(() => {
  sandbox = new Sandbox();
});
afterEach(() => sandbox.close());

describe('a local cluster', () => {
  test('starts, takes writes, survives kill -9, stops cleanly, and finds its data again', async () => {
    const dataDir = await sandbox.directory();
    const { run, url, httpPort } = await sandbox.cluster(dataDir, '--shards', '8');
    for (const name of PARTS) expect(isAlive(run.pidOf(name))).toBe(true);
    for (const words of [url, `${url}/api/v1/write`, dataDir, 'curl -G', 'Ctrl-C']) expect(run.output).toContain(words);
    expect((await fetch(`${url}/-/healthy`)).status).toBe(200);
    expect((await fetch(`${url}/-/ready`)).status).toBe(200);

    // The cluster's own metrics and the machine's are there without anybody doing anything.
    await eventually(async () => {
      const up = await query(url, 'up');
      expect(up.map(({ metric, value }) => `${metric['job']} ${value[1]}`).sort()).toEqual([
        'coordinator 1',
        'host 1',
        ...['node 1', 'node 1', 'node 1', 'node 1'],
      ]);
      expect(await query(url, 'host_memory_total_bytes')).toHaveLength(1);
    });

    // Through remote write and through the SDK, over all shards.
    const nowMs = Date.now();
    const series = Array.from({ length: 64 }, (_, i) => ({
      labels: [
        ['__name__', 'written'],
        ['i', String(i)],
      ] as const,
      samples: [
        [nowMs - 1_000, i],
        [nowMs, i + 0.5],
      ] as const,
    }));
    expect((await remoteWrite(url, series)).status).toBe(204);
    const client = new Client({ endpoints: [`127.0.0.1:${httpPort + 5}`] });
    await client.write(
      Array.from({ length: 64 }, (_, i) => ({
        labels: { __name__: 'sent', i: String(i) },
        timestampMs: nowMs,
        value: i,
      })),
    );
    await client.close();
    const sums = async (from: string) => [
      (await query(from, 'sum(written)', nowMs)).map(({ value }) => value[1]),
      (await query(from, 'sum(count_over_time(written[5m]))', nowMs)).map(({ value }) => value[1]),
      (await query(from, 'sum(sent)', nowMs)).map(({ value }) => value[1]),
    ];
    const written = [[String(64 * 31.5 + 32)], ['128'], [String(64 * 31.5)]];
    expect(await sums(url)).toEqual(written);

    // A node dies and comes back with everything.
    const killed = run.pidOf('east-2');
    process.kill(killed, 'SIGKILL');
    await run.said(/east-2 was ended by SIGKILL; starting it again in 0.5 s/);
    await run.said(/east-2 runs again/);
    expect(run.pidOf('east-2')).not.toBe(killed);
    await eventually(async () => expect(await sums(url)).toEqual(written));
    expect((await remoteWrite(url, series)).status).toBe(204);
    expect(await sums(url)).toEqual(written);

    // So does the coordinator.
    process.kill(run.pidOf('coordinator'), 'SIGKILL');
    await run.said(/coordinator runs again/);
    await eventually(async () => expect((await fetch(`${url}/-/ready`)).status).toBe(200));
    expect(await sums(url)).toEqual(written);

    // Ctrl-C ends everything.
    const pids = PARTS.map((name) => run.pidOf(name));
    expect(ENDED).toContain(await run.interrupt());
    expect(run.lines.slice(-2)).toEqual(['stopping ...', 'stopped']);
    expect(pids.filter(isAlive)).toEqual([]);
    expect(await isFree(httpPort)).toBe(true);
    expect(existsSync(join(dataDir, 'lock'))).toBe(false);

    // The second start has the data, and the number of shards is the cluster's.
    const again = await sandbox.cluster(dataDir);
    expect(await sums(again.url)).toEqual(written);
    expect(readFileSync(join(dataDir, 'logs', 'coordinator.log'), 'utf8')).toContain('"shardCount":8');
    expect(ENDED).toContain(await again.run.interrupt());

    const other = sandbox.start('--data-dir', dataDir, '--http-port', String(await freeHttpPort()), '--shards', '32');
    expect(await other.exited).toBe(1);
    expect(other.lines).toEqual([
      'coordinator: --shards 32: this cluster was created with 8 shards, which cannot change',
    ]);
    const fewer = sandbox.start('--data-dir', dataDir, '--nodes', '1');
    expect(await fewer.exited).toBe(1);
    expect(fewer.lines).toEqual([
      expect.stringMatching(/^--nodes 1: .* holds the shards of 2 nodes in each region, at least that many must run$/),
    ]);
  });

  test('--no-self-monitoring starts empty; a supervisor that is killed takes its children along', async () => {
    const dataDir = await sandbox.directory();
    const { run, url } = await sandbox.cluster(
      dataDir,
      '--no-self-monitoring',
      '--nodes',
      '1',
      '--max-sample-age',
      'off',
    );
    const year = 365 * 86_400_000;
    const longAgoMs = Date.now() - 3 * year;
    const old = [{ labels: [['__name__', 'old']] as const, samples: [[longAgoMs, 1]] as const }];
    expect((await remoteWrite(url, old)).status).toBe(204);
    expect(await query(url, 'old', longAgoMs)).toHaveLength(1);
    expect(await query(url, '{__name__!=""}')).toEqual([]);
    const pids = ['coordinator', 'east-1', 'west-1'].map((name) => run.pidOf(name));
    run.signal('SIGKILL');
    await run.exited;
    await eventually(() => expect(pids.filter(isAlive)).toEqual([]));
    const again = await sandbox.cluster(dataDir, '--no-self-monitoring', '--max-sample-age', 'off');
    expect(await query(again.url, 'old', longAgoMs)).toHaveLength(1);
  });

  test('goes on when nobody reads what it says any more, and still ends in order', async () => {
    const flags = ['--no-self-monitoring', '--nodes', '1', '--move-rate', '1MiB'];
    const { run, url } = await sandbox.cluster(await sandbox.directory(), ...flags);
    const pids = ['coordinator', 'east-1', 'west-1'].map((name) => run.pidOf(name));
    run.deafen();
    const [, killed] = pids as [number, number, number];
    // It says so, and has nobody to say it to: when the node has ended, and again when it runs.
    process.kill(killed, 'SIGKILL');
    const back = await eventually(async () => {
      const { data } = (await (await fetch(`${url}/api/v1/cluster/nodes`)).json()) as { data: NodeReport[] };
      const found = data.find(({ node }) => node === 'east-1');
      expect(found).toMatchObject({ state: 'up', registered: true, moveBytesPerSecond: 2 ** 20 });
      expect(found?.pid).not.toBe(killed);
      return found?.pid as number;
    });
    expect(await query(url, 'none')).toEqual([]);
    await run.interrupt();
    expect([...pids, back].filter(isAlive)).toEqual([]);
  });

  test('samples older than --max-sample-age are refused, naming the series and the rule', async () => {
    const { url } = await sandbox.cluster(await sandbox.directory(), '--no-self-monitoring', '--max-sample-age', '1h');
    const samples = [[Date.now() - 2 * 3_600_000, 1]] as const;
    const refused = await remoteWrite(url, [
      {
        labels: [
          ['__name__', 'late'],
          ['who', 'me'],
        ],
        samples,
      },
    ]);
    expect(refused.status).toBe(400);
    expect(await refused.text()).toMatch(/late.*who.*me/);
  });
});

describe('what cannot be done is said in one line', () => {
  const refused = async (...args: string[]): Promise<string> => {
    const run = sandbox.start(...args);
    expect(await run.exited, run.output).toBe(1);
    expect(run.lines, run.output).toHaveLength(1);
    return run.lines[0]!;
  };

  test('flags and settings', async () => {
    const directory = await sandbox.directory();
    expect(await refused('--http-prot', '1')).toBe(
      "unknown option '--http-prot' (Did you mean --http-port?) (try --help)",
    );
    expect(await refused('--nodes', 'x')).toBe('--nodes: expected a whole number from 1 to 64, got "x"');
    expect(await refused('--regions', '17')).toBe('--regions: expected a whole number from 1 to 16, got "17"');
    expect(await refused('--regions', '2', '--nodes', '50', '--data-dir', directory)).toBe(
      '--regions 2 of --nodes 50: at most 99 nodes can be run in all',
    );
    const file = join(directory, 'silverback.yaml');
    await writeFile(file, 'nodes: 2\nmax-sample-age: long\n');
    expect(await refused('--config', file)).toBe(
      `${file}:2: max-sample-age: expected a duration such as 26h or 90m, or off, got "long"`,
    );
    await writeFile(file, 'nodes: 2\nmemory: 2GiB\n');
    expect(await refused('--config', file)).toContain(`${file}:2: memory: no such setting; there are http-port, `);
    expect(await refused('--config', join(directory, 'none.yaml'))).toMatch(
      /^--config: cannot read .*none\.yaml: ENOENT/,
    );
  });

  test('--help is printed, and nothing is started', async () => {
    const run = sandbox.start('--help');
    expect(await run.exited).toBe(0);
    const flags = [
      '--http-port',
      '--data-dir',
      '--regions',
      '--nodes',
      '--shards',
      '--no-self-monitoring',
      '--max-sample-age',
      '--move-rate',
      '--config',
      '--help',
    ];
    for (const flag of flags) expect(run.output).toContain(flag);
  });

  test('a port in use', async () => {
    const port = await freeHttpPort();
    for (const taken of [port, port + 5, port + 11, port + 112]) {
      const squatter = createServer();
      await new Promise<void>((listening) => squatter.listen(taken, '127.0.0.1', () => listening()));
      const line = await refused('--http-port', String(port), '--data-dir', await sandbox.directory());
      expect(line).toBe(`port ${taken} is in use: choose other ports with --http-port (the others follow from it)`);
      await new Promise((closed) => squatter.close(closed));
    }
  });

  test('a data directory in use by a living cluster', async () => {
    const dataDir = await sandbox.directory();
    const { url, run } = await sandbox.cluster(dataDir, '--no-self-monitoring', '--nodes', '1');
    const line = await refused('--http-port', String(await freeHttpPort()), '--data-dir', dataDir);
    expect(line).toMatch(new RegExp(`^${dataDir} is in use by process \\d+$`));
    expect((await fetch(`${url}/-/ready`)).status).toBe(200);
    expect(ENDED).toContain(await run.interrupt());
  });
});

test('settings of the file reach every process', async () => {
  const dataDir = await sandbox.directory();
  const file = join(await sandbox.directory(), 'silverback.yaml');
  await writeFile(file, 'nodes: 1\nshards: 4\nself-monitoring: false\nseries-per-shard: 3\n');
  const { url } = await sandbox.cluster(dataDir, '--config', file);
  const samples = [[Date.now(), 1]] as const;
  const many = Array.from({ length: 40 }, (_, i) => ({
    labels: [
      ['__name__', 'm'],
      ['i', String(i)],
    ] as const,
    samples,
  }));
  const refused = await remoteWrite(url, many);
  expect(refused.status).toBe(400);
  expect((await query(url, 'count(m)')).map(({ value }) => Number(value[1]))[0]).toBeLessThanOrEqual(12);
});
