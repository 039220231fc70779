/**
 * What operators do to a cluster in use, as they do it: through the coordinator's API and the command line, and again where
 * either does not answer. Operations of one region follow one another, each to its end; those of different regions, and holding moves, run beside one another.
 */
import { spawn } from 'node:child_process';
import { setTimeout } from 'node:timers/promises';
import type { NodeReport, ShardReport } from '../coordinator/cluster/report.ts';
import { type Ended, endOf } from '../test/local/cluster.ts';
import { DIST, type Fleet } from './fleet.ts';
import { REGIONS, type Region } from './places.ts';

export type Operation =
  /** The node gets no copies, or with `drain` loses all that it has, until it may have copies again. */
  | { readonly what: 'cordon'; readonly region: Region; readonly name: string; readonly mode: 'on' | 'drain' }
  /** Copies are held where they are, or their moves are called off, until they may move again. */
  | { readonly what: 'hold'; readonly region: Region; readonly mode: 'paused' | 'off' }
  /** The node is drained until it is called safe to power off; then it is killed, its disk is wiped, and it is new. */
  | { readonly what: 'replace'; readonly region: Region; readonly name: string }
  /** A node that was not there comes, takes part, and is drained and taken away again. */
  | { readonly what: 'join'; readonly region: Region; readonly name: string }
  /** The shard's copy moves to the node, or to another where it is there already; later every node gets its share again. */
  | { readonly what: 'move'; readonly region: Region; readonly shard: number; readonly to: string }
  /** The processes are stopped in order and started again, one after the other, as an upgrade does it. */
  | { readonly what: 'roll'; readonly region: Region; readonly names: readonly string[] };

export interface OperatorOptions {
  /** Of the HTTP API. */
  readonly url: string;
  readonly fleet: Fleet;
  /** Takes away all that is on the disk of a node that does not run. */
  readonly wipe: (name: string) => void;
  /** The coordinator's name. */
  readonly coordinator: string;
}

export interface Placed {
  /** By region: the node of each shard that has one copy, which is active and served. */
  readonly places: ReadonlyMap<Region, ReadonlyMap<number, string>>;
  /** Shards that are not so, in words. */
  readonly unsettled: readonly string[];
}

const TRY_AGAIN_MS = 500;
const CALL_MS = 10_000;

export class Operator {
  readonly #options: OperatorOptions;
  readonly #turns = new Map<string, Promise<void>>();
  /** What has begun and is not done. */
  readonly #open = new Set<string>();
  /** What the command line may never say, in words. */
  readonly complaints: string[] = [];
  readonly #closed = new AbortController();

  constructor(options: OperatorOptions) {
    this.#options = options;
  }

  /** Begins it once what was begun before in its region is done. `forMs`: of those that last until they are taken back. */
  begin(operation: Operation, forMs: number): void {
    const { region, what } = operation;
    const name = inWords(operation);
    const queue = what === 'hold' ? `${region} hold` : region;
    this.#open.add(name);
    const turn = (this.#turns.get(queue) ?? Promise.resolve()).then(async () => {
      try {
        await this.#carryOut(operation, forMs);
      } catch (error) {
        if (!this.#closed.signal.aborted) this.complaints.push(`${name}: ${(error as Error).message}`);
      }
      this.#open.delete(name);
    });
    this.#turns.set(queue, turn);
  }

