import { describe, expect, test } from 'vitest';
import { StaticPlacement } from '../../client/placement.ts';
import { reachedAt, viewReachedAt } from '../../core/peers.ts';
import type { Copy, Placement } from '../../core/placement.ts';

const copy = (region: string, node: string, address: string): Copy => ({
  ...{ region, node, address },
  ...{ zone: 'a', state: 'active', epoch: 1 },
});

function placement(revision: number): Placement {
  return {
    ...{ clusterId: 'c', shardCount: 2, revision },
    copies: [[copy('east', 'n', 'a:1'), copy('west', 'n', 'b:1')], [copy('east', 'm', 'a:2')]],
  };
}

const ADDRESSES = new Map([['west/n', 'proxy:9']]);

describe('addresses of peers', () => {
  test('replace those of the nodes they name, and no others', () => {
    const reached = reachedAt(placement(1), ADDRESSES);
    expect(reached.copies.map((copies) => copies.map(({ address }) => address))).toEqual([['a:1', 'proxy:9'], ['a:2']]);
    expect(reached.copies[0]?.[1]).toEqual(copy('west', 'n', 'proxy:9'));
  });

  test('a view gives one object per placement, and tells its listeners the same', async () => {
    const below = new StaticPlacement(placement(1));
    const view = viewReachedAt(below, ADDRESSES);
    expect(view.current()).toBe(view.current());
    expect(await view.refresh()).toBe(view.current());
    const told: Placement[] = [];
    const stop = view.onChange((now) => told.push(now));
    below.set(placement(2));
    expect(told).toEqual([view.current()]);
    expect(told[0]?.copies[0]?.[1]?.address).toBe('proxy:9');
    stop();
    below.set(placement(3));
    expect(told).toHaveLength(1);
  });
});
