/** What an operator of the simulated cluster does, and how all of it is taken back. */
import { KEYS } from '../../core/meta/keys.ts';
import { orderMoves, rebalance, setCordon, switchMove, switchMoves } from '../../core/meta/operate.ts';
import type { MoveOrder } from '../../core/meta/orders.ts';
import type { Entry, MetaStore } from '../../core/meta/store.ts';
import { readPlacement } from '../../core/meta/written.ts';
import type { Seeded } from '../sim/random.ts';

/** Rejects where it is refused. */
type Order = () => Promise<unknown>;

/** Numbers of moves that are tried. */
const MOVE_COUNT = 10;

export function ordersOf(random: Seeded, store: MetaStore, region: string, name: string): readonly Order[] {
  return [
    () => setCordon(store, region, name, 'draining'),
    () => setCordon(store, region, name, 'cordoned'),
    () => setCordon(store, region, name, undefined),
    () => switchMoves(store, region, random.pick(['on', 'paused', 'off'])),
  ];
}

/** Of single shards and moves. Mostly a shard is to move. */
export function ordersByHand(random: Seeded, store: MetaStore, region: string, order: MoveOrder): readonly Order[] {
  const id = `${region}/${random.int(1, MOVE_COUNT)}`;
  const mode = random.pick(['on', 'paused', 'off'] as const);
  const move = () => orderMoves(store, region, order);
  return [move, move, move, () => rebalance(store, region), () => switchMove(store, region, id, mode)];
}

export async function takeAllBack(store: MetaStore, region: string, names: readonly string[]): Promise<void> {
  await switchMoves(store, region, 'on');
  const entry = await store.get(KEYS.placement(region));
  const { shards, asked = [] } = readPlacement(entry as Entry);
  for (const { move, held } of [...shards.flat(), ...asked]) {
    if (held) await switchMove(store, region, `${region}/${move}`, 'on').catch(() => undefined);
  }
  // One that never came to registering is not known.
  for (const name of names) await setCordon(store, region, name, undefined).catch(() => undefined);
}
