/**
 * The mix of series that the kernel's figures stand on: 30 % constant, 20 % integer random walk, 25 % gauge with two
 * decimals, 25 % integer counter, a sample every 15 s, with or without jitter on the timestamps. Deterministic.
 */

export const STEP_MS = 15_000;
/** Samples of a series in a window of two hours. */
export const WINDOW_TICKS = 480;

export const KINDS = ['constant', 'walk', 'decimal', 'counter'] as const;

/** Different courses of each kind; series beyond share them. A prime, so that what is shared lies far apart. */
const COURSES = 1511;
/** Series by kind, twenty in turn: 6 constant, 4 walk, 5 decimal, 5 counter. */
const TURN = [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 2, 3, 0];

/** Uniform in [0, 1); xorshift128+ would be no better here than this LCG's top bits. */
function random(seed: number): () => number {
  let state = (seed * 2_654_435_761 + 12_345) >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state >>> 8) / 2 ** 24;
  };
}

function course(kind: number, index: number, ticks: number): Float64Array {
  const next = random(kind * 1000 + index + 1);
  const values = new Float64Array(ticks);
  let value =
    kind === 0 ? Math.floor(next() * 1000) : kind === 1 ? 500 + Math.floor(next() * 1000) : Math.floor(next() * 1e5);
  for (let i = 0; i < ticks; i++) {
    if (kind === 1) value += Math.floor(next() * 11) - 5;
    else if (kind === 2) value = Math.max(0, value + Math.floor(next() * 401) - 200);
    else if (kind === 3) value += Math.floor(next() * 200);
    values[i] = kind === 2 ? value / 100 : value;
  }
  return values;
}

export class Mix {
  readonly ticks: number;
  readonly jitterMs: number;
  readonly #courses: Float64Array[][];

  /** `jitterMs`: timestamps lie up to this much around their grid. */
  constructor(options: { ticks?: number; jitterMs?: number } = {}) {
    this.ticks = options.ticks ?? WINDOW_TICKS;
    this.jitterMs = options.jitterMs ?? 0;
    this.#courses = KINDS.map((_, kind) => Array.from({ length: COURSES }, (_, i) => course(kind, i, this.ticks)));
  }

  kind(series: number): number {
    return TURN[series % TURN.length] as number;
  }

  value(series: number, tick: number): number {
    return this.#courses[this.kind(series)]?.[series % COURSES]?.[tick] as number;
  }

  /** Milliseconds after the start, at least 0. */
  offsetMs(series: number, tick: number): number {
    if (this.jitterMs === 0) return tick * STEP_MS;
    const mixed = Math.imul(series * 480 + tick + 1, 0x9e3779b1) >>> 0;
    return tick * STEP_MS + ((mixed >>> 12) % (2 * this.jitterMs + 1));
  }
}
