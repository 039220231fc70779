/** Copies that are on their way, and what they wait for. Plain data, as the HTTP API gives it. */
import { isHeld, isMove, Load, nextMoves } from '../../core/meta/moves.ts';
import { idOf } from '../../core/meta/orders.ts';
import type { MoveCause, RegionCopy, RegionPlacement } from '../../core/meta/region.ts';
import type { Found } from './survey.ts';

/** A copy that is to be filled, is being filled, or delivers what it has before it goes. */
export interface MoveReport {
  /** Null: the copy stands in for one that is gone. */
  readonly id: string | null;
  readonly shard: number;
  readonly region: string;
  /** Where the copy is. Of a waiting one: where it will be. */
  readonly node: string;
  readonly state: 'waiting' | 'joining' | 'leaving';
  /** Of waiting and joining ones: the node that it comes from. */
  readonly from: string | null;
  readonly cause: MoveCause | null;
  /** Goes no further for now. */
  readonly held: boolean;
  /** What it waits for, else empty. */
  readonly waitsFor: string;
  readonly filledWindows: number;
  readonly windows: number;
  readonly samples: number;
  /** Brought so far, in this life of its node. */
  readonly bytes: number;
}

/** How filling a copy goes. */
interface Filling {
  readonly shard: number;
  readonly region: string;
  readonly node: string;
  readonly filledWindows: number;
  readonly fillWindows: number;
  readonly bytes: number;
}

/** Moves in a region. */
export interface RegionMoves {
  readonly region: string;
  /** on, paused, off. */
  readonly moves: string;
  readonly joining: number;
  readonly leaving: number;
  readonly waiting: number;
  readonly draining: readonly DrainReport[];
  /** Nodes that get no copies, whether they are there or not. */
  readonly cordons: readonly { readonly node: string; readonly cordon: string }[];
}

export interface DrainReport {
  readonly node: string;
  /** Shards that have a copy there. */
  readonly shards: readonly number[];
  /** Why nothing moves away from it now, else empty. */
  readonly waitsFor: string;
}

const PAUSED = 'moves are paused (silverback moves resume)';
const OFF = 'moves are off (silverback moves resume)';

export function moveReports(found: Found, repairs: readonly Filling[]): MoveReport[] {
  return (found.regions ?? []).flatMap((placement) => {
    const { region, moves, shards, asked = [] } = placement;
    const rows = shards.flatMap((own, shard) =>
      own.flatMap((copy): MoveReport[] => {
        const { node, state, move, from, cause } = copy;
        if (state === 'active') return [];
        const repair = repairs.find((one) => one.shard === shard && one.region === region && one.node === node);
        const held = isMove(copy, own) && isHeld(copy, moves);
        return [
          {
            id: move === undefined ? null : idOf(region, { move }),
            shard,
            region,
            node,
            state,
            from: from ?? null,
            cause: cause ?? null,
            held,
            waitsFor: waitsFor(found, placement, shard, copy, held),
            filledWindows: repair?.filledWindows ?? 0,
            windows: repair?.fillWindows ?? 0,
            samples: samplesOf(found, region, node, shard),
            bytes: repair?.bytes ?? 0,
          },
        ];
      }),
    );
    const load = new Load(shards);
    const waiting = asked.map(({ move, shard, from, to, cause, held }): MoveReport => {
      const none = { filledWindows: 0, windows: 0, samples: 0, bytes: 0 };
      const own = shards[shard] as readonly RegionCopy[];
      const gone = [from, to].find((node) => !isThere(found, region, node));
      const busy = [from, to].find((node) => !load.takes(node));
      let why = '';
      if (moves === 'paused') why = PAUSED;
      else if (held) why = 'it is held';
      else if (gone !== undefined) why = `${gone} is gone`;
      else if (own.some(({ state }) => state !== 'active')) why = 'another copy of the shard is on its way';
      else if (busy !== undefined) why = `${busy} takes part in other moves`;
      const isStopped = moves === 'paused' || held === true;
      const id = idOf(region, { move });
      return { id, shard, region, node: to, state: 'waiting', from, cause, held: isStopped, waitsFor: why, ...none };
    });
    return [...rows, ...waiting];
  });
}

