/**
 * One copy takes from another one what it lacks of a shard: compares digests of windows, then of buckets, then takes what
 * differs, most recent window first. Nothing is given: the other copy takes for itself, and so both come to the same.
 *
 * A window that is not here is taken as the block's bytes; otherwise the series of the buckets that differ are, and of these
 * only the samples that are lacking are stored. Deletions come first, so that nothing that is deleted is shown in between.
 */
import type { Env } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import { WINDOW_MS } from '../../core/kernel/shard.ts';
import type { FetchReply, KnownFrontier, WindowSummary, WireCoverage } from '../../core/protocol.ts';
import type { ShardCoverage, TimeRange } from '../shard/gaps.ts';
import type { Shard } from '../shard/shard.ts';
import type { Buckets } from '../shard/window.ts';
import type { Digests } from './digests.ts';
import type { Peer, Wish } from './peer.ts';
import { everyBucket, lacking, type Vouched, wayOf } from './plan.ts';

/** What happened so far. */
export interface Tally {
  compared: number;
  differing: number;
  healed: number;
  samples: number;
  bytes: number;
}

export interface HealOptions {
  readonly env: Env;
  readonly id: number;
  readonly shard: Shard;
  readonly peer: Peer;
  /** Of the peer, in this node's log. */
  readonly origin: number;
  readonly digests: Digests;
  /** Digests of the peer's windows of which everything is here, by window; grows. */
  readonly taken: Map<number, string>;
  /** Windows that start before are left alone. */
  readonly fromMs: number;
  /** Windows that end later are left alone; Infinity: those that are being written, too. */
  readonly settledMs: number;
  readonly bytesPerSecond: number;
  /** So much came, in terms of log records: how long to wait. */
  readonly spend: (byteCount: number) => number;
  /** This copy began empty though others may not have: what it lacks was lost, and is a gap until it is here. */
  readonly isLost: boolean;
  /** Exemplars and metadata are taken, too. */
  readonly withAnnex: boolean;
  readonly tally: Tally;
  readonly progress?: (doneCount: number, windowCount: number) => void;
  readonly signal: AbortSignal;
}

export interface Healing {
  /** Windows that were asked for something. Zero: nothing is there that was not here before. */
  readonly windowCount: number;
  /** What the peer knows to be missing in itself. */
  readonly missing: readonly ShardCoverage[];
  readonly vouched: readonly Vouched[];
}

/** How a gap reads that stands for a lost disk. */
export const BEGAN_EMPTY = 'this copy began empty';

/** A block may vanish, or turn up here, between looking and taking; then series are taken. */
const MAX_BLOCK_TRIES = 2;
/** Of a block's bytes, beside those of log records: they are checked and kept, not put into runs. */
const BLOCK_COST = 1 / 8;
/** Of one window, what lies between digests and message overhead. */
const SUMMARY_BYTES = 16;

/**
 * Resolves when all that the peer had when it was asked is here and survives a power cut. Rejects with the first thing that
 * kept a window from it, after the others had their turn, or at once when the peer or this shard is gone.
 */
export async function heal(options: HealOptions): Promise<Healing> {
  return new Healer(options).run();
}

class Healer {
  readonly #options: HealOptions;

  constructor(options: HealOptions) {
    this.#options = options;
  }

