/**
 * What operators see of a cluster, made of what the nodes said (survey.ts): plain data, as the HTTP API gives it and the
 * command line shows it. Sizes are bytes, times seconds.
 */
import type { Cordon } from '../../core/meta/region.ts';
import type { Copy } from '../../core/placement.ts';
import type { ShardStatus } from '../../core/protocol.ts';
import { type RegionMoves, regionMoves } from './moves.ts';
import type { Found, Surveyed } from './survey.ts';

/** What only the coordinator knows. */
export interface ClusterFacts {
  readonly clusterId: string;
  readonly shardCount: number;
  readonly version: string;
  readonly metaStore: 'embedded' | 'etcd';
  /** host:port of the coordinator's gRPC. */
  readonly grpc: string;
  /** Why the cluster is not ready; undefined: it is. */
  readonly unready: string | undefined;
}

export interface StatusReport {
  readonly clusterId: string;
  readonly version: string;
  readonly metaStore: string;
  readonly grpc: string;
  readonly ready: boolean;
  /** Why not, else empty. */
  readonly unready: string;
  readonly shardCount: number;
  /** 0: nothing is placed yet. */
  readonly placementRevision: number;
  readonly regions: readonly { readonly region: string; readonly nodes: number; readonly up: number }[];
  readonly nodes: { readonly known: number; readonly up: number; readonly recovering: number; readonly down: number };
  readonly nodesDown: readonly { readonly region: string; readonly node: string; readonly reason: string }[];
  /** Versions of the program in the nodes that answer. */
  readonly nodeVersions: readonly string[];
  /** Whom nodes refused of late, because they have no version of a format in common. */
  readonly refused: readonly { readonly region: string; readonly node: string; readonly reason: string }[];
  /** Why no node should be restarted now: what is not where it was, or not whole. Empty: the next one may. */
  readonly unsettled: readonly string[];
  readonly shardsWithoutCompleteCopy: readonly { readonly shard: number; readonly reason: string }[];
  readonly moves: readonly RegionMoves[];
}

export type NodeState = 'up' | 'recovering' | 'down';

export interface NodeReport {
  readonly node: string;
  readonly region: string;
  readonly zone: string;
  readonly address: string;
  readonly state: NodeState;
  /** Why it is down, else empty. */
  readonly reason: string;
  /** Holds its lease in the meta store; null: not known. */
  readonly registered: boolean | null;
  /** It gets no copies; null: it may. */
  readonly cordon: Cordon | null;
  /** Copies placed there. */
  readonly copies: number;
  /** Null, here and below: it does not answer. */
  readonly serving: number | null;
  readonly version: string | null;
  /** Whom it refused of late, in words, because they have no version of a format in common. */
  readonly refused: readonly string[];
  readonly pid: number | null;
  readonly uptimeSeconds: number | null;
  readonly series: number | null;
  readonly samples: number | null;
  /** By samples and indexes, of the budget. */
  readonly memoryBytes: number | null;
  readonly memoryBudgetBytes: number | null;
  /** What it gives at most, a second, to copies that are filled or repaired; null: also where its version does not say. */
  readonly moveBytesPerSecond: number | null;
  /** What it gave them a second of late; null: also where that was too little to tell. */
  readonly movedBytesPerSecond: number | null;
  /** Of the whole process. */
  readonly residentBytes: number | null;
}

export interface ShardReport {
  readonly shard: number;
  /** One of its copies is whole: active, served, and nothing is known to be missing in it. */
  readonly complete: boolean;
  readonly copies: readonly CopyReport[];
}

export interface CopyReport {
  readonly region: string;
  readonly zone: string;
  readonly node: string;
  readonly address: string;
  /** In the placement: active, joining, leaving. */
  readonly state: string;
  readonly epoch: number;
  /** In the node: serving, recovering, failed, closing; `absent`: the node does not have it; `down`: the node does not answer. */
  readonly serving: string;
  /** What is wrong, else empty. */
  readonly problem: string;
  /** What is known to be missing in it, else empty. */
  readonly gap: string;
  readonly series: number | null;
  readonly samples: number | null;
  readonly memoryBytes: number | null;
  readonly logBytes: number | null;
  readonly diskBytes: number | null;
}

export interface LagReport {
  readonly shard: number;
  readonly from: { readonly region: string; readonly node: string };
  readonly to: { readonly region: string; readonly node: string };
  readonly records: number;
  readonly bytes: number;
  readonly inFlightBytes: number;
  /** How old the time is up to which everything acknowledged at `from` is at `to`; null: there is no such time yet. */
  readonly seconds: number | null;
  readonly lostRecords: number;
}

/** Repair in one copy. Counts are since its node started. */
export interface CopyRepair {
  readonly shard: number;
  readonly region: string;
  readonly node: string;
  readonly running: boolean;
  readonly rounds: number;
  /** Windows, once for each other copy. */
  readonly compared: number;
  readonly differing: number;
  /** Windows that something was brought to. */
  readonly healed: number;
  readonly samples: number;
  readonly bytes: number;
  /** The end of the last round, in seconds since 1970; null: there was none. */
  readonly lastRound: number | null;
  readonly lastError: string;
  /** Of a new copy that is being filled. */
  readonly filledWindows: number;
  readonly fillWindows: number;
}

