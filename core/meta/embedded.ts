/**
 * The meta store that needs nothing else: the machine behind its journal, in one process.
 *
 * Commands run in turns. A turn takes every command that is waiting, decides and applies them in order, makes their
 * effects durable in one write, and only then answers and tells the watches: nobody ever sees what a crash could take back.
 */
import type { Env, Timer } from '../env/env.ts';
import { SilverbackError } from '../errors.ts';
import { Journal } from './journal.ts';
import {
  type Command,
  type Decision,
  decide,
  type Effect,
  emptyState,
  evolve,
  freeze,
  renew,
  type State,
  thaw,
} from './machine.ts';
import type { Change, Condition, Entry, Event, LeaseId, MetaStore, Snapshot, Watch, WatchHandler } from './store.ts';

export interface EmbeddedOptions {
  /** Events kept for watches that resume. */
  readonly historyMost?: number;
  /** Log size from which snapshots are taken. */
  readonly snapshotLeastBytes?: number;
  /** Takes a line about a torn tail that was cut. */
  readonly say?: (message: string) => void;
}

interface Waiting {
  readonly command: Command;
  resolve(result: Decision['result']): void;
  reject(error: Error): void;
}

interface Watcher {
  readonly prefix: string;
  readonly fromRevision: number;
  readonly handler: WatchHandler;
}

/** Time advances by at most this much between two beats: while the process stood still, nobody could renew. */
const BEAT_MS = 200;
const BEAT_MOST_MS = 1_000;

/** Opens or creates the store in `directory`. One process at a time. */
export async function openEmbeddedMeta(env: Env, directory: string, options: EmbeddedOptions = {}): Promise<MetaStore> {
  const historyMost = options.historyMost ?? 10_000;
  const { journal, recovered } = await Journal.open(env.disk, directory, options.snapshotLeastBytes ?? 1 << 20);
  const state = recovered.snapshot === undefined ? emptyState() : thaw(recovered.snapshot, 0);
  for (const frame of recovered.frames) {
    for (const effect of JSON.parse(frame) as Effect[]) evolve(state, effect, 0, historyMost);
  }
  if (recovered.cutBytes > 0) {
    options.say?.(`meta store: cut a torn tail of ${recovered.cutBytes} bytes, nothing in it was acknowledged`);
  }
  return new EmbeddedMeta(env, journal, state, historyMost);
}

class EmbeddedMeta implements MetaStore {
  readonly #env: Env;
  readonly #journal: Journal;
  readonly #state: State;
  readonly #historyMost: number;
  readonly #watchers = new Set<Watcher>();
  readonly #beat: Timer;
  #waiting: Waiting[] = [];
  /** Settles with the running turn, or has. */
  #turn: Promise<void> = Promise.resolve();
  #inTurn = false;
  /** Set once the store takes no more commands. */
  #over: SilverbackError | undefined;
  /** Revision up to which events are durable and were told. */
  #toldRevision: number;
  #storeMs = 0;
  #lastBeatMs: number;

