/** What the kernel's tests share: batches from plain samples, a model to compare with, and arbitraries. */
import fc from 'fast-check';
import { type BatchColumns, startOfBatch } from '../../core/kernel/batch.ts';
import type { DecodedColumns } from '../../core/kernel/codec.ts';
import {
  type AppendSlice,
  type RefTable,
  type SeriesId,
  ShardKernel,
  type ShardKernelOptions,
  WINDOW_MS,
} from '../../core/kernel/shard.ts';
import { encodeIdentity, makeLabels } from '../../core/labels.ts';

/** Bits are those of the float64; `ref` is the sender's. */
export interface Sample {
  readonly ref: number;
  readonly ms: bigint;
  readonly bits: bigint;
}

export const STALE = 0x7ff0_0000_0000_0002n;
export const T0 = BigInt(WINDOW_MS) * 236_111n;
export const ANY_AGE = { minMs: 0, maxMs: Number.POSITIVE_INFINITY };

export function identityOf(n: number): Uint8Array {
  return encodeIdentity(makeLabels({ __name__: 'metric', n: String(n) }));
}

export function bitsOf(value: number): bigint {
  return new BigUint64Array(new Float64Array([value]).buffer)[0] as bigint;
}

/** One run per stretch of samples with equal refs. `counted` false: every sample its own run, and no counts. */
export function columnsOf(samples: readonly Sample[], counted: boolean): BatchColumns {
  const refs: number[] = [];
  const counts: number[] = [];
  for (const { ref } of samples) {
    if (counted && refs.length > 0 && refs[refs.length - 1] === ref) {
      counts[counts.length - 1] = (counts[counts.length - 1] as number) + 1;
    } else {
      refs.push(ref);
      counts.push(1);
    }
  }
  return {
    refs: new Uint8Array(new Uint32Array(refs).buffer),
    counts: new Uint8Array(new Uint32Array(counted ? counts : []).buffer),
    timestamps: new Uint8Array(new BigInt64Array(samples.map((s) => s.ms)).buffer),
    values: new Uint8Array(new BigUint64Array(samples.map((s) => s.bits)).buffer),
  };
}

/** A copy of a slice: its views would not outlive the next call. */
export function keep(slice: AppendSlice): AppendSlice {
  return {
    ...slice,
    record: slice.record.slice(),
    undefinedSeries: slice.undefinedSeries.slice(),
    unknownRefs: slice.unknownRefs.slice(),
  };
}

/** A kernel with a sender that knows its first `seriesCount` series by their numbers. */
export class Bench {
  readonly kernel: ShardKernel;
  readonly refs: RefTable;
  readonly ids: SeriesId[] = [];

  /** `first`: what is done to the kernel before all else. */
  constructor(
    seriesCount: number,
    options: Partial<ShardKernelOptions> = {},
    first: (kernel: ShardKernel) => void = () => undefined,
  ) {
    this.kernel = ShardKernel.create({ maxSeriesCount: 10_000, maxMemoryBytes: 2 ** 28, ...options });
    first(this.kernel);
    this.refs = this.kernel.createRefs();
    for (let ref = 0; ref < seriesCount; ref++) {
      const { id } = this.kernel.intern(identityOf(ref));
      this.kernel.defineRef(this.refs, ref, id);
      this.ids.push(id);
    }
  }

  append(samples: readonly Sample[], counted = true, admission = ANY_AGE): AppendSlice[] {
    const slices: AppendSlice[] = [];
    const columns = columnsOf(samples, counted);
    for (const cursor = startOfBatch(); !cursor.done; ) {
      slices.push(keep(this.kernel.append(this.refs, columns, admission, cursor)));
    }
    return slices;
  }

  id(ref: number): SeriesId {
    return this.ids[ref] as SeriesId;
  }

  /** All samples of a series in a window as [ms, bits], through `chunk` and `decode`. */
  read(ref: number, windowStartMs: number, block?: Uint8Array): [bigint, bigint][] {
    const chunk = this.kernel.chunk(this.id(ref), windowStartMs, block, 0, Number.POSITIVE_INFINITY);
    return chunk === undefined ? [] : pairs(this.kernel.chunks.decode([chunk.slice()]));
  }
}

