/** What a checkpoint of a shard consists of: definitions of series, open runs, deletions, metadata, exemplars. Restored by restore.ts. */
import type { SeriesId, ShardKernel } from '../../core/kernel/shard.ts';
import type { Annex } from './annex.ts';
import type { CheckpointWriter } from './checkpoint.ts';
import { encodeDefinitions } from './definitions.ts';
import { type Deletion, type Deletions, encodeDeletions, MAX_LISTED } from './deletions.ts';
import { IdSet } from './postings.ts';
import type { Slicer } from './slicer.ts';

/** Kinds of checkpoint pages. A series is defined before the first page that names it. 4 and 5 are those of log records. */
export const PageKind = { DEFINITIONS: 1, RUNS: 2, DELETIONS: 3, METADATA: 4, EXEMPLARS: 5 } as const;

/** Writes the shard's state as pages: each as it is when it is made. */
export async function writePages(
  kernel: ShardKernel,
  deletions: Deletions,
  annex: Annex,
  writer: Pick<CheckpointWriter, 'page'>,
  slicer: Slicer,
): Promise<void> {
  const defined = new IdSet();
  const define = async (series: Iterable<SeriesId>) => {
    const ids: SeriesId[] = [];
    for (const id of series) {
      if (defined.has(id)) continue;
      defined.add(id);
      ids.push(id);
    }
    if (ids.length > 0) await writer.page(PageKind.DEFINITIONS, encodeDefinitions(kernel, ids));
  };
  for (const { startMs } of kernel.windows()) {
    for (let cursor: number | undefined = 0; cursor !== undefined; ) {
      const page = kernel.checkpoint(startMs, cursor);
      cursor = page.next;
      if (page.bytes.length === 0) continue;
      const runs = page.bytes.slice();
      await define(page.series as Iterable<number> as Iterable<SeriesId>);
      await writer.page(PageKind.RUNS, runs);
      await slicer.pause();
    }
  }
  let listed: Deletion[] = [];
  const list = async () => {
    const page = listed;
    listed = [];
    await define(page.map(({ id }) => id));
    await writer.page(PageKind.DELETIONS, encodeDeletions(page));
    await slicer.pause();
  };
  for (const deletion of deletions) {
    listed.push(deletion);
    if (listed.length === MAX_LISTED) await list();
  }
  if (listed.length > 0) await list();
  for await (const [kind, bytes] of annex.pages(slicer)) await writer.page(kind, bytes);
}
