/**
 * Whether every shard is served: asks the nodes that hold copies. The first time, every region has to be placed and every
 * copy to have recovered, so that whoever waits for it finds a whole cluster; from then on, one copy of each shard is enough.
 */
import type { Env } from '../../core/env/env.ts';
import { Channel, type ChannelCredentials } from '../../core/grpc.ts';
import type { Placement, PlacementView } from '../../core/placement.ts';
import { type StatusReply, shardsService } from '../../core/protocol.ts';

export interface ReadinessOptions {
  readonly env: Env;
  readonly placement: PlacementView;
  readonly caller: string;
  readonly credentials?: ChannelCredentials;
  /** How long a node may take to say how it is. Default 2 s. */
  readonly timeoutMs?: number;
  /** Regions that have to be placed. */
  readonly regions?: readonly string[];
}

/** How long nodes that do not answer are waited for while the other regions have all shards. */
const PATIENCE_MS = 60_000;

export class Readiness {
  readonly #options: ReadinessOptions;
  readonly #channels = new Map<string, Channel>();
  readonly #startedMs: number;
  #wasReady = false;

  constructor(options: ReadinessOptions) {
    this.#options = options;
    this.#startedMs = options.env.clock.monotonicMs();
  }

  /** Undefined when it is ready; else what is not, in words. */
  async missing(): Promise<string | undefined> {
    const placement = this.#options.placement.current();
    if (placement === undefined) return 'not ready: shards are not placed yet, the cluster waits for its nodes';
    const unplaced = this.#wasReady ? undefined : this.#unplaced(placement);
    if (unplaced !== undefined) {
      return `not ready: the shards of region ${unplaced} are not placed yet, the cluster waits for its nodes`;
    }
    const addresses = [...new Set(placement.copies.flat().map(({ address }) => address))];
    /** By address: the state of each shard there. */
    const states = new Map<string, ReadonlyMap<number, string>>();
    const problems: string[] = [];
    await Promise.all(
      addresses.map(async (address) => {
        try {
          const { shards } = await this.#status(address);
          states.set(address, new Map(shards.map(({ shard, state }) => [shard, state])));
        } catch (error) {
          problems.push(`${address}: ${(error as Error).message}`);
        }
      }),
    );
    const open = placement.copies.flatMap((copies, shard) =>
      copies.some(({ address }) => states.get(address)?.get(shard) === 'serving') ? [] : [shard],
    );
    if (open.length > 0) {
      return [`not ready: ${open.length} of ${placement.shardCount} shards are not served yet`, ...problems].join('; ');
    }
    const late = this.#wasReady ? [] : this.#late(placement, states);
    if (late.length > 0) {
      const regions = [...new Set(late)].map((region) => {
        const count = late.filter((one) => one === region).length;
        return `${count} of ${placement.shardCount} shards of region ${region} have not recovered yet`;
      });
      return [`not ready: ${regions.join(', ')}`, ...problems].join('; ');
    }
    this.#wasReady = true;
    return undefined;
  }

  #unplaced({ copies }: Placement): string | undefined {
    return this.#options.regions?.find((region) => !copies.every((own) => own.some((copy) => copy.region === region)));
  }

  /** The region of each copy that is still to be waited for. */
  #late({ copies }: Placement, states: ReadonlyMap<string, ReadonlyMap<number, string>>): string[] {
    const isPatient = this.#options.env.clock.monotonicMs() - this.#startedMs < PATIENCE_MS;
    return copies.flatMap((own, shard) =>
      own
        .filter(({ address }) => {
          const known = states.get(address);
          if (known === undefined) return isPatient;
          const state = known.get(shard);
          return state !== 'serving' && state !== 'failed';
        })
        .map(({ region }) => region),
    );
  }

  close(): void {
    for (const channel of this.#channels.values()) channel.close();
  }

  #status(address: string): Promise<StatusReply> {
    const { env, caller, credentials, timeoutMs = 2000 } = this.#options;
    let channel = this.#channels.get(address);
    if (channel === undefined) {
      channel = new Channel(address, { clock: env.clock, caller, ...(credentials && { credentials }) });
      this.#channels.set(address, channel);
    }
    return channel.unary(shardsService.Status, {}, { timeoutMs });
  }
}
