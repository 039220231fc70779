/** Lists of series with their numbers: repeated `u32 number, u32 length, identity bytes`. In batches, log records, checkpoints. */
import { type ErrorCode, SilverbackError } from '../../core/errors.ts';
import type { SeriesId, ShardKernel } from '../../core/kernel/shard.ts';

/** The list of some series under their own ids. Calls the kernel: copy `ids` if it is a view of its memory. */
export function encodeDefinitions(kernel: ShardKernel, ids: readonly SeriesId[]): Uint8Array {
  let bytes = Buffer.allocUnsafe(ids.length * 160);
  let used = 0;
  for (const id of ids) {
    const identity = kernel.identity(id);
    const end = used + 8 + identity.length;
    if (end > bytes.length) bytes = Buffer.concat([bytes.subarray(0, used)], Math.max(end, bytes.length * 2));
    bytes.writeUInt32LE(id, used);
    bytes.writeUInt32LE(identity.length, used + 4);
    bytes.set(identity, used + 8);
    used = end;
  }
  return bytes.subarray(0, used);
}

/** One entry of such a list. */
export function encodeDefinition(number: number, identity: Uint8Array): Uint8Array {
  const entry = Buffer.allocUnsafe(8 + identity.length);
  entry.writeUInt32LE(number, 0);
  entry.writeUInt32LE(identity.length, 4);
  entry.set(identity, 8);
  return entry;
}

/** Hands out the entries in order; the identity is a view. Throws `code` for a list that is cut short. */
export function readDefinitions(
  bytes: Uint8Array,
  code: ErrorCode,
  take: (number: number, identity: Uint8Array) => void,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length; ) {
    const length = at + 8 <= bytes.length ? view.getUint32(at + 4, true) : Number.POSITIVE_INFINITY;
    const end = at + 8 + length;
    if (end > bytes.length)
      throw new SilverbackError(code, `series definitions are cut short at byte ${at} of ${bytes.length}`);
    take(view.getUint32(at, true), bytes.subarray(at + 8, end));
    at = end;
  }
}
