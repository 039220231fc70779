/**
 * Keeps a region's placement: the elected placer waits until the expected nodes have registered, plans, and writes the
 * result. From then on it follows who comes and goes. What it does is decided in decide.ts; here are the election, the
 * watches and the clock.
 */
import type { Env, Timer } from '../env/env.ts';
import { SilverbackError } from '../errors.ts';
import { beginning, type DecideOptions, decide, type Memory, withCordon, withMoves, withoutNode } from './decide.ts';
import { type Campaign, campaign, type Leadership } from './election.ts';
import { type Follower, follow } from './follow.ts';
import { KEYS } from './keys.ts';
import type { Member } from './member.ts';
import type { CopyReports, Cordon, Moves, RegionPlacement } from './region.ts';
import type { Condition, Entry, MetaStore } from './store.ts';
import { readPlacement, writePlacement } from './written.ts';

export interface PlacerOptions extends DecideOptions {
  /** The placer's own name, for people who look at the election. */
  readonly name: string;
  /** Takes one line for the log about each thing that was done or found. */
  readonly say: (message: string) => void;
  /** Takes one line about what somebody has to look at. */
  readonly warn: (message: string) => void;
}

export interface PlacerStatus {
  readonly region: string;
  /** This process keeps the region's placement. The rest is empty while it does not. */
  readonly isLeading: boolean;
  /** Why takeover is stopped; empty while it is not. */
  readonly alarm: string;
  /** Nodes with copies that are not registered. */
  readonly goneNodes: readonly string[];
  readonly copyCounts: { readonly active: number; readonly joining: number; readonly leaving: number };
  /** Shards of which no copy takes writes. */
  readonly idleShardCount: number;
}

export interface Placer {
  status(): PlacerStatus;
  close(): Promise<void>;
}

/** What one term of office works with. */
interface Term {
  readonly leadership: Leadership;
  readonly nodes: Follower;
  readonly reports: Follower;
  readonly placement: Follower;
  readonly ticker: Timer;
  /** Undefined until the store has answered all questions. */
  memory: Memory | undefined;
  returnCount: number;
}

/** Runs for the office of the region's placer and does its work while elected. */
export function keepPlacement(env: Env, store: MetaStore, options: PlacerOptions): Placer {
  const { region, leaseTtlMs } = options;
  const placementKey = KEYS.placement(region);
  let term: Term | undefined;
  let alarm = '';
  let writing = false;
  let changedMeanwhile = false;

  const current = (): { entry: Entry | undefined; placement: RegionPlacement | undefined } => {
    const entry = term?.placement.entries()?.get(placementKey);
    return { entry, placement: entry === undefined ? undefined : readPlacement(entry) };
  };

  const act = async (): Promise<void> => {
    const now = term;
    const members = now?.nodes.entries();
    const reports = now?.reports.entries();
    if (now === undefined || members === undefined || reports === undefined) return;
    if (now.placement.entries() === undefined) return;
    if (writing) {
      changedMeanwhile = true;
      return;
    }
    const nowMs = env.clock.monotonicMs();
    const returnCount = now.nodes.returnCount + now.reports.returnCount + now.placement.returnCount;
    if (now.memory === undefined || returnCount > now.returnCount) {
      now.returnCount = returnCount;
      now.memory = { ...beginning(options, nowMs), ...(now.memory && { nodes: now.memory.nodes }) };
    }
    const { entry, placement } = current();
    const situation = {
      members: [...members.values()].map(readMember),
      reports: new Map(
        [...reports].map(([key, value]) => [key.slice(KEYS.copiesOf(region).length), readReports(value)]),
      ),
      current: placement,
      nowMs,
    };
    const decision = decide(options, situation, now.memory);
    now.memory = decision.memory;
    if (decision.alarm !== alarm) {
      if (decision.alarm !== '') options.warn(decision.alarm);
      else options.say('takeover goes on');
      alarm = decision.alarm;
    }
    if (decision.placement === undefined) return;
    writing = true;
    try {
      const conditions = [now.leadership.condition, { key: placementKey, revision: entry?.revision ?? 0 }];
      await store.commit(conditions, [{ put: placementKey, value: writePlacement(decision.placement) }]);
      for (const reason of decision.reasons) options.say(reason);
    } finally {
      writing = false;
      if (changedMeanwhile) {
        changedMeanwhile = false;
        react();
      }
    }
  };

  const react = (): void => {
    act().catch((error: unknown) => {
      // Overtaken or cut off: the next change, the next tick, or the store's return calls again.
      const expected = error instanceof SilverbackError && (error.code === 'CONFLICT' || error.code === 'UNAVAILABLE');
      if (!expected) options.warn(`placement could not be written: ${(error as Error).message}`);
    });
  };

  const end = (): void => {
    term?.nodes.close();
    term?.reports.close();
    term?.placement.close();
    term?.ticker.cancel();
    term = undefined;
    alarm = '';
  };

  const office: Campaign = campaign(env, store, `placer/${region}`, options.name, leaseTtlMs, {
    elected(leadership) {
      term = {
        leadership,
        nodes: follow(env, store, KEYS.nodesOf(region), react),
        reports: follow(env, store, KEYS.copiesOf(region), react),
        placement: follow(env, store, placementKey, react),
        // Absences ripen without anything happening in the store.
        ticker: env.timers.every(Math.max(50, leaseTtlMs / 6), () => {
          if (office.leadership() !== undefined) react();
        }),
        memory: undefined,
        returnCount: 0,
      };
    },
    deposed: end,
  });

  return {
    status() {
      const { placement } = current();
      const copies = placement?.shards.flat() ?? [];
      const count = (state: string) => copies.filter((copy) => copy.state === state).length;
      const nodes = [...(term?.memory?.nodes ?? [])];
      return {
        region,
        isLeading: term !== undefined,
        alarm,
        goneNodes: nodes.filter(([, { isLiving }]) => !isLiving).map(([name]) => name),
        copyCounts: { active: count('active'), joining: count('joining'), leaving: count('leaving') },
        idleShardCount: placement?.shards.filter((own) => own.every(({ state }) => state === 'leaving')).length ?? 0,
      };
    },
    async close() {
      end();
      await office.close();
    },
  };
}

