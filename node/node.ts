/**
 * The shards of a process: opens those that the placement gives it, closes those it takes away, keeps
 * them ticking, and lets them share one memory budget.
 */
import type { Env, Timer } from '../core/env/env.ts';
import { SilverbackError } from '../core/errors.ts';
import type { Placement } from '../core/placement.ts';
import type { ShardStatus } from '../core/protocol.ts';
import type { Claim } from './directory.ts';
import { Budget } from './shard/budget.ts';
import { Shard, type ShardCoverage, type ShardStats, type TimeRange } from './shard/shard.ts';

/** Where a node says what happens to it. A pino logger is one. */
export interface NodeLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Told of shards as they come and go. */
export interface ShardWatcher {
  opened(id: number, shard: Shard): void;
  /** Before it closes. */
  closing(id: number): void;
  /** Parts of a range in which the shard may lack samples of other copies. */
  unconfirmed(id: number, range: TimeRange): ShardCoverage[];
}

export interface NodeOptions {
  readonly env: Env;
  /** Its name in its region. */
  readonly name: string;
  readonly region: string;
  /** The data directory, taken and recorded. */
  readonly claim: Claim;
  readonly clusterId: string;
  readonly shardCount: number;
  readonly memoryBudgetBytes: number;
  /** Infinity: any age. */
  readonly maxSampleAgeMs: number;
  /** Of one shard. */
  readonly maxSeriesCount: number;
  /** Of all shards together. Default 100,000. */
  readonly maxExemplarCount?: number;
  /** What the logs of all shards may take together while other copies lag. Default: any size. */
  readonly logBudgetBytes?: number;
  /** Replication, mostly. */
  readonly watcher?: ShardWatcher;
  readonly log: NodeLog;
}

/** Shards opened or closed at a time: recovery is bound by CPU, a few at a time hide their disk's latency. */
const OPEN_CONCURRENCY = 4;
const TICK_MS = 1_000;
/** Ticks between two looks for problems that shards lived with. */
const PROBLEM_TICKS = 10;
const RETRY_MS = 500;
const ALWAYS: TimeRange = { fromMs: 0, toMs: Number.MAX_SAFE_INTEGER };

/** A shard that the placement gave to this node. */
interface Slot {
  readonly id: number;
  state: 'opening' | 'serving' | 'closing' | 'failed';
  shard: Shard | undefined;
  /** Why it failed. */
  problem: string;
  loggedProblemCount: number;
}

export class Node {
  readonly name: string;
  readonly clusterId: string;
  readonly shardCount: number;
  readonly budget: Budget;
  readonly #options: NodeOptions;
  readonly #slots = new Map<number, Slot>();
  readonly #ticker: Timer;
  #tickCount = 0;
  #ticking = Promise.resolve();
  #isTicking = false;
  /** Opening and closing, one change of the assignment after the other. */
  #turn: Promise<void> = Promise.resolve();
  #assigned = false;
  #closing = false;

  /** Opens no shard yet. */
  constructor(options: NodeOptions) {
    this.name = options.name;
    this.clusterId = options.clusterId;
    this.shardCount = options.shardCount;
    this.budget = new Budget(options.memoryBudgetBytes);
    this.#options = options;
    this.#ticker = options.env.timers.every(TICK_MS, () => this.#tick());
  }

  /** Of its clock. */
  get nowMs(): number {
    return this.#options.env.clock.nowMs();
  }

  /** Series that one of its shards takes. */
  get maxSeriesCount(): number {
    return this.#options.maxSeriesCount;
  }

