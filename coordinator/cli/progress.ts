/** A bar on standard error while something takes its time; nothing where that is no terminal. */
import { Presets, SingleBar } from 'cli-progress';
import type { Context } from './context.ts';

export interface Progress {
  update(done: number, what: string): void;
  /** Takes the bar away. */
  stop(): void;
}

export function progress({ answers }: Pick<Context, 'answers'>, total: number): Progress {
  const options = { stream: answers, format: '{bar} {value}/{total}  {what}', barsize: 30, clearOnComplete: true };
  const bar = new SingleBar({ ...options, hideCursor: true, linewrap: false }, Presets.shades_classic);
  if (answers.isTTY === true) bar.start(total, 0, { what: '' });
  return {
    update: (done, what) => bar.update(done, { what }),
    stop: () => bar.stop(),
  };
}
