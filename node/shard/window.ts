/** What a copy gives of one of its windows to another one: the series of some buckets, and what is deleted of them. */
import { type SeriesId, WINDOW_MS } from '../../core/kernel/shard.ts';
import { encodeDefinition } from './definitions.ts';
import { type Deletion, encodeDeletions } from './deletions.ts';
import { membersOf } from './seal.ts';
import { RECORD_OVERHEAD_BYTES, RecordKind } from './segment.ts';
import { type Source, selectPages } from './select.ts';
import type { Slicer } from './slicer.ts';

/** A set of the 256 digest buckets: bit b (byte b >> 3, bit b & 7) is bucket b. */
export type Buckets = Uint8Array;

function hasBucket(buckets: Buckets, bucket: number): boolean {
  return ((buckets[bucket >> 3] as number) & (1 << (bucket & 7))) !== 0;
}

/** Deletions that travel together. */
const PART_COUNT = 4096;
const PART_BYTES = 1024 * 1024;
const NO_LIMITS = { maxSeriesCount: Number.POSITIVE_INFINITY, maxSampleCount: Number.POSITIVE_INFINITY };

/** The living samples that the series of these buckets have in a window, as select pages. Throws as `selectPages`. */
export async function* windowPages(
  source: Source,
  windowStartMs: number,
  buckets: Buckets,
  slicer: Slicer,
): AsyncGenerator<Uint8Array> {
  const { kernel, catalogue, blocks } = source;
  const releaseCount = catalogue.releaseCount;
  const members = await membersOf(kernel, blocks.get(windowStartMs), windowStartMs, slicer);
  const ids = members.toArray().filter((id) => isOf(source, id as SeriesId, buckets));
  const range = { fromMs: windowStartMs, toMs: windowStartMs + WINDOW_MS - 1 };
  yield* selectPages(source, ids, releaseCount, range, NO_LIMITS, slicer);
}

/** What is deleted of the series of these buckets, cut to the window, as log records: definitions, then deletions. */
export async function* windowDeletions(
  source: Source,
  windowStartMs: number,
  buckets: Buckets,
  slicer: Slicer,
): AsyncGenerator<Uint8Array> {
  const { kernel, deletions } = source;
  let definitions: Uint8Array[] = [];
  let listed: Deletion[] = [];
  let byteCount = 0;
  const take = () => {
    const records = Buffer.concat([
      asRecord(RecordKind.DEFINITION, Buffer.concat(definitions)),
      asRecord(RecordKind.DELETION, encodeDeletions(listed)),
    ]);
    definitions = [];
    listed = [];
    byteCount = 0;
    return records;
  };
  for (const id of (await deletions.touching(windowStartMs, slicer)) as Iterable<number> as Iterable<SeriesId>) {
    const dead = isOf(source, id, buckets) ? deletions.within(id, windowStartMs) : undefined;
    if (dead !== undefined) {
      const definition = encodeDefinition(id, kernel.identity(id));
      definitions.push(definition);
      byteCount += definition.length;
      for (let i = 0; i < dead.length; i += 2) {
        const [from, to] = [dead[i] as number, dead[i + 1] as number];
        listed.push({ id, fromMs: windowStartMs + from, toMs: windowStartMs + to });
      }
      if (listed.length >= PART_COUNT || byteCount >= PART_BYTES) yield take();
    }
    if (slicer.due()) await slicer.pause();
  }
  if (listed.length > 0) yield take();
}

function isOf({ kernel }: Source, id: SeriesId, buckets: Buckets): boolean {
  return kernel.has(id) && hasBucket(buckets, kernel.bucket(id));
}

export function asRecord(kind: RecordKind, payload: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(RECORD_OVERHEAD_BYTES + payload.length);
  bytes[0] = kind;
  bytes.writeUInt32LE(payload.length, 2);
  bytes.set(payload, RECORD_OVERHEAD_BYTES);
  return bytes;
}
