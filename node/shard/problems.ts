import type { Clock } from '../../core/env/env.ts';

/** Something that went wrong and was lived with. */
export interface Problem {
  readonly atMs: number;
  readonly message: string;
}

const MAX_KEPT = 100;

/** What went wrong since the shard was opened: all are counted, the latest are kept. */
export class Problems {
  readonly #clock: Clock;
  #latest: Problem[] = [];
  #count = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get latest(): readonly Problem[] {
    return this.#latest;
  }

  get count(): number {
    return this.#count;
  }

  report(message: string): void {
    this.#count++;
    this.#latest = [...this.#latest.slice(1 - MAX_KEPT), { atMs: this.#clock.nowMs(), message }];
  }
}