/** A node that was told to repair these shards. */
export interface StartedRepair {
  readonly region: string;
  readonly node: string;
  readonly shards: readonly number[];
}

/** How many series carry what, who brings them, and which shards take no more. Exact up to the largest (core/cardinality.ts). */
export interface CardinalityReport {
  readonly series: number;
  readonly labelPairs: number;
  readonly newSeriesLastHour: number;
  readonly metrics: readonly Counted[];
  /** Values of each label. */
  readonly labels: readonly Counted[];
  readonly pairs: readonly Counted[];
  readonly callers: readonly CallerReport[];
  readonly fullShards: readonly { readonly shard: number; readonly series: number; readonly most: number }[];
}

export interface Counted {
  readonly name: string;
  readonly value: number;
}

/** Counts since the nodes that answer started; a series counts in the copy that it was written to. */
export interface CallerReport {
  readonly caller: string;
  readonly newSeries: number;
  readonly newSeriesLastHour: number;
  readonly refusedSamples: number;
}

/** A copy that is further behind another has to catch up first. */
const ABREAST_SECONDS = 5;

export function callerReports({ nodes }: Found): CallerReport[] {
  const sums = new Map<string, CallerReport>();
  for (const { status } of nodes) {
    for (const one of status?.callers ?? []) {
      const sum = sums.get(one.caller);
      sums.set(one.caller, {
        caller: one.caller,
        newSeries: one.newSeries + (sum?.newSeries ?? 0),
        newSeriesLastHour: one.newSeriesLastHour + (sum?.newSeriesLastHour ?? 0),
        refusedSamples: one.refusedSamples + (sum?.refusedSamples ?? 0),
      });
    }
  }
  return [...sums.values()].sort(
    (a, b) => b.newSeriesLastHour - a.newSeriesLastHour || b.newSeries - a.newSeries || (a.caller < b.caller ? -1 : 1),
  );
}

/** Shards of which a copy holds as many series as it takes. */
export function fullShards({ nodes }: Found): CardinalityReport['fullShards'] {
  const full = new Map<number, { shard: number; series: number; most: number }>();
  for (const { status } of nodes) {
    for (const { shard, series } of status?.shards ?? []) {
      const most = status?.seriesPerShard ?? 0;
      if (most > 0 && series >= most && series >= (full.get(shard)?.series ?? 0))
        full.set(shard, { shard, series, most });
    }
  }
  return [...full.values()].sort((a, b) => a.shard - b.shard);
}

export function statusReport(found: Found, facts: ClusterFacts): StatusReport {
  const nodes = nodeReports(found);
  const regions = [...new Set(nodes.map(({ region }) => region))].map((region) => {
    const own = nodes.filter((node) => node.region === region);
    return { region, nodes: own.length, up: countOf(own, 'up') };
  });
  const unready = facts.unready ?? '';
  return {
    clusterId: facts.clusterId,
    version: facts.version,
    metaStore: facts.metaStore,
    grpc: facts.grpc,
    ready: unready === '',
    unready,
    shardCount: facts.shardCount,
    placementRevision: found.placement?.revision ?? 0,
    regions,
    nodes: {
      known: nodes.length,
      up: countOf(nodes, 'up'),
      recovering: countOf(nodes, 'recovering'),
      down: countOf(nodes, 'down'),
    },
    nodesDown: nodes
      .filter(({ state }) => state === 'down')
      .map(({ region, node, reason }) => ({ region, node, reason })),
    nodeVersions: [...new Set(nodes.flatMap(({ version }) => version ?? []))].sort(),
    refused: nodes.flatMap(({ region, node, refused }) => refused.map((reason) => ({ region, node, reason }))),
    unsettled: [...(unready === '' ? [] : [unready.replace(/^not ready: /, '')]), ...unsettled(found, nodes)],
    shardsWithoutCompleteCopy: shardReports(found)
      .filter(({ complete }) => !complete)
      .map(({ shard, copies }) => ({ shard, reason: whyIncomplete(copies) })),
    moves: regionMoves(found),
  };
}

