/** Puts what a slice held beside samples to the batches of the shards that it belongs to. */
import type { ColumnBatch } from '../../client/columns.ts';
import { ExemplarList } from '../../core/exemplars.ts';
import type { SliceNotes } from '../../core/kernel/notes.ts';
import { encodeMetadata, keptMetadata, type MetricMetadata, metadataShard } from '../../core/metadata.ts';

/** A list that has so many bytes is followed by another, in a batch of its own: a message has a bound. */
const LIST_BYTES = 1 << 20;

const NO_SAMPLES = {
  refs: new Uint32Array(0),
  counts: undefined,
  timestamps: new Uint8Array(0),
  values: new Uint8Array(0),
} as const;

/** The same batches with exemplars and metadata, and further ones without samples. Those it cannot keep are left out. */
export function withNotes(
  batches: readonly ColumnBatch[],
  { exemplars, metadata }: SliceNotes,
  shardCount: number,
): readonly ColumnBatch[] {
  if (exemplars.length === 0 && metadata.length === 0) return batches;
  const lists = new Map<number, ExemplarList>();
  const entries = new Map<number, MetricMetadata[]>();
  const result = new Map(batches.map((batch) => [batch.shard, batch]));
  const further: ColumnBatch[] = [];
  for (const { shard, identity, exemplar } of exemplars) {
    let list = lists.get(shard);
    if (list === undefined) {
      list = new ExemplarList();
      lists.set(shard, list);
    }
    list.add(identity, exemplar);
    if (list.byteCount >= LIST_BYTES) further.push({ shard, ...NO_SAMPLES, exemplars: list.take() });
  }
  for (const entry of metadata) {
    const kept = keptMetadata(entry);
    if (kept === undefined) continue;
    const shard = metadataShard(kept.name, shardCount);
    const others = entries.get(shard);
    if (others === undefined) entries.set(shard, [kept]);
    else others.push(kept);
  }
  for (const [shard, list] of lists) {
    if (list.count > 0)
      result.set(shard, { ...(result.get(shard) ?? { shard, ...NO_SAMPLES }), exemplars: list.take() });
  }
  for (const [shard, list] of entries) {
    const batch = result.get(shard) ?? { shard, ...NO_SAMPLES };
    result.set(shard, { ...batch, metadata: encodeMetadata(list) });
  }
  return [...result.values(), ...further];
}
