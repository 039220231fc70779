/**
 * What somebody who looks after a region does to its placement, under the hands of whoever keeps it: any process may. Each
 * function is one compare-and-put of what orders.ts makes of the placement, tried again when another came first.
 */
import { SilverbackError } from '../errors.ts';
import { KEYS } from './keys.ts';
import { type Member, readMember } from './member.ts';
import {
  type Asked,
  evenMoves,
  idOf,
  type MoveOrder,
  orderedMoves,
  withAsked,
  withCordon,
  withHeldMove,
  withMoves,
  withoutEmptyNode,
  withoutMove,
  withoutNode,
  withoutPins,
} from './orders.ts';
import type { Cordon, Moves, RegionPlacement } from './region.ts';
import type { Condition, MetaStore } from './store.ts';
import { readPlacement, writePlacement } from './written.ts';

/** A move that was taken on. */
export interface OrderedMove extends Asked {
  readonly id: string;
}

/**
 * Has copies move to a node; they begin when their turn comes.
 * @throws SilverbackError see `orderedMoves`, UNAVAILABLE
 */
export async function orderMoves(store: MetaStore, region: string, order: MoveOrder): Promise<OrderedMove[]> {
  return ask(store, region, (current, living) => [current, orderedMoves(current, living, order)]);
}

/**
 * Has copies move until every node holds its share, wherever they were put by hand.
 * @throws SilverbackError see `evenMoves`, UNAVAILABLE
 */
export async function rebalance(store: MetaStore, region: string): Promise<OrderedMove[]> {
  return ask(store, region, (current, living) => [withoutPins(current), evenMoves(current, living)]);
}

/**
 * Lets one move go on, holds it, or calls it off.
 * @param id as `idOf` makes it
 * @throws SilverbackError NOT_FOUND, CONFLICT when it is too late, UNAVAILABLE
 */
export function switchMove(store: MetaStore, region: string, id: string, mode: Moves): Promise<void> {
  const number = /^\d{1,15}$/.exec(id.slice(id.lastIndexOf('/') + 1))?.[0];
  if (number === undefined || (id.includes('/') && id !== idOf(region, { move: Number(number) }))) {
    const example = idOf(region, { move: 7 });
    throw new SilverbackError(
      'INVALID_ARGUMENT',
      `${id} names no move of region ${region}: they are such as ${example}`,
    );
  }
  return amend(store, region, [], async (current) =>
    mode === 'off' ? withoutMove(current, Number(number)) : withHeldMove(current, Number(number), mode === 'paused'),
  );
}

/**
 * Takes a node that will not come back out of the placement: what its log held and nobody else has is given up, and nobody
 * waits for it any more. Any process may do it; whoever keeps the placement goes on from there.
 * @throws SilverbackError NOT_FOUND without such a node, CONFLICT while it is registered, UNAVAILABLE
 */
export function removeLostNode(store: MetaStore, region: string, name: string): Promise<void> {
  return amend(store, region, [{ key: KEYS.node(region, name), revision: 0 }], async (current) => {
    if ((await store.get(KEYS.node(region, name))) !== undefined) {
      const message = `node ${name} of region ${region} is registered: only a node that is gone can be declared lost`;
      throw new SilverbackError('CONFLICT', message);
    }
    const next = withoutNode(current, name);
    if (next !== undefined) return next;
    throw new SilverbackError('NOT_FOUND', `region ${region} has no copies on a node ${name}`);
  });
}

/**
 * Takes a node that has no copies any more out of the region, with its cordon.
 * @throws SilverbackError NOT_FOUND without such a node, CONFLICT: what it still has, UNAVAILABLE
 */
export function removeNode(store: MetaStore, region: string, name: string): Promise<void> {
  return amend(store, region, [], async (current) => {
    const isLiving = (await store.get(KEYS.node(region, name))) !== undefined;
    return withoutEmptyNode(current, name, isLiving);
  });
}

/**
 * Lets copies move, holds the moves, or calls them off; see `Moves`.
 * @throws SilverbackError NOT_FOUND without a placement, UNAVAILABLE
 */
export function switchMoves(store: MetaStore, region: string, moves: Moves): Promise<void> {
  return amend(store, region, [], async (current) => withMoves(current, moves));
}

/**
 * Keeps copies away from a node, or no longer (undefined); see `Cordon`.
 * @throws SilverbackError NOT_FOUND without such a node or a placement, CONFLICT when a node cannot be drained, UNAVAILABLE
 */
export function setCordon(store: MetaStore, region: string, name: string, cordon: Cordon | undefined): Promise<void> {
  return amend(store, region, [], async (current) => {
    const living = (await livingOf(store, region)).map((member) => member.name);
    const isKnown = living.includes(name) || name in current.nodes || name in (current.cordons ?? {});
    if (!isKnown) throw new SilverbackError('NOT_FOUND', `region ${region} has no node ${name}`);
    if (cordon === 'draining' && current.cordons?.[name] !== 'draining') {
      const others = living.filter((one) => one !== name && current.cordons?.[one] === undefined).length;
      checkDrain(current, region, name, others);
    }
    return withCordon(current, name, cordon);
  });
}

function checkDrain(current: RegionPlacement, region: string, name: string, others: number): void {
  const { copies, moves } = current;
  const what = `node ${name} of region ${region} cannot be drained`;
  if (others < copies) {
    const need = `its copies need ${copies} other ${copies === 1 ? 'node' : 'nodes'} without a cordon`;
    throw new SilverbackError('CONFLICT', `${what}: ${need}, and there ${others === 1 ? 'is' : 'are'} ${others}`);
  }
  if (moves === 'on') return;
  throw new SilverbackError('CONFLICT', `${what}: moves are ${moves} (silverback moves resume)`);
}

/** Changes a placement under the hands of whoever keeps it. */
async function amend(
  store: MetaStore,
  region: string,
  conditions: readonly Condition[],
  change: (current: RegionPlacement) => Promise<RegionPlacement | undefined>,
): Promise<void> {
  const key = KEYS.placement(region);
  for (;;) {
    const entry = await store.get(key);
    if (entry === undefined) throw new SilverbackError('NOT_FOUND', `region ${region} has no placement`);
    const next = await change(readPlacement(entry));
    if (next === undefined) return;
    try {
      await store.commit(
        [{ key, revision: entry.revision }, ...conditions],
        [{ put: key, value: writePlacement(next) }],
      );
      return;
    } catch (error) {
      if (!(error instanceof SilverbackError) || error.code !== 'CONFLICT') throw error;
    }
  }
}

async function ask(
  store: MetaStore,
  region: string,
  plan: (current: RegionPlacement, living: readonly Member[]) => readonly [RegionPlacement, readonly Asked[]],
): Promise<OrderedMove[]> {
  let moves: OrderedMove[] = [];
  await amend(store, region, [], async (current) => {
    const [base, asked] = plan(current, await livingOf(store, region));
    const next = withAsked(base, asked);
    const before = base.asked?.length ?? 0;
    moves = (next.asked ?? []).slice(before).map(({ move, ...rest }) => ({ id: idOf(region, { move }), ...rest }));
    return next;
  });
  return moves;
}

async function livingOf(store: MetaStore, region: string): Promise<Member[]> {
  const { entries } = await store.range(KEYS.nodesOf(region));
  return entries.map(readMember);
}
