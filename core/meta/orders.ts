/**
 * What somebody who looks after a region asks of its placement: pure functions from one placement to the next. They refuse what
 * cannot be done, and say why; whoever keeps the placement (decide.ts) does the rest.
 */

import { SilverbackError } from '../errors.ts';
import type { PlannedNode } from '../planner.ts';
import { spentBy } from './epochs.ts';
import { isMove, type Move, nextMoves } from './moves.ts';
import { type AskedMove, type Cordon, isEmptied, type Moves, type RegionCopy, type RegionPlacement } from './region.ts';

/** Copies to be moved by hand. */
export interface MoveOrder {
  readonly shards: readonly number[];
  readonly to: string;
  /** Where they are now; undefined: where their only copy is. */
  readonly from?: string | undefined;
}

/** Moves that somebody asks for, before they are numbered. */
export interface Asked extends Move {
  readonly cause: 'order' | 'rebalance';
}

/**
 * The moves of these shards to a node.
 * @param living nodes that are registered
 * @throws SilverbackError INVALID_ARGUMENT, NOT_FOUND, CONFLICT: why one of them cannot be made; then none is
 */
export function orderedMoves(current: RegionPlacement, living: readonly PlannedNode[], order: MoveOrder): Asked[] {
  const { region, cordons = {} } = current;
  const { shards, to, from } = order;
  checkMovable(current);
  checkNode(current, living, to);
  if (from !== undefined && from !== to && current.nodes[from] === undefined) checkNode(current, living, from);
  const cordon = cordons[to];
  if (cordon !== undefined) {
    conflict(`node ${to} of region ${region} is ${cordon} and gets no copies (silverback nodes uncordon ${to})`);
  }
  if (shards.length === 0) throw new SilverbackError('INVALID_ARGUMENT', 'no shard is named');
  const most = current.shardCount - 1;
  return shards.map((shard, i): Asked => {
    if (!Number.isInteger(shard) || shard < 0 || shard > most) {
      throw new SilverbackError('INVALID_ARGUMENT', `${shard} is not a shard: they are 0 to ${most}`);
    }
    if (shards.indexOf(shard) < i) throw new SilverbackError('INVALID_ARGUMENT', `shard ${shard} is named twice`);
    const copies = current.shards[shard] as readonly RegionCopy[];
    const busy = moveOf(current, shard);
    if (busy !== undefined) {
      conflict(`shard ${shard} is on its way from ${busy.from} to ${busy.to} already, by move ${idOf(region, busy)}`);
    }
    const there = copies.find(({ node }) => node === to);
    if (there?.state === 'active') conflict(`shard ${shard} has a copy on ${to} already`);
    if (there !== undefined)
      conflict(`shard ${shard} has a copy on ${to} that is ${there.state}: wait until it is not`);
    const source = sourceOf(current, shard, from);
    checkZones(current, living, { shard, from: source, to });
    return { shard, from: source, to, cause: 'order' };
  });
}

/**
 * The moves after which every node holds its share, whatever was placed by hand.
 * @throws SilverbackError CONFLICT while moves are held, or a node is away
 */
export function evenMoves(current: RegionPlacement, living: readonly PlannedNode[]): Asked[] {
  checkMovable(current);
  const isThere = (name: string) => living.some((node) => node.name === name);
  const holders = new Set(current.shards.flatMap((own) => own.map(({ node }) => node)));
  const away = [...holders].filter((name) => !isThere(name)).sort();
  if (away.length > 0) {
    const are = away.length === 1 ? 'is' : 'are';
    conflict(
      `${away.join(', ')} of region ${current.region} ${are} away: wait, or declare lost what will not come back`,
    );
  }
  const { cordons, asked, copies } = current;
  const { shards } = withoutPins(current);
  return nextMoves({ nodes: living, shards, copies, cordons, asked, isUnbounded: true }).map((move) => ({
    ...move,
    cause: 'rebalance',
  }));
}

/** The placement with moves that are to begin when their turn comes. */
export function withAsked(current: RegionPlacement, moves: readonly Asked[]): RegionPlacement {
  let { lastMove = 0 } = current;
  const asked: AskedMove[] = moves.map((move) => ({ move: ++lastMove, ...move }));
  return tidy({ ...current, asked: [...(current.asked ?? []), ...asked], lastMove });
}

/** The placement in which copies move to even things out, wherever they were put by hand. */
export function withoutPins(current: RegionPlacement): RegionPlacement {
  return { ...current, shards: current.shards.map(unpinned) };
}

/**
 * The placement without one of its moves. What moved by itself stays where it is until evenness is asked for: it would begin
 * again at once.
 * @throws SilverbackError NOT_FOUND, CONFLICT when it is too late, or when it would begin again
 */
