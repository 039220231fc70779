/** Whether every shard is served: asks the nodes that hold copies. */
import type { Env } from '../../core/env/env.ts';
import { Channel, type ChannelCredentials } from '../../core/grpc.ts';
import type { PlacementView } from '../../core/placement.ts';
import { type StatusReply, shardsService } from '../../core/protocol.ts';

export interface ReadinessOptions {
  readonly env: Env;
  readonly placement: PlacementView;
  readonly caller: string;
  readonly credentials?: ChannelCredentials;
  /** How long a node may take to say how it is. Default 2 s. */
  readonly timeoutMs?: number;
}

export class Readiness {
  readonly #options: ReadinessOptions;
  readonly #channels = new Map<string, Channel>();

  constructor(options: ReadinessOptions) {
    this.#options = options;
  }

  /** Undefined when each shard is served by one of its copies; else what is not, in words. */
  async missing(): Promise<string | undefined> {
    const placement = this.#options.placement.current();
    if (placement === undefined) return 'not ready: shards are not placed yet, the cluster waits for its nodes';
    const addresses = [...new Set(placement.copies.flat().map(({ address }) => address))];
    const serving = new Map<string, ReadonlySet<number>>();
    const problems: string[] = [];
    await Promise.all(
      addresses.map(async (address) => {
        try {
          const { shards } = await this.#status(address);
          serving.set(address, new Set(shards.filter(({ state }) => state === 'serving').map(({ shard }) => shard)));
        } catch (error) {
          problems.push(`${address}: ${(error as Error).message}`);
        }
      }),
    );
    const open = placement.copies.flatMap((copies, shard) =>
      copies.some(({ address }) => serving.get(address)?.has(shard)) ? [] : [shard],
    );
    if (open.length === 0) return undefined;
    return [`not ready: ${open.length} of ${placement.shardCount} shards are not served yet`, ...problems].join('; ');
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
