/** When the next node of a cluster may be restarted, as `silverback status --wait` finds it out. */
import type { StatusReport } from '../coordinator/cluster/report.ts';

const POLL_MS = 200;

/** Waits until the cluster says that nothing is in the way. Rejects after `withinMs`. */
export async function untilWhole(url: string, withinMs: number): Promise<void> {
  const untilMs = performance.now() + withinMs;
  for (;;) {
    const why = await unsettled(url).catch((error: Error) => [error.message]);
    if (why.length === 0) return;
    if (performance.now() > untilMs) throw new Error(`not whole after ${withinMs / 1_000} s: ${why.join('; ')}`);
    await new Promise((wake) => setTimeout(wake, POLL_MS));
  }
}

async function unsettled(url: string): Promise<readonly string[]> {
  const response = await fetch(`${url}/api/v1/cluster/status`, { signal: AbortSignal.timeout(10_000) });
  return ((await response.json()) as { data: StatusReport }).data.unsettled;
}
