import { afterEach, describe, expect, it } from 'vitest';
import { FollowedPlacement, preferred, toReply } from '../../client/placement.ts';
import { RpcServer } from '../../core/grpc.ts';
import type { CopyState, Placement } from '../../core/placement.ts';
import { clusterService } from '../../core/protocol.ts';
import { env, placementOf } from './fake.ts';

const closers: (() => void)[] = [];

afterEach(() => {
  for (const close of closers.splice(0).reverse()) close();
});

/** A coordinator that sends these placements and then nothing more. */
async function coordinator(placements: readonly Placement[]): Promise<string> {
  const server = new RpcServer().stream(clusterService.Placement, async (_, call) => {
    for (const placement of placements) await call.send(toReply(placement));
    await new Promise((resolve) => call.signal.addEventListener('abort', resolve));
  });
  closers.push(() => server.stop());
  return `127.0.0.1:${await server.listen('127.0.0.1:0')}`;
}

function follow(...endpoints: string[]): FollowedPlacement {
  const placement = new FollowedPlacement({ env, endpoints, caller: 'test', refreshMs: 2_000 });
  closers.push(() => placement.close());
  return placement;
}

const revision = (count: number) => placementOf([['a:1'], ['b:1']], count);

async function seen(view: FollowedPlacement, count: number): Promise<void> {
  while (view.current()?.revision !== count) await new Promise((resolve) => setTimeout(resolve, 5));
}

describe('a followed placement', () => {
  it('goes on to the next endpoint by itself, and tells of each change', async () => {
    const view = follow('127.0.0.1:1', await coordinator([revision(1), revision(2)]));
    const told: number[] = [];
    view.onChange((placement) => told.push(placement.revision));
    await seen(view, 2);
    expect(told).toEqual([1, 2]);
    expect(view.current()).toEqual(revision(2));
  });

  it('never goes back: a coordinator that lags changes nothing', async () => {
    const view = follow(await coordinator([revision(5), revision(3), revision(5)]));
    const told: number[] = [];
    view.onChange((placement) => told.push(placement.revision));
    expect((await view.refresh()).revision).toBe(5);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(view.current()?.revision).toBe(5);
    expect(told).toEqual([5]);
  });

  it('answers a refresh with the first that answers, and says why when nobody does', async () => {
    const view = follow('127.0.0.1:1', await coordinator([revision(4)]), await coordinator([]));
    expect((await view.refresh()).revision).toBe(4);
    await expect(follow('127.0.0.1:1').refresh()).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: /127\.0\.0\.1:1.*ECONNREFUSED/,
    });
  });
});

describe('preferred copies', () => {
  it('are at home, whole, and of a state that serves', () => {
    const copy = (node: string, region: string, state: CopyState) => ({
      region,
      zone: 'z',
      node,
      address: node,
      state,
      epoch: 1,
    });
    const copies = [
      copy('1', 'far', 'active'),
      copy('2', 'home', 'joining'),
      copy('3', 'home', 'leaving'),
      copy('4', 'home', 'active'),
    ];
    const names = (region: string | undefined, states: CopyState[]) =>
      preferred(copies, region, states).map(({ node }) => node);
    expect(names('home', ['active', 'joining'])).toEqual(['4', '2', '1']);
    expect(names('home', ['active', 'leaving', 'joining'])).toEqual(['4', '3', '2', '1']);
    expect(names(undefined, ['active', 'joining'])).toEqual(['1', '4', '2']);
  });
});
