/** When the next node of a cluster may be restarted, as an operator finds it out. */
import type { NodeReport, ShardReport } from '../coordinator/cluster/report.ts';

const POLL_MS = 100;

/** Waits until each copy of each shard is active, serves, and lacks nothing. Resolves with what it waited for; rejects after `withinMs`. */
export async function untilWhole(url: string, withinMs: number): Promise<string[]> {
  const untilMs = performance.now() + withinMs;
  const startedMs = performance.now();
  const seen = new Map<string, number>();
  for (;;) {
    const why = await lacks(url).catch((error: Error) => [error.message]);
    for (const w of why.slice(0, 3)) seen.set(w, performance.now() - startedMs);
    if (why.length === 0) return [...seen].map(([w, ms]) => `${(ms / 1000).toFixed(1)} s: ${w}`);
    if (performance.now() > untilMs) throw new Error(`not whole after ${withinMs / 1_000} s: ${why.join('; ')}`);
    await new Promise((wake) => setTimeout(wake, POLL_MS));
  }
}

async function lacks(url: string): Promise<string[]> {
  const get = async <T>(path: string) => {
    const response = await fetch(`${url}/api/v1/cluster/${path}`, { signal: AbortSignal.timeout(10_000) });
    return ((await response.json()) as { data: T }).data;
  };
  const nodes = await get<readonly NodeReport[]>('nodes');
  const shards = await get<readonly ShardReport[]>('shards');
  const away = nodes.filter((node) => node.state !== 'up' || node.registered !== true);
  const copies = shards.flatMap(({ shard, copies }) => copies.map((copy) => ({ ...copy, shard })));
  const unwell = copies.filter((copy) => copy.state !== 'active' || copy.serving !== 'serving' || copy.problem !== '');
  return [
    ...away.map(({ node, state, reason }) => `${node} is ${state} ${reason}`),
    ...unwell.map(
      ({ node, shard, state, serving, problem }) => `shard ${shard} on ${node}: ${state} ${serving} ${problem}`,
    ),
  ];
}
