/** What operators may ask of a placement, and what they are told when it cannot be done. */
import { describe, expect, test } from 'vitest';
import {
  evenMoves,
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
} from '../../core/meta/orders.ts';
import type { RegionCopy, RegionPlacement } from '../../core/meta/region.ts';

const LIVING = ['a', 'b', 'c'].map((name) => ({ name, zone: `zone-${name}` }));

function placementOf(shards: readonly (readonly RegionCopy[])[], rest: Partial<RegionPlacement> = {}): RegionPlacement {
  const nodes = Object.fromEntries(
    [...new Set(shards.flat().map(({ node }) => node))].map((name) => [
      name,
      { zone: `zone-${name}`, address: `${name}:1` },
    ]),
  );
  return { clusterId: 'c', shardCount: shards.length, region: 'r', copies: 1, moves: 'on', nodes, shards, ...rest };
}

const active = (node: string, epoch = 1): RegionCopy => ({ node, state: 'active', epoch });
const FOUR = placementOf([[active('a')], [active('b')], [active('a')], [active('b')]]);
/** Shard 0 moves from a to c, shard 1 will from b to c. */
const BUSY: RegionPlacement = {
  ...withAsked(FOUR, [{ shard: 1, from: 'b', to: 'c', cause: 'order' }]),
  lastMove: 2,
  shards: [
    [active('a'), { node: 'c', state: 'joining', epoch: 2, fill: true, from: 'a', move: 2, cause: 'balance' }],
    ...FOUR.shards.slice(1),
  ],
};

describe('moves that are asked for', () => {
  test('are numbered, and wait', () => {
    const moves = orderedMoves(FOUR, LIVING, { shards: [2, 0], to: 'c' });
    const next = withAsked({ ...FOUR, lastMove: 7 }, moves);
    expect(next.asked).toEqual([
      { move: 8, shard: 2, from: 'a', to: 'c', cause: 'order' },
      { move: 9, shard: 0, from: 'a', to: 'c', cause: 'order' },
    ]);
    expect(next.lastMove).toBe(9);
    expect(next.shards).toBe(FOUR.shards);
  });

  const twice = placementOf([[active('a'), active('b')]], { copies: 2 });
  const order = (rest: Partial<MoveOrder> = {}): MoveOrder => ({ shards: [0], to: 'c', ...rest });
  test.each<[string, RegionPlacement, MoveOrder, string]>([
    ['no shards', FOUR, order({ shards: [] }), 'no shard is named'],
    ['a shard that is not', FOUR, order({ shards: [4] }), '4 is not a shard: they are 0 to 3'],
    ['a shard named twice', FOUR, order({ shards: [1, 1] }), 'shard 1 is named twice'],
    ['a node that is not', FOUR, order({ to: 'x' }), 'region r has no node x; there are a, b, c'],
    ['a source that is not', FOUR, order({ from: 'x' }), 'region r has no node x; there are a, b, c'],
    ['the wrong source', FOUR, order({ from: 'b' }), 'shard 0 has no active copy on b: they are on a'],
    ['where it is', FOUR, order({ to: 'a' }), 'shard 0 has a copy on a already'],
    ['several copies', twice, order(), 'shard 0 has several copies, they are on a, b: --from says which one moves'],
    ['under way', BUSY, order({ to: 'b' }), 'shard 0 is on its way from a to c already, by move r/2'],
    ['asked for', BUSY, order({ shards: [1] }), 'shard 1 is on its way from b to c already, by move r/1'],
    ['held moves', { ...FOUR, moves: 'paused' }, order(), 'moves of region r are paused (silverback moves resume)'],
    [
      'a cordon',
      { ...FOUR, cordons: { c: 'cordoned' } },
      order(),
      'node c of region r is cordoned and gets no copies (silverback nodes uncordon c)',
    ],
    [
      'a node that is gone',
      placementOf([[active('a')], [active('d')]]),
      order({ to: 'd' }),
      'node d of region r is gone: no copy can move there',
    ],
    [
      'a copy that leaves',
      placementOf([[active('a'), { node: 'c', state: 'leaving', epoch: 2 }]]),
      order(),
      'shard 0 has a copy on c that is leaving: wait until it is not',
    ],
  ])('%s is refused', (_, placement, asked, message) => {
    expect(() => orderedMoves(placement, LIVING, asked)).toThrow(message);
  });

  test('not two copies into one zone where another could take one', () => {
    const living = [...LIVING, { name: 'd', zone: 'zone-b' }];
    const two = placementOf([[active('a'), active('b')]], { copies: 2 });
    expect(() => orderedMoves(two, living, { shards: [0], from: 'a', to: 'd' })).toThrow(
      'shard 0 has a copy on b in the same zone (zone-b) as d, and a in zone zone-a could take it',
    );
    expect(orderedMoves(two, living, { shards: [0], from: 'b', to: 'd' })).toHaveLength(1);
  });

  test('evenness moves what was put by hand; not while a node is away', () => {
    const pinned: RegionCopy = { ...active('a'), pinned: true };
    const uneven = placementOf([[pinned], [pinned], [pinned], [active('b')]]);
    const moves = evenMoves(uneven, LIVING.slice(0, 2));
    expect(moves).toEqual([{ shard: expect.any(Number), from: 'a', to: 'b', cause: 'rebalance' }]);
    expect(
      withoutPins(uneven)
        .shards.flat()
        .some((copy) => copy.pinned),
    ).toBe(false);
    expect(() => evenMoves(uneven, LIVING.slice(0, 1))).toThrow('b of region r is away: wait, or declare lost');
  });
});

