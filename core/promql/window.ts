/**
 * Range functions over the samples of one series, as the coordinator and the nodes both compute them: for every step the
 * window of samples it looks at. Windows are index pairs into the columns, so that nothing is copied per step.
 */
import { type Labels, NO_LABELS } from '../labels.ts';

/** Times at which a selector looks at the data: `startMs + i * stepMs`, offset and @ applied (with @, the step is 0). */
export interface Reference {
  readonly startMs: number;
  readonly stepMs: number;
}

/** A value for each step. Where `present` is 0, `values` says nothing. */
export interface Points {
  readonly values: Float64Array;
  readonly present: Uint8Array;
  /** How many steps are present. */
  pointCount: number;
}

/** One series' samples: the first `count` of both columns, without stale markers, valid until the next series. */
export class Samples {
  labels: Labels = NO_LABELS;
  timestamps: Float64Array = new Float64Array(0);
  values: Float64Array = new Float64Array(0);
  count = 0;
}

/** Of an anchored or smoothed selector: its windows hold samples of a lookback before the range, and after it. */
export type Extent = 'anchored' | 'smoothed';

export interface WindowOptions {
  readonly rangeMs: number;
  readonly reference: Reference;
  readonly steps: number;
  /** Of use with an extent. */
  readonly lookbackMs: number;
  readonly extent?: Extent | undefined;
  /** Default: none. */
  readonly scalars?: readonly Float64Array[];
}

/** Samples that one slice of a series may visit, about a millisecond's worth. */
const SLICE_SAMPLES = 200_000;

/** A series' samples with the windows of all steps: window `i` is the samples from `low[i]` to below `high[i]`. */
export class Windows extends Samples {
  readonly low: Int32Array;
  readonly high: Int32Array;
  readonly rangeMs: number;
  readonly extent: Extent | undefined;
  /** The function's other arguments in order, by step. */
  readonly scalars: readonly Float64Array[];
  /** The steps to compute now. */
  from = 0;
  to = 0;
  readonly #lookbackMs: number;
  readonly #reference: Reference;

  constructor({ rangeMs, reference, steps, lookbackMs, extent, scalars = [] }: WindowOptions) {
    super();
    this.low = new Int32Array(steps);
    this.high = new Int32Array(steps);
    this.rangeMs = rangeMs;
    this.extent = extent;
    this.scalars = scalars;
    this.#lookbackMs = lookbackMs;
    this.#reference = reference;
  }

  /** Where the window of a step ends (inclusive), ms. It begins, exclusive, `rangeMs` earlier. */
  end(step: number): number {
    return this.#reference.startMs + step * this.#reference.stepMs;
  }

  /** Puts `from` and `to` around the next steps: all that are left, or as many as keep to the bound of a slice, at least one. */
  nextSlice(all: boolean): void {
    const { low, high } = this;
    this.from = this.to;
    let to = all ? low.length : this.from;
    for (let visits = 0; to < low.length && visits < SLICE_SAMPLES; to++) {
      visits += 1 + (high[to] as number) - (low[to] as number);
    }
    this.to = to;
  }

  /** Finds all windows in one pass over the samples. Returns how many samples they hold together; adds them to `perStep`. */
  sweep(perStep: Float64Array | undefined): number {
    const { timestamps, count, low, high, rangeMs } = this;
    const { startMs, stepMs } = this.#reference;
    const before = this.extent === undefined ? rangeMs : rangeMs + this.#lookbackMs;
    const after = this.extent === 'smoothed' ? this.#lookbackMs : 0;
    // Where a window begins, an earlier one ended, when the range is a whole number of steps: no need to search for it.
    const earlier = after === 0 && stepMs > 0 && before % stepMs === 0 ? before / stepMs : low.length;
    let lo = 0;
    let hi = 0;
    let visited = 0;
    for (let i = 0; i < low.length; i++) {
      const end = startMs + i * stepMs;
      while (hi < count && (timestamps[hi] as number) <= end + after) hi++;
      if (i >= earlier) lo = high[i - earlier] as number;
      else while (lo < hi && (timestamps[lo] as number) <= end - before) lo++;
      low[i] = lo;
      high[i] = hi;
      visited += hi - lo;
      if (perStep) perStep[i] = (perStep[i] as number) + hi - lo;
    }
    return visited;
  }
}

/**
 * Computes a range function for the steps `w.from` to below `w.to`: writes values and presence, and adds
 * the present ones to `points.pointCount`.
 */
export type WindowKernel = (w: Windows, points: Points) => void;
