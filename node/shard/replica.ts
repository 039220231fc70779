/**
 * How records of another copy's log enter a shard: as they lie there, in the ids of that log, with no admission but
 * soundness. They are logged here too, marked with their origin, so that they are not shipped back.
 *
 * Under memory pressure, or while the log has no room, it waits; it refuses nothing for want of room. Repeats change nothing.
 */
import type { Env } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import type { RefTable, SeriesId, ShardKernel } from '../../core/kernel/shard.ts';
import { checkVersion } from '../../core/versions.ts';
import type { Annex } from './annex.ts';
import type { Catalogue } from './catalogue.ts';
import { readDefinitions } from './definitions.ts';
import { type Deletion, type Deletions, readDeletions } from './deletions.ts';
import { type Log, RecordKind } from './log.ts';
import { patiently } from './patience.ts';
import { IdSet } from './postings.ts';
import type { Recorder } from './recorder.ts';
import type { Room } from './room.ts';
import { RECORD_OVERHEAD_BYTES, unknownKind } from './segment.ts';
import type { Slicer } from './slicer.ts';

export interface ReplicaParts {
  readonly env: Env;
  readonly kernel: ShardKernel;
  readonly catalogue: Catalogue;
  readonly deletions: Deletions;
  readonly annex: Annex;
  readonly log: Log;
  readonly room: Room;
  readonly recorder: Recorder;
  /** Told that room is wanted: a window is to be sealed. */
  readonly press: () => void;
  /** Told of what is lost. */
  readonly report: (message: string) => void;
  readonly slicer: () => Slicer;
}

export class Replica {
  readonly #parts: ReplicaParts;
  readonly #origin: number;
  readonly #refs: RefTable;
  /** Numbers that were defined: one that is unknown all the same has lost its series since. */
  readonly #defined = new IdSet();
  #detached = false;

  /** Made by `Shard.replica`. */
  constructor(parts: ReplicaParts, origin: number) {
    this.#parts = parts;
    this.#origin = origin;
    this.#refs = parts.kernel.createRefs();
  }

  /**
   * Stores records, back to back as in a log frame; definitions come before their use. Resolves with the sequence of the last
   * record that this made in the own log, 0 if it made none; `written` says when that is kept.
   * @throws UNKNOWN_REF: a series left the table after its definition; begin again with a new replica, definitions first.
   * VERSION: what a later version of this program wrote, which is not left out. UNAVAILABLE while closing; DISK_FAILED.
   */
  async apply(records: Uint8Array): Promise<number> {
    const slicer = this.#parts.slicer();
    const view = new DataView(records.buffer, records.byteOffset, records.byteLength);
    let sequence = 0;
    for (let at = 0; at < records.length; ) {
      const start = at + RECORD_OVERHEAD_BYTES;
      const end = start <= records.length ? start + view.getUint32(at + 2, true) : Number.POSITIVE_INFINITY;
      if (end > records.length) {
        throw new SilverbackError('INVALID_ARGUMENT', `records are cut short at byte ${at} of ${records.length}`);
      }
      const kind = records[at] as RecordKind;
      const step = () => this.#take(kind, records.subarray(start, end));
      sequence = (await patiently(this.#parts, () => this.#detached, step, slicer)) || sequence;
      slicer.spend(200);
      if (slicer.due()) await slicer.pause();
      at = end;
    }
    return sequence;
  }

  /** Resolves when the system has taken the record; see `Log.written`. */
  written(sequence: number): Promise<void> {
    return this.#parts.log.written(sequence);
  }

  /** Resolves when the record survives a power cut. */
  synced(sequence: number): Promise<void> {
    return this.#parts.log.synced(sequence);
  }

  /** One past the last record of the own log that survives a power cut. */
  get syncedSequence(): number {
    return this.#parts.log.syncedSequence;
  }

  detach(): void {
    if (this.#detached) return;
    this.#detached = true;
    this.#parts.kernel.dropRefs(this.#refs);
  }

  /** Returns the sequence of the last own record, 0 if there is none; undefined when a part found no room. */
  #take(kind: RecordKind, payload: Uint8Array): number | undefined {
    const { annex, log, report } = this.#parts;
    try {
      if (kind === RecordKind.DEFINITION) return this.#define(payload);
      if (kind === RecordKind.SAMPLES) return this.#store(payload);
      if (kind === RecordKind.DELETION) return this.#delete(payload);
      if (kind === RecordKind.METADATA || kind === RecordKind.EXEMPLAR) {
        return annex.copy(log, kind, payload, this.#origin);
      }
    } catch (error) {
      if (!(error instanceof SilverbackError) || (error.code !== 'CORRUPT' && error.code !== 'INVALID_LABELS'))
        throw error;
      report(`a record from another copy cannot be used: ${error.message}`);
      return 0;
    }
    throw unknownKind('a record from another copy', kind);
  }

  #define(list: Uint8Array): number {
    const { catalogue, kernel, recorder } = this.#parts;
    readDefinitions(list, 'CORRUPT', (number, identity) => {
      const id = catalogue.restore(identity);
      recorder.use(id);
      kernel.defineRef(this.#refs, number, id);
      this.#defined.add(number as SeriesId);
    });
    return 0;
  }

  #store(record: Uint8Array): number | undefined {
    const { kernel, recorder, room } = this.#parts;
    checkVersion('log record', record[0] as number);
    return room.take(room.copies, record.length, () => {
      recorder.followSegment();
      const slice = kernel.appendRecord(this.#refs, record, true);
      const isWhole = slice.rejections.length === 0;
      const unknown = [...slice.unknownRefs];
      const sequence = slice.record.length > 0 ? recorder.record(slice, this.#origin) : 0;
      this.#unnamed(unknown);
      return isWhole ? sequence : undefined;
    });
  }

  #delete(list: Uint8Array): number {
    const { deletions, kernel, recorder } = this.#parts;
    const fresh: Deletion[] = [];
    const unknown: number[] = [];
    readDeletions(list, (number, fromMs, toMs) => {
      const id = kernel.resolveRef(this.#refs, number);
      if (id === undefined) unknown.push(number);
      else if (!deletions.covers({ id, fromMs, toMs })) fresh.push({ id, fromMs, toMs });
    });
    const sequence = fresh.length > 0 ? recorder.delete(fresh, this.#origin) : 0;
    for (const deletion of fresh) deletions.add(deletion);
    this.#unnamed(unknown);
    return sequence;
  }

  /** References that name no series: either it left, or its definition was lost at the source. */
  #unnamed(refs: readonly number[]): void {
    if (refs.some((ref) => this.#defined.has(ref as SeriesId))) {
      throw new SilverbackError('UNKNOWN_REF', 'series left the table before their samples came');
    }
    if (refs.length > 0) this.#parts.report(`${refs.length} runs from another copy lack their series' definition`);
  }
}
