/** Nodes of a cluster that is written to die and are restarted: what is asked meanwhile is answered by copies that are complete. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { History } from '../../chaos/history.ts';
import { METRIC } from '../../chaos/load.ts';
import { Processes } from '../../chaos/processes.ts';
import { Steady } from '../../chaos/steady.ts';
import { untilWhole } from '../../chaos/whole.ts';
import { FollowedPlacement } from '../../client/placement.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { eventually } from '../local/cluster.ts';

const REGIONS = ['east', 'west'];
const LEASE = ['--lease-ttl', '3s'];
/** Much more than it takes, on a machine that stalls. */
const WAIT_MS = 240_000;
const QUERY_MS = 60_000;
const PAUSE_MS = 50;
/** A copy has this long to say whether it is complete, and another one to be heard of (client/reader.ts, node/replication). */
const PATIENCE_MS = 2_000;
/** For so long after that it is not waited for again. */
const MEMORY_MS = 30_000;
/** A copy that was silent for half a minute. */
const SILENT = /^the copy in \S+ may have more: its last word is \d+ s old$/;

let processes: Processes;
let directory: string;
let placement: FollowedPlacement;
afterEach(async () => {
  placement?.close();
  await processes?.kill();
  if (directory !== undefined) await rm(directory, { recursive: true, force: true });
});

interface Answer {
  readonly endedMs: number;
  readonly tookMs: number;
  readonly state: string;
  readonly reasons: readonly string[];
}

/** Asks over HTTP, again and again. */
class Asker {
  readonly answers: Answer[] = [];
  readonly #running: Promise<void>;
  #stopping = false;

  constructor(url: string, seriesCount: number) {
    this.#running = this.#ask(url, seriesCount);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
  }

  async #ask(url: string, seriesCount: number): Promise<void> {
    for (let turn = 0; !this.#stopping; turn++) {
      const query = turn % 2 === 0 ? `count(${METRIC})` : `${METRIC}{series="${turn % seriesCount}"}`;
      const startedMs = performance.now();
      const response = await fetch(`${url}/api/v1/query?${new URLSearchParams({ query })}`, {
        signal: AbortSignal.timeout(QUERY_MS),
      });
      const { data } = (await response.json()) as Body;
      const endedMs = performance.now();
      const { state, ranges } = data.coverage;
      const reasons = ranges.flatMap(({ reason }) => reason ?? []);
      this.answers.push({ endedMs, tookMs: endedMs - startedMs, state, reasons });
      await new Promise((wake) => setTimeout(wake, PAUSE_MS));
    }
  }
}

interface Body {
  readonly data: {
    readonly coverage: { readonly state: string; readonly ranges: readonly { readonly reason?: string }[] };
  };
}

/** Answers that were not complete though every process had its turn in time. */
function unexcused(answers: readonly Answer[]): string[] {
  return answers.flatMap(({ endedMs, state, reasons }, i) => {
    if (state === 'complete' || reasons.every((reason) => SILENT.test(reason))) return [];
    const lately = answers.slice(0, i + 1).filter((one) => endedMs - one.endedMs < MEMORY_MS);
    // A machine that stalls makes those that wait for one another slow.
    return lately.some(({ tookMs }) => tookMs >= PATIENCE_MS) ? [] : [`${state}: ${reasons.join('; ')}`];
  });
}

test('a node that is killed is stood in for, and returns; another is stopped and returns', {
  timeout: 900_000,
}, async () => {
  directory = await mkdtemp(join(tmpdir(), 'silverback-reads-'));
  processes = await Processes.create({
    ...{ dataDir: directory, regions: REGIONS, nodeCount: 2, shardCount: 4, nodeArgs: LEASE },
    coordinatorArgs: [...LEASE, '--takeover-grace', '6s'],
  });
  processes.start();
  await processes.ready();
  const { url, grpc } = processes;
  placement = new FollowedPlacement({ env: nodeEnv, endpoints: [grpc], caller: 'test' });
  const history = new History({
    seed: 1,
    seriesCount: 60,
    originMs: Math.floor(Date.now() / 1_000) * 1_000,
    stepMs: 500,
  });
  const steady = new Steady({ history, url, grpc, regions: REGIONS, retryMs: 120_000, readPauseMs: 1_000 });
  await untilWhole(url, WAIT_MS);
  steady.start();
  const asker = new Asker(url, history.seriesCount);
  const [killed, , stopped] = processes.nodes as [string, string, string];

  await processes.kill([killed]);
  // The other node of the region takes the writes.
  await eventually(async () => {
    const { copies } = await placement.refresh();
    expect(copies.flat().filter(({ state }) => state === 'joining').length).toBeGreaterThan(0);
  }, WAIT_MS);
  const countedMs = asker.answers.length;
  await eventually(() => expect(asker.answers.length).toBeGreaterThan(countedMs + 20), WAIT_MS);
  processes.start([killed]);
  await untilWhole(url, WAIT_MS);
  await processes.stop([stopped]);
  processes.start([stopped]);
  await untilWhole(url, WAIT_MS);
  await asker.stop();
  await steady.stop();
  expect(asker.answers.some(({ state }) => state === 'complete')).toBe(true);
  expect(unexcused(asker.answers)).toEqual([]);
});
