/** The fewest moves that the rules of zones allow, by a flow of least cost over every shard, zone and node: slow, and sure. */
import type { PlannedNode } from '../../core/planner.ts';

interface Arc {
  readonly to: number;
  left: number;
  readonly cost: number;
  readonly back: number;
}

class Flow {
  readonly #arcs: Arc[][] = [];

  node(): number {
    return this.#arcs.push([]) - 1;
  }

  arc(from: number, to: number, capacity: number, cost: number): void {
    if (capacity === 0) return;
    const [there, back] = [this.#arcs[from]!, this.#arcs[to]!];
    there.push({ to, left: capacity, cost, back: back.length });
    back.push({ to: from, left: 0, cost: -cost, back: there.length - 1 });
  }

  /** As much as there can be; returns what it costs. */
  run(source: number, sink: number): number {
    let total = 0;
    for (;;) {
      const cost = new Array<number>(this.#arcs.length).fill(Number.POSITIVE_INFINITY);
      const way = new Map<number, Arc>();
      cost[source] = 0;
      const queue = new Set([source]);
      for (const at of queue) {
        queue.delete(at);
        for (const arc of this.#arcs[at]!) {
          if (arc.left === 0 || cost[at]! + arc.cost >= cost[arc.to]!) continue;
          cost[arc.to] = cost[at]! + arc.cost;
          way.set(arc.to, arc);
          queue.add(arc.to);
        }
      }
      if (cost[sink] === Number.POSITIVE_INFINITY) return total;
      total += cost[sink]!;
      for (let at = sink; at !== source; ) {
        const arc = way.get(at)!;
        const back = this.#arcs[arc.to]![arc.back]!;
        arc.left--;
        back.left++;
        at = back.to;
      }
    }
  }
}

/** What must be kept of a zone is worth more than any move. */
const OWED = 1_000;

/**
 * From `before` to any placement of so many copies in which each node holds as many as in `after`.
 * @param bounds of a zone's nodes: the fewest and the most copies of a shard that they have together
 */
export function fewestMovesTo(
  nodes: readonly PlannedNode[],
  before: readonly (readonly string[])[],
  after: readonly (readonly string[])[],
  bounds: ReadonlyMap<string, readonly [least: number, most: number]>,
): number {
  const flow = new Flow();
  const [source, sink] = [flow.node(), flow.node()];
  const at = new Map(nodes.map(({ name }) => [name, flow.node()]));
  for (const { name } of nodes) {
    const load = after.filter((own) => own.includes(name)).length;
    flow.arc(at.get(name)!, sink, load, 0);
  }
  let owed = 0;
  for (const [shard, own] of after.entries()) {
    const from = flow.node();
    flow.arc(source, from, own.length, 0);
    for (const [zone, [least, most]] of bounds) {
      const place = flow.node();
      flow.arc(from, place, least, -OWED);
      flow.arc(from, place, most - least, 0);
      owed += least;
      for (const node of nodes) {
        if (node.zone !== zone) continue;
        flow.arc(place, at.get(node.name)!, 1, before[shard]!.includes(node.name) ? 0 : 1);
      }
    }
  }
  return flow.run(source, sink) + owed * OWED;
}
