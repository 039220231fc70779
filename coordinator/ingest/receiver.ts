/**
 * Takes remote-write bodies, has the kernel turn them into columns, hands these to the writer, and says
 * what became of the whole.
 *
 * One kernel and one writer are a generation: the kernel's references are the writer's. When the kernel's
 * table of series has outgrown its bound, a new generation takes over, and the old one's writer is closed
 * once its last write is settled; series that are still sent are defined anew.
 *
 * A body is in the kernel alone. All but the largest are read in one go; between the slices of a large one
 * other work has its turn, and other bodies wait.
 */
import type { ColumnBatch, ReferenceSource, Writer } from '../../client/writer.ts';
import type { Env } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import {
  IngestKernel,
  type IngestKernelOptions,
  type RefusedSeries,
  type WriteVersion,
} from '../../core/kernel/ingest.ts';
import type { AckLevel } from '../../core/protocol.ts';
import { withNotes } from './annex.ts';
import { type Receipt, type SliceOutcome, settle } from './receipt.ts';
import { type Admission, Senders } from './senders.ts';

export interface ReceiverOptions {
  readonly env: Env;
  readonly kernel: Omit<IngestKernelOptions, 'seed'>;
  /** Called once a generation. */
  readonly openWriter: (source: ReferenceSource) => Pick<Writer, 'write' | 'close'>;
  /** Default `LOCAL`. */
  readonly ack?: AckLevel;
  /** How long a write may take, the writer's own retries included, before its sender is told to try again. Default 20 s. */
  readonly timeoutMs?: number;
  /** Size of the table of series past which a new generation takes over. Default 512 MiB. */
  readonly maxTableBytes?: number;
  /** Bytes of bodies, compressed, that may be under way. Default 64 MiB. */
  readonly maxHeldBytes?: number;
}

/** Counters since the start, and what is held now. */
export interface ReceiverStats {
  bodyCount: number;
  sampleCount: number;
  /** Samples of series whose labels broke a rule. */
  refusedSampleCount: number;
  malformedCount: number;
  turnedAwayCount: number;
  /** Exemplars that are stored. */
  exemplarCount: number;
  refusedExemplarCount: number;
  histogramCount: number;
  /** Entries of metadata; those that a sender repeats within some minutes count once. */
  metadataCount: number;
  generationCount: number;
  seriesCount: number;
  tableBytes: number;
  heldBytes: number;
}

/** What a body has led to so far. */
interface Gathered {
  readonly writes: Promise<SliceOutcome>[];
  readonly refused: RefusedSeries[];
  readonly refusedExemplars: string[];
}

interface Generation {
  readonly kernel: IngestKernel;
  readonly writer: Pick<Writer, 'write' | 'close'>;
  openWrites: number;
}

/** Bodies under way, whatever their size. */
const MAX_BODIES = 4_096;
/** Column buffers kept for the next slice; more are left to the collector. */
const SPARE_BUFFERS = 8;
/** Metadata that was sent on goes on again after this time: it may have changed, or a node may have come that lacks it. */
const METADATA_MS = 600_000;

