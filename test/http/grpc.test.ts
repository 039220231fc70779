import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StaticPlacement } from '../../client/placement.ts';
import { addClusterService } from '../../coordinator/grpc.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { Channel, RpcServer } from '../../core/grpc.ts';
import type { Placement } from '../../core/placement.ts';
import { clusterService, type PlacementReply } from '../../core/protocol.ts';
import { type Fixture, serve, stored } from './fixture.ts';

const copy = { region: 'local', zone: 'a', node: 'node-1', address: '127.0.0.1:1', state: 'active', epoch: 1 } as const;
const placementOf = (revision: number): Placement => ({
  clusterId: 'c',
  shardCount: 2,
  revision,
  copies: [[copy], [copy]],
});

let fixture: Fixture;
let rpc: RpcServer;
let channel: Channel;
let placement: StaticPlacement;

beforeEach(async () => {
  fixture = await serve();
  placement = new StaticPlacement(placementOf(1));
  rpc = new RpcServer();
  addClusterService(rpc, placement, fixture.api, async () => undefined);
  const port = await rpc.listen('127.0.0.1:0');
  channel = new Channel(`127.0.0.1:${port}`, { clock: nodeEnv.clock, caller: 'test' });
});
afterEach(async () => {
  channel.close();
  rpc.stop();
  await fixture.close();
});

describe('Cluster', () => {
  it('sends the placement at once, then each change', async () => {
    const seen: PlacementReply[] = [];
    const stop = new AbortController();
    const stream = channel.stream(clusterService.Placement, {}, { signal: stop.signal }, (reply) => {
      seen.push(reply);
    });
    await expect.poll(() => seen.length).toBe(1);
    expect(seen[0]).toMatchObject({
      clusterId: 'c',
      shardCount: 2,
      revision: 1,
      shards: [{ copies: [copy] }, { copies: [copy] }],
    });
    placement.set(placementOf(2));
    await expect.poll(() => seen.at(-1)?.revision).toBe(2);
    stop.abort();
    await expect(stream).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  it('answers queries as the HTTP API does', async () => {
    fixture.store.series_ = [
      stored({ __name__: 'up' }, [
        [1_000_000, 1],
        [1_015_000, 2],
      ]),
    ];
    const ask = async (request: Partial<Parameters<typeof clusterService.Query.requestSerialize>[0]>) => {
      const { status, body } = await channel.unary(
        clusterService.Query,
        { query: 'up', timeMs: 0, startMs: 0, endMs: 0, stepMs: 0, region: '', ...request },
        { timeoutMs: 5000 },
      );
      return { status, json: JSON.parse(Buffer.from(body).toString()) as unknown };
    };
    const path = '/api/v1/query?query=up&time=1015.5';
    expect(await ask({ timeMs: 1_015_500 })).toEqual({
      status: 200,
      json: await (await fetch(fixture.url + path)).json(),
    });
    expect(await ask({ startMs: 1_000_000, endMs: 1_015_000, stepMs: 15_000 })).toMatchObject({
      status: 200,
      json: {
        data: {
          resultType: 'matrix',
          result: [
            {
              values: [
                [1000, '1'],
                [1015, '2'],
              ],
            },
          ],
        },
      },
    });
    await ask({ region: 'east' });
    expect(fixture.store.askedRegions.at(-1)).toBe('east');
    expect(await ask({ query: 'up(' })).toMatchObject({ status: 400, json: { errorType: 'bad_data' } });
  });
});