export function withoutMove(current: RegionPlacement, move: number): RegionPlacement {
  const { shard, from, isDone } = findMove(current, move);
  const id = idOf(current.region, { move });
  if (isDone) {
    conflict(
      `move ${id}: shard ${shard} has moved, and ${from} delivers what it still owes; another move brings it back`,
    );
  }
  if (isEmptied(current.cordons?.[from])) {
    const ways = `silverback nodes uncordon ${from} ends that, silverback moves pause ${id} holds it`;
    conflict(`move ${id} would begin again, because ${from} is draining: ${ways}`);
  }
  const asked = current.asked?.filter((one) => one.move !== move);
  const shards = current.shards.map((own, i) => {
    if (i !== shard) return own;
    return calledOff(own, (copy) => copy.move === move).map((copy) =>
      copy.node === from && copy.state === 'active' ? { ...copy, pinned: true as const } : copy,
    );
  });
  return tidy({ ...current, shards, asked });
}

/**
 * The placement in which one move is held, or goes on; undefined: it does that already.
 * @throws SilverbackError NOT_FOUND, CONFLICT when it is too late
 */
export function withHeldMove(current: RegionPlacement, move: number, isHeld: boolean): RegionPlacement | undefined {
  const { shard, from, held, isDone } = findMove(current, move);
  if (isDone) {
    const id = idOf(current.region, { move });
    conflict(`move ${id}: shard ${shard} has moved, and ${from} delivers what it still owes, which cannot be held`);
  }
  if (held === isHeld) return undefined;
  const change = <T extends { readonly move?: number; readonly held?: true }>(one: T): T => {
    if (one.move !== move) return one;
    const { held: _, ...rest } = one;
    return (isHeld ? { ...rest, held: true } : rest) as T;
  };
  const shards = current.shards.map((own, i) => (i === shard ? own.map(change) : own));
  return tidy({ ...current, shards, asked: current.asked?.map(change) });
}

/** The placement with moves switched; undefined when they are that already. `off` calls off all that there are, whoever asked for them. */
export function withMoves(current: RegionPlacement, moves: Moves): RegionPlacement | undefined {
  if (moves !== 'off') return current.moves === moves ? undefined : { ...current, moves };
  const isBusy = (own: readonly RegionCopy[]) => own.some((copy) => isMove(copy, own));
  if (current.moves === 'off' && current.asked === undefined && !current.shards.some(isBusy)) return undefined;
  const shards = current.shards.map((own) => (isBusy(own) ? calledOff(own, (copy) => isMove(copy, own)) : own));
  return tidy({ ...current, moves, shards, asked: undefined });
}

/** The placement with a node cordoned otherwise, or no more; undefined when it is that already. */
export function withCordon(
  current: RegionPlacement,
  name: string,
  cordon: Cordon | undefined,
): RegionPlacement | undefined {
  const { [name]: before, ...others } = current.cordons ?? {};
  if (before === cordon) return undefined;
  if (cordon === undefined) return tidy({ ...current, cordons: others });
  // What was on its way to it is called off where that is decided; what has not begun never will.
  const asked = current.asked?.filter(({ to }) => to !== name);
  return tidy({ ...current, cordons: { ...others, [name]: cordon }, asked });
}

/** The placement without a node that an operator declared lost; undefined when it has no copy there. Nobody waits for it any more. */
export function withoutNode(current: RegionPlacement, name: string): RegionPlacement | undefined {
  const { [name]: lost, ...nodes } = current.nodes;
  if (lost === undefined) return undefined;
  const shards = current.shards.map((copies) => copies.filter(({ node }) => node !== name));
  const { spent: _, ...rest } = current;
  const spent = spentBy(current, shards);
  return forget({ ...rest, nodes, shards, ...(spent && { spent }) }, name);
}

/**
 * The placement without a node that has nothing any more. While it still runs it stays marked, or it would be given copies.
 * @throws SilverbackError CONFLICT: what it has, NOT_FOUND
 */
export function withoutEmptyNode(
  current: RegionPlacement,
  name: string,
  isLiving: boolean,
): RegionPlacement | undefined {
  const { region } = current;
  const held = current.shards.flatMap((own, shard) => (own.some(({ node }) => node === name) ? [shard] : []));
  if (held.length > 0) {
    const named = held
      .slice(0, 8)
      .join(', ')
      .concat(held.length > 8 ? ` and ${held.length - 8} more` : '');
    const shards = held.length === 1 ? `a copy of shard ${named}` : `copies of shards ${named}`;
    conflict(
      `node ${name} of region ${region} has ${shards}: it has to be drained first (silverback nodes drain ${name})`,
    );
  }
  const cordon = current.cordons?.[name];
  if (!isLiving && cordon === undefined) throw new SilverbackError('NOT_FOUND', `region ${region} has no node ${name}`);
  if (cordon === 'removed') return undefined;
  const next = forget(current, name);
  return isLiving ? { ...next, cordons: { ...next.cordons, [name]: 'removed' } } : next;
}

/** How people name a move. */
export function idOf(region: string, { move }: { readonly move: number }): string {
  return `${region}/${move}`;
}

