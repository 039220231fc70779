/**
 * The embedded meta store as a state machine. `decide` is pure: (state, command, now) -> (result, effect). `evolve` applies
 * an effect and is the only place where state changes. The log keeps effects, not commands: replaying them gives the
 * same state whatever the clock says, and a consensus group could carry them just as well.
 */
import { SilverbackError } from '../errors.ts';
import { checkSize, checkTtl } from './bounds.ts';
import type { Change, Condition, Entry, Event, LeaseId, Snapshot } from './store.ts';

interface Lease {
  readonly ttlMs: number;
  /** Store time (see `decide`) at which it ends unless renewed. */
  endsMs: number;
  readonly keys: Set<string>;
}

export interface State {
  revision: number;
  readonly entries: Map<string, Entry>;
  readonly leases: Map<LeaseId, Lease>;
  /** The last events in order; whole commits only. */
  readonly history: Event[];
  /** Events up to this revision are no longer in `history`. */
  compactedRevision: number;
}

export type Command =
  | { readonly kind: 'commit'; readonly conditions: readonly Condition[]; readonly changes: readonly Change[] }
  | { readonly kind: 'get'; readonly key: string }
  | { readonly kind: 'range'; readonly prefix: string }
  | { readonly kind: 'grant'; readonly lease: LeaseId; readonly ttlMs: number }
  | { readonly kind: 'renew'; readonly lease: LeaseId }
  | { readonly kind: 'revoke'; readonly lease: LeaseId }
  | { readonly kind: 'expire' };

/** What a command does to the state. Plain JSON: this is what the log keeps. */
export interface Effect {
  readonly granted?: { readonly lease: LeaseId; readonly ttlMs: number };
  readonly ended?: readonly LeaseId[];
  /** One commit: every change gets the next revision. */
  readonly changes?: readonly Change[];
}

export interface Decision {
  readonly result: number | Entry | Snapshot | undefined;
  readonly effect?: Effect;
  /** Renewals change nothing durable: after a restart every lease starts over with its full time. */
  readonly renewed?: LeaseId;
}

export function emptyState(): State {
  return { revision: 0, entries: new Map(), leases: new Map(), history: [], compactedRevision: 0 };
}

/**
 * What `command` answers and does. Changes nothing.
 * @param nowMs monotonic store time
 * @throws SilverbackError as MetaStore's methods say
 */
export function decide(state: State, command: Command, nowMs: number): Decision {
  switch (command.kind) {
    case 'get':
      return { result: state.entries.get(command.key) };
    case 'range': {
      const entries = [...state.entries.values()].filter((entry) => entry.key.startsWith(command.prefix));
      entries.sort((a, b) => Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)));
      return { result: { revision: state.revision, entries } };
    }
    case 'commit':
      return commit(state, command.conditions, command.changes);
    case 'grant':
      checkTtl(command.ttlMs);
      return { result: undefined, effect: { granted: { lease: command.lease, ttlMs: command.ttlMs } } };
    case 'renew':
      if (!state.leases.has(command.lease)) throw new SilverbackError('NOT_FOUND', `lease ${command.lease} has ended`);
      return { result: undefined, renewed: command.lease };
    case 'revoke':
      return state.leases.has(command.lease) ? end(state, [command.lease]) : { result: undefined };
    case 'expire': {
      const over = [...state.leases].filter(([, lease]) => lease.endsMs <= nowMs).map(([id]) => id);
      return over.length === 0 ? { result: undefined } : end(state, over);
    }
  }
}

function commit(state: State, conditions: readonly Condition[], changes: readonly Change[]): Decision {
  for (const { key, revision } of conditions) {
    const found = state.entries.get(key)?.revision ?? 0;
    if (found !== revision) {
      throw new SilverbackError('CONFLICT', `meta store: ${key} is at revision ${found}, expected ${revision}`);
    }
  }
  for (const change of changes) {
    checkSize(change);
    if (!('put' in change)) continue;
    if (change.lease !== undefined && !state.leases.has(change.lease)) {
      throw new SilverbackError('NOT_FOUND', `lease ${change.lease} has ended`);
    }
  }
  const effective = changes.filter((change) => 'put' in change || state.entries.has(change.remove));
  if (effective.length === 0) return { result: state.revision };
  return { result: state.revision + 1, effect: { changes: effective } };
}

