/** What tests of the meta store look with. */
import { SilverbackError } from '../../core/errors.ts';
import type { Event, WatchHandler } from '../../core/meta/store.ts';

/** Waits until `check` no longer throws; fails with its last error. */
export async function eventually<T>(check: () => T | Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await check();
    } catch (error) {
      if (tries >= 1_000) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'OK';
  } catch (error) {
    return error instanceof SilverbackError ? error.code : `not coded: ${String(error)}`;
  }
}

export class Recorder implements WatchHandler {
  readonly seen: Event[] = [];
  readonly revisions: number[] = [];
  error: Error | undefined;
  events(events: readonly Event[], revision: number): void {
    this.seen.push(...events);
    this.revisions.push(revision);
  }
  ended(error: Error): void {
    this.error = error;
  }
  get code(): string | undefined {
    return (this.error as SilverbackError | undefined)?.code;
  }
  get puts(): string[] {
    return this.seen.map(({ key, entry }) => (entry === undefined ? `-${key}` : `${key}=${entry.value}`));
  }
}
