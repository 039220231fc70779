/** A region grows from two nodes to six and shrinks again while it is written to and queried: its answers stay complete, and little moves. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { History } from '../../chaos/history.ts';
import { Processes } from '../../chaos/processes.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { KEYS } from '../../core/meta/keys.ts';
import type { RegionPlacement } from '../../core/meta/region.ts';
import { connectMeta } from '../../core/meta/remote.ts';
import type { Entry, MetaStore } from '../../core/meta/store.ts';
import { readPlacement } from '../../core/meta/written.ts';
import { eventually } from '../local/cluster.ts';
import { FRONTIER_BOUND_SECONDS, Witness } from './witness.ts';

const SERIES_COUNT = 60;
const SHARD_COUNT = 16;
/** Longer than a machine stalls: what is gone for a while is taken over, and then more moves than must. */
const LEASE = ['--lease-ttl', '15s'];
/** Much more than a step takes, on a machine that stalls. */
const WAIT_MS = 300_000;

let processes: Processes;
let directory: string;
let witness: Witness;
let store: MetaStore;
afterEach(async () => {
  witness?.close();
  await store?.close();
  await processes?.kill();
  if (directory !== undefined) await rm(directory, { recursive: true, force: true });
});

/** Every placement of the region that there ever was, and what was brought from node to node for it. */
class Journal {
  /** `shard node epoch` of each copy that was to be filled. */
  readonly #filled = new Set<string>();
  current: RegionPlacement;
  /** Of the watch. */
  broken: Error | undefined;

  static async follow(from: MetaStore): Promise<Journal> {
    const key = KEYS.placement('local');
    const { revision, entries } = await from.range(key);
    const journal = new Journal(readPlacement(entries[0] as Entry));
    from.watch(key, revision + 1, {
      events: (events) => {
        for (const { entry } of events) if (entry !== undefined) journal.#take(readPlacement(entry));
      },
      ended: (error) => {
        journal.broken = error;
      },
    });
    return journal;
  }

  private constructor(current: RegionPlacement) {
    this.current = current;
  }

  /** Copies that were brought to a node so far, those that were called off later among them. */
  get broughtCount(): number {
    if (this.broken !== undefined) throw this.broken;
    return this.#filled.size;
  }

  /** Of nodes that hold something. */
  loads(): Map<string, number> {
    const loads = new Map<string, number>();
    for (const { node } of this.current.shards.flat()) loads.set(node, (loads.get(node) ?? 0) + 1);
    return loads;
  }

  #take(placement: RegionPlacement): void {
    this.current = placement;
    for (const [shard, copies] of placement.shards.entries()) {
      for (const { node, epoch, state, fill } of copies) {
        if (state === 'joining' && fill) this.#filled.add(`${shard} ${node} ${epoch}`);
      }
    }
  }
}

/** The fewest copies that must move from where they are until these nodes hold them evenly, one of each shard. */
function fewestMoves(nodes: readonly string[], loads: ReadonlyMap<string, number>): number {
  const least = Math.floor(SHARD_COUNT / nodes.length);
  const larger = SHARD_COUNT % nodes.length;
  const held = nodes.map((name) => loads.get(name) ?? 0).sort((a, b) => b - a);
  return SHARD_COUNT - held.reduce((sum, load, rank) => sum + Math.min(load, rank < larger ? least + 1 : least), 0);
}

async function cordon(name: string, mode: string): Promise<void> {
  const parameters = new URLSearchParams({ region: 'local', name, mode });
  const response = await fetch(`${processes.url}/api/v1/admin/nodes/cordon?${parameters}`, { method: 'POST' });
  expect(response.status, await response.text()).toBe(204);
}

test(
  'from two nodes to six and back, answers stay complete and no more moves than must',
  async () => {
    directory = await mkdtemp(join(tmpdir(), 'silverback-growth-'));
    processes = await Processes.create({
      ...{ dataDir: directory, nodeCount: 6, shardCount: SHARD_COUNT },
      nodeArgs: [...LEASE, '--frontier-bound', `${FRONTIER_BOUND_SECONDS}s`],
      coordinatorArgs: [...LEASE, '--takeover-grace', '5s', '--enable-admin-api', '--nodes', '2'],
    });
    processes.start(['coordinator', 'node-1', 'node-2']);
    await processes.ready();
    const originMs = Math.floor(Date.now() / 7_200_000) * 7_200_000 - 14_400_000;
    const history = new History({ seed: 1, seriesCount: SERIES_COUNT, originMs, stepMs: 1_000 });
    store = connectMeta(nodeEnv, { address: processes.grpc, caller: 'test' });
    const journal = await Journal.follow(store);
    witness = new Witness({ processes, history, shardCount: SHARD_COUNT });
    witness.start();
    await eventually(() => expect(Math.min(...witness.ticks)).toBeGreaterThan(20), WAIT_MS);

    let fewest = 0;
    /** Makes exactly these nodes hold the copies, and waits until they do, evenly, and nothing is under way. */
    const spread = async (nodes: readonly string[], change: () => Promise<void>) => {
      fewest += fewestMoves(nodes, journal.loads());
      await change();
      await eventually(() => {
        processes.checkAlive();
        for (const copies of journal.current.shards) expect(copies.map(({ state }) => state)).toEqual(['active']);
        const loads = journal.loads();
        expect([...loads.keys()].sort()).toEqual(nodes);
        expect(Math.max(...loads.values()) - Math.min(...loads.values())).toBeLessThanOrEqual(1);
      }, WAIT_MS);
      const [bits, counts] = [witness.answered.bits, witness.answered.counts];
      // Questions that went out with what was there before.
      await eventually(() => {
        expect(witness.answered.bits).toBeGreaterThan(bits + 1);
        expect(witness.answered.counts).toBeGreaterThan(counts + 1);
      }, WAIT_MS);
    };
    const grow = (joining: string, ...staying: string[]) =>
      spread([...staying, joining].sort(), async () => processes.start([joining]));
    /** Empties nodes, waits until they have closed everything, and takes them away with their disks. */
    const shrink = async (leaving: readonly string[], ...staying: string[]) => {
      await spread(staying, async () => {
        // All are cordoned before any is emptied: or what leaves one goes to the next.
        for (const mode of ['on', 'drain']) for (const name of leaving) await cordon(name, mode);
      });
      await eventually(async () => {
        const open = (await processes.status()).filter(({ node }) => leaving.includes(node));
        expect(open).toEqual([]);
      }, WAIT_MS);
      await processes.kill(leaving);
      for (const name of leaving) await rm(processes.directoryOf(name), { recursive: true });
    };
    const [one, two, three, four, five, six] = processes.nodes as [string, string, string, string, string, string];
    await grow(three, one, two);
    await grow(four, one, two, three);
    await grow(five, one, two, three, four);
    await grow(six, one, two, three, four, five);
    await shrink([three, six], one, two, four, five);
    await shrink([one], two, four, five);
    await shrink([five], two, four);

    await witness.stop();
    expect(await witness.verdict()).toEqual([]);
    expect(journal.broughtCount).toBeGreaterThan(0);
    expect(journal.broughtCount).toBeLessThanOrEqual(fewest * 1.05);
  },
  8 * WAIT_MS,
);
