/**
 * Which series the raw label bytes of a body stand for.
 *
 * A record of the arena (16-byte aligned) is one series in one raw form:
 *     u32 length of the raw label fields, u32 record that followed it last time (0: none),
 *     u32 reference, u16 shard, u16 when its metadata was looked at last (notes.ts), the raw label fields
 * Two raw forms of one series (say, unsorted) are two records with two references; the node knows
 * that they are one series. Records are never moved or freed: when the table has grown too large,
 * the host starts a new instance.
 *
 * Slots: open addressing, linear probing, 8 bytes: u32 record (0: free), u32 tag (the hash's high half,
 * which also gives the slot). Growth never stops the world: the new slots are filled from the old a
 * few at each insertion, and lookups that miss the new ones try the old.
 *
 * Per shard, a vector gives the record of each reference.
 */
import { lay, take } from './state';

const FIRST_SLOTS: u32 = 4096;
const MOVED_AT_ONCE: u32 = 32;

let seed: u64 = 0;
let slots: usize = 0;
let mask: u32 = 0;
let used: u32 = 0;
let oldSlots: usize = 0;
let oldMask: u32 = 0;
let moved: u32 = 0;
/** Per shard 16 bytes: vector, its capacity, references given out, free. */
let shards: usize = 0;

export function prepareTable(shardCount: u32, hashSeed: u64): void {
  seed = hashSeed;
  shards = lay(<usize>shardCount << 4);
}

/** References given out so far, over all shards. */
export function known(): u32 {
  return used;
}

@inline export function recordLength(record: usize): usize {
  return load<u32>(record);
}
@inline export function follower(record: usize): usize {
  return load<u32>(record, 4);
}
@inline export function setFollower(record: usize, next: usize): void {
  store<u32>(record, <u32>next, 4);
}
@inline export function reference(record: usize): u32 {
  return load<u32>(record, 8);
}
@inline export function shardOf(record: usize): u32 {
  return <u32>load<u16>(record, 12);
}
@inline export function lookedAt(record: usize): u32 {
  return <u32>load<u16>(record, 14);
}
@inline export function setLookedAt(record: usize, time: u32): void {
  store<u16>(record, <u16>time, 14);
}
@inline export function rawLabels(record: usize): usize {
  return record + 16;
}

/** The record of a reference that was given out, else 0. */
export function recordOf(shard: u32, ref: u32): usize {
  const entry = shards + (<usize>shard << 4);
  if (ref >= load<u32>(entry, 8)) return 0;
  return load<u32>(<usize>load<u32>(entry) + (<usize>ref << 2));
}

/** True when the raw labels at `p` are those of the record; the caller has checked that so many bytes are there. */
@inline export function same(record: usize, p: usize, length: usize): bool {
  let q = record + 16;
  const end = p + length;
  while (p + 32 <= end) {
    const difference = v128.or(v128.xor(v128.load(p), v128.load(q)), v128.xor(v128.load(p, 16), v128.load(q, 16)));
    if (v128.any_true(difference)) return false;
    p += 32;
    q += 32;
  }
  while (p + 8 <= end) {
    if (load<u64>(p) != load<u64>(q)) return false;
    p += 8;
    q += 8;
  }
  if (p == end) return true;
  return (load<u64>(p) ^ load<u64>(q)) << (64 - (<u64>(end - p) << 3)) == 0;
}

const K1: u64 = 0x9e3779b185ebca87;
const K2: u64 = 0xc2b2ae3d27d4eb4f;
const K3: u64 = 0x165667b19e3779f9;

/**
 * Four multiply-rotate lanes over 32 bytes at a time, in the manner of xxHash64. Only finds slots
 * (bytes are always compared), and is seeded so that nobody can aim at one slot.
 */
