/** What operators ask of the nodes beside how they are: to compare and repair their copies. */

import type { Channels } from '../../core/channels.ts';
import type { Clock } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import type { PlacementView } from '../../core/placement.ts';
import { shardsService } from '../../core/protocol.ts';
import { type Hello, helloOf, SPOKEN } from '../../core/versions.ts';
import { type CopyDigests, compareDigests, type VerifyReport } from './digests.ts';
import type { CopyRepair, StartedRepair } from './report.ts';

export interface OperationsOptions {
  readonly clock: Clock;
  readonly placement: PlacementView;
  readonly channels: Channels;
  readonly caller: string;
  /** Told of a round that did not go well. */
  readonly warn: (message: string) => void;
}

const STATUS_MS = 5_000;
/** Digests of windows that are open are made anew. */
const DIGEST_MS = 60_000;
/** A round fetches at a bounded speed: it may take long. */
const ROUND_MS = 6 * 3_600_000;

interface Place {
  readonly region: string;
  readonly node: string;
  readonly address: string;
  readonly shards: number[];
}

export class Operations {
  readonly #options: OperationsOptions;

  constructor(options: OperationsOptions) {
    this.#options = options;
  }

  /** How repair goes in each copy, and which nodes did not say. */
  async repairs(shard?: number): Promise<{ copies: CopyRepair[]; problems: string[] }> {
    const problems: string[] = [];
    const copies: CopyRepair[] = [];
    await Promise.all(
      this.#places(shard).map(async ({ region, node, address, shards }) => {
        try {
          const request = { hello: this.#hello(), shards, run: false };
          const reply = await this.#options.channels
            .to(address)
            .unary(shardsService.Repair, request, { timeoutMs: STATUS_MS });
          for (const { lastRoundMs, ...rest } of reply.shards) {
            copies.push({ region, node, ...rest, lastRound: lastRoundMs === 0 ? null : lastRoundMs / 1_000 });
          }
        } catch (error) {
          problems.push(`node ${region}/${node} does not say how its repair goes: ${(error as Error).message}`);
        }
      }),
    );
    copies.sort((a, b) => a.shard - b.shard || (a.region + a.node < b.region + b.node ? -1 : 1));
    return { copies, problems };
  }

  /** Starts a round in every copy, or in those of one shard, and does not wait for its end. */
  startRepair(shard?: number): StartedRepair[] {
    return this.#places(shard).map(({ region, node, address, shards }) => {
      const request = { hello: this.#hello(), shards, run: true };
      this.#options.channels
        .to(address)
        .unary(shardsService.Repair, request, { timeoutMs: ROUND_MS })
        .catch((error: Error) => this.#options.warn(`repair on node ${region}/${node}: ${error.message}`));
      return { region, node, shards };
    });
  }

  async verify(shard: number): Promise<VerifyReport> {
    const { placement, channels, clock } = this.#options;
    const copies = await Promise.all(
      (placement.current()?.copies[shard] ?? []).map(async ({ region, node, address, state }): Promise<CopyDigests> => {
        if (state === 'joining') return { region, node, digests: undefined, reason: 'it is being filled' };
        try {
          const options = { timeoutMs: DIGEST_MS };
          return {
            region,
            node,
            digests: await channels.to(address).unary(shardsService.Digest, { shard }, options),
            reason: '',
          };
        } catch (error) {
          return { region, node, digests: undefined, reason: (error as Error).message };
        }
      }),
    );
    return compareDigests(shard, copies, clock.nowMs());
  }

  #hello(): Hello {
    return helloOf(SPOKEN, this.#options.placement.current()?.clusterId ?? '', this.#options.caller);
  }

  /** Nodes with the shards that they have copies of. */
  #places(shard: number | undefined): Place[] {
    const placement = this.#options.placement.current();
    if (placement === undefined) throw new SilverbackError('UNAVAILABLE', 'no shards are placed yet');
    const places = new Map<string, Place>();
    for (const [id, copies] of placement.copies.entries()) {
      if (shard !== undefined && id !== shard) continue;
      for (const { region, node, address } of copies) {
        const key = `${region}/${node}`;
        const place = places.get(key) ?? { region, node, address, shards: [] };
        place.shards.push(id);
        places.set(key, place);
      }
    }
    return [...places.values()];
  }
}
