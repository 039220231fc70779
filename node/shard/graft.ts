/**
 * How series of another copy's window enter a shard: of each only the samples that are lacking here, by the merge rule. They
 * are logged marked with their origin, so that they are not shipped on; no limit of admission holds for them.
 *
 * A chunk that is the same here, byte for byte, is not even decoded: sealed chunks are a pure function of their samples.
 * What is deleted here is left out. Under memory pressure it waits. Repeats change nothing.
 */
import { SilverbackError } from '../../core/errors.ts';
import { type BatchColumns, startOfBatch } from '../../core/kernel/batch.ts';
import { chunkInfo } from '../../core/kernel/codec.ts';
import {
  type Admission,
  type RefTable,
  type RejectedSamples,
  type SeriesId,
  type ShardKernel,
  WINDOW_MS,
} from '../../core/kernel/shard.ts';
import type { BlockStore, SealedBlock } from './blocks.ts';
import type { Catalogue } from './catalogue.ts';
import type { Deletions } from './deletions.ts';
import { type PatienceParts, patiently } from './patience.ts';
import type { Recorder } from './recorder.ts';
import type { Room } from './room.ts';
import type { Slicer } from './slicer.ts';

export interface GraftParts extends PatienceParts {
  readonly kernel: ShardKernel;
  readonly catalogue: Catalogue;
  readonly blocks: BlockStore;
  readonly deletions: Deletions;
  readonly recorder: Recorder;
  readonly room: Room;
  readonly shard: number;
  /** Called when a block's chunks cannot be read. */
  readonly unsound: (block: SealedBlock, error: unknown) => Promise<void>;
  readonly slicer: () => Slicer;
}

/** Samples that are handed to the kernel together: a slice of it. */
const GROUP_SAMPLES = 8192;
/** Log bytes of a sample, before it is encoded; an upper bound. */
const SAMPLE_BYTES = 24;
const U32 = 0x1_0000_0000;
const ANY: Admission = { minMs: 0, maxMs: Number.POSITIVE_INFINITY };

interface Arrival {
  readonly identity: Uint8Array;
  readonly chunk: Uint8Array;
}

export class Graft {
  readonly #parts: GraftParts;
  readonly #origin: number;
  readonly #refs: RefTable;
  readonly #found = new Found();
  /** Of the last record made. */
  #sequence = 0;
  #detached = false;

  /** Made by `Shard.graft`. */
  constructor(parts: GraftParts, origin: number) {
    this.#parts = parts;
    this.#origin = origin;
    this.#refs = parts.kernel.createRefs();
  }

