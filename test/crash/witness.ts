/**
 * A region of real processes that is written to and read all the while, and what there is to say against its answers: writers
 * through the SDK and through remote write, readers of the bits and of what PromQL counts, and the judge of chaos/judge.ts.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Check, type History } from '../../chaos/history.ts';
import { Judge } from '../../chaos/judge.ts';
import { METRIC, openClient, remoteSeries } from '../../chaos/load.ts';
import type { Processes } from '../../chaos/processes.ts';
import { numberOf } from '../../chaos/readback.ts';
import { nowMs, shardsOf } from '../../chaos/traffic.ts';
import { FollowedPlacement } from '../../client/placement.ts';
import { Reader } from '../../client/reader.ts';
import { Page } from '../../coordinator/query/page.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { ChunkCodec } from '../../core/kernel/codec.ts';
import { remoteWrite } from '../local/cluster.ts';
import { writeSpan } from './cluster.ts';

/** Of `--frontier-bound` of the nodes: an answer that calls itself complete has all that was acknowledged before. */
export const FRONTIER_BOUND_SECONDS = 10;
/** Of the nodes (node/replication/frontiers.ts). */
const LATE_MS = 60_000;
const REGION = 'local';
/** Much more than it takes, on a machine that stalls. */
const WRITE_MS = 300_000;
const PAUSE_MS = 50;
const READ_PAUSE_MS = 200;
/** A client that waits for its answers again and again, however long a machine stalls. */
const READ_MS = 60_000;
/** What an answer may lack on a machine that stood still: it says so itself, and is judged by it. */
const STALLED = /^the copy in \S+ may have more: its last word is \d+ s old$/;

export interface WitnessOptions {
  readonly processes: Processes;
  readonly history: History;
  readonly shardCount: number;
}

export class Witness {
  readonly #options: WitnessOptions;
  readonly #judge: Judge;
  readonly #placement: FollowedPlacement;
  readonly #reader: Reader;
  readonly #codec = ChunkCodec.create();
  readonly #against: string[] = [];
  #running: Promise<void>[] = [];
  #stopping = false;
  /** Answers of each kind. */
  readonly answered = { bits: 0, counts: 0 };
  /** Written by each writer so far. */
  readonly ticks = [0, 0];

