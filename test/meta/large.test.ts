/** The largest cluster there shall be: 1,000 nodes and 16,384 shards with three copies, in each of two regions. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { nodeEnv } from '../../core/env/node.ts';
import { openEmbeddedMeta } from '../../core/meta/embedded.ts';
import { connectEtcd } from '../../core/meta/etcd.ts';
import { KEYS } from '../../core/meta/keys.ts';
import { switchMoves } from '../../core/meta/operate.ts';
import { keepPlacement } from '../../core/meta/placer.ts';
import type { MetaStore } from '../../core/meta/store.ts';
import { openView } from '../../core/meta/view.ts';
import { readPlacement } from '../../core/meta/written.ts';
import { ETCD, EtcdServer } from './etcd-server.ts';
import { eventually } from './observe.ts';

const NODES = 1_000;
const SHARDS = 16_384;
const COPIES = 3;
const REGIONS = ['east', 'west'];

async function comesUp(store: MetaStore, other: MetaStore): Promise<void> {
  for (const region of REGIONS) {
    const lease = await store.grantLease(600_000);
    for (let from = 0; from < NODES; from += 100) {
      const changes = Array.from({ length: 100 }, (_, i) => {
        const name = `node-${from + i}`;
        const member = { name, region, zone: `zone-${(from + i) % 10}`, address: `10.0.${(from + i) >> 8}.${i}:9191` };
        return { put: KEYS.node(region, name), value: JSON.stringify(member), lease };
      });
      await store.commit([], changes);
    }
  }
  const said: string[] = [];
  const placers = REGIONS.map((region) =>
    keepPlacement(nodeEnv, store, {
      ...{ clusterId: 'c', shardCount: SHARDS, region, name: 'test', expectedNodes: NODES, copies: COPIES },
      ...{ leaseTtlMs: 60_000, graceMs: 600_000, say: () => undefined, warn: (message) => void said.push(message) },
    }),
  );
  const view = openView(nodeEnv, other);
  const placement = await eventually(() => {
    expect(said).toEqual([]);
    const current = view.current();
    expect(current?.copies[0]).toHaveLength(2 * COPIES);
    return current!;
  });
  expect(placement.copies).toHaveLength(SHARDS);
  for (const copies of placement.copies) {
    for (const region of REGIONS) {
      const own = copies.filter((copy) => copy.region === region);
      expect(own).toHaveLength(COPIES);
      expect(new Set(own.map(({ zone }) => zone)).size).toBe(COPIES);
      expect(own.every(({ address, state }) => address.startsWith('10.0.') && state === 'active')).toBe(true);
    }
  }
  // Who changes it does so in whole, on what he has seen.
  const before = (await store.get(KEYS.placement('east')))!;
  await switchMoves(store, 'east', 'paused');
  await expect(
    other.commit([{ key: before.key, revision: before.revision }], [{ put: before.key, value: before.value }]),
  ).rejects.toMatchObject({ code: 'CONFLICT' });
  await eventually(() => expect(view.current()!.revision).toBeGreaterThan(placement.revision));
  expect(view.current()!.copies).toEqual(placement.copies);
  const after = (await other.get(before.key))!;
  expect(after.value.length).toBeLessThan(1 << 18);
  expect(readPlacement(after)).toEqual({ ...readPlacement(before), moves: 'paused' });
  view.close();
  for (const placer of placers) await placer.close();
}

describe('1,000 nodes and 16,384 shards, three copies each, in two regions', { timeout: 180_000 }, () => {
  test('in the embedded store, over a restart', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'silverback-large-'));
    const store = await openEmbeddedMeta(nodeEnv, directory);
    await comesUp(store, store);
    const { entries } = await store.range('placement/');
    await store.close();
    const again = await openEmbeddedMeta(nodeEnv, directory);
    expect((await again.range('placement/')).entries).toEqual(entries);
    await again.close();
    await rm(directory, { recursive: true });
  });

  test.skipIf(ETCD === undefined)('in etcd', async () => {
    const server = await EtcdServer.start();
    const [store, other] = [0, 1].map(() =>
      connectEtcd(nodeEnv, { endpoints: [server.address], prefix: 'large/', timeoutMs: 20_000 }),
    ) as [MetaStore, MetaStore];
    await comesUp(store, other);
    await store.close();
    await other.close();
    await server.stop();
  });
});
