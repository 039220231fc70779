/** Reads back everything a history wrote: the bits through `Select`, the count and the coverage through PromQL too. */
import { FollowedPlacement } from '../client/placement.ts';
import { type Coverage, Reader } from '../client/reader.ts';
import { Page } from '../coordinator/query/page.ts';
import { nodeEnv } from '../core/env/node.ts';
import { ChunkCodec } from '../core/kernel/codec.ts';
import { eventually } from '../test/local/cluster.ts';
import { Check, type History, type Verdict } from './history.ts';
import { METRIC } from './load.ts';

export interface Answer {
  readonly verdict: Verdict;
  /** What is said to be missing from the answer. */
  readonly gaps: readonly Coverage[];
  /** Samples, as `count_over_time` counts them. */
  readonly counted: number;
  /** The `coverage` of the HTTP answer. */
  readonly state: string;
  readonly reasons: readonly string[];
}

/** What a cluster that serves every shard gives back. `url`: of the HTTP API; `grpc`: host:port of its coordinator. */
export async function readBack(
  cluster: { readonly url: string; readonly grpc: string },
  history: History,
): Promise<Answer> {
  const placement = new FollowedPlacement({ env: nodeEnv, endpoints: [cluster.grpc], caller: 'chaos' });
  const reader = new Reader({ env: nodeEnv, placement, caller: 'chaos' });
  const codec = ChunkCodec.create();
  const check = new Check(history);
  const receive = (bytes: Uint8Array) => {
    const page = new Page(bytes);
    for (let i = 0; i < page.count; i++) {
      const { timestamps, values } = codec.decode(page.chunks(i));
      check.see(numberOf(page.labels(i)), timestamps, values);
    }
  };
  try {
    // Connections to a coordinator that was down are tried again every two seconds.
    await eventually(() => placement.refresh(), 15_000);
    const matchers = [{ name: '__name__', op: '=', value: METRIC } as const];
    const range = { fromMs: 0, toMs: Date.now() + 86_400_000 };
    // Before the bits are read: a query must not need the read before it to notice damage.
    const { counted, state, reasons } = await count(cluster.url);
    const { coverage } = await reader.select({ ...range, matchers }, receive, { signal: new AbortController().signal });
    const gaps = coverage.filter((entry) => entry.state !== 'complete');
    return { verdict: check.verdict(), gaps, counted, state, reasons };
  } finally {
    reader.close();
    placement.close();
  }
}

/** The number in a series' labels, which are names and values in turn; NaN for labels that no history has. */
export function numberOf(labels: readonly string[]): number {
  for (let i = 0; i < labels.length; i += 2) if (labels[i] === 'series') return Number(labels[i + 1]);
  return Number.NaN;
}

interface CountBody {
  readonly error?: string;
  readonly data?: {
    readonly result: readonly { readonly value: readonly [number, string] }[];
    readonly coverage: { readonly state: string; readonly ranges: readonly { readonly reason?: string }[] };
  };
}

async function count(url: string): Promise<{ counted: number; state: string; reasons: string[] }> {
  const query = new URLSearchParams({ query: `sum(count_over_time(${METRIC}[25h]))` });
  const response = await fetch(`${url}/api/v1/query?${query}`);
  const body = (await response.json()) as CountBody;
  if (body.data === undefined) throw new Error(`counting: ${response.status} ${body.error}`);
  const { result, coverage } = body.data;
  const counted = Number(result[0]?.value[1] ?? 0);
  const { state, ranges } = coverage;
  return { counted, state, reasons: ranges.flatMap(({ reason }) => (reason === undefined ? [] : [reason])) };
}