  /**
   * Takes a select page of one window; returns how many samples were lacking. They are in open runs and on their way to the log.
   * @throws CORRUPT: the page, or a block of this copy; UNAVAILABLE while closing; DISK_FAILED; SERIES_LIMIT past the table's size
   */
  async take(windowStartMs: number, page: Uint8Array): Promise<number> {
    const { kernel } = this.#parts;
    const slicer = this.#parts.slicer();
    const arrivals = readArrivals(page, this.#parts.shard, windowStartMs);
    const sealed = await this.#fetch(windowStartMs, arrivals);
    const found = this.#found;
    let sampleCount = 0;
    try {
      for (const arrival of arrivals) {
        const id = kernel.find(arrival.identity);
        const step = () => this.#look(windowStartMs, arrival, id, id === undefined ? undefined : sealed(id));
        sampleCount += await this.#patiently(step, slicer);
        if (found.sampleCount >= GROUP_SAMPLES) await this.#store(slicer);
        slicer.spend(100);
        if (slicer.due()) await slicer.pause();
      }
      await this.#store(slicer);
    } finally {
      found.clear();
    }
    return sampleCount;
  }

  /** Resolves when what was taken survives a power cut. */
  async durable(): Promise<void> {
    await this.#parts.log.synced(this.#sequence);
  }

  detach(): void {
    if (this.#detached) return;
    this.#detached = true;
    this.#parts.kernel.dropRefs(this.#refs);
  }

  #patiently(step: () => number | undefined, slicer: Slicer): Promise<number> {
    return patiently(this.#parts, () => this.#detached, step, slicer);
  }

  /** The chunks that the window's block has of these series. One that was replaced or evicted since says too little, which only repeats samples. */
  async #fetch(windowStartMs: number, arrivals: readonly Arrival[]): Promise<(id: SeriesId) => Uint8Array | undefined> {
    const { blocks, kernel } = this.#parts;
    const block = blocks.get(windowStartMs);
    if (block === undefined) return () => undefined;
    const entryOf = (id: SeriesId) => block.find(id, { at: 0 });
    if (block.resident) {
      return (id) => {
        const entry = entryOf(id);
        return entry < 0 ? undefined : block.chunk(entry);
      };
    }
    const entries: number[] = [];
    for (const { identity } of arrivals) {
      const id = kernel.find(identity);
      const entry = id === undefined ? -1 : entryOf(id);
      if (entry >= 0) entries.push(entry);
    }
    try {
      const chunks = await block.read(Uint32Array.from(entries));
      return (id) => chunks.get(entryOf(id));
    } catch (error) {
      if (blocks.get(windowStartMs) !== block) return this.#fetch(windowStartMs, arrivals);
      await this.#parts.unsound(block, error);
      throw error;
    }
  }

  /** Adds to `#found` what the shard lacks of a series; returns how many samples. Throws RESOURCE_EXHAUSTED before it adds any. */
  #look(windowStartMs: number, { identity, chunk }: Arrival, id: SeriesId | undefined, sealed?: Uint8Array): number {
    const { kernel, deletions } = this.#parts;
    const found = this.#found;
    const before = found.sampleCount;
    const dead = id === undefined ? undefined : deletions.within(id, windowStartMs);
    const open = id === undefined ? undefined : kernel.chunk(id, windowStartMs, sealed, 0, Number.POSITIVE_INFINITY);
    // As a copy: decoding ends the life of what the kernel gave.
    const own = open?.slice() ?? sealed;
    if (own === undefined) {
      const { timestamps, values } = kernel.chunks.decode([chunk]);
      found.add(identity, windowStartMs, timestamps, bitsOf(values), undefined, dead);
    } else if (Buffer.compare(own, chunk) !== 0) {
      const decoded = kernel.chunks.decode([own]);
      const known = { timestamps: decoded.timestamps.slice(), bits: bitsOf(decoded.values).slice() };
      const { timestamps, values } = kernel.chunks.decode([own, chunk]);
      found.add(identity, windowStartMs, timestamps, bitsOf(values), known, dead);
    }
    return found.sampleCount - before;
  }

  /** Stores what was found, a slice of the kernel at a time. */
  async #store(slicer: Slicer): Promise<void> {
    const { catalogue, kernel, recorder, room } = this.#parts;
    const found = this.#found;
    if (found.sampleCount === 0) return;
    const columns = found.columns();
    const cursor = startOfBatch();
    while (!cursor.done) {
      const start = { ...cursor };
      await this.#patiently(() => {
        Object.assign(cursor, start);
        return room.take(room.copies, GROUP_SAMPLES * SAMPLE_BYTES, () => {
          // In the same synchronous step: a series without samples may leave the table while this waits.
          for (const [ref, identity] of found.identities.entries()) {
            const id = catalogue.restore(identity);
            recorder.use(id);
            kernel.defineRef(this.#refs, ref, id);
          }
          recorder.followSegment();
          const slice = kernel.append(this.#refs, columns, ANY, cursor);
          const isWhole = !slice.rejections.some(wantsRoom);
          if (slice.record.length > 0) this.#sequence = recorder.record(slice, this.#origin);
          return isWhole ? 0 : undefined;
        });
      }, slicer);
      await slicer.pause();
    }
    found.clear();
  }
}

function wantsRoom({ reason }: RejectedSamples): boolean {
  return reason === 'windows' || reason === 'memory';
}

/** A NaN's payload does not survive being a double. */
function bitsOf(values: Float64Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length * 2);
}

interface Known {
  readonly timestamps: Float64Array;
  readonly bits: Uint32Array;
}

