/** From an empty store to a placement: creation, registration, the placer, the view. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { nodeEnv } from '../../core/env/node.ts';
import { openCluster } from '../../core/meta/cluster.ts';
import { openEmbeddedMeta } from '../../core/meta/embedded.ts';
import { register } from '../../core/meta/member.ts';
import { keepPlacement, type Placer } from '../../core/meta/placer.ts';
import type { MetaStore } from '../../core/meta/store.ts';
import { openView } from '../../core/meta/view.ts';
import { Sim } from '../sim/sim.ts';
import { eventually } from './observe.ts';

/** So long that no stall of the machine ends one: the tests give leases back. */
const TTL_MS = 20_000;

describe('a cluster comes up', () => {
  let store: MetaStore;
  const said: string[] = [];
  const open: { close(): unknown }[] = [];
  beforeEach(async () => {
    said.length = 0;
    const sim = new Sim(1);
    sim.diskMs = 0;
    // A disk in memory, real timers: nothing is written outside the test.
    const view = sim.disk.view((operation) => new Promise((resolve) => resolve(operation())));
    store = await openEmbeddedMeta({ ...nodeEnv, disk: view }, '/meta');
  });
  afterEach(async () => {
    for (const one of open.splice(0)) await one.close();
    await store.close();
  });

  const placer = (expectedNodes: number, region = 'local'): Placer => {
    const options = {
      clusterId: 'c',
      shardCount: 8,
      region,
      name: 'test',
      expectedNodes,
      copies: 1,
      leaseTtlMs: TTL_MS,
    };
    const say = (message: string) => void said.push(message);
    const kept = keepPlacement(nodeEnv, store, { ...options, graceMs: 60_000, say, warn: say });
    open.push(kept);
    return kept;
  };
  const join = (name: string, address: string, region = 'local') => {
    const registration = register(nodeEnv, store, { name, region, zone: 'a', address }, TTL_MS);
    open.push(registration);
    return registration;
  };
  const viewed = () => {
    const view = openView(nodeEnv, store);
    open.push(view);
    return view;
  };

  test('the first to open it decides; shards that differ later are refused', async () => {
    const created = await openCluster(nodeEnv, store, 32);
    expect(created.clusterId).toMatch(/^[0-9a-f]{32}$/);
    expect(await openCluster(nodeEnv, store)).toEqual(created);
    expect(await openCluster(nodeEnv, store, 32)).toEqual(created);
    await expect(openCluster(nodeEnv, store, 16)).rejects.toThrow(
      '--shards 16: this cluster was created with 32 shards',
    );
  });

  test('many that create at once agree', async () => {
    const all = await Promise.all([4, 4, 4, 4].map((shards) => openCluster(nodeEnv, store, shards)));
    expect(new Set(all.map(({ clusterId }) => clusterId)).size).toBe(1);
  });

  test('shards are placed once the expected nodes are there, and stay', async () => {
    const view = viewed();
    await expect(view.refresh()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    placer(2);
    const first = join('node-1', '127.0.0.1:1');
    await first.registered;
    expect(view.current()).toBeUndefined();
    join('node-2', '127.0.0.1:2');
    const placement = await view.ready();
    expect(
      placement.copies.map((copies) => copies.map(({ node, address, epoch }) => `${node} ${address} ${epoch}`)),
    ).toEqual(Array.from({ length: 4 }, () => [['node-1 127.0.0.1:1 1'], ['node-2 127.0.0.1:2 1']]).flat());
    await eventually(() => expect(said).toEqual(['placed 8 shards on node-1, node-2']));

    // A node that goes keeps its shards; one that comes back elsewhere is followed.
    await first.close();
    join('node-1', '127.0.0.1:9');
    await eventually(async () => expect((await view.refresh()).copies[0]?.[0]?.address).toBe('127.0.0.1:9'));
    expect(view.current()?.copies.map((copies) => copies[0]?.node)).toEqual(
      placement.copies.map((copies) => copies[0]?.node),
    );

    // A third one is welcome, and gives an address.
    join('node-3', '127.0.0.1:3');
  });

  test('each region is placed by its own placer; the view shows them together', async () => {
    placer(1, 'east');
    placer(1, 'west');
    join('n', '127.0.0.1:1', 'east');
    join('n', '127.0.0.1:2', 'west');
    const view = viewed();
    await eventually(async () =>
      expect((await view.refresh()).copies[3]?.map(({ region }) => region)).toEqual(['east', 'west']),
    );
  });

  test('of two placers one writes, and the other takes over', async () => {
    const [a, b] = [placer(1), placer(1)];
    join('n', '127.0.0.1:1');
    const view = viewed();
    await view.ready();
    await eventually(() => expect(said).toHaveLength(1));
    await a.close();
    join('n', '127.0.0.1:2');
    await eventually(() => expect(view.current()?.copies[0]?.[0]?.address).toBe('127.0.0.1:2'));
    await b.close();
  });
});
