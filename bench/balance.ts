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
import { nextMoves } from '../core/meta/moves.ts';
import type { Cordon, RegionCopy } from '../core/meta/region.ts';
import { type PlannedNode, planCopies } from '../core/planner.ts';
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
    const region = new Region(nodeCount, sizes, copies);
    const held = (names: readonly string[]) => region.bytes(names.flatMap((name) => region.shardsOf(name)));
    for (const names of [['new'], ['e-1', 'e-2', 'e-3', 'e-4']]) {
      const moved = region.join(...names);
      report(`${copies} copies, ${names.length} joined`, moved, held(names));
    }
    const least = held(['new']);
    report(`${copies} copies, a node was drained`, region.drain('new'), least);
  }
}

interface Moved {
  readonly moves: number;
  readonly bytes: number;
}

function report(what: string, { moves, bytes }: Moved, least: number): void {
  console.log(
    `${what}: ${moves} moves, ${bytes.toFixed(0)} against ${least.toFixed(0)} (${((100 * bytes) / least - 100).toFixed(1)} %)`,
  );
}

class Region {
  readonly #sizes: readonly number[];
  readonly #copies: number;
  readonly #nodes: PlannedNode[];
  readonly #cordons: Record<string, Cordon> = {};
  #shards: RegionCopy[][];

  /** In three zones. */
  constructor(nodeCount: number, sizes: readonly number[], copies: number) {
    this.#sizes = sizes;
    this.#copies = copies;
    this.#nodes = [];
    for (let i = 0; i < nodeCount; i++) this.#add(`node-${i}`);
    const plan = planCopies(this.#nodes, sizes.length, copies);
    this.#shards = plan.map((names) => names.map((node) => ({ node, state: 'active', epoch: 1 })));
  }

  shardsOf(name: string): number[] {
    return [...this.#shards.keys()].filter((shard) => this.#shards[shard]?.some(({ node }) => node === name));
  }

  bytes(shards: Iterable<number>): number {
    let sum = 0;
    for (const shard of shards) sum += this.#sizes[shard] as number;
    return sum;
  }

  join(...names: string[]): Moved {
    for (const name of names) this.#add(name);
    return this.#settle();
  }

  drain(name: string): Moved {
    this.#cordons[name] = 'draining';
    const moved = this.#settle();
    if (this.shardsOf(name).length > 0) throw new Error(`${name} still has copies`);
    return moved;
  }

  #add(name: string): void {
    this.#nodes.push({ name, zone: `zone-${this.#nodes.length % 3}` });
  }

  /** Each round's moves are done before the next is planned. */
  #settle(): Moved {
    const moved: number[] = [];
    for (;;) {
      const question = { nodes: this.#nodes, shards: this.#shards, copies: this.#copies, cordons: this.#cordons };
      const moves = nextMoves(question);
      if (moves.length === 0) return { moves: moved.length, bytes: this.bytes(moved) };
      for (const { shard, from, to } of moves) {
        moved.push(shard);
        this.#shards[shard] = (this.#shards[shard] as RegionCopy[]).map((copy) =>
          copy.node === from ? { node: to, state: 'active', epoch: copy.epoch + 1 } : copy,
        );
      }
    }
  }
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