/** Samples to be stored, as columns. The series are numbered in the order in which they came. */
class Found {
  identities: Uint8Array[] = [];
  sampleCount = 0;
  #counts: number[] = [];
  /** Two words a sample, low one first. */
  #timestamps = new Uint32Array(4 * GROUP_SAMPLES);
  #bits = new Uint32Array(4 * GROUP_SAMPLES);

  /**
   * Adds the samples that are not `known` and not `dead` (offsets in the window, first and last of each interval, in order).
   * What is known is among the samples, but may have lost against another value there.
   */
  add(
    identity: Uint8Array,
    windowStartMs: number,
    timestamps: Float64Array,
    bits: Uint32Array,
    known: Known | undefined,
    dead: Uint32Array | undefined,
  ): void {
    const before = this.sampleCount;
    this.#reserve(before + timestamps.length);
    let k = 0;
    let d = 0;
    let write = before * 2;
    for (let i = 0; i < timestamps.length; i++) {
      const timestampMs = timestamps[i] as number;
      const [low, high] = [bits[2 * i] as number, bits[2 * i + 1] as number];
      if (known !== undefined && known.timestamps[k] === timestampMs) {
        const isSame = known.bits[2 * k] === low && known.bits[2 * k + 1] === high;
        k++;
        if (isSame) continue;
      }
      if (dead !== undefined) {
        const offset = timestampMs - windowStartMs;
        while (d < dead.length && (dead[d + 1] as number) < offset) d += 2;
        if (d < dead.length && (dead[d] as number) <= offset) continue;
      }
      this.#timestamps[write] = timestampMs % U32;
      this.#timestamps[write + 1] = Math.floor(timestampMs / U32);
      this.#bits[write] = low;
      this.#bits[write + 1] = high;
      write += 2;
    }
    this.sampleCount = write / 2;
    if (this.sampleCount === before) return;
    this.identities.push(identity);
    this.#counts.push(this.sampleCount - before);
  }

  columns(): BatchColumns {
    const bytes = (words: Uint32Array) => new Uint8Array(words.buffer, 0, this.sampleCount * 8);
    const refs = Uint32Array.from(this.identities, (_, i) => i);
    return {
      refs: new Uint8Array(refs.buffer),
      counts: new Uint8Array(Uint32Array.from(this.#counts).buffer),
      timestamps: bytes(this.#timestamps),
      values: bytes(this.#bits),
    };
  }

  clear(): void {
    this.identities = [];
    this.#counts = [];
    this.sampleCount = 0;
  }

  #reserve(sampleCount: number): void {
    if (sampleCount * 2 <= this.#timestamps.length) return;
    const grown = (words: Uint32Array) => {
      const larger = new Uint32Array(Math.max(words.length * 2, sampleCount * 2));
      larger.set(words.subarray(0, this.sampleCount * 2));
      return larger;
    };
    this.#timestamps = grown(this.#timestamps);
    this.#bits = grown(this.#bits);
  }
}

/** Takes a select page of one window apart, each series once, in views. Throws CORRUPT. */
function readArrivals(page: Uint8Array, shard: number, windowStartMs: number): Arrival[] {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  const arrivals: Arrival[] = [];
  let at = 0;
  const corrupt = (what: string) =>
    new SilverbackError('CORRUPT', `a page of another copy's window ${windowStartMs}: ${what} at byte ${at}`);
  const take = (byteCount: number) => {
    if (at + byteCount > page.length) throw corrupt(`${byteCount} bytes are wanted of ${page.length - at}`);
    at += byteCount;
    return at - byteCount;
  };
  const u32 = () => view.getUint32(take(4), true);
  while (at < page.length) {
    if (u32() !== shard) throw corrupt(`a series of another shard than ${shard}`);
    const length = u32();
    const identity = page.subarray(take(length), at);
    if (u32() !== 1) throw corrupt('not one chunk of the series');
    const byteCount = u32();
    const chunk = page.subarray(take(byteCount), at);
    const { minMs, maxMs } = chunkInfo(chunk);
    if (minMs < windowStartMs || maxMs >= windowStartMs + WINDOW_MS) throw corrupt(`samples from ${minMs} to ${maxMs}`);
    arrivals.push({ identity, chunk });
  }
  return arrivals;
}