export class Receiver {
  readonly #options: ReceiverOptions;
  readonly senders: Senders;
  readonly #maxTableBytes: number;
  readonly #spare: ArrayBuffer[] = [];
  readonly #counters = {
    bodyCount: 0,
    sampleCount: 0,
    refusedSampleCount: 0,
    malformedCount: 0,
    exemplarCount: 0,
    refusedExemplarCount: 0,
    histogramCount: 0,
    metadataCount: 0,
    generationCount: 0,
  };
  #generation: Generation;
  /** Settles when the kernel is free. */
  #turn: Promise<void> | undefined;
  #closed = false;
  #metadataForgottenMs: number;

  constructor(options: ReceiverOptions) {
    this.#options = options;
    this.senders = new Senders({ maxBytes: options.maxHeldBytes ?? 64 << 20, maxCount: MAX_BODIES });
    this.#maxTableBytes = options.maxTableBytes ?? 512 << 20;
    this.#generation = this.#nextGeneration();
    this.#metadataForgottenMs = options.env.clock.monotonicMs();
  }

  /** Longest body, compressed. */
  get maxBodyBytes(): number {
    return this.#options.kernel.maxBodyBytes;
  }

  /** Makes room for a body before it is read. Throws RESOURCE_EXHAUSTED. To be released. */
  admit(sender: string, bytes: number): Admission {
    return this.senders.admit(sender, bytes);
  }

  /** Stores a body, which came in `chunks`; resolves when every sample's fate is known. Never rejects for what a sender can do. */
  async receive(chunks: readonly Uint8Array[], version: WriteVersion = 1): Promise<Receipt> {
    while (this.#turn !== undefined) await this.#turn;
    if (this.#closed) throw new SilverbackError('UNAVAILABLE', 'the coordinator is stopping', { retryAfterMs: 1000 });
    const gathered: Gathered = { writes: [], refused: [], refusedExemplars: [] };
    const { writes, refused, refusedExemplars } = gathered;
    const generation = this.#generation;
    const { kernel } = generation;
    this.#counters.bodyCount++;
    this.#forgetMetadata();
    try {
      kernel.begin(chunks, version);
      let done = this.#readSlice(generation, gathered);
      if (!done) {
        let free: () => void = () => undefined;
        this.#turn = new Promise((resolve) => {
          free = resolve;
        });
        try {
          while (!done) {
            await this.#options.env.timers.yield();
            done = this.#readSlice(generation, gathered);
          }
        } finally {
          this.#turn = undefined;
          free();
        }
      }
    } catch (error) {
      kernel.forgetMetadata();
      // What was read before is on its way and may be stored: a repetition of it is harmless.
      if (error instanceof SilverbackError && !error.retryable) this.#counters.malformedCount++;
      if (error instanceof SilverbackError && error.retryable) this.#retire();
      await Promise.all(writes);
      throw error;
    }
    const { histogramCount } = kernel.beside();
    this.#counters.histogramCount += histogramCount;
    // 1.0 has no way to say what was stored, and a sender would drop the rest of what it sends beside a histogram.
    if (version === 2 && histogramCount > 0) {
      const message = `${histogramCount} native histograms, which are not supported`;
      refused.push({ message, sampleCount: histogramCount });
    }
    if (kernel.tableBytes > this.#maxTableBytes) this.#retire();
    const receipt = settle(await Promise.all(writes), refused, refusedExemplars);
    this.#counters.exemplarCount += receipt.writtenExemplarCount;
    this.#counters.refusedExemplarCount += receipt.refusedExemplarCount;
    return receipt;
  }

  stats(): ReceiverStats {
    const { kernel } = this.#generation;
    return {
      ...this.#counters,
      seriesCount: kernel.seriesCount,
      tableBytes: kernel.tableBytes,
      heldBytes: this.senders.heldBytes,
      turnedAwayCount: this.senders.turnedAwayCount,
    };
  }

  /** Takes no more bodies. Those under way are answered as their writes settle. */
  close(): void {
    this.#closed = true;
    const last = this.#generation;
    this.#generation = { ...last, openWrites: 0 };
    if (last.openWrites === 0) last.writer.close();
  }

  #readSlice(generation: Generation, { writes, refused, refusedExemplars }: Gathered): boolean {
    const buffer = this.#spare.pop() ?? new ArrayBuffer(generation.kernel.sliceBytes);
    let slice: ReturnType<IngestKernel['next']>;
    try {
      slice = generation.kernel.next(buffer);
    } catch (error) {
      this.#spare.push(buffer);
      throw error;
    }
    for (const one of slice.refused) {
      refused.push(one);
      this.#counters.refusedSampleCount += one.sampleCount;
    }
    const { notes } = slice;
    for (const message of notes.refusedExemplars) refusedExemplars.push(message);
    this.#counters.metadataCount += notes.metadata.length;
    const batches = withNotes(slice.batches, notes, this.#options.kernel.shardCount);
    if (batches.length === 0) this.#spare.push(buffer);
    else writes.push(this.#write(generation, batches, buffer));
    return slice.done;
  }

  async #write(generation: Generation, batches: readonly ColumnBatch[], buffer: ArrayBuffer): Promise<SliceOutcome> {
    const { ack = 'LOCAL', timeoutMs = 20_000 } = this.#options;
    generation.openWrites++;
    try {
      const outcome = await generation.writer.write(batches, { ack, timeoutMs });
      this.#counters.sampleCount += outcome.acknowledgedCount;
      if (this.#spare.length < SPARE_BUFFERS) this.#spare.push(buffer);
      const isMissed = outcome.results.some(({ code }, i) => code !== 'OK' && batches[i]?.metadata !== undefined);
      if (isMissed) generation.kernel.forgetMetadata();
      return { outcome, batches };
    } finally {
      generation.openWrites--;
      if (generation !== this.#generation && generation.openWrites === 0) generation.writer.close();
    }
  }

  #forgetMetadata(): void {
    const nowMs = this.#options.env.clock.monotonicMs();
    if (nowMs - this.#metadataForgottenMs < METADATA_MS) return;
    this.#metadataForgottenMs = nowMs;
    this.#generation.kernel.forgetMetadata();
  }

  #nextGeneration(): Generation {
    const { env, kernel: options, openWriter } = this.#options;
    const kernel = new IngestKernel({ ...options, seed: env.random.bytes(8) });
    this.#counters.generationCount++;
    return { kernel, writer: openWriter(kernel), openWrites: 0 };
  }

  #retire(): void {
    const old = this.#generation;
    this.#generation = this.#nextGeneration();
    if (old.openWrites === 0) old.writer.close();
  }
}
