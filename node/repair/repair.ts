/**
 * Repair of a node's copies: in the background they are compared with the other copies of their shards, one after the other,
 * and take what they lack (heal.ts). A copy that another one's log went on without takes everything from that one at once, and
 * a new copy is filled.
 *
 * Only windows that have settled are compared in the background: those that are being written always differ by what is on
 * its way. Windows past retention are left alone.
 */
import type { Env, Timer } from '../../core/env/env.ts';
import { messageOf, SilverbackError } from '../../core/errors.ts';
import { WINDOW_MS } from '../../core/kernel/shard.ts';
import { Backoff } from '../../core/meta/backoff.ts';
import type { Copy, Placement } from '../../core/placement.ts';
import type { ShardRepair } from '../../core/protocol.ts';
import type { Node } from '../node.ts';
import type { Frontiers } from '../replication/frontiers.ts';
import type { Origins } from '../replication/origins.ts';
import type { Pace } from '../replication/pace.ts';
import type { ShardCoverage } from '../shard/gaps.ts';
import type { Shard } from '../shard/shard.ts';
import { Digests } from './digests.ts';
import { BEGAN_EMPTY, type Healing, heal, type Tally } from './heal.ts';
import type { Peer } from './peer.ts';
import { common, jointly, settledMs } from './plan.ts';

export interface RepairOptions {
  readonly env: Env;
  readonly node: Pick<Node, 'find' | 'assigned'>;
  /** This node's. */
  readonly name: string;
  readonly region: string;
  readonly frontiers: Frontiers;
  readonly origins: Pick<Origins, 'index'>;
  readonly connect: (copy: Copy) => Peer;
  /** Infinity: any age. */
  readonly maxSampleAgeMs: number;
  /** Between the end of a round and the next one, give or take a quarter. Infinity: no rounds but those asked for. Default 5 min. */
  readonly intervalMs?: number;
  /** What a round fetches at the most. Default 16 MiB. */
  readonly bytesPerSecond?: number;
  /** What is fetched is spent here. Default: there is no bound but that of rounds. */
  readonly pace?: Pick<Pace, 'spend'>;
  readonly log: { info(fields: object, message: string): void; warn(fields: object, message: string): void };
}

const INTERVAL_MS = 5 * 60_000;
/** Timers take no more than 24 days. */
const MAX_INTERVAL_MS = 7 * 24 * 3_600_000;
const MIN_INTERVAL_MS = 1_000;
const BYTES_PER_SECOND = 16 * 1024 * 1024;
/** How often it is asked whether another copy's log went on without a copy here. */
const LOSS_MS = 2_000;
const LOSS_RETRY = { firstMs: 1_000, mostMs: 60_000 };
const FILL_RETRY = { firstMs: 250, mostMs: 15_000 };
/** A window this near to the end of retention is not begun with. */
const RETENTION_MARGIN_MS = 5 * 60_000;
/** While there are writes, something may have come each time: what came before the first pass is here after it. */
const MAX_FILL_PASSES = 4;

const ALWAYS = { fromMs: 0, toMs: Number.MAX_SAFE_INTEGER };

interface ShardState extends Tally {
  running: boolean;
  rounds: number;
  lastRoundMs: number;
  lastError: string;
  filledWindows: number;
  fillWindows: number;
  /** One repair of a shard at a time. */
  turn: Promise<unknown>;
  /** By the other copy's name: see `HealOptions.taken`. Of the shard as it was opened last. */
  taken: Map<string, Map<number, string>>;
  shard: Shard | undefined;
  readonly lossBackoff: Backoff;
  /** Monotonic. */
  nextLossMs: number;
  /** The shard, if it began empty, as it has everything that others had then. */
  refilled: Shard | undefined;
}

/** How much is done, and how. */
interface Extent {
  /** Windows that are being written, too. */
  readonly isAll: boolean;
  readonly bytesPerSecond: number;
  readonly isLost?: boolean;
  readonly withAnnex?: boolean;
  readonly progress?: (doneCount: number, windowCount: number) => void;
}

