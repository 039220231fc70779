/**
 * The digest of a set of samples: per bucket of series, the sum modulo 2^128 of
 * MurmurHash3_x64_128(h1, h2, timestamp, value bits) over all samples, h1 and h2 being the series' fingerprint. A sum does
 * not depend on order; that each sample counts once is the business of those who call.
 */
import { hashAfterPrefix, hashHigh, hashLow, hashPrefix } from '../murmur';
import { Identity } from './series';

const BUCKETS: u32 = 256;

/** Per bucket u64 low, u64 high. */
const sums: usize = memory.data(BUCKETS * 16, 16);

export function digestSums(): usize {
  return sums;
}

export function clearDigest(): void {
  memory.fill(sums, 0, BUCKETS * 16);
}

/** The top byte of h2: independent of the shard, which h1 decides. */
@inline export function bucketOf(identity: Identity): u32 {
  return <u32>(identity.h2 >> 56);
}

/** Puts sums in the place of those there are. */
export function setDigest(from: usize): void {
  memory.copy(sums, from, BUCKETS * 16);
}

/** Of the first word of a deleted interval in the place of a timestamp, which is never negative. */
const DELETION: u64 = 1 << 63;

/** Adds what is deleted of a series: pairs of u32 offsets from `origin`, hashed as (first timestamp | DELETION, last timestamp). */
export function addDeletions(identity: Identity, count: u32, dead: usize, origin: i64): void {
  hashPrefix(identity.h1, identity.h2);
  const sum = sums + (<usize>bucketOf(identity) << 4);
  for (let i: usize = 0; i < count; i++) {
    const pair = dead + (i << 3);
    hashAfterPrefix(<u64>(origin + load<u32>(pair)) | DELETION, <u64>(origin + load<u32>(pair, 4)));
    const low = load<u64>(sum) + hashLow();
    store<u64>(sum, low);
    store<u64>(sum, load<u64>(sum, 8) + hashHigh() + u64(low < hashLow()), 8);
  }
}

/** Takes a set of samples away again; offsets count from `origin`. */
export function subtractSamples(identity: Identity, count: u32, offsets: usize, values: usize, origin: i64): void {
  hashPrefix(identity.h1, identity.h2);
  const sum = sums + (<usize>bucketOf(identity) << 4);
  let low = load<u64>(sum);
  let high = load<u64>(sum, 8);
  for (let i: usize = 0; i < count; i++) {
    hashAfterPrefix(<u64>(origin + load<u32>(offsets + (i << 2))), load<u64>(values + (i << 3)));
    high -= hashHigh() + u64(low < hashLow());
    low -= hashLow();
  }
  store<u64>(sum, low);
  store<u64>(sum, high, 8);
}

/** Adds a set of samples of a series; offsets count from `origin`. */
export function addSamples(identity: Identity, count: u32, offsets: usize, values: usize, origin: i64): void {
  hashPrefix(identity.h1, identity.h2);
  const sum = sums + (<usize>bucketOf(identity) << 4);
  let low = load<u64>(sum);
  let high = load<u64>(sum, 8);
  for (let i: usize = 0; i < count; i++) {
    hashAfterPrefix(<u64>(origin + load<u32>(offsets + (i << 2))), load<u64>(values + (i << 3)));
    low += hashLow();
    high += hashHigh() + u64(low < hashLow());
  }
  store<u64>(sum, low);
  store<u64>(sum, high, 8);
}
