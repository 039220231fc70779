/** What people see, to the letter, in a terminal of 80 columns. */
import { describe, expect, test } from 'vitest';
import { cardinalityText } from '../../coordinator/cli/cardinality.ts';
import { drainPlan, drainText } from '../../coordinator/cli/drain.ts';
import { missingOf, singleOf } from '../../coordinator/cli/evidence.ts';
import { furthest, lagText } from '../../coordinator/cli/lag.ts';
import { changedCopies, movesText } from '../../coordinator/cli/moves.ts';
import { nodesText } from '../../coordinator/cli/nodes.ts';
import { resultText } from '../../coordinator/cli/query.ts';
import { planOf, planText } from '../../coordinator/cli/remove.ts';
import { repairText } from '../../coordinator/cli/repair.ts';
import { shardsText } from '../../coordinator/cli/shards.ts';
import { statusText } from '../../coordinator/cli/status.ts';
import { bytes, count, duration, ranges } from '../../coordinator/cli/table.ts';
import { verifyText } from '../../coordinator/cli/verify.ts';
import { directoryText } from '../../coordinator/cli/verify-directory.ts';
import { type MoveReport, moveReports } from '../../coordinator/cluster/moves.ts';
import {
  callerReports,
  fullShards,
  lagReports,
  nodeReports,
  shardReports,
  statusReport,
} from '../../coordinator/cluster/report.ts';
import type { Found } from '../../coordinator/cluster/survey.ts';
import type { RegionPlacement } from '../../core/meta/region.ts';
import { FACTS, found } from './fixture.ts';

function fits(text: string): string {
  for (const line of text.split('\n')) expect(line.length, line).toBeLessThanOrEqual(80);
  return `\n${text}`;
}

describe('with a node down', () => {
  test('status', () => {
    expect(fits(statusText(statusReport(found(), FACTS), 80))).toMatchInlineSnapshot(`
      "
      Cluster     2f3a52c81f0b4c6d9e77aa0011223344
      Version     0.1.0
      Meta store  embedded
      Ready       yes
      Regions     east (2 of 2 nodes up), west (0 of 2 nodes up)
      Nodes       2 up, 1 recovering, 1 down
                    west/west-2: no answer within 2 s
      Shards      4, 1 without a complete copy
      Restarts    wait:
                    west/west-1 is recovering
                    west/west-2 is down
                    east/east-2 lacks something: frames 4096 to 8192 of its log were
                    damaged and are quarantined (shard 3)
      Incomplete  3
                    shard 3: east/east-2 has gaps: frames 4096 to 8192 of its log were
                    damaged and are quarantined; west/west-2 down: no answer within 2
                    s
      "
    `);
  });

  test('nodes', () => {
    expect(fits(nodesText(nodeReports(found()), 80))).toMatchInlineSnapshot(`
      "
      NODE   REGION ZONE     PID ADDRESS        STATE      SHARDS SERIES SAMPLES  MEM
      east-1 east   zone-1 41943 127.0.0.1:9101 up            2/2   4000   4.94M 118M
      east-2 east   zone-1 41943 127.0.0.1:9102 up            2/2   6000   7.41M 118M
      west-1 west   zone-1 41943 127.0.0.1:9103 recovering    1/2   4000   3.70M 118M
      west-2 west   zone-1     - 127.0.0.1:9104 down          -/2      -       -    -
      "
    `);
  });

  test('shards', () => {
    expect(fits(shardsText(shardReports(found()), 80))).toMatchInlineSnapshot(`
      "
      SHARD  REGION  NODE    STATE       EPOCH  SERIES  SAMPLES  MEMORY    LOG  BLOCKS
          0  east    east-1  active          1    1000    1.23M   9.42M  12.1K      0B
          0  west    west-1  recovering      1    1000        0   9.42M  12.1K      0B
          1  east    east-2  active          1    2000    2.47M   18.8M  24.1K      0B
          1  west    west-2  down            1       -        -       -      -       -
          2  east    east-1  active          1    3000    3.70M   28.3M  36.2K      0B
          2  west    west-1  active          1    3000    3.70M   28.3M  36.2K      0B
          3  east    east-2  active          1    4000    4.94M   37.7M  48.2K      0B
          3  west    west-2  down            1       -        -       -      -       -

      shard 3 on east/east-2: frames 4096 to 8192 of its log were damaged and are
      quarantined
      "
    `);
  });

  test('lag', () => {
    const all = lagReports(found());
    const worst = [...all].sort(furthest).slice(0, 3);
    expect(fits(lagText(all, worst, 80))).toMatchInlineSnapshot(`
      "
      SHARD  FROM         TO           RECORDS  BYTES   BEHIND  LOST
          3  east/east-2  west/west-2        5  4.00K  unknown     0
          1  east/east-2  west/west-2    7.65M  94.2M     1h2m     3
          2  east/east-1  west/west-1       12  33.8K     1m5s     0
      1 more, less far behind (--top)

      4 copies to keep level
      7654338 records and 94.2M behind
      at most 1h2m, 1 not known yet
      3 records left a log before the copy had them: repair brings them
      "
    `);
  });
});

