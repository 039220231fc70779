import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { lacking, settledMs, wayOf } from '../../node/repair/plan.ts';

const MINUTE = 60_000;
const NOW_MS = Date.UTC(2026, 0, 1);

/** What a copy has of a window: whether as a block, and things in buckets, one bit each. */
interface Window {
  isBlock: boolean;
  readonly buckets: number[];
}

const BUCKETS = 256;

class Copy {
  readonly windows = new Map<number, Window>();
  readonly taken = new Map<string, Map<number, string>>();
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  window(startMs: number): Window {
    let window = this.windows.get(startMs);
    if (window === undefined) {
      window = { isBlock: false, buckets: new Array<number>(BUCKETS).fill(0) };
      this.windows.set(startMs, window);
    }
    return window;
  }

  digest(startMs: number): string {
    const { buckets } = this.window(startMs);
    return buckets.every((bits) => bits === 0) ? '' : buckets.join();
  }

  side(startMs: number) {
    const { buckets, isBlock } = this.window(startMs);
    return { buckets: new Uint8Array(Uint32Array.from(buckets).buffer), hasBlock: isBlock };
  }

  /** One round. Returns the windows that were asked for, in order. */
  takeFrom(other: Copy): number[] {
    const own = new Map([...this.windows.keys()].map((startMs) => [startMs, this.digest(startMs)]));
    const theirs = [...other.windows.keys()].map((startMs) => ({ startMs, digest: other.digest(startMs) }));
    let taken = this.taken.get(other.name);
    if (taken === undefined) {
      taken = new Map();
      this.taken.set(other.name, taken);
    }
    const wanted = lacking(theirs, own, taken);
    for (const startMs of wanted) {
      const mine = this.window(startMs);
      const from = other.window(startMs);
      const way = wayOf(this.side(startMs), other.side(startMs));
      if (way === 'block') expect([mine.isBlock, from.isBlock]).toEqual([false, true]);
      if (way === 'block') mine.isBlock = true;
      for (const [bucket, bits] of from.buckets.entries()) {
        const isWanted = way === 'block' || ((way[bucket >> 3] as number) & (1 << (bucket & 7))) !== 0;
        if (isWanted) mine.buckets[bucket] = (mine.buckets[bucket] as number) | bits;
      }
      taken.set(startMs, other.digest(startMs));
    }
    return wanted;
  }
}

const things = fc.array(
  fc.record({
    copy: fc.nat(2),
    startMs: fc.nat(3),
    bucket: fc.oneof(fc.nat(3), fc.nat(BUCKETS - 1)),
    bit: fc.nat(5),
    isBlock: fc.boolean(),
  }),
  { maxLength: 200 },
);

describe('the plan', () => {
  test('copies that take from one another in any order come to the union, and then ask for nothing', () => {
    fc.assert(
      fc.property(
        things,
        fc.integer({ min: 2, max: 3 }),
        fc.array(fc.tuple(fc.nat(2), fc.nat(2)), { maxLength: 12 }),
        (given, count, steps) => {
          const copies = Array.from({ length: count }, (_, i) => new Copy(`c${i}`));
          const union = new Copy('union');
          for (const { copy, startMs, bucket, bit, isBlock } of given) {
            const window = (copies[copy % count] as Copy).window(startMs);
            window.isBlock ||= isBlock;
            for (const { buckets } of [window, union.window(startMs)])
              buckets[bucket] = (buckets[bucket] as number) | (1 << bit);
          }
          for (const [to, from] of steps) {
            if (to % count === from % count) continue;
            const asked = (copies[to % count] as Copy).takeFrom(copies[from % count] as Copy);
            expect(asked).toEqual([...asked].sort((a, b) => b - a));
          }
          // Two rounds of each: then nothing is left that one has and another lacks.
          const round = () => copies.flatMap((to) => copies.flatMap((from) => (to === from ? [] : to.takeFrom(from))));
          round();
          round();
          for (const copy of copies) {
            for (const startMs of union.windows.keys()) expect(copy.digest(startMs)).toBe(union.digest(startMs));
          }
          expect(round()).toEqual([]);
        },
      ),
    );
  });

  it('takes a block only where there is none here, and most of the window differs', () => {
    const words = (of: (bucket: number) => number) =>
      new Uint8Array(Uint32Array.from({ length: BUCKETS }, (_, bucket) => of(bucket)).buffer);
    const full = words((bucket) => bucket + 1);
    const empty = words(() => 0);
    const nearlyFull = words((bucket) => (bucket === 7 ? 0 : bucket + 1));
    expect(wayOf({ buckets: empty, hasBlock: false }, { buckets: full, hasBlock: true })).toBe('block');
    expect(wayOf({ buckets: empty, hasBlock: true }, { buckets: full, hasBlock: true })).not.toBe('block');
    expect(wayOf({ buckets: empty, hasBlock: false }, { buckets: full, hasBlock: false })).not.toBe('block');
    const way = wayOf({ buckets: nearlyFull, hasBlock: false }, { buckets: full, hasBlock: true });
    expect([...(way as Uint8Array)]).toEqual([1 << 7, ...new Array<number>(31).fill(0)]);
  });

  it('looks at everything where sums differ and their words do not', () => {
    const same = new Uint8Array(4 * BUCKETS).fill(1);
    expect(wayOf({ buckets: same, hasBlock: true }, { buckets: same, hasBlock: true })).toEqual(
      new Uint8Array(32).fill(0xff),
    );
  });

  it('waits for the frontiers of copies that are heard of', () => {
    expect(settledMs([], NOW_MS)).toBe(NOW_MS - MINUTE);
    expect(settledMs([{ ageMs: 500 }, { ageMs: 2 * MINUTE }], NOW_MS)).toBe(NOW_MS - 3 * MINUTE);
    expect(settledMs([{ ageMs: 500 }, { ageMs: undefined }], NOW_MS)).toBe(NOW_MS - 30 * MINUTE);
    expect(settledMs([{ ageMs: 600 * MINUTE }], NOW_MS)).toBe(NOW_MS - 30 * MINUTE);
  });
});
