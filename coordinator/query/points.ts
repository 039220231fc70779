/** Reads points pages (ARCHITECTURE.md, "Points page"): series whose steps were computed where they are. */
import { SilverbackError } from '../../core/errors.ts';
import type { Labels } from '../../core/labels.ts';
import { type Aggregation, addLooked, type Looked, nothingLooked } from '../../core/promql/evaluator.ts';
import { bytesOf } from '../../core/promql/pages.ts';
import { HEAD_BYTES, ONE_VALUE } from '../../core/promql/points.ts';
import type { Points } from '../../core/promql/window.ts';
import { labelsAt } from './page.ts';
import type { PointsReader, PointsSet } from './queryable.ts';

/** A part of a page: the series of one shard, or some of them. */
interface Part {
  readonly bytes: Uint8Array;
  readonly text: Buffer;
  readonly view: DataView;
  readonly seriesCount: number;
  /** Where the first series begins. */
  readonly start: number;
}

/** Of one aggregation: what all nodes sent. */
export class PointsPages implements PointsSet {
  readonly looked: Looked;
  count = 0;
  readonly #steps: number;
  readonly #parts: Part[] = [];

  constructor(aggregation: Aggregation) {
    this.#steps = aggregation.steps;
    this.looked = nothingLooked(aggregation);
  }

  /** Takes in what may be several pages one after the other. @throws CORRUPT when lengths do not add up. */
  take(received: Uint8Array): void {
    for (let at = 0; at < received.length; ) {
      const left = received.length - at;
      const view = new DataView(received.buffer, received.byteOffset + at, left);
      const length = left < HEAD_BYTES ? 0 : view.getUint32(0, true);
      const perStepBytes = this.looked.perStep?.byteLength ?? 0;
      const start = HEAD_BYTES + perStepBytes;
      if (length < start || length > left) throw cutShort(at);
      this.#add(received.subarray(at, at + length), view, start);
      at += length;
    }
  }

  #add(received: Uint8Array, view: DataView, start: number): void {
    const { perStep } = this.looked;
    const ownPerStep = perStep && new Float64Array(perStep.length);
    if (ownPerStep !== undefined) bytesOf(ownPerStep).set(received.subarray(HEAD_BYTES, start));
    const looked = { samples: view.getFloat64(8, true), series: view.getFloat64(16, true), perStep: ownPerStep };
    const { buffer, byteOffset, length } = received;
    const part = {
      // Not as a Buffer: views of those are dearer.
      bytes: new Uint8Array(buffer, byteOffset, length),
      text: Buffer.from(buffer, byteOffset, length),
      view,
      seriesCount: view.getUint32(4, true),
      start,
    };
    let at = start;
    for (let i = 0; i < part.seriesCount; i++) {
      if (at + 4 > length) throw cutShort(at);
      at += 4 + view.getUint32(at, true);
      if (at + 4 > length) throw cutShort(at);
      at += this.#pointBytes(view.getUint32(at, true), at);
    }
    if (at !== length) throw cutShort(at);
    addLooked(this.looked, looked);
    this.count += part.seriesCount;
    this.#parts.push(part);
  }

  /** Bytes of a series' points, the count before them too. */
  #pointBytes(counted: number, at: number): number {
    const count = counted % ONE_VALUE;
    if (count > this.#steps) throw cutShort(at);
    if (counted >= ONE_VALUE) return 12;
    return 4 + 8 * count + (count < this.#steps ? (this.#steps + 7) >>> 3 : 0);
  }

  read(isNameless: boolean): PointsReader {
    return new PagesReader(this.#parts, this.#steps, isNameless);
  }
}

class PagesReader implements PointsReader {
  readonly #parts: readonly Part[];
  readonly #steps: number;
  readonly #isNameless: boolean;
  #part = -1;
  #left = 0;
  #at = 0;
  /** Of a series with a point at every step: the values, where they have to lie for a view of doubles. */
  readonly #bytes: Uint8Array;
  readonly #values: Float64Array;

  constructor(parts: readonly Part[], steps: number, isNameless: boolean) {
    this.#parts = parts;
    this.#steps = steps;
    this.#isNameless = isNameless;
    this.#values = new Float64Array(steps);
    this.#bytes = bytesOf(this.#values);
  }

  next(into: Points & { labels: Labels }): boolean {
    while (this.#left === 0) {
      const next = this.#parts[++this.#part];
      if (next === undefined) return false;
      this.#left = next.seriesCount;
      this.#at = next.start;
    }
    this.#left--;
    const { bytes, text, view } = this.#parts[this.#part] as Part;
    const identityAt = this.#at + 4;
    const identityEnd = identityAt + view.getUint32(this.#at, true);
    into.labels = labelsAt(bytes, text, identityAt, identityEnd, this.#isNameless);
    this.#at = identityEnd;
    this.#points(bytes, view, into);
    return true;
  }

  #points(bytes: Uint8Array, view: DataView, into: Points): void {
    const steps = this.#steps;
    const counted = view.getUint32(this.#at, true);
    const count = counted % ONE_VALUE;
    let at = this.#at + 4;
    into.pointCount = count;
    if (counted >= ONE_VALUE) {
      into.values.fill(view.getFloat64(at, true));
      into.present.fill(1);
      at += 8;
    } else if (count === steps) {
      if (steps === 1) into.values[0] = view.getFloat64(at, true);
      else {
        this.#bytes.set(bytes.subarray(at, at + 8 * steps));
        into.values.set(this.#values);
      }
      into.present.fill(1);
      at += 8 * steps;
    } else {
      const bits = at;
      at += (steps + 7) >>> 3;
      for (let i = 0; i < steps; i++) {
        const present = ((bytes[bits + (i >>> 3)] as number) >>> (i & 7)) & 1;
        into.present[i] = present;
        if (present === 0) continue;
        into.values[i] = view.getFloat64(at, true);
        at += 8;
      }
    }
    this.#at = at;
  }
}

function cutShort(at: number): SilverbackError {
  return new SilverbackError('CORRUPT', `a points page does not add up at byte ${at}`);
}