  async run(): Promise<Healing> {
    const { env, shard, fromMs, peer, digests, tally, taken, signal, progress } = this.#options;
    const windows = shard.windows().filter((startMs) => startMs >= fromMs);
    // Before the question: then what the peer says of so long ago was so at the least so long before this.
    const askedMs = env.clock.monotonicMs();
    const theirs = await this.#compare({ fromMs, windows, buckets: false });
    const isAll = this.#options.settledMs === Number.POSITIVE_INFINITY;
    const untilMs = isAll ? Number.POSITIVE_INFINITY : Math.min(this.#options.settledMs, theirs.settledMs);
    const candidates = theirs.windows
      .filter(({ startMs }) => startMs >= fromMs && startMs + WINDOW_MS <= untilMs)
      .map(({ startMs, digest }) => ({ startMs, digest: Buffer.from(digest).toString('hex') }));
    const own = new Map<number, string>();
    for (const { startMs } of candidates) own.set(startMs, (await digests.of(shard, startMs)).digest);
    for (const gap of shard.gaps({ fromMs, toMs: Number.MAX_SAFE_INTEGER })) {
      // What was taken may be among what was lost.
      for (const startMs of taken.keys())
        if (startMs + WINDOW_MS > gap.fromMs && startMs <= gap.toMs) taken.delete(startMs);
    }
    tally.compared += candidates.length;
    tally.differing += candidates.filter(({ startMs, digest }) => own.get(startMs) !== digest).length;
    const wanted = lacking(candidates, own, taken);
    // What has ended lately, or has begun to come, is on its way.
    const past = wanted.filter((startMs) => startMs + WINDOW_MS < env.clock.nowMs() - WINDOW_MS / 2);
    if (this.#options.isLost && past.length > 0 && past.every((startMs) => own.get(startMs) === '')) {
      await shard.reportLoss(`${BEGAN_EMPTY}, and ${peer.name} has ${past.length} windows of it`);
    }
    if (this.#options.withAnnex) {
      const all = { windowMs: 0, buckets: new Uint8Array(0), block: false, annex: true };
      await this.#fetch(all, async () => undefined);
    }
    const failed = new Set<number>();
    let failure: unknown;
    progress?.(candidates.length - wanted.length, candidates.length);
    for (const [i, startMs] of wanted.entries()) {
      try {
        if (await this.#window(startMs)) tally.healed++;
      } catch (error) {
        signal.throwIfAborted();
        if (!isOfWindow(error)) throw error;
        failure ??= error;
        failed.add(startMs);
      }
      progress?.(candidates.length - wanted.length + i + 1, candidates.length);
    }
    await this.#closeGaps(theirs.gaps, failed, untilMs);
    if (failure !== undefined) throw failure;
    const missing = theirs.gaps.flatMap(({ fromMs, toMs, state, reason }): ShardCoverage[] =>
      state === 'MISSING' ? [{ fromMs, toMs, state: 'missing', reason: `${peer.name}: ${reason}` }] : [],
    );
    const vouched = theirs.frontiers.map(({ ageMs, ...rest }) => ({ ...rest, atMs: askedMs - ageMs }));
    return { windowCount: wanted.length, missing, vouched };
  }

  /** Takes what a window lacks. Returns whether anything was brought. */
  async #window(startMs: number): Promise<boolean> {
    const { shard, digests, taken, tally } = this.#options;
    const before = tally.samples;
    let isHealed = false;
    for (let tries = 0; ; tries++) {
      const found = await this.#compare({ fromMs: startMs, windows: [startMs], buckets: true });
      const theirs = found.windows.find((window) => window.startMs === startMs);
      const own = await digests.of(shard, startMs);
      const digest = Buffer.from(theirs?.digest ?? []).toString('hex');
      if (theirs === undefined || digest === '' || digest === own.digest) return isHealed;
      const hasBlock = shard.blockBytes().has(startMs);
      const way =
        tries < MAX_BLOCK_TRIES
          ? wayOf({ buckets: own.buckets, hasBlock }, { buckets: theirs.buckets, hasBlock: theirs.blockBytes > 0 })
          : everyBucket();
      if (way === 'block') {
        if (await this.#takeBlock(startMs)) isHealed = true;
        continue;
      }
      if (await this.#takeSeries(startMs, way)) isHealed = true;
      taken.set(startMs, digest);
      return isHealed || tally.samples > before;
    }
  }

  /** Returns whether deletions came. */
  async #takeSeries(windowMs: number, buckets: Buckets): Promise<boolean> {
    const { shard, origin, tally } = this.#options;
    const graft = shard.graft(origin);
    try {
      const deleted = await this.#fetch({ windowMs, buckets, block: false, annex: false }, async ({ page }) => {
        if (page.length > 0) tally.samples += await graft.take(windowMs, page);
      });
      await graft.durable();
      return deleted;
    } finally {
      graft.detach();
    }
  }

