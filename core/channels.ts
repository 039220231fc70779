/** Connections to nodes, by address, made on first use. */
import type { Env } from './env/env.ts';
import { Channel, type ChannelCredentials } from './grpc.ts';

export interface ChannelsOptions {
  readonly env: Env;
  readonly caller: string;
  readonly credentials?: ChannelCredentials;
}

export class Channels {
  readonly #options: ChannelsOptions;
  readonly #channels = new Map<string, Channel>();

  constructor(options: ChannelsOptions) {
    this.#options = options;
  }

  to(address: string): Channel {
    let channel = this.#channels.get(address);
    if (channel === undefined) {
      const { env, caller, credentials } = this.#options;
      channel = new Channel(address, { clock: env.clock, caller, ...(credentials && { credentials }) });
      this.#channels.set(address, channel);
    }
    return channel;
  }

  /** Closes the others. */
  keepOnly(addresses: ReadonlySet<string>): void {
    for (const [address, channel] of this.#channels) {
      if (addresses.has(address)) continue;
      channel.close();
      this.#channels.delete(address);
    }
  }

  close(): void {
    this.keepOnly(new Set());
  }
}
