/**
 * Keeps a region's placement: the elected placer waits until the expected nodes have registered, plans, and writes the
 * result. Later it follows changed addresses. It moves nothing: a lost node keeps its shards until it comes back, and a
 * node that joins later has none until shards can move with their data.
 */
import type { Env } from '../env/env.ts';
import { SilverbackError } from '../errors.ts';
import type { CopyState } from '../placement.ts';
import { planCopies, spreadFirsts } from '../planner.ts';
import { type Campaign, campaign, type Leadership } from './election.ts';
import { type Follower, follow } from './follow.ts';
import { KEYS } from './keys.ts';
import type { Member } from './member.ts';
import type { Entry, MetaStore } from './store.ts';

/** The value under `KEYS.placement(region)`. */
export interface RegionPlacement {
  readonly clusterId: string;
  readonly shardCount: number;
  readonly region: string;
  /** Every node that holds a copy, as it last registered. */
  readonly nodes: { readonly [name: string]: { readonly zone: string; readonly address: string } };
  /** Index is the shard. */
  readonly shards: readonly (readonly RegionCopy[])[];
}

export interface RegionCopy {
  readonly node: string;
  readonly state: CopyState;
  readonly epoch: number;
}

export interface PlacerOptions {
  readonly clusterId: string;
  readonly shardCount: number;
  readonly region: string;
  /** The placer's own name, for people who look at the election. */
  readonly name: string;
  /** How many nodes must be there before the first placement is written. */
  readonly expectedNodes: number;
  /** Of every shard in the region, each on a node of its own. Undefined: as many as there are; 1 at first. */
  readonly copies: number | undefined;
  readonly leaseTtlMs: number;
  /** Takes one line for the log about each thing that was done or found. */
  readonly say: (message: string) => void;
}

export interface Placer {
  close(): Promise<void>;
}

/** The placement that follows from the registrations and from what was placed before; undefined when there is nothing to change. */
export function decide(
  options: Pick<PlacerOptions, 'clusterId' | 'shardCount' | 'region' | 'expectedNodes' | 'copies'>,
  members: readonly Member[],
  current: RegionPlacement | undefined,
): RegionPlacement | undefined {
  if (current === undefined) {
    if (members.length < options.expectedNodes) return undefined;
    const planned = spreadFirsts(planCopies(members, options.shardCount, options.copies ?? 1));
    return {
      clusterId: options.clusterId,
      shardCount: options.shardCount,
      region: options.region,
      nodes: Object.fromEntries(members.map(({ name, zone, address }) => [name, { zone, address }])),
      shards: planned.map((names) => names.map((node) => ({ node, state: 'active', epoch: 1 }))),
    };
  }
  const moved = members.filter(({ name, zone, address }) => {
    const known = current.nodes[name];
    return known !== undefined && (known.address !== address || known.zone !== zone);
  });
  if (moved.length === 0) return undefined;
  const nodes = Object.fromEntries(moved.map(({ name, zone, address }) => [name, { zone, address }]));
  return { ...current, nodes: { ...current.nodes, ...nodes } };
}

/** Runs for the office of the region's placer and does its work while elected. */
export function keepPlacement(env: Env, store: MetaStore, options: PlacerOptions): Placer {
  const placementKey = KEYS.placement(options.region);
  let nodes: Follower | undefined;
  let placement: Follower | undefined;
  const passedOver = new Set<string>();
  let writing = false;
  let changedMeanwhile = false;

  const act = async (leadership: Leadership): Promise<void> => {
    const registered = nodes?.entries();
    const placed = placement?.entries();
    if (registered === undefined || placed === undefined) return;
    if (writing) {
      changedMeanwhile = true;
      return;
    }
    const members = [...registered.values()].map(readMember);
    const entry = placed.get(placementKey);
    const current = entry === undefined ? undefined : readPlacement(entry);
    for (const { name } of members) {
      if (current === undefined || current.nodes[name] !== undefined || passedOver.has(name)) continue;
      passedOver.add(name);
      options.say(`node ${name} joined an existing cluster: it has no shards, because shards do not move yet`);
    }
    const next = decide(options, members, current);
    if (next === undefined) return;
    writing = true;
    try {
      const conditions = [leadership.condition, { key: placementKey, revision: entry?.revision ?? 0 }];
      await store.commit(conditions, [{ put: placementKey, value: JSON.stringify(next) }]);
      options.say(
        current === undefined
          ? `placed ${options.shardCount} shards on ${Object.keys(next.nodes).sort().join(', ')}`
          : 'placement follows changed node addresses',
      );
    } finally {
      writing = false;
      if (changedMeanwhile) {
        changedMeanwhile = false;
        react(leadership);
      }
    }
  };

  const react = (leadership: Leadership): void => {
    act(leadership).catch((error: unknown) => {
      // Overtaken or cut off: the next change, or the store's return, calls again.
      const expected = error instanceof SilverbackError && (error.code === 'CONFLICT' || error.code === 'UNAVAILABLE');
      if (!expected) options.say(`placement could not be written: ${(error as Error).message}`);
    });
  };

  const stopFollowing = (): void => {
    nodes?.close();
    placement?.close();
    nodes = undefined;
    placement = undefined;
  };

  const office: Campaign = campaign(env, store, `placer/${options.region}`, options.name, options.leaseTtlMs, {
    elected(leadership) {
      nodes = follow(env, store, KEYS.nodesOf(options.region), () => react(leadership));
      placement = follow(env, store, placementKey, () => react(leadership));
    },
    deposed: stopFollowing,
  });

  return {
    async close() {
      stopFollowing();
      await office.close();
    },
  };
}

export function readPlacement(entry: Entry): RegionPlacement {
  return JSON.parse(entry.value) as RegionPlacement;
}

function readMember(entry: Entry): Member {
  return JSON.parse(entry.value) as Member;
}