/**
 * Takes a node that will not come back out of the placement: what its log held and nobody else has is given up, and nobody
 * waits for it any more. Any process may do it; whoever keeps the placement goes on from there.
 * @throws SilverbackError NOT_FOUND without such a node, CONFLICT while it is registered, UNAVAILABLE
 */
export function removeLostNode(store: MetaStore, region: string, name: string): Promise<void> {
  return amend(store, region, [{ key: KEYS.node(region, name), revision: 0 }], async (current) => {
    if ((await store.get(KEYS.node(region, name))) !== undefined) {
      const message = `node ${name} of region ${region} is registered: only a node that is gone can be declared lost`;
      throw new SilverbackError('CONFLICT', message);
    }
    const next = withoutNode(current, name);
    if (next !== undefined) return next;
    throw new SilverbackError('NOT_FOUND', `region ${region} has no copies on a node ${name}`);
  });
}

/**
 * Lets copies move, holds the moves, or calls them off; see `Moves`.
 * @throws SilverbackError NOT_FOUND without a placement, UNAVAILABLE
 */
export function switchMoves(store: MetaStore, region: string, moves: Moves): Promise<void> {
  return amend(store, region, [], async (current) => withMoves(current, moves));
}

/**
 * Keeps copies away from a node, or no longer (undefined); see `Cordon`.
 * @throws SilverbackError NOT_FOUND without such a node or a placement, CONFLICT when a node cannot be drained, UNAVAILABLE
 */
export function setCordon(store: MetaStore, region: string, name: string, cordon: Cordon | undefined): Promise<void> {
  return amend(store, region, [], async (current) => {
    const { entries } = await store.range(KEYS.nodesOf(region));
    const living = entries.map((entry) => readMember(entry).name);
    const isKnown = living.includes(name) || name in current.nodes || name in (current.cordons ?? {});
    if (!isKnown) throw new SilverbackError('NOT_FOUND', `region ${region} has no node ${name}`);
    if (cordon === 'draining' && current.cordons?.[name] !== 'draining') {
      const others = living.filter((one) => one !== name && current.cordons?.[one] === undefined).length;
      checkDrain(current, region, name, others);
    }
    return withCordon(current, name, cordon);
  });
}

function checkDrain(current: RegionPlacement, region: string, name: string, others: number): void {
  const { copies, moves } = current;
  const what = `node ${name} of region ${region} cannot be drained`;
  if (others < copies) {
    const need = `its copies need ${copies} other ${copies === 1 ? 'node' : 'nodes'} without a cordon`;
    throw new SilverbackError('CONFLICT', `${what}: ${need}, and there ${others === 1 ? 'is' : 'are'} ${others}`);
  }
  if (moves === 'on') return;
  throw new SilverbackError('CONFLICT', `${what}: moves are ${moves} (silverback moves resume)`);
}

/** Changes a placement under the hands of whoever keeps it. */
async function amend(
  store: MetaStore,
  region: string,
  conditions: readonly Condition[],
  change: (current: RegionPlacement) => Promise<RegionPlacement | undefined>,
): Promise<void> {
  const key = KEYS.placement(region);
  for (;;) {
    const entry = await store.get(key);
    if (entry === undefined) throw new SilverbackError('NOT_FOUND', `region ${region} has no placement`);
    const next = await change(readPlacement(entry));
    if (next === undefined) return;
    try {
      await store.commit(
        [{ key, revision: entry.revision }, ...conditions],
        [{ put: key, value: writePlacement(next) }],
      );
      return;
    } catch (error) {
      if (!(error instanceof SilverbackError) || error.code !== 'CONFLICT') throw error;
    }
  }
}

function readMember(entry: Entry): Member {
  return JSON.parse(entry.value) as Member;
}

function readReports(entry: Entry): CopyReports {
  return JSON.parse(entry.value) as CopyReports;
}