/** What is in the way of restarting the next node: each copy must be where it belongs, whole, and abreast of the others. */
function unsettled(found: Found, nodes: readonly NodeReport[]): string[] {
  const away = nodes.filter(({ state, registered }) => state !== 'up' || registered === false);
  const why = away.map(
    ({ region, node, state }) => `${region}/${node} is ${state === 'up' ? 'not registered' : state}`,
  );
  const copies = new Map<string, number[]>();
  const add = (what: string, shard: number) => {
    const shards = copies.get(what);
    if (shards === undefined) copies.set(what, [shard]);
    else shards.push(shard);
  };
  const isAway = (at: { readonly region: string; readonly node: string }) =>
    away.some(({ region, node }) => region === at.region && node === at.node);
  for (const { shard, copies: places } of shardReports(found)) {
    for (const copy of places) {
      const { region, node, state, serving, gap } = copy;
      if (isAway(copy)) continue;
      const name = `${region}/${node}`;
      if (state !== 'active') add(`${name} is ${state}`, shard);
      else if (serving !== 'serving') add(`${name} is ${serving}`, shard);
      else if (gap !== '') add(`${name} lacks something: ${gap}`, shard);
    }
  }
  for (const { shard, from, to, seconds, records } of lagReports(found)) {
    if (isAway(from) || isAway(to) || (seconds !== null && seconds <= ABREAST_SECONDS)) continue;
    const how = seconds === null ? 'has not heard' : `is ${records} records behind`;
    add(`${to.region}/${to.node} ${how} of ${from.region}/${from.node}`, shard);
  }
  return [
    ...why,
    ...Array.from(
      copies,
      ([what, shards]) => `${what} (${shards.length === 1 ? 'shard' : 'shards'} ${shards.join(', ')})`,
    ),
  ];
}

export function nodeReports({ placement, nodes }: Found): NodeReport[] {
  const copies = new Map<string, number>();
  for (const { region, node } of placement?.copies.flat() ?? []) {
    copies.set(`${region}/${node}`, (copies.get(`${region}/${node}`) ?? 0) + 1);
  }
  return nodes.map(({ name, region, zone, address, isRegistered, cordon, status, problem }) => {
    const shards = status?.shards;
    return {
      node: name,
      region,
      zone,
      address,
      state: status === undefined ? 'down' : status.ready ? 'up' : 'recovering',
      reason: problem,
      registered: isRegistered ?? null,
      cordon: cordon ?? null,
      copies: copies.get(`${region}/${name}`) ?? 0,
      serving: shards?.filter(({ state }) => state === 'serving').length ?? null,
      version: status?.version ?? null,
      refused: status?.refused ?? [],
      pid: status?.pid ?? null,
      uptimeSeconds: status === undefined ? null : Math.floor(status.uptimeMs / 1_000),
      series: shards?.reduce((sum, { series }) => sum + series, 0) ?? null,
      samples: shards?.reduce((sum, { samples }) => sum + samples, 0) ?? null,
      memoryBytes: status?.memoryUsedBytes ?? null,
      memoryBudgetBytes: status?.memoryBudgetBytes ?? null,
      moveBytesPerSecond: status?.moveBytesPerSecond || null,
      movedBytesPerSecond: status?.movedBytesPerSecond || null,
      residentBytes: status?.residentBytes ?? null,
    };
  });
}

export function shardReports(found: Found): ShardReport[] {
  const byName = new Map(found.nodes.map((node) => [`${node.region}/${node.name}`, node]));
  const shardsOf = new Map<Surveyed, ReadonlyMap<number, ShardStatus>>();
  for (const node of found.nodes) {
    if (node.status !== undefined) shardsOf.set(node, new Map(node.status.shards.map((one) => [one.shard, one])));
  }
  return (found.placement?.copies ?? []).map((copies, shard) => {
    let complete = false;
    const reports = copies.map((copy) => {
      const node = byName.get(`${copy.region}/${copy.node}`);
      const status = node && shardsOf.get(node)?.get(shard);
      const report = copyReport(copy, node, status);
      complete ||= copy.state === 'active' && report.serving === 'serving' && status?.gap === '';
      return report;
    });
    return { shard, complete, copies: reports };
  });
}

function copyReport(copy: Copy, node: Surveyed | undefined, status: ShardStatus | undefined): CopyReport {
  const { region, zone, node: name, address, state, epoch } = copy;
  return {
    region,
    zone,
    node: name,
    address,
    state,
    epoch,
    serving: status?.state ?? (node?.status === undefined ? 'down' : 'absent'),
    problem: status === undefined ? (node?.problem ?? '') : status.gap || status.problem,
    gap: status?.gap ?? '',
    series: status?.series ?? null,
    samples: status?.samples ?? null,
    memoryBytes: status?.memoryBytes ?? null,
    logBytes: status?.logBytes ?? null,
    diskBytes: status?.diskBytes ?? null,
  };
}

export function lagReports({ nodes }: Found): LagReport[] {
  return nodes.flatMap(({ name, region, status }) =>
    (status?.lags ?? []).map((lag) => ({
      shard: lag.shard,
      from: { region, node: name },
      to: { region: lag.region, node: lag.node },
      records: lag.records,
      bytes: lag.bytes,
      inFlightBytes: lag.inFlightBytes,
      seconds: lag.ageUnknown ? null : lag.ageMs / 1_000,
      lostRecords: lag.lostRecords,
    })),
  );
}

function whyIncomplete(copies: readonly CopyReport[]): string {
  if (copies.length === 0) return 'it has no copy';
  return copies
    .map(({ region, node, state, serving, problem }) => {
      const what = serving !== 'serving' ? serving : state !== 'active' ? state : 'has gaps';
      return `${region}/${node} ${what}${problem === '' ? '' : `: ${problem}`}`;
    })
    .join('; ');
}

function countOf(nodes: readonly NodeReport[], state: NodeState): number {
  return nodes.filter((node) => node.state === state).length;
}
