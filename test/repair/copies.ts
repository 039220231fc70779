/** Copies of one shard on a simulated machine, that repair from one another without a network in between. */
import type { Env } from '../../core/env/env.ts';
import type { Copy, Placement } from '../../core/placement.ts';
import { helloOf, SPOKEN } from '../../core/versions.ts';
import { Refused } from '../../node/hello.ts';
import type { Peer } from '../../node/repair/peer.ts';
import type { Repair, RepairOptions } from '../../node/repair/repair.ts';
import type { ServeContext } from '../../node/repair/serve.ts';
import { Frontiers } from '../../node/replication/frontiers.ts';
import { Budget } from '../../node/shard/budget.ts';
import { Shard } from '../../node/shard/shard.ts';
import { batchOf, identityOf, type Sample } from '../shard/model.ts';
import type { Sim } from '../sim/sim.ts';
import { engine } from './engine.ts';

export const SHARD = 3;

const OPTIONS = {
  shard: SHARD,
  maxSampleAgeMs: Number.POSITIVE_INFINITY,
  checkpointIntervalMs: 60_000,
  sealDelayMs: 0,
  sealIdleMs: 0,
  limits: { maxSeriesCount: 4096, maxKernelBytes: 1 << 26 },
};

const refs = (series: string) => Number(series.slice(1));

interface Held {
  readonly shard: Shard;
  readonly repair: Repair;
  readonly frontiers: Frontiers;
}

export class Copies {
  readonly messages: string[] = [];
  readonly #sim: Sim;
  readonly #count: number;
  readonly #open: typeof Shard.open;
  readonly #parts: typeof engine;
  readonly #options: Partial<RepairOptions> & { readonly sliceMs?: number };
  #env!: Env;
  #held: Held[] = [];

  static async open(
    sim: Sim,
    count: number,
    options: Partial<RepairOptions> & { readonly sliceMs?: number } = {},
    open: typeof Shard.open = Shard.open,
    parts: typeof engine = engine,
  ): Promise<Copies> {
    const copies = new Copies(sim, count, options, open, parts);
    await copies.boot();
    return copies;
  }

  private constructor(
    sim: Sim,
    count: number,
    options: Partial<RepairOptions> & { readonly sliceMs?: number },
    open: typeof Shard.open,
    parts: typeof engine,
  ) {
    this.#sim = sim;
    this.#count = count;
    this.#open = open;
    this.#parts = parts;
    this.#options = options;
  }

  shard(copy: number): Shard {
    return (this.#held[copy] as Held).shard;
  }

  frontiers(copy: number): Frontiers {
    return (this.#held[copy] as Held).frontiers;
  }

  repair(copy: number): Repair {
    return (this.#held[copy] as Held).repair;
  }

  /** A new process, on what the disk holds. */
  async boot(): Promise<void> {
    this.#env = this.#sim.boot();
    const contexts: ServeContext[] = [];
    const say = (fields: object, message: string) => void this.messages.push(`${message} ${JSON.stringify(fields)}`);
    this.#held = [];
    for (let copy = 0; copy < this.#count; copy++) {
      const { sliceMs, ...options } = this.#options;
      const opened = this.#open(this.#env, `/${copy}`, {
        ...OPTIONS,
        ...(sliceMs !== undefined && { sliceMs }),
        budget: new Budget(1 << 30),
      });
      const shard = await this.#sim.settle(opened);
      const frontiers = new Frontiers(this.#env.clock, 30_000);
      const node = {
        name: `n${copy}`,
        clusterId: 'c',
        spoken: SPOKEN,
        refused: new Refused(() => 0),
        nowMs: 0,
        find: () => shard,
        assigned: () => [SHARD],
        gaps: (_: number, range: Parameters<Shard['gaps']>[0]) => shard.gaps(range),
      };
      const { clock } = this.#env;
      Object.defineProperty(node, 'nowMs', { get: () => clock.nowMs() });
      const repair = new this.#parts.Repair({
        env: this.#env,
        node,
        name: node.name,
        region: 'r',
        frontiers,
        origins: { index: async () => 1 },
        connect: (other) => peer(this.#parts, other.node, () => contexts[Number(other.node.slice(1))] as ServeContext),
        maxSampleAgeMs: Number.POSITIVE_INFINITY,
        intervalMs: Number.POSITIVE_INFINITY,
        log: { info: say, warn: say },
        ...options,
      });
      contexts.push({ node, frontiers, digests: repair.digests });
      this.#held.push({ shard, repair, frontiers });
    }
    for (const [copy, { repair }] of this.#held.entries()) repair.follow(this.#placement(copy));
  }

  async append(copy: number, samples: readonly Sample[]): Promise<void> {
    if (samples.length === 0) return;
    const sender = this.shard(copy).attach();
    const batch = batchOf(samples, refs, new Set(samples.map(({ series }) => series)));
    const outcome = await this.#sim.settle(sender.append(batch, 'FSYNC'));
    if (outcome.code !== 'OK' || outcome.rejections.length > 0) throw new Error(outcome.message);
    sender.detach();
  }

  /** Deletes of a series, which the copy knows afterwards. */
  async delete(copy: number, series: string, fromMs: number, toMs: number): Promise<void> {
    const sender = this.shard(copy).attach();
    sender.define(refs(series), identityOf(series));
    await this.#sim.settle(this.shard(copy).delete([{ name: 's', op: '=', value: series }], fromMs, toMs));
    sender.detach();
  }

  tick(copy: number): Promise<void> {
    return this.#sim.settle(this.shard(copy).tick());
  }

  /** Seals what can be sealed. */
  async seal(copy: number): Promise<void> {
    for (let i = 0; i < 64 && this.shard(copy).stats().openWindowCount > 0; i++) {
      await this.#sim.advance(1_000);
      await this.tick(copy);
    }
  }

  async run(copy: number): Promise<void> {
    await this.#sim.settle(this.repair(copy).run());
    const [status] = this.repair(copy).status();
    if (status?.lastError !== '') throw new Error(status?.lastError);
  }

  /** As one copy sees it: it is new, and whoever made it has it filled, or does not. */
  #placement(own: number): Placement {
    const copies = Array.from({ length: this.#count }, (_, i): Copy => {
      const state = i === own ? 'joining' : 'active';
      return { region: 'r', zone: 'a', node: `n${i}`, address: `a:${i}`, state, epoch: 1 };
    });
    return { clusterId: 'c', shardCount: 4, revision: 1, copies: [[], [], [], copies] };
  }
}

function peer({ serveCompare, serveFetch }: typeof engine, node: string, contextOf: () => ServeContext): Peer {
  const hello = helloOf(SPOKEN, 'c', 'test');
  const { signal: never } = new AbortController();
  return {
    name: `r/${node}`,
    compare: (question, _, receive) =>
      serveCompare(
        { ...question, hello, region: 'r', node },
        { signal: never, send: async (reply) => receive(reply) },
        contextOf(),
      ),
    fetch: (wish, _, receive) => serveFetch({ ...wish, hello }, { signal: never, send: receive }, contextOf()),
    close: () => undefined,
  };
}