  /** Resolves once everything is done; with what is not, when that takes too long. */
  async done(withinMs: number): Promise<string[]> {
    const all = Promise.all(this.#turns.values());
    const late = new AbortController();
    const { signal } = late;
    await Promise.race([all, setTimeout(withinMs, undefined, { signal, ref: false }).catch(() => undefined)]);
    late.abort();
    return [...this.#open].map((name) => `${name} does not come to an end`);
  }

  /** Where the copies are. Rejects when the coordinator does not say. */
  async look(): Promise<Placed> {
    const shards = await this.#get<readonly ShardReport[]>('/cluster/shards');
    const unsettled: string[] = [];
    const places = new Map(REGIONS.map((region) => [region, new Map<number, string>()]));
    for (const { shard, copies } of shards) {
      for (const region of REGIONS) {
        const own = copies.filter((copy) => copy.region === region);
        const [copy] = own;
        if (own.length === 1 && copy?.state === 'active' && copy.serving === 'serving') {
          places.get(region)?.set(shard, copy.node);
          continue;
        }
        const named = own.map(({ node, state, serving }) => `${node} ${state} ${serving}`).join(', ');
        unsettled.push(`shard ${shard} is on its way in ${region}: ${named === '' ? 'no copy' : named}`);
      }
    }
    return { places, unsettled };
  }

  /** Whatever goes on is given up. */
  async close(): Promise<void> {
    this.#closed.abort(new Error('the run is over'));
    await Promise.all(this.#turns.values());
  }

  async #carryOut(operation: Operation, forMs: number): Promise<void> {
    const { fleet, wipe } = this.#options;
    const { region } = operation;
    switch (operation.what) {
      case 'cordon': {
        const { name, mode } = operation;
        await this.#order('/admin/nodes/cordon', { region, name, mode }, forMs);
        await this.#pause(forMs);
        await this.#order('/admin/nodes/cordon', { region, name, mode: 'off' });
        return;
      }
      case 'hold':
        await this.#order('/admin/moves', { region, mode: operation.mode }, forMs);
        await this.#pause(forMs);
        await this.#order('/admin/moves', { region, mode: 'on' });
        return;
      case 'replace': {
        const { name } = operation;
        await this.#emptied(region, name);
        fleet.hold(name, true);
        await fleet.kill([name]);
        wipe(name);
        fleet.hold(name, false);
        fleet.start([name]);
        await this.#order('/admin/nodes/cordon', { region, name, mode: 'off' });
        return;
      }
      case 'join': {
        const { name } = operation;
        fleet.hold(name, false);
        fleet.start([name]);
        await this.#back(name);
        await this.#pause(forMs);
        await this.#emptied(region, name);
        fleet.hold(name, true);
        await fleet.stop([name]);
        wipe(name);
        await this.#order('/admin/nodes/cordon', { region, name, mode: 'off' });
        return;
      }
      case 'move':
        await this.#moveByHand(operation, forMs);
        await this.#pause(forMs);
        await this.#commanded(['rebalance', '--region', region], forMs);
        return;
      case 'roll':
        for (const name of operation.names) {
          fleet.hold(name, true);
          await fleet.stop([name]);
          fleet.hold(name, false);
          fleet.start([name]);
          await this.#back(name);
        }
    }
  }

  /** Drained, and called safe to power off by the command line. */
  async #emptied(region: Region, name: string): Promise<void> {
    for (;;) {
      const args = ['nodes', 'drain', name, '--region', region, '--yes', '--output', 'json'];
      const { code, out, err } = await this.#silverback(args);
      if (code === 0 && (JSON.parse(out) as { readonly safe: boolean }).safe) return;
      // Not yet, or the coordinator is away. Anything else is no answer to a command that is right.
      if (code !== 1) throw new Error(`silverback ${args.join(' ')} ended with ${code}: ${err}`);
      await this.#pause(TRY_AGAIN_MS);
    }
  }

  /** To where it is not yet; that may be called off, or not be possible for as long as it is tried. */
  async #moveByHand(
    { region, shard, to }: Extract<Operation, { readonly what: 'move' }>,
    forMs: number,
  ): Promise<void> {
    const shards = await this.#patiently(() => this.#get<readonly ShardReport[]>(`/cluster/shards?shard=${shard}`));
    const from = shards[0]?.copies.find((copy) => copy.region === region && copy.state === 'active')?.node;
    const nodes = await this.#patiently(() => this.#get<readonly NodeReport[]>('/cluster/nodes'));
    const other = nodes.find((node) => node.region === region && node.node !== from && node.cordon === null)?.node;
    const target = to === from ? other : to;
    if (from === undefined || target === undefined) return;
    const where = ['--from', from, '--to', target, '--region', region];
    await this.#commanded(['shards', 'move', String(shard), ...where], forMs);
  }

