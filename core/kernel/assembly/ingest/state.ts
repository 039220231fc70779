/**
 * Where things lie in the ingest kernel's linear memory, and why a body was given up.
 *
 *   fixed part, laid out once by `lay`, addresses never change:
 *     input      the compressed body as it arrived, and slack
 *     raw        the decompressed body, and slack
 *     columns    what one slice of a body gave, in body order (see columns.ts)
 *     output     the same, shard by shard
 *     scratch    identity bytes, label index, gathered labels
 *   the arena, which grows at the end of memory by `memory.grow`: series records, hash slots, vectors
 *
 * Slack is what wide loads and stores may touch past a logical end; nothing read there is ever believed.
 */

export const SLACK: usize = 128;

// Why a body was given up. The door (core/kernel/ingest.ts) has the words.
export const FINE: u32 = 0;
export const SNAPPY_PREAMBLE: u32 = 1;
export const SNAPPY_TOO_LARGE: u32 = 2;
export const SNAPPY_TRUNCATED: u32 = 3;
export const SNAPPY_LITERAL: u32 = 4;
export const SNAPPY_OFFSET: u32 = 5;
export const SNAPPY_OVERRUN: u32 = 6;
export const SNAPPY_TRAILING: u32 = 7;
export const VARINT: u32 = 8;
export const LENGTH: u32 = 9;
export const WIRE_TYPE: u32 = 10;
export const TAG: u32 = 11;
export const TABLE_FULL: u32 = 12;
export const SYMBOL: u32 = 13;
export const SYMBOLS_ODD: u32 = 14;
export const SYMBOLS_MANY: u32 = 15;
export const RESERVED: u32 = 16;
export const FOREIGN: u32 = 17;

export let failure: u32 = FINE;
/** Address of the byte that could not be read: in `input` for snappy, in `raw` for protobuf. */
export let failureAt: usize = 0;

/** Notes the first failure only; always false, so that a reader can `return fail(...)`. */
export function fail(why: u32, at: usize): bool {
  if (failure == FINE) {
    failure = why;
    failureAt = at;
  }
  return false;
}

export function forgive(): void {
  failure = FINE;
  failureAt = 0;
}

let top: usize = 0;
let capacity: usize = 0;
let arenaStart: usize = 0;

/** Takes `size` bytes, 64-byte aligned, for the fixed part. */
export function lay(size: usize): usize {
  if (top == 0) top = (__heap_base + 63) & ~63;
  const at = top;
  top = (top + size + 63) & ~63;
  arenaStart = top;
  grow();
  return at;
}

function grow(): bool {
  if (capacity == 0) capacity = <usize>memory.size() << 16;
  if (top <= capacity) return true;
  const need = <i32>((top - capacity + 0xffff) >>> 16);
  // A megabyte at a time: each growth makes the host build new views.
  const step = max(need, 16);
  if (memory.grow(step) < 0 && memory.grow(need) < 0) return false;
  capacity = <usize>memory.size() << 16;
  return true;
}

/** Takes `size` zeroed bytes of the arena, 16-byte aligned. 0 when the memory's maximum is reached. */
export function take(size: usize): usize {
  const at = top;
  if (size > 0xffff0000 - top) return 0;
  top = (top + size + 15) & ~15;
  if (grow()) return at;
  top = at;
  return 0;
}

/** Bytes of the arena in use. */
export function arenaBytes(): usize {
  return top - arenaStart;
}
