/**
 * The shards of a process: opens those that the placement gives it, closes those it takes away, keeps
 * them ticking, and lets them share one memory budget. Knows how it holds each of them (tenure.ts).
 */
import type { Env, Timer } from '../core/env/env.ts';
import { messageOf, SilverbackError } from '../core/errors.ts';
import { isArriving, type Placement } from '../core/placement.ts';
import type { ShardStatus } from '../core/protocol.ts';
import { SPOKEN, type Spoken } from '../core/versions.ts';
import type { Claim } from './directory.ts';
import { type Greeted, Refused } from './hello.ts';
import { Budget } from './shard/budget.ts';
import type { ShardCoverage, TimeRange } from './shard/gaps.ts';
import { Shard } from './shard/shard.ts';
import type { ShardStats } from './shard/stats.ts';
import { type Grant, nextTenure, PLAIN, readTenure, type Tenure, writeTenure } from './tenure.ts';

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
  /** A write was in its shard's log so long after it came; not told of replicated ones. */
  committed(durationMs: number): void;
  /** Parts of a range in which the shard may lack samples of other copies. */
  unconfirmed(id: number, range: TimeRange, except?: string): ShardCoverage[];
  /** Resolves when the first words of other copies came, or after a moment; undefined: none is on its way. */
  heard(id: number): Promise<void> | undefined;
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
  /** What it speaks. Default: all that this program does. */
  readonly spoken?: Spoken;
  /** Replication, mostly. */
  readonly watcher?: ShardWatcher;
  readonly log: NodeLog;
}

/** Shards opened or closed at a time: recovery is bound by CPU, a few at a time hide their disk's latency. */
const OPEN_CONCURRENCY = 4;
/** Log of all shards that recovery may have to replay: some 90M samples, 4 s of CPU. Of a shard at least the second. */
const REPLAYED_BYTES = 256 * 1024 ** 2;
const MIN_REPLAYED_BYTES = 4 * 1024 ** 2;
const TICK_MS = 1_000;
/** Ticks between two looks for problems that shards lived with. */
const PROBLEM_TICKS = 10;
const RETRY_MS = 500;
const ALWAYS: TimeRange = { fromMs: 0, toMs: Number.MAX_SAFE_INTEGER };
/** Of a shard's directory that is being removed. */
const DROPPED = '.dropped';

/** A shard that the placement gave to this node. */
interface Slot {
  readonly id: number;
  state: 'opening' | 'serving' | 'closing' | 'failed';
  shard: Shard | undefined;
  /** Why it failed. */
  problem: string;
  /** The same, when that is a version that this program does not read. */
  unreadable: string | undefined;
  loggedProblemCount: number;
  /** What the placement said last; undefined before it said anything. */
  grant: Grant | undefined;
  /** Undefined until the disk was asked. */
  tenure: Tenure | undefined;
  storedTenure: Tenure | undefined;
  /** Everything in it is in other copies, too. */
  isDrained: boolean;
}

/** A shard that is open, as the placement gave it. */
export interface Holding {
  readonly id: number;
  readonly shard: Shard;
  readonly tenure: Tenure;
  /** The past is to be brought here now. */
  readonly fill: boolean;
}

export class Node implements Greeted {
  readonly name: string;
  readonly clusterId: string;
  readonly shardCount: number;
  readonly budget: Budget;
  readonly spoken: Spoken;
  readonly refused: Refused;
  readonly #options: NodeOptions;
  readonly #slots = new Map<number, Slot>();
  readonly #ticker: Timer;
  #tickCount = 0;
  #ticking = Promise.resolve();
  #isTicking = false;
  /** Opening and closing, one change of the assignment after the other. */
  #turn: Promise<void> = Promise.resolve();
  #assigned = false;
  /** A placement has said what is to be served. */
  #isPlaced = false;
  #closing = false;
  #isRetired = false;