function forget(current: RegionPlacement, name: string): RegionPlacement {
  const { [name]: _, ...cordons } = current.cordons ?? {};
  const asked = current.asked?.filter(({ from, to }) => from !== name && to !== name);
  return tidy({ ...current, cordons, asked });
}

/** Without what is empty. */
function tidy(
  next: Omit<RegionPlacement, 'asked'> & { readonly asked?: readonly AskedMove[] | undefined },
): RegionPlacement {
  const { asked, cordons, ...rest } = next;
  return {
    ...rest,
    ...(cordons !== undefined && Object.keys(cordons).length > 0 && { cordons }),
    ...(asked !== undefined && asked.length > 0 && { asked }),
  };
}

/** Copies on their way here take no more writes, deliver what they took, and go. */
function calledOff(own: readonly RegionCopy[], isIt: (copy: RegionCopy) => boolean): RegionCopy[] {
  let epoch = own.reduce((most, copy) => Math.max(most, copy.epoch), 0);
  return own.map((copy) => (isIt(copy) ? { node: copy.node, state: 'leaving', epoch: ++epoch } : copy));
}

function unpinned(own: readonly RegionCopy[]): readonly RegionCopy[] {
  return own.some(({ pinned }) => pinned) ? own.map(({ pinned: _, ...copy }) => copy) : own;
}

/** The move of a shard that is under way or waits for its turn. */
function moveOf(current: RegionPlacement, shard: number): { from: string; to: string; move: number } | undefined {
  const own = current.shards[shard] as readonly RegionCopy[];
  for (const copy of own) if (isMove(copy, own)) return { from: copy.from, to: copy.node, move: copy.move ?? 0 };
  return current.asked?.find((one) => one.shard === shard);
}

function findMove(current: RegionPlacement, move: number) {
  for (const [shard, own] of current.shards.entries()) {
    for (const copy of own) {
      if (copy.move !== move) continue;
      const isDone = copy.state === 'leaving';
      return { shard, from: isDone ? copy.node : (copy.from as string), held: copy.held === true, isDone };
    }
  }
  const asked = current.asked?.find((one) => one.move === move);
  if (asked !== undefined) return { shard: asked.shard, from: asked.from, held: asked.held === true, isDone: false };
  throw new SilverbackError('NOT_FOUND', `there is no move ${idOf(current.region, { move })} (silverback moves list)`);
}

function checkMovable({ region, moves }: RegionPlacement): void {
  if (moves === 'paused') conflict(`moves of region ${region} are paused (silverback moves resume)`);
}

function checkNode(
  { region, nodes, cordons = {} }: RegionPlacement,
  living: readonly PlannedNode[],
  name: string,
): void {
  if (living.some((node) => node.name === name)) return;
  if (name in nodes || name in cordons) conflict(`node ${name} of region ${region} is gone: no copy can move there`);
  const names = living.map((node) => node.name).sort();
  throw new SilverbackError(
    'NOT_FOUND',
    `region ${region} has no node ${name}; there are ${names.join(', ') || 'none'}`,
  );
}

function sourceOf({ shards, cordons }: RegionPlacement, shard: number, from: string | undefined): string {
  const holders = (shards[shard] as readonly RegionCopy[]).flatMap(({ node, state }) =>
    state === 'active' ? [node] : [],
  );
  const on = holders.length === 0 ? 'none is active' : `they are on ${holders.join(', ')}`;
  if (from !== undefined) {
    if (holders.includes(from)) return from;
    conflict(`shard ${shard} has no active copy on ${from}: ${on}`);
  }
  const [first, ...others] = holders;
  if (first === undefined) conflict(`shard ${shard} has no active copy that could move`);
  if (others.length === 0) return first;
  const drained = holders.filter((node) => isEmptied(cordons?.[node]));
  if (drained.length === 1) return drained[0] as string;
  throw new SilverbackError(
    'INVALID_ARGUMENT',
    `shard ${shard} has several copies, ${on}: --from says which one moves`,
  );
}

/** No zone is to have two copies of a shard where another could take one. */
function checkZones(current: RegionPlacement, living: readonly PlannedNode[], { shard, from, to }: Move): void {
  const zoneOf = (name: string) => living.find((node) => node.name === name)?.zone ?? current.nodes[name]?.zone ?? '';
  const staying = (current.shards[shard] as readonly RegionCopy[]).filter(({ node }) => node !== from);
  const inZone = (zone: string) => staying.filter(({ node }) => zoneOf(node) === zone);
  const own = inZone(zoneOf(to));
  if (own.length === 0) return;
  const better = living.find(
    ({ name, zone }) =>
      current.cordons?.[name] === undefined &&
      inZone(zone).length < own.length &&
      staying.every(({ node }) => node !== name),
  );
  if (better === undefined) return;
  const there = `${own.map(({ node }) => node).join(', ')} in the same zone (${zoneOf(to)})`;
  conflict(`shard ${shard} has a copy on ${there} as ${to}, and ${better.name} in zone ${better.zone} could take it`);
}

function conflict(message: string): never {
  throw new SilverbackError('CONFLICT', message);
}
