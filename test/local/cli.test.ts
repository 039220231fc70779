/** `silverback` as an operator runs it, against real processes. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { DirectoryReport } from '../../coordinator/cli/verify-directory.ts';
import type { VerifyReport } from '../../coordinator/cluster/digests.ts';
import type {
  CardinalityReport,
  CopyRepair,
  LagReport,
  NodeReport,
  ShardReport,
  StatusReport,
} from '../../coordinator/cluster/report.ts';
import { eventually, query, silverback as runSilverback, Sandbox } from './cluster.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const sandbox = new Sandbox();
let url = '';

const silverback = (args: readonly string[], input = '') => runSilverback(url, args, input);

async function json<T>(...args: string[]): Promise<T> {
  const { code, out, err } = await silverback([...args, '--output', 'json']);
  expect(code, err).toBe(0);
  return JSON.parse(out) as T;
}

beforeAll(async () => {
  ({ url } = await sandbox.cluster(await sandbox.directory(), '--regions', '2', '--nodes', '1', '--shards', '4'));
});
afterAll(() => sandbox.close());

test('a cluster that is well', async () => {
  const status = await json<StatusReport>('status');
  expect(status).toMatchObject({
    metaStore: 'embedded',
    ready: true,
    shardCount: 4,
    nodes: { known: 2, up: 2, down: 0 },
    shardsWithoutCompleteCopy: [],
    regions: [
      { region: 'east', nodes: 1, up: 1 },
      { region: 'west', nodes: 1, up: 1 },
    ],
  });
  const nodes = await json<NodeReport[]>('nodes');
  expect(
    nodes.map(({ node, state, registered, copies, serving }) => [node, state, registered, copies, serving]),
  ).toEqual([
    ['east-1', 'up', true, 4, 4],
    ['west-1', 'up', true, 4, 4],
  ]);
  for (const { pid } of nodes) expect(() => process.kill(pid ?? 0, 0)).not.toThrow();
  const shards = await json<ShardReport[]>('shards', '--region', 'west');
  expect(shards.map(({ shard, complete, copies }) => [shard, complete, copies.map(({ node }) => node)])).toEqual(
    [0, 1, 2, 3].map((shard) => [shard, true, ['west-1']]),
  );
  const lags = await eventually(async () => {
    const found = await json<LagReport[]>('lag');
    expect(found).toHaveLength(8);
    expect(found.every(({ seconds }) => seconds !== null)).toBe(true);
    return found;
  });
  expect(lags[0]).toMatchObject({ lostRecords: 0, from: { node: expect.any(String) } });
  const { out } = await silverback(['status']);
  expect(out).toContain('Shards      4, each with a complete copy\n');
});

test('samples are written and queried', async () => {
  expect(await silverback(['write', 'cli_test{a="1"} 1.5', 'cli_test{a="2"} 2'])).toEqual({
    code: 0,
    out: '2 samples written\n',
    err: '',
  });
  const lines = Array.from({ length: 25_000 }, (_, i) => `cli_lines{i="${i % 100}"} ${i}\n`).join('');
  expect(await silverback(['write'], `# many\n${lines}`)).toMatchObject({
    code: 0,
    out: '25000 samples written\n',
    err: '',
  });
  await eventually(async () => expect((await query(url, 'count(cli_lines)'))[0]?.value[1]).toBe('100'));
  expect((await silverback(['query', 'sum(cli_test)'])).out).toBe('SERIES  VALUE\n{}        3.5\n');
  const bad = await silverback(['write'], 'cli_good 1\ncli bad one\n');
  expect(bad).toMatchObject({ code: 2, out: '' });
  expect(bad.err).toMatch(/^line 2: "cli bad one": .*; 1 sample before it written\n$/);
  const old = await silverback(['write', 'cli_test 1 5']);
  expect(old).toMatchObject({ code: 1, out: '' });
  expect(old.err).toMatch(/^series cli_test: .*older than the accepted age.*\n$/);
});

test('a node that stands still is down, with the reason, and holds nothing up', async () => {
  const { pid } = (await json<NodeReport[]>('nodes')).find(({ node }) => node === 'west-1') as NodeReport;
  process.kill(pid as number, 'SIGSTOP');
  try {
    await eventually(async () => {
      const { code, out, err } = await silverback(['nodes', '--output', 'json']);
      expect(code).toBe(0);
      const west = (JSON.parse(out) as NodeReport[]).find(({ node }) => node === 'west-1');
      expect(west).toMatchObject({ state: 'down', pid: null, samples: null, copies: 4 });
      expect(west?.reason).not.toBe('');
      expect(err).toBe(`warning: node west/west-1 is down: ${west?.reason}\n`);
    });
    const status = await json<StatusReport>('status');
    expect(status.nodesDown.map(({ node }) => node)).toEqual(['west-1']);
    expect(status.shardsWithoutCompleteCopy).toEqual([]);
    expect(status.ready).toBe(true);
  } finally {
    process.kill(pid as number, 'SIGCONT');
  }
  await eventually(async () => expect((await json<StatusReport>('status')).nodes.up).toBe(2));
});

test('copies are compared and repaired while they serve, files once they do not', async () => {
  const dataDir = await sandbox.directory();
  const flags = ['--regions', '2', '--nodes', '1', '--shards', '2', '--no-self-monitoring'];
  const cluster = await sandbox.cluster(dataDir, ...flags);
  const on = ['--url', cluster.url];
  const samples = ['cli_verify{a="1"} 1', 'cli_verify{a="2"} 2', 'cli_verify 3'];
  expect((await silverback(['write', ...on, ...samples])).code).toBe(0);
  await eventually(async () => {
    const reports = await json<VerifyReport[]>('verify', ...on);
    expect(reports.map(({ shard, compared, differing }) => [shard, compared, differing])).toEqual([
      [0, 2, []],
      [1, 2, []],
    ]);
    expect(reports.some(({ windows }) => windows > 0)).toBe(true);
  });
  const repaired = await silverback(['repair', 'run', '--shard', '1', '--yes', ...on]);
  expect(repaired).toMatchObject({ code: 0, out: expect.stringMatching(/compared in 2 copies, 0 differed/) });
  const copies = await json<CopyRepair[]>('repair', 'status', '--shard', '1', ...on);
  expect(copies.map(({ node, rounds, lastError }) => [node, rounds > 0, lastError])).toEqual([
    ['east-1', true, ''],
    ['west-1', true, ''],
  ]);
  const refused = await silverback(['verify', '--data-dir', dataDir]);
  expect(refused).toMatchObject({ code: 1, out: '' });
  expect(refused.err).toMatch(/^\S+ is in use by process \d+: stop it first, .*\n$/);

  await cluster.run.interrupt();
  const sound = await json<DirectoryReport>('verify', '--data-dir', dataDir);
  expect(sound).toMatchObject({ nodes: 2, shards: 4, findings: [] });
  const folder = join(dataDir, 'east-1/shards/0/log');
  const segment = join(folder, (await readdir(folder)).find((name) => name.endsWith('.log')) as string);
  const bytes = await readFile(segment);
  bytes[100] = (bytes[100] as number) ^ 1;
  await writeFile(segment, bytes);
  const damaged = await silverback(['verify', '--data-dir', join(dataDir, 'east-1'), '--output', 'json']);
  expect(damaged).toMatchObject({ code: 1, err: '1 damage found\n' });
  expect((JSON.parse(damaged.out) as DirectoryReport).findings).toEqual([
    { severity: 'damage', file: segment, message: 'its header is damaged' },
  ]);
});

test('a shard that takes no more series: which they are, and who brings them', async () => {
  const file = join(await sandbox.directory(), 'silverback.yaml');
  await writeFile(file, 'nodes: 1\nshards: 1\nself-monitoring: false\nseries-per-shard: 50\n');
  const small = await sandbox.cluster(await sandbox.directory(), '--config', file);
  const lines = Array.from({ length: 80 }, (_, i) => `cli_wide{user="${i}"} 1\n`).join('');
  const full = await silverback(['write', '--url', small.url], lines);
  expect(full).toMatchObject({ code: 1, out: '' });
  expect(full.err).toMatch(/^series cli_wide.*: the shard holds 50 series, at most 50 are accepted\n$/);
  const report = await json<CardinalityReport>('cardinality', '--url', small.url);
  expect(report).toMatchObject({
    series: 50,
    newSeriesLastHour: 50,
    metrics: [{ name: 'cli_wide', value: 50 }],
    labels: expect.arrayContaining([{ name: 'user', value: 50 }]),
    fullShards: [{ shard: 0, series: 50, most: 50 }],
  });
  expect(report.callers).toHaveLength(1);
  expect(report.callers[0]).toMatchObject({ caller: 'cli', newSeries: 50, newSeriesLastHour: 50 });
  expect(report.callers[0]?.refusedSamples).toBeGreaterThanOrEqual(30);
});

test("the README's commands do what they say", async () => {
  const readme = await readFile(join(ROOT, 'README.md'), 'utf8');
  const commands = [...readme.matchAll(/^npx silverback (.*)$/gm)].map((match) => match[1] as string);
  expect(commands.length).toBeGreaterThan(5);
  for (const command of commands) {
    const args = [...command.replace(/\s+#.*$/, '').matchAll(/'([^']*)'|(\S+)/g)].map(
      ([, quoted, word]) => quoted ?? word ?? '',
    );
    const { code, err } = await silverback(args);
    expect(code, `${command}: ${err}`).toBe(0);
  }
});

test('a script for each shell, and what it asks for', async () => {
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { code, out } = await silverback(['completion', shell]);
    expect(code).toBe(0);
    expect(out).toContain('coordinator/cli/silverback.js');
  }
  expect((await silverback(['complete', '--', 'st'])).out).toMatch(/^status\t/m);
  expect((await silverback(['complete', '--', 'shards', '--re'])).out).toMatch(/^--region\t/m);
});