test('cardinality', () => {
  const report = {
    series: 14_000,
    labelPairs: 321,
    newSeriesLastHour: 120_024,
    metrics: [
      { name: 'http_requests_total', value: 12_345 },
      { name: 'up', value: 4 },
    ],
    labels: [{ name: 'path', value: 9_876 }],
    pairs: [{ name: 'job=api', value: 13_000 }],
    callers: callerReports(found()),
    fullShards: fullShards(found()),
  };
  expect(fits(cardinalityText(report, 80))).toMatchInlineSnapshot(`
    "
    Series       14000
    Growth       120k new in the last hour
    Full shards  3: 1 shard with the most series that a shard takes (4000); new ones
                 are refused

    SERIES  SHARE  METRIC
     12.3k  88.2%  http_requests_total
         4   0.0%  up

    VALUES  LABEL
      9876  path

    SERIES  SHARE  PAIR
     13.0k  92.9%  job=api

    WRITTEN BY    NEW IN AN HOUR  NEW SINCE START  SAMPLES REFUSED
    billing-east            120k             240k             1554
    billing-west           60.0k             120k              777
    "
  `);
  expect(report.callers[0]).toEqual({
    caller: 'billing-east',
    newSeries: 240_000,
    newSeriesLastHour: 120_000,
    refusedSamples: 1_554,
  });
});

test('copies that differ', () => {
  const copies = [
    { region: 'east', node: 'east-1', digest: '0123456789abcdef' },
    { region: 'west', node: 'west-1', digest: '' },
    { region: 'west', node: 'west-2', digest: '0123456789abcdef' },
  ];
  const differing = [
    { start: 1_764_396_000, settled: true, buckets: 17, copies },
    { start: 1_764_403_200, settled: false, buckets: 1, copies },
  ];
  const unasked = [{ region: 'west', node: 'west-3', reason: 'it is being filled' }];
  const reports = [
    { shard: 0, windows: 13, compared: 2, differing: [], unasked: [] },
    { shard: 1, windows: 13, compared: 3, differing, unasked },
    { shard: 2, windows: 1, compared: 1, differing: [], unasked: [] },
  ];
  expect(fits(verifyText(reports, 80))).toMatchInlineSnapshot(`
    "
    shard 1: west/west-3 could not be compared: it is being filled
    shard 1: window 2025-11-29T06:00Z differs in 17 of 256 parts: east/east-1,
      west/west-2 01234567; west/west-1 has nothing
    shard 2: one copy, nothing to compare it with
    25 windows equal in all copies that were compared, in 3 shards
    1 window being written, where copies differ by what is on its way
    "
  `);
});

test('a data directory', () => {
  const counts = { segments: 12, records: 34_567, checkpoints: 8, blocks: 13, blockSamples: 9_876_543 };
  const file = 'data/node-1/shards/3/blocks/1764396000000-2.block';
  const findings = [
    { severity: 'damage' as const, file, message: 'section chunks is damaged at offset 65536' },
    { severity: 'note' as const, file: 'data/x.quarantine', message: 'damage that was found before, and set aside' },
  ];
  const report = { nodes: 2, shards: 4, bytes: 2 ** 30, ...counts, findings };
  expect(fits(directoryText(report, 80))).toMatchInlineSnapshot(`
    "
    damage: data/node-1/shards/3/blocks/1764396000000-2.block: section chunks is
      damaged at offset 65536
    note: data/x.quarantine: damage that was found before, and set aside
    Checked      2 nodes, 4 shards, 1.00G
    Logs         12 segments, 34.6k records
    Checkpoints  8
    Blocks       13, 9.88M samples
    Damages      1
    "
  `);
});

