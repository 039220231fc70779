/**
 * What a node does about copies that are not simply active, and reports of it: brings the past to joining ones, a few at a
 * time, and watches leaving ones until all that they took is in the others. Who keeps the placement acts on the reports.
 */
import type { Env, Timer } from '../core/env/env.ts';
import { SilverbackError } from '../core/errors.ts';
import type { CopyReport, CopyReports } from '../core/meta/region.ts';
import type { Holding, Node, NodeLog } from './node.ts';
import type { Replication } from './replication/replication.ts';

export interface CustodyOptions {
  readonly env: Pick<Env, 'clock' | 'timers'>;
  readonly node: Pick<Node, 'holdings' | 'filled' | 'drained'>;
  readonly replication: Pick<Replication, 'isDelivered' | 'hasMet'>;
  /** Brings the past of a shard here from other copies. */
  readonly fill: (shard: number, signal: AbortSignal) => Promise<void>;
  readonly report: (reports: CopyReports) => void;
  readonly log: NodeLog;
}

const TICK_MS = 500;
/** Shards that are filled at a time. */
const FILL_COUNT = 2;
/** A fill that takes longer makes way for the next one, and has its turn again: its source may be away. */
const FILL_TURN_MS = 120_000;
/** How often it is asked whether the other copies have heard of a filled one, and how long those of other regions are waited for. */
const MEET_POLL_MS = 100;
const MEET_ELSEWHERE_MS = 10_000;
/** After what this node failed with. */
const RETRY_MS = 15_000;

export class Custody {
  readonly #options: CustodyOptions;
  readonly #ticker: Timer;
  readonly #fills = new Map<number, { readonly epoch: number; readonly controller: AbortController }>();
  /** Shards that are not filled yet, in the order of their turns. */
  #queue: number[] = [];
  /** Of leaving copies: where the log ended when it took no more writes. */
  readonly #ends = new Map<number, { readonly epoch: number; readonly sequence: number }>();
  /** Monotonic; no fill starts before. */
  #blockedUntilMs = 0;
  #closed = false;

  constructor(options: CustodyOptions) {
    this.#options = options;
    this.#ticker = options.env.timers.every(TICK_MS, () => this.look());
  }

  /** Looks at the copies, and reports. */
  look(): void {
    if (this.#closed) return;
    const { node } = this.#options;
    const reports: Record<string, CopyReport> = {};
    const joining = new Map<number, Holding>();
    const leaving = new Set<number>();
    for (const holding of node.holdings()) {
      const { id, tenure, fill } = holding;
      if (tenure.state === 'active') continue;
      const { epoch, isFilled } = tenure;
      if (tenure.state === 'joining' && fill && !isFilled) joining.set(id, holding);
      if (tenure.state === 'leaving') leaving.add(id);
      const drained = tenure.state === 'leaving' && this.#isDrained(holding);
      reports[id] = { epoch, filled: isFilled, drained };
    }
    for (const id of this.#ends.keys()) if (!leaving.has(id)) this.#ends.delete(id);
    for (const [id, { epoch, controller }] of this.#fills) {
      if (joining.get(id)?.tenure.epoch !== epoch)
        controller.abort(new SilverbackError('CANCELLED', 'not wanted any more'));
    }
    this.#queue = this.#queue.filter((id) => joining.has(id));
    for (const id of joining.keys()) if (!this.#queue.includes(id)) this.#queue.push(id);
    for (const id of this.#queue) {
      if (this.#fills.size >= FILL_COUNT || this.#options.env.clock.monotonicMs() < this.#blockedUntilMs) break;
      if (!this.#fills.has(id)) void this.#fill(joining.get(id) as Holding);
    }
    this.#options.report(reports);
  }

  close(): void {
    this.#closed = true;
    this.#ticker.cancel();
    for (const { controller } of this.#fills.values()) controller.abort(new SilverbackError('CANCELLED', 'closing'));
  }

  #isDrained({ id, shard, tenure: { epoch } }: Holding): boolean {
    let end = this.#ends.get(id);
    if (end?.epoch !== epoch) {
      end = { epoch, sequence: shard.cursors.log.tail().sequence };
      this.#ends.set(id, end);
    }
    if (!this.#options.replication.isDelivered(id, end.sequence)) return false;
    this.#options.node.drained(id, epoch);
    return true;
  }

  /**
   * Waits until answers stay complete when a filled copy becomes active: it has heard of the others' frontiers, and they of
   * its own. Rejects with the signal's reason.
   */
  async #meet(id: number, signal: AbortSignal): Promise<void> {
    const { env, replication } = this.#options;
    const untilMs = env.clock.monotonicMs() + MEET_ELSEWHERE_MS;
    while (!replication.hasMet(id, env.clock.monotonicMs() < untilMs)) {
      await new Promise<void>((wake) => void env.timers.after(MEET_POLL_MS, wake));
      signal.throwIfAborted();
    }
  }

  /** Never rejects. */
  async #fill({ id, tenure: { epoch } }: Holding): Promise<void> {
    const { env, node, fill, log } = this.#options;
    const controller = new AbortController();
    this.#fills.set(id, { epoch, controller });
    const turn = env.timers.after(FILL_TURN_MS, () => {
      if (this.#queue.length > FILL_COUNT) controller.abort(new SilverbackError('CANCELLED', 'its turn is over'));
    });
    try {
      log.info({ shard: id, epoch }, 'bringing the past of a shard here');
      await fill(id, controller.signal);
      await this.#meet(id, controller.signal);
      await node.filled(id, epoch);
      log.info({ shard: id, epoch }, 'the past of a shard is here');
    } catch (error) {
      if (!controller.signal.aborted) {
        this.#blockedUntilMs = env.clock.monotonicMs() + RETRY_MS;
        log.warn({ shard: id, err: error }, 'the past of a shard could not be brought here');
      }
    } finally {
      turn.cancel();
      this.#fills.delete(id);
      this.#queue = [...this.#queue.filter((one) => one !== id), id];
    }
    // A filled one is reported, and the next one starts.
    env.timers.after(0, () => this.look());
  }
}
