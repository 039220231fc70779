/**
 * Which copies should move so that every node holds its share: a pure function, and the same plan after every step of it.
 * A move is a joining copy on the target that names the node it comes from. When it is filled it is active, and the copy it
 * comes from leaves, in one change; until then the latter takes the writes.
 */
import { type PlannedNode, planCopies } from '../planner.ts';
import { type Cordon, isEmptied, type Moves, type RegionCopy } from './region.ts';

export interface Move {
  readonly shard: number;
  readonly from: string;
  readonly to: string;
}

/** Moves that a node takes part in at a time, on either side. */
const MOVES_PER_NODE = 2;

export interface MoveQuestion {
  /** Nodes that may hold copies. */
  readonly nodes: readonly PlannedNode[];
  /** As they are placed. */
  readonly shards: readonly (readonly RegionCopy[])[];
  /** That are wanted of each shard. */
  readonly copies: number;
  /** To none of these nodes goes anything; those that are to be emptied hold nothing in the end. */
  readonly cordons?: { readonly [name: string]: Cordon } | undefined;
  /** Moves that will begin by themselves. */
  readonly asked?: readonly Move[] | undefined;
  /** However many a node takes part in already. */
  readonly isUnbounded?: boolean;
}

/** The moves to begin with now; none for shards that anything happens to already. */
export function nextMoves({ nodes, shards, copies, cordons = {}, asked = [], isUnbounded }: MoveQuestion): Move[] {
  const holders = nodes.filter(({ name }) => !isEmptied(cordons[name]));
  if (holders.length === 0) return [];
  const active = shards.map((own) => own.flatMap(({ node, state }) => (state === 'active' ? [node] : [])));
  const askedOf = new Map(asked.map((move) => [move.shard, move]));
  // What is under way, or will be, counts as done.
  const expected = shards.map((own, shard) => {
    const coming = [
      ...own.filter((copy) => isMove(copy, own)).map(({ node, from }) => ({ from, to: node })),
      ...(askedOf.has(shard) ? [askedOf.get(shard) as Move] : []),
    ];
    const staying = (active[shard] as string[]).filter((node) => coming.every(({ from }) => from !== node));
    return [...staying, ...coming.map(({ to }) => to)];
  });
  const pins = shards.map((own) => own.flatMap(({ node, pinned }) => (pinned ? [node] : [])));
  const plan = planCopies(holders, shards.length, copies, expected, pins);
  const idlest = (except: readonly string[]): string | undefined => {
    const loadOf = (name: string) => expected.reduce((sum, own) => sum + Number(own.includes(name)), 0);
    const open = holders.filter(({ name }) => cordons[name] === undefined && !except.includes(name));
    return open.map(({ name }) => name).sort((a, b) => loadOf(a) - loadOf(b))[0];
  };
  const load = new Load(shards);
  const isLeft = (node: string) => isEmptied(cordons[node]);
  // What else is uneven may be even once that is empty.
  const isEmptying = active.some((own) => own.some(isLeft));
  const moves: Move[] = [];
  for (const [shard, planned] of plan.entries()) {
    const now = active[shard] as string[];
    if (now.length !== (shards[shard] as readonly RegionCopy[]).length) continue;
    if (askedOf.has(shard)) continue;
    const from =
      now.find(isLeft) ?? now.find((node) => !planned.includes(node) && !(pins[shard] as string[]).includes(node));
    // Nobody waits for a cordoned node: what the plan gives it stays where it is, unless that is to be emptied.
    const to =
      planned.find((node) => !now.includes(node) && cordons[node] === undefined) ??
      (from !== undefined && isLeft(from) ? idlest(now) : undefined);
    if (from === undefined || to === undefined) continue;
    if (isEmptying && !isLeft(from)) continue;
    if (!isUnbounded && !load.takes(from, to)) continue;
    load.add(from, to);
    moves.push({ shard, from, to });
  }
  return moves;
}

/** How many moves each node takes part in. */
export class Load {
  readonly #counts = new Map<string, number>();

  constructor(shards: readonly (readonly RegionCopy[])[]) {
    for (const own of shards) {
      for (const copy of own) if (isMove(copy, own)) this.add(copy.node, copy.from);
    }
  }

  takes(...nodes: readonly string[]): boolean {
    return nodes.every((node) => (this.#counts.get(node) ?? 0) < MOVES_PER_NODE);
  }

  add(...nodes: readonly string[]): void {
    for (const node of nodes) this.#counts.set(node, (this.#counts.get(node) ?? 0) + 1);
  }
}

/** A joining copy that comes in place of one that is still active. */
export function isMove(
  copy: RegionCopy,
  copies: readonly RegionCopy[],
): copy is RegionCopy & { readonly from: string } {
  if (copy.state !== 'joining' || copy.from === undefined) return false;
  return copies.some(({ node, state }) => node === copy.from && state === 'active');
}

/** Somebody asked for it: it goes on where copies do not move by themselves. */
export function isAsked({ cause }: Pick<RegionCopy, 'cause'>): boolean {
  return cause === 'order' || cause === 'rebalance';
}

/** Whether a copy that moves is to go no further for now. */
export function isHeld(copy: RegionCopy, moves: Moves): boolean {
  return copy.held === true || moves === 'paused' || (moves === 'off' && !isAsked(copy));
}