/** The cluster, with placements in which copies of region west are on their way. */
function moving(rest: Partial<RegionPlacement> = {}): Found {
  const nodes = { 'west-1': { zone: 'a', address: 'a:1' }, 'west-2': { zone: 'b', address: 'b:1' } };
  const west: RegionPlacement = {
    clusterId: 'c',
    shardCount: 4,
    region: 'west',
    copies: 1,
    moves: 'on',
    nodes,
    shards: [
      [
        { node: 'west-2', state: 'active', epoch: 1 },
        { node: 'west-1', state: 'joining', epoch: 2, fill: true, from: 'west-2', move: 7, cause: 'order' },
      ],
      [{ node: 'west-1', state: 'joining', epoch: 1, fill: true }],
      [
        { node: 'west-1', state: 'active', epoch: 3 },
        { node: 'west-2', state: 'leaving', epoch: 4, move: 5 },
      ],
      [{ node: 'west-1', state: 'active', epoch: 1 }],
    ],
    asked: [{ move: 8, shard: 3, from: 'west-1', to: 'west-2', cause: 'rebalance' }],
    lastMove: 8,
    ...rest,
  };
  return { ...found(), regions: [west] };
}

test('copies on their way', () => {
  const repair = { shard: 0, region: 'west', node: 'west-1', filledWindows: 3, fillWindows: 13, bytes: 2 ** 20 };
  expect(fits(movesText(moveReports(moving(), [repair]), 80))).toMatchInlineSnapshot(`
    "
    ID      SHARD  COPY         FROM    STATE    WINDOWS  SAMPLES  BROUGHT
    west/7      0  west/west-1  west-2  joining     3/13        0    1.00M
    -           1  west/west-1  -       joining      0/?        0       0B
    west/5      2  west/west-2  -       leaving      0/?        0       0B
    west/8      3  west/west-2  west-1  waiting      0/?        0       0B

    shard 2, west/west-2: west-2 is gone
    shard 3, west/west-2: west-2 is gone
    "
  `);
  expect(fits(movesText(moveReports(moving({ moves: 'paused' }), []), 80))).toMatchInlineSnapshot(`
    "
    ID      SHARD  COPY         FROM    STATE          WINDOWS  SAMPLES  BROUGHT
    west/7      0  west/west-1  west-2  joining, held      0/?        0       0B
    -           1  west/west-1  -       joining            0/?        0       0B
    west/5      2  west/west-2  -       leaving            0/?        0       0B
    west/8      3  west/west-2  west-1  waiting, held      0/?        0       0B

    shard 0, west/west-1: moves are paused (silverback moves resume)
    shard 2, west/west-2: west-2 is gone
    shard 3, west/west-2: moves are paused (silverback moves resume)
    "
  `);
  expect(movesText([], 80)).toBe('no copy is on its way\n');
});

test('moves and cordons, in the status', () => {
  const cordons = { 'west-1': 'draining', 'west-9': 'cordoned' } as const;
  const report = statusReport(moving({ moves: 'paused', cordons }), FACTS);
  const text = statusText(report, 80);
  expect(fits(/^Moves .*\n(?: +.*\n)*/m.exec(text)?.[0] ?? '')).toMatchInlineSnapshot(`
    "
    Moves       west: 2 joining, 1 leaving, 1 waiting, moves are paused (silverback
                moves resume)
                west/west-1 is draining, left: 0-3, waiting: moves are paused
                (silverback moves resume)
                west/west-9 is cordoned
    "
  `);
});

test('what a lost node takes with it', () => {
  expect(fits(planText(planOf({ region: 'west', node: 'west-2' }, shardReports(found())), 80))).toMatchInlineSnapshot(`
    "
    Removes     west/west-2
    Its copies  2 shards: 1,3
    Gives up    shards 3: no other copy of them is complete now; and what it had not
                delivered of the others
    "
  `);
});

test('what happens to copies on their way', () => {
  const [copy, , other] = moveReports(moving(), []) as [MoveReport, MoveReport, MoveReport];
  const further = { ...copy, filledWindows: 2, samples: 9 };
  expect(changedCopies([], [copy, other])).toEqual([copy, other]);
  expect(changedCopies([copy, other], [{ ...copy, samples: 7 }, other])).toEqual([]);
  expect(changedCopies([copy, other], [further, other])).toEqual([further]);
  expect(changedCopies([further, other], [other])).toEqual([{ ...further, state: 'done' }]);
  const held = { ...further, held: true };
  expect(changedCopies([further], [held])).toEqual([held]);
});

