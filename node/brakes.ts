/**
 * Whose write streams are not read for a while: who sends more than is taken from it. What it sends on stays with it, held back
 * by the flow control of its connections, and takes no time of the node's that others wait for. A caller is braked
 *
 * - while its requests that wait for their turn (turns.ts) are more than LINE_BYTES;
 * - for as long as it was told to wait, PAUSE_MS at most, when it was refused more than REFUSED_BYTES meanwhile: it does not
 *   wait. Whoever does is hardly ever refused as much, and then not braked for longer than it was to wait.
 *
 * All streams of a caller are braked together. Its requests before that are answered; nothing is lost.
 */
import type { Env, Timer } from '../core/env/env.ts';
import type { Duplex } from '../core/grpc.ts';
import type { Tally } from './callers.ts';

const LINE_BYTES = 4 * 1024 * 1024;
const REFUSED_BYTES = 4 * 1024 * 1024;
const PAUSE_MS = 200;

type Stream = Pick<Duplex<unknown, unknown>, 'pause' | 'resume'>;

/** Of one caller. */
export class Brake {
  readonly holder: string;
  readonly #env: Pick<Env, 'clock' | 'timers'>;
  readonly #tally: Tally;
  readonly #streams = new Set<Stream>();
  #lineBytes = 0;
  #refusedBytes = 0;
  /** What was refused before does not count any more from then on. */
  #countedUntilMs = 0;
  #release: Timer | undefined;
  #isOn = false;
  #sinceMs = 0;

  constructor(holder: string, env: Pick<Env, 'clock' | 'timers'>, tally: Tally) {
    this.holder = holder;
    this.#env = env;
    this.#tally = tally;
  }

  get streamCount(): number {
    return this.#streams.size;
  }

  /** For `Brakes` only. */
  add(stream: Stream): void {
    this.#streams.add(stream);
    if (!this.#isOn) return;
    this.#tally.pausedCount++;
    stream.pause();
  }

  /** For `Brakes` only. */
  delete(stream: Stream): void {
    if (!this.#streams.delete(stream) || !this.#isOn) return;
    this.#tally.pausedCount--;
    stream.resume();
    if (this.#streams.size === 0) this.#release?.cancel();
  }

  /** A request waits for its turn. */
  wait(bytes: number): void {
    this.#lineBytes += bytes;
    this.#look();
  }

  /** Its turn has come. */
  begin(bytes: number): void {
    this.#lineBytes -= bytes;
    this.#look();
  }

  /** So much was sent for which there is no room before `retryAfterMs`. */
  refuse(bytes: number, retryAfterMs: number): void {
    const nowMs = this.#env.clock.monotonicMs();
    if (nowMs >= this.#countedUntilMs) {
      this.#refusedBytes = 0;
      this.#countedUntilMs = nowMs + Math.min(PAUSE_MS, retryAfterMs);
    }
    this.#refusedBytes += bytes;
    if (this.#refusedBytes <= REFUSED_BYTES || this.#release !== undefined) return;
    this.#release = this.#env.timers.after(this.#countedUntilMs - nowMs, () => {
      this.#release = undefined;
      this.#look();
    });
    this.#look();
  }

  #look(): void {
    // Such that it is not put on and off with every request.
    const isLong = this.#lineBytes > (this.#isOn ? LINE_BYTES / 2 : LINE_BYTES);
    const isOn = isLong || this.#release !== undefined;
    if (isOn === this.#isOn) return;
    this.#isOn = isOn;
    const nowMs = this.#env.clock.monotonicMs();
    if (isOn) this.#sinceMs = nowMs;
    else this.#tally.pausedMs += nowMs - this.#sinceMs;
    this.#tally.pausedCount += isOn ? this.#streams.size : -this.#streams.size;
    for (const stream of this.#streams) {
      if (isOn) stream.pause();
      else stream.resume();
    }
  }
}

export class Brakes {
  readonly #env: Pick<Env, 'clock' | 'timers'>;
  readonly #brakes = new Map<string, Brake>();

  constructor(env: Pick<Env, 'clock' | 'timers'>) {
    this.#env = env;
  }

  /** The brake of this caller, on the stream, too, from now on. */
  open(holder: string, tally: Tally, stream: Stream): Brake {
    let brake = this.#brakes.get(holder);
    if (brake === undefined) {
      brake = new Brake(holder, this.#env, tally);
      this.#brakes.set(holder, brake);
    }
    brake.add(stream);
    return brake;
  }

  close(brake: Brake, stream: Stream): void {
    brake.delete(stream);
    if (brake.streamCount === 0) this.#brakes.delete(brake.holder);
  }
}
