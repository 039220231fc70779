/**
 * What moves when nodes join and leave a region, against the least that must: the placer's own decisions (core/meta/moves.ts), step by
 * step until it wants no more, over simulated nodes and sizes of shards. Deterministic.
 *
 *     npm run bench -- balance [--nodes 10] [--shards 1024] [--series 1000000]
 *
 * A shard's size is that of its series, which hashing spreads; a series has 1 to 100 samples a minute, most of them few. The
 * least: what nodes that join hold in the end came there, and of one that leaves all goes.
 */
import { parseArgs } from 'node:util';
import { type Moved, SimRegion } from '../test/meta/growth.ts';
import { Seeded } from '../test/sim/random.ts';

export async function run(args: string[]): Promise<void> {
  const { values: flags } = parseArgs({
    args,
    options: {
      nodes: { type: 'string', default: '10' },
      shards: { type: 'string', default: '1024' },
      series: { type: 'string', default: '1000000' },
    },
  });
  const [nodeCount, shardCount, seriesCount] = [Number(flags.nodes), Number(flags.shards), Number(flags.series)];
  const sizes = sizesOf(shardCount, seriesCount);
  const [smallest, largest] = [Math.min(...sizes), Math.max(...sizes)];
  console.log(
    `${nodeCount} nodes, ${shardCount} shards of ${smallest.toFixed(0)} to ${largest.toFixed(0)} (${seriesCount} series)`,
  );
  for (const copies of [1, 2, 3]) {
    const region = new SimRegion(nodeCount, sizes, copies);
    const held = (names: readonly string[]) => region.bytes(names.flatMap((name) => region.shardsOf(name)));
    for (const names of [['new'], ['e-1', 'e-2', 'e-3', 'e-4']]) {
      const moved = region.join(...names);
      report(`${copies} copies, ${names.length} joined`, moved, held(names));
    }
    const least = held(['new']);
    report(`${copies} copies, a node was drained`, region.drain('new'), least);
  }
}

function report(what: string, { moves, bytes }: Moved, least: number): void {
  console.log(
    `${what}: ${moves} moves, ${bytes.toFixed(0)} against ${least.toFixed(0)} (${((100 * bytes) / least - 100).toFixed(1)} %)`,
  );
}

function sizesOf(shardCount: number, seriesCount: number): number[] {
  const random = new Seeded(1);
  const sizes = new Array<number>(shardCount).fill(0);
  for (let i = 0; i < seriesCount; i++) {
    const shard = random.int(0, shardCount);
    sizes[shard] = (sizes[shard] as number) + 100 ** random.next();
  }
  return sizes;
}
