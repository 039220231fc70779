import { afterEach, expect, test } from 'vitest';
import { StaticPlacement } from '../../client/placement.ts';
import { Survey } from '../../coordinator/cluster/survey.ts';
import { Readiness } from '../../coordinator/query/readiness.ts';
import { Channels } from '../../core/channels.ts';
import type { Env } from '../../core/env/env.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { RpcServer } from '../../core/grpc.ts';
import type { Placement } from '../../core/placement.ts';
import { type ShardStatus, type StatusReply, shardsService } from '../../core/protocol.ts';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

const MINUTE = 60_000;

/** A node that says of its two shards what it is told to. */
class Node {
  state = 'serving';
  address = '';
  #server: RpcServer | undefined;

  async start(): Promise<void> {
    this.#server = new RpcServer();
    this.#server.unary(shardsService.Status, async () => ({
      node: 'n',
      version: 'test',
      ready: true,
      shards: [0, 1].map((shard) => ({ shard, state: this.state }) as ShardStatus),
      ...({} as Omit<StatusReply, 'node' | 'version' | 'ready' | 'shards'>),
    }));
    this.address = `127.0.0.1:${await this.#server.listen(this.address || '127.0.0.1:0')}`;
    closers.push(() => this.stop());
  }

  stop(): void {
    this.#server?.stop();
    this.#server = undefined;
  }
}

function placementOf(addresses: Readonly<Record<string, string>>): Placement {
  const copies = Object.entries(addresses).map(
    ([region, address]) => ({ region, zone: 'z', node: 'n', address, state: 'active', epoch: 1 }) as const,
  );
  return { clusterId: 'c', shardCount: 2, revision: 1, copies: [copies, copies] };
}

test('the first time every region has to be placed and recovered, later a copy of each shard is enough', async () => {
  const [east, west] = [new Node(), new Node()];
  await east.start();
  await west.start();
  const placement = new StaticPlacement(placementOf({ east: east.address }));
  let aheadMs = 0;
  const clock = { ...nodeEnv.clock, monotonicMs: () => nodeEnv.clock.monotonicMs() + aheadMs };
  const env: Env = { ...nodeEnv, clock };
  const open = () => {
    const channels = new Channels({ env, caller: 'test' });
    closers.push(() => channels.close());
    const survey = new Survey({ channels, placement, timeoutMs: 10_000 });
    return new Readiness({ clock, survey, regions: ['east', 'west'] });
  };
  const readiness = open();
  expect(await readiness.missing()).toMatch(/^not ready: the shards of region west are not placed yet/);
  placement.set(placementOf({ east: east.address, west: west.address }));
  west.state = 'recovering';
  aheadMs = 10 * MINUTE;
  expect(await readiness.missing()).toBe('not ready: 2 of 2 shards of region west have not recovered yet');
  west.state = 'serving';
  expect(await readiness.missing()).toBeUndefined();
  west.state = 'recovering';
  expect(await readiness.missing()).toBeUndefined();
  east.state = 'recovering';
  expect(await readiness.missing()).toBe('not ready: 2 of 2 shards are not served yet');

  // A region that does not answer at all is not waited for for ever.
  [east.state, west.state] = ['serving', 'serving'];
  west.stop();
  const later = open();
  expect(await later.missing()).toMatch(
    new RegExp(`^not ready: 2 of 2 shards of region west have not recovered yet; ${west.address}: `),
  );
  aheadMs += 2 * MINUTE;
  expect(await later.missing()).toBeUndefined();
});

test('a node that came back at another address is waited for until the placement says so', async () => {
  const status = { node: 'n', shards: [0, 1].map((shard) => ({ shard, state: 'serving' })) } as unknown as StatusReply;
  const found = (placed: string) => ({
    placement: placementOf({ east: placed }),
    nodes: [
      { name: 'n', region: 'east', zone: 'z', address: 'new:1', isRegistered: true, status, problem: '' } as const,
    ],
  });
  const readiness = new Readiness({ clock: nodeEnv.clock, survey: { ask: async () => found('new:1') } });
  expect(readiness.judge(found('old:1'))).toBe(
    'not ready: 2 of 2 shards are not served yet; new:1: placed at old:1 until now',
  );
  expect(await readiness.missing()).toBeUndefined();
});
