/** Placement: which nodes hold a copy of each shard. Data only; the meta store keeps it, the planner makes it. */

/** `joining` copies take writes but do not yet hold the past; `leaving` ones take no more, deliver what others lack, and still serve reads. */
export type CopyState = 'active' | 'joining' | 'leaving';

export interface Copy {
  readonly region: string;
  readonly zone: string;
  readonly node: string;
  /** host:port of the node's gRPC listener. */
  readonly address: string;
  readonly state: CopyState;
  /** Grows with every change of this copy's ownership. */
  readonly epoch: number;
  /** Of a joining copy: it is to bring the past to its node now. */
  readonly fill?: true;
  /** Of a joining copy: the node of its region whose copy it is to take the place of. */
  readonly from?: string;
}

export interface Placement {
  readonly clusterId: string;
  /** A power of two, fixed when the cluster was created. */
  readonly shardCount: number;
  /** Grows with every change. */
  readonly revision: number;
  /** Index is the shard. */
  readonly copies: readonly (readonly Copy[])[];
}

/** Names of the regions that hold copies, sorted. */
export function regionsOf(placement: Placement | undefined): string[] | undefined {
  if (placement === undefined) return undefined;
  return [...new Set(placement.copies.flat().map(({ region }) => region))].sort();
}

/**
 * Whether a copy is on its way to take the place of one that has been active ever since. That one takes the writes: until the
 * change a copy that arrives takes none, so it has nothing that others could lack. One that was away meanwhile, when this one
 * took writes in its stead, has got a newer epoch.
 */
export function isArriving(copy: Copy, copies: readonly Copy[]): boolean {
  const { region, state, from, epoch } = copy;
  if (state !== 'joining' || from === undefined) return false;
  const source = copies.find((other) => other.region === region && other.node === from);
  return source?.state === 'active' && source.epoch < epoch;
}

/** A view that follows the placement. What a client, a coordinator's fan-out and a node need of it. */
export interface PlacementView {
  current(): Placement | undefined;
  /** Asks the source again: for a sender that was told NOT_OWNER or cannot reach an owner. */
  refresh(): Promise<Placement>;
  /** Called after each change; returns the way to stop. */
  onChange(listener: (placement: Placement) => void): () => void;
}
