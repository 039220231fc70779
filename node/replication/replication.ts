/**
 * Replication of a node's shards: a link to every other node that has copies of them, and what those nodes' copies said of
 * their frontiers. Follows the placement, and the shards as they open and close.
 */
import type { Env } from '../../core/env/env.ts';
import { Channel } from '../../core/grpc.ts';
import { type Copy, isArriving, type Placement } from '../../core/placement.ts';
import type { Spoken } from '../../core/versions.ts';
import type { ShardCoverage, TimeRange } from '../shard/gaps.ts';
import type { Shard } from '../shard/shard.ts';
import { Frontiers } from './frontiers.ts';
import { Link, type LinkOptions } from './link.ts';
import { Origins } from './origins.ts';
import { Pace } from './pace.ts';

export interface ReplicationOptions {
  readonly env: Env;
  /** This node's. */
  readonly name: string;
  readonly region: string;
  readonly zone: string;
  readonly clusterId: string;
  /** The data directory. */
  readonly directory: string;
  /** A copy that is silent for longer leaves newer samples unconfirmed. */
  readonly frontierBoundMs: number;
  /** What is done in a second for copies that lag, at the most. Default 64 MiB. */
  readonly catchUpBytesPerSecond?: number;
  /** A lag of more than this is caught up. Default 1 MiB. */
  readonly behindBytes?: number;
  readonly log: LinkOptions['log'];
  /** What this node speaks. Default: all that this program does. */
  readonly spoken?: Spoken;
  /** Default: a gRPC channel to that address. */
  readonly connect?: (address: string) => LinkOptions['channel'];
}

/** How far one shard is at one destination. */
export interface Lag {
  readonly shard: number;
  readonly region: string;
  readonly node: string;
  /** Records of the log that are not known to be there; those of other origins count. */
  readonly recordCount: number;
  /** Of the log that holds them, as if the records of a segment were of one size. */
  readonly byteCount: number;
  /** How long ago the first of these was written; the longest that it may be while that is not known. */
  readonly ageMs: number;
  /** How long ago the frontier was; undefined before the first. */
  readonly frontierAgeMs: number | undefined;
  readonly inFlightBytes: number;
  readonly lostRecordCount: number;
  /** It is more than what is on its way: see `Pace`. */
  readonly isCatchingUp: boolean;
}

/** A node that has copies of this node's shards. */
export interface Peer {
  readonly region: string;
  readonly node: string;
  readonly isConnected: boolean;
  /** Of the records that go there; 0: there is no stream. */
  readonly logVersion: number;
  /** How old the oldest of its frontiers here is, over the shards of which one is known. */
  readonly frontierAgeMs: number;
  /** Shards of which its frontier is too old to trust, or not known. */
  readonly silentCount: number;
}

const CATCH_UP_BYTES_PER_SECOND = 64 * 1024 * 1024;
const BEHIND_BYTES = 1024 * 1024;
/** For so long a read waits for first words of other copies, and looks so often whether they came. */
const LISTEN_MS = 2_000;
const LISTEN_POLL_MS = 20;

export class Replication {
  readonly origins: Origins;
  readonly frontiers: Frontiers;
  readonly pace: Pace;
  readonly #options: ReplicationOptions;
  readonly #shards = new Map<number, Shard>();
  /** By `region/node`. */
  readonly #links = new Map<string, { readonly link: Link; readonly address: string }>();
  #placement: Placement | undefined;
  #closed = false;

  static async open(options: ReplicationOptions): Promise<Replication> {
    return new Replication(options, await Origins.load(options.env, options.directory));
  }

  private constructor(options: ReplicationOptions, origins: Origins) {
    this.#options = options;
    this.origins = origins;
    this.frontiers = new Frontiers(options.env.clock, options.frontierBoundMs);
    this.pace = new Pace(options.env.clock, options.catchUpBytesPerSecond ?? CATCH_UP_BYTES_PER_SECOND);
  }

  /** A live write was in its shard's log so long after it came. */
  committed(durationMs: number): void {
    this.pace.committed(durationMs);
  }

  /** The shard serves from now on. */
  opened(id: number, shard: Shard): void {
    this.#shards.set(id, shard);
    this.frontiers.begin(id);
    this.#arrange();
  }

