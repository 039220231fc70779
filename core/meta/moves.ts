/**
 * Which copies should move so that every node holds its share: a pure function, and the same plan after every step of it.
 * A move is a joining copy on the target that names the node it comes from. When it is filled it is active, and the copy it
 * comes from leaves, in one change; until then the latter takes the writes.
 */
import { type PlannedNode, planCopies } from '../planner.ts';
import type { Cordon, RegionCopy } from './region.ts';

export interface Move {
  readonly shard: number;
  readonly from: string;
  readonly to: string;
}

/** Moves that a node takes part in at a time, on either side. */
const MOVES_PER_NODE = 2;

/**
 * @param nodes that may hold copies
 * @param shards as they are placed
 * @param copies that are wanted of each
 * @param cordons of nodes: to none of them goes anything; those that are draining hold nothing in the end
 * @returns the moves to begin with now; none for shards that anything happens to already
 */
export function nextMoves(
  nodes: readonly PlannedNode[],
  shards: readonly (readonly RegionCopy[])[],
  copies: number,
  cordons: { readonly [name: string]: Cordon } = {},
  movesPerNode = MOVES_PER_NODE,
): Move[] {
  const holders = nodes.filter(({ name }) => cordons[name] !== 'draining');
  if (holders.length === 0) return [];
  const active = shards.map((own) => own.flatMap(({ node, state }) => (state === 'active' ? [node] : [])));
  // What is under way counts as done.
  const expected = shards.map((own, shard) => {
    const arriving = own.filter((copy) => isMove(copy, own));
    const departing = new Set(arriving.map(({ from }) => from));
    return [...(active[shard] as string[]).filter((node) => !departing.has(node)), ...arriving.map(({ node }) => node)];
  });
  const plan = planCopies(holders, shards.length, copies, expected);
  const idlest = (all: readonly (readonly string[])[], except: readonly string[]): string | undefined => {
    const loadOf = (name: string) => all.reduce((sum, own) => sum + Number(own.includes(name)), 0);
    const open = holders.filter(({ name }) => cordons[name] === undefined && !except.includes(name));
    return open.map(({ name }) => name).sort((a, b) => loadOf(a) - loadOf(b))[0];
  };
  const busy = new Map<string, number>();
  const occupy = (name: string) => busy.set(name, (busy.get(name) ?? 0) + 1);
  for (const own of shards) {
    for (const copy of own) {
      if (!isMove(copy, own)) continue;
      occupy(copy.node);
      occupy(copy.from as string);
    }
  }
  const moves: Move[] = [];
  for (const [shard, planned] of plan.entries()) {
    const now = active[shard] as string[];
    if (now.length !== (shards[shard] as readonly RegionCopy[]).length) continue;
    const isDraining = (node: string) => cordons[node] === 'draining';
    const from = now.find(isDraining) ?? now.find((node) => !planned.includes(node));
    // Nobody waits for a cordoned node: what the plan gives it stays where it is, unless that is to be emptied.
    const to =
      planned.find((node) => !now.includes(node) && cordons[node] === undefined) ??
      (from !== undefined && isDraining(from) ? idlest(expected, now) : undefined);
    if (from === undefined || to === undefined) continue;
    if ((busy.get(from) ?? 0) >= movesPerNode || (busy.get(to) ?? 0) >= movesPerNode) continue;
    occupy(from);
    occupy(to);
    moves.push({ shard, from, to });
  }
  return moves;
}

/** A joining copy that comes in place of one that is still active. */
export function isMove(copy: RegionCopy, copies: readonly RegionCopy[]): boolean {
  if (copy.state !== 'joining' || copy.from === undefined) return false;
  return copies.some(({ node, state }) => node === copy.from && state === 'active');
}
