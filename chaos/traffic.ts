/**
 * Writers of both regions, through the SDK, and a reader of each region's own copies; all of it goes to the judge. Some writers
 * follow the clock, so that there is always something newest that the other region may not have; between, they write
 * something of the hours before, also what others wrote: the same sample may enter the cluster in both regions.
 */

import { type Client, SilverbackError } from '../client/index.ts';
import { FollowedPlacement } from '../client/placement.ts';
import { Reader } from '../client/reader.ts';
import { Page } from '../coordinator/query/page.ts';
import { nodeEnv } from '../core/env/node.ts';
import { fingerprint, shardOf } from '../core/fingerprint.ts';
import { ChunkCodec } from '../core/kernel/codec.ts';
import { encodeIdentity, makeLabels } from '../core/labels.ts';
import { eventually } from '../test/local/cluster.ts';
import type { Seeded } from '../test/sim/random.ts';
import { Check, type History, type Span } from './history.ts';
import type { Answer, Judge } from './judge.ts';
import { labelsOf, METRIC, samplesOf } from './load.ts';
import { REGIONS, type Region } from './places.ts';
import { numberOf } from './readback.ts';
import type { World } from './world.ts';

const WRITERS_PER_REGION = 3;
const WRITE_PAUSE_MS = 40;
/** A writer that could not write for a while catches up in pieces. */
const MAX_LIVE_TICKS = 60;
const MAX_LATE = { series: 20, ticks: 20 };
const LATE_CHANCE = 0.15;
const READ_PAUSE_MS = 300;
/** Much longer than any call may take. */
const STOP_MS = 180_000;
/** A node that stands still costs a reader this long. */
const READ_MS = 4_000;
const NEWEST_MS = 20_000;
/** Of range queries. Each counts what lies before it, so that together they count everything once; windows that ended are kept. */
const COUNT_STEP_MS = 600_000;
const EVERYTHING = { fromMs: 0, toMs: 8_640_000_000_000_000 };

export interface TrafficOptions {
  readonly world: World;
  readonly history: History;
  readonly judge: Judge;
  readonly random: Seeded;
  readonly clients: ReadonlyMap<Region, Client>;
}

/** Milliseconds since 1970 that never go back. */
export function nowMs(): number {
  return performance.timeOrigin + performance.now();
}

/** The shard of each series of the history. */
export function shardsOf(seriesCount: number, shardCount: number): number[] {
  return Array.from({ length: seriesCount }, (_, i) =>
    shardOf(fingerprint(encodeIdentity(makeLabels(labelsOf(i)))).h1, shardCount),
  );
}

export class Traffic {
  readonly #options: TrafficOptions;
  readonly #placement: FollowedPlacement;
  readonly #readers = new Map<Region, Reader>();
  readonly #codec = ChunkCodec.create();
  /** By what they are, in words. */
  readonly #running = new Map<string, Promise<void>>();
  #stopping = false;
  /** Answers that no valid write may get, in words. */
  readonly refusals: string[] = [];
  failureCount = 0;

  constructor(options: TrafficOptions) {
    this.#options = options;
    this.#placement = new FollowedPlacement({ env: nodeEnv, endpoints: [options.world.grpc], caller: 'chaos' });
    for (const region of REGIONS) {
      this.#readers.set(region, new Reader({ env: nodeEnv, placement: this.#placement, caller: 'chaos', region }));
    }
  }

  /** Resolves when the placement of all regions is known. */
  async ready(): Promise<void> {
    await eventually(async () => {
      const { copies } = await this.#placement.refresh();
      if (copies.some((shard) => shard.length < REGIONS.length)) throw new Error('not all regions are placed');
    });
  }

