/** What tests of too much have in common: metrics of a process by name and labels, its memory, a writer that is to be spared. */
import { readFileSync } from 'node:fs';
import { Client } from '../../client/index.ts';
import { query } from '../local/cluster.ts';

export interface Row {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** The series of one metric that a process serves. */
export async function rowsOf(metricsUrl: string, name: string): Promise<Row[]> {
  const text = await (await fetch(metricsUrl)).text();
  const rows: Row[] = [];
  for (const line of text.split('\n')) {
    const match = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (match?.[1] !== name) continue;
    const pairs = [...(match[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)];
    rows.push({ labels: Object.fromEntries(pairs.map(([, key, value]) => [key, value])), value: Number(match[3]) });
  }
  return rows;
}

/** The sum of those series of a metric that have these labels. */
export async function sumOf(metricsUrl: string, name: string, labels: Readonly<Record<string, string>> = {}) {
  let sum = 0;
  for (const row of await rowsOf(metricsUrl, name)) {
    if (Object.entries(labels).every(([key, value]) => row.labels[key] === value)) sum += row.value;
  }
  return sum;
}

/** Of a node of `Processes`, whose metrics are here: its gRPC listens 100 ports below. */
export function addressOf(metricsUrl: string): string {
  return `127.0.0.1:${Number(new URL(metricsUrl).port) - 100}`;
}

export function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1_024;
}

const SERIES_COUNT = 100;

/** Writes a sample of each of its series again and again, and notes each that was not acknowledged. */
export class PoliteWriter {
  readonly client: Client;
  readonly failures: string[] = [];
  readonly latenciesMs: number[] = [];
  tickCount = 0;
  #nowMs = Date.now();
  #stopping = false;
  #running: Promise<void> | undefined;

  constructor(endpoint: string, caller = 'polite', region?: string) {
    const home = region === undefined ? {} : { region };
    this.client = new Client({ endpoints: [endpoint], caller, batchAgeMs: 1, onDrop: () => undefined, ...home });
  }

  async tick(): Promise<void> {
    const timestampMs = this.#nowMs++;
    const samples = Array.from({ length: SERIES_COUNT }, (_, i) => ({
      labels: { __name__: 'polite', i: String(i) },
      timestampMs,
      value: i,
    }));
    const startedMs = performance.now();
    await this.client.write(samples).then(
      () => this.tickCount++,
      (error: Error) => this.failures.push(error.message),
    );
    this.latenciesMs.push(performance.now() - startedMs);
  }

  start(): void {
    this.#stopping = false;
    this.#running = (async () => {
      while (!this.#stopping) {
        await this.tick();
        await new Promise((wake) => setTimeout(wake, 20));
      }
    })();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
  }

  /** Samples that are there, by a query. */
  async storedCount(url: string, region = ''): Promise<number> {
    const [found] = await query(url, 'sum(count_over_time(polite[1h]))', this.#nowMs + 1_000, region);
    return Number(found?.value[1] ?? 0);
  }

  get sentCount(): number {
    return this.tickCount * SERIES_COUNT;
  }
}