/** All that a copy had is here: what it lacks itself, and what it vouches for. */
type Taken = Pick<Healing, 'missing' | 'vouched'>;

export class Repair {
  readonly digests = new Digests();
  readonly #options: RepairOptions;
  readonly #shards = new Map<number, ShardState>();
  readonly #peers = new Map<string, { readonly peer: Peer; readonly address: string }>();
  readonly #stopped = new AbortController();
  readonly #lossTicker: Timer;
  #next: Timer | undefined;
  #isLooking = false;
  #placement: Placement | undefined;

  /** Begins with the background rounds. */
  constructor(options: RepairOptions) {
    this.#options = options;
    this.#lossTicker = options.env.timers.every(LOSS_MS, () => this.#lookForLosses());
    this.#schedule();
  }

  follow(placement: Placement): void {
    this.#placement = placement;
    const addresses = new Map(placement.copies.flat().map((copy) => [nameOf(copy), copy.address]));
    for (const [name, { peer, address }] of this.#peers) {
      if (addresses.get(name) === address) continue;
      peer.close();
      this.#peers.delete(name);
    }
  }

  /** A round over these shards, or all that this node has. Resolves when it is over; what went wrong stands in `status`. */
  async run(shards?: readonly number[]): Promise<void> {
    const ids = shards === undefined || shards.length === 0 ? this.#options.node.assigned() : shards;
    for (const id of ids) {
      if (this.#stopped.signal.aborted) return;
      await this.#runShard(id);
    }
  }

  /** Of every shard that this node has. */
  status(): ShardRepair[] {
    return this.#options.node.assigned().map((id) => {
      const { turn, taken, shard, lossBackoff, nextLossMs, refilled, ...counts } = this.#state(id);
      return { shard: id, ...counts };
    });
  }

  /**
   * Fills a new copy: takes every window in retention from a complete copy, most recent first, bounded by `pace` only.
   * Resolves when everything that copy had is here for good; waits as long as there is no copy that can be reached. Where no
   * copy is complete it resolves when everything that the others have is here, and what all of them lack is a gap here, too. Rejects with the signal's reason, or what
   * this copy fails with.
   */
  async fill(shardId: number, signal: AbortSignal): Promise<void> {
    const { env, frontiers } = this.#options;
    const backoff = new Backoff(env, FILL_RETRY);
    const state = this.#state(shardId);
    const either = AbortSignal.any([signal, this.#stopped.signal]);
    const extent: Extent = {
      isAll: true,
      bytesPerSecond: Number.POSITIVE_INFINITY,
      progress: (doneCount, windowCount) => {
        state.filledWindows = doneCount;
        state.fillWindows = windowCount;
      },
    };
    const taken = new Map<string, Taken>();
    for (;;) {
      either.throwIfAborted();
      const lost = frontiers.lost(shardId);
      const copies = this.#sources(shardId);
      for (const copy of copies) {
        try {
          const all = await this.#exclusively(state, () => this.#takeAll(shardId, copy, extent, either));
          taken.set(nameOf(copy), all);
          if (all.missing.length > 0) continue;
          this.#vouch(shardId, [all]);
          for (const { origin, recordCount } of lost) await this.#tellRecovered(shardId, origin, recordCount, either);
          state.lastError = '';
          return;
        } catch (error) {
          either.throwIfAborted();
          if (isOwn(error)) throw error;
          state.lastError = `${nameOf(copy)}: ${messageOf(error)}`;
        }
      }
      // Together they are all that is known of; or there is no other copy.
      if (copies.every((copy) => taken.has(nameOf(copy)))) {
        for (const gap of this.#lackedByAll(copies, taken)) await this.#find(shardId)?.reportGap(gap);
        this.#vouch(shardId, wholeOnes(copies, taken));
        return;
      }
      await this.#wait(backoff.nextMs(), either);
    }
  }

  close(): void {
    this.#stopped.abort(new SilverbackError('UNAVAILABLE', 'the node is stopping'));
    this.#lossTicker.cancel();
    this.#next?.cancel();
    for (const { peer } of this.#peers.values()) peer.close();
    this.#peers.clear();
  }

  // ---- rounds -----------------------------------------------------------------------------------

  #schedule(): void {
    const { env, intervalMs } = this.#options;
    if (intervalMs === Number.POSITIVE_INFINITY) return;
    const boundedMs = Math.min(MAX_INTERVAL_MS, Math.max(MIN_INTERVAL_MS, intervalMs ?? INTERVAL_MS));
    const delayMs = boundedMs * (0.75 + env.random.next() / 2);
    this.#next = env.timers.after(delayMs, () => {
      this.run().finally(() => {
        if (!this.#stopped.signal.aborted) this.#schedule();
      });
    });
  }

  /** Never rejects. */
  async #runShard(id: number): Promise<void> {
    const { env, log } = this.#options;
    const state = this.#state(id);
    await this.#exclusively(state, async () => {
      const before = { ...state };
      const errors: string[] = [];
      for (const copy of this.#others(id)) {
        try {
          await this.#healFrom(id, copy, { isAll: false, bytesPerSecond: this.#rate }, this.#stopped.signal);
        } catch (error) {
          if (this.#stopped.signal.aborted) return;
          errors.push(`${nameOf(copy)}: ${messageOf(error)}`);
        }
      }
      state.rounds++;
      state.lastRoundMs = env.clock.nowMs();
      const lastError = errors.join('; ');
      if (lastError !== '' && lastError !== state.lastError)
        log.warn({ shard: id, problem: lastError }, 'repair failed');
      state.lastError = lastError;
      const windows = state.healed - before.healed;
      const samples = state.samples - before.samples;
      if (windows > 0) log.info({ shard: id, windows, samples, bytes: state.bytes - before.bytes }, 'repaired');
    });
  }

  get #rate(): number {
    return this.#options.bytesPerSecond ?? BYTES_PER_SECOND;
  }

  // ---- what another copy's log let go -------------------------------------------------------------

  #lookForLosses(): void {
    if (this.#isLooking) return;
    this.#isLooking = true;
    this.#recoverLosses().finally(() => {
      this.#isLooking = false;
    });
  }

  /** Never rejects. */
  async #recoverLosses(): Promise<void> {
    const { env, frontiers, node, log } = this.#options;
    for (const id of node.assigned()) {
      const state = this.#state(id);
      await this.#refill(id, state);
      for (const { origin, recordCount } of frontiers.lost(id)) {
        const copy = this.#others(id).find((other) => nameOf(other) === origin);
        const { signal } = this.#stopped;
        if (copy === undefined || signal.aborted || env.clock.monotonicMs() < state.nextLossMs) continue;
        const extent: Extent = { isAll: true, bytesPerSecond: this.#rate };
        try {
          await this.#exclusively(state, () => this.#takeAll(id, copy, extent, signal));
          await this.#tellRecovered(id, origin, recordCount, signal);
          state.lossBackoff.reset();
          log.info({ shard: id, origin, records: recordCount }, 'what left a log before it came is here');
        } catch (error) {
          state.lastError = `${origin}: ${messageOf(error)}`;
          state.nextLossMs = env.clock.monotonicMs() + state.lossBackoff.nextMs();
        }
      }
    }
  }

  /** A copy that began empty though it is no new one: its disk was lost, or the cluster is young. Never rejects. */
  async #refill(id: number, state: ShardState): Promise<void> {
    const { env, log } = this.#options;
    const { signal } = this.#stopped;
    const shard = this.#find(id);
    const copies = this.#sources(id);
    if (shard === undefined || state.refilled === shard || copies.length === 0) return;
    // A restart in the midst of it goes on: what the copy knows to lack is known on its disk.
    if (!shard.isNew && !shard.gaps(ALWAYS).some(({ reason }) => reason.startsWith(BEGAN_EMPTY))) return;
    // Whoever placed a new copy has it filled.
    if (this.#isJoining(id) || env.clock.monotonicMs() < state.nextLossMs) return;
    const before = state.samples;
    const extent: Extent = { isAll: true, bytesPerSecond: this.#rate, isLost: true };
    const taken = new Map<string, Taken>();
    const errors: string[] = [];
    for (const copy of copies) {
      try {
        const all = await this.#exclusively(state, () => this.#takeAll(id, copy, extent, signal));
        taken.set(nameOf(copy), all);
        if (all.missing.length > 0) continue;
        this.#vouch(id, [all]);
        break;
      } catch (error) {
        errors.push(`${nameOf(copy)}: ${messageOf(error)}`);
      }
    }
    const isComplete = [...taken.values()].some(({ missing }) => missing.length === 0);
    if (isComplete || errors.length === 0) {
      // What the others turned out to have is here; what all of them lack, nobody has. One that began empty, too, knows no better.
      const knowing = copies.filter((copy) => !isEmptied(taken.get(nameOf(copy))));
      await shard.closeGaps(ALWAYS, isComplete ? [] : this.#lackedByAll(knowing, taken));
      if (!isComplete) this.#vouch(id, wholeOnes(copies, taken));
      state.refilled = shard;
      state.lossBackoff.reset();
      const samples = state.samples - before;
      if (samples > 0) log.info({ shard: id, samples }, 'a copy that began empty was filled');
    } else {
      state.lastError = errors.join('; ');
      state.nextLossMs = env.clock.monotonicMs() + state.lossBackoff.nextMs();
    }
  }

  /** What no copy is known to have is a gap here as it is there. Copies that are being filled themselves know no better than this one. */
  #lackedByAll(copies: readonly Copy[], taken: ReadonlyMap<string, Taken>): ShardCoverage[] {
    const [first, ...others] = wholeOnes(copies, taken).map(({ missing }) => missing);
    return others.reduce<ShardCoverage[]>((found, missing) => common(found, missing), [...(first ?? [])]);
  }

  /** What all of these copies vouch for, each but for what it lacks, is here, but for what all of them lack. */
  #vouch(id: number, copies: readonly Taken[]): void {
    for (const vouched of jointly(copies.map((copy) => copy.vouched))) {
      this.#options.frontiers.relay(id, vouched, vouched.atMs);
    }
  }

  /** The shard, if it serves. */
  #find(id: number): Shard | undefined {
    try {
      return this.#options.node.find(id);
    } catch {
      return undefined;
    }
  }

  #isJoining(id: number): boolean {
    const { name, region } = this.#options;
    const copies = this.#placement?.copies[id] ?? [];
    return copies.some((copy) => copy.node === name && copy.region === region && copy.state === 'joining');
  }

  /** The origin need not report these records as lost any more. */
  async #tellRecovered(id: number, origin: string, recordCount: number, signal: AbortSignal): Promise<void> {
    const copy = this.#others(id).find((other) => nameOf(other) === origin);
    if (copy === undefined) return;
    const question = { shard: id, fromMs: 0, windows: [], buckets: true, recoveredRecords: recordCount };
    await this.#peer(copy).compare(question, signal, () => undefined);
    this.#options.frontiers.recovered(id, origin, recordCount);
  }

  // ---- one shard, one other copy ----------------------------------------------------------------

  /** Takes all that a copy has, also what is being written. */
  async #takeAll(id: number, copy: Copy, extent: Extent, signal: AbortSignal): Promise<Taken> {
    for (let pass = 1; ; pass++) {
      const healing = await this.#healFrom(id, copy, { ...extent, withAnnex: pass === 1 }, signal);
      if (healing.windowCount === 0 || pass === MAX_FILL_PASSES) return healing;
    }
  }

  async #healFrom(id: number, copy: Copy, extent: Extent, signal: AbortSignal): Promise<Healing> {
    const { env, node, frontiers, origins, maxSampleAgeMs } = this.#options;
    const state = this.#state(id);
    const shard = node.find(id);
    const nowMs = env.clock.nowMs();
    const keepFromMs = nowMs - maxSampleAgeMs + RETENTION_MARGIN_MS;
    const fromMs = Math.max(0, maxSampleAgeMs === Number.POSITIVE_INFINITY ? 0 : keepFromMs - (keepFromMs % WINDOW_MS));
    const name = nameOf(copy);
    if (state.shard !== shard) {
      state.shard = shard;
      state.taken = new Map();
    }
    let taken = state.taken.get(name);
    if (taken === undefined) {
      taken = new Map();
      state.taken.set(name, taken);
    }
    for (const startMs of taken.keys()) if (startMs < fromMs) taken.delete(startMs);
    this.digests.forget(shard, fromMs);
    return heal({
      env,
      id,
      shard,
      peer: this.#peer(copy),
      origin: await origins.index(name),
      digests: this.digests,
      taken,
      fromMs,
      settledMs: extent.isAll ? Number.POSITIVE_INFINITY : settledMs(frontiers.ages(id), nowMs),
      bytesPerSecond: extent.bytesPerSecond,
      spend: (byteCount) => this.#options.pace?.spend(byteCount) ?? 0,
      isLost: extent.isLost === true,
      withAnnex: extent.withAnnex === true,
      tally: state,
      ...(extent.progress !== undefined && { progress: extent.progress }),
      signal,
    });
  }

  #exclusively<T>(state: ShardState, task: () => Promise<T>): Promise<T> {
    const run = async () => {
      state.running = true;
      try {
        return await task();
      } finally {
        state.running = false;
      }
    };
    const result = state.turn.then(run, run);
    state.turn = result.catch(() => undefined);
    return result;
  }

  /** The shard's other copies. */
  #others(id: number): Copy[] {
    const { name, region } = this.#options;
    const copies = this.#placement?.copies[id] ?? [];
    return copies.filter((copy) => copy.node !== name || copy.region !== region);
  }

  /** Where a new copy is filled from, best first: those that are whole, near ones before far ones. */
  #sources(id: number): Copy[] {
    const rank = (copy: Copy) => (copy.state === 'joining' ? 2 : 0) + (copy.region === this.#options.region ? 0 : 1);
    const copies = this.#others(id);
    const whole = copies.filter(({ state }) => state !== 'joining');
    return (whole.length > 0 ? whole : copies).sort((a, b) => rank(a) - rank(b));
  }

  #peer(copy: Copy): Peer {
    const name = nameOf(copy);
    const known = this.#peers.get(name);
    if (known?.address === copy.address) return known.peer;
    known?.peer.close();
    const peer = this.#options.connect(copy);
    this.#peers.set(name, { peer, address: copy.address });
    return peer;
  }

  #state(id: number): ShardState {
    let state = this.#shards.get(id);
    if (state === undefined) {
      state = {
        running: false,
        rounds: 0,
        compared: 0,
        differing: 0,
        healed: 0,
        samples: 0,
        bytes: 0,
        lastRoundMs: 0,
        lastError: '',
        filledWindows: 0,
        fillWindows: 0,
        turn: Promise.resolve(),
        taken: new Map(),
        shard: undefined,
        lossBackoff: new Backoff(this.#options.env, LOSS_RETRY),
        nextLossMs: 0,
        refilled: undefined,
      };
      this.#shards.set(id, state);
    }
    return state;
  }

  async #wait(durationMs: number, signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const end = () => {
        timer.cancel();
        signal.removeEventListener('abort', end);
        resolve();
      };
      const timer = this.#options.env.timers.after(durationMs, end);
      signal.addEventListener('abort', end);
    });
  }
}

function wholeOnes(copies: readonly Copy[], taken: ReadonlyMap<string, Taken>): Taken[] {
  return copies.filter(({ state }) => state !== 'joining').flatMap((copy) => taken.get(nameOf(copy)) ?? []);
}

function isEmptied(taken: Taken | undefined): boolean {
  return taken?.missing.some(({ reason }) => reason.includes(BEGAN_EMPTY)) === true;
}

/** Failures of this copy: asking another one does not help. */
function isOwn(error: unknown): boolean {
  return !(error instanceof SilverbackError) || error.code === 'DISK_FAILED' || error.code === 'SERIES_LIMIT';
}

function nameOf({ region, node }: Pick<Copy, 'region' | 'node'>): string {
  return `${region}/${node}`;
}
