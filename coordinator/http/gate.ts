/** Lets so many queries run at a time and so many wait, and turns the others away. */
import { SilverbackError } from '../../core/errors.ts';

export class Gate {
  readonly #runningMost: number;
  readonly #waitingMost: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(runningMost: number, waitingMost: number) {
    this.#runningMost = runningMost;
    this.#waitingMost = waitingMost;
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Runs `task` when its turn comes. Rejects with UNAVAILABLE when too many wait, with CANCELLED when `signal` aborts the wait. */
  async run<T>(signal: AbortSignal, task: () => Promise<T>): Promise<T> {
    if (this.#running < this.#runningMost) this.#running++;
    else await this.#wait(signal);
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }

  #wait(signal: AbortSignal): Promise<void> {
    if (this.#waiting.length >= this.#waitingMost) {
      throw new SilverbackError(
        'UNAVAILABLE',
        `${this.#running} queries are running and ${this.#waiting.length} waiting, which is as many as may be`,
        { retryAfterMs: 1000 },
      );
    }
    return new Promise((resolve, reject) => {
      const enter = (): void => {
        signal.removeEventListener('abort', leave);
        resolve();
      };
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1);
        reject(new SilverbackError('CANCELLED', 'the query was cancelled while it waited for its turn'));
      };
      this.#waiting.push(enter);
      if (signal.aborted) leave();
      else signal.addEventListener('abort', leave, { once: true });
    });
  }
}
