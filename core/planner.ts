/**
 * Which node owns which shard: a pure function of the nodes and of what there was before. Balanced: no node has two
 * shards more than another. Minimal: no assignment moves fewer shards and is balanced.
 */

/**
 * @param nodes names, without repeats; their order does not matter
 * @param shardCount shards 0 to shardCount - 1 are assigned
 * @param current owner by shard, undefined where there is none; an owner that is not in `nodes` is gone
 * @returns owner by shard
 */
export function planOwners(
  nodes: readonly string[],
  shardCount: number,
  current: readonly (string | undefined)[] = [],
): string[] {
  if (nodes.length === 0) throw new RangeError('planOwners: there are no nodes');
  const owned = new Map<string, number[]>([...nodes].sort(byCodeUnits).map((node) => [node, []]));
  if (owned.size !== nodes.length) throw new RangeError(`planOwners: a node is named twice in ${nodes.join(', ')}`);
  const homeless: number[] = [];
  for (let shard = 0; shard < shardCount; shard++) {
    const owner = current[shard];
    (owner === undefined ? homeless : (owned.get(owner) ?? homeless)).push(shard);
  }

  // Some nodes get one shard more than the others. Those that have most already are those that need to give up least.
  const least = Math.floor(shardCount / nodes.length);
  const withOneMore = shardCount % nodes.length;
  const fullestFirst = [...owned].sort(([, a], [, b]) => b.length - a.length);
  const targets = fullestFirst.map(([node, shards], rank) => ({
    node,
    shards,
    target: rank < withOneMore ? least + 1 : least,
  }));

  for (const { shards, target } of targets) homeless.push(...shards.splice(target));
  homeless.sort((a, b) => a - b);
  const owners = new Array<string>(shardCount);
  // Spread the homeless in turns, so that a range of shards does not land on one node.
  for (let turn = 0; homeless.length > 0; turn++) {
    for (const { shards, target } of targets) {
      if (shards.length < target && homeless.length > 0) shards.push(homeless.shift()!);
    }
    if (turn > shardCount) throw new Error('planOwners: targets do not add up to the shards');
  }
  for (const { node, shards } of targets) for (const shard of shards) owners[shard] = node;
  return owners;
}

function byCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
