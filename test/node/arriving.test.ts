/** A copy on its way to take another's place: it takes no writes as long as that one has been there. */
import { expect, test } from 'vitest';
import type { Copy, Placement } from '../../core/placement.ts';
import { allOn, removeDirectory, serve, temporaryDirectory } from './cluster.ts';

const HERE: Copy = { ...(allOn('n1:1').current().copies[0]?.[0] as Copy), state: 'joining', epoch: 5, from: 'n2' };
const SOURCE: Copy = { ...HERE, node: 'n2', address: 'n2:1', state: 'active', epoch: 4 };

const placed = (...copies: Copy[]): Placement => ({ clusterId: 'c', shardCount: 1, revision: 1, copies: [copies] });

test.each([
  ['beside its source', [SOURCE, HERE], false],
  [
    'once it is active itself',
    [
      { ...SOURCE, state: 'leaving', epoch: 6 },
      { ...HERE, state: 'active', epoch: 7 },
    ],
    true,
  ],
  ['while its source is gone', [{ ...SOURCE, state: 'leaving', epoch: 6 }, HERE], true],
  ['when its source was gone and is back', [{ ...SOURCE, epoch: 7 }, HERE], true],
  ['beside one of that name in another region', [{ ...SOURCE, region: 's' }, HERE], true],
] as const)('it takes writes %s: %#', async (_, copies, takes) => {
  const directory = await temporaryDirectory();
  const served = await serve(directory, { shardCount: 1 });
  const refusal = /shard 0 is still on its way to node n1: another takes its writes/;
  try {
    await served.node.follow(placed(SOURCE, HERE));
    expect(() => served.node.taker(0)).toThrow(refusal);
    await served.node.follow(placed(...copies));
    if (takes) expect(served.node.taker(0)).toBe(served.node.find(0));
    else expect(() => served.node.taker(0)).toThrow(refusal);
  } finally {
    await served.close();
  }
  // It knows after a restart, whoever else is down.
  const again = await serve(directory, { shardCount: 1 });
  try {
    await again.node.resume();
    if (takes) expect(again.node.taker(0)).toBe(again.node.find(0));
    else expect(() => again.node.taker(0)).toThrow(refusal);
  } finally {
    await again.close();
    await removeDirectory(directory);
  }
});