  /** Again until it is done, or for as long as it is refused. */
  async #commanded(command: readonly string[], forMs: number): Promise<void> {
    const startedMs = performance.now();
    for (;;) {
      const args = [...command, '--yes', '--output', 'json'];
      const { code, err } = await this.#silverback(args);
      if (code === 0) return;
      // A command that is right is not called wrong, whatever else goes on.
      if (code !== 1) throw new Error(`silverback ${args.join(' ')} ended with ${code}: ${err}`);
      if (performance.now() - startedMs > forMs) return;
      await this.#pause(TRY_AGAIN_MS);
    }
  }

  async #patiently<T>(ask: () => Promise<T>): Promise<T> {
    for (;;) {
      const answer = await ask().catch(() => undefined);
      if (answer !== undefined) return answer;
      await this.#pause(TRY_AGAIN_MS);
    }
  }

  /** The process is there and serves again. */
  async #back(name: string): Promise<void> {
    for (;;) {
      const nodes = await this.#get<readonly NodeReport[]>('/cluster/nodes').catch(() => undefined);
      const found = nodes?.find(({ node }) => node === name);
      const isThere = name === this.#options.coordinator ? nodes !== undefined : found?.state === 'up';
      if (isThere && found?.registered !== false) return;
      await this.#pause(TRY_AGAIN_MS);
    }
  }

  /** Until it is taken, or refused for longer than `forMs`: then it stays undone. */
  async #order(path: string, form: Readonly<Record<string, string>>, forMs = Number.POSITIVE_INFINITY): Promise<void> {
    const startedMs = performance.now();
    for (;;) {
      const request = { method: 'POST', body: new URLSearchParams(form), signal: AbortSignal.timeout(CALL_MS) };
      const response = await fetch(`${this.#options.url}/api/v1${path}`, request).catch(() => undefined);
      await response?.body?.cancel();
      if (response?.ok || performance.now() - startedMs > forMs) return;
      await this.#pause(TRY_AGAIN_MS);
    }
  }

  async #get<T>(path: string): Promise<T> {
    const response = await fetch(`${this.#options.url}/api/v1${path}`, { signal: AbortSignal.timeout(CALL_MS) });
    const { data, error } = (await response.json()) as { readonly data?: T; readonly error?: string };
    if (data === undefined) throw new Error(`${path}: ${response.status} ${error}`);
    return data;
  }

  async #silverback(args: readonly string[]): Promise<Ended> {
    const program = [`${DIST}coordinator/cli/main.js`, '--url', this.#options.url, ...args];
    const child = spawn(process.execPath, program, { stdio: ['ignore', 'pipe', 'pipe'] });
    const end = () => child.kill('SIGKILL');
    this.#closed.signal.addEventListener('abort', end);
    const ended = await endOf(child);
    this.#closed.signal.removeEventListener('abort', end);
    this.#closed.signal.throwIfAborted();
    return ended;
  }

  #pause(delayMs: number): Promise<void> {
    return setTimeout(delayMs, undefined, { signal: this.#closed.signal });
  }
}

export function inWords(operation: Operation): string {
  switch (operation.what) {
    case 'cordon':
      return `${operation.mode === 'drain' ? 'drain' : 'cordon'} ${operation.name}`;
    case 'hold':
      return `moves in ${operation.region} ${operation.mode}`;
    case 'move':
      return `move shard ${operation.shard} of ${operation.region} to ${operation.to}`;
    case 'roll':
      return `restart ${operation.names.join(', ')} in turn`;
    default:
      return `${operation.what} ${operation.name}`;
  }
}