  /** Opens no shard yet. */
  constructor(options: NodeOptions) {
    this.name = options.name;
    this.clusterId = options.clusterId;
    this.shardCount = options.shardCount;
    this.budget = new Budget(options.memoryBudgetBytes);
    this.spoken = options.spoken ?? SPOKEN;
    this.refused = new Refused(() => options.env.clock.monotonicMs());
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

  /** Why the node must not go on: what lies in a shard's directory is of a version that this program does not read. */
  get unreadable(): string | undefined {
    for (const { id, unreadable } of this.#slots.values())
      if (unreadable !== undefined) return `shard ${id}: ${unreadable}`;
    return undefined;
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
    const own = new Map<number, Grant>();
    for (const [shard, copies] of placement.copies.entries()) {
      const copy = copies.find((one) => one.node === name && one.region === region);
      if (copy === undefined) continue;
      const { state, epoch, fill } = copy;
      own.set(shard, { state, epoch, ...(fill && { fill }), ...(isArriving(copy, copies) && { isArriving: true }) });
    }
    this.#isPlaced = true;
    await this.#serve(own);
  }

  /** Serves the shards that lie in the data directory: what it did before, until a placement says otherwise. */
  async resume(): Promise<void> {
    const { env, claim } = this.#options;
    const names = await env.disk.list(`${claim.directory}/shards`);
    for (const name of names) {
      // Was let go in the middle of an earlier life.
      if (name.endsWith(DROPPED)) await env.disk.removeTree(`${claim.directory}/shards/${name}`);
    }
    if (this.#isPlaced) return this.#turn;
    await this.assign(names.filter((name) => /^\d+$/.test(name) && Number(name) < this.shardCount).map(Number));
  }

  /** Serves exactly these shards from now on. Resolves when the new ones are open, or failed, and the others closed. */
  assign(shards: readonly number[]): Promise<void> {
    return this.#serve(new Map(shards.map((id) => [id, undefined])));
  }

  #serve(wanted: ReadonlyMap<number, Grant | undefined>): Promise<void> {
    if (this.#closing) return this.#turn;
    // At once, whatever is still opening: from here on a leaving copy takes no writes.
    for (const [id, grant] of wanted) {
      const slot = this.#slots.get(id);
      if (slot !== undefined) this.#grant(slot, grant);
    }
    this.#turn = this.#turn.then(() => this.#reconcile(wanted));
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

  /** From now on writers are sent to other copies; all else goes on. */
  retire(): void {
    this.#isRetired = true;
  }

  /** The same, to write to. Throws NOT_OWNER also when the copy takes no more writes. */
  taker(id: number): Shard {
    if (this.#isRetired) throw new SilverbackError('UNAVAILABLE', `node ${this.name} is stopping`);
    const shard = this.find(id);
    const tenure = this.#slots.get(id)?.tenure;
    const why = tenure?.state === 'leaving' ? 'is leaving' : tenure?.isArriving ? 'is still on its way to' : undefined;
    if (why === undefined) return shard;
    throw new SilverbackError('NOT_OWNER', `shard ${id} ${why} node ${this.name}: another takes its writes`);
  }

  /** What is known to be missing of a shard's samples in a range, or may be. `except`: see `Frontiers.unconfirmed`. */
  gaps(id: number, range: TimeRange, except?: string): ShardCoverage[] {
    const found = [...this.find(id).gaps(range), ...(this.#options.watcher?.unconfirmed(id, range, except) ?? [])];
    const slot = this.#slots.get(id) as Slot;
    const reason = this.#lackOf(slot);
    const toMs = Math.min(range.toMs, slot.tenure?.sinceMs ?? 0);
    if (reason === undefined || toMs < range.fromMs) return found;
    return [{ fromMs: range.fromMs, toMs, state: 'missing', reason }, ...found];
  }

  /** While other copies will soon be heard of for the first time: resolves when they were, or after a moment. Undefined at other times. */
  heard(id: number): Promise<void> | undefined {
    return this.#options.watcher?.heard(id);
  }

  /** Why the past is missing in a copy; undefined where it is not. */
  #lackOf({ id, tenure }: Slot): string | undefined {
    if (tenure === undefined || tenure.isFilled) return undefined;
    return `node ${this.name} took shard ${id} over and does not hold its past yet`;
  }

  /** The open shards that the placement named. */
  *holdings(): Generator<Holding> {
    for (const { id, state, shard, tenure, grant } of this.#slots.values()) {
      if (state !== 'serving' || shard === undefined || tenure === undefined || grant === undefined) continue;
      yield { id, shard, tenure, fill: grant.fill === true };
    }
  }

  /** The joining copy of this epoch holds the past now. Resolves when that is on disk. */
  async filled(id: number, epoch: number): Promise<void> {
    const slot = this.#slots.get(id);
    if (slot?.tenure?.state !== 'joining' || slot.tenure.epoch !== epoch) return;
    slot.tenure = { ...slot.tenure, isFilled: true, sinceMs: 0 };
    await this.#keepTenure(slot);
  }

  /** All that the leaving copy of this epoch ever took is in the others: when the placement takes it away, its data goes. */
  drained(id: number, epoch: number): void {
    const slot = this.#slots.get(id);
    if (slot?.tenure?.state === 'leaving' && slot.tenure.epoch === epoch) slot.isDrained = true;
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
        gap: this.#lackOf(slot) ?? slot.shard?.gaps(ALWAYS).find(({ state }) => state === 'missing')?.reason ?? '',
      };
    });
  }

  /** Closes every shard in order and gives the directory up. What is under way is answered first. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#ticker.cancel();
    for (const slot of this.#slots.values()) slot.isDrained = false;
    this.#turn = this.#turn.then(() => this.#reconcile(new Map()));
    await this.#turn;
    await this.#ticking;
    await this.#options.claim.release();
  }

  async #reconcile(wanted: ReadonlyMap<number, Grant | undefined>): Promise<void> {
    const tasks: (() => Promise<void>)[] = [];
    for (const slot of this.#slots.values()) {
      if (!wanted.has(slot.id)) tasks.push(() => this.#closeSlot(slot));
    }
    for (const [id, grant] of wanted) {
      const known = this.#slots.get(id);
      if (known !== undefined && known.state !== 'failed') {
        if (known.tenure !== known.storedTenure) tasks.push(() => this.#keepTenure(known));
        continue;
      }
      const slot: Slot = {
        id,
        state: 'opening',
        shard: undefined,
        problem: '',
        unreadable: undefined,
        loggedProblemCount: 0,
        grant,
        tenure: undefined,
        storedTenure: undefined,
        isDrained: false,
      };
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
    const { env, maxSampleAgeMs, maxSeriesCount, log } = this.#options;
    const directory = this.#directoryOf(slot.id);
    try {
      const before = await readTenure(env.disk, directory);
      slot.storedTenure = before ?? PLAIN;
      slot.tenure = slot.grant === undefined ? slot.storedTenure : nextTenure(before, slot.grant, this.nowMs);
      // On disk before the data that it is about.
      await this.#keepTenure(slot);
      slot.shard = await Shard.open(env, directory, {
        shard: slot.id,
        budget: this.budget,
        maxSampleAgeMs,
        limits: { maxSeriesCount },
        maxExemplarCount: () => Math.ceil((this.#options.maxExemplarCount ?? 100_000) / this.#slots.size),
        committed: (durationMs) => this.#options.watcher?.committed(durationMs),
        logAllowanceBytes: () => (this.#options.logBudgetBytes ?? Number.POSITIVE_INFINITY) / this.#slots.size,
        replayAllowanceBytes: () => Math.max(MIN_REPLAYED_BYTES, REPLAYED_BYTES / this.#slots.size),
      });
      slot.state = 'serving';
      this.#options.watcher?.opened(slot.id, slot.shard);
      const { recoveryMs, seriesCount, recoveredRecordCount } = slot.shard.stats();
      log.info({ shard: slot.id, recoveryMs, seriesCount, recoveredRecordCount }, 'shard open');
      this.#logProblems(slot);
    } catch (error) {
      slot.state = 'failed';
      slot.problem = messageOf(error);
      if (error instanceof SilverbackError && error.code === 'VERSION') slot.unreadable = slot.problem;
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
    if (slot.isDrained) await this.#drop(slot.id);
    this.#slots.delete(slot.id);
  }

  #directoryOf(id: number): string {
    return `${this.#options.claim.directory}/shards/${id}`;
  }

  /** A change of what the placement says of a shard that is here. */
  #grant(slot: Slot, grant: Grant | undefined): void {
    if (grant === undefined) return;
    slot.grant = grant;
    const { tenure } = slot;
    if (tenure === undefined) return;
    const isSame = tenure.epoch === grant.epoch && tenure.state === grant.state;
    if (isSame && tenure.isArriving === grant.isArriving) return;
    slot.tenure = nextTenure(tenure, grant, this.nowMs);
    slot.isDrained = false;
  }

  /** Never rejects. */
  async #keepTenure(slot: Slot): Promise<void> {
    const { tenure } = slot;
    if (tenure === undefined || tenure === slot.storedTenure) return;
    try {
      await writeTenure(this.#options.env.disk, this.#directoryOf(slot.id), tenure);
      slot.storedTenure = tenure;
    } catch (error) {
      this.#options.log.error({ shard: slot.id, err: error }, 'the state of a copy could not be kept');
    }
  }

  /** Never rejects. */
  async #drop(id: number): Promise<void> {
    const { disk } = this.#options.env;
    const directory = this.#directoryOf(id);
    try {
      // A half of it must not be taken for a shard.
      await disk.rename(directory, `${directory}${DROPPED}`);
      await disk.removeTree(`${directory}${DROPPED}`);
      this.#options.log.info({ shard: id }, 'shard let go: other nodes hold all of it');
    } catch (error) {
      this.#options.log.error({ shard: id, err: error }, 'the files of a shard that was let go could not be removed');
    }
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