export function pairs({ timestamps, values }: DecodedColumns): [bigint, bigint][] {
  const bits = new BigUint64Array(values.buffer, values.byteOffset, values.length);
  return Array.from(timestamps, (ms, i) => [BigInt(ms), bits[i] as bigint]);
}

/** The merge rule, written down once more. */
export function winnerOf(a: bigint, b: bigint): bigint {
  if (a === STALE) return b;
  if (b === STALE) return a;
  return totalOrder(a) >= totalOrder(b) ? a : b;
}

/** IEEE 754 totalOrder as an order of integers. */
function totalOrder(bits: bigint): bigint {
  return bits >> 63n ? -1n - (bits & 0x7fff_ffff_ffff_ffffn) : bits;
}

/** What must be in the store after any arrival of the samples, in any order, any number of times. */
export function unionOf(samples: readonly Sample[]): Map<number, Map<bigint, bigint>> {
  const series = new Map<number, Map<bigint, bigint>>();
  for (const { ref, ms, bits } of samples) {
    const set = series.get(ref) ?? new Map<bigint, bigint>();
    series.set(ref, set);
    const there = set.get(ms);
    set.set(ms, there === undefined ? bits : winnerOf(there, bits));
  }
  return series;
}

export function sorted(set: ReadonlyMap<bigint, bigint>): [bigint, bigint][] {
  return [...set].sort((a, b) => (a[0] < b[0] ? -1 : 1));
}

/** Bits of the values that matter: everything, short decimals, and what breaks careless code. */
export const anyBits: fc.Arbitrary<bigint> = fc.oneof(
  fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }),
  fc.integer({ min: -100_000, max: 100_000 }).map(bitsOf),
  fc.integer({ min: -100_000, max: 100_000 }).map((n) => bitsOf(n / 100)),
  fc.constantFrom(
    STALE,
    0x7ff8_0000_0000_0001n,
    0xfff8_0000_0000_0001n,
    0xffff_ffff_ffff_ffffn,
    bitsOf(Number.POSITIVE_INFINITY),
    bitsOf(Number.NEGATIVE_INFINITY),
    bitsOf(-0),
    bitsOf(0),
    1n,
    0x8000_0000_0000_0001n,
    bitsOf(Number.MAX_VALUE),
    bitsOf(2 ** 51),
    bitsOf(2 ** 53 + 2),
    bitsOf(0.1 + 0.2),
  ),
);

/** Values as series have them: mostly one kind each. */
export const courseOfBits = (length: number): fc.Arbitrary<bigint[]> =>
  fc.oneof(
    fc.array(anyBits, { minLength: length, maxLength: length }),
    anyBits.map((bits) => new Array<bigint>(length).fill(bits)),
    fc
      .tuple(
        fc.integer({ min: -1_000_000, max: 1_000_000 }),
        fc.constantFrom(1, 10, 100, 1000, 1_000_000),
        fc.array(fc.integer({ min: -50, max: 2000 }), { minLength: length, maxLength: length }),
      )
      .map(([start, scale, steps]) => {
        let value = start;
        return steps.map((step) => {
          value += step;
          return bitsOf(value / scale);
        });
      }),
  );

/** Strictly rising offsets within a window: a grid, a grid with jitter, a grid with gaps, or anything. */
export const risingOffsets = (length: number): fc.Arbitrary<number[]> =>
  fc
    .tuple(
      fc.constantFrom(1, 1000, 15_000),
      fc.array(fc.integer({ min: 0, max: 20 }), { minLength: length, maxLength: length }),
      fc.constantFrom('grid', 'jitter', 'gaps', 'any'),
      fc.uniqueArray(fc.integer({ min: 0, max: WINDOW_MS - 1 }), { minLength: length, maxLength: length }),
    )
    .map(([step, noise, kind, any]) => {
      if (kind === 'any') return any.sort((a, b) => a - b);
      let at = 0;
      const offsets: number[] = [];
      for (const n of noise) {
        at += step + (kind === 'gaps' && n === 0 ? 7 * step : 0);
        offsets.push(at + (kind === 'jitter' && step > 40 ? n : 0));
      }
      return (offsets.at(-1) as number) < WINDOW_MS ? offsets : any.sort((a, b) => a - b);
    });
