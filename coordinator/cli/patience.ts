/** Commands that wait ask again and again; a coordinator that restarts goes on where it was. */
import type { Context } from './context.ts';

const POLL_MS = 1_000;
/** How often in a row the coordinator may not answer. */
const MOST_FAILURES = 60;

export async function patiently<T>(context: Pick<Context, 'env'>, ask: () => Promise<T>): Promise<T> {
  for (let failures = 1; ; failures++) {
    try {
      return await ask();
    } catch (error) {
      if (failures >= MOST_FAILURES) throw error;
      await pause(context);
    }
  }
}

export function pause({ env }: Pick<Context, 'env'>): Promise<void> {
  return new Promise((resolve) => void env.timers.after(POLL_MS, resolve));
}
