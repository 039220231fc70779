/**
 * Columns of samples as sorted sets: sorting what came late, and the union of two sets. Columns are u32 offsets and
 * u64 values; a set is strictly rising in its offsets.
 */
import { winner } from './rule';

/**
 * Makes a set of `count` unsorted samples, by the merge rule where offsets repeat. `keys` is working space, 16 bytes a
 * sample, `out*` are other columns than the source. Returns how many are left.
 *
 * Bottom-up merge sort of keys (offset << 32 | index). Stable order does not matter: the merge rule is commutative.
 */
export function sortSamples(count: u32, offsets: usize, values: usize, keys: usize, outOffsets: usize, outValues: usize): u32 {
  for (let i: usize = 0; i < count; i++) {
    store<u64>(keys + (i << 3), (<u64>load<u32>(offsets + (i << 2)) << 32) | <u64>i);
  }
  const sorted = sortKeys(keys, keys + (<usize>count << 3), count);
  let length: usize = 0;
  let last: u32 = 0;
  for (let i: usize = 0; i < count; i++) {
    const key = load<u64>(sorted + (i << 3));
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

const INSERTION_RUN: u32 = 12;

/** Sorts u64 keys; the result is in `keys` or in `spare`: the address is returned. */
function sortKeys(keys: usize, spare: usize, count: u32): usize {
  const end = keys + (<usize>count << 3);
  for (let block = keys; block < end; block += INSERTION_RUN << 3) {
    const blockEnd = min(block + (INSERTION_RUN << 3), end);
    for (let at = block + 8; at < blockEnd; at += 8) {
      const key = load<u64>(at);
      let to = at;
      while (to > block && load<u64>(to - 8) > key) {
        store<u64>(to, load<u64>(to - 8));
        to -= 8;
      }
      store<u64>(to, key);
    }
  }
  let from = keys;
  let into = spare;
  const bytes = <usize>count << 3;
  for (let width: usize = INSERTION_RUN << 3; width < bytes; width <<= 1) {
    for (let low: usize = 0; low < bytes; low += width << 1) {
      mergeKeys(from + low, from + min(low + width, bytes), from + min(low + (width << 1), bytes), into + low);
    }
    const swap = from;
    from = into;
    into = swap;
  }
  return from;
}

function mergeKeys(a: usize, middle: usize, end: usize, to: usize): void {
  let b = middle;
  while (a < middle && b < end) {
    const keyA = load<u64>(a);
    const keyB = load<u64>(b);
    // Branch-free, as which side wins cannot be predicted.
    const takeA = keyA < keyB;
    store<u64>(to, takeA ? keyA : keyB);
    a += <usize>takeA << 3;
    b += <usize>!takeA << 3;
    to += 8;
  }
  // The rests are short mostly, shorter than a call to copy memory takes.
  for (; a < middle; a += 8, to += 8) store<u64>(to, load<u64>(a));
  for (; b < end; b += 8, to += 8) store<u64>(to, load<u64>(b));
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
