/** The line on top: is the cluster ready, and are its nodes up. */
import { queryAt, readiness } from './api.ts';
import { element } from './dom.ts';
import { countOf } from './number.ts';

const PERIOD_MS = 5000;
const PATIENCE_MS = 4000;

/**
 * Keeps `line` true as long as the page is looked at. Nodes are counted by what self-monitoring writes of them; where
 * it is off, or the metrics are away, the line says ready or not and no more. `recovered` is called when a cluster that was
 * not ready is.
 */
export function watchCluster(line: HTMLElement, recovered: () => void): void {
  let wasReady = true;
  const look = async (): Promise<void> => {
    const { ready, text } = await readiness();
    const nodes = ready ? await countNodes() : undefined;
    const down = nodes === undefined ? 0 : nodes.all - nodes.up;
    const state = !ready ? 'missing' : down > 0 ? 'unconfirmed' : 'complete';
    const words = !ready
      ? `not ready: ${text === '' ? 'no reason given' : text}`
      : nodes === undefined
        ? 'ready'
        : down > 0
          ? `ready, ${nodes.up} of ${countOf(nodes.all, 'node')} up`
          : `ready, ${countOf(nodes.all, 'node')}`;
    // Only when it differs: this is a live region, and a screen reader would read it out each time.
    if (line.textContent !== words)
      line.replaceChildren(element('span', { class: `dot ${state}`, 'aria-hidden': 'true' }), words);
    if (ready && !wasReady) recovered();
    wasReady = ready;
  };
  const again = (): void => {
    if (!document.hidden) void look().finally(() => setTimeout(again, PERIOD_MS));
    else document.addEventListener('visibilitychange', again, { once: true });
  };
  again();
}

async function countNodes(): Promise<{ up: number; all: number } | undefined> {
  try {
    const { result } = await queryAt('up{job="node"}', Date.now(), AbortSignal.timeout(PATIENCE_MS));
    if (result.resultType !== 'vector' || result.result.length === 0) return undefined;
    const up = result.result.filter(({ value }) => value[1] === '1').length;
    return { up, all: result.result.length };
  } catch {
    return undefined;
  }
}