  /** The shard is about to close. */
  closing(id: number): void {
    this.#shards.delete(id);
    this.frontiers.forget(id);
    for (const { link } of this.#links.values()) link.remove(id);
  }

  follow(placement: Placement): void {
    this.#placement = placement;
    this.#arrange();
  }

  /** See `Frontiers.unconfirmed`. */
  unconfirmed(shard: number, range: TimeRange, except?: string): ShardCoverage[] {
    return this.frontiers.unconfirmed(shard, range, except);
  }

  /** While first words of other copies are on their way: resolves when they came, or after a moment. Undefined at other times. */
  heard(shard: number): Promise<void> | undefined {
    return this.frontiers.isListening(shard) ? this.#listen(shard) : undefined;
  }

  /**
   * Everything in the shard's log before `sequence` that entered the cluster here is for good in each other copy. False
   * without another copy.
   */
  isDelivered(id: number, sequence: number): boolean {
    const copies = this.#others(id);
    return (
      copies.length > 0 &&
      copies.every((copy) => {
        const link = this.#links.get(nameOf(copy))?.link;
        const lane = link?.lane(id);
        // As long as it is away, nobody knows whether it has kept its disk.
        if (link === undefined || lane === undefined || !link.isMet(id)) return false;
        return lane.progress.durable.sequence >= sequence && lane.cursor.lostRecordCount === 0;
      })
    );
  }

  /**
   * Each of the shard's active copies, in this region or (`everywhere`) in any, is known to be delivered here as far as it
   * can be, and knows this one to be: whoever of them answers calls itself complete, also once this copy is active.
   */
  hasMet(id: number, everywhere: boolean): boolean {
    return this.#others(id).every((copy) => {
      if (copy.state !== 'active' || (!everywhere && copy.region !== this.#options.region)) return true;
      const name = nameOf(copy);
      return this.frontiers.isCurrent(id, name) && this.#links.get(name)?.link.hasTold(id) === true;
    });
  }

  /** Everything in the logs that entered the cluster here is in the log of each other copy that can be reached. */
  get isAbreast(): boolean {
    for (const { link } of this.#links.values()) {
      if (!link.isConnected) continue;
      for (const { shard, progress } of link.lanes) {
        const tail = this.#shards.get(shard)?.cursors.log.tail();
        if (tail !== undefined && progress.delivered.sequence < tail.sequence) return false;
      }
    }
    return true;
  }

  lags(): Lag[] {
    const { clock } = this.#options.env;
    const nowMs = clock.monotonicMs();
    const found: Lag[] = [];
    for (const { link } of this.#links.values()) {
      for (const lane of link.lanes) {
        const { shard, progress, cursor } = lane;
        const log = this.#shards.get(shard)?.cursors.log;
        if (log === undefined) continue;
        const { sequence } = progress.delivered;
        const { frontierMs } = progress;
        const frontierAgeMs = frontierMs === undefined ? undefined : nowMs - frontierMs;
        const { oldestMs } = progress;
        const unknownMs = frontierAgeMs ?? Math.max(0, clock.nowMs() - cursor.caughtUpMs);
        // Nothing: what there is more was not written yet.
        const ageMs = oldestMs === undefined ? 0 : Number.isNaN(oldestMs) ? unknownMs : nowMs - oldestMs;
        const recordCount = Math.max(0, log.tail().sequence - sequence);
        found.push({
          shard,
          ...link.destination,
          recordCount,
          byteCount: lane.lagBytes,
          ageMs: recordCount === 0 ? 0 : ageMs,
          frontierAgeMs,
          inFlightBytes: progress.inFlightBytes,
          lostRecordCount: cursor.lostRecordCount,
          isCatchingUp: lane.isCatchingUp,
        });
      }
    }
    return found;
  }

  /** The nodes that this one replicates with. */
  peers(): Peer[] {
    const found = new Map<string, { frontierAgeMs: number; silentCount: number }>();
    for (const name of this.#links.keys()) found.set(name, { frontierAgeMs: 0, silentCount: 0 });
    for (const shard of this.#shards.keys()) {
      for (const { origin, ageMs } of this.frontiers.ages(shard)) {
        const peer = found.get(origin);
        if (peer === undefined) continue;
        peer.frontierAgeMs = Math.max(peer.frontierAgeMs, ageMs ?? 0);
        if (this.frontiers.isSilent(ageMs)) peer.silentCount++;
      }
    }
    return [...this.#links].map(([name, { link }]) => ({
      ...link.destination,
      isConnected: link.isConnected,
      logVersion: link.logVersion ?? 0,
      ...(found.get(name) as { frontierAgeMs: number; silentCount: number }),
    }));
  }

  close(): void {
    this.#closed = true;
    for (const { link } of this.#links.values()) link.close();
    this.#links.clear();
  }

  /** Links and lanes as placement and open shards want them. */
  #arrange(): void {
    if (this.#placement === undefined || this.#closed) return;
    const needed = new Set<string>();
    for (const [id, shard] of this.#shards) {
      const copies = this.#others(id);
      shard.cursors.keepOnly(copies);
      const all = this.#placement.copies[id] ?? [];
      const arriving = copies.filter((copy) => isArriving(copy, all));
      const others = copies.filter((copy) => !arriving.includes(copy));
      this.frontiers.expect(id, others.map(nameOf), arriving.map(nameOf));
      for (const copy of copies) {
        needed.add(nameOf(copy));
        this.#link(copy).add(id, shard);
      }
      for (const [name, { link }] of this.#links) {
        if (!copies.some((copy) => nameOf(copy) === name)) link.remove(id);
      }
    }
    for (const [name, { link }] of this.#links) {
      if (needed.has(name)) continue;
      link.close();
      this.#links.delete(name);
    }
  }

  async #listen(shard: number): Promise<void> {
    const { clock, timers } = this.#options.env;
    const untilMs = clock.monotonicMs() + LISTEN_MS;
    while (!this.#closed && this.frontiers.isListening(shard) && clock.monotonicMs() < untilMs) {
      await new Promise<void>((wake) => void timers.after(LISTEN_POLL_MS, wake));
    }
  }

  #others(shard: number): Copy[] {
    const { name, region } = this.#options;
    const copies = this.#placement?.copies[shard] ?? [];
    return copies.filter((copy) => copy.node !== name || copy.region !== region);
  }

  #link(copy: Copy): Link {
    const known = this.#links.get(nameOf(copy));
    if (known?.address === copy.address) return known.link;
    known?.link.close();
    const { env, name, region, zone, clusterId, log, spoken } = this.#options;
    const { address } = copy;
    const connect =
      this.#options.connect ?? ((to) => new Channel(to, { clock: env.clock, caller: `${region}/${name}` }));
    const link = new Link({
      env,
      channel: connect(address),
      destination: { region: copy.region, node: copy.node },
      elsewhere: copy.region !== region || copy.zone !== zone,
      self: { region, node: name },
      clusterId,
      pace: this.pace,
      behindBytes: this.#options.behindBytes ?? BEHIND_BYTES,
      ...(spoken && { spoken }),
      log,
    });
    this.#links.set(nameOf(copy), { link, address });
    return link;
  }
}

function nameOf(copy: Pick<Copy, 'region' | 'node'>): string {
  return `${copy.region}/${copy.node}`;
}