  constructor(env: Env, journal: Journal, state: State, historyMost: number) {
    this.#env = env;
    this.#journal = journal;
    this.#state = state;
    this.#historyMost = historyMost;
    this.#toldRevision = state.revision;
    this.#lastBeatMs = env.clock.monotonicMs();
    this.#beat = env.timers.every(BEAT_MS, () => {
      this.#advance();
      if (this.#state.leases.size > 0) this.#submit({ kind: 'expire' }).catch(() => undefined);
    });
  }

  async commit(conditions: readonly Condition[], changes: readonly Change[]): Promise<number> {
    return (await this.#submit({ kind: 'commit', conditions, changes })) as number;
  }

  async get(key: string): Promise<Entry | undefined> {
    return (await this.#submit({ kind: 'get', key })) as Entry | undefined;
  }

  async range(prefix: string): Promise<Snapshot> {
    return (await this.#submit({ kind: 'range', prefix })) as Snapshot;
  }

  async grantLease(ttlMs: number): Promise<LeaseId> {
    const lease = Buffer.from(this.#env.random.bytes(8)).toString('hex') as LeaseId;
    await this.#submit({ kind: 'grant', lease, ttlMs });
    return lease;
  }

  async renewLease(lease: LeaseId): Promise<void> {
    await this.#submit({ kind: 'renew', lease });
  }

  async revokeLease(lease: LeaseId): Promise<void> {
    await this.#submit({ kind: 'revoke', lease });
  }

  watch(prefix: string, fromRevision: number, handler: WatchHandler): Watch {
    const watcher: Watcher = { prefix, fromRevision, handler };
    let closed = false;
    // Begins after the caller has its handle, in one step: the past up to what was told, then what will be told.
    queueMicrotask(() => {
      if (closed) return;
      this.#watchers.add(watcher);
      if (this.#over !== undefined) this.#endWatch(watcher, this.#over);
      else if (fromRevision <= this.#state.compactedRevision) {
        const kept = this.#state.compactedRevision + 1;
        const message = `meta store: revision ${fromRevision} is gone, ${kept} is the first kept`;
        this.#endWatch(watcher, new SilverbackError('COMPACTED', message));
      } else {
        const told = this.#toldRevision;
        this.#tell(
          watcher,
          this.#state.history.filter(({ revision }) => revision <= told),
        );
      }
    });
    return {
      close: () => {
        closed = true;
        this.#watchers.delete(watcher);
      },
    };
  }

  async close(): Promise<void> {
    if (this.#over !== undefined) return;
    this.#over = new SilverbackError('UNAVAILABLE', 'meta store: closed');
    this.#beat.cancel();
    await this.#turn;
    this.#rejectWaiting(this.#over);
    for (const watcher of [...this.#watchers]) this.#endWatch(watcher, this.#over);
    await this.#journal.close();
  }

  #submit(command: Command): Promise<Decision['result']> {
    if (this.#over !== undefined) return Promise.reject(this.#over);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ command, resolve, reject });
      if (!this.#inTurn) this.#turn = this.#takeTurns();
    });
  }

  async #takeTurns(): Promise<void> {
    this.#inTurn = true;
    while (this.#waiting.length > 0 && this.#over === undefined) {
      const batch = this.#waiting;
      this.#waiting = [];
      this.#advance();
      const effects: Effect[] = [];
      const events: Event[] = [];
      const answers: (() => void)[] = [];
      for (const { command, resolve, reject } of batch) {
        try {
          const { result, effect, renewed } = decide(this.#state, command, this.#storeMs);
          if (renewed !== undefined) renew(this.#state, renewed, this.#storeMs);
          if (effect !== undefined) {
            effects.push(effect);
            events.push(...evolve(this.#state, effect, this.#storeMs, this.#historyMost));
          }
          answers.push(() => resolve(result));
        } catch (error) {
          answers.push(() => reject(error as Error));
        }
      }
      try {
        if (effects.length > 0) await this.#journal.append(JSON.stringify(effects));
        if (this.#journal.wantsSnapshot) await this.#journal.snapshot(freeze(this.#state));
      } catch (error) {
        // Memory is ahead of the disk, and what the disk holds is unknown: only a restart can tell.
        const message = `meta store: its disk failed, it stops until it is restarted: ${(error as Error).message}`;
        this.#over = new SilverbackError('DISK_FAILED', message, { cause: error });
        this.#beat.cancel();
        for (const { reject } of batch) reject(this.#over);
        this.#rejectWaiting(this.#over);
        for (const watcher of [...this.#watchers]) this.#endWatch(watcher, this.#over);
        return;
      }
      this.#toldRevision = this.#state.revision;
      for (const answer of answers) answer();
      if (events.length > 0) for (const watcher of [...this.#watchers]) this.#tell(watcher, events);
    }
    // In the same step as the last look at what waits: whoever submits next starts a turn.
    this.#inTurn = false;
  }

  #advance(): void {
    const nowMs = this.#env.clock.monotonicMs();
    this.#storeMs += Math.min(nowMs - this.#lastBeatMs, BEAT_MOST_MS);
    this.#lastBeatMs = nowMs;
  }

  #tell(watcher: Watcher, events: readonly Event[]): void {
    const { prefix, fromRevision } = watcher;
    const matching = events.filter(({ key, revision }) => revision >= fromRevision && key.startsWith(prefix));
    const last = matching.at(-1);
    if (last !== undefined && this.#watchers.has(watcher)) watcher.handler.events(matching, last.revision);
  }

  #endWatch(watcher: Watcher, error: SilverbackError): void {
    if (this.#watchers.delete(watcher)) watcher.handler.ended(error);
  }

  #rejectWaiting(error: SilverbackError): void {
    for (const { reject } of this.#waiting) reject(error);
    this.#waiting = [];
  }
}
