/** Waits between tries: doubling, bounded, and spread so that many callers do not come back together. */
import type { Env } from '../env/env.ts';

export class Backoff {
  readonly #env: Env;
  readonly #firstMs: number;
  readonly #mostMs: number;
  #tries = 0;

  constructor(env: Env, bounds: { readonly firstMs: number; readonly mostMs: number }) {
    this.#env = env;
    this.#firstMs = bounds.firstMs;
    this.#mostMs = bounds.mostMs;
  }

  /** How long to wait before the next try: between half of the bound and all of it. */
  nextMs(): number {
    const boundMs = Math.min(this.#mostMs, this.#firstMs * 2 ** this.#tries);
    if (boundMs < this.#mostMs) this.#tries++;
    return boundMs * (0.5 + this.#env.random.next() / 2);
  }

  /** After a success. */
  reset(): void {
    this.#tries = 0;
  }
}
