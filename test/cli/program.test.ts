/** The command line in this process, against a made-up coordinator: what it asks, what it prints, how it ends. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PassThrough, Readable } from 'node:stream';
import type { Command } from 'commander';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Context } from '../../coordinator/cli/context.ts';
import { createProgram, run } from '../../coordinator/cli/program.ts';
import { nodeReports } from '../../coordinator/cluster/report.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { found } from './fixture.ts';

let server: Server;
let url = '';
const asked: string[] = [];
let answer: { status: number; body: string } = { status: 200, body: '' };
/** What is answered to some paths instead, in turns; the last answer stays. */
let routes: Record<string, unknown[]> = {};

beforeAll(async () => {
  server = createServer((request, response) => {
    let form = '';
    request.on('data', (bytes: Buffer) => {
      form += bytes.toString();
    });
    request.on('end', () => {
      asked.push(`${request.method} ${request.url} ${form}`.trim());
      const told = routes[(request.url ?? '').replace(/^\/api\/v1|\?.*$/g, '')];
      if (told !== undefined) {
        const data = told.length > 1 ? told.shift() : told[0];
        response.writeHead(200, { 'content-type': 'application/json' });
        response.end(JSON.stringify({ status: 'success', data }));
        return;
      }
      response.writeHead(answer.status, { 'content-type': 'application/json' }).end(answer.body);
    });
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => void server.close());

function startVerifier(): never {
  throw new Error('no test here runs it');
}

/** One of each kind, none of which waits. */
const COMMANDS = [
  'status',
  'nodes',
  'nodes cordon west-1 --yes',
  'nodes drain west-1 --yes',
  'nodes remove west-1 --yes',
  'shards --shard 99',
  'shards move 99 --to west-1 --yes',
  'rebalance --region west --yes',
  'moves list',
  'moves pause --yes',
  'moves abort west/7 --yes',
  'lag',
  'cardinality',
  'verify --shard 99',
  'repair status --shard 99',
  'repair run --shard 99 --yes',
  'query up{',
  'write up',
];

interface Printed {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function silverback(...args: string[]): Promise<Printed> {
  return silverbackWith(Readable.from([]), ...args);
}

async function silverbackWith(input: Context['input'], ...args: string[]): Promise<Printed> {
  const printed = { out: '', err: '' };
  const context = {
    env: nodeEnv,
    out: (text: string) => {
      printed.out += text;
    },
    err: (text: string) => {
      printed.err += text;
    },
    columns: 80,
    executable: '/somewhere/silverback.js',
    input,
    answers: new PassThrough(),
    startVerifier,
  };
  const code = await run(createProgram(context), context, ['node', 'silverback', ...args]);
  return { code, ...printed };
}

function success(data: unknown, warnings: readonly string[] = []): void {
  answer = { status: 200, body: JSON.stringify({ status: 'success', data, warnings }) };
}

test('JSON is what the coordinator said, warnings are beside it', async () => {
  const nodes = nodeReports(found());
  success(nodes, ['node west/west-2 is down: no answer within 2 s']);
  const { code, out, err } = await silverback('nodes', '--url', `${url}/`, '--output', 'json');
  expect(code).toBe(0);
  expect(JSON.parse(out)).toEqual(nodes);
  expect(err).toBe('warning: node west/west-2 is down: no answer within 2 s\n');
  expect(asked.at(-1)).toBe('GET /api/v1/cluster/nodes');
});

test('what is asked', async () => {
  success([]);
  await silverback('shards', '--url', url, '--shard', '3', '--region', 'a b');
  expect(asked.at(-1)).toBe('GET /api/v1/cluster/shards?shard=3&region=a+b');
  success({ resultType: 'vector', result: [] });
  await silverback('--url', url, 'query', 'up', '--time', '2026-01-01T00:00:00Z');
  expect(asked.at(-1)).toBe('POST /api/v1/query query=up&time=2026-01-01T00%3A00%3A00Z');
  success({ resultType: 'matrix', result: [] });
  await silverback('--url', url, 'query', 'up', '--start', '1000', '--end', '1600');
  expect(asked.at(-1)).toBe('POST /api/v1/query_range query=up&start=1000&end=1600&step=10');
  await silverback('--url', url, 'query', 'up', '--start', 'now-1h', '--end', 'now', '--step', '5m');
  const form = new URLSearchParams(asked.at(-1)?.split(' ')[2]);
  expect(Number(form.get('end')) - Number(form.get('start'))).toBeGreaterThan(3_599);
  expect(form.get('step')).toBe('5m');
});

test('what changes something is planned, and asked for', async () => {
  const copy = { shard: 3, region: 'east', node: 'east-1', running: false, rounds: 1 };
  success([copy]);
  const count = asked.length;
  const planned = await silverback('repair', 'run', '--url', url, '--dry-run', '--output', 'json');
  expect(planned).toMatchObject({ code: 0, err: '' });
  expect(JSON.parse(planned.out)).toEqual({ plan: [{ region: 'east', node: 'east-1', shard: 3 }] });
  expect(await silverback('repair', 'run', '--url', url)).toEqual({
    code: 2,
    out: '',
    err: 'NODE         COMPARES SHARDS\neast/east-1  3\nthere is no terminal to ask on: --yes does it, --dry-run shows the plan\n',
  });
  expect(asked.slice(count)).toEqual(['GET /api/v1/cluster/repair', 'GET /api/v1/cluster/repair']);
});

test('a lost node is removed, once it is said that it is lost', async () => {
  const down = { node: 'west-2', region: 'west', state: 'down', registered: false };
  const remove = ['nodes', 'remove', 'west-2', '--url', url];
  success([down, { ...down, region: 'east' }]);
  expect(await silverback(...remove, '--lost')).toMatchObject({
    code: 2,
    err: 'west-2 is in several regions (west, east): --region says which\n',
  });
  success([{ ...down, state: 'up', registered: true }]);
  expect(await silverback(...remove, '--lost')).toMatchObject({
    code: 1,
    err: 'west/west-2 is up: only a node that is gone can be declared lost\n',
  });
  success([{ ...down, node: 'west-1' }]);
  expect(await silverback(...remove, '--lost')).toMatchObject({
    code: 1,
    err: 'there is no node west-2; there are west/west-1\n',
  });
  // The same answer to both questions.
  const shard = { ...down, shard: 3, complete: false, copies: [{ region: 'west', node: 'west-2' }] };
  success([shard]);
  const count = asked.length;
  const plan = { region: 'west', node: 'west-2', copies: [3], onlyThere: [3] };
  const planned = await silverback(...remove, '--lost', '--dry-run', '--output', 'json');
  expect(JSON.parse(planned.out)).toEqual({ plan });
  expect(asked.slice(count).some((line) => line.startsWith('POST'))).toBe(false);
  expect(await silverback(...remove, '--lost', '--yes')).toMatchObject({
    code: 0,
    out: 'west/west-2 is removed\n',
    err: expect.stringContaining('shards 3: no other copy of them is complete now'),
  });
  expect(asked.at(-1)).toBe('POST /api/v1/admin/nodes/remove region=west&name=west-2&lost=true');
});

test('a node is cordoned, and may have copies again', async () => {
  success([{ node: 'west-1', region: 'west', state: 'up', registered: true, cordon: null }]);
  expect(await silverback('nodes', 'cordon', 'west-1', '--url', url, '--yes')).toEqual({
    code: 0,
    out: 'west/west-1 gets no new copies\n',
    err: 'gives a node no new copies, and moves none to it: west/west-1\n',
  });
  expect(asked.at(-1)).toBe('POST /api/v1/admin/nodes/cordon region=west&name=west-1&mode=on');
  expect(await silverback('nodes', 'uncordon', 'west-1', '--url', url, '--yes')).toMatchObject({ code: 0 });
  expect(asked.at(-1)).toBe('POST /api/v1/admin/nodes/cordon region=west&name=west-1&mode=off');
  expect(await silverback('nodes', 'cordon', 'west-9', '--url', url, '--yes')).toMatchObject({
    code: 1,
    err: 'there is no node west-9; there are west/west-1\n',
  });
});

test('with no copy on its way there is nothing to watch', async () => {
  success([]);
  expect(await silverback('moves', 'watch', '--url', url)).toEqual({
    code: 0,
    out: 'no copy is on its way\n',
    err: '',
  });
  expect(await silverback('moves', 'watch', '--url', url, '--output', 'json')).toMatchObject({ code: 0, out: '' });
});

test('moves are held', async () => {
  success({ regions: [{ region: 'east' }, { region: 'west' }] });
  const count = asked.length;
  expect(await silverback('moves', 'pause', '--url', url, '--yes')).toEqual({
    code: 0,
    out: 'all moves in east, west are held\n',
    err: 'holds moves where they are, in east, west\n',
  });
  expect(asked.slice(count + 1)).toEqual([
    'POST /api/v1/admin/moves region=east&mode=paused',
    'POST /api/v1/admin/moves region=west&mode=paused',
  ]);
  answer = { status: 403, body: JSON.stringify({ status: 'error', error: 'admin APIs disabled' }) };
  expect(await silverback('moves', 'abort', '--url', url, '--yes')).toMatchObject({
    code: 1,
    err: 'admin APIs disabled: the coordinator has to be started with --enable-admin-api\n',
  });
});

describe('copies that are moved by hand', () => {
  const east = (node: string) => ({ node, region: 'east', state: 'up', registered: true, cordon: null });
  const move = { shard: 3, from: 'east-1', to: 'east-2', samples: 12_345, bytes: 64 * 2 ** 20 };
  const plan = {
    region: 'east',
    moves: [move],
    samples: 12_345,
    bytes: move.bytes,
    bytesPerSecond: 2 ** 25,
    basis: 'limit',
    seconds: 2,
  };
  const ordered = { moves: [{ id: 'east/7', shard: 3, from: 'east-1', to: 'east-2', cause: 'order' }] };
  const filling = { id: 'east/7', shard: 3, region: 'east', node: 'east-2', state: 'joining', waitsFor: '' };
  const there = [0, 1, 2, 3].map((shard) => ({
    shard,
    copies: [{ region: 'east', node: shard === 3 ? 'east-2' : 'east-1', state: 'active' }],
  }));
  afterEach(() => {
    routes = {};
  });
  const planText =
    'east/east-1 to east-2  1 shard: 3\n' +
    'Moves in east          12.3k samples, 64.0M in memory and logs; at least 2s, 8s\n' +
    '                       beside writes (estimate: a node gives at most 32.0M a\n' +
    '                       second, a quarter while it takes writes)\n';

  test('are shown first, and then moved', async () => {
    routes = {
      '/cluster/nodes': [[east('east-1'), east('east-2')]],
      '/cluster/plan': [plan],
      '/admin/shards/move': [ordered],
      '/cluster/moves': [[filling], [{ ...filling, waitsFor: 'moves are paused' }], []],
      '/cluster/shards': [there],
    };
    const args = ['shards', 'move', '3', '--to', 'east-2', '--url', url];
    expect(await silverback(...args, '--dry-run')).toEqual({ code: 0, out: planText, err: '' });
    const dry = await silverback(...args, '--dry-run', '--output', 'json');
    expect(JSON.parse(dry.out)).toEqual({ plan });
    expect(asked.some((line) => line.startsWith('POST /api/v1/admin/shards/move'))).toBe(false);
    expect(await silverback(...args, '--yes')).toEqual({
      code: 0,
      out: '1 shard moved in east\n',
      err: `${planText}waiting: moves are paused\n`,
    });
    expect(asked).toContain('POST /api/v1/admin/shards/move region=east&shards=3&to=east-2');
    const detached = await silverback(...args, '--yes', '--detach', '--output', 'json');
    expect(JSON.parse(detached.out)).toEqual([{ region: 'east', ...ordered }]);
  });

  test('and called off by somebody else: no success', async () => {
    routes = {
      '/cluster/nodes': [[east('east-1'), east('east-2')]],
      '/cluster/plan': [plan],
      '/admin/shards/move': [ordered],
      '/cluster/moves': [[]],
      '/cluster/shards': [[0, 1, 2, 3].map((shard) => ({ shard, copies: [] }))],
    };
    const args = ['shards', 'move', '3', '--to', 'east-2', '--url', url, '--yes', '--output', 'json'];
    const { code, out, err } = await silverback(...args);
    expect({ code, err }).toEqual({ code: 1, err: 'called off: east/7 (shard 3 to east-2)\n' });
    expect(JSON.parse(out)).toEqual([{ region: 'east', moves: [{ ...ordered.moves[0], moved: false }] }]);
  });

  test('until every node holds its share, in each region', async () => {
    routes = {
      '/cluster/status': [{ regions: [{ region: 'east' }, { region: 'west' }] }],
      '/cluster/plan': [plan, { ...plan, region: 'west', moves: [] }],
      '/admin/rebalance': [ordered, { moves: [] }],
    };
    expect(await silverback('rebalance', '--url', url, '--yes', '--detach')).toEqual({
      code: 0,
      out: '1 move asked for in east\nnothing moves in west\n',
      err: planText,
    });
    expect(asked.at(-1)).toBe('POST /api/v1/admin/rebalance region=west');
  });

  test('one of them is held', async () => {
    routes = { '/cluster/moves': [[filling]], '/admin/moves': [{}] };
    expect(await silverback('moves', 'pause', 'east/7', '--url', url, '--yes')).toEqual({
      code: 0,
      out: 'move east/7 is held\n',
      err: 'holds the move where it is: east/7, shard 3 joining on east-2\n',
    });
    expect(asked.at(-1)).toBe('POST /api/v1/admin/moves region=east&id=east%2F7&mode=paused');
    expect(await silverback('moves', 'abort', 'east/8', '--url', url, '--yes')).toEqual({
      code: 1,
      out: '',
      err: 'there is no move east/8; there are east/7\n',
    });
  });

  test.each([
    [['shards', 'move', '3'], "required option '--to <NODE>' not specified (try --help)"],
    [['shards', 'move', '--to', 'east-2'], "missing required argument 'SHARDS' (try --help)"],
    [['shards', 'move', '3-1', '--to', 'east-2'], /value '3-1' is invalid .* expected shards such as 3 or 0-3,7/],
    [['shards', 'move', '3', '--to', 'x', '--form', 'y'], /unknown option '--form'.*--from/],
    [['rebalance', 'east'], /too many arguments/],
  ] as const)('%s: what is wrong is said', async (args, message) => {
    const { code, out, err } = await silverback(...args, '--url', url);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err.trim()).toMatch(message);
    expect(err.trim().split('\n')).toHaveLength(1);
  });
});

test('copies that differ are no success', async () => {
  const copies = [
    { region: 'east', node: 'east-1', digest: '0123456789abcdef' },
    { region: 'west', node: 'west-1', digest: '' },
  ];
  const differing = [{ start: 1_764_396_000, settled: true, buckets: 17, copies }];
  success({ shardCount: 1, shard: 0, windows: 2, compared: 2, differing, unasked: [] });
  const { code, out, err } = await silverback('verify', '--url', url);
  expect(code).toBe(1);
  expect(out.replace(/\s+/g, ' ')).toContain(
    'shard 0: window 2025-11-29T06:00Z differs in 17 of 256 parts: east/east-1 01234567; west/west-1 has nothing',
  );
  expect(err).toBe('1 shard with copies that differ: silverback repair run brings each what it lacks\n');
});

describe('what cannot be done is said in one line', () => {
  test.each([
    [['statsu'], 2, "unknown command 'statsu' (Did you mean status?) (try --help)"],
    [['nodes', '--outptu', 'json'], 2, "unknown option '--outptu' (Did you mean --output?) (try --help)"],
    [
      ['nodes', '--output', 'xml'],
      2,
      "option '--output <FORMAT>' argument 'xml' is invalid. Allowed choices are table, json. (try --help)",
    ],
    [
      ['status', '--url', 'localhost:9090'],
      2,
      "option '--url <URL>' argument 'localhost:9090' is invalid. expected an address such as http://127.0.0.1:9090 (try --help)",
    ],
    [
      ['shards', '--shard', '-1'],
      2,
      "option '--shard <N>' argument '-1' is invalid. expected a whole number from 0 to 65535 (try --help)",
    ],
    [['query'], 2, "missing required argument 'EXPR' (try --help)"],
    [['query', 'up', '--step', '5'], 2, '--end and --step go with --start (try --help)'],
    [['query', 'up', '--start', '1', '--time', '2'], 2, '--time and --start exclude each other (try --help)'],
    [
      ['query', 'up', '--time', 'now-x'],
      2,
      "option '--time <TIME>' argument 'now-x' is invalid. expected now, or now-5m (try --help)",
    ],
    [
      ['completion', 'tcsh'],
      2,
      "command-argument value 'tcsh' is invalid for argument 'shell'. Allowed choices are zsh, bash, fish, powershell. (try --help)",
    ],
  ])('%j', async (args, code, line) => {
    expect(await silverback(...args)).toEqual({ code, out: '', err: `${line}\n` });
  });

  test('a coordinator that is not there', async () => {
    const free = createServer();
    await new Promise<void>((listening) => free.listen(0, '127.0.0.1', listening));
    const { port } = free.address() as AddressInfo;
    await new Promise((closed) => free.close(closed));
    const { code, out, err } = await silverback('status', '--url', `http://127.0.0.1:${port}`);
    expect([code, out]).toEqual([1, '']);
    expect(err).toBe(
      `cannot reach the coordinator at http://127.0.0.1:${port}: connect ECONNREFUSED 127.0.0.1:${port}\n`,
    );
  });

  test('something else that answers', async () => {
    answer = { status: 404, body: '404 page not found\n' };
    const { code, err } = await silverback('status', '--url', url);
    expect(code).toBe(1);
    expect(err).toBe(`${url} answered 404 and not as a Silverback coordinator of this version does\n`);
  });

  // Golden: scripts look at these.
  test.each([
    [400, 2],
    [403, 1],
    [404, 1],
    [409, 1],
    [422, 1],
    [500, 1],
    [503, 1],
  ])("the coordinator's own words, with status %i: it ends with %i", async (status, code) => {
    answer = { status, body: JSON.stringify({ status: 'error', errorType: 'bad_data', error: 'no such thing' }) };
    for (const line of COMMANDS) {
      const { code: ended, out, err } = await silverback(...line.split(' '), '--url', url);
      expect({ line, ended, out }).toEqual({ line, ended: code, out: '' });
      expect(err).toMatch(/^no such thing(: the coordinator has to be started with --enable-admin-api)?\n$/);
    }
  });

  test('what is declined, so that what was to follow it does not', async () => {
    success([{ node: 'west-1', region: 'west', state: 'up', registered: true, cordon: null }]);
    const count = asked.length;
    for (const [typed, code] of [
      ['n\n', 1],
      ['\n', 1],
      ['', 1],
      ['y\n', 0],
    ] as const) {
      const input = Object.assign(Readable.from([typed]), { isTTY: true });
      const printed = await silverbackWith(input, 'nodes', 'cordon', 'west-1', '--url', url);
      expect(printed).toMatchObject({ code, out: code === 0 ? 'west/west-1 gets no new copies\n' : '' });
      expect(printed.err.endsWith('nothing was done\n')).toBe(code === 1);
    }
    expect(asked.slice(count).filter((line) => line.startsWith('POST'))).toHaveLength(1);
  });
});

test('every command has help with examples', async () => {
  const { out } = await silverback('--help');
  const names = [...out.matchAll(/^ {2}([a-z]+) /gm)].map((match) => match[1] as string);
  expect(names).toEqual(
    expect.arrayContaining([
      'cardinality',
      'repair',
      'verify',
      'status',
      'nodes',
      'shards',
      'lag',
      'query',
      'write',
      'completion',
    ]),
  );
  const check = async (command: Command, path: readonly string[]): Promise<void> => {
    const help = await silverback(...path, '--help');
    expect(help.code).toBe(0);
    expect(help.out, path.join(' ')).toContain('  $ silverback');
    for (const line of help.out.split('\n')) expect(line.length, line).toBeLessThanOrEqual(100);
    for (const sub of command.commands) if (sub.name() !== 'complete') await check(sub, [...path, sub.name()]);
  };
  const nothing = { env: nodeEnv, out: () => undefined, err: () => undefined, columns: 80, executable: '' };
  const streams = { input: Readable.from([]), answers: new PassThrough() };
  await check(createProgram({ ...nothing, ...streams, startVerifier }), []);
});

test('without a command there is help, and no success', async () => {
  const { code, out, err } = await silverback();
  expect([code, out]).toEqual([2, '']);
  expect(err).toContain('Usage: silverback');
});
