/** A cluster of four nodes, one of which is down, as a survey finds it. */
import type { ClusterFacts } from '../../coordinator/cluster/report.ts';
import type { Found, Surveyed } from '../../coordinator/cluster/survey.ts';
import type { LagStatus, ShardStatus, StatusReply } from '../../core/protocol.ts';

export const FACTS: ClusterFacts = {
  clusterId: '2f3a52c81f0b4c6d9e77aa0011223344',
  shardCount: 4,
  version: '0.1.0',
  metaStore: 'embedded',
  grpc: '127.0.0.1:9095',
  unready: undefined,
};

function shardStatus(shard: number, rest: Partial<ShardStatus> = {}): ShardStatus {
  return {
    shard,
    state: 'serving',
    series: 1_000 * (shard + 1),
    samples: 1_234_567 * (shard + 1),
    memoryBytes: 9_876_543 * (shard + 1),
    logBytes: 12_345 * (shard + 1),
    diskBytes: 0,
    problem: '',
    gap: '',
    ...rest,
  };
}

function reply(node: string, region: string, shards: readonly ShardStatus[], lags: readonly LagStatus[]): StatusReply {
  return {
    node,
    region,
    version: '0.1.0',
    ready: shards.every(({ state }) => state !== 'recovering'),
    shards,
    zone: 'zone-1',
    pid: 41_943,
    uptimeMs: 93_784_000,
    memoryUsedBytes: 123_456_789,
    memoryBudgetBytes: 2 ** 31,
    residentBytes: 234_567_890,
    lags,
    callers: [
      { caller: 'coordinator-1', newSeries: 5_000, newSeriesLastHour: 12, refusedSamples: 0 },
      { caller: `billing-${region}`, newSeries: 120_000, newSeriesLastHour: 60_000, refusedSamples: 777 },
    ],
    speaks: [],
    refused: [],
    seriesPerShard: 4_000,
    moveBytesPerSecond: 2 ** 25,
    movedBytesPerSecond: 0,
  };
}

function lag(shard: number, node: string, rest: Partial<LagStatus> = {}): LagStatus {
  const none = { records: 0, bytes: 0, inFlightBytes: 0, ageMs: 700, ageUnknown: false, lostRecords: 0 };
  return { shard, region: 'west', node, ...none, ...rest };
}

function node(region: string, number: number, status?: StatusReply, problem = ''): Surveyed {
  const name = `${region}-${number}`;
  const address = `127.0.0.1:${9100 + number + (region === 'west' ? 2 : 0)}`;
  return { name, region, zone: 'zone-1', address, isRegistered: status !== undefined, status, problem };
}

/** Shards 0 and 2 are on east-1 and west-1, the others on east-2 and west-2. west-2 is down; shard 3 of east-2 has a gap. */
export function found(): Found {
  const gap = 'frames 4096 to 8192 of its log were damaged and are quarantined';
  const east1 = reply(
    'east-1',
    'east',
    [shardStatus(0), shardStatus(2)],
    [lag(0, 'west-1'), lag(2, 'west-1', { records: 12, bytes: 34_567, ageMs: 65_000 })],
  );
  const east2 = reply(
    'east-2',
    'east',
    [shardStatus(1), shardStatus(3, { gap })],
    [
      lag(1, 'west-2', { records: 7_654_321, bytes: 98_765_432, ageMs: 3_725_000, lostRecords: 3 }),
      lag(3, 'west-2', { records: 5, bytes: 4_096, ageUnknown: true, ageMs: 0 }),
    ],
  );
  const west1 = reply('west-1', 'west', [shardStatus(0, { state: 'recovering', samples: 0 }), shardStatus(2)], []);
  const nodes = [
    node('east', 1, east1),
    node('east', 2, east2),
    node('west', 1, west1),
    node('west', 2, undefined, 'no answer within 2 s'),
  ];
  const copies = [0, 1, 2, 3].map((shard) =>
    nodes
      .filter(({ name }) => name.endsWith(shard % 2 === 0 ? '1' : '2'))
      .map(({ region, zone, name, address }) => ({
        region,
        zone,
        node: name,
        address,
        state: 'active' as const,
        epoch: 1,
      })),
  );
  return { placement: { clusterId: FACTS.clusterId, shardCount: 4, revision: 7, copies }, nodes };
}
