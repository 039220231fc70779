/**
 * Whether every shard is served, of what the nodes that hold copies say. The first time, every region has to be placed and
 * every copy to have recovered, so that whoever waits for it finds a whole cluster; from then on, one copy of each shard is
 * enough.
 */
import type { Clock } from '../../core/env/env.ts';
import type { Copy, Placement } from '../../core/placement.ts';
import type { Found, Survey } from '../cluster/survey.ts';

export interface ReadinessOptions {
  readonly clock: Clock;
  readonly survey: Pick<Survey, 'ask'>;
  /** Regions that have to be placed. */
  readonly regions?: readonly string[];
}

/** How long nodes that do not answer are waited for while the other regions have all shards. */
const PATIENCE_MS = 60_000;

export class Readiness {
  readonly #options: ReadinessOptions;
  readonly #startedMs: number;
  #wasReady = false;

  constructor(options: ReadinessOptions) {
    this.#options = options;
    this.#startedMs = options.clock.monotonicMs();
  }

  /** Undefined when it is ready; else what is not, in words. */
  async missing(): Promise<string | undefined> {
    return this.judge(await this.#options.survey.ask());
  }

  /** The same of what the nodes have said just now. */
  judge({ placement, nodes }: Found): string | undefined {
    if (placement === undefined) return 'not ready: shards are not placed yet, the cluster waits for its nodes';
    const unplaced = this.#wasReady ? undefined : this.#unplaced(placement);
    if (unplaced !== undefined) {
      return `not ready: the shards of region ${unplaced} are not placed yet, the cluster waits for its nodes`;
    }
    /** The state of each shard by region, node and address: a node that has moved is read where the placement has it, and is not there. */
    const states = new Map<string, ReadonlyMap<number, string>>();
    const problems: string[] = [];
    const placed = new Map(placement.copies.flat().map(({ region, node, address }) => [`${region}/${node}`, address]));
    for (const { region, name, address, status, problem } of nodes) {
      const known = placed.get(`${region}/${name}`);
      if (status === undefined) problems.push(`${address}: ${problem}`);
      // A node that came back elsewhere is not found by queries before the placement follows it.
      else if (known !== undefined && known !== address) problems.push(`${address}: placed at ${known} until now`);
      else states.set(`${region}/${name} ${address}`, new Map(status.shards.map(({ shard, state }) => [shard, state])));
    }
    const open = placement.copies.flatMap((copies, shard) =>
      copies.some((copy) => states.get(placeOf(copy))?.get(shard) === 'serving') ? [] : [shard],
    );
    if (open.length > 0) {
      return [`not ready: ${open.length} of ${placement.shardCount} shards are not served yet`, ...problems].join('; ');
    }
    const late = this.#wasReady ? [] : this.#late(placement, states);
    if (late.length > 0) {
      const regions = [...new Set(late)].map((region) => {
        const count = late.filter((one) => one === region).length;
        return `${count} of ${placement.shardCount} shards of region ${region} have not recovered yet`;
      });
      return [`not ready: ${regions.join(', ')}`, ...problems].join('; ');
    }
    this.#wasReady = true;
    return undefined;
  }

  #unplaced({ copies }: Placement): string | undefined {
    return this.#options.regions?.find((region) => !copies.every((own) => own.some((copy) => copy.region === region)));
  }

  /** The region of each copy that is still to be waited for. */
  #late({ copies }: Placement, states: ReadonlyMap<string, ReadonlyMap<number, string>>): string[] {
    const isPatient = this.#options.clock.monotonicMs() - this.#startedMs < PATIENCE_MS;
    return copies.flatMap((own, shard) =>
      own
        .filter((copy) => {
          const known = states.get(placeOf(copy));
          if (known === undefined) return isPatient;
          const state = known.get(shard);
          return state !== 'serving' && state !== 'failed';
        })
        .map(({ region }) => region),
    );
  }
}

function placeOf({ region, node, address }: Copy): string {
  return `${region}/${node} ${address}`;
}
