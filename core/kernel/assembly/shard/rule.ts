/** The rules about single samples that every copy must share (ARCHITECTURE.md, "Time and windows"). */

/** Prometheus's stale marker: the series ended here. */
export const STALE: u64 = 0x7ff0000000000002;

/** Two hours. */
export const WINDOW_MS: u32 = 7_200_000;

/** IEEE 754 totalOrder as an order of signed integers. */
@inline function orderKey(bits: u64): i64 {
  return <i64>bits ^ <i64>(<u64>(<i64>bits >> 63) >> 1);
}

/** The merge rule: of two values at one timestamp, the one that stays. Commutative, associative, idempotent. */
@inline export function winner(a: u64, b: u64): u64 {
  if (a == STALE) return b;
  if (b == STALE) return a;
  return orderKey(a) >= orderKey(b) ? a : b;
}

/** Start of the window of a timestamp >= 0. */
@inline export function windowOf(timestamp: i64): i64 {
  return timestamp - (timestamp % <i64>WINDOW_MS);
}