describe('a node that is drained', () => {
  const copy = (node: string, state = 'active') => ({
    region: 'r',
    node,
    state,
    samples: 1_000,
    memoryBytes: 1_024,
    logBytes: 2_048,
  });
  const shards = [['a'], ['b'], ['a'], ['c']].map((names, shard) => ({
    shard,
    copies: names.map((name) => copy(name)),
  }));
  const known = (...names: string[]) =>
    names.map((node) => ({
      region: 'r',
      node,
      zone: node,
      registered: true,
      cordon: null,
      moveBytesPerSecond: 1_024,
      movedBytesPerSecond: null,
    }));

  test('goes to the others, but not to one that is cordoned', () => {
    const plan = drainPlan('r', 'a', known('a', 'b', 'c'), shards as never);
    expect(drainText(plan, 80)).toBe(
      'Drains  r/a: it gets no copies, and those it has move\n' +
        'To b    1 shard: 0\nTo c    1 shard: 2\nMoves   2000 samples, 6.00K in memory and logs; at least 6s, 24s beside writes\n        (estimate: a node gives at most 1.00K a second, a quarter while it takes\n        writes)\n',
    );
    // What was measured says more than what is allowed.
    const measured = known('a', 'b', 'c').map((one) => ({ ...one, movedBytesPerSecond: 512 }));
    expect(drainText(drainPlan('r', 'a', measured, shards as never), 200)).toContain(
      '6.00K in memory and logs; about 12s (estimate: of late the node gave 512B a second)\n',
    );
    const nodes = [...known('a', 'b'), { ...known('c')[0], cordon: 'cordoned' }];
    expect(drainPlan('r', 'a', nodes as never, shards as never).moves.map(({ to }) => to)).toEqual(['b', 'b']);
  });

  test('has nowhere to go', () => {
    expect(() => drainPlan('r', 'a', known('a'), shards as never)).toThrow(
      'r/a cannot be drained: its copies need 1 other node without a cordon, and there are 0',
    );
  });

  test('is safe to power off only when everything is proved', () => {
    const node = { serving: 0 } as never;
    const verified = { shard: 1, windows: 3, compared: 2, differing: [], unasked: [] };
    const fine = { node, placed: [], lags: [], verified: [verified] };
    expect(missingOf('r', 'a', fine)).toEqual([]);
    expect(missingOf('r', 'a', { ...fine, placed: [3] })).toEqual(['shards 3: a copy is placed there']);
    expect(missingOf('r', 'a', { ...fine, node: undefined })).toEqual([
      'it does not say whether its logs are delivered',
    ]);
    expect(missingOf('r', 'a', { ...fine, node: { serving: 2 } as never })).toEqual(['2 shards not closed there yet']);
    const lag = { shard: 1, from: { region: 'r', node: 'a' }, to: { region: 'r', node: 'b' }, records: 4 } as never;
    expect(missingOf('r', 'a', { ...fine, lags: [lag] })).toEqual(['shard 1: 4 records not at r/b yet']);
    expect(missingOf('r', 'a', { ...fine, verified: [{ ...verified, compared: 1 }] })).toEqual([]);
    expect(singleOf({ verified: [{ ...verified, compared: 1 }, verified] })).toEqual([1]);
    expect(missingOf('r', 'a', { ...fine, verified: [{ ...verified, compared: 0 }] })).toEqual(['shard 1: no copy']);
    const unasked = [{ region: 'r', node: 'b', reason: 'gone' }];
    expect(missingOf('r', 'a', { ...fine, verified: [{ ...verified, unasked }] })).toEqual([
      'shard 1: r/b could not be compared: gone',
    ]);
    const difference = { start: 0, settled: true, buckets: 1, copies: [{ region: 'r', node: 'b', digest: '' }] };
    expect(missingOf('r', 'a', { ...fine, verified: [{ ...verified, differing: [difference] }] })).toHaveLength(1);
    const open = { ...difference, settled: false };
    expect(missingOf('r', 'a', { ...fine, verified: [{ ...verified, differing: [open] }] })).toEqual([]);
  });
});