export function regionMoves(found: Found): RegionMoves[] {
  return (found.regions ?? []).map((placement) => {
    const { region, moves, shards, asked = [], cordons = {} } = placement;
    const count = (state: RegionCopy['state']) => shards.flat().filter((copy) => copy.state === state).length;
    return {
      region,
      moves,
      joining: count('joining'),
      leaving: count('leaving'),
      waiting: asked.length,
      draining: Object.entries(cordons)
        .filter(([, cordon]) => cordon === 'draining')
        .map(([node]) => drainReport(found, placement, node)),
      cordons: Object.entries(cordons).map(([node, cordon]) => ({ node, cordon })),
    };
  });
}

function drainReport(found: Found, placement: RegionPlacement, node: string): DrainReport {
  const shards = placement.shards.flatMap((own, shard) => (own.some((copy) => copy.node === node) ? [shard] : []));
  return { node, shards, waitsFor: shards.length === 0 ? '' : drainWaitsFor(found, placement, node) };
}

function drainWaitsFor(found: Found, placement: RegionPlacement, node: string): string {
  const { region, moves, shards, copies, cordons, asked } = placement;
  if (!isThere(found, region, node)) return `${node} is gone: start it, and its draining goes on`;
  if (moves === 'paused') return PAUSED;
  if (shards.some((own) => own.some((copy) => copy.node === node && copy.state === 'leaving'))) return '';
  const arriving = shards.flatMap((own) => own.filter((copy) => isMove(copy, own) && copy.from === node));
  const gone = arriving.find((copy) => !isThere(found, region, copy.node));
  if (gone !== undefined && arriving.length === 1) return `${gone.node} is gone, where a copy is on its way to`;
  if (arriving.some((copy) => !isHeld(copy, moves))) return '';
  if (moves === 'off') return OFF;
  if (arriving.length > 0) return `the moves of ${node} are held (silverback moves resume ID)`;
  const away = shards.flat().find((copy) => copy.state !== 'leaving' && !isThere(found, region, copy.node));
  if (away !== undefined) return `${away.node} is away: copies move when it is back or declared lost`;
  if (shards.some((own) => own.filter(({ state }) => state === 'active').length < copies)) {
    return 'other shards have fewer copies than they should, which come first';
  }
  const nodes = found.nodes.filter((one) => one.region === region && one.isRegistered !== false);
  const next = nextMoves({ nodes, shards, copies, cordons, asked, isUnbounded: true });
  if (next.some(({ from }) => from === node)) return '';
  return 'no other node without a cordon may take what it has';
}

function waitsFor(
  { nodes, regions: _, ...rest }: Found,
  placement: RegionPlacement,
  shard: number,
  copy: RegionCopy,
  held: boolean,
): string {
  const { region, moves, shards } = placement;
  if (held) return moves === 'paused' ? PAUSED : 'it is held';
  if (!isThere({ nodes, ...rest }, region, copy.node)) return `${copy.node} is gone`;
  if (copy.state === 'joining' && copy.fill !== true) return 'the node that it stands in for may be back soon';
  const own = shards[shard] as readonly RegionCopy[];
  const others = own.filter((one) => one !== copy && !isThere({ nodes, ...rest }, region, one.node));
  if (copy.state === 'leaving' && others.length > 0) return `${others.map((one) => one.node).join(', ')}: gone`;
  return '';
}

function isThere({ nodes }: Pick<Found, 'nodes'>, region: string, name: string): boolean {
  return nodes.some((node) => node.region === region && node.name === name && node.isRegistered !== false);
}

function samplesOf({ nodes }: Pick<Found, 'nodes'>, region: string, name: string, shard: number): number {
  const node = nodes.find((one) => one.region === region && one.name === name);
  return node?.status?.shards.find((one) => one.shard === shard)?.samples ?? 0;
}
