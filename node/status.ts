/** What a node says of itself to whoever looks after the cluster. */
import type { LagStatus, StatusReply } from '../core/protocol.ts';
import { toWire } from '../core/versions.ts';
import type { Callers } from './callers.ts';
import type { Node } from './node.ts';
import type { Lag } from './replication/replication.ts';

/** What only the process knows. */
export interface ProcessFacts {
  readonly region: string;
  readonly zone: string;
  readonly pid: number;
  readonly uptimeMs: number;
  readonly residentBytes: number;
  readonly lags: readonly Lag[];
  /** 0: not bounded. */
  readonly moveBytesPerSecond: number;
  /** 0: not known. */
  readonly movedBytesPerSecond: number;
}

const UNKNOWN: ProcessFacts = {
  region: '',
  zone: '',
  pid: 0,
  uptimeMs: 0,
  residentBytes: 0,
  lags: [],
  moveBytesPerSecond: 0,
  movedBytesPerSecond: 0,
};

export function statusOf(
  node: Pick<Node, 'name' | 'ready' | 'budget' | 'status' | 'maxSeriesCount' | 'spoken' | 'refused'>,
  callers: Callers,
  { lags, uptimeMs, ...facts }: ProcessFacts = UNKNOWN,
): Omit<StatusReply, 'version'> {
  return {
    ...facts,
    node: node.name,
    ready: node.ready,
    shards: node.status(),
    uptimeMs: Math.floor(uptimeMs),
    memoryUsedBytes: node.budget.usedBytes,
    memoryBudgetBytes: node.budget.limitBytes,
    lags: lags.map(lagStatus),
    callers: callers.status(),
    seriesPerShard: node.maxSeriesCount,
    speaks: toWire(node.spoken),
    refused: node.refused.words,
  };
}

function lagStatus(lag: Lag): LagStatus {
  const { shard, region, node, recordCount, byteCount, inFlightBytes, frontierAgeMs, lostRecordCount } = lag;
  return {
    shard,
    region,
    node,
    records: recordCount,
    bytes: byteCount,
    inFlightBytes,
    ageMs: Math.floor(frontierAgeMs ?? 0),
    ageUnknown: frontierAgeMs === undefined,
    lostRecords: lostRecordCount,
  };
}
