/**
 * Keeps a region's placement: the elected placer waits until the expected nodes have registered, plans, and writes the
 * result. From then on it follows who comes and goes. What it does is decided in decide.ts; here are the election, the
 * watches and the clock.
 */
import type { Env, Timer } from '../env/env.ts';
import { SilverbackError } from '../errors.ts';
import { beginning, type DecideOptions, decide, type Memory } from './decide.ts';
import { type Campaign, campaign, type Leadership } from './election.ts';
import { type Follower, follow } from './follow.ts';
import { KEYS } from './keys.ts';
import { readMember } from './member.ts';
import type { CopyReports, RegionPlacement } from './region.ts';
import type { Entry, MetaStore } from './store.ts';
import { decodeValue } from './values.ts';
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

function readReports(entry: Entry): CopyReports {
  return decodeValue<CopyReports>(entry);
}
