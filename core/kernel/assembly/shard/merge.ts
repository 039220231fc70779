/**
 * Columns of samples as sorted sets: sorting what came late, and the union of two sets. Columns are u32 offsets and
 * u64 values; a set is strictly rising in its offsets.
 */
import { winner } from './rule';

/** Offsets are below 2^24: four digits of 6 bits. Smaller ones cost a pass more, larger ones more counters than samples. */
const DIGIT_BITS: u32 = 6;
const DIGITS: u32 = 4;
const DIGIT_VALUES: u32 = 1 << DIGIT_BITS;
/** Per digit and value: u32, how many keys have it, then where the next one of them goes. */
const places: usize = memory.data(DIGITS * DIGIT_VALUES * 4, 16);

/**
 * Makes a set of `count` unsorted samples of a window, by the merge rule where offsets repeat. `keys` is working space, 16
 * bytes a sample, `out*` are other columns than the source. Returns how many are left.
 *
 * A radix sort of keys (offset << 32 | index): nothing in it depends on how the samples lie.
 */
export function sortSamples(count: u32, offsets: usize, values: usize, keys: usize, outOffsets: usize, outValues: usize): u32 {
  memory.fill(places, 0, DIGITS * DIGIT_VALUES * 4);
  for (let i: usize = 0; i < count; i++) {
    const offset = load<u32>(offsets + (i << 2));
    store<u64>(keys + (i << 3), (<u64>offset << 32) | <u64>i);
    tally(placeOf(0, offset));
    tally(placeOf(1, offset));
    tally(placeOf(2, offset));
    tally(placeOf(3, offset));
  }
  let from = keys;
  let to = keys + (<usize>count << 3);
  for (let digit: u32 = 0; digit < DIGITS; digit++) {
    let next = <u32>to;
    const end = places + ((digit + 1) * DIGIT_VALUES << 2);
    for (let place = places + (digit * DIGIT_VALUES << 2); place < end; place += 4) {
      const here = load<u32>(place);
      store<u32>(place, next);
      next += here << 3;
    }
    const keysEnd = from + (<usize>count << 3);
    for (let at = from; at < keysEnd; at += 8) {
      const key = load<u64>(at);
      const place = placeOf(digit, <u32>(key >> 32));
      const into: usize = load<u32>(place);
      store<u64>(into, key);
      store<u32>(place, <u32>into + 8);
    }
    const swap = from;
    from = to;
    to = swap;
  }
  return takeSorted(from, count, values, outOffsets, outValues);
}

@inline function tally(place: usize): void {
  store<u32>(place, load<u32>(place) + 1);
}

@inline function placeOf(digit: u32, offset: u32): usize {
  return places + (((digit << DIGIT_BITS) + ((offset >> (digit * DIGIT_BITS)) & (DIGIT_VALUES - 1))) << 2);
}

/** Lays the samples of sorted keys out as a set. */
function takeSorted(keys: usize, count: u32, values: usize, outOffsets: usize, outValues: usize): u32 {
  let length: usize = 0;
  let last: u32 = 0;
  for (let i: usize = 0; i < count; i++) {
    const key = load<u64>(keys + (i << 3));
    const offset = <u32>(key >> 32);
    const value = load<u64>(values + (<usize>(<u32>key) << 3));
    if (length != 0 && offset == last) {
      const at = outValues + ((length - 1) << 3);
      store<u64>(at, winner(load<u64>(at), value));
    } else {
      store<u32>(outOffsets + (length << 2), offset);
      store<u64>(outValues + (length << 3), value);
      last = offset;
      length++;
    }
  }
  return <u32>length;
}

/** The union of two sets into other columns; returns its size. */
export function mergeSets(
  countA: u32, offsetsA: usize, valuesA: usize,
  countB: u32, offsetsB: usize, valuesB: usize,
  offsets: usize, values: usize,
): u32 {
  const endA = offsetsA + (<usize>countA << 2);
  const endB = offsetsB + (<usize>countB << 2);
  const begin = offsets;
  while (offsetsA < endA && offsetsB < endB) {
    const a = load<u32>(offsetsA);
    const b = load<u32>(offsetsB);
    const valueA = load<u64>(valuesA);
    const valueB = load<u64>(valuesB);
    const takeA = a <= b;
    const takeB = b <= a;
    store<u32>(offsets, takeA ? a : b);
    store<u64>(values, a == b ? winner(valueA, valueB) : takeA ? valueA : valueB);
    offsetsA += <usize>takeA << 2;
    valuesA += <usize>takeA << 3;
    offsetsB += <usize>takeB << 2;
    valuesB += <usize>takeB << 3;
    offsets += 4;
    values += 8;
  }
  const restA = endA - offsetsA;
  memory.copy(offsets, offsetsA, restA);
  memory.copy(values, valuesA, restA << 1);
  offsets += restA;
  values += restA << 1;
  const restB = endB - offsetsB;
  memory.copy(offsets, offsetsB, restB);
  memory.copy(values, valuesB, restB << 1);
  offsets += restB;
  return <u32>(offsets - begin) >> 2;
}
