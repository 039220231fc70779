/**
 * Hands slices to the log, each series' definition before its first use in a segment. The kernel says which series of a
 * record the segment does not know yet; they go before the record as one DEFINITION record. A slot of the series table that
 * is given to another series begins a new segment, so that in one segment an id means one series.
 *
 * One per shard, for all that enters it: what the segment knows is one state.
 */
import type { AppendSlice, SeriesId, ShardKernel } from '../../core/kernel/shard.ts';
import type { Catalogue } from './catalogue.ts';
import { encodeDefinitions } from './definitions.ts';
import { type Deletion, encodeDeletions } from './deletions.ts';
import { type Log, RecordKind } from './log.ts';
import { RECORD_OVERHEAD_BYTES } from './segment.ts';

export class Recorder {
  readonly #kernel: ShardKernel;
  readonly #catalogue: Catalogue;
  readonly #log: Log;
  /** The segment whose definitions the kernel keeps track of. */
  #segment = -1;
  /** `catalogue.releaseCount` when it began. */
  #segmentReleases = 0;
  /** Of the last deletion that was logged, whoever it came from. */
  #deletionSequence = 0;

  constructor(kernel: ShardKernel, catalogue: Catalogue, log: Log) {
    this.#kernel = kernel;
    this.#catalogue = catalogue;
    this.#log = log;
  }

  /** The series is about to be used: before the kernel is asked for slices with it. */
  use(id: SeriesId): void {
    if (this.#catalogue.releasedSince(id, this.#segmentReleases)) this.#log.startSegment();
  }

  /** To be called before each slice is asked of the kernel, in the same synchronous step. */
  followSegment(): void {
    if (this.#log.segment === this.#segment) return;
    this.#segment = this.#log.segment;
    this.#segmentReleases = this.#catalogue.releaseCount;
    this.#kernel.startSegment();
  }

  /** Logs deletions, at most MAX_LISTED, with the definitions of their series. Returns the last sequence. Throws as `Log.append`. */
  delete(deletions: readonly Deletion[], origin: number): number {
    this.followSegment();
    for (const { id } of deletions) this.use(id);
    const ids = deletions.map(({ id }) => id);
    const definitions = encodeDefinitions(this.#kernel, ids);
    const list = encodeDeletions(deletions);
    this.#log.admit(definitions.length + list.length + 2 * RECORD_OVERHEAD_BYTES);
    this.#log.append(RecordKind.DEFINITION, origin, definitions);
    this.#deletionSequence = this.#log.append(RecordKind.DELETION, origin, list);
    return this.#deletionSequence;
  }

  /** Resolves when every deletion made so far survives a power cut. Throws what `Log.synced` throws. */
  deletionsDurable(): Promise<void> {
    return this.#log.synced(this.#deletionSequence);
  }

  /** Hands a slice that is not empty to the log. Returns the last sequence. Throws as `Log.append`. */
  record(slice: AppendSlice, origin: number): number {
    try {
      if (slice.undefinedSeries.length === 0) return this.#log.append(RecordKind.SAMPLES, origin, slice.record);
      // Naming the series calls the kernel, which ends the life of the slice's views.
      const record = slice.record.slice();
      const undefinedSeries = Array.from(slice.undefinedSeries as Iterable<number> as Iterable<SeriesId>);
      this.#log.append(RecordKind.DEFINITION, origin, encodeDefinitions(this.#kernel, undefinedSeries));
      return this.#log.append(RecordKind.SAMPLES, origin, record);
    } catch (error) {
      // The kernel takes the definitions for logged: let it name every series again.
      this.#segment = -1;
      throw error;
    }
  }
}