function end(state: State, leases: readonly LeaseId[]): Decision {
  const changes = leases.flatMap((id) => [...(state.leases.get(id)?.keys ?? [])].map((key) => ({ remove: key })));
  return { result: undefined, effect: changes.length === 0 ? { ended: leases } : { ended: leases, changes } };
}

/**
 * Applies an effect.
 * @param historyMost how many events to keep for watches that resume
 * @returns the events, all of one revision
 */
export function evolve(state: State, effect: Effect, nowMs: number, historyMost: number): readonly Event[] {
  if (effect.granted !== undefined) {
    const { lease, ttlMs } = effect.granted;
    state.leases.set(lease, { ttlMs, endsMs: nowMs + ttlMs, keys: new Set() });
  }
  const events: Event[] = [];
  if (effect.changes !== undefined) {
    const revision = ++state.revision;
    for (const change of effect.changes) {
      const key = 'put' in change ? change.put : change.remove;
      const before = state.entries.get(key);
      // A key that was written again without or with another lease no longer goes with the first.
      if (before?.lease !== undefined) state.leases.get(before.lease)?.keys.delete(key);
      let entry: Entry | undefined;
      if ('put' in change) {
        entry = { key, value: change.value, revision, lease: change.lease };
        state.entries.set(key, entry);
        if (change.lease !== undefined) state.leases.get(change.lease)?.keys.add(key);
      } else {
        state.entries.delete(key);
      }
      events.push({ key, entry, revision });
    }
    remember(state, events, historyMost);
  }
  for (const id of effect.ended ?? []) state.leases.delete(id);
  return events;
}

/** Starts a lease's time over. */
export function renew(state: State, id: LeaseId, nowMs: number): void {
  const lease = state.leases.get(id);
  if (lease !== undefined) lease.endsMs = nowMs + lease.ttlMs;
}

function remember(state: State, events: readonly Event[], historyMost: number): void {
  state.history.push(...events);
  if (state.history.length <= historyMost) return;
  // Drops a quarter at a time, and whole commits, so that a commit is never seen in part.
  const goal = state.history.length - Math.floor(historyMost * 0.75);
  state.compactedRevision = state.history[goal - 1]!.revision;
  const keepFrom = state.history.findIndex((event) => event.revision > state.compactedRevision);
  state.history.splice(0, keepFrom < 0 ? state.history.length : keepFrom);
}

/** The state without its history, as JSON for a snapshot. */
export function freeze(state: State): string {
  const leases = [...state.leases].map(([lease, { ttlMs }]) => ({ lease, ttlMs }));
  return JSON.stringify({ revision: state.revision, leases, entries: [...state.entries.values()] });
}

/** The state that `freeze` wrote. Every lease starts over. */
export function thaw(json: string, nowMs: number): State {
  const frozen = JSON.parse(json) as {
    revision: number;
    leases: { lease: LeaseId; ttlMs: number }[];
    entries: Entry[];
  };
  const state = emptyState();
  state.revision = frozen.revision;
  state.compactedRevision = frozen.revision;
  for (const { lease, ttlMs } of frozen.leases)
    state.leases.set(lease, { ttlMs, endsMs: nowMs + ttlMs, keys: new Set() });
  for (const entry of frozen.entries) {
    // JSON drops `lease: undefined`; put it back so that entries compare equal before and after a restart.
    state.entries.set(entry.key, { ...entry, lease: entry.lease });
    if (entry.lease !== undefined) state.leases.get(entry.lease)?.keys.add(entry.key);
  }
  return state;
}