describe('one move', () => {
  test('is called off: what has not begun never does, what has leaves, and does not begin again', () => {
    expect(withoutMove(BUSY, 1).asked).toBeUndefined();
    expect(withoutMove(BUSY, 1).shards[1]).toEqual([{ ...active('b'), pinned: true }]);
    const [own] = withoutMove(BUSY, 2).shards;
    expect(own).toEqual([
      { ...active('a'), pinned: true },
      { node: 'c', state: 'leaving', epoch: 3 },
    ]);
    expect(() => withoutMove(BUSY, 3)).toThrow('there is no move r/3 (silverback moves list)');
  });

  test('is held, and goes on', () => {
    const held = withHeldMove(BUSY, 2, true) as RegionPlacement;
    expect(held.shards[0]?.[1]?.held).toBe(true);
    expect(withHeldMove(held, 2, true)).toBeUndefined();
    expect(withHeldMove(held, 2, false)).toEqual(BUSY);
    expect(withHeldMove(BUSY, 1, true)?.asked?.[0]?.held).toBe(true);
  });

  test('not when it is too late, or would begin again', () => {
    const done = placementOf([[active('c', 3), { node: 'a', state: 'leaving', epoch: 4, move: 2 }]]);
    const late = 'move r/2: shard 0 has moved, and a delivers what it still owes';
    expect(() => withoutMove(done, 2)).toThrow(late);
    expect(() => withHeldMove(done, 2, true)).toThrow(late);
    expect(() => withoutMove({ ...BUSY, cordons: { a: 'draining' } }, 2)).toThrow(
      'move r/2 would begin again, because a is draining: silverback nodes uncordon a ends that',
    );
  });
});

test('all moves are called off, whoever asked for them', () => {
  const off = withMoves(BUSY, 'off') as RegionPlacement;
  expect(off.moves).toBe('off');
  expect(off.asked).toBeUndefined();
  expect(off.shards[0]?.[1]).toEqual({ node: 'c', state: 'leaving', epoch: 3 });
  expect(withMoves(off, 'off')).toBeUndefined();
});

describe('nodes', () => {
  test('what has not begun to go to a node with a cordon never will', () => {
    expect(withCordon(BUSY, 'c', 'cordoned')?.asked).toBeUndefined();
    expect(withCordon(BUSY, 'b', 'cordoned')?.asked).toHaveLength(1);
  });

  test('are removed when they have nothing; marked while they run', () => {
    expect(() => withoutEmptyNode(FOUR, 'a', true)).toThrow(
      'node a of region r has copies of shards 0, 2: it has to be drained first (silverback nodes drain a)',
    );
    expect(() => withoutEmptyNode(FOUR, 'x', false)).toThrow('region r has no node x');
    const drained: RegionPlacement = { ...FOUR, cordons: { c: 'draining' } };
    expect(withoutEmptyNode(drained, 'c', false)).toEqual(FOUR);
    const marked = withoutEmptyNode(drained, 'c', true) as RegionPlacement;
    expect(marked.cordons).toEqual({ c: 'removed' });
    expect(withoutEmptyNode(marked, 'c', true)).toBeUndefined();
    expect(() => orderedMoves(marked, LIVING, { shards: [0], to: 'c' })).toThrow('node c of region r is removed');
  });

  test('that are lost leave no cordon, and no move to wait for', () => {
    const lost = withoutNode({ ...BUSY, cordons: { b: 'draining', c: 'cordoned' } }, 'b') as RegionPlacement;
    expect(lost.cordons).toEqual({ c: 'cordoned' });
    expect(lost.asked).toBeUndefined();
    expect(lost.shards[1]).toEqual([]);
  });
});
