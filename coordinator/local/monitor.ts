/**
 * Self-monitoring: every few seconds the metrics of the cluster's processes and of the machine, written through the SDK
 * like anybody else's.
 */
import { hostname } from 'node:os';
import type { Client } from '../../client/client.ts';
import { parseExposition, type Scraped } from './exposition.ts';
import { readHost } from './host.ts';

const PERIOD_MS = 5_000;

/** One process or machine that has samples. */
export interface Source {
  readonly job: string;
  readonly instance: string;
  readonly read: () => Promise<Scraped[]>;
}

/** A source that answers with Prometheus's text format at `url`. */
export function scrape(job: string, instance: string, url: string): Source {
  return {
    job,
    instance,
    async read() {
      const response = await fetch(url, { signal: AbortSignal.timeout(PERIOD_MS / 2) });
      if (!response.ok) throw new Error(`${url} answers ${response.status}`);
      return parseExposition(await response.text());
    },
  };
}

/** This machine. */
export function host(): Source {
  return { job: 'host', instance: hostname(), read: readHost };
}

export interface Monitor {
  /** Resolves when no reading is under way any more. */
  stop(): Promise<void>;
}

/** Reads every source now and then every few seconds. Each has `up`: 1 when it answered, 0 when it did not, as in Prometheus. */
export function monitor(client: Client, sources: readonly Source[]): Monitor {
  let stopped = false;
  let running: Promise<void> | undefined;
  const round = (): void => {
    if (stopped || running !== undefined) return;
    running = Promise.all(sources.map((source) => record(client, source))).then(() => {
      running = undefined;
    });
  };
  const timer = setInterval(round, PERIOD_MS);
  round();
  return {
    async stop() {
      stopped = true;
      clearInterval(timer);
      await running;
    },
  };
}

async function record(client: Client, { job, instance, read }: Source): Promise<void> {
  const timestampMs = Date.now();
  const samples = await read().then(
    (own) => [...own, { labels: { __name__: 'up' }, value: 1 }],
    () => [{ labels: { __name__: 'up' }, value: 0 }],
  );
  // Labels of the source win over ours of the same name: a process knows best what it is.
  for (const { labels, value } of samples)
    client.append(client.series({ job, instance, ...labels }), timestampMs, value);
}