  start(): void {
    const { history } = this.#options;
    this.#stopping = false;
    const writerCount = REGIONS.length * WRITERS_PER_REGION;
    const bandSize = Math.ceil(history.seriesCount / writerCount);
    const run = (name: string, loop: Promise<void>) => {
      const ended = loop.then(() => void this.#running.delete(name));
      this.#running.set(name, ended);
    };
    for (let i = 0; i < writerCount; i++) {
      const fromSeries = i * bandSize;
      const toSeries = Math.min(history.seriesCount, fromSeries + bandSize);
      run(`writer ${i + 1}`, this.#write(REGIONS[i % REGIONS.length] as Region, fromSeries, toSeries));
    }
    for (const region of REGIONS) {
      run(`reader of ${region}`, this.#read(region));
      run(`counter of ${region}`, this.#count(region));
    }
  }

  /** Resolves when every write under way is acknowledged or given up, and every question answered. Rejects when one never is. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const all = Promise.all(this.#running.values());
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const names = [...this.#running.keys()].join(', ');
        this.#running.clear();
        reject(new Error(`${names}: a call that is never answered`));
      }, STOP_MS);
    });
    await Promise.race([all, late]).finally(() => clearTimeout(timer));
  }

  /** What a region's copies hold between these times. */
  async ask(region: Region, range = EVERYTHING, timeoutMs = 60_000): Promise<Answer> {
    const check = new Check(this.#options.history);
    const askedMs = nowMs();
    const coverage = await this.see(region, METRIC, check, range, timeoutMs);
    const { found, wrong } = check.verdict();
    return { region, askedMs, found, wrong, coverage };
  }

  /** Shows what a region's copies hold of a metric. */
  async see(
    region: Region,
    metric: string,
    check: Check,
    range = EVERYTHING,
    timeoutMs = 60_000,
  ): Promise<Answer['coverage']> {
    const { coverage } = await (this.#readers.get(region) as Reader).select(
      { ...range, matchers: [{ name: '__name__', op: '=', value: metric }] },
      (bytes) => {
        const page = new Page(bytes);
        for (let i = 0; i < page.count; i++) {
          const { timestamps, values } = this.#codec.decode(page.chunks(i), range.fromMs, range.toMs);
          check.see(numberOf(page.labels(i)), timestamps, values);
        }
      },
      { signal: new AbortController().signal, timeoutMs, region },
    );
    return coverage;
  }

  close(): void {
    for (const reader of this.#readers.values()) reader.close();
    this.#placement.close();
  }

  async #write(region: Region, fromSeries: number, toSeries: number): Promise<void> {
    const { random } = this.#options;
    let nextTick = this.#tick();
    while (!this.#stopping) {
      const tick = this.#tick();
      if (nextTick > 0 && random.chance(LATE_CHANCE)) await this.#send(region, this.#late(tick));
      else if (tick > nextTick) {
        const toTick = Math.min(tick, nextTick + MAX_LIVE_TICKS);
        await this.#send(region, { fromSeries, toSeries, fromTick: nextTick, toTick });
        nextTick = toTick;
      }
      await pause(WRITE_PAUSE_MS);
    }
  }

  #tick(): number {
    const { originMs, stepMs } = this.#options.history;
    return Math.floor((nowMs() - originMs) / stepMs);
  }

  #late(nowTick: number): Span {
    const { history, random } = this.#options;
    const seriesCount = random.int(1, MAX_LATE.series + 1);
    const tickCount = random.int(1, MAX_LATE.ticks + 1);
    const fromSeries = random.int(0, history.seriesCount - seriesCount + 1);
    const fromTick = random.int(0, Math.max(1, nowTick - tickCount));
    return { fromSeries, toSeries: fromSeries + seriesCount, fromTick, toTick: fromTick + tickCount };
  }

  async #send(region: Region, span: Span): Promise<void> {
    const { history, judge, clients } = this.#options;
    history.send(span);
    try {
      await (clients.get(region) as Client).write(samplesOf(history, span));
      judge.acknowledged(span, nowMs());
    } catch (error) {
      if (!(error instanceof SilverbackError)) throw error;
      this.failureCount++;
      if (!error.retryable) this.refusals.push(`a valid write was refused for good: ${error.code} ${error.message}`);
    }
  }

  /** Through the coordinator's PromQL, by turns the newest and all that is older, the latter from what it keeps of queries before. */
  async #count(region: Region): Promise<void> {
    const { history, judge, world } = this.#options;
    for (let turn = 0; !this.#stopping; turn++) {
      const askedMs = nowMs();
      // The last one reaches to the present: only there an answer tells how old its frontier is.
      const steps = Math.ceil((askedMs - history.originMs) / COUNT_STEP_MS);
      const tick = this.#tick();
      const isNewest = turn % 2 === 0;
      const [fromTick, toTick] = isNewest
        ? [tick + 1 - NEWEST_MS / history.stepMs, tick + 1]
        : [1, (steps * COUNT_STEP_MS) / history.stepMs + 1];
      const windowMs = isNewest ? NEWEST_MS : COUNT_STEP_MS;
      const time = isNewest
        ? { time: seconds(history.timeMs(tick)) }
        : {
            start: seconds(history.originMs + COUNT_STEP_MS),
            end: seconds(history.originMs + steps * COUNT_STEP_MS),
            step: seconds(COUNT_STEP_MS),
          };
      const query = `sum by (series) (count_over_time(${METRIC}[${windowMs / 1_000}s]))`;
      const parameters = new URLSearchParams({ query, region, ...time });
      const url = `${world.url}/api/v1/query${isNewest ? '' : '_range'}?${parameters}`;
      const answer = await fetch(url, { signal: AbortSignal.timeout(READ_MS) })
        .then(async (response) => ({ status: response.status, body: (await response.json()) as CountBody }))
        .catch(() => undefined);
      if (answer !== undefined && answer.status >= 400 && answer.status < 500 && answer.status !== 429) {
        this.refusals.push(`a valid query was refused: ${answer.status} ${answer.body.error}`);
      }
      const data = answer?.body.data;
      if (data?.coverage.state === 'complete') {
        const counts = new Map<number, number>();
        for (const { metric, value, values = value === undefined ? [] : [value] } of data.result) {
          counts.set(
            Number(metric.series),
            values.reduce((sum, [, count]) => sum + Number(count), 0),
          );
        }
        judge.counted({ region, askedMs, fromTick, toTick, counts });
      }
      await pause(READ_PAUSE_MS);
    }
  }

  async #read(region: Region): Promise<void> {
    const { judge, random } = this.#options;
    while (!this.#stopping) {
      const range = random.chance(0.3)
        ? EVERYTHING
        : { fromMs: Math.floor(nowMs()) - NEWEST_MS, toMs: EVERYTHING.toMs };
      judge.answered(await this.ask(region, range, READ_MS));
      await pause(READ_PAUSE_MS);
    }
  }
}

interface CountBody {
  readonly error?: string;
  readonly data?: {
    readonly result: readonly {
      readonly metric: { readonly series: string };
      readonly value?: readonly [number, string];
      readonly values?: readonly (readonly [number, string])[];
    }[];
    readonly coverage: { readonly state: string };
  };
}

function pause(delayMs: number): Promise<void> {
  return new Promise((wake) => setTimeout(wake, delayMs));
}

/** As the HTTP API takes them. */
function seconds(ms: number): string {
  return String(ms / 1_000);
}