  /** False: the block is not there any more, or there is one here by now. */
  async #takeBlock(windowMs: number): Promise<boolean> {
    const { shard, tally } = this.#options;
    const incoming = await shard.receiveBlock(windowMs);
    try {
      await this.#fetch({ windowMs, buckets: new Uint8Array(0), block: true, annex: false }, ({ block }) =>
        incoming.write(block),
      );
      const sampleCount = await shard.adopt(incoming);
      tally.samples += sampleCount ?? 0;
      return sampleCount !== undefined;
    } catch (error) {
      if (error instanceof SilverbackError && error.code === 'NOT_FOUND') return false;
      throw error;
    } finally {
      await incoming.discard();
    }
  }

  /** Takes the deletions, or whatever comes as records, and hands the rest on. Returns whether there were any that were not known. */
  async #fetch(wish: Omit<Wish, 'shard'>, receive: (reply: FetchReply) => Promise<void>): Promise<boolean> {
    const { id, shard, origin, peer, tally, signal } = this.#options;
    const replica = shard.replica(origin);
    let sequence = 0;
    try {
      await peer.fetch({ shard: id, ...wish }, signal, async (reply) => {
        const { deletions, page, block } = reply;
        tally.bytes += deletions.length + page.length + block.length;
        if (deletions.length > 0) sequence = (await replica.apply(deletions)) || sequence;
        else await receive(reply);
        await this.#throttle(deletions.length + page.length + block.length, block.length === 0 ? 1 : BLOCK_COST);
      });
      if (sequence > 0) await replica.synced(sequence);
    } finally {
      replica.detach();
    }
    return sequence > 0;
  }

  async #throttle(byteCount: number, cost: number): Promise<void> {
    const { env, bytesPerSecond, spend, signal } = this.#options;
    const waitMs = Math.max((byteCount / bytesPerSecond) * 1_000, spend(byteCount * cost));
    if (waitMs === 0) return;
    await new Promise<void>((resolve) => void env.timers.after(waitMs, resolve));
    signal.throwIfAborted();
  }

  async #compare(question: { fromMs: number; windows: readonly number[]; buckets: boolean }): Promise<{
    readonly windows: readonly WindowSummary[];
    readonly gaps: readonly WireCoverage[];
    readonly frontiers: readonly KnownFrontier[];
    readonly settledMs: number;
  }> {
    const { id, peer, tally, signal } = this.#options;
    const windows: WindowSummary[] = [];
    const gaps: WireCoverage[] = [];
    const frontiers: KnownFrontier[] = [];
    let settledMs = 0;
    await peer.compare({ shard: id, recoveredRecords: 0, ...question }, signal, (reply) => {
      windows.push(...reply.windows);
      gaps.push(...reply.gaps);
      frontiers.push(...reply.frontiers);
      settledMs = Math.max(settledMs, reply.settledMs);
      for (const { digest, buckets } of reply.windows) tally.bytes += SUMMARY_BYTES + digest.length + buckets.length;
    });
    return { windows, gaps, frontiers, settledMs };
  }

  /** Of what this shard is known to lack, all goes of which the peer, where it is complete, has nothing more. */
  async #closeGaps(theirs: readonly TimeRange[], failed: ReadonlySet<number>, untilMs: number): Promise<void> {
    const { shard, fromMs } = this.#options;
    const toMs = untilMs === Number.POSITIVE_INFINITY ? Number.MAX_SAFE_INTEGER : windowOf(untilMs) - 1;
    if (shard.gaps({ fromMs, toMs }).length === 0) return;
    const open = [...failed].map((startMs) => ({ fromMs: startMs, toMs: startMs + WINDOW_MS - 1 }));
    let nextMs = fromMs;
    for (const range of [...theirs, ...open].sort((a, b) => a.fromMs - b.fromMs)) {
      const endMs = Math.min(windowOf(range.fromMs), toMs + 1) - 1;
      if (endMs > nextMs) await shard.closeGaps({ fromMs: nextMs, toMs: endMs });
      nextMs = Math.max(nextMs, windowOf(range.toMs) + WINDOW_MS);
    }
    if (toMs > nextMs) await shard.closeGaps({ fromMs: nextMs, toMs });
  }
}

function windowOf(timeMs: number): number {
  return timeMs - (timeMs % WINDOW_MS);
}

/** Failures that leave other windows' chances as they were. */
function isOfWindow(error: unknown): boolean {
  return (
    error instanceof SilverbackError &&
    ['CORRUPT', 'VERSION', 'TOO_LARGE', 'NOT_FOUND', 'UNKNOWN_REF', 'INTERNAL'].includes(error.code)
  );
}
