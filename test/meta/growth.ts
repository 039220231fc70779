/** A region that grows and shrinks, as the placer's own decisions move its copies (core/meta/moves.ts), step by step until it wants no more. */
import { nextMoves } from '../../core/meta/moves.ts';
import type { Cordon, RegionCopy } from '../../core/meta/region.ts';
import { type PlannedNode, planCopies } from '../../core/planner.ts';

export interface Moved {
  readonly moves: number;
  readonly bytes: number;
}

export class SimRegion {
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

  /** Copies of each node that is not drained. */
  get loads(): number[] {
    const open = this.#nodes.filter(({ name }) => this.#cordons[name] === undefined);
    return open.map(({ name }) => this.shardsOf(name).length);
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
