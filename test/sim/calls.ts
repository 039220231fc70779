/**
 * Calls from one simulated machine to another: a question that is answered, over the links of a `Network`. A way that stays cut
 * for long, or a process that dies, makes a call UNAVAILABLE; whether it was carried out is then unknown. What a dead process
 * asked is answered to nobody.
 */
import { SilverbackError } from '../../core/errors.ts';
import type { Network } from './network.ts';

/** How long a message waits for a way that is cut, before its sender is told. */
const GIVE_UP_MS = 3_000;
/** Between two looks whether it is open. */
const LOOK_MS = 100;

/** A process on a machine: from its start to its end. */
export interface Life {
  readonly host: string;
  isOver: boolean;
}

export class Calls {
  readonly #network: Network;
  readonly #pending = new Set<{ readonly to: string; readonly fail: (error: Error) => void }>();

  constructor(network: Network) {
    this.#network = network;
  }

  /** Runs `serve` at the host `to`. */
  call<T>(life: Life, to: string, serve: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const settle = (how: () => void): void => {
        this.#pending.delete(one);
        if (!life.isOver) how();
      };
      const one = { to, fail: (error: Error) => settle(() => reject(error)) };
      if (life.isOver) return;
      this.#pending.add(one);
      const back = (how: () => void): Promise<void> => this.pass(to, life.host).then(() => settle(how));
      this.pass(life.host, to)
        .then(serve)
        .then(
          (value) => back(() => resolve(value)),
          (error: Error) => back(() => reject(error)),
        )
        .catch(one.fail);
    });
  }

  /** Until something ends: `fail` is told when the host `to` does. */
  during(life: Life, to: string, fail: (error: Error) => void): () => void {
    const one = { to, fail: (error: Error) => life.isOver || fail(error) };
    this.#pending.add(one);
    return () => void this.#pending.delete(one);
  }

  /** A process is gone: who waits for it is told. */
  down(host: string): void {
    for (const one of [...this.#pending]) {
      if (one.to !== host) continue;
      this.#pending.delete(one);
      this.#network.later(this.#network.transitMs(), () => one.fail(away(host)));
    }
  }

  /** One message's way. */
  pass(from: string, to: string): Promise<void> {
    const network = this.#network;
    const untilMs = network.nowMs + GIVE_UP_MS;
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const host = network.host(to);
        if (host === undefined || !host.isUp) reject(away(to));
        else if (!network.isCut(from, to) && !host.machine.isPaused) resolve();
        else if (network.nowMs > untilMs && !host.machine.isPaused) reject(away(to));
        else network.later(LOOK_MS, look);
      };
      network.later(network.transitMs(), look);
    });
  }
}

function away(host: string): SilverbackError {
  return new SilverbackError('UNAVAILABLE', `${host} cannot be reached`);
}