  /** All assigned shards are open, or have failed to. False before there is an assignment. */
  get ready(): boolean {
    if (!this.#assigned) return false;
    for (const { state } of this.#slots.values()) if (state === 'opening') return false;
    return true;
  }

  /** Serves the shards of which the placement names a copy here. Resolves when they are open. Rejects with INVALID_ARGUMENT another cluster's placement. */
  async follow(placement: Placement): Promise<void> {
    if (placement.clusterId !== this.clusterId || placement.shardCount !== this.shardCount) {
      const theirs = `cluster ${placement.clusterId} with ${placement.shardCount} shards`;
      throw new SilverbackError(
        'INVALID_ARGUMENT',
        `a placement of ${theirs} came to a node of cluster ${this.clusterId} with ${this.shardCount}`,
      );
    }
    const { name, region } = this.#options;
    const own: number[] = [];
    for (const [shard, copies] of placement.copies.entries()) {
      if (copies.some((copy) => copy.node === name && copy.region === region)) own.push(shard);
    }
    await this.assign(own);
  }

  /** Serves the shards that lie in the data directory: what it did before, until a placement says otherwise. */
  async resume(): Promise<void> {
    const { env, claim } = this.#options;
    const names = await env.disk.list(`${claim.directory}/shards`);
    await this.assign(names.filter((name) => /^\d+$/.test(name) && Number(name) < this.shardCount).map(Number));
  }

  /** Serves exactly these shards from now on. Resolves when the new ones are open, or failed, and the others closed. */
  assign(shards: readonly number[]): Promise<void> {
    if (this.#closing) return this.#turn;
    this.#turn = this.#turn.then(() => this.#reconcile(new Set(shards)));
    return this.#turn;
  }

  /** The shard, ready to serve. Throws NOT_OWNER, or UNAVAILABLE while it opens or closes or because it failed to open. */
  find(id: number): Shard {
    const slot = this.#slots.get(id);
    if (slot?.state === 'serving' && slot.shard !== undefined) return slot.shard;
    if (slot === undefined) {
      throw new SilverbackError('NOT_OWNER', `shard ${id} is not served by node ${this.name}`);
    }
    const what = slot.state === 'failed' ? `failed to open: ${slot.problem}` : `is ${slot.state} in node ${this.name}`;
    throw new SilverbackError('UNAVAILABLE', `shard ${id} ${what}`, { retryAfterMs: RETRY_MS });
  }

  /** What is known to be missing of a shard's samples in a range, or may be. */
  gaps(id: number, range: TimeRange): ShardCoverage[] {
    return [...this.find(id).gaps(range), ...(this.#options.watcher?.unconfirmed(id, range) ?? [])];
  }

  /** Assigned shards, ascending, whatever their state. */
  assigned(): number[] {
    return [...this.#slots.keys()].sort((a, b) => a - b);
  }

  /** The shards that serve. */
  *serving(): Generator<{ readonly id: number; readonly stats: ShardStats }> {
    for (const { id, state, shard } of this.#slots.values()) {
      if (state === 'serving' && shard !== undefined) yield { id, stats: shard.stats() };
    }
  }

  status(): ShardStatus[] {
    return this.assigned().map((id) => {
      const slot = this.#slots.get(id) as Slot;
      const stats = slot.shard?.stats();
      return {
        shard: id,
        state: slot.state === 'opening' ? 'recovering' : slot.state,
        series: stats?.seriesCount ?? 0,
        samples: (stats?.openSampleCount ?? 0) + (stats?.sealedSampleCount ?? 0),
        memoryBytes:
          stats === undefined
            ? 0
            : stats.kernelBytes + stats.residentBlockBytes + stats.blockIndexBytes + stats.indexBytes,
        logBytes: stats?.logBytes ?? 0,
        problem: stats?.failure ?? stats?.problems.at(-1)?.message ?? slot.problem,
        diskBytes: stats?.blockFileBytes ?? 0,
        gap: slot.shard?.gaps(ALWAYS).find(({ state }) => state === 'missing')?.reason ?? '',
      };
    });
  }

  /** Closes every shard in order and gives the directory up. What is under way is answered first. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#ticker.cancel();
    this.#turn = this.#turn.then(() => this.#reconcile(new Set()));
    await this.#turn;
    await this.#ticking;
    await this.#options.claim.release();
  }

  async #reconcile(wanted: ReadonlySet<number>): Promise<void> {
    const tasks: (() => Promise<void>)[] = [];
    for (const slot of this.#slots.values()) {
      if (!wanted.has(slot.id)) tasks.push(() => this.#closeSlot(slot));
    }
    for (const id of wanted) {
      const known = this.#slots.get(id);
      if (known !== undefined && known.state !== 'failed') continue;
      const slot: Slot = { id, state: 'opening', shard: undefined, problem: '', loggedProblemCount: 0 };
      this.#slots.set(id, slot);
      tasks.push(() => this.#openSlot(slot));
    }
    this.#assigned = true;
    const worker = async () => {
      for (let task = tasks.shift(); task !== undefined; task = tasks.shift()) await task();
    };
    await Promise.all(Array.from({ length: OPEN_CONCURRENCY }, worker));
  }

  async #openSlot(slot: Slot): Promise<void> {
    const { env, claim, maxSampleAgeMs, maxSeriesCount, log } = this.#options;
    try {
      slot.shard = await Shard.open(env, `${claim.directory}/shards/${slot.id}`, {
        shard: slot.id,
        budget: this.budget,
        maxSampleAgeMs,
        limits: { maxSeriesCount },
        maxExemplarCount: () => Math.ceil((this.#options.maxExemplarCount ?? 100_000) / this.#slots.size),
        logAllowanceBytes: () => (this.#options.logBudgetBytes ?? Number.POSITIVE_INFINITY) / this.#slots.size,
      });
      slot.state = 'serving';
      this.#options.watcher?.opened(slot.id, slot.shard);
      const { recoveryMs, seriesCount, recoveredRecordCount } = slot.shard.stats();
      log.info({ shard: slot.id, recoveryMs, seriesCount, recoveredRecordCount }, 'shard open');
      this.#logProblems(slot);
    } catch (error) {
      slot.state = 'failed';
      slot.problem = error instanceof Error ? error.message : String(error);
      log.error({ shard: slot.id, err: error }, 'shard failed to open');
    }
  }

  async #closeSlot(slot: Slot): Promise<void> {
    slot.state = 'closing';
    this.#options.watcher?.closing(slot.id);
    try {
      await slot.shard?.close();
      this.#options.log.info({ shard: slot.id }, 'shard closed');
    } catch (error) {
      this.#options.log.error(
        { shard: slot.id, err: error },
        'shard did not close in order: its log is replayed at the next start',
      );
    }
    this.#slots.delete(slot.id);
  }

  /** One shard after the other: at most one of a node seals at a time. */
  #tick(): void {
    if (this.#isTicking) return;
    this.#isTicking = true;
    this.#tickCount++;
    this.#ticking = this.#tickAll().finally(() => {
      this.#isTicking = false;
    });
  }

  async #tickAll(): Promise<void> {
    for (const slot of [...this.#slots.values()]) {
      if (slot.state !== 'serving') continue;
      await slot.shard?.tick();
      if (this.#tickCount % PROBLEM_TICKS === 0) this.#logProblems(slot);
    }
  }

  #logProblems(slot: Slot): void {
    if (slot.shard === undefined) return;
    const { problems, problemCount } = slot.shard.stats();
    const news = problemCount - slot.loggedProblemCount;
    slot.loggedProblemCount = problemCount;
    if (news === 0) return;
    for (const { message } of problems.slice(-news)) this.#options.log.warn({ shard: slot.id }, message);
  }
}
