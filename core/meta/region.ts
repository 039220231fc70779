/** A region's placement as it lies in the meta store, and what its nodes say of the copies that they are given. */
import type { CopyState } from '../placement.ts';

/** The value under `KEYS.placement(region)`. */
export interface RegionPlacement {
  readonly clusterId: string;
  readonly shardCount: number;
  readonly region: string;
  /** How many copies of every shard there shall be. */
  readonly copies: number;
  readonly moves: Moves;
  /** Nodes that get no copies, by name. They need not be there. */
  readonly cordons?: { readonly [name: string]: Cordon };
  /** Every node that holds a copy, as it last registered. */
  readonly nodes: { readonly [name: string]: { readonly zone: string; readonly address: string } };
  /** Index is the shard. The first copy that can takes its writes. */
  readonly shards: readonly (readonly RegionCopy[])[];
}

export interface RegionCopy {
  readonly node: string;
  readonly state: CopyState;
  readonly epoch: number;
  /** A joining copy is to bring the past here; without it, it only takes writes, because the one before may be back soon. */
  readonly fill?: true;
  /** A joining copy that is to take the place of the active one on this node. */
  readonly from?: string;
}

/**
 * Whether copies move so that every node holds its share. `paused`: nothing begins, and nothing that is under way is
 * finished. `off`: what is under way is called off.
 */
export type Moves = 'on' | 'paused' | 'off';

/** `cordoned`: the node keeps what it has. `draining`: what it has moves to others. */
export type Cordon = 'cordoned' | 'draining';

/** The value under `KEYS.copies(region, node)`: those copies that are not simply active, by shard. */
export type CopyReports = { readonly [shard: string]: CopyReport };

export interface CopyReport {
  /** Of the copy that this is about. */
  readonly epoch: number;
  /** It holds of the past what the other copies do. */
  readonly filled: boolean;
  /** It takes no more writes, and all that it took is for good in every other copy. */
  readonly drained: boolean;
}
