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
