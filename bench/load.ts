/** What benches of a running cluster write and ask all the while, and what they tell of it. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '../client/index.ts';

const TICK_MS = 50;
/** A query that is not answered by then is asked anew. */
const QUERY_MS = 30_000;

/** A steady stream of samples, as much as is taken. */
export class Load {
  readonly #client: Client;
  readonly #timer: NodeJS.Timeout;
  #next = 0;

  constructor(client: Client, seriesCount: number, rate: number) {
    this.#client = client;
    const series = Array.from({ length: seriesCount }, (_, i) =>
      this.#client.series({ __name__: 'load', host: `host-${i % 100}`, i: String(i) }),
    );
    let owed = 0;
    let lastMs = performance.now();
    this.#timer = setInterval(() => {
      const atMs = performance.now();
      owed += ((atMs - lastMs) * rate) / 1_000;
      lastMs = atMs;
      const timestampMs = Date.now();
      for (; owed >= 1; owed--) {
        const i = this.#next++;
        this.#client.append(series[i % seriesCount]!, timestampMs, Math.round(Math.sin(i) * 1_000) / 100);
      }
    }, TICK_MS);
  }

  get acknowledgedCount(): number {
    return this.#client.stats().acknowledgedCount;
  }

  get droppedCount(): number {
    return this.#client.stats().droppedCount;
  }

  /** Ends when what was written is acknowledged or given up; closes the client. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#client.close();
  }
}

/** Something done again and again: how long each time took, and the longest time without a success. */
export class Probe {
  readonly #running: Promise<void>;
  #stopping = false;
  #times: number[] = [];
  #goodMs = performance.now();
  #gapMs = 0;
  #failures = new Map<string, number>();

  /** `once` rejects with what was wrong. */
  constructor(everyMs: number, once: (turn: number) => Promise<void>) {
    this.#running = this.#run(everyMs, once);
  }

  /** Since the last time. */
  take(): {
    readonly times: readonly number[];
    readonly gapMs: number;
    readonly failures: ReadonlyMap<string, number>;
  } {
    const taken = {
      times: this.#times,
      gapMs: Math.max(this.#gapMs, performance.now() - this.#goodMs),
      failures: this.#failures,
    };
    this.#times = [];
    this.#gapMs = 0;
    this.#failures = new Map();
    return taken;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
  }

  async #run(everyMs: number, once: (turn: number) => Promise<void>): Promise<void> {
    for (let turn = 0; !this.#stopping; turn++) {
      const startedMs = performance.now();
      await once(turn).then(
        () => {
          const nowMs = performance.now();
          this.#times.push(nowMs - startedMs);
          this.#gapMs = Math.max(this.#gapMs, nowMs - this.#goodMs);
          this.#goodMs = nowMs;
        },
        (error: Error) => {
          // The same is said with other numbers of seconds.
          const message = error.message.replace(/\d+ s old/, 'N s old');
          this.#failures.set(message, (this.#failures.get(message) ?? 0) + 1);
        },
      );
      await sleep(Math.max(1, everyMs - (performance.now() - startedMs)));
    }
  }
}

/** A sample is written and acknowledged: by turns of enough series to meet every shard. */
export function writeProbe(client: Client): Probe {
  return new Probe(20, (turn) =>
    client.write([{ labels: { __name__: 'probe', turn: String(turn % 64) }, timestampMs: Date.now(), value: 1 }]),
  );
}

/** Everything is counted, and the answer says that it is complete. */
export function readProbe(url: string, region: string): Probe {
  const query = new URLSearchParams({ query: 'count(probe)', region, nocache: '1' });
  return new Probe(50, async () => {
    const response = await fetch(`${url}/api/v1/query?${query}`, { signal: AbortSignal.timeout(QUERY_MS) });
    const { data, error } = (await response.json()) as {
      error?: string;
      data?: { coverage: { state: string; ranges: { state: string; reason?: string }[] } };
    };
    if (data === undefined) throw new Error(`${response.status} ${error}`);
    const bad = data.coverage.ranges.find(({ state }) => state !== 'complete');
    if (bad !== undefined) throw new Error(`${bad.state}: ${bad.reason}`);
  });
}

/** A phase of both probes in words. */
export function told(what: string, writes: Probe, reads: Probe): string {
  const lines = [what];
  for (const [name, probe] of Object.entries({ writes, reads })) {
    const { times, gapMs, failures } = probe.take();
    lines.push(`  ${name}: ${inWords(times)}, longest time without one ${gapMs.toFixed(0)} ms`);
    for (const [message, count] of failures) lines.push(`    ${count} failed: ${message}`);
  }
  return lines.join('\n');
}

export function inWords(times: readonly number[]): string {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (part: number) =>
    (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN).toFixed(1);
  return `p50 ${at(0.5)} p99 ${at(0.99)} max ${at(1)} ms (${times.length})`;
}
