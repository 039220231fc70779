/** A bar on standard error while something takes its time; where that is no terminal, only what has to be said. */
import { Presets, SingleBar } from 'cli-progress';
import type { Context } from './context.ts';

export interface Progress {
  update(done: number, what: string): void;
  /** Something that has to be known also without a terminal, which has it in the bar. */
  say(what: string): void;
  /** Takes the bar away. */
  stop(): void;
}

export function progress({ answers, err }: Pick<Context, 'answers' | 'err'>, total: number): Progress {
  const options = { stream: answers, format: '{bar} {value}/{total}  {what}', barsize: 30, clearOnComplete: true };
  const bar = new SingleBar({ ...options, hideCursor: true, linewrap: false }, Presets.shades_classic);
  if (answers.isTTY === true) bar.start(total, 0, { what: '' });
  return {
    update: (done, what) => bar.update(done, { what }),
    say: (what) => {
      if (answers.isTTY !== true) err(`${what}\n`);
    },
    stop: () => bar.stop(),
  };
}
