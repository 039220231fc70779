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
  /** Moves that somebody asked for and that have not begun, in the order of their turns. */
  readonly asked?: readonly AskedMove[];
  /** Number of the latest move; they count up for the life of the region. */
  readonly lastMove?: number;
  /** Every node that holds a copy, as it last registered. */
  readonly nodes: { readonly [name: string]: { readonly zone: string; readonly address: string } };
  /**
   * By shard: the highest epoch there ever was, where the copy that had it was taken away. Epochs are never given twice: what a
   * node says of the copy that it had must not count for one that it is given later.
   */
  readonly spent?: { readonly [shard: string]: number };
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
  /** Number of the move that it is part of: a joining copy with `from`, and then the one that leaves for it. */
  readonly move?: number;
  /** Of a joining copy with `from`. */
  readonly cause?: MoveCause;
  /** Its move goes no further until somebody lets it. */
  readonly held?: true;
  /** Somebody wants it here: it does not move to even things out, until somebody asks for that. */
  readonly pinned?: true;
}

/** Why a copy moves. `order`: it was named. `rebalance`: evening out was asked for. `balance`: that began by itself. */
export type MoveCause = 'order' | 'rebalance' | 'balance' | 'drain';

export interface AskedMove {
  readonly move: number;
  readonly shard: number;
  readonly from: string;
  readonly to: string;
  readonly cause: 'order' | 'rebalance';
  readonly held?: true;
}

/**
 * Whether copies move so that every node holds its share. `paused`: no move begins or goes on, whoever asked for it. `off`:
 * none begins but those that somebody asks for.
 */
export type Moves = 'on' | 'paused' | 'off';

/**
 * `cordoned`: the node keeps what it has. `draining`: what it has moves to others. `removed`: it has nothing, and is
 * forgotten when it has been away for the grace; should its name return after that, it is a new node.
 */
export type Cordon = 'cordoned' | 'draining' | 'removed';

/** Nothing is to stay on such a node. */
export function isEmptied(cordon: Cordon | undefined): boolean {
  return cordon === 'draining' || cordon === 'removed';
}

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