export function hash(p: usize, length: usize): u64 {
  let a = seed ^ K1 ^ <u64>length;
  let b = seed + K2;
  let c = seed ^ K3;
  let d = seed + K1 + K2;
  const end = p + length;
  while (p + 32 <= end) {
    a = rotl(a ^ load<u64>(p), 29) * K1;
    b = rotl(b ^ load<u64>(p, 8), 31) * K2;
    c = rotl(c ^ load<u64>(p, 16), 29) * K1;
    d = rotl(d ^ load<u64>(p, 24), 31) * K2;
    p += 32;
  }
  if (p + 16 <= end) {
    a = rotl(a ^ load<u64>(p), 29) * K1;
    b = rotl(b ^ load<u64>(p, 8), 31) * K2;
    p += 16;
  }
  if (p + 8 <= end) {
    c = rotl(c ^ load<u64>(p), 29) * K1;
    p += 8;
  }
  if (p < end) {
    const rest = load<u64>(p) & (<u64>-1 >> (64 - (<u64>(end - p) << 3)));
    d = rotl(d ^ rest, 31) * K2;
  }
  let h = rotl(a, 1) + rotl(b, 7) + rotl(c, 12) + rotl(d, 18);
  h ^= h >> 32;
  h *= K3;
  h ^= h >> 29;
  h *= K1;
  return h ^ (h >> 32);
}

function probe(table: usize, tableMask: u32, tag: u32, p: usize, length: usize): usize {
  let i = tag & tableMask;
  while (true) {
    const slot = table + (<usize>i << 3);
    const record = <usize>load<u32>(slot);
    if (record == 0) return 0;
    if (load<u32>(slot, 4) == tag && recordLength(record) == length && same(record, p, length)) return record;
    i = (i + 1) & tableMask;
  }
}

/** The record of the raw labels at `p`, or 0. `h` is their hash. */
export function find(h: u64, p: usize, length: usize): usize {
  if (slots == 0) return 0;
  const tag = <u32>(h >> 32);
  const record = probe(slots, mask, tag, p, length);
  if (record != 0 || oldSlots == 0) return record;
  return probe(oldSlots, oldMask, tag, p, length);
}

function place(tag: u32, record: u32): void {
  let i = tag & mask;
  while (load<u32>(slots + (<usize>i << 3)) != 0) i = (i + 1) & mask;
  const slot = slots + (<usize>i << 3);
  store<u32>(slot, record);
  store<u32>(slot, tag, 4);
}

/** Makes room for one more slot. False when there is no memory. */
function room(): bool {
  if (oldSlots != 0) {
    const stop = min(moved + MOVED_AT_ONCE, oldMask + 1);
    for (; moved < stop; moved++) {
      const slot = oldSlots + (<usize>moved << 3);
      const record = load<u32>(slot);
      if (record != 0) place(load<u32>(slot, 4), record);
    }
    if (moved > oldMask) oldSlots = 0;
    return true;
  }
  // At most 5/8 full. The last move ends long before the next growth begins.
  if (slots != 0 && used < ((mask + 1) >> 3) * 5) return true;
  const count = slots == 0 ? FIRST_SLOTS : (mask + 1) << 1;
  const fresh = take(<usize>count << 3);
  if (fresh == 0) return false;
  oldSlots = slots;
  oldMask = mask;
  moved = 0;
  slots = fresh;
  mask = count - 1;
  return true;
}

/** Adds the raw labels at `p`, which `find` did not find, as the next reference of `shard`. 0 when there is no memory. */
export function insert(h: u64, p: usize, length: usize, shard: u32): usize {
  if (!room()) return 0;
  const entry = shards + (<usize>shard << 4);
  const ref = load<u32>(entry, 8);
  if (ref == load<u32>(entry, 4)) {
    const capacity = max<u32>(64, ref << 1);
    const vector = take(<usize>capacity << 2);
    if (vector == 0) return 0;
    if (ref != 0) memory.copy(vector, load<u32>(entry), <usize>ref << 2);
    store<u32>(entry, <u32>vector);
    store<u32>(entry, capacity, 4);
  }
  const record = take(16 + length);
  if (record == 0) return 0;
  store<u32>(record, <u32>length);
  store<u32>(record, ref, 8);
  store<u32>(record, shard, 12);
  memory.copy(record + 16, p, length);
  store<u32>(<usize>load<u32>(entry) + (<usize>ref << 2), <u32>record);
  store<u32>(entry, ref + 1, 8);
  place(<u32>(h >> 32), <u32>record);
  used++;
  return record;
}