  constructor(options: WitnessOptions) {
    const { processes, history, shardCount } = options;
    this.#options = options;
    this.#placement = new FollowedPlacement({ env: nodeEnv, endpoints: [processes.grpc], caller: 'test' });
    this.#reader = new Reader({ env: nodeEnv, placement: this.#placement, caller: 'test' });
    this.#judge = new Judge({
      ...{ history, regions: [REGION], shardOf: shardsOf(history.seriesCount, shardCount) },
      ...{ boundMs: FRONTIER_BOUND_SECONDS * 1_000, lateMs: LATE_MS },
    });
  }

  start(): void {
    this.#running = [this.#writeSdk(), this.#writeRemote(), this.#readBits(), this.#count()];
  }

  /** Ends when all that was sent is acknowledged and all that was asked is answered. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
    this.#running = [];
  }

  /** What is to be said against the answers, and what is not there in the end; empty: nothing. After `stop`. */
  async verdict(): Promise<string[]> {
    const last = await this.#ask();
    this.#judge.healed(last, new Map());
    return [...this.#against, ...this.#judge.conclude().map(({ rule, words }) => `${rule}: ${words}`)];
  }

  close(): void {
    this.#stopping = true;
    this.#reader.close();
    this.#placement.close();
  }

  /** Half of the series each: two ticks at a time. */
  async #writeSdk(): Promise<void> {
    const { processes, history } = this.#options;
    const client = openClient(processes.grpc, 'LOCAL', WRITE_MS);
    const toSeries = history.seriesCount >> 1;
    try {
      for (let tick = 0; !this.#stopping; tick += 2, this.ticks[0] = tick) {
        const span = { fromSeries: 0, toSeries, fromTick: tick, toTick: tick + 2 };
        await writeSpan(client, history, span);
        this.#judge.acknowledged(span, nowMs());
        await sleep(PAUSE_MS);
      }
    } finally {
      await client.close();
    }
  }

  async #writeRemote(): Promise<void> {
    const { processes, history } = this.#options;
    const series = { fromSeries: history.seriesCount >> 1, toSeries: history.seriesCount };
    for (let tick = 0; !this.#stopping; tick += 2, this.ticks[1] = tick) {
      const span = { ...series, fromTick: tick, toTick: tick + 2 };
      history.send(span);
      for (let isTaken = false; !isTaken; ) {
        const response = await remoteWrite(processes.url, remoteSeries(history, span));
        if (!response.ok && response.status !== 429 && response.status !== 503) {
          throw new Error(`a valid remote write was refused: ${response.status} ${await response.text()}`);
        }
        isTaken = response.ok;
        if (!isTaken) await sleep(PAUSE_MS);
      }
      this.#judge.acknowledged(span, nowMs());
      await sleep(PAUSE_MS);
    }
  }

  async #readBits(): Promise<void> {
    while (!this.#stopping) {
      const answer = await this.#ask();
      this.#judge.answered(answer);
      for (const { shard, state, reason, copy } of answer.coverage) {
        if (state !== 'complete') this.#object(`shard ${shard} was ${state} in ${copy}: ${reason}`, reason);
      }
      this.answered.bits++;
      await sleep(READ_PAUSE_MS);
    }
  }

  async #ask() {
    const check = new Check(this.#options.history);
    const askedMs = nowMs();
    const { coverage } = await this.#reader.select(
      { fromMs: 0, toMs: Date.now() + 86_400_000, matchers: [{ name: '__name__', op: '=', value: METRIC }] },
      (bytes) => {
        const page = new Page(bytes);
        for (let i = 0; i < page.count; i++) {
          const { timestamps, values } = this.#codec.decode(page.chunks(i));
          check.see(numberOf(page.labels(i)), timestamps, values);
        }
      },
      { signal: new AbortController().signal, timeoutMs: READ_MS },
    );
    const { found, wrong } = check.verdict();
    return { region: REGION, askedMs, found, wrong, coverage };
  }

  async #count(): Promise<void> {
    const { processes, history } = this.#options;
    const query = `sum by (series) (count_over_time(${METRIC}[25h]))`;
    const url = `${processes.url}/api/v1/query?${new URLSearchParams({ query })}`;
    while (!this.#stopping) {
      const askedMs = nowMs();
      const response = await fetch(url);
      const { data, error } = (await response.json()) as CountBody;
      if (data === undefined) {
        this.#against.push(`a count was not answered: ${response.status} ${error}`);
      } else {
        const { state, ranges } = data.coverage;
        if (state === 'complete') {
          const counts = new Map(data.result.map(({ metric, value }) => [Number(metric.series), Number(value[1])]));
          const toTick = Math.floor((Date.now() + 86_400_000 - history.originMs) / history.stepMs);
          this.#judge.counted({ region: REGION, askedMs, fromTick: 0, toTick, counts });
        }
        for (const { shards, state: its, reason = '' } of ranges) {
          if (its !== 'complete') this.#object(`a count, shards ${shards} were ${its}: ${reason}`, reason);
        }
      }
      this.answered.counts++;
      await sleep(READ_PAUSE_MS);
    }
  }

  #object(words: string, reason: string): void {
    if (!STALLED.test(reason)) this.#against.push(words);
  }
}

interface CountBody {
  readonly error?: string;
  readonly data?: {
    readonly result: readonly {
      readonly metric: { readonly series: string };
      readonly value: readonly [number, string];
    }[];
    readonly coverage: {
      readonly state: string;
      readonly ranges: readonly { readonly shards: string; readonly state: string; readonly reason?: string }[];
    };
  };
}
