/**
 * Asks every node how it is, all at once. A node that does not answer in time is part of the answer, with the reason: a
 * cluster that is half away must be the easiest to look at.
 */

import type { Channels } from '../../core/channels.ts';
import type { SilverbackError } from '../../core/errors.ts';
import type { Member } from '../../core/meta/member.ts';
import type { Cordon, RegionPlacement } from '../../core/meta/region.ts';
import type { Placement, PlacementView } from '../../core/placement.ts';
import { type StatusReply, shardsService } from '../../core/protocol.ts';

export interface SurveyOptions {
  readonly channels: Channels;
  readonly placement: PlacementView;
  /** Nodes that are registered now; undefined: not known. */
  readonly members?: () => readonly Member[] | undefined;
  /** The regions' placements; undefined: not known. */
  readonly regions?: () => readonly RegionPlacement[];
  /** How long a node may take to say how it is. Default 2 s. */
  readonly timeoutMs?: number;
}

/** A node that is placed or registered, and what it said. */
export interface Surveyed extends Member {
  /** Holds its lease; undefined: not known. */
  readonly isRegistered: boolean | undefined;
  readonly cordon?: Cordon | undefined;
  /** Undefined: it did not answer, or another process did. */
  readonly status: StatusReply | undefined;
  /** Why there is no status. */
  readonly problem: string;
}

export interface Found {
  readonly placement: Placement | undefined;
  /** Empty: not known. */
  readonly regions?: readonly RegionPlacement[];
  /** By region, then name. */
  readonly nodes: readonly Surveyed[];
}

export class Survey {
  readonly #options: SurveyOptions;
  readonly #timeoutMs: number;

  constructor(options: SurveyOptions) {
    this.#options = options;
    this.#timeoutMs = options.timeoutMs ?? 2_000;
  }

  placement(): Placement | undefined {
    return this.#options.placement.current();
  }

  /** Never rejects; takes as long as the slowest node, and no longer than `timeoutMs`. */
  async ask(): Promise<Found> {
    const placement = this.#options.placement.current();
    const regions = this.#options.regions?.() ?? [];
    const members = this.#options.members?.();
    const known = new Map<string, Member>();
    for (const { region, zone, node, address } of placement?.copies.flat() ?? []) {
      known.set(keyOf(region, node), { name: node, region, zone, address });
    }
    const registered = new Set<string>();
    for (const member of members ?? []) {
      const key = keyOf(member.region, member.name);
      registered.add(key);
      // What a living node says of itself is newer than the placement.
      known.set(key, member);
    }
    this.#options.channels.keepOnly(new Set([...known.values()].map(({ address }) => address)));
    const nodes = await Promise.all(
      [...known].map(async ([key, placed]): Promise<Surveyed> => {
        const cordon = regions.find(({ region }) => region === placed.region)?.cordons?.[placed.name];
        const member = { ...placed, cordon };
        const isRegistered = members === undefined ? undefined : registered.has(key);
        try {
          const status = await this.#status(member.address);
          if (status.node === member.name && (status.region === '' || status.region === member.region)) {
            return { ...member, isRegistered, status, problem: '' };
          }
          const other = `another node answers at ${member.address}: ${status.region}/${status.node}`;
          return { ...member, isRegistered, status: undefined, problem: other };
        } catch (error) {
          return { ...member, isRegistered, status: undefined, problem: this.#whyOf(error as SilverbackError) };
        }
      }),
    );
    return { placement, regions, nodes: nodes.sort((a, b) => order(a.region, b.region) || order(a.name, b.name)) };
  }

  #status(address: string): Promise<StatusReply> {
    return this.#options.channels.to(address).unary(shardsService.Status, {}, { timeoutMs: this.#timeoutMs });
  }

  /** gRPC's own words for a time-out say nothing of the node. */
  #whyOf({ code, message }: SilverbackError): string {
    return code === 'TIMEOUT' ? `no answer within ${this.#timeoutMs / 1_000} s` : message;
  }
}

function keyOf(region: string, node: string): string {
  return `${region}/${node}`;
}

/** `node-2` before `node-10`. */
function order(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}