test('repair', () => {
  const none = { running: false, rounds: 0, compared: 0, differing: 0, healed: 0, samples: 0, bytes: 0 };
  const idle = { ...none, lastRound: null, lastError: '', filledWindows: 0, fillWindows: 0 };
  const copies = [
    { shard: 0, region: 'east', node: 'east-1', ...idle },
    { shard: 0, region: 'west', node: 'west-1', ...idle, running: true, rounds: 2, lastRound: 1_764_399_900 },
    { shard: 1, region: 'east', node: 'east-2', ...idle, fillWindows: 13, filledWindows: 4 },
    {
      ...idle,
      shard: 1,
      region: 'west',
      node: 'west-2',
      rounds: 289,
      differing: 3,
      healed: 2,
      samples: 1_234_567,
      bytes: 7_654_321,
      lastRound: 1_764_399_990,
      lastError: 'west/west-1: connect ECONNREFUSED 127.0.0.1:9103',
    },
  ];
  expect(fits(repairText(copies, 1_764_400_000_000, 80))).toMatchInlineSnapshot(`
    "
    SHARD COPY        STATE             LAST ROUNDS DIFFERED HEALED SAMPLES BYTES
        0 east/east-1 waiting              -      0        0      0       0    0B
        0 west/west-1 running      1m40s ago      2        0      0       0    0B
        1 east/east-2 filling 4/13         -      0        0      0       0    0B
        1 west/west-2 failed         10s ago    289        3      2   1.23M 7.30M

    shard 1 on west/west-2: west/west-1: connect ECONNREFUSED 127.0.0.1:9103
    "
  `);
});

test('status of a cluster that waits for its nodes', () => {
  const report = statusReport({ placement: undefined, nodes: [] }, { ...FACTS, unready: 'not ready: warming up' });
  expect(fits(statusText(report, 80))).toMatchInlineSnapshot(`
    "
    Cluster     2f3a52c81f0b4c6d9e77aa0011223344
    Version     0.1.0
    Meta store  embedded
    Ready       no: warming up
    Regions     none yet
    Nodes       0 up, 0 down
    Shards      4, not placed yet
    Restarts    wait:
                  warming up
    "
  `);
});

test('answers of queries', () => {
  const metric = { __name__: 'up', job: 'node', instance: 'say "hi"' };
  expect(resultText({ resultType: 'scalar', result: [1, '2'] }, 80)).toBe('2\n');
  expect(resultText({ resultType: 'vector', result: [] }, 80)).toBe('no series\n');
  const vector = [
    { metric, value: [1_764_400_000, '1'] as const },
    { metric: {}, value: [1_764_400_000, '12.5'] as const },
  ];
  expect(fits(resultText({ resultType: 'vector', result: vector }, 80))).toMatchInlineSnapshot(`
    "
    SERIES                                 VALUE
    up{job="node", instance="say \\"hi\\""}      1
    {}                                      12.5
    "
  `);
  const matrix = [
    { metric, values: [[1_764_400_000, '1'] as const, [1_764_400_000.5, '+Inf'] as const] },
    { metric: { __name__: 'x' }, values: [[1_764_400_000, '1'] as const] },
  ];
  expect(fits(resultText({ resultType: 'matrix', result: matrix }, 80))).toMatchInlineSnapshot(`
    "
    up{job="node", instance="say \\"hi\\""}
    TIME                      VALUE
    2025-11-29T07:06:40Z          1
    2025-11-29T07:06:40.500Z   +Inf

    x
    TIME                  VALUE
    2025-11-29T07:06:40Z      1
    "
  `);
});

test('numbers', () => {
  expect([0, 9_999, 10_000, 99_949, 999_499, 1_234_567, 5e12, null].map(count)).toMatchInlineSnapshot(`
    [
      "0",
      "9999",
      "10.0k",
      "99.9k",
      "999k",
      "1.23M",
      "5.00T",
      "-",
    ]
  `);
  expect([0, 1_023, 1_024, 1_048_000, 2 ** 31, 2 ** 45, null].map(bytes)).toMatchInlineSnapshot(`
    [
      "0B",
      "1023B",
      "1.00K",
      "1.00M",
      "2.00G",
      "32.0T",
      "-",
    ]
  `);
  expect([0, 0.04, 0.7, 9.96, 61, 3_600, 93_784, null].map(duration)).toMatchInlineSnapshot(`
    [
      "0s",
      "0s",
      "0.7s",
      "10s",
      "1m1s",
      "1h",
      "1d2h",
      "-",
    ]
  `);
  expect(ranges([0, 1, 2, 5, 7, 8])).toBe('0-2,5,7-8');
});
